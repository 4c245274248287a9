"""Every text can be written and read back, and a coordinate is two tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.config import NewModel
from earthgpt.model.tokenization import SPECIAL, train_tokenizer

TOKENIZER = train_tokenizer(["Is there a ship in the image? [0.123,0.456,0.789,0.900]", "two ships"], 512)


def ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def pieces(text):
    return [TOKENIZER.decode([token]) for token in ids(text)]


@given(st.text().filter(lambda text: not any(word in text for word in SPECIAL)))
def test_any_text_is_read_back(text):
    assert TOKENIZER.decode(ids(text)) == text


@given(st.text(alphabet="0123456789.,;[] -", max_size=30))
def test_any_numbers_are_read_back(text):
    assert TOKENIZER.decode(ids(text)) == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0.123", ["0.12", "3"]),
        ("0.00", ["0.00"]),
        ("1.000", ["1.00", "0"]),
        ("[0.120,0.450]", ["[", "0.12", "0", ",", "0.45", "0", "]"]),
        ("172", ["1", "7", "2"]),
    ],
)
def test_a_coordinate_is_where_and_then_exactly_where(text, parts):
    assert pieces(text) == parts


def test_all_hundredths_from_zero_to_one_are_tokens_and_no_other(processor):
    assert all(len(ids(f"{hundredth / 100:.2f}")) == 1 for hundredth in range(101))
    assert len(ids("1.01")) == 4


def test_special_tokens_are_one_token_each():
    assert [len(ids(word)) for word in SPECIAL] == [1] * len(SPECIAL)
    assert (TOKENIZER.pad_token, TOKENIZER.bos_token, TOKENIZER.eos_token) == ("<pad>", "<bos>", "<eos>")
    assert TOKENIZER.decode(ids("<|user|>a ship<eos>"), skip_special_tokens=True) == "a ship"


def test_the_vocabulary_is_not_larger_than_asked_for():
    texts = [f"word{i} thing{i * 7919}" for i in range(300)]
    assert len(train_tokenizer(texts, 480)) <= 480
    least = next(limit.ge for limit in NewModel.model_fields["vocabulary"].metadata)
    assert len(train_tokenizer(texts, least)) == least  # bytes, coordinates and marks alone


def test_the_same_texts_give_the_same_tokenizer():
    texts = ["a harbor with ships", "an airport"]
    assert train_tokenizer(texts, 400).get_vocab() == train_tokenizer(texts, 400).get_vocab()


def test_a_saved_tokenizer_writes_the_same(tmp_path):
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Is there a ship at [0.123,0.456,0.789,0.900]?  two\n ships €"
    assert loaded(text, add_special_tokens=False)["input_ids"] == ids(text)
    assert loaded.decode(ids(text)) == text

"""Attention of rows that go on from shared beginnings is that of rows that each have a copy of theirs."""

import pytest
import torch

from earthgpt.generation import generate
from earthgpt.model import decoding
from earthgpt.model.attention import continued_attention
from earthgpt.model.decoding import Rows
from earthgpt.types import Conversation


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (6, 2)])
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_shared_beginnings_count_as_if_each_row_had_its_own(heads, key_heads, dtype, apart):
    generator, which = torch.Generator().manual_seed(0), [0, 1, 0, 1, 1]

    def drawn(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    query, shared = drawn(5, heads, 3, 8), (drawn(2, key_heads, 11, 8), drawn(2, key_heads, 11, 8))
    own = drawn(5, key_heads, 7, 8), drawn(5, key_heads, 7, 8)
    places = torch.tensor([[2, 3, 4], [0, 1, 2], [4, 5, 6], [1, 2, 3], [3, 4, 5]])
    seen = torch.arange(7) <= places[:, None, :, None]
    parts = [tuple(one[number : number + 1] for one in shared) for number in (0, 1)]
    found = continued_attention(query, *own, seen, [parts[number] for number in which], 0.3)
    keys, values = (
        torch.cat([one[which], other], dim=2).repeat_interleave(heads // key_heads, 1).double()
        for one, other in zip(shared, own, strict=True)
    )
    mask = torch.cat([torch.ones(5, 1, 3, 11, dtype=torch.bool), seen], dim=-1)
    scores = (query.double() @ keys.transpose(-1, -2) * 0.3).masked_fill(~mask, -torch.inf)
    expected = (scores.softmax(-1) @ values).transpose(1, 2)
    assert found.dtype == dtype and torch.allclose(found.double(), expected, atol=apart)


def test_the_image_of_many_questions_is_kept_once(model, processor, squares, monkeypatch):
    kept, every = [], []

    class Kept(Rows):
        def __init__(self, shares):
            super().__init__(shares)
            kept.append(self)

        def add(self, beginnings):
            super().add(beginnings)
            every.append(beginnings)

    monkeypatch.setattr(decoding, "Rows", Kept)
    texts = ("What is this?", "Is there a ship?", "How many houses are there?", "Where?")
    asked = [Conversation.of((name,), text) for name in ("a", "b") for text in texts]
    images = [squares[0]] * 4 + [squares[1]] * 4
    together = generate(model, processor, asked, images, max_new_tokens=12)
    (rows,) = kept
    places = processor.render(asked[0])["input_ids"].index(processor.image_token_id) + processor.tokens_per_image
    assert [one.length for one in every[0]] == [places] * 8 and len(set(every[0])) == 2
    for conversation, square, answer in zip(asked, images, together, strict=True):
        (alone,) = generate(model, processor, [conversation], [square], max_new_tokens=12)
        assert alone.text == answer.text and alone.probabilities == pytest.approx(answer.probabilities, abs=1e-4)
    assert rows.shares and not any(one.shares or one.beginnings for one in kept[1:])

"""Images become squares, dialogues become tokens, and the labels are the answers and nothing else."""

import numpy as np
import pytest
import torch
from PIL import Image

from earthgpt.model.attention import Segment
from earthgpt.model.processing import IGNORED, EarthGPTProcessor
from earthgpt.types import Conversation, EarthGPTError, Sensor

TWO = Conversation.of(("a",), "Is there a ship?", "yes", "How many ships are there in the image?", "two ships")
PADDING = [124, 116, 104]  # 255 times the mean colour, rounded


@pytest.fixture
def exact(processor):
    """A processor whose square is seven pixels wide, so that a seven pixel image is not resized."""
    return EarthGPTProcessor(processor.tokenizer, 7, 7, user="<|user|>", assistant="<|assistant|>")


# --- squares -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height", "left", "top"), [(4, 7, 1, 0), (7, 4, 0, 1), (7, 2, 0, 2), (7, 7, 0, 0)])
def test_an_image_is_centred_on_a_square_of_the_mean_colour(exact, width, height, left, top):
    """int((7 - 4) / 2) = 1: three spare columns are one to the left and two to the right."""
    image = np.full((height, width, 3), 200, np.uint8)
    square = exact.square(image)
    expected = np.full((7, 7, 3), PADDING, np.uint8)
    expected[top : top + height, left : left + width] = 200
    assert np.array_equal(square, expected)


def test_the_square_is_resized_to_the_size_of_the_model(processor):
    image = np.zeros((30, 60, 3), np.uint8)
    image[:, 30:] = 255
    square = processor.square(image)
    assert square.shape == (64, 64, 3) and square.dtype == np.uint8
    assert (square[20:44, :28] == 0).all() and (square[20:44, 36:] == 255).all()
    assert (square[:12] == PADDING).all() and (square[52:] == PADDING).all()


@pytest.mark.parametrize("width", [30, 64, 65, 200, 1000])
def test_resizing_is_that_of_pillow_to_one_level(processor, width):
    pixels = np.random.default_rng(width).integers(0, 256, (width, width, 3), np.uint8)
    expected = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
    apart = np.abs(processor.square(pixels).astype(int) - np.asarray(expected))
    assert apart.max() <= 1 and apart.mean() < 0.05


def test_an_array_and_its_image_give_the_same_square(exact):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(exact.square(pixels), exact.square(Image.fromarray(pixels)))


def test_grey_is_repeated_in_three_channels(exact):
    grey = np.arange(49, dtype=np.uint8).reshape(7, 7)
    expected = np.repeat(grey[..., None], 3, axis=2)
    for image in (grey, grey[..., None], Image.fromarray(grey)):
        assert np.array_equal(exact.square(image), expected)


def test_sixteen_bits_are_stretched_over_all_eight(exact):
    ramp = (np.arange(49, dtype=np.uint16) * 100 + 1000).reshape(7, 7)
    square = exact.square(ramp)
    assert square.min() == 0 and square.max() == 255
    assert (np.diff(square[..., 0].ravel().astype(int)) >= 0).all()
    assert np.array_equal(square, exact.square(Image.fromarray(ramp)))


def test_values_that_are_not_numbers_do_not_spread(exact):
    ramp = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
    holed = ramp.copy()
    holed[3, 3] = np.nan
    holed[0, 3] = np.inf
    square, whole = exact.square(holed, Sensor.INFRARED), exact.square(ramp, Sensor.INFRARED)
    others = np.ones((7, 7), bool)
    others[3, 3] = others[0, 3] = False
    assert np.abs(square[others].astype(int) - whole[others]).max() <= 6


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "1", "LA", "I;16", "I", "F"])
def test_images_of_every_mode_become_squares(exact, mode):
    assert exact.square(Image.new(mode, (5, 7))).shape == (7, 7, 3)


def test_pixels_are_normalised_by_mean_and_deviation(exact):
    (pixels,) = exact.normalise([np.full((7, 7, 3), PADDING, np.uint8)])
    assert pixels.shape == (3, 7, 7)
    assert pixels.abs().max() < 0.01  # the padding is the mean
    white = exact.normalise([np.full((7, 7, 3), 255, np.uint8)])[0, :, 0, 0]
    assert white.tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], abs=1e-5)


# --- dialogues ---------------------------------------------------------------------------------------------------


def learned(processor, row) -> list[str]:
    """The labelled parts of a rendered conversation as text."""
    parts, run = [], []
    for label in [*row["labels"], IGNORED]:
        if label != IGNORED:
            run.append(label)
        elif run:
            parts.append(processor.tokenizer.decode(run))
            run = []
    return parts


@pytest.mark.parametrize("branches", [False, True])
def test_the_labels_are_the_answers_and_their_end_tokens(processor, branches):
    row = processor.render(TWO, branches)
    assert learned(processor, row) == ["yes<eos>", "two ships<eos>"]
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        assert label in (IGNORED, token)
    assert len({len(values) for values in row.values()}) == 1


def test_a_dialogue_is_rendered_in_order(processor):
    row = processor.render(TWO)
    assert row["input_ids"][:19] == [processor.tokenizer.bos_token_id] + [processor.image_token_id] * 18
    assert processor.tokenizer.decode(row["input_ids"][19:]) == (
        "<|user|>Is there a ship?<|assistant|>yes<eos>"
        "<|user|>How many ships are there in the image?<|assistant|>two ships<eos>"
    )
    assert row["position_ids"] == list(range(len(row["input_ids"])))
    assert set(row["segment_ids"]) == {0}


def test_every_branch_goes_on_from_the_end_of_the_images(processor):
    row = processor.render(TWO, branches=True)
    together = list(zip(row["segment_ids"], row["position_ids"], row["input_ids"], strict=True))
    assert [position for segment, position, _ in together if segment == 0] == list(range(19))
    for segment, question, answer in ((1, 0, 1), (2, 2, 3)):
        own = [(position, token) for which, position, token in together if which == segment]
        assert [position for position, _ in own] == list(range(19, 19 + len(own)))
        text = processor.tokenizer.decode([token for _, token in own])
        messages = TWO.messages
        assert text == f"<|user|>{messages[question].text}<|assistant|>{messages[answer].text}<eos>"


def test_a_conversation_that_waits_for_an_answer_ends_with_the_prefix_and_has_no_labels(processor):
    row = processor.render(Conversation.of(("a",), "What is this?"))
    assert processor.tokenizer.decode(row["input_ids"][19:]) == "<|user|>What is this?<|assistant|>"
    assert set(row["labels"]) == {IGNORED}


def test_a_tokenizer_without_a_beginning_starts_with_the_images(processor):
    import copy

    other = copy.deepcopy(processor)
    other.tokenizer.bos_token = None
    assert other.render(TWO)["input_ids"][0] == processor.image_token_id


def test_the_image_token_in_a_text_is_refused(processor):
    for texts in (("Is <image> here?",), ("What?", "an <image>")):
        with pytest.raises(EarthGPTError, match="stands for an image"):
            processor.render(Conversation.of(("a",), *texts))


# --- batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_is_padded_on_the_side_that_is_asked_for(processor, squares, side):
    short = Conversation.of(("b",), "What?", "a ship")
    batch = processor.batch([TWO, short], squares[:2], padding_side=side)
    rows = [processor.render(one) for one in (TWO, short)]
    lengths = [len(row["input_ids"]) for row in rows]
    length = max(lengths)
    assert lengths[1] < length
    assert batch["pixel_values"].shape == (2, 3, 64, 64)
    for i, row in enumerate(rows):
        spare = length - lengths[i]
        own = slice(spare, length) if side == "left" else slice(0, lengths[i])
        padding = torch.ones(length, dtype=torch.bool)
        padding[own] = False
        assert batch["input_ids"][i, own].tolist() == row["input_ids"]
        assert batch["labels"][i, own].tolist() == row["labels"]
        assert batch["position_ids"][i, own].tolist() == row["position_ids"]
        assert batch["attention_mask"][i].tolist() == (~padding).int().tolist()
        assert set(batch["input_ids"][i, padding].tolist()) <= {processor.tokenizer.pad_token_id}
        assert set(batch["labels"][i, padding].tolist()) <= {IGNORED}


def test_a_packed_row_is_one_conversation_after_the_other(processor, squares):
    short = Conversation.of(("b",), "What?", "a ship")
    rows = [processor.render(TWO, branches=True), processor.render(short)]
    packed = processor.pack(rows, squares[:2])
    for name in ("input_ids", "labels", "position_ids"):
        assert packed[name].tolist() == [rows[0][name] + rows[1][name]]
    assert packed["pixel_values"].shape == (2, 3, 64, 64)
    length = len(rows[0]["input_ids"])
    images, first, second, whole = packed["segments"]
    assert (images.start, images.stop) == (0, 19) and (first.shared, first.end) == (0, 19)
    assert (second.start, second.stop) == (first.stop, length)
    assert whole == Segment(length, length + len(rows[1]["input_ids"]), length, length)


def test_images_and_conversations_must_agree(processor, squares):
    with pytest.raises(EarthGPTError, match=r"speak of 1 image\(s\), but 2 were given"):
        processor.batch([TWO], squares[:2])


def test_the_processor_called_gives_what_generate_takes(processor, squares, model):
    inputs = processor(images=Image.fromarray(squares[0]), text="What is this?")
    assert set(inputs) == set(processor.model_input_names)
    assert inputs["input_ids"].tolist() == [processor.render(Conversation.of(("a",), "What is this?"))["input_ids"]]
    assert model.generate(**inputs, max_new_tokens=2).shape[0] == 1
    several = processor(images=squares[:2], text=["What is this?", "Is there a ship in the image?"])
    assert several["input_ids"].shape[0] == 2 and several["attention_mask"][0, 0] == 0
    assert set(processor(images=squares[:1])) == {"pixel_values"}
    words = processor(text="What is SAR?")
    assert set(words) == {"input_ids", "attention_mask"}

"""From conversations to text with probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.attention import segments_of
from earthgpt.types import Conversation


@dataclass(frozen=True)
class Answer:
    """What a model said.

    text: without the end token. spans: (start, end) in characters of each token. probabilities: of each token, in
    [0, 1]. finished: whether the model ended its answer itself.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    probabilities: tuple[float, ...]
    finished: bool

    def probability(self, start: int = 0, end: int | None = None) -> float:
        """Geometric mean of the probabilities of the tokens in a part of the text; 0 when it has none.

        The mean, because a product would punish numbers for being written with more digits.
        """
        end = len(self.text) if end is None else end
        inside = [p for (a, b), p in zip(self.spans, self.probabilities, strict=True) if a < end and b > start]
        return float(np.exp(np.mean(np.log(np.maximum(inside, 1e-12))))) if inside else 0.0


class _Greedy(LogitsProcessor):
    """Keeps the probability of the token that greedy decoding takes: O(batch) memory a step, not O(vocabulary)."""

    def __init__(self):
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids, scores):
        self.steps.append(scores.float().log_softmax(-1).amax(-1).exp())
        return scores


@torch.inference_mode()
def generate(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    conversations: Sequence[Conversation],
    squares: Sequence[np.ndarray],
    max_new_tokens: int = 512,
) -> list[Answer]:
    """The most likely next message of each conversation, token by token (greedy).

    ``squares`` are the images of all conversations in order, as ``processor.square`` makes them. Images that several
    conversations begin with are encoded and read once; the answers are those that each gets alone.
    """
    inputs = _sharing_images(model, processor, conversations, squares)
    if inputs is None:
        inputs = processor.batch(conversations, squares, padding_side="left").to(model.device)
        for name in ("labels", "position_ids"):
            del inputs[name]
    start = inputs["input_ids"].shape[1]
    room = getattr(model.config.text_config, "max_position_embeddings", None)
    if room:
        max_new_tokens = max(1, min(max_new_tokens, room - start))
    greedy = _Greedy()
    written = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        logits_processor=LogitsProcessorList([greedy]),
    )[:, start:]
    probabilities = torch.stack(greedy.steps, dim=1).cpu()  # [B, steps]
    end = processor.tokenizer.eos_token_id
    answers = []
    for ids, row in zip(written.tolist(), probabilities.tolist(), strict=True):
        finished = end in ids
        ids = ids[: ids.index(end)] if finished else ids
        answers.append(_answer(processor, ids, row[: len(ids)], finished))
    return answers


def _sharing_images(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    conversations: Sequence[Conversation],
    squares: Sequence[np.ndarray],
) -> dict[str, Any] | None:
    """What ``model.generate`` takes to go on from images that were read once for all conversations that begin with
    them; None where no two do, or where they begin with different numbers of images.

    Images are the same when their squares are, byte for byte.
    """
    each = {len(conversation.images) for conversation in conversations}
    if len(each) != 1 or not (count := each.pop()) or count * len(conversations) != len(squares):
        return None
    own = [tuple(squares[i : i + count]) for i in range(0, len(squares), count)]
    numbers: dict[tuple[bytes, ...], int] = {}
    which = [numbers.setdefault(tuple(one.tobytes() for one in images), len(numbers)) for images in own]
    if len(numbers) == len(conversations):
        return None
    rows = [processor.render(conversation)["input_ids"] for conversation in conversations]
    length = rows[0].index(processor.image_token_id) + count * processor.tokens_per_image  # where the questions begin
    first = [which.index(number) for number in range(len(numbers))]
    prefix = torch.tensor([rows[i][:length] for i in first], device=model.device)
    pixels = processor.normalise([square for i in first for square in own[i]]).to(model.device)
    read = model(input_ids=prefix, pixel_values=pixels, use_cache=True, logits_to_keep=1).past_key_values
    read.batch_select_indices(torch.tensor(which, device=model.device))
    longest = max(map(len, rows))
    pad = processor.tokenizer.pad_token_id or 0
    # Padding stands between images and question: hidden from all, and no place is counted for it.
    ids = [row[:length] + [pad] * (longest - len(row)) + row[length:] for row in rows]
    seen = [[1] * length + [0] * (longest - len(row)) + [1] * (len(row) - length) for row in rows]
    tensors = {"input_ids": ids, "attention_mask": seen}
    return {
        **{name: torch.tensor(values, device=model.device) for name, values in tensors.items()},
        "past_key_values": read,
    }


def _answer(processor: EarthGPTProcessor, ids: list[int], probabilities: list[float], finished: bool) -> Answer:
    text, spans = "", []
    for i in range(len(ids)):
        longer = processor.tokenizer.decode(ids[: i + 1], skip_special_tokens=True)
        spans.append((len(text), len(longer)))
        text = longer
    return Answer(text, tuple(spans), tuple(probabilities), finished)


@torch.inference_mode()
def choice_probabilities(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    conversation: Conversation,
    squares: Sequence[np.ndarray],
    choices: Sequence[str],
) -> list[float]:
    """How likely each choice is as the whole answer, relative to the others: in [0, 1], summing to 1.

    All choices are read in one pass: the conversation is their shared beginning and each is a branch of it
    (``segments`` of the model). The probability of a choice is that of its tokens and the end token.
    """
    prefix = processor.render(conversation)["input_ids"]
    ids, branches, positions, spans = list(prefix), [0] * len(prefix), list(range(len(prefix))), []
    for i, choice in enumerate(choices, 1):
        tokens = [*processor.tokenizer(choice, add_special_tokens=False)["input_ids"], processor.tokenizer.eos_token_id]
        spans.append((len(ids), tokens))
        ids += tokens
        branches += [i] * len(tokens)
        positions += range(len(prefix), len(prefix) + len(tokens))
    inputs = {"input_ids": ids, "position_ids": positions}
    inputs = {name: torch.tensor([values], device=model.device) for name, values in inputs.items()}
    if squares:
        inputs["pixel_values"] = processor.normalise(squares).to(model.device)
    kept = torch.arange(len(prefix) - 1, len(ids), device=model.device)
    inputs["segments"] = segments_of(branches)
    logits = model(**inputs, use_cache=False, logits_to_keep=kept).logits[0]  # [1 + choice tokens, V]
    likely = logits.float().log_softmax(-1).cpu()
    totals = []
    for start, tokens in spans:
        # A token is predicted where the one before it stands; the first of a branch, at the end of the beginning.
        rows = [0, *range(start - len(prefix) + 1, start - len(prefix) + len(tokens))]
        totals.append(sum(float(likely[row, token]) for row, token in zip(rows, tokens, strict=True)))
    return torch.tensor(totals, dtype=torch.float64).softmax(-1).tolist()

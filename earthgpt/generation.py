"""From conversations to text with probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from earthgpt.grammar import Grammar
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.attention import segments_of
from earthgpt.model.constraint import Constraint
from earthgpt.model.decoding import Rows, begin, read, readable
from earthgpt.types import Conversation, EarthGPTError

# Rows whose answers are done are taken out when they are this part of all: passes of fewer rows are captured anew.
_WORTH_REMOVING = 0.25


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


class Reading:
    """What a model has read of one conversation: its next turn goes on from there (``generate``).

    It is the same conversation where the images are, byte for byte, and as far as its tokens are; of what differs,
    nothing is kept.
    """

    def __init__(self) -> None:
        self.rows: Rows | None = None
        self.ids: list[int] = []
        self.shown: list[bytes] = []

    def known(self, ids: list[int], shown: list[bytes], image: int) -> int:
        """How many of the tokens of a conversation need not be read again; ``image`` is the token of images."""
        if self.rows is None or shown != self.shown:
            return 0
        same = known_of(ids, self.ids)
        return 0 if image in ids[same:] else same


def known_of(ids: Sequence[int], read: Sequence[int]) -> int:
    """With how many of the tokens ``read`` some begin, but for the last: that is read again, to hear what follows."""
    last = min(len(ids) - 1, len(read))
    return next((i for i in range(last) if ids[i] != read[i]), last)


@torch.inference_mode()
def generate(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    conversations: Sequence[Conversation],
    squares: Sequence[np.ndarray],
    max_new_tokens: int = 512,
    grammars: Sequence[Grammar | None] | None = None,
    plain: bool = False,
    reading: Reading | None = None,
) -> list[Answer]:
    """The most likely next message of each conversation, token by token (greedy).

    ``squares`` are the images of all conversations in order, as ``processor.square`` makes them. Images that several
    conversations begin with are encoded and read once; the answers are those that each gets alone.

    grammars: of the answers, None for free ones. Of each token only those are looked at with which the answer can still
    be one of its grammar, and come to its end within ``max_new_tokens``; tokens that are certain are read together.
    Probabilities are the model's own, with all tokens in view: a grammar changes what is said, not how sure the model
    is of it. Raises EarthGPTError for a conversation that leaves no room for an answer.
    plain: go the way of transformers' ``generate``, a token at a time: the reference, with the same answers. So go
    models that ``model.decoding`` cannot read, and those whose ``generation_config`` has rules of its own.
    reading: of the one conversation that is asked; what was read of it in the turns before is not read again.
    """
    grammars = grammars or [None] * len(conversations)
    constraints = [None if grammar is None else Constraint(grammar, processor.tokenizer) for grammar in grammars]
    asked = [processor.render(conversation)["input_ids"] for conversation in conversations]
    longest = max(map(len, asked))
    if room := _room(model, longest):
        max_new_tokens = min(max_new_tokens, room)
    ends = ends_of(model, processor)
    said = [Saying(ids, one, max_new_tokens, ends) for ids, one in zip(asked, constraints, strict=True)]
    if plain or has_rules(model) or readable(model) < longest + max_new_tokens:
        _say_plainly(model, processor, conversations, squares, said)
    else:
        _say(model, processor, conversations, squares, said, reading)
    return [_answer(processor, one) for one in said]


class Saying:
    """An answer that is being made, of the likeliest tokens.

    asked: the tokens that it answers. written, logprobs: its tokens so far, and their natural logarithms of
    probabilities. feed: the tokens to be read next, the last ``bets`` of them bets on what the answer will be. start:
    the place of the first of them. finish: "stop" where the answer came to its end, "length" where there was no room
    for more; None while it goes on.
    """

    def __init__(self, asked: list[int], constraint: Constraint | None, most: int, ends: frozenset[int]):
        self.asked, self.constraint, self.most, self.ends = asked, constraint, most, ends
        self.state = None if constraint is None else constraint.start
        self.written: list[int] = []
        self.logprobs: list[float] = []
        self.start = 0
        self.finish: str | None = None
        self._bet(asked)

    @property
    def done(self) -> bool:
        """Whether no more comes."""
        return self.finish is not None

    def _bet(self, tokens: list[int]) -> None:
        bets = () if self.constraint is None else self.constraint.bet(self.state)
        bets = bets[: self.most - len(self.written) - 1]
        self.feed, self.bets = [*tokens, *bets], len(bets)

    def hear(self, logits: torch.Tensor, totals: torch.Tensor, tops: list[int], likely: list[float]) -> None:
        """Writes as many tokens as bets were right, and one more; of logits [bets + 1, V], their logsumexp, the
        likeliest tokens and their logarithms of probabilities [bets + 1]."""
        for i in range(self.bets + 1):
            token = self.write(logits[i], totals[i], tops[i], likely[i])
            if self.done or i == self.bets or self.feed[i - self.bets] != token:
                break
        self.start += len(self.feed) - self.bets + i
        if self.done:
            self.feed, self.bets = self.feed[:1], 0  # read again as long as the row is there, to no end
        else:
            self._bet(self.written[-1:])

    def write(self, logits: torch.Tensor, total: torch.Tensor, top: int, likely: float) -> int:
        """Writes a token [V], the best that is allowed, or ends the answer; which token it was."""
        token, after = self.choose(logits, total, top), None
        if self.constraint is not None:
            token, after = self.constraint.take(self.state, logits, token, self.most - len(self.written))
        if token in self.ends:
            self.end("stop")
            return token
        self.state = after
        # That of the likeliest comes with those of all rows: each value that is asked for alone waits for the card.
        self.add(token, likely if token == top else float(logits[token] - total), logits, total)
        full = len(self.written) == self.most
        if not self.done and after is not None and after.ends and (full or not after.following):
            self.end("stop")  # it is whole, and nothing can follow
        elif not self.done and full:
            self.end("length")
        return token

    def choose(self, logits: torch.Tensor, total: torch.Tensor, top: int) -> int:
        """Which token is wanted, of logits [V] and their logsumexp; ``top`` is the likeliest."""
        return top

    def add(self, token: int, logprob: float, logits: torch.Tensor, total: torch.Tensor) -> None:
        """Takes a token."""
        self.written.append(token)
        self.logprobs.append(logprob)

    def end(self, finish: str) -> None:
        """No more comes."""
        self.finish = finish


def _say(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    conversations: Sequence[Conversation],
    squares: Sequence[np.ndarray],
    said: Sequence[Saying],
    reading: Reading | None = None,
) -> None:
    """Makes the answers together; one that is done leaves room to the others."""
    running, keep = list(said), [one.bets + 1 for one in said]
    asked, images = said[0].asked, [square.tobytes() for square in squares] if reading else []
    if reading and (known := reading.known(asked, images, processor.image_token_id)):
        (one,), rows, reading.rows = said, reading.rows, None  # nothing is kept of a turn that fails
        one.start, one.feed = known, one.feed[known:]
        logits, places = read(model, rows, [one.feed], [known], keep)
    else:
        beginnings, which, shown = _beginnings(processor, conversations, squares, said)
        pixels = processor.normalise(shown).to(model.device) if shown else None
        own = [one.feed[len(beginnings[number]) :] for one, number in zip(said, which, strict=True)]
        rows, logits, places = begin(model, beginnings, which, own, keep, pixels)
    while True:
        for one, heard in zip(running, heard_by_each(logits, places, keep), strict=True):
            if not one.done:
                one.hear(*heard)
        done = [i for i, one in enumerate(running) if one.done]
        if len(done) == len(running):
            if reading:
                rows.steps.clear()  # the model may change until the next turn
                reading.rows, reading.shown = rows, images
                reading.ids = [*asked, *said[0].written][: said[0].start]
            return
        if len(done) >= _WORTH_REMOVING * len(running):
            running = [running[i] for i in rows.remove(done)]
        keep = [one.bets + 1 for one in running]
        logits, places = read(model, rows, [one.feed for one in running], [one.start for one in running], keep)


def _beginnings(
    processor: EarthGPTProcessor,
    conversations: Sequence[Conversation],
    squares: Sequence[np.ndarray],
    said: Sequence[Saying],
) -> tuple[list[list[int]], list[int], list[np.ndarray]]:
    """The tokens that conversations begin with, which of these each has, and the images of them in order.

    Conversations share one where their images are the same, byte for byte, and all have as many; else each has its own,
    of no token.
    """
    each = {len(conversation.images) for conversation in conversations}
    if len(each) != 1 or not (count := each.pop()) or count * len(conversations) != len(squares):
        return [[] for _ in said], list(range(len(said))), list(squares)
    numbers: dict[tuple[bytes, ...], int] = {}
    shown = [squares[i : i + count] for i in range(0, len(squares), count)]
    # The very same array is looked at once.
    contents = {number: square.tobytes() for number, square in {id(one): one for one in squares}.items()}
    which = [numbers.setdefault(tuple(contents[id(square)] for square in one), len(numbers)) for one in shown]
    first = [which.index(number) for number in range(len(numbers))]
    length = said[0].feed.index(processor.image_token_id) + count * processor.tokens_per_image
    return [said[i].feed[:length] for i in first], which, [square for i in first for square in shown[i]]


def heard_by_each(
    logits: torch.Tensor, places: Sequence[int], keep: Sequence[int]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[int], list[float]]]:
    """What ``Saying.hear`` takes, for each row of what ``decoding.read`` returned."""
    logits = logits.float()
    for row, place, count, *others in zip(logits, places, keep, *_likeliest(logits), strict=True):
        last = slice(place - count, place)
        yield row[last], *(one[last] for one in others)


def _likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, list, list]:
    """Of logits [..., V] their logsumexp [...], and as lists the likeliest token and its logarithm of probability."""
    totals, (best, tops) = logits.logsumexp(-1), logits.max(-1)
    return totals, tops.tolist(), (best - totals).tolist()


class _Listening(LogitsProcessor):
    """Has answers written as transformers' ``generate`` goes, and lets it take only what was written."""

    def __init__(self, said: Sequence[Saying]):
        self.said = said

    def __call__(self, input_ids, scores):
        logits = scores.float()
        end = next(iter(self.said[0].ends))
        each = zip(self.said, logits, *_likeliest(logits), strict=True)
        taken = [end if one.done else one.write(*row) for one, *row in each]
        only = torch.tensor(taken, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter(1, only, 0.0)


def _say_plainly(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    conversations: Sequence[Conversation],
    squares: Sequence[np.ndarray],
    said: Sequence[Saying],
) -> None:
    inputs = processor.batch(conversations, squares, padding_side="left").to(model.device)
    for name in ("labels", "position_ids"):
        del inputs[name]
    listening = LogitsProcessorList([_Listening(said)])
    model.generate(**inputs, max_new_tokens=said[0].most, do_sample=False, logits_processor=listening)


def ends_of(model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor) -> frozenset[int]:
    """The tokens that end an answer."""
    others = model.generation_config.eos_token_id
    others = others if isinstance(others, (list, tuple)) else () if others is None else (others,)
    return frozenset((processor.tokenizer.eos_token_id, *others))


# What transformers' ``generate`` may be told beside the likeliest token, and where it is told nothing.
_RULES = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0,
    "min_new_tokens": 0, "bad_words_ids": None, "suppress_tokens": None, "begin_suppress_tokens": None,
    "forced_bos_token_id": None, "forced_eos_token_id": None, "sequence_bias": None, "num_beams": 1,
}  # fmt: skip


def has_rules(model: EarthGPTForConditionalGeneration) -> bool:
    """Whether its ``generation_config`` asks for more than the likeliest token."""
    return any((getattr(model.generation_config, name, None) or none) != none for name, none in _RULES.items())


def _answer(processor: EarthGPTProcessor, said: Saying) -> Answer:
    text, spans = "", []
    for i in range(len(said.written)):
        longer = processor.tokenizer.decode(said.written[: i + 1], skip_special_tokens=True)
        spans.append((len(text), len(longer)))
        text = longer
    return Answer(text, tuple(spans), tuple(np.exp(said.logprobs).tolist()), said.finish == "stop")


def _room(model: EarthGPTForConditionalGeneration, tokens: int) -> int | None:
    """How many tokens an answer to so many may have; None where the model says nothing of it. Raises EarthGPTError
    where there is no room."""
    most = getattr(model.config.text_config, "max_position_embeddings", None)
    if most and tokens >= most:
        raise EarthGPTError(f"The conversation has {tokens:,} tokens, and the model reads {most:,} with its answer.")
    return most and most - tokens


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
        _room(model, len(prefix) + len(tokens))
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

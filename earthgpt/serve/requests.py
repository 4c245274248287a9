"""What is asked of the engine: a conversation that waits for its answer, and how that is to be made."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from earthgpt.generation import Answer, Saying
from earthgpt.model.attention import Beginning
from earthgpt.model.constraint import Constraint
from earthgpt.types import EarthGPTError


class BusyError(Exception):
    """There is no room for another request now; there may be in ``wait_s`` seconds."""

    def __init__(self, reason: str, wait_s: float = 1.0):
        super().__init__(reason)
        self.wait_s = wait_s


class TooLongError(EarthGPTError):
    """The conversation leaves no room for an answer."""


@dataclass(frozen=True)
class Decoding:
    """How an answer is made.

    max_tokens: of the answer, its end not counted. temperature: 0 takes the likeliest token (greedy). top_p: sample
    from the likeliest tokens that together have this probability. seed: of the sampling; None is another each time.
    stop: texts before which the answer ends. alternatives: how many other tokens are told with each one.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    alternatives: int = 0


@dataclass(frozen=True)
class Token:
    """A token of an answer. text: what it added, "" for a part of a letter. logprob: natural, before ``temperature``.
    alternatives: the likeliest tokens and theirs."""

    text: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


class Request(Saying):
    """A conversation that waits for its answer, or has it.

    squares, keys: its images, and what tells them apart. prefix: how many of its tokens are its images and what is in
    front of them. deadline: when it is given up (``time.monotonic``). decode: makes text of tokens. ``told`` is called
    in a thread of the engine whenever there is more.

    tokens, text: what was decoded so far; they grow. shown: how many characters of the text are certain to stay (the
    rest may begin a stop text). finish: besides "stop" (also by a stop text) and "length", "timeout" or "cancelled".
    error: what went wrong. cached_tokens: of the question, how many were in the cache. beginning: what its images
    became, until its question is read; None where that is yet to be done or to be found in the cache. turns: what was
    read of the words behind them in other requests, likewise; None for nothing.
    """

    def __init__(
        self,
        ids: list[int],
        decoding: Decoding,
        decode: Callable[[list[int]], str],
        squares: Sequence[np.ndarray] = (),
        keys: tuple[bytes, ...] = (),
        prefix: int = 0,
        ends: frozenset[int] = frozenset(),
        deadline: float = 0.0,
        told: Callable[[Request], None] = lambda request: None,
        constraint: Constraint | None = None,
    ):
        super().__init__(ids, constraint, decoding.max_tokens, ends)
        self.decoding, self.decode, self.told, self.deadline = decoding, decode, told, deadline
        self.squares, self.keys, self.prefix = squares, keys, prefix
        self.start, self.feed = prefix, self.feed[prefix:]
        self.tokens: list[Token] = []
        self.text, self.shown, self.cached_tokens = "", 0, 0
        self.error: BaseException | None = None
        self.cancelled = False
        self.beginning: Beginning | None = None
        self.turns: Beginning | None = None
        self._read = 0, 0
        self._generator: torch.Generator | None = None
        if decoding.temperature > 0:
            self._generator = torch.Generator()
            self._generator.seed() if decoding.seed is None else self._generator.manual_seed(decoding.seed % 2**63)

    @classmethod
    def answered(cls, ids: list[int], answer: Answer, written: list[int]) -> Request:
        """One whose ``answer`` is known: the tokens ``written``, told in the answer's own pieces."""
        request = cls(ids, Decoding(), lambda ids: "")
        request.written = written
        for (start, end), probability in zip(answer.spans, answer.probabilities, strict=True):
            request._grow(answer.text[start:end], float(np.log(max(probability, 1e-12))), ())
        request.finish = "stop"
        return request

    @property
    def key(self) -> Hashable:
        """What tells the start of the conversation from others: its tokens, and the pixels of its images."""
        return tuple(self.asked[: self.prefix]), self.keys

    def question(self, place: int | None = None) -> Hashable:
        """What tells the words before an answer at a place from others, and the images: those of its own answer."""
        return tuple(self.asked[self.prefix : place]), self.keys

    def go_on(self, turns: Beginning) -> None:
        """Has what was read of its first words, so that they are not read again."""
        self.turns = turns
        self.start, self.feed = self.start + turns.length, self.feed[turns.length :]
        self.cached_tokens += turns.length

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the question has, with its images."""
        return len(self.asked)

    @property
    def done(self) -> bool:
        """Whether no more comes."""
        return self.finish is not None or self.error is not None

    def answer(self) -> Answer:
        """What was said, as ``generation`` has it. Raises what went wrong, and TimeoutError."""
        if self.error is not None:
            raise self.error
        if self.finish == "timeout":
            raise TimeoutError("The answer took too long.")
        spans, probabilities, start = [], [], 0
        for token in self.tokens:
            spans.append((start, start + len(token.text)))
            probabilities.append(float(np.exp(token.logprob)))
            start += len(token.text)
        return Answer(self.text, tuple(spans), tuple(probabilities), self.finish == "stop")

    def choose(self, logits: torch.Tensor, total: torch.Tensor, top: int) -> int:
        """The likeliest token, or one by chance."""
        return sampled(logits - total, self.decoding, self._generator) if self._generator else top

    def add(self, token: int, logprob: float, logits: torch.Tensor, total: torch.Tensor) -> None:
        """Takes a token. A letter of several tokens is written with its last one."""
        super().add(token, logprob, logits, total)
        alternatives: tuple[tuple[str, float], ...] = ()
        if self.decoding.alternatives:
            values, numbers = (logits - total).topk(self.decoding.alternatives)
            texts = (self.decode([number]) for number in numbers.tolist())
            alternatives = tuple(zip(texts, values.tolist(), strict=True))
        start, seen = self._read
        before, after = self.decode(self.written[start:seen]), self.decode(self.written[start:])
        whole = not after.endswith("\N{REPLACEMENT CHARACTER}")
        if whole:
            self._read = seen, len(self.written)
        self._grow(after[len(before) :] if whole else "", logprob, alternatives)

    def _grow(self, text: str, logprob: float, alternatives: tuple) -> None:
        self.tokens.append(Token(text, logprob, alternatives))
        longer = self.text + text
        shown = len(longer)
        starts = (longer.find(stop, max(0, len(longer) - len(text) - len(stop))) for stop in self.decoding.stop)
        place = min((start for start in starts if start >= 0), default=None)
        if place is not None:
            self.text, self.shown = longer[:place], place
            self.finish = "stop"  # last: whoever reads it finds the rest complete
            return
        for stop in self.decoding.stop:
            held = (n for n in range(min(len(stop) - 1, len(longer)), 0, -1) if longer.endswith(stop[:n]))
            shown = min(shown, len(longer) - next(held, 0))
        self.text, self.shown = longer, shown

    def end(self, finish: str) -> None:
        """No more comes; half letters are written as they are."""
        start, seen = self._read
        rest = self.decode(self.written[start:])[len(self.decode(self.written[start:seen])) :]
        if rest and self.tokens:
            last = self.tokens[-1]
            self.tokens[-1] = Token(last.text + rest, last.logprob, last.alternatives)
            self.text += rest
        self.shown = len(self.text)
        super().end(finish)


def sampled(likely: torch.Tensor, decoding: Decoding, generator: torch.Generator | None) -> int:
    """A token by chance, of log probabilities [V]."""
    # From the likeliest, and in float64: it stays there at any temperature and top_p above 0.
    likely = likely.cpu()
    chances = ((likely - likely.max()).double() / decoding.temperature).softmax(-1)
    if decoding.top_p < 1:
        ordered, order = chances.sort(descending=True)
        kept = ordered.cumsum(-1) - ordered < decoding.top_p
        kept[0] = True
        chances = torch.zeros_like(chances).scatter(0, order, ordered.where(kept, 0.0))
    return int(torch.multinomial(chances, 1, generator=generator))

"""What is asked of the engine: a conversation that waits for its answer, and how that is to be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from earthgpt.generation import Answer
from earthgpt.grammar import Grammar
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


@dataclass(eq=False)
class Request:
    """A conversation that waits for its answer, or has it.

    tokens, text: what was decoded so far; they grow. shown: how many characters of the text are certain to stay (the
    rest may begin a stop text). finish: "stop" (ended by itself or by a stop text), "length", "timeout" or "cancelled";
    None while it goes on. error: what went wrong. prompt_tokens, cached_tokens: of the question, and how many of them
    were in the cache. layers: what its images became, until its question is read; None where that is yet to be done or
    to be found in the cache. constraint, state: of an answer of a grammar, and what may follow in it. ``told`` is
    called in a thread of the engine whenever there is more.
    """

    ids: list[int]
    squares: Sequence[np.ndarray]
    keys: tuple[bytes, ...]
    prefix: int
    decoding: Decoding
    deadline: float
    told: Callable[[Request], None]
    tokens: list[Token] = field(default_factory=list)
    text: str = ""
    shown: int = 0
    finish: str | None = None
    error: BaseException | None = None
    cached_tokens: int = 0
    cancelled: bool = False
    written: list[int] = field(default_factory=list)
    generator: torch.Generator | None = None
    layers: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    constraint: Constraint | None = None
    state: Grammar | None = None
    _read: tuple[int, int] = (0, 0)

    @classmethod
    def answered(cls, ids: list[int], answer: Answer, written: list[int]) -> Request:
        """One whose ``answer`` is known: the tokens ``written``, told in the answer's own pieces."""
        request = cls(ids, (), (), 0, Decoding(), 0.0, lambda request: None, written=written)
        for (start, end), probability in zip(answer.spans, answer.probabilities, strict=True):
            request._grow(answer.text[start:end], float(np.log(max(probability, 1e-12))), ())
        request.finish = "stop"
        return request

    @property
    def prompt_tokens(self) -> int:
        return len(self.ids)

    @property
    def done(self) -> bool:
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

    def add(self, token: int, logprob: float, alternatives: tuple, decode: Callable[[list[int]], str]) -> None:
        """Takes a token. A letter of several tokens is written with its last one."""
        self.written.append(token)
        start, seen = self._read
        before, after = decode(self.written[start:seen]), decode(self.written[start:])
        whole = not after.endswith("\N{REPLACEMENT CHARACTER}")
        if whole:
            self._read = seen, len(self.written)
        self._grow(after[len(before) :] if whole else "", logprob, alternatives)

    def _grow(self, text: str, logprob: float, alternatives: tuple) -> None:
        self.tokens.append(Token(text, logprob, alternatives))
        longer = self.text + text
        shown = len(longer)
        for stop in self.decoding.stop:
            place = longer.find(stop, max(0, len(longer) - len(text) - len(stop)))
            if place >= 0:
                self.text, self.shown = longer[:place], place
                self.finish = "stop"  # last: whoever reads it finds the rest complete
                return
            held = (n for n in range(min(len(stop) - 1, len(longer)), 0, -1) if longer.endswith(stop[:n]))
            shown = min(shown, len(longer) - next(held, 0))
        self.text, self.shown = longer, shown

    def end(self, finish: str, decode: Callable[[list[int]], str]) -> None:
        """No more comes; half letters are written as they are."""
        start, seen = self._read
        rest = decode(self.written[start:])[len(decode(self.written[start:seen])) :]
        if rest and self.tokens:
            last = self.tokens[-1]
            self.tokens[-1] = Token(last.text + rest, last.logprob, last.alternatives)
            self.text += rest
        self.shown = len(self.text)
        self.finish = finish


def sampled(likely: torch.Tensor, decoding: Decoding, generator: torch.Generator | None) -> int:
    """A token by chance, of log probabilities [V]."""
    # From the likeliest, and in float64: it stays there at any temperature and top_p above 0.
    chances = ((likely - likely.max()).double() / decoding.temperature).softmax(-1)
    if decoding.top_p < 1:
        ordered, order = chances.sort(descending=True)
        kept = ordered.cumsum(-1) - ordered < decoding.top_p
        kept[0] = True
        chances = torch.zeros_like(chances).scatter(0, order, ordered.where(kept, 0.0))
    return int(torch.multinomial(chances, 1, generator=generator))

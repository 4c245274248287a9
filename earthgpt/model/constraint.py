"""A grammar in the tokens of a model: which may come next, and which will."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache

import torch
from transformers import PreTrainedTokenizerBase

from earthgpt.grammar import Grammar, sequence

# A bet is no longer than this, in bytes.
_BET = 64


class Tokens:
    """The tokens of a tokenizer as the bytes that they write, in order; special ones write none and are left out.

    lead: what the tokenizer puts in front of a text (Llama's: a blank).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        bytes_of = _bytes_of(tokenizer)
        found = sorted((text, number) for number, text in bytes_of.items() if text)
        self.texts = [text for text, _ in found]
        self.numbers = [number for _, number in found]
        self.end: int = tokenizer.eos_token_id
        self.bytes_of = bytes_of
        self.longest = max(map(len, self.texts))
        written = b"".join(bytes_of[number] for number in tokenizer("a", add_special_tokens=False)["input_ids"])
        self.lead = written.removesuffix(b"a").decode()

    def that_fit(self, state: Grammar, prefix: bytes = b"") -> Iterator[tuple[int, Grammar]]:
        """Tokens that begin with a prefix and go on from there as a grammar allows, each with what may follow it."""
        return self._fit(state, *self._range(prefix, 0, len(self.texts)), len(prefix))

    def _range(self, prefix: bytes, low: int, high: int) -> tuple[int, int]:
        return bisect_left(self.texts, prefix, low, high), bisect_left(self.texts, prefix + b"\xff" * 64, low, high)

    def _fit(self, state: Grammar, low: int, high: int, depth: int) -> Iterator[tuple[int, Grammar]]:
        while low < high and len(self.texts[low]) == depth:
            if depth:
                yield self.numbers[low], state
            low += 1
        while low < high:
            byte = self.texts[low][depth]
            end = self._range(self.texts[low][: depth + 1], low, high)[1]
            if (after := state.after(byte)) is not None:
                yield from self._fit(after, low, end, depth + 1)
            low = end

    def longest_of(self, text: bytes) -> int | None:
        """The longest token that a text begins with."""
        for length in range(min(len(text), self.longest), 0, -1):
            place = bisect_left(self.texts, text[:length])
            if place < len(self.texts) and self.texts[place] == text[:length]:
                return self.numbers[place]
        return None


@lru_cache(maxsize=4)
def tokens_of(tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Made once for each tokenizer."""
    return Tokens(tokenizer)


class Constraint:
    """Answers of a grammar, token by token. A state is what may follow; ``start`` is the first."""

    def __init__(self, grammar: Grammar, tokenizer: PreTrainedTokenizerBase):
        self.tokens = tokens_of(tokenizer)
        self.start = sequence(self.tokens.lead, grammar) if self.tokens.lead else grammar
        self._allowed: dict[Grammar, tuple[dict[int, Grammar | None], int]] = {}
        self._bets: dict[Grammar, tuple[int, ...]] = {}

    def allowed(self, state: Grammar, left: int) -> dict[int, Grammar | None]:
        """The tokens that may come next, ascending, with the state after each; None after the end token.

        left: how many tokens may still be written, this one counted. None is allowed after which the answer could not
        be brought to an end in time, unless none could.
        """
        if state not in self._allowed:
            found: dict[int, Grammar | None] = dict(self.tokens.that_fit(state))
            furthest = max((after.shortest for after in set(found.values())), default=0)
            if state.ends:
                found[self.tokens.end] = None
            self._allowed[state] = dict(sorted(found.items())), furthest
        found, furthest = self._allowed[state]
        if furthest < left or state.shortest > left:
            return found
        return {number: after for number, after in found.items() if after is None or after.shortest < left}

    def after(self, state: Grammar, token: int, left: int) -> tuple[bool, Grammar | None]:
        """Whether one token is among the ``allowed``, and the state after it: what costs a walk along its bytes."""
        if token == self.tokens.end:
            return state.ends, None
        text = self.tokens.bytes_of.get(token)
        after = state.read(text) if text else None
        return after is not None and (after.shortest < left or state.shortest > left), after

    def take(self, state: Grammar, scores: torch.Tensor, top: int, left: int) -> tuple[int, Grammar | None]:
        """The best token that is allowed, by ``scores`` [V], and the state after it. top: the best of all."""
        fits, after = self.after(state, top, left)
        if fits:
            return top, after
        allowed = self.allowed(state, left)
        numbers = list(allowed)
        token = numbers[int(scores[torch.tensor(numbers, device=scores.device)].argmax())]
        return token, allowed[token]

    def bet(self, state: Grammar) -> tuple[int, ...]:
        """The tokens that are certain or usual from a state on; none of them ends the answer."""
        if state not in self._bets:
            self._bets[state] = tuple(self._bet(state))
        return self._bets[state]

    def _bet(self, state: Grammar) -> Iterator[int]:
        states, path = [state], b""
        while len(path) < _BET and (byte := states[-1].likely) is not None:
            path += bytes([byte])
            states.append(states[-1].after(byte))
        place = 0
        while rest := path[place:]:
            token = self.tokens.longest_of(rest)
            longer = self.tokens.that_fit(states[-1], rest)
            # What comes behind the path may be part of the same token: then nothing is said of it.
            if token is None or any(len(self.tokens.bytes_of[number]) > len(rest) for number, _ in longer):
                return
            yield token
            place += len(self.tokens.bytes_of[token])


def _bytes_of(tokenizer: PreTrainedTokenizerBase) -> dict[int, bytes]:
    """What each token writes, by its number."""
    vocabulary, special = tokenizer.get_vocab(), set(tokenizer.all_special_ids)
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    alphabet = _alphabet() if "\u0120" in vocabulary else None  # byte-level BPE writes a blank so
    found = {}
    for text, number in vocabulary.items():
        if number in special:
            continue
        if number in added:
            found[number] = added[number].encode()
        elif alphabet is not None:
            found[number] = bytes(alphabet[letter] for letter in text)
        elif len(text) == 6 and text.startswith("<0x"):
            found[number] = bytes([int(text[3:5], 16)])
        else:
            found[number] = text.replace("\u2581", " ").encode()  # as SentencePiece writes a blank
    return found


def _alphabet() -> dict[str, int]:
    """The letters that byte-level BPE writes bytes with (GPT-2): printable ones as they are, others from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + i): byte for i, byte in enumerate(others)}}

"""Which texts an answer may be: small machines that read a text byte by byte, and say what may follow.

A grammar is a set of texts. What is left of it when a byte was read is a grammar again (its derivative: Brzozowski,
1964), so a grammar is its own state; equal ones are equal values, and what follows from one can be kept by it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

DIGITS = b"0123456789"


class Grammar(ABC):
    """A set of texts in UTF-8."""

    @property
    @abstractmethod
    def ends(self) -> bool:
        """Whether the empty text is one: nothing need follow."""

    @property
    @abstractmethod
    def following(self) -> bytes:
        """The bytes that a text may begin with."""

    @property
    @abstractmethod
    def shortest(self) -> int:
        """The bytes of the shortest text."""

    @property
    def likely(self) -> int | None:
        """The byte to bet on: the only one, or the usual one; None where it is open, and where nothing need follow."""
        return self.following[0] if len(self.following) == 1 and not self.ends else None

    @abstractmethod
    def after(self, byte: int) -> Grammar | None:
        """What may follow a byte; None when no text begins with it."""

    def read(self, text: bytes) -> Grammar | None:
        """What may follow a text; None when none begins with it."""
        state: Grammar | None = self
        for byte in text:
            state = state and state.after(byte)
        return state

    def matches(self, text: str) -> bool:
        """Whether a whole text is one of the set."""
        state = self.read(text.encode())
        return state is not None and state.ends


@dataclass(frozen=True)
class Text(Grammar):
    """One text."""

    text: bytes

    @property
    def ends(self):
        return not self.text

    @property
    def following(self):
        return self.text[:1]

    @property
    def shortest(self):
        return len(self.text)

    def after(self, byte):
        return Text(self.text[1:]) if self.text and self.text[0] == byte else None


@dataclass(frozen=True)
class OneOf(Grammar):
    """One byte of several."""

    choices: bytes
    ends = False
    shortest = 1

    @property
    def following(self):
        return self.choices

    def after(self, byte):
        return Text(b"") if byte in self.choices else None


@dataclass(frozen=True)
class Repeated(Grammar):
    """Nothing, or texts of another grammar, none of them empty, one after the other."""

    item: Grammar
    ends = True
    shortest = 0

    @property
    def following(self):
        return self.item.following

    @property
    def likely(self):
        return self.item.likely

    def after(self, byte):
        return _then(self.item.after(byte), self)


@dataclass(frozen=True)
class _Then(Grammar):
    first: Grammar
    rest: Grammar

    @property
    def ends(self):
        return self.first.ends and self.rest.ends

    @property
    def following(self):
        more = self.rest.following if self.first.ends else b""
        return bytes(dict.fromkeys(self.first.following + more))

    @property
    def shortest(self):
        return self.first.shortest + self.rest.shortest

    @property
    def likely(self):
        bet = self.first.likely
        return self.rest.likely if bet is None and not self.first.following else bet

    def after(self, byte):
        options = [_then(self.first.after(byte), self.rest)]
        if self.first.ends:
            options.append(self.rest.after(byte))
        return _either(options)


@dataclass(frozen=True)
class _Either(Grammar):
    options: tuple[Grammar, ...]

    @property
    def ends(self):
        return any(option.ends for option in self.options)

    @property
    def following(self):
        return bytes(dict.fromkeys(byte for option in self.options for byte in option.following))

    @property
    def shortest(self):
        return min(option.shortest for option in self.options)

    def after(self, byte):
        return _either(option.after(byte) for option in self.options)


@dataclass(frozen=True)
class Coordinates(Grammar):
    """The ``count`` numbers of a box with commas between them, from 0 to 1, all with ``decimals`` digits.

    Of four, left, top, right and bottom, the third is no smaller than the first and the fourth no smaller than the
    second. ``said`` and ``part`` are the numbers that were read, and what was read of the next.
    """

    decimals: int = 3
    count: int = 4
    said: tuple[bytes, ...] = ()
    part: bytes = b""

    @property
    def _complete(self) -> bool:
        return len(self.part) == self.decimals + 2

    @property
    def ends(self):
        return self._complete and len(self.said) + 1 == self.count

    @property
    def shortest(self):
        return (self.count - len(self.said)) * (self.decimals + 3) - 1 - len(self.part)

    @property
    def following(self):
        if self._complete:
            return b"" if self.ends else b","
        place = len(self.part)
        digits = (b"01", b".")[place] if place < 2 else b"0" if self.part.startswith(b"1") else DIGITS
        # Numbers of one form are ordered as their texts are.
        least = self.said[-2][: place + 1] if self.count == 4 and len(self.said) >= 2 else b""
        return bytes(digit for digit in digits if self.part + bytes([digit]) >= least)

    @property
    def likely(self):
        return self.following[0] if len(self.following) == 1 or (self.following and not self.part) else None

    def after(self, byte):
        if byte not in self.following:
            return None
        if byte == ord(","):
            return Coordinates(self.decimals, self.count, (*self.said, self.part))
        return Coordinates(self.decimals, self.count, self.said, self.part + bytes([byte]))


def sequence(*parts: Grammar | str) -> Grammar:
    """Texts of each part, one after the other."""
    grammars = [Text(part.encode()) if isinstance(part, str) else part for part in parts]
    made = grammars.pop()
    for part in reversed(grammars):
        made = _Then(part, made)
    return made


def either(*options: Grammar | str) -> Grammar:
    """The texts of all options. Raises ValueError for none."""
    made = _either(Text(option.encode()) if isinstance(option, str) else option for option in options)
    if made is None:
        raise ValueError("A grammar needs an option.")
    return made


def letter(ascii: bytes) -> Grammar:
    """One letter: some of ASCII, or any that UTF-8 writes with two bytes or more (but those that begin with E0, ED, F0
    or F4, of which not all are allowed)."""
    more = OneOf(bytes(range(0x80, 0xC0)))
    firsts = range(0xC2, 0xE0), (*range(0xE1, 0xED), 0xEE, 0xEF), range(0xF1, 0xF4)
    two, three, four = (OneOf(bytes(one)) for one in firsts)
    return either(OneOf(ascii), sequence(two, more), sequence(three, more, more), sequence(four, more, more, more))


def some(item: Grammar, separator: str) -> Grammar:
    """One or more texts with separators between them."""
    return sequence(item, Repeated(sequence(separator, item)))


def _then(first: Grammar | None, rest: Grammar) -> Grammar | None:
    if first is None or first == Text(b""):
        return None if first is None else rest
    return _Then(first, rest)


def _either(options: Iterable[Grammar | None]) -> Grammar | None:
    flat: dict[Grammar, None] = {}
    for option in options:
        for one in option.options if isinstance(option, _Either) else [] if option is None else [option]:
            flat[one] = None
    found = tuple(flat)
    return _Either(found) if len(found) > 1 else found[0] if found else None

"""Which item comes when: shuffles that need no list, and shares of them for several ranks.

Both are functions of numbers alone, so that a run goes on in the middle of an epoch and is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from hashlib import blake2b

_MASK = (1 << 64) - 1
_ROUNDS = 10  # even shuffles of three items come out even


def key_of(*parts: int | str) -> int:
    """A key of 64 bits for (seed, epoch, ...); other parts, or the same in another order, give an unrelated key."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def shuffled(position: int, length: int, key: int) -> int:
    """What stands at ``position`` when range(length) is shuffled; each key below 2**64 is a shuffle of its own.

    A Feistel network over pairs of numbers, and cycle walking back into the range (Black and Rogaway 2002, "Ciphers
    with Arbitrary Finite Domains", methods 2 and 3). The pairs are hardly more than ``length``, so it rarely walks.
    Its round function is the mixer of SplitMix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number
    Generators"). A shuffle for training, no cipher. Raises IndexError outside 0 .. length - 1.
    """
    if not 0 <= position < length:
        raise IndexError(f"Position {position} is not in 0 .. {length - 1}.")
    width = math.isqrt(length - 1) + 1
    height = -(-length // width)
    while True:
        left, right = position // height, position % height  # left < width, right < height
        seed = key
        for _ in range(_ROUNDS // 2):
            seed += 0x9E3779B97F4A7C15
            left = (left + _mixed(seed ^ right)) % width
            seed += 0x9E3779B97F4A7C15
            right = (right + _mixed(seed ^ left)) % height
        position = left * height + right
        if position < length:
            return position


def _mixed(number: int) -> int:
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def share(start: int, stop: int, rank: int, ranks: int, batch_size: int) -> range:
    """The items of start .. stop - 1 that one of several ranks sees, in its order.

    ``batch_size`` is that of all ranks together. Batch k holds the items from start + k * batch_size on, and they are
    dealt out like cards: each rank takes batch_size / ranks of them. So with a loader that takes that many at a time,
    step k of all ranks together is batch k, whatever the number of ranks; no item is seen twice, and none is left out.
    To go on after k steps, give start + k * batch_size as ``start``; the number of ranks may change there.
    When stop - start is no multiple of batch_size, the last batch is smaller, and ranks may differ by one item in it.
    Raises ValueError when the ranks cannot have equal parts of a batch, or for a rank that there is not.
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"Rank {rank} is not in 0 .. {ranks - 1}.")
    if batch_size < 1 or batch_size % ranks:
        raise ValueError(
            f"A batch of {batch_size} cannot be divided over {ranks} ranks; make it a multiple of {ranks}."
        )
    return range(start + rank, stop, ranks)


def interleaved(position: int, sizes: Sequence[int]) -> tuple[int, int]:
    """Which of several lists stands at ``position`` when they take turns evenly, and how many of its items came before.

    Item k of a list of n stands at (k + 1/2) / n of the way, and all are merged by this; of equal ones the earlier list
    is first. So any stretch holds its share of every list. ``sizes`` are the lengths, some of them positive.
    Raises IndexError outside 0 .. sum(sizes) - 1.
    """
    total = sum(sizes)
    if not 0 <= position < total:
        raise IndexError(f"Position {position} is not in 0 .. {total - 1}.")
    # The items at or before (position + 1/2) / total of the way are as many as ``position``, but for a few: one by one
    # from there, at most as many steps as there are lists.
    counts = [((2 * position + 1) * size + total) // (2 * total) for size in sizes]

    def place(number: int, item: int) -> tuple[Fraction, int]:
        return Fraction(2 * item + 1, 2 * sizes[number]), number

    while sum(counts) <= position:
        number = min((i for i, size in enumerate(sizes) if counts[i] < size), key=lambda i: place(i, counts[i]))
        counts[number] += 1
    while True:
        number = max((i for i, count in enumerate(counts) if count), key=lambda i: place(i, counts[i] - 1))
        counts[number] -= 1
        if sum(counts) == position:
            return number, counts[number]

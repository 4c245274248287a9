"""What images were turned into, kept up to a number of bytes: the least recently used goes first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np


class Cache:
    """Values by key, each with its size in bytes; together no more than ``most_bytes``. 0 keeps nothing.

    hits, misses: how often ``get`` found something, and not. ``get`` and ``put`` are for one thread at a time.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes, self.hits, self.misses = most_bytes, 0, 0, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> Any | None:
        """The value, None when it is not there."""
        if key not in self._kept:
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keeps a value; others make room for it. One that is larger than all the room is not kept."""
        if key in self._kept:
            self.bytes -= self._kept.pop(key)[1]
        if size > self.most_bytes:
            return
        while self.bytes + size > self.most_bytes:
            self.bytes -= self._kept.popitem(last=False)[1][1]
        self._kept[key] = value, size
        self.bytes += size


def key_of(square: np.ndarray) -> bytes:
    """What tells images apart: a digest of the very pixels that the model sees, after all preprocessing.

    So images that differ in one value of one pixel, or in how they were stretched, are two; a file and its copy in
    another format are one.
    """
    return hashlib.sha256(np.ascontiguousarray(square)).digest()

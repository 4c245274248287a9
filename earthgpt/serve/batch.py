"""Keys and values of answers that are decoded together, while answers come and go."""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache as KeysAndValues
from transformers.cache_utils import DynamicLayer

# Columns of keys and values that may be unused before they are moved, so that they are not copied with every token.
_SPARE = 64


class Batch:
    """Keys and values of answers that are decoded together: rows of one length, aligned on the right, in buffers that
    are written in place. What a row does not use is masked."""

    def __init__(self) -> None:
        self._past = KeysAndValues(layers=[])
        self._mask = torch.zeros(0, 0, dtype=torch.long)  # [rows, columns], as the buffers are
        self._spans: list[int] = []  # columns of each row, up to the end
        self._end = 0

    def add(self, past: KeysAndValues, mask: torch.Tensor) -> None:
        """Rows [n, H, L, d] of each layer, with their mask [n, L]."""
        count, (more, length) = len(self._spans), mask.shape
        if not self._past.layers:
            self._past = KeysAndValues(layers=[_Layer(one.keys, one.values) for one in past.layers])
            self._mask = mask.new_zeros(0, 0)
        self._fit(count + more, length)
        rows, columns = slice(count, count + more), slice(self._end - length, self._end)
        self._mask[rows] = 0
        self._mask[rows, columns] = mask
        for own, other in zip(self._past.layers, past.layers, strict=True):
            for room, states in zip(own.room, (other.keys, other.values), strict=True):
                room[rows, :, columns] = states
        self._spans += [length] * more

    def remove(self, place: int) -> None:
        """Takes a row out; the last one moves to its place."""
        last = len(self._spans) - 1
        self._spans[place] = self._spans[last]
        self._spans.pop()
        if place != last:
            for one in (self._mask, *(room for layer in self._past.layers for room in layer.room)):
                one[place] = one[last]

    def next(self) -> tuple[KeysAndValues, torch.Tensor]:
        """What the model takes to add a column to all rows, and their mask with it, [B, L + 1]."""
        count = len(self._spans)
        self._fit(count, 0)
        for layer in self._past.layers:
            layer.keys, layer.values = (room[:count, :, : self._end] for room in layer.room)
        self._mask[:count, self._end] = 1
        self._end += 1
        self._spans = [span + 1 for span in self._spans]
        return self._past, self._mask[:count, : self._end]

    def _fit(self, rows: int, length: int) -> None:
        """Makes room for so many rows, of which new ones have so many columns, and for one column more. What no row
        uses any more is given up when it is much."""
        used = max(self._spans, default=0)
        needed = max(used, length)
        height, width = self._mask.shape
        if rows <= height and length <= self._end < width and self._end < needed + _SPARE:
            return
        before, after = slice(self._end - used, self._end), slice(needed - used, needed)
        count, self._end = len(self._spans), needed
        shape = (height if rows <= height else max(rows, 2 * height), needed + 2 * _SPARE)
        mask = self._mask.new_zeros(shape)
        mask[:count, after] = self._mask[:count, before]
        self._mask = mask
        for layer in self._past.layers:
            layer.room = tuple(_moved(room, count, before, after, shape) for room in layer.room)


def _moved(room: torch.Tensor, count: int, before: slice, after: slice, shape: tuple[int, int]) -> torch.Tensor:
    """A buffer of another shape with some columns of the first rows of one, elsewhere."""
    fresh = room.new_zeros(shape[0], room.shape[1], shape[1], room.shape[3])
    fresh[:count, :, after] = room[:count, :, before]
    return fresh


class _Layer(DynamicLayer):
    """The part of a ``Batch`` in one layer of the model. keys, values: the part of ``room`` that is read."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.room = tuple(one.new_zeros(0, one.shape[1], 0, one.shape[3]) for one in (keys, values))

    def update(self, key_states, value_states, *args, **kwargs):
        rows, end = slice(len(key_states)), self.keys.shape[2] + key_states.shape[2]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[rows, :, self.keys.shape[2] : end] = states
        self.keys, self.values = (room[rows, :, :end] for room in self.room)
        return self.keys, self.values

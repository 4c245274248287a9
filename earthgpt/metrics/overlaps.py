"""How much boxes overlap: exact areas of many pairs at once, upright or turned, without a "+1" on sides.

Boxes are arrays: upright ones [N, 4] of (left, top, right, bottom), turned ones [N, 4, 2] of four corners in any order.
The unit is free: fractions of an image or pixels. Results are those of ``Box.iou`` and ``OrientedBox.iou``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from earthgpt.types import Box, OrientedBox

# Pairs that are clipped together: their arrays stay in the cache of a core.
_BLOCK = 8192


def boxes_array(boxes: Sequence[Box | OrientedBox]) -> np.ndarray:
    """[N, 4] of edges when all boxes are upright, else [N, 4, 2] of corners."""
    if all(isinstance(box, Box) for box in boxes):
        edges = [(box.left, box.top, box.right, box.bottom) for box in boxes]
        return np.array(edges, float).reshape(-1, 4)
    return np.array([box.corners for box in boxes], float)


def hulls(boxes: np.ndarray) -> np.ndarray:
    """The upright hulls, [N, 4], of boxes of either form."""
    if boxes.ndim == 2:
        return boxes
    x, y = (np.ascontiguousarray(boxes[:, :, axis].T) for axis in (0, 1))  # numpy is slow along short axes
    return np.stack([x.min(axis=0), y.min(axis=0), x.max(axis=0), y.max(axis=0)], axis=1)


def areas(boxes: np.ndarray) -> np.ndarray:
    """The areas, [N]; of four corners that of their convex hull."""
    if boxes.ndim == 2:
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return _ring_areas(*_rings(boxes))


def overlaps(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas of the intersection and of the union of each pair, both [N]; one may be upright and the other turned.

    Raises ValueError when the numbers of boxes differ.
    """
    if len(one) != len(other):
        raise ValueError(f"Pairs need as many boxes on both sides, not {len(one)} and {len(other)}.")
    if one.ndim == other.ndim == 2:
        sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
        both = np.maximum(sides, 0.0).prod(axis=1)
        return both, areas(one) + areas(other) - both
    both, union = np.empty(len(one)), np.empty(len(one))
    for start in range(0, len(one), _BLOCK):
        block = slice(start, start + _BLOCK)
        subject, window = _rings(_corners(one[block])), _rings(_corners(other[block]))
        union[block] = _ring_areas(*subject) + _ring_areas(*window)
        both[block] = _ring_areas(*_intersection(*subject, *window))
    return both, union - both


def over_union(both: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Intersection over union in [0, 1]; 0 where there is no union.

    It is rounded to 12 decimals, so that what is one half in whole pixels is one half in fractions of an image too.
    """
    ratio = np.divide(both, union, out=np.zeros(len(both)), where=union > 0)
    return np.minimum(ratio.round(12), 1.0)


def ious(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``over_union`` of each pair, [N]; 0 where a box has no area. Raises as ``overlaps``."""
    return over_union(*overlaps(one, other))


def _corners(boxes: np.ndarray) -> np.ndarray:
    boxes = boxes.astype(float, copy=False)  # whole pixels too
    return boxes if boxes.ndim == 3 else boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def _rings(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The convex hulls of four corners as x and y, [4, N] each, by ascending angle; a corner inside is left out."""
    x, y = np.ascontiguousarray(corners[:, :, 0].T), np.ascontiguousarray(corners[:, :, 1].T)
    turns = _turns(x, y)
    backward = (turns < 0).all(axis=0)
    x[:, backward], y[:, backward] = x[::-1, backward], y[::-1, backward]
    folded = np.flatnonzero(~(backward | (turns > 0).all(axis=0)))
    if len(folded):  # seen from their middle corners go round; one that then bends inward lies inside
        some_x, some_y = x[:, folded], y[:, folded]
        order = np.arctan2(some_y - some_y.mean(axis=0), some_x - some_x.mean(axis=0)).argsort(axis=0)
        some_x, some_y = (np.take_along_axis(values, order, axis=0) for values in (some_x, some_y))
        inward = _turns(some_x, some_y) < 0
        x[:, folded] = np.where(inward, np.roll(some_x, 1, axis=0), some_x)
        y[:, folded] = np.where(inward, np.roll(some_y, 1, axis=0), some_y)
    return x, y


def _turns(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cross product of the edges into and out of each corner, [4, N]: positive where angles grow along the ring."""
    into_x, into_y = x - np.roll(x, 1, axis=0), y - np.roll(y, 1, axis=0)
    return into_x * np.roll(into_y, -1, axis=0) - into_y * np.roll(into_x, -1, axis=0)


def _ring_areas(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x - x[0], y - y[0]
    return np.maximum((x[:-1] * y[1:] - x[1:] * y[:-1]).sum(axis=0) / 2, 0.0)


def _intersection(x: np.ndarray, y: np.ndarray, window_x: np.ndarray, window_y: np.ndarray) -> tuple:
    """The part of convex rings inside others (Sutherland and Hodgman, 1974): cut by one edge after another."""
    for i in range(len(window_x)):
        start_x, start_y = window_x[i - 1], window_y[i - 1]
        x, y = _cut(x, y, start_x, start_y, window_x[i] - start_x, window_y[i] - start_y)
    return x, y


def _cut(x, y, start_x, start_y, step_x, step_y) -> tuple[np.ndarray, np.ndarray]:
    """The rings [K, N] without what lies beyond a line, which is given by a point and a direction, [N] each.

    Rings have as many rows as the longest needs; the others repeat their first corner, which adds no area.
    """
    side = step_x * (y - start_y) - step_y * (x - start_x)  # [K, N]
    inside = side >= 0
    before = np.roll(side, 1, axis=0)
    crossed = inside != np.roll(inside, 1, axis=0)
    length = inside.sum(axis=0) + crossed.sum(axis=0)
    part = np.divide(before, before - side, out=np.zeros_like(side), where=crossed)
    from_x, from_y = np.roll(x, 1, axis=0), np.roll(y, 1, axis=0)
    cross_x, cross_y = from_x + part * (x - from_x), from_y + part * (y - from_y)

    rows, count = max(int(length.max(initial=0)), 1), x.shape[1]
    cut_x, cut_y = np.zeros((rows + 1) * count), np.zeros((rows + 1) * count)
    # Every ring writes at its own next row; what does not stay is overwritten by what comes after.
    place = np.arange(count)
    for i in range(len(x)):
        cut_x[place], cut_y[place] = cross_x[i], cross_y[i]
        place += count * crossed[i]
        cut_x[place], cut_y[place] = x[i], y[i]
        place += count * inside[i]
    cut_x, cut_y = cut_x.reshape(-1, count)[:rows], cut_y.reshape(-1, count)[:rows]
    spare = np.arange(rows)[:, None] >= length
    return np.where(spare, cut_x[0], cut_x), np.where(spare, cut_y[0], cut_y)

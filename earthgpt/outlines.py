"""Outlines in pixels, as annotation files write them, into boxes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from earthgpt.types import Box, OrientedBox, Point, Size, convex_hull, polygon_area


def floats(texts: Iterable[Any]) -> tuple[float, ...] | None:
    """Finite numbers; None when one of ``texts`` is something else."""
    try:
        values = tuple(map(float, texts))
    except (OverflowError, TypeError, ValueError):
        return None
    return values if all(map(math.isfinite, values)) else None


def points(outline: Sequence[float], defects: Counter) -> tuple[Point, ...]:
    """x, y, x, y, ... as points; () with a count where they are not pairs of numbers."""
    numbers = floats(outline)
    if numbers is None or len(numbers) % 2:
        defects["boxes that are not numbers"] += 1
        return ()
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def hull_bbox(corners: Iterable[Point]) -> tuple[float, float, float, float]:
    """(left, top, width, height) of the upright hull."""
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def corner_box(bbox: Iterable[float], size: Size, defects: Counter) -> Box | None:
    """The box of (left, top, width, height) in pixels; None when none of it has area in an image of ``size``."""
    numbers = floats(bbox)
    if numbers is None or len(numbers) != 4:
        defects["boxes that are not numbers"] += 1
        return None
    left, top, width, height = numbers
    corners = ((left, top), (left + width, top + height))
    return Box.from_pixels(*corners[0], *corners[1], size) if usable(corners, size, defects) else None


def oriented_box(outline: Iterable[Point], size: Size, defects: Counter) -> OrientedBox | None:
    """The smallest rectangle about an outline in pixels; None when none of it has area in an image of ``size``."""
    outline = tuple(outline)
    if floats(chain(*outline)) is None:
        defects["boxes that are not numbers"] += 1
        return None
    corners = min_area_rectangle(outline)
    return OrientedBox.from_pixels(corners, size) if usable(corners, size, defects) else None


def usable(corners: tuple[Point, ...], size: Size, defects: Counter) -> bool:
    """Whether a box, of two opposite corners or four of any angle, covers part of the image. Boxes that do not, or not
    whole, are counted in ``defects``.
    """
    xs, ys = zip(*corners, strict=True)
    # A corner may overshoot by rounding: half a pixel is not a defect.
    inside = min(xs) >= -0.5 and min(ys) >= -0.5 and max(xs) <= size[0] + 0.5 and max(ys) <= size[1] + 0.5
    flat = xs[1] <= xs[0] or ys[1] <= ys[0] if len(corners) == 2 else polygon_area(convex_hull(corners)) < 1e-6
    if flat:
        defects["boxes without area"] += 1
    elif max(xs) <= 0 or max(ys) <= 0 or min(xs) >= size[0] or min(ys) >= size[1]:
        defects["boxes outside the image"] += 1
    else:
        defects["boxes cut at the edge"] += not inside
        return True
    return False


def rotated_rectangle(center_x: float, center_y: float, width: float, height: float, angle: float) -> tuple[Point, ...]:
    """The corners of a rectangle turned about its center by ``angle`` in radians, clockwise on the screen."""
    cos, sin = math.cos(angle), math.sin(angle)
    halves = [(sx * width / 2, sy * height / 2) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return tuple((center_x + dx * cos - dy * sin, center_y + dx * sin + dy * cos) for dx, dy in halves)


def min_area_rectangle(outline: Iterable[Point]) -> tuple[Point, ...]:
    """The four corners of the smallest rectangle, at any angle, that holds all points.

    One of its sides lies along an edge of the convex hull (Freeman and Shapira, 1975), so each edge is tried.
    """
    hull = np.array(convex_hull(outline), dtype=float)  # [N, 2]
    edges = np.roll(hull, -1, axis=0) - hull
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    if not lengths.any():
        return (tuple(hull[0].tolist()),) * 4
    along = edges[lengths > 0] / lengths[lengths > 0, None]  # [E, 2]
    axes = np.stack([along, np.stack([-along[:, 1], along[:, 0]], axis=1)], axis=1)  # [E, 2, 2]
    projected = axes @ hull.T  # [E, 2, N]
    low, high = projected.min(axis=2), projected.max(axis=2)  # [E, 2]
    best = int(np.argmin((high - low).prod(axis=1)))
    (u0, v0), (u1, v1) = low[best], high[best]
    corners = np.array([(u0, v0), (u1, v0), (u1, v1), (u0, v1)]) @ axes[best]
    return tuple((float(x), float(y)) for x, y in corners)

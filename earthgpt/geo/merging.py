"""Detections of overlapping tiles as one list for the scene: objects cut by a seam made whole, duplicates gone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from earthgpt.geo.tiles import Window
from earthgpt.metrics.overlaps import overlaps
from earthgpt.outlines import min_area_rectangle
from earthgpt.types import Size

TOUCH = 0.01  # of a tile's side: what comes closer to the edge of a tile is cut by it
ALONG = 0.5  # two parts of an object agree in this much of the smaller one's extent along the seam


@dataclass(frozen=True, slots=True)
class Detection:
    """An object found in a tile.

    corners: its four, in pixels of the scene, in order around it. upright: whether it is a horizontal box. score in
    [0, 1]; None counts as sure. tiles: where it was found. cut: the sides of its tile that it touches (left, top,
    right, bottom), but for those that are the edge of the scene.
    """

    corners: tuple[tuple[float, float], ...]
    label: str
    score: float | None
    upright: bool
    tiles: tuple[Window, ...]
    cut: tuple[bool, bool, bool, bool]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def detection(corners, label: str, score: float | None, upright: bool, tile: Window, size: Size) -> Detection:
    """A detection in a tile of a scene of ``size`` (width, height), with the sides that cut it."""
    left, top, width, height = tile
    near_x, near_y = TOUCH * width, TOUCH * height
    xs, ys = zip(*corners, strict=True)
    cut = (
        left > 0 and min(xs) <= left + near_x,
        top > 0 and min(ys) <= top + near_y,
        left + width < size[0] and max(xs) >= left + width - near_x,
        top + height < size[1] and max(ys) >= top + height - near_y,
    )
    return Detection(tuple(map(tuple, corners)), label, score, upright, (tile,), cut)


def merge(found: list[Detection], iou: float = 0.5, inside: float = 0.7) -> list[Detection]:
    """One detection for each object, in the order of the first tile that it was found in.

    Parts of an object that neighbouring tiles cut on facing sides become one, from end to end. Then, class by class and
    the better first, what overlaps another by at least ``iou`` is a duplicate of it (exact polygons), and so is a part
    of which at least ``inside`` lies in another. What no tile cuts is better than what one does, whatever the scores.
    """
    whole = _suppress([one for one in found if not any(one.cut)], iou, inside)
    parts = [one for one in found if any(one.cut)]
    parts = _without_those_inside(parts, whole, inside)
    joined = _join(parts)
    return _suppress([*whole, *joined], iou, inside)


def _join(parts: list[Detection]) -> list[Detection]:
    """Parts that face each other across seams, as one each; those without another part as they are."""
    group = list(range(len(parts)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, j in _touching(parts):
        if _face(parts[i], parts[j]) or _face(parts[j], parts[i]):
            group[root(i)] = root(j)
    members: dict[int, list[Detection]] = {}
    for i, part in enumerate(parts):
        members.setdefault(root(i), []).append(part)
    return [_union(group) for group in members.values()]


def _face(one: Detection, other: Detection) -> bool:
    """Whether the first is cut on the side where the second, of a neighbouring tile, goes on."""
    (a, b, c, d), (e, f, g, h) = one.bounds, other.bounds
    (left, top, width, height), (left_2, top_2, *_) = one.tiles[0], other.tiles[0]
    beside = left < left_2 <= left + width and one.cut[2] and other.cut[0]
    below = top < top_2 <= top + height and one.cut[3] and other.cut[1]
    along_y = min(d, h) - max(b, f) >= ALONG * min(d - b, h - f)
    along_x = min(c, g) - max(a, e) >= ALONG * min(c - a, g - e)
    return (beside and along_y) or (below and along_x)


def _union(parts: list[Detection]) -> Detection:
    if len(parts) == 1:
        return parts[0]
    points = [corner for part in parts for corner in part.corners]
    if all(part.upright for part in parts):
        xs, ys = zip(*points, strict=True)
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    else:
        corners = tuple(min_area_rectangle(points))
    best = max(parts, key=_score)
    tiles = tuple(dict.fromkeys(tile for part in parts for tile in part.tiles))
    return replace(best, corners=corners, tiles=tiles, cut=(False,) * 4)


def _without_those_inside(parts: list[Detection], whole: list[Detection], inside: float) -> list[Detection]:
    both = [*whole, *parts]
    pairs = np.array([(i, j) for i, j in _touching(both) if (i < len(whole)) != (j < len(whole))]).reshape(-1, 2)
    lost = set()
    for (i, j), share in zip(pairs.tolist(), _shares(both, pairs), strict=True):
        part = max(i, j)  # the whole ones come first
        if share[1 if part == j else 0] >= inside:
            lost.add(part)
    return [one for i, one in enumerate(both) if i >= len(whole) and i not in lost]


def _suppress(found: list[Detection], iou: float, inside: float) -> list[Detection]:
    order = sorted(range(len(found)), key=lambda i: (any(found[i].cut), -_score(found[i])))
    rank = {i: place for place, i in enumerate(order)}
    pairs = np.array(_touching(found)).reshape(-1, 2)
    beaten_by: dict[int, list[int]] = {}
    for (i, j), (of_i, of_j, over_union) in zip(pairs.tolist(), _shares(found, pairs), strict=True):
        better, worse = (i, j) if rank[i] < rank[j] else (j, i)
        share = of_j if worse == j else of_i
        if over_union >= iou or (any(found[worse].cut) and share >= inside):
            beaten_by.setdefault(worse, []).append(better)
    kept: set[int] = set()
    for i in order:
        if not any(better in kept for better in beaten_by.get(i, ())):
            kept.add(i)
    return [found[i] for i in sorted(kept)]


def _touching(found: list[Detection]) -> list[tuple[int, int]]:
    """Pairs (i < j) of the same class whose hulls overlap."""
    from shapely import STRtree, box

    pairs: list[tuple[int, int]] = []
    by_label: dict[str, list[int]] = {}
    for i, one in enumerate(found):
        by_label.setdefault(one.label, []).append(i)
    for numbers in by_label.values():
        hulls = box(*np.array([found[i].bounds for i in numbers]).T)
        one, other = STRtree(hulls).query(hulls)
        pairs += [(numbers[i], numbers[j]) for i, j in zip(one.tolist(), other.tolist(), strict=True) if i < j]
    return pairs


def _shares(found: list[Detection], pairs: np.ndarray) -> np.ndarray:
    """For each pair how much of the first and of the second lies in the other, and their IoU: [N, 3]."""
    if not len(pairs):
        return np.zeros((0, 3))
    corners = np.array([one.corners for one in found])  # [N, 4, 2]
    one, other = corners[pairs[:, 0]], corners[pairs[:, 1]]
    both, union = overlaps(one, other)
    sizes = [overlaps(part, part)[0] for part in (one, other)]
    return np.stack([both / np.maximum(part, 1e-12) for part in (*sizes, union)], axis=1)


def _score(one: Detection) -> float:
    return 1.0 if one.score is None else one.score

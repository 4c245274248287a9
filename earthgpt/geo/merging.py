"""Detections of overlapping tiles as one list for the scene: objects cut by a seam made whole, duplicates gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np

from earthgpt.geo.tiles import Window
from earthgpt.metrics.overlaps import areas, hulls, over_union, overlaps
from earthgpt.outlines import min_area_rectangle
from earthgpt.types import Size

TOUCH = 0.01  # of a tile's side: what comes closer to the edge of a tile is cut by it
ALONG = 0.5  # two parts of an object agree in this much of the smaller one's extent along the seam


@dataclass(frozen=True, eq=False)
class Detections:
    """N objects that were found in tiles.

    corners: the four of each, in pixels of the scene, in order around it, [N, 4, 2]. labels: their classes. scores:
    in [0, 1], [N]. upright: whether they are horizontal boxes, [N]. tiles: where each was found. cut: the sides of its
    tile that it touches (left, top, right, bottom), but for those that are the edge of the scene, [N, 4].
    """

    corners: np.ndarray
    labels: Sequence[str]
    scores: np.ndarray
    upright: np.ndarray
    tiles: Sequence[tuple[Window, ...]]
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def bounds(self) -> np.ndarray:
        """left, top, right, bottom of each, [N, 4]."""
        return hulls(self.corners)

    def where(self, wanted: np.ndarray) -> Detections:
        """Some of them: ``wanted`` is bool, [N]."""
        labels, tiles = (list(compress(every, wanted.tolist())) for every in (self.labels, self.tiles))
        arrays = (one[wanted] for one in (self.corners, self.scores, self.upright, self.cut))
        corners, scores, upright, cut = arrays
        return Detections(corners, labels, scores, upright, tiles, cut)

    def __add__(self, other: Detections) -> Detections:
        """These, and then others."""
        arrays = ("corners", "scores", "upright", "cut")
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in arrays}
        return Detections(labels=[*self.labels, *other.labels], tiles=[*self.tiles, *other.tiles], **both)


def detections(
    corners: np.ndarray,
    labels: Sequence[str],
    scores: Sequence[float],
    upright: Sequence[bool],
    tiles: Sequence[Window],
    size: Size,
) -> Detections:
    """What was found in tiles of a scene of ``size`` (width, height), each in one, with the sides that cut it."""
    corners = np.asarray(corners, float).reshape(-1, 4, 2)
    windows = np.array(tiles, float).reshape(-1, 4)
    starts, ends = windows[:, :2], windows[:, :2] + windows[:, 2:]
    near, bounds = TOUCH * windows[:, 2:], hulls(corners)
    before = (starts > 0) & (bounds[:, :2] <= starts + near)
    behind = (ends < size) & (bounds[:, 2:] >= ends - near)
    where = [(tile,) for tile in tiles]
    return Detections(
        corners, labels, np.array(scores, float), np.array(upright, bool), where, np.hstack([before, behind])
    )


def merge(found: Detections, iou: float = 0.5, inside: float = 0.7) -> Detections:
    """One detection for each object: first those that no tile cuts, in the order in which they were found.

    Parts of an object that neighbouring tiles cut on facing sides become one, from end to end. Then, class by class and
    the better first, what overlaps another by at least ``iou`` is a duplicate of it (exact polygons), and so is a part
    of which at least ``inside`` lies in another. So are two turned boxes, of which one lies that far in the other,
    whose upright hulls are nearly the same: one thin object under two angles. What no tile cuts is better than what one
    does, whatever the scores.
    """
    cut, pairs = found.cut.any(axis=1), _touching(found)
    shares, whole = _shares(found, pairs), ~cut[pairs].any(axis=1)
    kept = _unbeaten(found, pairs[whole], shares[whole], iou, inside)
    for part, other, share in ((*pairs.T, shares[:, 0]), (*pairs.T[::-1], shares[:, 1])):
        kept[part[cut[part] & ~cut[other] & kept[other] & (share >= inside)]] = False  # it lies in a whole one
    every = found.where(kept & ~cut) + _joined(found.where(kept & cut))
    pairs = _touching(every)
    return every.where(_unbeaten(every, pairs, _shares(every, pairs), iou, inside))


def _joined(parts: Detections) -> Detections:
    """Parts that face each other across seams, as one each in the place of the first; others as they are."""
    pairs = _touching(parts)
    pairs = pairs[_facing(parts, pairs) | _facing(parts, pairs[:, ::-1])]
    if not len(pairs):
        return parts
    left = np.ones(len(parts), bool)
    corners, scores, upright, cut = (one.copy() for one in (parts.corners, parts.scores, parts.upright, parts.cut))
    labels, tiles = list(parts.labels), list(parts.tiles)
    for group in _groups(pairs):
        first = group[0]
        best = max(group, key=lambda i: parts.scores[i])
        left[group[1:]] = False
        upright[first] = parts.upright[group].all()
        points = parts.corners[group].reshape(-1, 2)
        if upright[first]:
            (left_, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            corners[first] = (left_, top), (right, top), (right, bottom), (left_, bottom)
        else:
            corners[first] = min_area_rectangle([tuple(point) for point in points.tolist()])
        labels[first], scores[first], cut[first] = parts.labels[best], parts.scores[best], False
        tiles[first] = tuple(dict.fromkeys(tile for i in group for tile in parts.tiles[i]))
    return Detections(corners, labels, scores, upright, tiles, cut).where(left)


def _groups(pairs: np.ndarray) -> Iterator[list[int]]:
    """The numbers that pairs connect, each group in order."""
    leads: dict[int, int] = {}

    def root(i: int) -> int:
        while leads.setdefault(i, i) != i:
            leads[i] = i = leads[leads[i]]
        return i

    for i, j in pairs.tolist():
        leads[root(i)] = root(j)
    members: dict[int, list[int]] = {}
    for i in sorted(leads):
        members.setdefault(root(i), []).append(i)
    yield from members.values()


def _facing(parts: Detections, pairs: np.ndarray) -> np.ndarray:
    """Whether the first of each pair is cut on the side where the second, of a neighbouring tile, goes on."""
    one, other = pairs[:, 0], pairs[:, 1]
    bounds, windows = parts.bounds, np.array([tiles[0] for tiles in parts.tiles], float).reshape(-1, 4)
    starts, ends, later = windows[one, :2], windows[one, :2] + windows[one, 2:], windows[other, :2]
    goes_on = (starts < later) & (later <= ends) & parts.cut[one, 2:] & parts.cut[other, :2]  # to the right, below
    shared = np.minimum(bounds[one, 2:], bounds[other, 2:]) - np.maximum(bounds[one, :2], bounds[other, :2])
    sides = bounds[:, 2:] - bounds[:, :2]
    agree = shared >= ALONG * np.minimum(sides[one], sides[other])
    return (goes_on & agree[:, ::-1]).any(axis=1)  # along y where it goes on to the right


def _unbeaten(found: Detections, pairs: np.ndarray, shares: np.ndarray, iou: float, inside: float) -> np.ndarray:
    """Which of them no better one has beaten, bool [N]."""
    cut, kept = found.cut.any(axis=1), np.ones(len(found), bool)
    rank = np.empty(len(found), int)
    rank[np.lexsort((-found.scores, cut))] = np.arange(len(found))
    turned = rank[pairs[:, 0]] > rank[pairs[:, 1]]
    better, worse = np.where(turned, pairs.T[::-1], pairs.T)
    share = np.where(turned, shares[:, 0], shares[:, 1])  # of the worse one
    beaten = (shares[:, 2] >= iou) | (cut[worse] & (share >= inside))
    either = shares[:, :2].max(axis=1)
    (oblique,) = np.nonzero(~beaten & (either >= inside) & ~(found.upright[better] & found.upright[worse]))
    hulls_iou = over_union(*overlaps(found.bounds[better[oblique]], found.bounds[worse[oblique]]))
    beaten[oblique] = hulls_iou >= iou
    better, worse = better[beaten], worse[beaten]
    order = rank[worse].argsort()  # so that it is known of the better one
    for one, other in zip(better[order].tolist(), worse[order].tolist(), strict=True):
        if kept[one]:
            kept[other] = False
    return kept


def _touching(found: Detections) -> np.ndarray:
    """Pairs (i < j) of the same class whose hulls overlap, [K, 2]."""
    from shapely import STRtree, box

    numbers: dict[str, int] = {}
    classes = np.array([numbers.setdefault(label, len(numbers)) for label in found.labels], int)
    order = classes.argsort(kind="stable")
    boxes, pairs = box(*found.bounds.T), [np.zeros((0, 2), int)]
    for those in np.split(order, np.flatnonzero(np.diff(classes[order])) + 1):
        pairs.append(those[STRtree(boxes[those]).query(boxes[those]).T])
    every = np.concatenate(pairs)
    return every[every[:, 0] < every[:, 1]]


def _shares(found: Detections, pairs: np.ndarray) -> np.ndarray:
    """For each pair how much of the first and of the second lies in the other, and their IoU: [K, 3]."""
    bounds, one, other = found.bounds, pairs[:, 0], pairs[:, 1]
    both, union = np.empty((2, len(pairs)))
    flat = found.upright[one] & found.upright[other]
    for those, boxes in ((flat, bounds), (~flat, found.corners)):
        both[those], union[those] = overlaps(boxes[one[those]], boxes[other[those]])
    sizes = np.where(found.upright, areas(bounds), areas(found.corners))
    parts = (both / np.maximum(sizes[those], 1e-12) for those in (one, other))
    return np.stack([*parts, over_union(both, union)], axis=1)

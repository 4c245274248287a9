"""How well lists of boxes fit: average precision, precision and recall, with upright or turned boxes.

A ``protocol`` says how boxes are matched, best scored first, and what is averaged over:

- ``coco``: a box takes the free answer it overlaps most, if by at least the IoU (of equals the last one); AP is the
  mean precision at recalls 0, 0.01 .. 1 (Lin et al., 2014). All boxes of an image count: there is no limit of 100.
- ``voc07``: a box belongs to the answer it overlaps most, and is right if by more than the IoU and no better scored box
  was right there before; AP is the mean precision at recalls 0, 0.1 .. 1 (Everingham et al., 2010). With turned boxes
  this is the protocol of DOTA (Xia et al., 2018).
- ``voc10``: matched in that way; AP is the area under the curve.

Precision at a recall is the best one at that recall or beyond. Boxes of one score keep their order: that of the images,
and within an image that of the list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from earthgpt.metrics.overlaps import boxes_array, hulls, ious
from earthgpt.metrics.statistics import mean
from earthgpt.types import Region

PROTOCOLS = ("coco", "voc07", "voc10")
# 0.40 and 0.50 are those of the paper, 0.50 .. 0.95 those of COCO.
COCO_IOUS = tuple(i / 100 for i in range(50, 100, 5))
IOUS = (0.4, *COCO_IOUS)
# As the evaluation code of VOC and DOTA has them: a recall of exactly 0.3 does not reach 0.30000000000000004.
_RECALLS = {"coco": np.linspace(0, 1, 101), "voc07": np.arange(0, 1.1, 0.1)}
# Pairs of boxes that are looked at together.
_BLOCK = 1 << 20

Regions = Sequence[Region]


@dataclass(frozen=True)
class Matches:
    """Which predicted boxes are right: what ``match_detections`` finds, for all figures that follow from it.

    Predictions, P in all, stand class by class, and there by falling score; ``label`` is a number in ``labels``.
    ``hits`` is [I, P], for each of ``ious``: whether it is right; ``counted`` is whether it counts at all.
    ``true_image`` and ``true_label`` are those of the answers. ``unread`` is [N], which images have no readable answer.
    """

    protocol: str
    labels: tuple[str, ...]
    ious: tuple[float, ...]
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    hits: np.ndarray
    counted: np.ndarray
    true_image: np.ndarray
    true_label: np.ndarray
    unread: np.ndarray

    def average_precision(
        self, iou: float = 0.5, weights: np.ndarray | None = None, scored: bool = True
    ) -> dict[str, float]:
        """AP in [0, 1] of each class that occurs in the answers.

        ``weights`` say how often each image counts. Without ``scored`` the scores are not looked at: all boxes are
        kept, and the curve is the one point of that precision and recall, whatever the order of the images.
        Raises ValueError for an IoU that was not matched at.
        """
        hits, counted = self._at(iou)
        times = self._times(weights)
        counts = np.bincount(self.true_label, times[self.true_image], len(self.labels))
        kept = times[self.image] * counted
        right = kept * hits
        ends = np.searchsorted(self.label, np.arange(len(self.labels) + 1))
        found = {}
        for name, count, (start, end) in zip(self.labels, counts, pairwise(ends), strict=True):
            if count:
                true, all_of_them = right[start:end].cumsum(), kept[start:end].cumsum()
                first = int(np.searchsorted(all_of_them, 0, side="right"))  # those before count 0
                points = slice(first if scored else max(first, len(true) - 1), None)
                found[name] = _area(true[points] / count, true[points] / all_of_them[points], self.protocol)
        return found

    def mean_ap(self, iou: float = 0.5, weights: np.ndarray | None = None, scored: bool = True) -> float:
        """``average_precision`` averaged over the classes that occur; NaN when the answers hold no object."""
        return mean(np.array(list(self.average_precision(iou, weights, scored).values())))

    def precision_recall(self, iou: float = 0.5, weights: np.ndarray | None = None) -> dict[str, float]:
        """``precision``, ``recall`` and ``f1`` in [0, 1] of the boxes of all classes together, whatever their score.

        Precision is 0 when nothing is predicted; without prediction and answer all are NaN.
        Raises ValueError for an IoU that was not matched at.
        """
        hits, counted = self._at(iou)
        times = self._times(weights)
        kept = times[self.image] * counted
        right, predicted, answered = float(kept @ hits), float(kept.sum()), float(times[self.true_image].sum())
        return {
            "precision": right / predicted if predicted else 0.0 if answered else math.nan,
            "recall": right / answered if answered else math.nan,
            "f1": 2 * right / (predicted + answered) if predicted + answered else math.nan,
        }

    def image_f1(self, iou: float = 0.5) -> np.ndarray:
        """F1 in [0, 1] of each image by itself, [N]; 1 where nothing is there and nothing was found, 0 where the answer
        could not be read. Raises ValueError for an IoU that was not matched at.
        """
        hits, counted = self._at(iou)
        count = len(self.unread)
        right, predicted = (np.bincount(self.image, kept, count) for kept in (hits & counted, counted))
        both = predicted + np.bincount(self.true_image, minlength=count)
        return np.divide(2 * right, both, out=(~self.unread).astype(float), where=both > 0)

    def summary(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """The figures by name, in [0, 1]; ``weights`` say how often each image counts.

        ``ap_40``, ``ap_50`` .. for each IoU of ``ious``, or if these hold all of COCO's only those of 0.40, 0.50 and
        0.75 and ``ap_50_95``, the mean over 0.50, 0.55 .. 0.95; at the IoU of 0.5, or else the first,
        ``ap_50_constant`` (scores not looked at), ``precision``, ``recall`` and ``f1``; and ``unparsed``, the part of
        the images whose answer could not be read. NaN where there is nothing to compare.
        """
        whole = set(COCO_IOUS) <= set(self.ious)
        shown = [iou for iou in self.ious if not whole or iou in (0.4, 0.5, 0.75)]
        named = {f"ap_{iou * 100:.0f}": self.mean_ap(iou, weights) for iou in shown}
        if whole:
            named["ap_50_95"] = sum(self.mean_ap(iou, weights) for iou in COCO_IOUS) / len(COCO_IOUS)
        iou = 0.5 if 0.5 in self.ious else self.ious[0]
        return {
            **named,
            f"ap_{iou * 100:.0f}_constant": self.mean_ap(iou, weights, scored=False),
            **self.precision_recall(iou, weights),
            "unparsed": mean(self.unread, weights),
        }

    def _at(self, iou: float) -> tuple[np.ndarray, np.ndarray]:
        if iou not in self.ious:
            raise ValueError(f"Boxes were matched at an IoU of {', '.join(map(str, self.ious))}; not {iou}.")
        row = self.ious.index(iou)
        return self.hits[row], self.counted[row]

    def _times(self, weights: np.ndarray | None) -> np.ndarray:
        return np.ones(len(self.unread), int) if weights is None else weights


def match_detections(
    predictions: Sequence[Regions | None],
    answers: Sequence[Regions],
    levels: Sequence[float] = IOUS,
    protocol: str = "coco",
    ignored: Sequence[Regions] | None = None,
) -> Matches:
    """Compares the regions of each image with the true ones of the same label, at each IoU of ``levels``.

    A score of None counts as 1. None predicts nothing, and is counted. ``ignored`` are true regions of each image that
    need not be found (DOTA's "difficult"): a box that is matched to one is neither right nor wrong.
    Raises ValueError when the lengths differ, for another protocol, or a score that is NaN.
    """
    ignored = [()] * len(answers) if ignored is None else ignored
    if not len(predictions) == len(answers) == len(ignored):
        raise ValueError(
            f"There are predictions for {len(predictions)} images, answers for {len(answers)} and "
            f"regions to ignore for {len(ignored)}."
        )
    if protocol not in PROTOCOLS:
        raise ValueError(f"A protocol is one of {', '.join(PROTOCOLS)}; not {protocol!r}.")
    labels = sorted({region.label for image in chain(predictions, answers, ignored) for region in image or ()})
    numbers = {label: i for i, label in enumerate(labels)}
    found, true, spared = (_Boxes.of(images, numbers) for images in (predictions, answers, ignored))
    if np.isnan(found.score).any():
        raise ValueError("A score must not be NaN.")
    found = found.at(np.argsort(-found.score, kind="stable"))
    limits = np.array(levels, float)
    pairs = _pairs(found, true, limits.min())
    spared_iou = _pairs(found, spared, limits.min()).best(len(found.image))
    if protocol == "coco":
        hits = _greedy(pairs, found.group, len(true.image), limits)
        left = ~hits & (spared_iou >= limits[:, None])
    else:
        best = pairs.best(len(found.image))
        hits = _nearest(pairs, best, spared_iou, limits)
        left = spared_iou > np.maximum(limits[:, None], best)
    order = np.argsort(found.label, kind="stable")
    return Matches(
        protocol,
        tuple(labels),
        tuple(levels),
        found.image[order],
        found.label[order],
        found.score[order],
        hits[:, order],
        ~left[:, order],
        true.image,
        true.label,
        np.array([regions is None for regions in predictions], bool),
    )


@dataclass(frozen=True)
class _Boxes:
    """All boxes of some images; ``group`` numbers the class of the image, within which boxes are matched."""

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    group: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, images: Sequence[Regions | None], numbers: dict[str, int]) -> _Boxes:
        regions = [region for image in images for region in image or ()]
        image = np.repeat(np.arange(len(images)), [len(regions or ()) for regions in images])
        label = np.array([numbers[region.label] for region in regions], int)
        score = np.array([1.0 if region.score is None else region.score for region in regions], float)
        return cls(image, label, score, image * len(numbers) + label, boxes_array([region.box for region in regions]))

    def at(self, order: np.ndarray) -> _Boxes:
        return _Boxes(self.image[order], self.label[order], self.score[order], self.group[order], self.boxes[order])


@dataclass(frozen=True)
class _Pairs:
    """Boxes and answers that overlap enough, by the number of the box and then of the answer, and their IoU."""

    found: np.ndarray
    true: np.ndarray
    iou: np.ndarray

    def best(self, count: int) -> np.ndarray:
        """The largest IoU of each of ``count`` boxes; 0 for those in no pair."""
        largest = np.zeros(count)
        np.maximum.at(largest, self.found, self.iou)
        return largest


def _pairs(found: _Boxes, true: _Boxes, lowest: float) -> _Pairs:
    """The pairs of one class and image with an IoU of at least ``lowest``."""
    order = np.argsort(true.group, kind="stable")
    groups = true.group[order]
    starts = np.searchsorted(groups, found.group)
    counts = np.searchsorted(groups, found.group, side="right") - starts
    found_hulls, true_hulls = hulls(found.boxes), hulls(true.boxes)
    parts = []
    blocks = (counts.cumsum() - counts) // _BLOCK
    for block in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(blocks)) + 1):
        many = counts[block]
        one = np.repeat(block, many)
        step = np.arange(len(one)) - np.repeat(many.cumsum() - many, many)
        other = order[starts[one] + step]
        hull, other_hull = found_hulls[one], true_hulls[other]
        low, high = np.maximum(hull[:, :2], other_hull[:, :2]), np.minimum(hull[:, 2:], other_hull[:, 2:])
        meet = (low < high).all(axis=1)
        one, other = one[meet], other[meet]
        iou = ious(found.boxes[one], true.boxes[other])
        parts.append((one[iou >= lowest], other[iou >= lowest], iou[iou >= lowest]))
    return _Pairs(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _greedy(pairs: _Pairs, group: np.ndarray, true_count: int, limits: np.ndarray) -> np.ndarray:
    """Hits [I, P] of protocol ``coco``: the first box of every group chooses, then the second of every group ..."""
    hits = np.zeros((len(limits), len(group)), bool)
    boxes, counts = np.unique(pairs.found, return_counts=True)
    rank = _ranks(group[boxes])
    order = np.argsort(np.repeat(rank, counts), kind="stable")
    true, iou = pairs.true[order], pairs.iou[order]
    turns = np.argsort(rank, kind="stable")
    boxes, counts = boxes[turns], counts[turns]
    ends = np.append(0, counts.cumsum())
    free = np.ones((true_count, len(limits)), bool)
    for start, stop in pairwise(np.searchsorted(rank[turns], np.arange(rank.max(initial=-1) + 2))):
        first, last = ends[start], ends[stop]
        choices = true[first:last]
        value = np.where(free[choices], iou[first:last, None], -1.0)  # [pairs, I]
        best = np.maximum.reduceat(value, ends[start:stop] - first)  # [boxes, I]
        equal = value == np.repeat(best, counts[start:stop], axis=0)
        place = np.where(equal, np.arange(len(value))[:, None], -1)
        chosen = np.maximum.reduceat(place, ends[start:stop] - first)  # of equals the last one, as in pycocotools
        box, level = np.nonzero(best >= limits)
        hits[level, boxes[start + box]] = True
        free[choices[chosen[box, level]], level] = False
    return hits


def _ranks(groups: np.ndarray) -> np.ndarray:
    """How many of the same group stand before each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    ranks = np.empty(len(groups), int)
    ranks[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return ranks


def _nearest(pairs: _Pairs, best: np.ndarray, spared: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Hits [I, P] of ``voc07`` and ``voc10``: the first box of each answer that it is the nearest of.

    ``best`` is the largest IoU of each box, ``spared`` that with a region to ignore: a box nearer to one is no hit.
    """
    hits = np.zeros((len(limits), len(best)), bool)
    nearest = np.flatnonzero((pairs.iou == best[pairs.found]) & (pairs.iou >= spared[pairs.found]))
    _, first = np.unique(pairs.found[nearest], return_index=True)  # of equals the first one
    nearest = nearest[first]
    for level, limit in enumerate(limits):
        able = nearest[pairs.iou[nearest] > limit]
        _, first = np.unique(pairs.true[able], return_index=True)
        hits[level, pairs.found[able[first]]] = True
    return hits


def _area(recall: np.ndarray, precision: np.ndarray, protocol: str) -> float:
    """The AP of the points of a curve in order of rising recall."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if protocol == "voc10":
        return float(np.diff(recall, prepend=0.0) @ best)
    recalls = _RECALLS[protocol]
    return float(np.append(best, 0.0)[np.searchsorted(recall, recalls)].mean())

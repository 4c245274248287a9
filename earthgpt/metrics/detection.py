"""How well a list of boxes for each class fits: average precision, precision and recall at one IoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from earthgpt.types import Region

Regions = Sequence[Region]


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """What ``average_precision`` finds, all in [0, 1].

    ``classes`` holds the AP of each class that occurs in the answers. ``precision``, ``recall`` and ``f1`` are of all
    boxes together, whatever their score. ``unparsed`` is the part of the images whose answer could not be read.
    """

    iou: float
    classes: dict[str, float]
    precision: float
    recall: float
    f1: float
    unparsed: float

    @property
    def mean(self) -> float:
        """AP averaged over the classes; NaN when the answers hold no object."""
        return sum(self.classes.values()) / len(self.classes) if self.classes else math.nan

    def summary(self) -> dict[str, float]:
        """The numbers by name; AP is named by its IoU: ``ap_50``."""
        return {
            f"ap_{self.iou * 100:.0f}": self.mean,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "unparsed": self.unparsed,
        }


def average_precision(
    predictions: Sequence[Regions | None], answers: Sequence[Regions], iou: float = 0.5
) -> DetectionScores:
    """Compares the regions of each image with the true ones of the same label, with upright or oriented boxes.

    The best scored region goes first and takes the free answer it overlaps most, if by at least ``iou``; a score of
    None counts as 1. AP is interpolated at 101 recalls, as in pycocotools, without a limit on boxes per image. Equal
    scores keep their order, so with constant scores AP depends on the order of the images. None predicts nothing.
    Precision is 0 when nothing is predicted; where there is neither prediction nor answer the numbers are NaN.
    Raises ValueError when the lengths differ.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"There are predictions for {len(predictions)} images and answers for {len(answers)}.")
    found = [_by_label(regions or ()) for regions in predictions]
    true = [_by_label(regions) for regions in answers]
    classes, matched, predicted, answered = {}, 0, 0, 0
    for label in sorted(set().union(*found, *true)):
        pairs = [(one.get(label, []), other.get(label, [])) for one, other in zip(found, true, strict=True)]
        outcomes = [_match(one, other, iou) for one, other in pairs]
        scores, hits = (np.concatenate(parts) for parts in zip(*outcomes, strict=True))
        count = sum(len(other) for _, other in pairs)
        if count:
            classes[label] = _area(hits[np.argsort(-scores, kind="stable")], count)
        matched, predicted, answered = matched + int(hits.sum()), predicted + len(hits), answered + count
    return DetectionScores(
        iou=iou,
        classes=classes,
        precision=matched / predicted if predicted else 0.0 if answered else math.nan,
        recall=matched / answered if answered else math.nan,
        f1=2 * matched / (predicted + answered) if predicted + answered else math.nan,
        unparsed=sum(regions is None for regions in predictions) / len(answers) if answers else math.nan,
    )


def _by_label(regions: Regions) -> dict[str, list[Region]]:
    groups: dict[str, list[Region]] = {}
    for region in regions:
        groups.setdefault(region.label, []).append(region)
    return groups


def _score(region: Region) -> float:
    return 1.0 if region.score is None else region.score


def _match(found: list[Region], true: list[Region], iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores in falling order and whether each is a hit, for one class of one image."""
    found = sorted(found, key=_score, reverse=True)  # stable, also in reverse
    ious = _ious(found, true)
    hits = np.zeros(len(found), bool)
    for i in range(len(found) if true else 0):
        best = len(true) - 1 - int(ious[i, ::-1].argmax())  # of equals the last one, as in pycocotools
        if ious[i, best] >= iou:
            hits[i] = True
            ious[:, best] = -1.0  # taken
    return np.array([_score(region) for region in found], float), hits


def _ious(found: list[Region], true: list[Region]) -> np.ndarray:
    """IoU of every pair, [found, true]; only boxes whose upright hulls overlap are worked out."""
    ious = np.zeros((len(found), len(true)))
    if not ious.size:
        return ious
    one, other = (_hulls(regions) for regions in (found, true))
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    for i, j in np.argwhere((low < high).all(axis=2)):
        ious[i, j] = found[i].box.iou(true[j].box)
    return ious


def _hulls(regions: list[Region]) -> np.ndarray:
    hulls = [region.box.bounds for region in regions]
    return np.array([(hull.left, hull.top, hull.right, hull.bottom) for hull in hulls])  # [N, 4]


def _area(hits: np.ndarray, count: int) -> float:
    """AP of hits in order of falling score with ``count`` answers: the mean precision at recalls 0, 0.01 .. 1."""
    if not len(hits):
        return 0.0
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    precision = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # best from here on; 0 past the end
    return float(precision[np.searchsorted(right / count, np.linspace(0, 1, 101))].mean())

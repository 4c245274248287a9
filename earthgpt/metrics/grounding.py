"""How well one box for one phrase fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from earthgpt.metrics.overlaps import areas, boxes_array, over_union, overlaps
from earthgpt.metrics.statistics import mean
from earthgpt.types import Box, OrientedBox

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class GroundingScores:
    """What ``grounding_scores`` finds for each question, all [N]: areas in fractions of the image, IoU in [0, 1]."""

    intersections: np.ndarray
    unions: np.ndarray
    ious: np.ndarray

    def summary(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """``pr_50`` .. ``pr_90``, ``mean_iou`` and ``cumulative_iou``, all in [0, 1]; NaN when nothing is compared.

        ``pr_50`` is the part of the questions with an IoU of at least 0.5, ``cumulative_iou`` the sum of the
        intersections over the sum of the unions: the definitions of DIOR-RSVG (Zhan et al., 2023).
        ``weights`` say how often each question counts.
        """
        both, union = (mean(values, weights) for values in (self.intersections, self.unions))
        return {
            **{f"pr_{threshold * 100:.0f}": mean(self.ious >= threshold, weights) for threshold in THRESHOLDS},
            "mean_iou": mean(self.ious, weights),
            "cumulative_iou": both / union if union else 0.0,
        }


def grounding_scores(
    predictions: Sequence[Box | OrientedBox | None], answers: Sequence[Box | OrientedBox]
) -> GroundingScores:
    """Compares each box with its answer: upright boxes by their edges, turned ones as polygons, without a "+1".

    Areas are fractions of each image, so that all images weigh alike in the cumulative IoU whatever their size; where
    they are equally large, as in DIOR-RSVG, it is the same in pixels. None has no intersection, and the answer as its
    union. A box without area has an IoU of 0 with everything. Raises ValueError when the lengths differ.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"There are {len(predictions)} predictions for {len(answers)} answers.")
    read = np.array([box is not None for box in predictions], bool)
    both, union = np.zeros(len(answers)), areas(boxes_array(answers))
    both[read], union[read] = overlaps(
        boxes_array([box for box in predictions if box is not None]),
        boxes_array([answer for answer, box in zip(answers, predictions, strict=True) if box is not None]),
    )
    return GroundingScores(both, union, over_union(both, union))

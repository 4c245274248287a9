"""How well one box for one phrase fits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from earthgpt.types import Box, OrientedBox

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def grounding_scores(
    predictions: Sequence[Box | OrientedBox | None], answers: Sequence[Box | OrientedBox]
) -> dict[str, float]:
    """``pr_0.5`` .. ``pr_0.9``, ``mean_iou`` and ``cumulative_iou``, all in [0, 1].

    ``pr_t`` is the part of the predictions with an IoU of at least t, ``cumulative_iou`` the sum of the
    intersections over the sum of the unions, areas taken as fractions of each image: the definitions of MGVLF
    (Zhan et al., 2023), without a "+1" on sides. None has no intersection, and the answer as its union.
    NaN when there is nothing to compare. Raises ValueError when the lengths differ.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"There are {len(predictions)} predictions for {len(answers)} answers.")
    ious, overlap, union = [], 0.0, 0.0
    for box, answer in zip(predictions, answers, strict=True):
        iou = box.iou(answer) if box is not None else 0.0
        areas = answer.area + (box.area if box is not None else 0.0)
        ious.append(iou)
        overlap += areas * iou / (1 + iou)  # overlap + union = areas, and overlap = iou * union
        union += areas / (1 + iou)
    count = len(ious) or math.nan
    return {
        **{f"pr_{threshold}": sum(iou >= threshold for iou in ious) / count for threshold in THRESHOLDS},
        "mean_iou": sum(ious) / count,
        "cumulative_iou": overlap / union if union else 0.0 / count,
    }

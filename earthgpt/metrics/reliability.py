"""Whether a model is as sure as it is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def expected_calibration_error(scores: Sequence[float], right: Sequence[bool], bins: int = 15) -> float:
    """How far scores in [0, 1] are from the part of the answers that is right, in [0, 1]; NaN for no answers.

    Answers are put in ``bins`` of equal width by score, the last with 1 in it; the differences between mean score and
    accuracy of each are averaged, each bin by its number of answers (Guo et al., On Calibration of Modern Neural
    Networks, 2017, equation 3).
    Raises ValueError when the lengths differ and for a score outside [0, 1].
    """
    scores, right = np.asarray(scores, float), np.asarray(right, float)
    if scores.shape != right.shape:
        raise ValueError(f"There are {len(scores)} scores for {len(right)} answers.")
    if not len(scores):
        return float("nan")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("A score lies in [0, 1].")
    which = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = np.bincount(which, scores - right, bins)  # of each bin, times its number of answers
    return float(np.abs(gaps).sum() / len(scores))

"""Grounding metrics, worked out by hand."""

import math
import random

import numpy as np
import pytest

from earthgpt.metrics.grounding import grounding_scores
from earthgpt.types import Box, OrientedBox

QUARTER = Box(0, 0, 0.5, 0.5)
DIAMOND = OrientedBox(((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)))


def scores_of(predictions, answers, weights=None):
    return grounding_scores(predictions, answers).summary(weights)


def test_an_iou_of_exactly_the_threshold_counts():
    scores = scores_of([Box(0, 0, 0.5, 0.25)], [QUARTER])
    assert (scores["pr_50"], scores["pr_60"], scores["mean_iou"]) == (1, 0, 0.5)
    thirds = scores_of([Box(0, 0, 0.1, 0.3)], [Box(0, 0, 0.2, 0.3)])  # 0.03 / 0.06 is 0.49999999999999994
    assert (thirds["pr_50"], thirds["mean_iou"]) == (1, 0.5)


def test_cumulative_iou_divides_sums_of_areas():
    # Overlaps 0.125 + 0.01, unions 0.25 + 0.01: large boxes weigh more than in the mean of 1/2 and 1.
    small = Box(0.5, 0.5, 0.6, 0.6)
    scores = scores_of([Box(0, 0, 0.5, 0.25), small], [QUARTER, small])
    assert scores["cumulative_iou"] == pytest.approx(0.135 / 0.26)
    assert scores["mean_iou"] == pytest.approx(0.75)


def test_none_has_no_overlap_and_the_answer_as_its_union():
    scores = scores_of([QUARTER, None], [QUARTER, QUARTER])
    assert (scores["pr_90"], scores["mean_iou"], scores["cumulative_iou"]) == (0.5, 0.5, 0.5)
    assert set(scores_of([None, None], [DIAMOND, QUARTER]).values()) == {0.0}


def test_there_is_no_plus_one():
    # One pixel more on each side makes boxes in [0, 1] overlap wherever they are.
    apart = scores_of([Box(0, 0, 0.1, 0.1)], [Box(0.8, 0.8, 0.9, 0.9)])
    assert set(apart.values()) == {0.0}
    # With it this constant box in the middle is right for 0.3 of the small ones; without it for none.
    rng = random.Random(0)
    corners = [(rng.uniform(0, 0.9), rng.uniform(0, 0.9)) for _ in range(200)]
    answers = [Box(x, y, x + 0.1, y + 0.1) for x, y in corners]
    assert scores_of([Box(0.25, 0.25, 0.75, 0.75)] * 200, answers)["pr_50"] == 0
    # Nor where turned boxes are about: a thin line of them has the overlap of a line.
    thin = OrientedBox(((0.2, 0.2), (0.8, 0.8), (0.801, 0.799), (0.201, 0.199)))
    assert scores_of([thin], [Box(0, 0, 1, 1)])["mean_iou"] == pytest.approx(0.0012)


def test_oriented_boxes_are_compared_as_polygons():
    scores = scores_of([DIAMOND], [Box(0, 0, 1, 1)])
    assert scores["mean_iou"] == pytest.approx(0.5)
    assert scores["cumulative_iou"] == pytest.approx(0.5)


def test_scores_are_those_of_the_boxes_one_by_one():
    rng = random.Random(0)

    def box():
        (left, right), (top, bottom) = (sorted((rng.random(), rng.random())) for _ in range(2))
        return (
            Box(left, top, right, bottom) if rng.random() < 0.5 else OrientedBox(Box(left, top, right, bottom).corners)
        )

    predictions, answers = [box() for _ in range(100)], [box() for _ in range(100)]
    expected = [one.iou(other) for one, other in zip(predictions, answers, strict=True)]
    np.testing.assert_allclose(grounding_scores(predictions, answers).ious, expected, atol=1e-11)


def test_weights_choose_a_part():
    scores = scores_of([QUARTER, None, DIAMOND], [QUARTER, QUARTER, DIAMOND], np.array([1, 2, 0]))
    assert (scores["pr_50"], scores["cumulative_iou"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_boxes_without_area_score_zero():
    line = Box(0.2, 0.2, 0.2, 0.4)
    assert set(scores_of([line], [line]).values()) == {0.0}


def test_nothing_to_compare_is_nan():
    assert all(math.isnan(value) for value in scores_of([], []).values())


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="1 predictions for 0 answers"):
        grounding_scores([None], [])

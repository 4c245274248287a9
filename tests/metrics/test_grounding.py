"""Grounding metrics, worked out by hand."""

import math
import random

import pytest

from earthgpt.metrics.grounding import grounding_scores
from earthgpt.types import Box, OrientedBox

QUARTER = Box(0, 0, 0.5, 0.5)


def test_an_iou_of_exactly_the_threshold_counts():
    scores = grounding_scores([Box(0, 0, 0.5, 0.25)], [QUARTER])
    assert (scores["pr_0.5"], scores["pr_0.6"], scores["mean_iou"]) == (1, 0, 0.5)


def test_cumulative_iou_divides_sums_of_areas():
    # Overlaps 0.125 + 0.01, unions 0.25 + 0.01: large boxes weigh more than in the mean of 1/2 and 1.
    small = Box(0.5, 0.5, 0.6, 0.6)
    scores = grounding_scores([Box(0, 0, 0.5, 0.25), small], [QUARTER, small])
    assert scores["cumulative_iou"] == pytest.approx(0.135 / 0.26)
    assert scores["mean_iou"] == pytest.approx(0.75)


def test_none_has_no_overlap_and_the_answer_as_its_union():
    scores = grounding_scores([QUARTER, None], [QUARTER, QUARTER])
    assert (scores["pr_0.9"], scores["mean_iou"], scores["cumulative_iou"]) == (0.5, 0.5, 0.5)


def test_there_is_no_plus_one():
    # One pixel more on each side makes boxes in [0, 1] overlap wherever they are.
    apart = grounding_scores([Box(0, 0, 0.1, 0.1)], [Box(0.8, 0.8, 0.9, 0.9)])
    assert set(apart.values()) == {0.0}
    # With it this constant box in the middle is right for 0.3 of the small ones; without it for none.
    rng = random.Random(0)
    corners = [(rng.uniform(0, 0.9), rng.uniform(0, 0.9)) for _ in range(200)]
    answers = [Box(x, y, x + 0.1, y + 0.1) for x, y in corners]
    assert grounding_scores([Box(0.25, 0.25, 0.75, 0.75)] * 200, answers)["pr_0.5"] == 0


def test_oriented_boxes_are_compared_as_polygons():
    diamond = OrientedBox(((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)))
    scores = grounding_scores([diamond], [Box(0, 0, 1, 1)])
    assert scores["mean_iou"] == pytest.approx(0.5)
    assert scores["cumulative_iou"] == pytest.approx(0.5)


def test_boxes_without_area_score_zero():
    line = Box(0.2, 0.2, 0.2, 0.4)
    assert set(grounding_scores([line], [line]).values()) == {0.0}


def test_nothing_to_compare_is_nan():
    assert all(math.isnan(value) for value in grounding_scores([], []).values())


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="1 predictions for 0 answers"):
        grounding_scores([None], [])

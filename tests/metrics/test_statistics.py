"""Intervals, paired tests and chance, by hand and against what is known."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.metrics.statistics import (
    Difference,
    Interval,
    intervals,
    mcnemar,
    mean,
    mean_box,
    most_common,
    paired_test,
    resamples,
    shuffled,
)
from earthgpt.types import Box, OrientedBox


def figures(values):
    """The mean of some values as a function of weights."""
    return lambda weights: {"mean": mean(np.array(values, float), weights)}


def test_a_mean_is_weighted():
    assert mean(np.array([1.0, 2, 6]), np.array([0, 2, 1])) == pytest.approx(10 / 3)
    assert mean(np.array([True, False])) == 0.5
    assert math.isnan(mean(np.array([]))) and math.isnan(mean(np.array([1.0]), np.array([0])))


def test_a_resample_draws_as_many_as_there_are_and_the_same_for_the_same_seed():
    drawn = list(resamples(50, 20, seed=3))
    assert {int(weights.sum()) for weights in drawn} == {50}
    assert all((one == other).all() for one, other in zip(drawn, resamples(50, 20, seed=3), strict=True))
    assert any((one != other).any() for one, other in zip(drawn, resamples(50, 20, seed=4), strict=True))


def test_questions_about_one_image_are_drawn_together():
    for weights in resamples(6, 20, 0, ["a", "b", "a", "c", "c", "a"]):
        assert weights[0] == weights[2] == weights[5] and weights[3] == weights[4]
        assert weights[0] + weights[1] + weights[3] == 3
    with pytest.raises(ValueError, match="2 clusters for 3 questions"):
        next(resamples(3, 1, 0, ["a", "b"]))


def test_an_interval_is_that_of_the_normal_law_where_it_holds():
    # 400 right of 1000: 0.4 plus and minus 1.96 sqrt(0.24 / 1000) = 0.0304.
    (found,) = intervals(figures([1] * 400 + [0] * 600), 1000, rounds=4000).values()
    assert found.value == 0.4
    assert found.low == pytest.approx(0.4 - 0.0304, abs=0.003)
    assert found.high == pytest.approx(0.4 + 0.0304, abs=0.003)


def test_clusters_widen_an_interval():
    # Ten questions an image, all right or all wrong: as sure as a tenth of the questions.
    values = np.repeat([1, 0] * 50, 10)
    (alone,) = intervals(figures(values), 1000).values()
    (together,) = intervals(figures(values), 1000, np.repeat(range(100), 10).tolist()).values()
    assert together.high - together.low == pytest.approx(math.sqrt(10) * (alone.high - alone.low), rel=0.15)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_an_interval_holds_the_truth_as_often_as_it_says(level):
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        (found,) = intervals(figures(rng.normal(3, 1, 60)), 60, rounds=200, level=level, seed=seed).values()
        held += found.low <= 3 <= found.high
    assert held / 200 == pytest.approx(level, abs=0.08)


def test_resamples_without_a_figure_are_left_out():
    def found(weights):
        return {"of the first": mean(np.array([5.0]), None if weights is None else weights[:1]), "never": math.nan}

    drawn = intervals(found, 4)
    assert drawn["of the first"] == Interval(5, 5, 5)
    assert math.isnan(drawn["never"].low)
    assert intervals(found, 0) == intervals(found, 4, rounds=0) == {}


def test_a_run_does_not_differ_from_itself_and_differs_from_its_opposite():
    values = np.arange(40) % 4 == 0
    assert paired_test(figures(values), figures(values), 40)["mean"] == Difference(0, 0, 0, 1)
    found = paired_test(figures(~values), figures(values), 40)["mean"]
    assert found.value == 0.5 and found.low > 0.2
    assert found.probability == pytest.approx(2 / 1001)
    assert paired_test(figures([]), figures([]), 0) == paired_test(figures([1]), figures([1]), 1, rounds=0) == {}


def test_a_paired_test_is_wrong_as_often_as_it_says():
    rng = np.random.default_rng(0)
    small = 0
    for seed in range(300):
        one, other = rng.random((2, 80)) < 0.6
        small += paired_test(figures(one), figures(other), 80, rounds=200, seed=seed)["mean"].probability < 0.1
    assert 0.04 < small / 300 < 0.17


def test_mcnemar_worked_out_by_hand():
    # Better on 5 questions, worse on 1: 2 x (C(6,0) + C(6,1)) / 2^6 = 14 / 64; the two that agree say nothing.
    one, other = [1, 1, 1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1, 1, 0]
    assert mcnemar(one, other) == mcnemar(other, one) == pytest.approx(14 / 64)
    assert mcnemar([1, 0], [1, 0]) == mcnemar([1, 0], [0, 1]) == mcnemar([], []) == 1
    assert mcnemar([1] * 5000, [0] * 5000) == 0.0  # too small for a float
    with pytest.raises(ValueError, match="1 outcomes of one run and 0"):
        mcnemar([1], [])


@given(st.lists(st.integers(0, 3), min_size=1))
def test_the_most_common_answer_is_right_most_often(answers):
    assert answers.count(most_common(answers)) == max(map(answers.count, answers))


def test_of_equally_common_answers_the_first_is_taken():
    assert most_common(["b", "a", "a", "b"]) == "b"
    with pytest.raises(ValueError, match="no answers"):
        most_common([])


@given(st.lists(st.integers()), st.integers(0, 9))
def test_shuffled_answers_are_the_same_answers(answers, seed):
    assert sorted(shuffled(answers, seed)) == sorted(answers)
    assert shuffled(answers, seed) == shuffled(answers, seed)


def test_the_constant_box_has_the_mean_edges():
    diamond = OrientedBox(((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)))
    assert mean_box([Box(0, 0, 0.5, 0.25), diamond]) == Box(0, 0, 0.75, 0.625)
    rng = random.Random(0)
    boxes = [Box(0, 0, rng.random(), rng.random()) for _ in range(100)]
    assert mean_box(boxes) == mean_box(boxes[::-1])
    with pytest.raises(ValueError, match="no boxes"):
        mean_box([])

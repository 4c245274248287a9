"""Calibration by hand."""

import math

import pytest

from earthgpt.metrics.reliability import expected_calibration_error


def test_the_error_by_hand():
    # Of ten bins: 0.25 twice, one right (0.25 off), and 0.9 and 1.0, both right (0.05 off).
    assert expected_calibration_error([0.25, 0.25, 0.9, 1.0], [True, False, True, True], 10) == pytest.approx(0.15)
    # In one bin they make up for each other.
    assert expected_calibration_error([0.0, 1.0], [True, False], 1) == pytest.approx(0)
    assert expected_calibration_error([0.0, 1.0], [True, False], 2) == pytest.approx(1)


def test_a_model_that_is_as_sure_as_it_is_right_has_none():
    scores = [0.75] * 400
    assert expected_calibration_error(scores, [i % 4 > 0 for i in range(400)]) == pytest.approx(0)


def test_what_cannot_be_measured():
    assert math.isnan(expected_calibration_error([], []))
    with pytest.raises(ValueError, match="2 scores for 1"):
        expected_calibration_error([0.1, 0.2], [True])
    for wrong in (1.2, -0.1, math.nan):
        with pytest.raises(ValueError, match="in \\[0, 1\\]"):
            expected_calibration_error([wrong], [True])

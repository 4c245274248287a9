"""Accuracy of short answers."""

import math

import pytest

from earthgpt.metrics.accuracy import accuracy, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  Ships. ", "ships"),
        ("storage_tank", "storage tank"),
        ("Baseball-Diamond!", "baseball diamond"),
        ("zero", "0"),
        ("Twenty", "20"),
        ("twenty-one", "20 1"),
        ("1,200", "1200"),
        ("0.5 m", "0.5 m"),
        ("-3", "-3"),
        ("12.", "12"),
        ("A", "a"),
        ("an A", "an a"),
        ("...", ""),
    ],
)
def test_a_text_is_normalised(text, expected):
    assert normalise(text) == expected


def test_accuracy_is_the_part_that_is_right():
    assert accuracy(["Twelve.", "the harbor", "no", None], ["12", "Harbor", "yes", "no"]) == 0.5


def test_nothing_to_compare_is_nan():
    assert math.isnan(accuracy([], []))


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="1 predictions for 2 answers"):
        accuracy(["a"], ["a", "b"])

"""Accuracy of short answers by both policies."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgpt.metrics.accuracy import (
    accuracy,
    accuracy_by,
    answer_scores,
    confusion_matrix,
    lenient,
    number,
    right,
    strict,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Harbor. ", "harbor"),
        ("Storage_Tank", "storage_tank"),
        ("The  Ships", "the  ships"),
        ("No .", "no"),
        (".", ""),
    ],
)
def test_the_strict_form(text, expected):
    assert strict(text) == expected


@pytest.mark.parametrize(
    "texts",
    [
        ("  The  Ships. ", "ship"),
        ("storage_tank", "StorageTanks", "Storage tank!", "storage-tanks"),
        ("Baseball-Diamond!", "baseball diamond", "BaseballDiamond"),
        ("0", "zero", "Zero."),
        ("21", "twenty-one", "Twenty one"),
        ("105", "one hundred and five", "a hundred five"),
        ("2342", "two thousand, three hundred and forty-two", "2,342"),
        ("1200", "1,200", "twelve hundred"),
        ("yes", "Yes.", "yes, there is a ship", "True", "yeah!"),
        ("no", "No.", "No, there are none", "nope", "FALSE"),
        ("harbour", "Harbors"),
        ("city centre", "CityCenter"),
        ("house", "houses"),
        ("church", "churches"),
        ("ferry", "ferries"),
        ("bus", "buses"),
        ("class", "classes"),
        ("person", "people"),
        ("sports field", "SportsFields"),
    ],
)
def test_texts_of_one_lenient_form(texts):
    assert len({lenient(text) for text in texts}) == 1


@pytest.mark.parametrize(
    "texts",
    [
        ("1 2", "12"),
        ("one two", "3", "12"),
        ("-3", "3"),
        ("0.5", "5", "05"),
        ("ship", "boat", "shipyard"),
        ("yes", "no", "yes or no", "nothing"),
        ("no ships", "no"),
        ("yes there is a ship", "yes"),
        ("top left", "top right", "left"),
        ("12 m", "12"),
        ("plan", "plane"),
        ("bus", "bush"),
    ],
)
def test_texts_of_different_lenient_forms(texts):
    assert len({lenient(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(("text", "expected"), [("A", "a"), ("an A", "ana"), ("...", ""), ("Is", "is")])
def test_articles_alone_and_short_words_stay(text, expected):
    assert lenient(text) == expected


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "Z"))))
def test_what_is_strictly_equal_is_leniently_equal(text):
    assert lenient(strict(text)) == lenient(text)
    assert lenient(f"  {text.upper().lower()}") == lenient(text.upper().lower())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There are twelve ships.", 12),
        ("12", 12),
        ("none", 0),
        ("There are no ships.", 0),
        ("No, there are 3.", 3),
        ("about 1,250", 1250),
        ("-2.5", -2.5),
        ("3 ships, so three", 3),
        ("2 or 3", None),
        ("many", None),
        ("someone often", None),
        ("", None),
        ("9" * 400, None),
    ],
)
def test_a_number_is_read_in_digits_or_words(text, expected):
    assert number(text) == expected


def test_accuracy_is_the_part_that_is_right():
    said, true = ["Twelve.", "the harbor", "no", None], ["12", "Harbor", "yes", "no"]
    assert right(said, true).tolist() == [True, True, False, False]
    assert (accuracy(said, true), accuracy(said, true, strict)) == (0.5, 0)


def test_both_policies_are_reported():
    scores = answer_scores(["Storage Tanks", "harbor.", None, "ship"], ["storage_tank", "Harbor", "ship", "ship"])
    assert scores.accuracy() == {"accuracy_strict": 0.5, "accuracy_lenient": 0.75}
    # Classes: storage_tank 0 or 1 of 1, Harbor 1 of 1, ship 1 of 2.
    assert scores.average_accuracy() == pytest.approx(
        {"average_accuracy_strict": 0.5, "average_accuracy_lenient": 2.5 / 3}
    )


def test_weights_choose_a_part():
    scores = answer_scores(["1", "b", "c", "1"], ["1", "b", "b", "3"])
    assert scores.accuracy(np.array([0, 1, 2, 0]))["accuracy_lenient"] == pytest.approx(1 / 3)
    assert scores.average_accuracy(np.array([1, 1, 2, 0]))["average_accuracy_lenient"] == pytest.approx((1 + 1 / 3) / 2)
    assert scores.counting(np.array([0, 1, 0, 1])) == {"count_accuracy": 0, "count_mae": 2, "count_unread": 0}
    assert math.isnan(scores.accuracy(np.zeros(4, int))["accuracy_strict"])


def test_counts_are_scored_as_numbers_and_apart():
    said, true = ["two", "There are 7 ships.", None, "many", "yes", "zero"], ["2", "ten", "4", "5", "yes", "no"]
    # Numbers are asked for four times: errors 0 and 3, two unread; "yes" and "no" are no numbers.
    scores = answer_scores(said, true)
    np.testing.assert_array_equal(scores.counts, [2, 10, 4, 5, NAN, NAN])
    assert scores.counting() == {"count_accuracy": 0.25, "count_mae": 1.5, "count_unread": 0.5}
    assert answer_scores([None], ["3"]).counting() == {"count_accuracy": 0, "count_unread": 1}
    assert answer_scores(["a"], ["b"]).counting() == {}


def test_accuracy_of_each_class_and_kind():
    assert accuracy_by(np.array([True, False, True]), ["ship", "ship", "car"]) == {"ship": 0.5, "car": 1}
    assert accuracy_by(np.array([], bool), []) == {}


def test_the_confusion_matrix_counts_what_was_taken_for_what():
    said, true = ["Ships", "car", "tank", None, "car"], ["ship", "ship", "ship", "car", "car"]
    found = confusion_matrix(said, true)
    assert found.classes == ("car", "ship")
    assert found.counts.tolist() == [[1, 0, 1], [1, 1, 1]]
    assert confusion_matrix(said, true, ("ship", "tank", "car")).counts.tolist() == [
        [1, 1, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 1],
    ]


def test_the_diagonal_of_the_confusion_matrix_is_the_accuracy():
    rng = np.random.default_rng(0)
    said, true = (rng.choice(["ship", "Ships", "car", "tank"], 50).tolist() for _ in range(2))
    found = confusion_matrix(said, true)
    assert found.counts.sum() == 50
    assert np.trace(found.counts) / 50 == accuracy(said, true)


def test_nothing_to_compare_is_nan():
    assert math.isnan(accuracy([], []))
    scores = answer_scores([], [])
    assert all(math.isnan(value) for value in (*scores.accuracy().values(), *scores.average_accuracy().values()))
    assert scores.counting() == {}


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="1 predictions for 2 answers"):
        accuracy(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="0 predictions for 1 answers"):
        confusion_matrix([], ["a"])
    with pytest.raises(ValueError, match="'b' is none of the classes a, c"):
        confusion_matrix(["a"], ["b"], ("a", "c"))
    with pytest.raises(ValueError, match="must differ"):
        confusion_matrix(["ship"], ["ship"], ("ship", "Ships"))

"""Caption metrics, worked out by hand."""

import math

import pytest

from earthgpt.metrics.captions import caption_scores, words


def test_words_are_lower_case_without_punctuation():
    assert words("A ship's wake, in the North-East (2.5 km).") == [
        "a",
        "ship's",
        "wake",
        "in",
        "the",
        "north-east",
        "2.5",
        "km",
    ]


def test_bleu_counts_a_word_as_often_as_a_reference_has_it():
    # Words: the twice, ship once of twice: 3 of 4. Pairs: "the ship" once of 3. Length 4 for 5: exp(1 - 5 / 4).
    scores = caption_scores(["the ship the ship"], [["the ship in the harbor"]])
    assert scores["bleu_1"] == pytest.approx(3 / 4 * math.exp(-1 / 4))
    assert scores["bleu_2"] == pytest.approx(math.sqrt(3 / 4 * 1 / 3) * math.exp(-1 / 4))
    assert scores["bleu_4"] < 1e-3


def test_bleu_takes_the_closest_reference_length_and_of_two_the_shorter():
    assert caption_scores(["a b c"], [["a b", "c d e f"]])["bleu_1"] == pytest.approx(1)


def test_bleu_adds_up_counts_over_the_corpus():
    # 1 of 1 and 1 of 3 words are 2 of 4, not the mean of 1 and 1/3.
    assert caption_scores(["a", "b c d"], [["a"], ["b x y"]])["bleu_1"] == pytest.approx(0.5)


def test_rouge_l_is_the_f_of_the_longest_common_subsequence():
    # "a c d": precision 3/4, recall 3/5; 2.44 x 0.45 / (0.6 + 1.44 x 0.75)
    assert caption_scores(["a b c d"], [["a c d e f"]])["rouge_l"] == pytest.approx(1.098 / 1.68)


def test_rouge_l_takes_the_best_precision_and_the_best_recall():
    # Precision 2/2 with the first reference, recall 1/1 with the second.
    assert caption_scores(["a b"], [["a b c d", "a"]])["rouge_l"] == pytest.approx(1)


def test_cider_d_of_the_reference_itself_is_ten():
    captions = ["a ship in the harbor", "many cars on the road"]
    assert caption_scores(captions, [[caption] for caption in captions])["cider_d"] == pytest.approx(10)


def test_cider_d_clips_repeated_words_and_punishes_length():
    # First: min(2 L, L) L / (2 L x L) = 1/2 of the single words, a quarter of the score, one word too long.
    # Second: all of the single words; neither has longer n-grams.
    first, second = 10 / 4 * 0.5 * math.exp(-1 / 72), 10 / 4
    scores = caption_scores(["ship ship", "car"], [["ship"], ["car"]])
    assert scores["cider_d"] == pytest.approx((first + second) / 2)


def test_cider_d_gives_nothing_for_words_said_of_every_image():
    assert caption_scores(["a", "a"], [["a ship"], ["a car"]])["cider_d"] == 0


def test_several_references_share_the_cider_d():
    assert caption_scores(["ship", "car"], [["ship", "boat"], ["car"]])["cider_d"] == pytest.approx((1.25 + 2.5) / 2)


def test_an_empty_text_scores_nothing():
    assert max(caption_scores(["", ""], [["a ship"], ["a car"]]).values()) == pytest.approx(0, abs=1e-6)


def test_nothing_to_compare_is_nan():
    assert all(math.isnan(value) for value in caption_scores([], []).values())


def test_lengths_that_differ_and_missing_references_are_refused():
    with pytest.raises(ValueError, match="1 texts for 0"):
        caption_scores(["a"], [])
    with pytest.raises(ValueError, match="at least one reference"):
        caption_scores(["a"], [[]])

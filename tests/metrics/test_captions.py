"""Caption metrics, worked out by hand and against pycocoevalcap."""

import contextlib
import io
import math
import random
import shutil

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from earthgpt.metrics import captions
from earthgpt.metrics.captions import caption_scores, token_scores, tokenize
from earthgpt.types import EarthGPTError

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR and the PTB tokenizer are Java programs.")


def scores_of(texts, references, weights=None):
    return caption_scores(texts, references).summary(weights)


def by_pycocoevalcap(said, true) -> dict[str, float]:
    """The same by the reference implementation, on the same tokens."""
    texts = {i: [" ".join(text)] for i, text in enumerate(said)}
    references = {i: [" ".join(reference) for reference in group] for i, group in enumerate(true)}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu = Bleu(4).compute_score(references, texts)[0]
        rouge, cider = (metric.compute_score(references, texts)[0] for metric in (Rouge(), Cider()))
    return {**{f"bleu_{i}": value for i, value in enumerate(bleu, 1)}, "rouge_l": rouge, "cider_d": cider}


@pytest.mark.parametrize("vocabulary", [2, 8, 60])
@pytest.mark.parametrize("seed", range(4))
def test_the_scores_are_those_of_pycocoevalcap(seed, vocabulary):
    rng = random.Random(seed)

    def text(shortest):
        return [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randrange(shortest, 14))]

    true = [[text(1) for _ in range(rng.randrange(1, 6))] for _ in range(40)]
    # Some texts are empty, of one word, longer than a machine word has bits, or a reference with a word exchanged.
    said = [text(0) for _ in range(20)] + [[*group[0][:-1], "w0"] for group in true[20:]]
    said[:3] = [], ["w1"], [f"w{rng.randrange(vocabulary)}" for _ in range(100)]
    ours = token_scores(said, true)
    assert ours.summary() == pytest.approx(by_pycocoevalcap(said, true), abs=1e-9)
    # Counted once each or drawn in any way: the same as of that list, but for what CIDEr-D takes for rare.
    chosen = [rng.randrange(40) for _ in range(40)]
    drawn = ours.summary(np.bincount(chosen, minlength=40))
    expected = by_pycocoevalcap([said[i] for i in chosen], [true[i] for i in chosen])
    del drawn["cider_d"], expected["cider_d"]
    assert drawn == pytest.approx(expected, abs=1e-9)


def test_words_are_lower_case_without_punctuation():
    assert tokenize(["A ship's wake, in the North-East (2.5 km).", ""]) == [
        ["a", "ship's", "wake", "in", "the", "north-east", "2.5", "km"],
        [],
    ]


@needs_java
def test_the_ptb_tokenizer_keeps_texts_and_lines_in_step():
    texts = ["There's a ship .", "", "Two\nlines, one text (really)", "  ", "." * 3, "north-east"]
    assert tokenize(texts, "ptb") == [
        ["there", "'s", "a", "ship"],
        [],
        ["two", "lines", "one", "text", "-lrb-", "really", "-rrb-"],
        [],
        [],
        ["north-east"],
    ]
    assert tokenize(["", " "], "ptb") == [[], []]
    assert caption_scores(["There's a ship."], [["there 's a ship"]], "ptb").summary()["bleu_4"] == pytest.approx(1)


@needs_java
@pytest.mark.slow
def test_meteor_falls_with_a_text_without_words_and_is_of_all_captions_together():
    # Half of the words are found, in one chunk: between the score of nothing and that of the reference itself.
    captions = ["two ships lie in the harbor", "cars on a road"]
    scores = caption_scores([captions[0], ""], [[caption] for caption in captions], meteor=True)
    assert 0.2 < scores.summary()["meteor"] < 0.9
    assert set(scores.left_out) == {"spice"}
    assert "meteor" not in scores.summary(np.array([1, 1]))


def test_what_is_left_out_says_why(monkeypatch):
    assert set(caption_scores(["a"], [["a"]]).left_out) == {"meteor", "spice"}
    monkeypatch.setattr(captions.shutil, "which", lambda name: None)
    scores = caption_scores(["a"], [["a"]], meteor=True)
    assert "no Java" in scores.left_out["meteor"] and "meteor" not in scores.summary()
    with pytest.raises(EarthGPTError, match="'ptb' cannot be used: there is no Java"):
        caption_scores(["a"], [["a"]], "ptb")
    monkeypatch.setattr(captions, "find_spec", lambda name: None)
    assert "not installed" in caption_scores(["a"], [["a"]], meteor=True).left_out["meteor"]
    with pytest.raises(ValueError, match="one of plain, ptb; not 'word'"):
        tokenize([], "word")


def test_bleu_counts_a_word_as_often_as_a_reference_has_it():
    # Words: the twice, ship once of twice: 3 of 4. Pairs: "the ship" once of 3. Length 4 for 5: exp(1 - 5 / 4).
    scores = scores_of(["the ship the ship"], [["the ship in the harbor"]])
    assert scores["bleu_1"] == pytest.approx(3 / 4 * math.exp(-1 / 4))
    assert scores["bleu_2"] == pytest.approx(math.sqrt(3 / 4 * 1 / 3) * math.exp(-1 / 4))
    assert scores["bleu_4"] < 1e-3


def test_bleu_takes_the_closest_reference_length_and_of_two_the_shorter():
    assert scores_of(["a b c"], [["a b", "c d e f"]])["bleu_1"] == pytest.approx(1)


def test_bleu_adds_up_counts_over_the_corpus():
    # 1 of 1 and 1 of 3 words are 2 of 4, not the mean of 1 and 1/3.
    assert scores_of(["a", "b c d"], [["a"], ["b x y"]])["bleu_1"] == pytest.approx(0.5)


def test_rouge_l_is_the_f_of_the_longest_common_subsequence():
    # "a c d": precision 3/4, recall 3/5; 2.44 x 0.45 / (0.6 + 1.44 x 0.75)
    assert scores_of(["a b c d"], [["a c d e f"]])["rouge_l"] == pytest.approx(1.098 / 1.68)


def test_rouge_l_takes_the_best_precision_and_the_best_recall():
    # Precision 2/2 with the first reference, recall 1/1 with the second.
    assert scores_of(["a b"], [["a b c d", "a"]])["rouge_l"] == pytest.approx(1)


def test_cider_d_of_the_reference_itself_is_ten():
    captions = ["a ship in the harbor", "many cars on the road"]
    assert scores_of(captions, [[caption] for caption in captions])["cider_d"] == pytest.approx(10)


def test_cider_d_clips_repeated_words_and_punishes_length():
    # First: min(2 L, L) L / (2 L x L) = 1/2 of the single words, a quarter of the score, one word too long.
    # Second: all of the single words; neither has longer n-grams.
    first, second = 10 / 4 * 0.5 * math.exp(-1 / 72), 10 / 4
    scores = scores_of(["ship ship", "car"], [["ship"], ["car"]])
    assert scores["cider_d"] == pytest.approx((first + second) / 2)


def test_cider_d_gives_nothing_for_words_said_of_every_image():
    assert scores_of(["a", "a"], [["a ship"], ["a car"]])["cider_d"] == 0


def test_several_references_share_the_cider_d():
    assert scores_of(["ship", "car"], [["ship", "boat"], ["car"]])["cider_d"] == pytest.approx((1.25 + 2.5) / 2)


def test_an_empty_text_scores_nothing():
    assert max(scores_of(["", None], [["a ship"], ["a car"]]).values()) == pytest.approx(0, abs=1e-6)


def test_nothing_to_compare_is_nan():
    assert all(math.isnan(value) for value in scores_of([], []).values())


def test_lengths_that_differ_and_missing_references_are_refused():
    with pytest.raises(ValueError, match="1 texts for 0"):
        scores_of(["a"], [])
    with pytest.raises(ValueError, match="at least one reference"):
        scores_of(["a"], [[]])

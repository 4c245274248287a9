"""Right or wrong: answers in a word, a phrase or a number.

An answer is compared by one of two policies, and both figures are always given, for they may differ by 20 points on
the same answers:

- **strict**: equal but for case, white space around and one full stop at the end.
- **lenient**: equal after these steps, on both sides:
  1. lower case; punctuation is dropped (``storage_tank`` is ``storage tank``), but not the point of a decimal number
     and the minus of a negative one; ``1,200`` is ``1200``;
  2. ``yes``, ``yeah``, ``yep`` and ``true`` are ``yes``, ``no``, ``nope`` and ``false`` are ``no``: alone, or before
     a punctuation mark, whatever follows it (``Yes, there is a ship.``);
  3. the articles ``a``, ``an`` and ``the`` go, unless nothing else is left;
  4. number words are digits: ``twelve``, ``twenty-one``, ``one hundred and five``, up to the thousands;
  5. British and American spelling are one (``harbour``, ``centre``, ``grey``, ``aeroplane``);
  6. spaces between letters go (``Baseball Field`` is ``BaseballField``);
  7. singular and plural are one, told by the end of the last word (``ships``, ``churches``, ``ferries``, ``people``).

Neither looks for an answer inside a longer one, and neither knows synonyms: ``boat`` is no ``ship``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from earthgpt.metrics.statistics import mean

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
_SMALL, _TENS = _WORDS.split()[:20], _WORDS.split()[20:]
_VALUES = {word: i for i, word in enumerate(_SMALL)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
_BELOW_100 = f"(?:(?:{'|'.join(_TENS)})(?: (?:{'|'.join(_SMALL[1:10])}))?|{'|'.join(_SMALL)})"
_BELOW_1000 = f"(?:(?:{_BELOW_100} )?hundred(?:(?: and)? {_BELOW_100})?|{_BELOW_100})"
_SPELLED = re.compile(rf"\b(?:(?:{_BELOW_1000} )?thousand(?:(?: and)? {_BELOW_1000})?|{_BELOW_1000})\b")
_NOTHING = ("no", "none", "nothing")
_ARTICLES = ("a", "an", "the")
_SPELLINGS = {"harbour": "harbor", "centre": "center", "grey": "gray", "aeroplane": "airplane", "people": "person"}
_YES_OR_NO = re.compile(r"\s*(?:(yes|yeah|yep|true)|no|nope|false)\s*(?:[^\w\s].*)?", re.DOTALL)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
# All but letters, digits, the point of a decimal number and the minus of a negative one.
_PUNCTUATION = re.compile(r"[^\w\s.-]|_|\.(?!\d)|(?<=\w)-|-(?!\d)")
_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d]) (?=[^\W\d])")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

Form = Callable[[str], str]


def strict(text: str) -> str:
    """The text as the strict policy compares it; see the module."""
    return text.strip().removesuffix(".").rstrip().casefold()


def lenient(text: str) -> str:
    """The text as the lenient policy compares it; see the module."""
    text = text.casefold()
    if told := _YES_OR_NO.fullmatch(text):
        return "yes" if told[1] else "no"
    spelled = [_SPELLINGS.get(word, word) for word in _plain(text).split()]
    joined = _BETWEEN_LETTERS.sub("", " ".join(spelled))
    return " ".join(map(_without_plural, joined.split()))


def number(text: str) -> float | None:
    """The number that a text states, in digits or words: ``There are twelve ships.`` is 12, ``none`` is 0.

    None when it states no number, two different ones, or one beyond all bounds.
    """
    words = _plain(text.casefold()).split()
    found = {value for word in words if _NUMBER.fullmatch(word) and math.isfinite(value := float(word))}
    if not found and not set(words).isdisjoint(_NOTHING):
        return 0.0
    return found.pop() if len(found) == 1 else None


def right(predictions: Sequence[str | None], answers: Sequence[str], form: Form = lenient) -> np.ndarray:
    """Whether each prediction equals its answer in the given form, [N] of bool. None is wrong.

    Raises ValueError when the lengths differ.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"There are {len(predictions)} predictions for {len(answers)} answers.")
    pairs = zip(predictions, answers, strict=True)
    return np.array([text is not None and form(text) == form(answer) for text, answer in pairs], bool)


def accuracy(predictions: Sequence[str | None], answers: Sequence[str], form: Form = lenient) -> float:
    """Top-1 or overall accuracy: the part of the predictions, in [0, 1], that are right. None is wrong.

    NaN when there is nothing to compare. Raises ValueError when the lengths differ.
    """
    return mean(right(predictions, answers, form))


def accuracy_by(outcomes: np.ndarray, groups: Sequence[Hashable]) -> dict[Hashable, float]:
    """The accuracy in [0, 1] of each group: of each class when ``groups`` are the true answers, of each question type
    when they are the kinds. ``outcomes`` are those of ``right``. Groups come in order of appearance.
    """
    names = list(dict.fromkeys(groups))
    numbers = {name: i for i, name in enumerate(names)}
    members = np.array([numbers[name] for name in groups], int)
    hits, counts = np.bincount(members, outcomes, len(names)), np.bincount(members, minlength=len(names))
    return dict(zip(names, (hits / counts).tolist(), strict=True))


@dataclass(frozen=True)
class ConfusionMatrix:
    """``counts[i, j]``: how often a question whose answer is class i was answered with class j, [C, C + 1].

    The last column counts answers that are None or no class of the list.
    """

    classes: tuple[str, ...]
    counts: np.ndarray


def confusion_matrix(
    predictions: Sequence[str | None], answers: Sequence[str], classes: Sequence[str] = (), form: Form = lenient
) -> ConfusionMatrix:
    """What is taken for what. ``classes`` are those that occur in the answers, sorted, unless given.

    Raises ValueError when the lengths differ, two classes have one form, or an answer is no class.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"There are {len(predictions)} predictions for {len(answers)} answers.")
    names = tuple(classes) or tuple(sorted({form(answer): answer for answer in reversed(answers)}.values()))
    places = {form(name): i for i, name in enumerate(names)}
    if len(places) < len(names):
        raise ValueError(f"Classes must differ in the form they are compared in: {', '.join(names)}.")
    counts = np.zeros((len(names), len(names) + 1), int)
    for text, answer in zip(predictions, answers, strict=True):
        if form(answer) not in places:
            raise ValueError(f"The answer {answer!r} is none of the classes {', '.join(names)}.")
        counts[places[form(answer)], -1 if text is None else places.get(form(text), -1)] += 1
    return ConfusionMatrix(names, counts)


@dataclass(frozen=True)
class AnswerScores:
    """What ``answer_scores`` finds for each question, all [N].

    ``strict`` and ``lenient`` are whether it is right by each policy. ``classes`` number the true answers, of one
    lenient form one number. ``counts`` are the true numbers, NaN where the true answer is no number; ``stated`` those
    of the predictions, NaN where none can be read.
    """

    strict: np.ndarray
    lenient: np.ndarray
    classes: np.ndarray
    counts: np.ndarray
    stated: np.ndarray

    def accuracy(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """``accuracy_strict`` and ``accuracy_lenient`` in [0, 1]; NaN when there is nothing to compare.

        ``weights`` say how often each question counts.
        """
        return {f"accuracy_{name}": mean(hits, weights) for name, hits in self._policies()}

    def average_accuracy(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """``average_accuracy_strict`` and ``_lenient``: accuracies of the single classes, averaged over the classes
        that occur; in [0, 1], NaN when there is nothing to compare.
        """
        present = np.bincount(self.classes, weights)
        figures = {}
        for name, hits in self._policies():
            found = np.bincount(self.classes, hits if weights is None else hits * weights)
            figures[f"average_accuracy_{name}"] = mean(found[present > 0] / present[present > 0])
        return figures

    def counting(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Figures of the questions whose true answer is a number; empty when there are none.

        ``count_accuracy`` in [0, 1] is the part that states that number in digits or words, ``count_mae`` the mean
        absolute error over those that state a number (left out when none of all does), ``count_unread`` in [0, 1] the
        part that does not: look at both, for who answers only what is easy has a small error.
        """
        asked = ~np.isnan(self.counts)
        if not asked.any():
            return {}
        times = np.ones(len(asked), int) if weights is None else weights
        read = asked & ~np.isnan(self.stated)
        error = {"count_mae": mean(np.abs(self.counts - self.stated)[read], times[read])} if read.any() else {}
        return {
            "count_accuracy": mean((self.counts == self.stated)[asked], times[asked]),
            **error,
            "count_unread": mean(~read[asked], times[asked]),
        }

    def _policies(self) -> tuple[tuple[str, np.ndarray], ...]:
        return ("strict", self.strict), ("lenient", self.lenient)


def answer_scores(predictions: Sequence[str | None], answers: Sequence[str]) -> AnswerScores:
    """Compares answers in words by both policies, and as numbers. None is unread and wrong.

    Raises ValueError when the lengths differ.
    """
    numbers: dict[str, int] = {}
    forms = [lenient(answer) for answer in answers]
    return AnswerScores(
        right(predictions, answers, strict),
        right(predictions, answers, lenient),
        np.array([numbers.setdefault(form, len(numbers)) for form in forms], int),
        _floats([float(form) if _NUMBER.fullmatch(form) else None for form in forms]),
        _floats([None if text is None else number(text) for text in predictions]),
    )


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], float)


def _plain(text: str) -> str:
    """A text in lower case without punctuation and articles, numbers in digits, single spaces."""
    words = _PUNCTUATION.sub(" ", _THOUSANDS.sub("", text)).split()
    kept = [word for word in words if word not in _ARTICLES] or words
    return _SPELLED.sub(lambda found: str(_value(found[0])), " ".join(kept))


def _value(words: str) -> int:
    """The number that number words state."""
    total = part = 0
    for word in words.split():
        if word == "hundred":
            part = (part or 1) * 100
        elif word == "thousand":
            total, part = (part or 1) * 1000, 0
        elif word != "and":
            part += _VALUES[word]
    return total + part


def _without_plural(word: str) -> str:
    """The word without what a plural may have put at its end, the same for both; short words stay as they are."""
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us"))
    stem = word[:-1] if plural else word
    if stem.endswith("ie"):
        return stem[:-2] + "y"
    return stem[:-1] if stem.endswith(("se", "xe", "ze", "che", "she", "oe")) else stem

"""Right or wrong: answers in a word or a phrase."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_ARTICLES = ("a", "an", "the")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
# All but letters, digits, the point of a decimal number and the minus of a negative one.
_PUNCTUATION = re.compile(r"[^\w\s.-]|_|\.(?!\d)|(?<=\w)-|-(?!\d)")


def normalise(text: str) -> str:
    """The text as it is compared: lower case, no punctuation, no articles, single spaces, numbers in digits.

    ``storage_tank`` is ``storage tank``, ``The Ships.`` is ``ships``, ``1,200`` is ``1200``, and ``zero`` to
    ``twenty`` are ``0`` to ``20``. A text of articles alone is kept: ``A`` may be the answer to a choice.
    """
    words = _PUNCTUATION.sub(" ", _THOUSANDS.sub("", text.lower())).split()
    kept = [word for word in words if word not in _ARTICLES]
    return " ".join(_DIGITS.get(word, word) for word in kept or words)


def accuracy(predictions: Sequence[str | None], answers: Sequence[str]) -> float:
    """Part of the predictions, in [0, 1], that equal the answer once both are normalised.

    None is wrong. NaN when there is nothing to compare. Raises ValueError when the lengths differ.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"There are {len(predictions)} predictions for {len(answers)} answers.")
    if not answers:
        return math.nan
    pairs = zip(predictions, answers, strict=True)
    return sum(text is not None and normalise(text) == normalise(answer) for text, answer in pairs) / len(answers)

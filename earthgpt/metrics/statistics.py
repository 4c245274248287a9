"""How sure a figure is, whether two runs differ, and what answers that never saw an image would score.

A ``Figures`` is a function of weights, [N]: how often each of N questions counts. Ones give the figures of the set, the
numbers of a resample those of the resample, and ones and zeros those of a part: one kind, one class. Every metric of
this package has such a function (``summary``), so that what is expensive is worked out once for all resamples.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from earthgpt.types import Box, OrientedBox

Value = TypeVar("Value")
Figures = Callable[[np.ndarray | None], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure of the whole set and the ends of its interval, in the unit of the figure; NaN when there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One run minus another: the difference of a figure, its interval, and how likely one so large is by chance."""

    value: float
    low: float
    high: float
    probability: float


def mean(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The weighted mean; NaN when there are no values or all weights are 0."""
    if weights is None:
        return float(np.mean(values)) if len(values) else math.nan
    total = weights.sum()
    return float(weights @ values / total) if total else math.nan


def resamples(count: int, rounds: int, seed: int, clusters: Sequence[Hashable] | None = None) -> Iterator[np.ndarray]:
    """How often each of ``count`` questions is drawn, [count], in each of ``rounds`` draws with replacement.

    ``clusters`` names the image of each question: questions about one image are drawn together, for they are not
    independent. Without it each question is its own. Equal arguments give equal draws.
    Raises ValueError when the length of ``clusters`` is not ``count``.
    """
    if clusters is not None and len(clusters) != count:
        raise ValueError(f"There are {len(clusters)} clusters for {count} questions.")
    numbers: dict[Hashable, int] = {}
    members = np.array([numbers.setdefault(name, len(numbers)) for name in clusters or range(count)], int)
    rng = np.random.default_rng(seed)
    groups = len(numbers)
    for _ in range(rounds):
        yield np.bincount(rng.integers(groups, size=groups), minlength=groups)[members]


def intervals(
    figures: Figures,
    count: int,
    clusters: Sequence[Hashable] | None = None,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals (Efron, 1979) of all figures over ``count`` questions; see ``resamples``.

    A figure that some resamples do not have (NaN: none of its class was drawn) is judged by the others. A figure that
    only the whole set has (METEOR) gets no interval. Empty when ``count`` or ``rounds`` is 0.
    """
    if not count or not rounds:
        return {}
    whole = figures(None)
    drawn = [figures(weights) for weights in resamples(count, rounds, seed, clusters)]
    return {name: Interval(whole[name], *_ends([one[name] for one in drawn], level)) for name in drawn[0]}


def paired_test(
    one: Figures,
    other: Figures,
    count: int,
    clusters: Sequence[Hashable] | None = None,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Paired bootstrap of two runs that answered the same questions in the same order, for figures that both have.

    Both are scored on the same resamples, as in Koehn (2004). ``probability`` is two-sided, in (0, 1]: twice the
    smaller part of resampled differences at or beyond 0, counting one more of each so that it is never 0.
    Empty when ``count`` or ``rounds`` is 0.
    """
    if not count or not rounds:
        return {}
    whole, rest = one(None), other(None)
    drawn = [(one(weights), other(weights)) for weights in resamples(count, rounds, seed, clusters)]
    found = {}
    for name in drawn[0][0]:
        if name in drawn[0][1]:
            differences = np.array([first[name] - second[name] for first, second in drawn])
            differences = differences[~np.isnan(differences)]
            least = min((differences <= 0).sum(), (differences >= 0).sum())
            probability = min(1.0, 2 * (int(least) + 1) / (len(differences) + 1))
            found[name] = Difference(whole[name] - rest[name], *_ends(differences, level), probability)
    return found


def mcnemar(right: Sequence[bool] | np.ndarray, other: Sequence[bool] | np.ndarray) -> float:
    """Exact two-sided probability (McNemar, 1947, by the binomial) that two runs are equally often right, in [0, 1].

    Only questions that one run got right and the other wrong tell; 1 when there are none. It takes questions as
    independent. Raises ValueError when the lengths differ.
    """
    if len(right) != len(other):
        raise ValueError(f"There are {len(right)} outcomes of one run and {len(other)} of the other.")
    first, second = np.asarray(right, bool), np.asarray(other, bool)
    better, worse = int((first & ~second).sum()), int((~first & second).sum())
    differ = better + worse
    ways = term = 1  # of the binomial coefficients of ``differ``: their sum so far, and the last
    for i in range(min(better, worse)):
        term = term * (differ - i) // (i + 1)
        ways += term
    return min(1.0, 2 * ways / 2**differ)


def most_common(answers: Sequence[Value]) -> Value:
    """The most frequent answer, of equals the first: given to every question it is the majority-class baseline.

    Raises ValueError when there are no answers.
    """
    if not answers:
        raise ValueError("There are no answers to take the most common of.")
    return Counter(answers).most_common(1)[0][0]


def shuffled(answers: Sequence[Value], seed: int = 0) -> list[Value]:
    """The answers in random order: what a model scores that knows the answers of a set but sees no image."""
    found = list(answers)
    random.Random(seed).shuffle(found)
    return found


def mean_box(boxes: Sequence[Box | OrientedBox]) -> Box:
    """The box whose edges are the means of all boxes' edges (of their upright hulls): given to every question it is
    the constant-box baseline. Raises ValueError when there are no boxes.
    """
    if not boxes:
        raise ValueError("There are no boxes to take the mean of.")
    bounds = [box.bounds for box in boxes]
    left, top, right, bottom = (
        math.fsum(getattr(box, edge) for box in bounds) / len(bounds) for edge in ("left", "top", "right", "bottom")
    )
    return Box(left, top, right, bottom)


def _ends(values: Sequence[float] | np.ndarray, level: float) -> tuple[float, float]:
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

"""Scores that say how often they are right: what dense heads are as sure of as they should be, on images they were not
trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from earthgpt.geo.raster import open_raster
from earthgpt.metrics.detection import match_detections
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.perception import LEAST, Seen
from earthgpt.types import EarthGPTError, Region, Sample

FEWEST = 50  # objects, or scenes, of a data set that can be learned from
RIDGE = 3e-3  # how dear it is to shift the logits of one class otherwise than those of all, squared


@dataclass(frozen=True)
class Judged:
    """What the dense heads say of some samples, and whether it is right.

    objects [k]: logits of the objects found, of the classes that the samples mark; kinds [k]: the numbers of their
    classes in the vocabulary; right [k]: whether each overlaps one of its class by half. scenes: of each sample with a
    class, the log-probabilities of its choices, and the number of the true one.
    """

    objects: np.ndarray
    kinds: np.ndarray
    right: np.ndarray
    scenes: tuple[tuple[np.ndarray, int], ...]

    @property
    def scores(self) -> np.ndarray:
        """Of the objects, in (0, 1)."""
        return 1 / (1 + np.exp(-self.objects))


def judge(model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor, samples: Sequence[Sample]) -> Judged:
    """What the dense heads of a model say of some samples."""
    found, true, scenes = [], [], []
    names = model.dense_heads.vocabulary.objects
    for sample in samples:
        seen = Seen(model, processor, open_raster(sample.image, sample.sensor), LEAST)
        if sample.label in sample.choices and set(sample.choices) <= set(seen.vocabulary.scenes):
            likely = np.log([max(seen.scenes[name], 1e-12) for name in sample.choices])
            scenes.append((likely, sample.choices.index(sample.label)))
        if told := {*sample.classes, *(one.label for one in sample.regions)}:
            found.append(tuple(replace(one, box=one.box.bounds) for one in seen.regions if one.label in told))
            true.append(tuple(Region(one.box.bounds, one.label) for one in sample.regions))
    matches = match_detections(found, true, (0.5,))
    scores = np.clip(np.asarray(matches.score, float), 1e-6, 1 - 1e-6)
    kinds = np.array([names.index(name) if name in names else -1 for name in matches.labels], int)
    right = np.asarray(matches.hits[0], float)
    return Judged(np.log(scores / (1 - scores)), kinds[np.asarray(matches.label, int)], right, tuple(scenes))


def calibrate(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    sets: Sequence[Sequence[Sample]],
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Changes the last layers of the dense heads so that their scores say how often they are right.

    Logits of objects get a scale (Platt, 1999) and a shift for each class (vector scaling, Guo et al., 2017), that of
    all classes where a class is too rare to tell its own; those of scenes get a temperature (the same). Each set of
    samples weighs the same; one with fewer than ``FEWEST`` objects or scenes is left out. ``tell`` hears what comes of
    it.

    Raises EarthGPTError for a model without dense heads, and where no set has enough of either.
    """
    if model.dense_heads is None:
        raise EarthGPTError("Only dense heads can be calibrated, and this model has none.")
    judged = [judge(model, processor, samples) for samples in sets]
    objects = [one for one in judged if len(one.right) >= FEWEST and 0 < one.right.mean() < 1]
    scenes = [one.scenes for one in judged if len(one.scenes) >= FEWEST]
    if not (objects or scenes):
        raise EarthGPTError(f"No validation set gave {FEWEST} objects or scenes to calibrate on.")
    if objects:
        names = model.dense_heads.vocabulary.objects
        scale, shifts = fit_objects([(one.objects, one.kinds, one.right) for one in objects], len(names))
        model.dense_heads.rescale_objects(scale, shifts)
        told = ", ".join(f"{name} {shift:+.2f}" for name, shift in zip(names, shifts, strict=True))
        tell(f"Scores of objects: logits are scaled by {scale:.3f} and shifted: {told}.")
    if scenes:
        scale = fit_scenes(scenes)
        model.dense_heads.rescale_scenes(scale)
        tell(f"Classes of scenes: logits are scaled by {scale:.3f}.")


def fit_objects(
    sets: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], classes: int
) -> tuple[float, tuple[float, ...]]:
    """The scale above 0, and the shift of each class, with the least cross entropy of some sets of logits [k], of which
    class each is [k], and what is right of them [k], 0 or 1; shifts that differ from that of all classes cost
    ``RIDGE``.

    Those that are then less likely than ``LEAST`` are perceived no more, so the others are fitted anew without them.
    """
    parts = [tuple(map(torch.as_tensor, one)) for one in sets]

    def said(line: torch.Tensor, logits: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        return line[0].exp() * logits + line[1] + line[2:][kinds]  # a score that is better than another stays so

    def loss(line: torch.Tensor) -> torch.Tensor:
        entropies = [
            torch.nn.functional.binary_cross_entropy_with_logits(said(line, logits, kinds), right)
            for logits, kinds, right in left
        ]
        return sum(entropies) / len(left) + RIDGE * line[2:].square().sum()

    found, left = [0.0, 0.0, *[0.0] * classes], parts
    for _ in range(3):
        if not left:  # none is likely enough to be perceived: what was found says so
            break
        found = _least(loss, found)
        line = torch.tensor(found, dtype=torch.float64)
        kept = [said(line, logits, kinds) >= math.log(LEAST / (1 - LEAST)) for logits, kinds, _ in parts]
        left = [tuple(one[chosen] for one in part) for part, chosen in zip(parts, kept, strict=True) if chosen.any()]
    return math.exp(found[0]), tuple(found[1] + one for one in found[2:])


def fit_scenes(sets: Sequence[Sequence[tuple[np.ndarray, int]]]) -> float:
    """The scale above 0 with the least cross entropy of some sets of logits, each with the number of the true one."""
    parts = [[(torch.as_tensor(logits), true) for logits, true in one] for one in sets]

    def loss(scale: torch.Tensor) -> torch.Tensor:
        entropies = [
            sum(-(scale[0].exp() * logits).log_softmax(0)[true] for logits, true in part) / len(part) for part in parts
        ]
        return sum(entropies) / len(parts)

    return math.exp(_least(loss, [0.0])[0])


def _least(loss: Callable[[torch.Tensor], torch.Tensor], start: Sequence[float]) -> list[float]:
    at = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([at], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(at)
        value.backward()
        return value

    optimizer.step(closure)
    return at.tolist()

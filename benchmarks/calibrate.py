"""Makes the scores of a model's objects say how often they are right: fits scale and shift of their logits (Platt,
1999) on every other validation image, writes the model with them, and prints what the other images say.

    python benchmarks/calibrate.py runs/tiny/model data -o models/tiny

An object is right when it overlaps one of its class by half; each data set weighs the same. "Calibration error" is the
expected one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from honesty import samples_of

from earthgpt.geo.raster import open_raster
from earthgpt.metrics.calibration import expected_calibration_error
from earthgpt.metrics.detection import match_detections
from earthgpt.model.loading import load
from earthgpt.perception import LEAST, Seen
from earthgpt.types import Region

FEWEST = 50  # objects of a set that can be learned from


def judged(model, processor, samples) -> tuple[np.ndarray, np.ndarray]:
    """The logit of each object that is found in some samples, and whether it is right."""
    found, true = [], []
    for sample in samples:
        seen = Seen(model, processor, open_raster(sample.image, sample.sensor), LEAST).regions
        told = {*sample.classes, *(one.label for one in sample.regions)}
        found.append(tuple(replace(one, box=one.box.bounds) for one in seen if one.label in told))
        true.append(tuple(Region(one.box.bounds, one.label) for one in sample.regions))
    matches = match_detections(found, true, (0.5,))
    scores = np.clip(np.asarray(matches.score), 1e-6, 1 - 1e-6)
    return np.log(scores / (1 - scores)), np.asarray(matches.hits[0], float)


def fitted(logits: np.ndarray, right: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Scale and shift of the logits with the least cross entropy."""
    x, y, w = (torch.tensor(one, dtype=torch.float64) for one in (logits, right, weights))
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(line[0] * x + line[1], y, w)
        entropy.backward()
        return entropy

    optimizer.step(loss)
    return float(line[0].detach()), float(line[1].detach())


def main() -> None:
    """Fits, writes and prints a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=200, help="images of each set")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    model, processor = load(arguments.model)
    model.dense_heads.calibration.copy_(torch.tensor([1.0, 0.0]))
    parts = {}
    for name, samples in samples_of(arguments.data, arguments.limit).items():
        samples = [one for one in samples if one.classes]
        if samples:
            parts[name] = [judged(model, processor, samples[start::2]) for start in (0, 1)]
    learned = [part[0] for part in parts.values() if len(part[0][0]) >= FEWEST]
    logits, right = (np.concatenate([part[i] for part in learned]) for i in (0, 1))
    weights = np.concatenate([np.full(len(part[0]), len(logits) / len(part[0])) for part in learned])
    scale, shift = fitted(logits, right, weights)
    print(f"scale {scale:.3f}, shift {shift:.3f}\n")
    print("| data set | objects | right | mean score | calibration error | before |\n|---|---:|---:|---:|---:|---:|")
    for name, (_, (logits, right)) in parts.items():
        before, after = (1 / (1 + np.exp(-one)) for one in (logits, scale * logits + shift))
        errors = [expected_calibration_error(one, right) for one in (after, before)]
        print(
            f"| {name} | {len(right)} | {right.mean():.3f} | {after.mean():.3f} | {errors[0]:.3f} | {errors[1]:.3f} |"
        )
    model.dense_heads.calibration.copy_(torch.tensor([scale, shift]))
    model.to(torch.bfloat16).save_pretrained(arguments.output)
    processor.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()

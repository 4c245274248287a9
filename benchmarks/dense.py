"""What the auxiliary heads of a model in training read from its visual tokens, on the validation parts, as a Markdown
table: how well the encoders see, before any language.

    python benchmarks/dense.py runs/tiny-encoders/model data

A box is kept where its score is the highest of all of its class that it overlaps by half.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from figures import ROWS

from earthgpt import lookup
from earthgpt.coordinates import padded_square
from earthgpt.datasets import part_of
from earthgpt.geo.raster import read_pixels
from earthgpt.metrics.detection import match_detections
from earthgpt.metrics.overlaps import boxes_array, ious
from earthgpt.model.dense import expected_edges
from earthgpt.model.loading import load
from earthgpt.types import Box, Region


@torch.no_grad()
def read(model, processor, samples, batch_size: int = 32):
    """Logits of scenes, objects and edges of each sample."""
    for start in range(0, len(samples), batch_size):
        chosen = samples[start : start + batch_size]
        pixels = [one.image() if callable(one.image) else read_pixels(one.image, None, one.sensor) for one in chosen]
        squares = [processor.square(one, sample.sensor) for one, sample in zip(pixels, chosen, strict=True)]
        with torch.autocast("cpu", torch.bfloat16):
            tokens = model.get_image_features(processor.normalise(squares))[:, 1:-1]
            found = model.dense_heads.read(tokens)
        yield from zip(chosen, *(one.float() for one in found), strict=True)


def boxes(sample, objects, edges, names, most: int = 100) -> tuple[Region, ...]:
    """The objects of a sample's classes, best first."""
    frame, scores, edges = padded_square(sample.size), objects.sigmoid(), expected_edges(edges)
    found = []
    for number, label in enumerate(names):
        if label not in sample.classes:
            continue
        for place in scores[:, number].argsort(descending=True)[:most].tolist():
            left, top, right, bottom = edges[place].tolist()
            low, high = frame.fractions((left, top)), frame.fractions((right, bottom))
            if low[0] < high[0] and low[1] < high[1]:
                found.append(Region(Box(*low, *high), label, float(scores[place, number])))
    kept: list[Region] = []
    for region in sorted(found, key=lambda one: -one.score)[: 3 * most]:
        own = [one.box for one in kept if one.label == region.label]
        if not own or ious(boxes_array([region.box] * len(own)), boxes_array(own)).max() < 0.5:
            kept.append(region)
    return tuple(kept[:most])


def main() -> None:
    """Prints a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=400, help="images of each set")
    arguments = parser.parse_args()
    model, processor = load(arguments.model)
    model.eval()
    words = model.dense_heads.vocabulary
    sets = dict.fromkeys((name, folder, split, part) for _, name, folder, split, part, *_ in ROWS)
    print("| data set | images | scene accuracy | objects AP50 |\n|---|---:|---:|---:|")
    for name, folder, split, part in sets:
        root = str(arguments.data / folder) if folder else ""
        samples = [
            one
            for one in lookup.find("datasets", name).read(root, split, Counter())
            if part in (None, part_of(one.name))
        ]
        step = max(1, len(samples) // arguments.limit)
        right, stated, found, true = 0, 0, [], []
        for sample, scene, objects, edges in read(model, processor, samples[::step][: arguments.limit]):
            if sample.label is not None:
                allowed = torch.tensor([one in sample.choices for one in words.scenes])
                right += words.scenes[int(scene.masked_fill(~allowed, -np.inf).argmax())] == sample.label
                stated += 1
            if sample.classes:
                found.append(boxes(sample, objects, edges, words.objects))
                true.append(tuple(Region(one.box.bounds, one.label) for one in sample.regions))
        accuracy = f"{right / stated:.3f}" if stated else ""
        precision = ""
        if true:
            by_class = match_detections(found, true).average_precision(0.5)
            precision = f"{np.mean(list(by_class.values())):.3f} ("
            precision += ", ".join(f"{label} {value:.2f}" for label, value in sorted(by_class.items())) + ")"
        print(f"| {name} | {max(stated, len(true))} | {accuracy} | {precision} |", flush=True)


if __name__ == "__main__":
    main()

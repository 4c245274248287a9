"""What the dense heads of a model see, on the validation parts, as a Markdown table: before any language, and with
objects of lower scores than answers speak of.

    python benchmarks/dense.py runs/tiny-encoders/model data

Sets and images that are not there are named at the end.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from figures import not_there, samples_there, sets

from earthgpt.geo.raster import open_raster, read_pixels
from earthgpt.metrics.detection import match_detections
from earthgpt.model.loading import load
from earthgpt.perception import Seen
from earthgpt.types import Region


@torch.no_grad()
def scenes(model, processor, samples, batch_size: int = 32):
    """Logits of the scene of each sample."""
    for start in range(0, len(samples), batch_size):
        chosen = samples[start : start + batch_size]
        pixels = [read_pixels(one.image, None, one.sensor) for one in chosen]
        squares = [processor.square(one, sample.sensor) for one, sample in zip(pixels, chosen, strict=True)]
        tokens = model.get_image_features(processor.normalise(squares))[:, 1:-1]
        yield from zip(chosen, model.dense_heads.scene(tokens.mean(dim=1)), strict=True)


def main() -> None:
    """Prints a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--least", type=float, default=0.02, help="least score of an object")
    parser.add_argument("--limit", type=int, default=400, help="images of each set")
    arguments = parser.parse_args()
    model, processor = load(arguments.model)
    model.eval()
    words = model.dense_heads.vocabulary
    missing = {}
    print("| data set | images | scene accuracy | objects AP50 |\n|---|---:|---:|---:|")
    for name, *where in sets(arguments.data):
        samples, missing[name] = samples_there(name, *where)
        step = max(1, len(samples) // arguments.limit)
        samples = samples[::step][: arguments.limit]
        right, stated, found, true = 0, 0, [], []
        for sample, scene in scenes(model, processor, [one for one in samples if one.label is not None]):
            allowed = torch.tensor([one in sample.choices for one in words.scenes])
            right += words.scenes[int(scene.masked_fill(~allowed, -np.inf).argmax())] == sample.label
            stated += 1
        for sample in samples:
            if sample.classes:
                seen = Seen(model, processor, open_raster(sample.image, sample.sensor), arguments.least).regions
                seen = (replace(one, box=one.box.bounds) for one in seen if one.label in sample.classes)
                found.append(tuple(seen))
                true.append(tuple(Region(one.box.bounds, one.label) for one in sample.regions))
        accuracy = f"{right / stated:.3f}" if stated else ""
        precision = ""
        if true:
            matches = match_detections(found, true)
            by_class = matches.average_precision(0.5)
            precision = f"{np.mean(list(by_class.values())):.3f} ("
            precision += ", ".join(f"{label} {value:.2f}" for label, value in sorted(by_class.items())) + ")"
        print(f"| {name} | {max(stated, len(true))} | {accuracy} | {precision} |", flush=True)
    if said := not_there(arguments.data, missing):
        print(f"\n{said}")


if __name__ == "__main__":
    main()

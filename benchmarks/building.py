"""Building an instruction set with one process and with more, from the same downloads, interleaved in one run.

    python benchmarks/building.py

Eight folders of scenes are made in a temporary folder. Each image is looked at, to be compared with an evaluation set,
which is what takes the time. The files that come out are checked to be the same, byte for byte. The limit is the number
of cores, less a second or so for each process to start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from earthgpt.building import build
from earthgpt.config import BuildRecipe

SETS, CLASSES = 8, ("airport", "beach", "forest", "harbor")


def main() -> None:
    """Makes the downloads, builds in turn, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="of each folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        roots = [make(Path(folder) / f"set{i}", i, arguments.images) for i in range(SETS + 1)]
        seconds: dict[int, list[float]] = {1: [], arguments.workers: []}
        results = set()
        for _ in range(arguments.rounds):
            for workers, times in seconds.items():
                output = Path(folder) / "out"
                start = time.perf_counter()
                build(recipe(output, roots, workers))
                times.append(time.perf_counter() - start)
                results.add((output / "mmrs.json").read_bytes())
                shutil.rmtree(output)
    assert len(results) == 1, "the outputs differ"
    one, more = (statistics.median(times) for times in seconds.values())
    images = SETS * arguments.images
    print(f"{images:,} images in {SETS} sets, {arguments.rounds} rounds, medians\n")
    print("| processes | seconds | images per second | ratio |\n|---|---:|---:|---:|")
    print(f"| 1 | {one:.1f} | {images / one:,.0f} | 1 |")
    print(f"| {arguments.workers} | {more:.1f} | {images / more:,.0f} | {one / more:.2f} |")


def make(root: Path, seed: int, images: int) -> Path:
    """A folder of class folders with JPEG images of 256 x 256 pixels."""
    draw = np.random.default_rng(seed)
    for number in range(images):
        path = root / CLASSES[number % len(CLASSES)] / f"{seed}_{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(path)
    return root


def recipe(output: Path, roots: list[Path], workers: int) -> BuildRecipe:
    """All folders but the last as sources, and that as the evaluation set."""
    sources = [{"dataset": "own_classes", "root": str(root), "splits": ["all"]} for root in roots[:-1]]
    evaluation = [{"dataset": "own_classes", "root": str(roots[-1]), "splits": ["all"]}]
    options = {"policy": "clean", "leaks": "report", "images": "none", "compare": "looks"}
    return BuildRecipe(output=str(output), sources=sources, evaluation=evaluation, workers=workers, **options)


if __name__ == "__main__":
    main()

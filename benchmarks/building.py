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
import tempfile
from pathlib import Path

import numpy as np
from guard import in_turn
from PIL import Image
from table import Row, table

from earthgpt.building import build
from earthgpt.config import BuildRecipe

SETS, CLASSES = 8, ("airport", "beach", "forest", "harbor")


def main() -> None:
    """Prints the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="of each folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    print(table(rows(False, arguments.images, arguments.rounds, arguments.workers)))


def rows(quick: bool = False, images: int = 1000, rounds: int = 2, workers: int = os.cpu_count()) -> list[Row]:
    """Several processes beside one, which is also the floor: it, divided by their number."""
    images = images // 5 if quick else images
    with tempfile.TemporaryDirectory() as folder:
        roots = [make(Path(folder) / f"set{i}", i, images) for i in range(SETS + 1)]

        def built(workers: int) -> bytes:
            output = Path(folder) / "out"
            build(recipe(output, roots, workers))
            result = (output / "mmrs.json").read_bytes()
            shutil.rmtree(output)
            return result

        one, more = in_turn({"one": lambda: built(1), "more": lambda: built(workers)}, rounds).values()
    if one.result != more.result:
        raise ValueError("The outputs differ.")
    what, rival = f"{SETS * images:,} images, {workers} processes", "ours, one process"
    floor = one.seconds / workers
    return [Row("building", what, "s", more.seconds, one.seconds, rival, None, floor, "all bytes", more.samples)]


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

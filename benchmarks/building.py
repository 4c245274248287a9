"""Building an instruction set with one process and with more, from the same downloads, interleaved in one run.

    python benchmarks/building.py

Eight sets of scenes are made in a temporary folder, in the layouts of public ones. Each image is looked at, to be
compared with an evaluation set, which is what takes the time. The files that come out are checked to be the same, byte
for byte. The limit is the number of cores, less a second or so for each process to start.
"""

from __future__ import annotations

import argparse
import importlib
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

SETS = ("aid", "clrs", "eurosat", "nasc_tg2", "nwpu_resisc45", "rsscn7", "ucmerced", "whu_rs19")
EVALUATED = "own_classes"


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
        roots = {name: make(Path(folder) / name, name, i, images) for i, name in enumerate((*SETS, EVALUATED))}

        def built(workers: int) -> bytes:
            output = Path(folder) / "out"
            build(recipe(output, roots, workers))
            result = (output / "mmrs.json").read_bytes()
            shutil.rmtree(output)
            return result

        one, more = in_turn({"one": lambda: built(1), "more": lambda: built(workers)}, rounds).values()
    if one.result != more.result:
        raise ValueError("The outputs differ.")
    what, rival = f"{len(SETS) * images:,} images, {workers} processes", "ours, one process"
    floor = one.seconds / workers
    return [Row("building", what, "s", more.seconds, one.seconds, rival, None, floor, "all bytes", more.samples)]


def make(root: Path, dataset: str, seed: int, images: int) -> Path:
    """Class folders of a data set, with JPEG images of 256 x 256 pixels."""
    module = importlib.import_module(f"earthgpt.datasets.{dataset}")
    classes = list(getattr(module, "LABELS", ("airport", "beach", "forest", "harbor")))[:4]
    draw = np.random.default_rng(seed)
    for number in range(images):
        path = root / classes[number % len(classes)] / f"{seed}_{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(path)
    return root


def recipe(output: Path, roots: dict[str, Path], workers: int) -> BuildRecipe:
    """All sets but the last as sources, and that as the evaluation set."""
    sources = [{"dataset": name, "root": str(roots[name])} for name in SETS]
    evaluation = [{"dataset": EVALUATED, "root": str(roots[EVALUATED]), "splits": ["all"]}]
    options = {"policy": "clean", "leaks": "report", "images": "none", "compare": "looks"}
    return BuildRecipe(output=str(output), sources=sources, evaluation=evaluation, workers=workers, **options)


if __name__ == "__main__":
    main()

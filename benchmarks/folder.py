"""Images a second over a folder, beside a loop that opens one, asks, and writes a line of the table.

    python benchmarks/run.py folder

earthgpt-tiny says the class of JPEG images of 600 pixels, the size of AID. The loop is `classify` for each file; ours
is what `earthgpt classify FOLDER -o classes.csv` does: images are read while the model looks at others, and it looks at
16 together. Both write the same table. The floor is the model's first pass alone, over 16 images with their question at
a time: the encoders, and the language model that reads what they see.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from guard import in_turn
from table import Row


def rows(quick: bool = False) -> list[Row]:
    """One row: images a second."""
    from earthgpt.assistant import load
    from earthgpt.datasets.synthetic import scene
    from earthgpt.generation import generate
    from earthgpt.geo.inputs import expand
    from earthgpt.geo.raster import open_raster
    from earthgpt.scenes import LEAST_TILE, Job, each
    from earthgpt.tasks.scene_classification import TASK
    from earthgpt.types import Conversation, Sensor

    count, assistant = 32 if quick else 96, load()
    with tempfile.TemporaryDirectory() as folder:
        from PIL import Image

        for seed in range(count):
            image = Image.fromarray(scene(seed, Sensor.OPTICAL, (256, 256)).image())
            image.resize((600, 600), Image.Resampling.BICUBIC).save(Path(folder) / f"{seed:03}.jpg", quality=90)
        paths = expand([folder])

        def loop() -> list[list[str]]:
            with (Path(folder) / "loop.csv").open("w", newline="") as file:
                lines = csv.writer(file)
                for path in paths:
                    found = assistant.classify(path)
                    lines.writerow([path, found.label, f"{found.probabilities[found.label]:.4f}"])
            return table_of(Path(folder) / "loop.csv")

        def ours() -> list[list[str]]:
            with (Path(folder) / "ours.csv").open("w", newline="") as file:
                lines = csv.writer(file)
                for path, said, score, _ in each(assistant, Job("classify", LEAST_TILE), paths, open_raster):
                    lines.writerow([path, said, f"{score:.4f}"])
            return table_of(Path(folder) / "ours.csv")

        squares = [assistant.processor.square(open_raster(path).pixels) for path in paths[:16]]
        asked = [Conversation.of((i,), TASK.question()) for i in range(len(squares))]

        def first_passes() -> None:
            for _ in range(count // 16):
                generate(assistant.model, assistant.processor, asked, squares, 1)

        timings = in_turn({"loop": loop, "ours": ours, "floor": first_passes}, 2, 10)
    theirs, mine, floor = (count / one.seconds for one in timings.values())
    both = list(zip(timings["loop"].result, timings["ours"].result, strict=True))
    apart = max(abs(float(one[2]) - float(other[2])) for one, other in both)
    if any(one[:2] != other[:2] for one, other in both) or apart > 0.001:
        raise ValueError(f"The tables differ, scores by {apart}.")
    same, clean = f"{count} classes, scores to {apart:.4f}", timings["ours"].samples
    return [Row("folder", f"{count} images", "images/s", mine, theirs, "ours, a plain loop", 4, floor, same, clean)]


def table_of(path: Path) -> list[list[str]]:
    """The cells of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.reader(file))

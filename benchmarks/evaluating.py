"""Evaluation with many questions about each image, beside a loop that asks them in padded batches.

    python benchmarks/run.py evaluating

earthgpt-tiny answers ten questions about each of 100 synthetic images (20 with --quick). The loop is that of the
scripts that come with most such models, as GeoChat's: batches of ten, padded on the left, each question with its image,
through transformers' ``generate``. Ours is what ``evaluate`` asks for the same batches. Answers are compared.
"""

from __future__ import annotations

from importlib import metadata

from guard import in_turn
from table import Row

KINDS = ("ships", "airplanes", "bridges", "storage tanks", "vehicles")


def rows(quick: bool = False) -> list[Row]:
    """One row: questions a second."""
    from earthgpt.assistant import load
    from earthgpt.datasets.synthetic import scene
    from earthgpt.evaluation import ask
    from earthgpt.generation import generate
    from earthgpt.geo.raster import open_raster
    from earthgpt.types import Conversation, Sensor

    # Both by the language model: what follows from what dense heads see is not decoded at all.
    assistant, images = load(constrained=False), 20 if quick else 100
    words = [f"How many {kind} are there in the image?" for kind in KINDS]
    words += [f"Is there one of the {kind} in the image?" for kind in KINDS]
    sensors = list(Sensor)
    batches = []
    for seed in range(images):
        sensor = sensors[seed % len(sensors)]
        raster = open_raster(scene(seed, sensor, (256, 256)).image(), sensor)
        batches.append([Conversation.of((raster,), text) for text in words])

    def ours() -> list[str]:
        return [answer.text for batch in batches for answer in ask(assistant, batch, 16)]

    def loop() -> list[str]:
        said = []
        for batch in batches:
            squares = [assistant.processor.square(one.images[0].pixels, one.images[0].sensor) for one in batch]
            said += generate(assistant.model, assistant.processor, batch, squares, 16, plain=True)
        return [answer.text for answer in said]

    timings = in_turn({"ours": ours, "loop": loop}, 1 if quick else 2, 0)
    mine, its = timings["ours"], timings["loop"]
    count, alike = len(mine.result), sum(a == b for a, b in zip(mine.result, its.result, strict=True))
    if alike < 0.99 * count:
        raise ValueError(f"Only {alike} of {count} answers are the same.")
    rival = f"generate in padded batches, transformers {metadata.version('transformers')}"
    rates = (count / one.seconds for one in (mine, its))
    same = f"{alike:,} of {count:,} answers"
    return [
        Row("evaluating", f"{len(words)} questions an image", "questions/s", *rates, rival, 6, None, same, mine.samples)
    ]

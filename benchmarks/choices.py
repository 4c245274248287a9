"""What the probabilities of 30 classes cost beside one answer in the model's own words, for one image.

    python benchmarks/run.py choices

earthgpt-tiny, as ``classify`` asks it with a list and without. The probability of each class is compared with that of a
pass over image, question and class alone. The floor is the answer itself: the image is read once in both.
"""

from __future__ import annotations

import math

from guard import in_turn
from table import Row

# Those of AID.
CLASSES = (
    """
airport, bare land, baseball field, beach, bridge, center, church, commercial, dense residential, desert, farmland,
forest, industrial, meadow, medium residential, mountain, park, parking, playground, pond, port, railway station,
resort, river, school, sparse residential, square, stadium, storage tanks, viaduct
""".replace("\n", " ")
    .strip()
    .split(", ")
)


def rows(quick: bool = False) -> list[Row]:
    """One row: the goal of half as fast is a price of twice an answer."""

    from earthgpt.assistant import load
    from earthgpt.datasets.synthetic import scene
    from earthgpt.types import Sensor

    assistant = load(constrained=False)  # the language model, not the dense heads, which know these classes
    image = scene(300, Sensor.OPTICAL, (256, 256)).image()
    timings = in_turn(
        {"one": lambda: assistant.classify(image), "thirty": lambda: assistant.classify(image, CLASSES)},
        3 if quick else 7,
    )
    one, thirty = timings["one"], timings["thirty"]
    apart = compare(assistant, image, thirty.result.probabilities)
    same = f"probabilities to {apart:.0e}"
    rival, floor = "ours, one free answer", one.seconds * 1000
    return [
        Row("choices", "30 classes", "ms", 1000 * thirty.seconds, 1000 * one.seconds, rival, 0.5, floor, same,
            thirty.samples)
    ]  # fmt: skip


def compare(assistant, image, found: dict[str, float]) -> float:
    """The largest difference from probabilities of passes for each class alone. Raises ValueError above 1e-4."""
    import torch

    from earthgpt.geo.raster import open_raster
    from earthgpt.tasks.scene_classification import TASK
    from earthgpt.types import Conversation

    raster, processor = open_raster(image), assistant.processor
    asked = processor.render(Conversation.of((raster,), TASK.question(CLASSES)))["input_ids"]
    pixels = processor.normalise([processor.square(raster.pixels, raster.sensor)])
    totals = []
    for name in CLASSES:
        tokens = [*processor.tokenizer(name, add_special_tokens=False)["input_ids"], processor.tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = assistant.model(input_ids=torch.tensor([asked + tokens]), pixel_values=pixels).logits[0]
        likely = logits.double().log_softmax(-1)
        totals.append(sum(float(likely[len(asked) - 1 + i, token]) for i, token in enumerate(tokens)))
    weights = [math.exp(total - max(totals)) for total in totals]
    apart = max(abs(found[name] - weight / sum(weights)) for name, weight in zip(CLASSES, weights, strict=True))
    if apart > 1e-4:
        raise ValueError(f"Probabilities differ by {apart}.")
    return apart

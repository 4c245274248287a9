"""How long the default model takes for an answer, once it is loaded, and to be loaded once torch and transformers are.

    python benchmarks/run.py answers

The rivals are limits that were set. The image is one of four drawn scenes side by side, 640 px: objects are looked for
in all sizes. Every question is asked about it anew. The floor is what encoders, heads and language model multiply, and
the weights read once for each token.
"""

from __future__ import annotations

import sys

from guard import in_turn
from processes import output
from table import Row, bytes_read, operations

LOAD = """
import time, torch, transformers.modeling_utils
from earthgpt.model import EarthGPTForConditionalGeneration
began = time.perf_counter()
import earthgpt
earthgpt.load()
print(time.perf_counter() - began)
"""


def rows(quick: bool = False) -> list[Row]:
    """A row for each kind of answer."""
    import earthgpt

    assistant = earthgpt.load()
    raster = scene()
    ways = {
        "a number of objects": lambda: assistant.ask(raster, "How many cars are there in the image?"),
        "a word about the whole": lambda: assistant.ask(raster, "What is this?"),
        "a caption": lambda: assistant.caption(raster),
        "all objects": lambda: assistant.detect(raster),
    }
    timings = in_turn(ways, 3 if quick else 10, 1)
    boxes = len(timings["all objects"].result)
    if boxes < 20:
        raise ValueError(f"Only {boxes} objects were found, of 20 at least.")
    whole = dict.fromkeys(ways, 0.5) | {"all objects": 3.0}
    found = []
    for name, limit in whole.items():
        same = f"{boxes} objects" if name == "all objects" else ""
        floor = seconds_at_least(assistant, raster, str(timings[name].result), name)
        found.append(
            Row("answers", name, "s", timings[name].seconds, limit, "limit", 1, floor, same, timings[name].samples)
        )
    loads: list[float] = []  # what each process says of itself: its start and its imports do not count
    timing = in_turn({"load": lambda: loads.append(float(output([sys.executable, "-c", LOAD])))}, 3, 5)["load"]
    return [*found, Row("answers", "loading the model", "s", min(loads), 2.0, "limit", 1, None, "", timing.samples)]


def scene():
    """Four drawn infrared scenes with many objects, two by two."""
    import numpy as np

    import earthgpt
    from earthgpt.datasets import synthetic

    samples = (one for one in synthetic.DATASET.read("", "val") if one.sensor == "infrared" and one.size == (320, 320))
    most = sorted(samples, key=lambda one: -len(one.regions))[:4]
    drawn = [one.image() for one in most]
    return earthgpt.open(np.vstack([np.hstack(drawn[i : i + 2]) for i in (0, 2)]), "infrared")


def seconds_at_least(assistant, raster, text: str, name: str) -> float:
    """What an answer takes on a machine that does nothing but multiply and read weights."""
    from earthgpt.perception import SIZES

    model, processor = assistant.model, assistant.processor
    weights = {part: sum(one.numel() for one in module.parameters()) for part, module in model.named_children()}
    # A weight of the ViT meets every token, one of the CNN every place of its own map; 0.39 billion multiplications are
    # EfficientNet-Lite0's at 224 px (its authors' figure), the heads meet four places a token.
    vit, tokens = sum(one.numel() for one in model.vision_encoder.vit.parameters()), model.config.grid**2
    image = 2 * (vit * tokens + 0.39e9)
    if name in ("a number of objects", "all objects"):
        side = max(raster.size) / processor.image_size
        views = sum(size**2 for size in SIZES if size <= max(1.0, side))
        return views * (image + 2 * 4 * tokens * weights["dense_heads"]) / operations()
    words = len(processor.tokenizer(text)["input_ids"])
    prefill = 2 * weights["language_model"] * (tokens + 30)
    return (image + prefill) / operations() + words * 4 * weights["language_model"] / bytes_read()

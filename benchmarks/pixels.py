"""From a JPEG of 800 pixels to the tensor that a model takes, beside the way of LLaVA: Pillow and CLIP's processor.

    python benchmarks/run.py pixels

Both decode, resize to 448 pixels bicubically and normalise with CLIP's mean and deviation, one file after the other in
one thread; CPU time. The floor is Pillow's decoding alone.
"""

from __future__ import annotations

import tempfile
import time
from importlib import metadata
from pathlib import Path

from guard import in_turn
from table import Row

SIDE, FROM = 448, 800
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def rows(quick: bool = False) -> list[Row]:
    """One row: images a second."""
    import torch
    from PIL import Image
    from transformers import AutoTokenizer, CLIPImageProcessorPil

    from earthgpt.geo.raster import open_raster
    from earthgpt.model import EarthGPTProcessor
    from earthgpt.model.loading import DEFAULT, locate

    torch.set_num_threads(1)
    count = 8 if quick else 32
    tokenizer = AutoTokenizer.from_pretrained(locate(DEFAULT))
    ours = EarthGPTProcessor(tokenizer, image_size=SIDE, image_mean=MEAN, image_std=STD)
    clip = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE, image_mean=MEAN, image_std=STD)
    with tempfile.TemporaryDirectory() as folder:
        paths = [picture(Path(folder) / f"{seed}.jpg", seed) for seed in range(count)]

        def by_us() -> torch.Tensor:
            squares = []
            for path in paths:
                raster = open_raster(path)
                squares.append(ours.normalise([ours.square(raster.pixels, raster.sensor)]))
            return torch.cat(squares)

        def by_clip() -> torch.Tensor:
            images = []
            for path in paths:
                with Image.open(path) as image:
                    images.append(clip(image.convert("RGB"), return_tensors="pt")["pixel_values"])
            return torch.cat(images)

        def decoded() -> None:
            for path in paths:
                with Image.open(path) as image:
                    image.load()

        ways = {"ours": by_us, "clip": by_clip, "floor": decoded}
        timings = in_turn(ways, 3, 10, time.process_time)
    mine, its, floor = (timings[way] for way in ways)
    levels = 255 * torch.tensor(STD).view(1, 3, 1, 1) * (mine.result - its.result).abs()
    if levels.max() > 1.01:
        raise ValueError(f"Pixels differ by {levels.max():.1f} of 255 levels.")
    rival = f"{type(clip).__name__}, transformers {metadata.version('transformers')}"
    same = f"at most {levels.max():.1f}, on average {levels.mean():.3f} of 255 levels"
    rates = (count / one.seconds for one in (mine, its))
    what, floor = f"JPEG of {FROM} px to {SIDE}, a CPU second", count / floor.seconds
    return [Row("pixels", what, "images/s", *rates, rival, 5, floor, same, mine.samples)]


def picture(path: Path, seed: int) -> Path:
    """Smooth ground with rectangles and a little noise, as JPEG."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 200, (25, 25, 3), np.uint8))
    values = np.array(coarse.resize((FROM, FROM), Image.Resampling.BICUBIC))
    for _ in range(60):
        x, y, w, h = rng.integers(8, FROM - 80, 4)
        values[y : y + 8 + h // 10, x : x + 8 + w // 10] = rng.integers(0, 256, 3)
    noisy = values + rng.normal(0, 6, values.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path

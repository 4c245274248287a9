"""Changes to an image that keep its facts true: they act on the sample and its pixels together, before any task."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

import numpy as np
from PIL import Image

from earthgpt.types import Box, OrientedBox, Region, Sample

# Words after which a turned or mirrored image would no longer be as described.
_DIRECTIONS = re.compile(
    r"\b((left|right|top|bottom)(most)?|upper\w*|lower\w*|above|below|(north|south)\w*|(east|west)(ern|ernmost|most)?)\b",
    re.IGNORECASE,
)


def augment(sample: Sample, pixels: np.ndarray, rng: random.Random) -> tuple[Sample, np.ndarray]:
    """One of the eight turns and mirrors, a crop, and other light. ``pixels`` is uint8 [H, W] or [H, W, 3].

    An image without objects may be turned by any angle, and of one without words a part may be hidden. One whose words
    name directions is not turned; one whose words may count or place its objects is not cropped.
    """
    words = [*sample.captions, *(region.label for region in sample.expressions)]
    words += [text for question in sample.questions for text in (question.text, question.answer)]
    bare = not (sample.regions or sample.expressions or sample.cut)
    if not any(_DIRECTIONS.search(text) for text in words):
        sample, pixels = turn(sample, pixels, rng.randrange(8))
        if bare and rng.random() < 0.5:
            pixels = spin(pixels, rng.uniform(-45, 45))
    if not (words and (sample.regions or sample.expressions)) and rng.random() < 0.8:
        # Small parts as often as large ones: in a third of a side objects have about the size of the original.
        share = 0.28 ** rng.random() if sample.regions else rng.uniform(0.7, 1.0)
        width, height = max(32, round(sample.size[0] * share)), max(32, round(sample.size[1] * share))
        width, height = min(width, sample.size[0]), min(height, sample.size[1])
        left, top = rng.randint(0, sample.size[0] - width), rng.randint(0, sample.size[1] - height)
        sample, pixels = crop(sample, pixels, (left, top, width, height))
    if bare and not words and rng.random() < 0.3:
        pixels = hide(pixels, rng)
    return sample, relight(pixels, rng)


def turn(sample: Sample, pixels: np.ndarray, which: int) -> tuple[Sample, np.ndarray]:
    """One of the eight symmetries of the square: bit 0 mirrors, bit 1 flips, bit 2 swaps the axes, in this order."""
    mirror, flip, swap = which & 1, which & 2, which & 4

    def moved(x: float, y: float) -> tuple[float, float]:
        x, y = (1 - x if mirror else x), (1 - y if flip else y)
        return (y, x) if swap else (x, y)

    def box(old: Box | OrientedBox) -> Box | OrientedBox:
        if isinstance(old, OrientedBox):
            return OrientedBox(tuple(moved(*corner) for corner in old.corners))
        (x0, y0), (x1, y1) = moved(old.left, old.top), moved(old.right, old.bottom)
        return Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))

    pixels = pixels[:, ::-1] if mirror else pixels
    pixels = pixels[::-1] if flip else pixels
    pixels = pixels.swapaxes(0, 1) if swap else pixels
    size = sample.size[::-1] if swap else sample.size
    return (
        replace(
            sample,
            size=size,
            regions=tuple(replace(region, box=box(region.box)) for region in sample.regions),
            expressions=tuple(replace(region, box=box(region.box)) for region in sample.expressions),
            cut=tuple(replace(region, box=box(region.box)) for region in sample.cut),
        ),
        np.ascontiguousarray(pixels),
    )


def spin(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """An image turned about its middle by any angle; the corners that come in are the mirror image of what they touch.
    Same shape and type."""
    height, width = pixels.shape[:2]
    # The corners of the frame reach this far beyond it, at the most.
    across, down = (math.ceil((math.hypot(width, height) - side) / 2) for side in (width, height))
    margins = ((down, down), (across, across), (0, 0))[: pixels.ndim]
    wide = Image.fromarray(np.pad(pixels, margins, mode="symmetric"))
    turned = np.asarray(wide.rotate(degrees, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(turned[down : down + height, across : across + width])


def crop(sample: Sample, pixels: np.ndarray, window: tuple[int, int, int, int]) -> tuple[Sample, np.ndarray]:
    """The part of an image in ``window`` (left, top, width, height) in pixels.

    Objects of which less than half is left are dropped; where one is dropped that can still be seen, the sample no
    longer claims to be complete, and names it as ``cut``.
    """
    left, top, width, height = window
    known = sample.complete or sample.cut
    regions, cut = [], []
    for region in (*sample.regions, *sample.cut):
        x0, y0, x1, y1 = region.box.bounds.to_pixels(sample.size)
        seen = max(0, min(x1, left + width) - max(x0, left)) * max(0, min(y1, top + height) - max(y0, top))
        share = seen / max((x1 - x0) * (y1 - y0), 1e-9)
        if share >= 0.5 and isinstance(region.box, OrientedBox):
            corners = tuple((x - left, y - top) for x, y in region.box.to_pixels(sample.size))
            box = OrientedBox.from_pixels(corners, (width, height))
        elif share > 0.05:
            box = Box.from_pixels(x0 - left, y0 - top, x1 - left, y1 - top, (width, height))
        else:
            continue
        (regions if share >= 0.5 and region not in sample.cut else cut).append(Region(box, region.label))
    cropped = replace(
        sample,
        size=(width, height),
        regions=tuple(regions),
        complete=sample.complete and not cut,
        cut=tuple(cut) if known else (),
    )
    return cropped, pixels[top : top + height, left : left + width]


def hide(pixels: np.ndarray, rng: random.Random) -> np.ndarray:
    """A rectangle of 2 to 20 % of an image, anywhere, gets the mean of its pixels (random erasing, Zhong et al., 2020);
    same shape and type."""
    height, width = pixels.shape[:2]
    share, ratio = rng.uniform(0.02, 0.2), math.exp(rng.uniform(-1, 1))
    across, down = (
        min(side, max(1, round(side * math.sqrt(share * long)))) for side, long in ((width, ratio), (height, 1 / ratio))
    )
    left, top = rng.randint(0, width - across), rng.randint(0, height - down)
    hidden = pixels.copy()
    hidden[top : top + down, left : left + across] = pixels.mean(axis=(0, 1)).astype(np.uint8)
    return hidden


def relight(pixels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Other gain, offset and tint, and now and then a coarser image; same shape and type."""
    if rng.random() < 0.15:
        height, width = pixels.shape[:2]
        part = rng.uniform(0.4, 0.9)
        small = Image.fromarray(pixels).resize((max(1, int(width * part)), max(1, int(height * part))))
        pixels = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    gain = rng.uniform(0.75, 1.3)
    gains = [gain * rng.uniform(0.92, 1.08) for _ in range(3)] if pixels.ndim == 3 else [gain]
    mean, offset = pixels.mean(), rng.uniform(-25, 25)
    levels = np.arange(256)[:, None]
    table = np.clip((levels - mean) * gains + mean + offset, 0, 255).astype(np.uint8)  # [256, channels]
    if pixels.ndim == 2:
        return table[:, 0][pixels]
    return np.stack([table[:, channel][pixels[..., channel]] for channel in range(3)], axis=-1)

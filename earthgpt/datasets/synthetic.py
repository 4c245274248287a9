"""Procedural scenes of every sensor with exact truth; nothing is downloaded and nothing is stored.

A scene is a function of its seed and sensor: its layout (``_layouts``), its picture (``_drawing``), and what is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earthgpt.datasets import Dataset
from earthgpt.datasets._drawing import picture
from earthgpt.datasets._layouts import CLASSES, KINDS, Layout, Thing, layout_of
from earthgpt.types import Box, OrientedBox, Region, Sample, Sensor, Size

PLURALS = {"person": "people"}
COUNTS = ("no", "a", "two", "three", "four", "five", "six")


@dataclass(frozen=True, slots=True)
class Rendering:
    """The pixels of a scene when called: uint8, [H, W, 3] for optical, [H, W] for SAR and infrared."""

    seed: int
    sensor: Sensor
    size: Size | None = None

    def __call__(self) -> np.ndarray:
        return picture(layout_of(self.seed, self.sensor, self.size), self.seed, self.sensor)


def _phrase(label: str, count: int) -> str:
    """``two ships``, ``an airplane``, ``many cars``."""
    if count == 1:
        return ("an " if label[0] in "aeiou" else "a ") + label
    return f"{COUNTS[count] if count < len(COUNTS) else 'many'} {PLURALS.get(label, label + 's')}"


def _captions(layout: Layout, sensor: Sensor) -> tuple[str, ...]:
    _, where = KINDS[sensor][layout.kind]
    counts = Counter(thing.label for thing in layout.things)
    objects = " and ".join(_phrase(label, count) for label, count in sorted(counts.items()))
    view = {Sensor.OPTICAL: "an aerial image", Sensor.SAR: "a radar image", Sensor.INFRARED: "a thermal image"}[sensor]
    if not objects:
        return (
            f"{view.capitalize()} of {where}.",
            f"There is nothing but {where.removeprefix('a ').removeprefix('an ')} in the image.",
        )
    verb = "is" if sum(counts.values()) == 1 else "are"
    preposition = "on" if layout.kind in ("open sea", "road", "square") else "in"
    objects_first = f"{objects[0].upper()}{objects[1:]} {verb} {preposition} {where}."
    return objects_first, f"{view.capitalize()} of {where} with {objects}."


def scene(seed: int, sensor: Sensor, size: Size | None = None) -> Sample:
    """One scene: a Sample whose ``image`` renders the pixels when it is called.

    The same seed, sensor and size give the same scene on every machine. ``size`` is (width, height) in pixels, at
    least 64 each; None lets the seed choose. Raises ValueError for a smaller size.
    """
    sensor = Sensor(sensor)
    if size is not None and min(size) < 64:
        raise ValueError(f"A scene is at least 64 pixels wide and high, not {size}.")
    layout = layout_of(seed, sensor, size)
    regions = tuple(
        Region(_box(thing, layout.size), thing.label)
        for thing in sorted(layout.things, key=lambda thing: (thing.label, thing.x, thing.y))
    )
    return Sample(
        image=Rendering(seed, sensor, size),
        name=f"{sensor}/{seed}",
        size=layout.size,
        sensor=sensor,
        label=layout.kind,
        choices=tuple(KINDS[sensor]),
        captions=_captions(layout, sensor),
        regions=regions,
        classes=CLASSES[sensor],
        complete=True,
    )


def _box(thing: Thing, size: Size) -> Box | OrientedBox:
    return OrientedBox.from_pixels(tuple(thing.corners), size)


SPLITS = {"val": range(0, 300), "test": range(300, 600), "train": range(600, 30_600)}


def read(root: Path | None, split: str, defects: Counter) -> Iterator[Sample]:
    """A scene for every seed of the split, of one sensor after the other."""
    for seed in SPLITS[split]:
        yield scene(seed, list(KINDS)[seed % len(KINDS)])


DATASET = Dataset(
    title="Synthetic scenes",
    sensors=tuple(KINDS),
    tasks=(
        "scene_classification",
        "image_captioning",
        "region_captioning",
        "visual_question_answering",
        "visual_grounding",
        "object_detection",
    ),
    licence="Apache-2.0",
    homepage="",
    citation="Made by this package.",
    splits=("train", "val", "test"),
    classes=tuple(sorted({label for labels in CLASSES.values() for label in labels})),
    counts={split: len(seeds) for split, seeds in SPLITS.items()},
    reader=read,
    downloaded=False,
)

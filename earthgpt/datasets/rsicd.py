"""RSICD: 10,921 scenes with five captions each."""

import re
from pathlib import Path

from earthgpt.datasets import Dataset, Paper, aid, images_of
from earthgpt.folders import either, layout
from earthgpt.formats import captions
from earthgpt.image_files import size_if_there
from earthgpt.types import Sample, Sensor

LABELS = {folder.lower(): label for folder, label in aid.LABELS.items()}


def read(root, split, defects):
    """``dataset_rsicd.json`` and ``RSICD_images/``; the five captions repeat each other, so fewer are distinct."""
    listing = layout(root, "dataset_rsicd.json", "dataset.json")
    images = either(listing.parent, "RSICD_images", "images", "imgs")
    for file, texts in captions(listing, split, defects):
        # 10,000 files are <class>_<n>.jpg; the other 921 (00001.jpg ...) are of a class that the name does not tell.
        stem = re.fullmatch(r"([a-z]+)_\d+", Path(file).stem)
        label = LABELS.get(stem[1]) if stem else None
        choices = DATASET.classes if label else ()
        size = size_if_there(images / file, defects)
        yield Sample(images / file, file, size, Sensor.OPTICAL, label=label, choices=choices, captions=texts)


DATASET = Dataset(
    title="RSICD",
    sensors=(Sensor.OPTICAL,),
    tasks=("image_captioning", "scene_classification"),
    licence="none stated; academic use",
    homepage="https://github.com/201528014227051/RSICD_optimal",
    citation="Lu et al., Exploring Models and Data for Remote Sensing Image Caption Generation, 2018",
    splits=("train", "val", "test"),
    classes=tuple(LABELS.values()),
    counts={"train": 8_734, "val": 1_094, "test": 1_093},
    reader=read,
    objects={"train": 17_813, "val": 2_901, "test": 3_619},
    # All of it: images that others test captions on are in MMRS-1M.
    paper=Paper(splits=("train", "val", "test"), turns=24_333),
    identity=images_of("aid"),
)

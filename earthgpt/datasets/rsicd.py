"""RSICD: 10,921 scenes with five captions each."""

import re

from earthgpt.datasets import Dataset
from earthgpt.formats import captions, existing, image_size
from earthgpt.types import Sample, Sensor

CLASSES = (
    "airport,bare land,baseball field,beach,bridge,center,church,commercial,dense residential,desert,farmland,forest,"
    "industrial,meadow,medium residential,mountain,park,parking,playground,pond,port,railway station,resort,river,"
    "school,sparse residential,square,stadium,storage tanks,viaduct"
)
LABELS = {label.replace(" ", ""): label for label in CLASSES.split(",")}


def read(root, split, defects):
    """``dataset_rsicd.json`` and ``RSICD_images/``; the five captions repeat each other, so fewer are distinct."""
    for file, part, texts in captions(root / "dataset_rsicd.json"):
        path = root / "RSICD_images" / file
        if part != split or not existing(path, defects):
            continue
        # 10,000 files are <class>_<n>.jpg; the other 921 (00001.jpg ...) are of a class that the name does not tell.
        stem = re.fullmatch(r"([a-z]+)_\d+", path.stem)
        label = LABELS.get(stem[1]) if stem else None
        choices = DATASET.classes if label else ()
        yield Sample(path, file, image_size(path), Sensor.OPTICAL, label=label, choices=choices, captions=texts)


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
)

"""HRSID: ships in SAR images, oriented boxes from their outlines."""

from earthgpt.datasets import DETECTION, Dataset, Paper
from earthgpt.folders import either, layout
from earthgpt.formats import coco, detected, rectangle, spellings
from earthgpt.types import Sensor

LABELS = spellings(("ship",))


def read(root, split, defects):
    """``HRSID_JPG/annotations/<split>2017.json`` and ``HRSID_JPG/JPEGImages/``."""
    path = layout(root, f"annotations/{split}2017.json")
    for image in coco(path, defects):
        # Rotated HRSID benchmarks take the smallest rectangle about the outline; without one the upright box stands.
        image_path = either(path.parents[1], "JPEGImages") / image.file
        yield from detected(path.parents[1], image_path, image, Sensor.SAR, LABELS, defects, rectangle)


DATASET = Dataset(
    title="HRSID",
    sensors=(Sensor.SAR,),
    tasks=DETECTION,
    licence="GPL-3.0",
    homepage="https://github.com/chaozhong2010/HRSID",
    citation="Wei et al., HRSID: A High-Resolution SAR Images Dataset for Ship Detection and Instance "
    "Segmentation, 2020",
    splits=("train", "test"),
    classes=("ship",),
    counts={"train": 3_642, "test": 1_962},
    objects={"total": 16_951},
    reader=read,
    # One turn an image: 3,642 upright and 3,623 oriented; which 19 were left out is not known.
    paper=Paper(splits=("train",), turns=7_265, per_class=False, oriented=True),
)

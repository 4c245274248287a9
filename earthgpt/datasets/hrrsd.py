"""HRRSD: 13 classes of objects in 21,761 optical images."""

from dataclasses import replace

from earthgpt.datasets import Dataset, Paper, images_of
from earthgpt.folders import either, layout
from earthgpt.formats import detected, listed, spellings
from earthgpt.types import Sensor

CLASSES = (
    "ship,bridge,ground track field,storage tank,basketball court,tennis court,airplane,baseball diamond,harbor,"
    "vehicle,crossroad,T junction,parking lot"
)
LABELS = spellings(CLASSES.split(","))


def read(root, split, defects):
    """``OPT2017/ImageSets/Main/<split>.txt``, ``Annotations/`` and ``JPEGImages/``."""
    # The lists of COCOFormat/ in the same repository are another split.
    listing = layout(root, f"OPT2017/ImageSets/Main/{split}.txt", f"ImageSets/Main/{split}.txt")
    folder = listing.parents[2]
    for path, image in listed(listing, either(folder, "Annotations"), either(folder, "JPEGImages"), defects):
        # Large scenes name a few objects only (00541: three on 2388 x 3192 pixels): absence is not a fact here.
        for sample in detected(root, path, image, Sensor.OPTICAL, LABELS, defects):
            yield replace(sample, complete=False)


DATASET = Dataset(
    title="HRRSD",
    sensors=(Sensor.OPTICAL,),
    tasks=("object_detection", "region_captioning"),
    licence="Mulan PSL v1",
    homepage="https://github.com/CrazyStoneonRoad/TGRS-HRRSD-Dataset",
    citation="Zhang et al., Hierarchical and Robust Convolutional Neural Network for Very High-Resolution Remote "
    "Sensing Object Detection, 2019",
    splits=("train", "val", "test"),
    classes=tuple(CLASSES.split(",")),
    counts={"train": 5_401, "val": 5_417, "test": 10_943},
    objects={"total": 57_137},  # in the files; 55,740 in the readme
    reader=read,
    # 1 + classes of each image: exact.
    paper=Paper(splits=("train", "val"), turns=23_044),
    identity=images_of("hrrsd"),
)

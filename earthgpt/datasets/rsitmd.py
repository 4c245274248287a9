"""RSITMD: 4,743 scenes with five captions each, more detailed than those of RSICD."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.datasets._captions import described
from earthgpt.folders import either, layout
from earthgpt.types import Sensor


def read(root, split, defects):
    """``dataset_RSITMD.json`` and ``images/<class>_<number>.tif``."""
    # Before 2021-10-28 four images of train had empty captions (change log of the repository).
    listing = layout(root, "dataset_RSITMD.json")
    return described(listing, either(listing.parent, "images"), split, defects)


DATASET = Dataset(
    title="RSITMD",
    sensors=(Sensor.OPTICAL,),
    tasks=("image_captioning",),
    licence="none stated",
    homepage="https://github.com/xiaoyuan1996/AMFMN",
    citation="Yuan et al., Exploring a Fine-Grained Multiscale Method for Cross-Modal Remote Sensing Image "
    "Retrieval, 2021",
    splits=("train", "test"),
    classes=(),
    counts={"train": 4_291, "test": 452},
    reader=read,
    objects={"train": 20_096, "test": 2_122},
    paper=Paper(splits=("train",), turns=20_096),
)

"""UCM-Captions: the 2,100 scenes of UC Merced with five captions each."""

from earthgpt.datasets import Dataset, Paper, images_of
from earthgpt.datasets._captions import described
from earthgpt.folders import either, layout
from earthgpt.types import Sensor


def read(root, split, defects):
    """``dataset.json`` and ``imgs/<number>.tif``; five captions an image, some of them alike."""
    # A copy of the captions that writes "formland" 111 times is about: 9,988 distinct captions instead of 9,986.
    listing = layout(root, "UCM_captions/dataset.json", "dataset.json", "dataset_ucm.json")
    return described(listing, either(listing.parent, "imgs", "images"), split, defects)


DATASET = Dataset(
    title="UCM-Captions",
    sensors=(Sensor.OPTICAL,),
    tasks=("image_captioning",),
    licence="none stated",
    homepage="https://github.com/201528014227051/RSICD_optimal",
    citation="Qu et al., Deep Semantic Understanding of High Resolution Remote Sensing Image, 2016",
    splits=("train", "val", "test"),
    classes=(),
    counts={"train": 1_680, "val": 210, "test": 210},
    reader=read,
    objects={"train": 7_999, "val": 982, "test": 1_005},
    # All of it: images that others test captions on are in MMRS-1M.
    paper=Paper(splits=("train", "val", "test"), turns=9_986),
    identity=images_of("ucmerced"),
)

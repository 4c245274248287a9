"""Sydney-Captions: 613 scenes of Sydney with five captions each."""

from earthgpt.datasets import Dataset, Paper, images_of
from earthgpt.datasets._captions import described
from earthgpt.folders import either, layout
from earthgpt.types import Sensor


def read(root, split, defects):
    """``dataset.json`` and ``imgs/<number>.tif``; five captions an image, some of them alike."""
    listing = layout(root, "Sydney_captions/dataset.json", "dataset.json", "dataset_sydney.json")
    return described(listing, either(listing.parent, "imgs", "images"), split, defects)


DATASET = Dataset(
    title="Sydney-Captions",
    sensors=(Sensor.OPTICAL,),
    tasks=("image_captioning",),
    licence="none stated",
    homepage="https://github.com/201528014227051/RSICD_optimal",
    citation="Qu et al., Deep Semantic Understanding of High Resolution Remote Sensing Image, 2016",
    splits=("train", "val", "test"),
    classes=(),
    counts={"train": 497, "val": 58, "test": 58},
    reader=read,
    objects={"train": 2_294, "val": 274, "test": 269},
    # All of it: images that others test captions on are in MMRS-1M.
    paper=Paper(splits=("train", "val", "test"), turns=2_837),
    identity=images_of("sydney_captions"),
)

"""CLRS: 15,000 scenes of 25 classes, from 0.26 to 8.85 m."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.formats import scenes
from earthgpt.types import Sensor

FOLDERS = (
    "airport,bare-land,beach,bridge,commercial,desert,farmland,forest,golf-course,highway,industrial,meadow,mountain,"
    "overpass,park,parking,playground,port,railway,railway-station,residential,river,runway,stadium,storage-tank"
)
LABELS = {folder: folder.replace("-", " ") for folder in FOLDERS.split(",")}


def read(root, split, defects):
    """``<class>/<class>_<number>_Level<1-3>_<resolution>m.tif``."""
    return scenes(root, LABELS, defects)


DATASET = Dataset(
    title="CLRS",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="none stated",
    homepage="https://github.com/lehaifeng/CLRS",
    citation="Li et al., CLRS: Continual Learning Benchmark for Remote Sensing Image Scene Classification, 2020",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 15_000},
    reader=read,
    paper=Paper(splits=("all",)),
)

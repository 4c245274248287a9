"""UC Merced Land Use: 2,100 aerial scenes of 21 classes."""

import re
from pathlib import PurePosixPath

from earthgpt.datasets import Dataset, Paper
from earthgpt.formats import scenes
from earthgpt.types import Sensor

CLASSES = (
    "agricultural,airplane,baseball diamond,beach,buildings,chaparral,dense residential,forest,freeway,golf course,"
    "harbor,intersection,medium residential,mobile home park,overpass,parking lot,river,runway,sparse residential,"
    "storage tanks,tennis court"
)
# Folders are named in one word: baseballdiamond.
LABELS = {label.replace(" ", ""): label for label in CLASSES.split(",")}
FOLDERS = sorted(LABELS)


def read(root, split, defects):
    """``Images/<class>/<class>00.tif`` to ``99.tif``; a few are not exactly 256 x 256."""
    return scenes(root, LABELS, defects)


def identity(name):
    """That of UCM-Captions, which numbers the images from 1: a hundred for each class in the order of its names."""
    stem = PurePosixPath(name).stem.lower()
    scene = re.fullmatch(r"([a-z]+)(\d\d)", stem)
    number = 100 * FOLDERS.index(scene[1]) + int(scene[2]) + 1 if scene and scene[1] in LABELS else stem
    return f"ucmerced/{number}"


DATASET = Dataset(
    title="UC Merced Land Use",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="none stated",
    homepage="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
    citation="Yang and Newsam, Bag-Of-Visual-Words and Spatial Extensions for Land-Use Classification, 2010",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 2_100},
    reader=read,
    paper=Paper(splits=("all",), turns=420, share=0.2),
    identity=identity,
)

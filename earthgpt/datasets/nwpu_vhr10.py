"""NWPU VHR-10: ten classes of objects in 650 optical images, by its own text files or the later COCO annotation."""

import re

from earthgpt.datasets import DETECTION, Dataset, Paper
from earthgpt.folders import either, files, layout, search
from earthgpt.formats import AnnotatedImage, Annotation, coco, detected, lines, spellings
from earthgpt.types import Sensor

CLASSES = (
    "airplane,ship,storage tank,baseball diamond,tennis court,basketball court,ground track field,harbor,bridge,vehicle"
)
LABELS = spellings(CLASSES.split(","), {str(i): label for i, label in enumerate(CLASSES.split(","), 1)})
# Most images that have no vehicle box show parked cars all the same, so the absence of a vehicle is not a fact here.
CERTAIN = tuple(CLASSES.split(",")[:-1])
LINE = re.compile(r"\(\s*(-?\d+)\s*,\s*(-?\d+)\s*\)\s*,\s*\(\s*(-?\d+)\s*,\s*(-?\d+)\s*\)\s*,\s*(\d+)")


def read(root, split, defects):
    """``annotations.json``, or else ``ground truth/001.txt`` ...; and ``positive image set/``."""
    # The official text files label 3,775 objects and this JSON 3,921 (604 instead of 477 vehicles): scores on the
    # one are not scores on the other.
    found = layout(root, "annotations.json", "ground?truth")
    # The COCO annotation comes in a folder of its own, which may lie beside that of the images.
    images = search(root, "positive?image?set") or found.parent / "positive image set"
    images = either(images.parent, images.name)
    for image in coco(found, defects) if found.is_file() else texts(found):
        yield from detected(images.parent, images / image.file, image, Sensor.OPTICAL, LABELS, defects, classes=CERTAIN)


def texts(folder):
    """Lines like ``(563,478),(630,573),1`` with blanks anywhere; classes are numbered from 1."""
    for path in files(either(folder.parent, folder.name), "*.txt"):
        matches = [LINE.match(line) for line in lines(path)]
        rows = [[int(number) for number in match.groups()] for match in matches if match]
        objects = tuple(Annotation(str(kind), (x0, y0, x1 - x0, y1 - y0)) for x0, y0, x1, y1, kind in rows)
        yield AnnotatedImage(f"{path.stem}.jpg", (0, 0), objects, {"unreadable lines": matches.count(None)})


DATASET = Dataset(
    title="NWPU VHR-10",
    sensors=(Sensor.OPTICAL,),
    tasks=DETECTION,
    licence="CC BY-NC 4.0",
    homepage="https://gcheng-nwpu.github.io/#Datasets",
    citation="Cheng et al., Multi-class geospatial object detection and geographic image classification based on "
    "collection of part detectors, 2014; COCO annotation: Su et al., Object Detection and Instance Segmentation in "
    "Remote Sensing Imagery Based on Precise Mask R-CNN, 2019",
    splits=("all",),
    classes=tuple(CLASSES.split(",")),
    counts={"all": 650},
    objects={"all": 3_775},  # of the text files
    reader=read,
    # All images whole would give about 1,537 turns: tiles, or the 1,172 crops of VHR-10.v2.
    paper=Paper(splits=("all",), turns=3_190, tiled=True),
)

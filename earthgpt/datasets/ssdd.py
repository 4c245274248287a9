"""SSDD: ships in 1,160 SAR images, upright boxes."""

from collections import Counter
from pathlib import Path

from earthgpt.datasets import DETECTION, Dataset, Paper, images_of
from earthgpt.folders import MissingFilesError, either, layout
from earthgpt.formats import coco, detected, listed, spellings, upright
from earthgpt.types import Sensor

LABELS = spellings(("ship",))


def read(root, split, defects, kind="BBox_SSDD", box=upright):
    """``Official-SSDD-OPEN/<kind>/{voc_style,coco_style}``, or ``SSDD.json``: the outlines of 2019."""
    found = layout(
        root,
        f"{kind}/voc_style/ImageSets/Main/{split}.txt",
        f"{kind}/coco_style/annotations/{split}.json",
        f"voc_style/ImageSets/Main/{split}.txt",
        f"coco_style/annotations/{split}.json",
        "SSDD.json",
    )
    if {"BBox_SSDD", "RBox_SSDD", "PSeg_SSDD"} & {*found.parts} - {kind}:
        raise MissingFilesError(f"No folder {kind} in {root}: {found} is of another kind of annotations.")
    for path, image in images(found, split, defects):
        yield from detected(root, path, image, Sensor.SAR, LABELS, defects, box)


def images(found, split, defects):
    """Each image with its annotations, of a list of names or a COCO file of the official release, or SSDD.json."""
    if found.suffix == ".txt":
        folder = found.parents[2]
        yield from listed(found, either(folder, "Annotations"), either(folder, "JPEGImages"), defects)
        return
    official = found.name != "SSDD.json"
    folder = found.parents[1] / "images" / split if official else either(found.parent, "JPEGImages", "images")
    # Strays of the one file for both splits are counted with the first.
    for image in coco(found, Counter() if split == "test" and not official else defects):
        # The official test images are those whose number ends in 1 or 9.
        if official or (Path(image.file).stem[-1] in "19") == (split == "test"):
            yield folder / image.file, image


DATASET = Dataset(
    title="SSDD",
    sensors=(Sensor.SAR,),
    tasks=DETECTION,
    licence="Apache-2.0",
    homepage="https://github.com/TianwenZhang0825/Official-SSDD",
    citation="Zhang et al., SAR Ship Detection Dataset (SSDD): Official Release and Comprehensive Data Analysis, 2021",
    splits=("train", "test"),
    classes=("ship",),
    counts={"train": 928, "test": 232},
    objects={"train": 2_041, "test": 546},  # one ship less in SSDD.json
    reader=read,
    # One turn for each image, for upright and oriented boxes; two upright ones would give the same number.
    paper=Paper(splits=("train",), turns=1_856, per_class=False, oriented_set="ssdd_oriented"),
    identity=images_of("ssdd"),
)

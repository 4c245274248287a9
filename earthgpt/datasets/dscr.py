"""DSCR: ships of seven kinds, cut out of other sets and multiplied by turning, cropping and lighting."""

import csv
import os
from contextlib import suppress

from earthgpt.datasets import Dataset, Paper
from earthgpt.folders import files, layout
from earthgpt.formats import lines, shaped
from earthgpt.image_files import size_if_there
from earthgpt.types import Sample, Sensor

# The files use one word, the readme these.
LABELS = {
    "aircraft carrier": "aircraft carrier",
    "destroyer": "destroyer",
    "assault": "assault ship",
    "combat": "combat ship",
    "cruiser": "cruiser",
    "other": "other military ship",
    "civil": "civilian ship",
}


def read(root, split, defects):
    """``annotations/<split>.csv``, and images anywhere below ``root``."""
    listing = layout(root, f"annotations/{split}.csv", f"{split}.csv")
    images = {
        unmangled(path.name): path for path in files(root, "**/*", mangled=True)
    }  # 20151031_2 is a .png and a .bmp
    labels = {}
    with shaped(listing, "list of files and their classes"):
        # The header says class,label, but the first column is the file and the second the class.
        for file, kind in list(csv.reader(lines(listing)))[1:]:
            defects["files listed twice"] += file in labels  # all civilian ships of val.csv
            labels.setdefault(file, LABELS[kind])
    for file, label in labels.items():
        path = images.get(file, root / file)
        size = size_if_there(path, defects)
        yield Sample(path, file, size, Sensor.OPTICAL, label=label, choices=DATASET.classes)


def unmangled(name):
    """A file name as its owners wrote it: unzip takes Chinese names, which are in GBK, for code page 437, or leaves
    their bytes."""
    with suppress(UnicodeError):
        return name.encode("cp437").decode("gbk")
    with suppress(UnicodeError):
        return os.fsencode(name).decode()
    return os.fsencode(name).decode("gbk", "replace")


DATASET = Dataset(
    title="DSCR",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="none stated",
    homepage="https://github.com/DYH666/DSCR",
    citation="Di et al., A Public Dataset for Ship Classification in Remote Sensing Images, 2019",
    splits=("train", "val", "test"),
    classes=tuple(LABELS.values()),
    counts={"train": 13_961, "val": 3_354, "test": 3_331},
    reader=read,
    # 13,961 images without the 2,010 other military ships.
    paper=Paper(splits=("train",), turns=11_951, keep=lambda sample: sample.label != "other military ship"),
)

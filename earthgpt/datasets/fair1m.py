"""FAIR1M: 37 fine classes of ships, vehicles, airplanes, courts and roads, oriented boxes."""

from earthgpt.datasets import DETECTION, Dataset, Paper
from earthgpt.folders import files, images_below, layout, paired
from earthgpt.formats import detected, quadrilateral, spellings, voc
from earthgpt.types import Sensor

CLASSES = (
    "passenger ship,motorboat,fishing boat,tugboat,engineering ship,liquid cargo ship,dry cargo ship,warship,"
    "other ship,small car,bus,cargo truck,dump truck,van,trailer,tractor,excavator,truck tractor,other vehicle,"
    "Boeing737,Boeing747,Boeing777,Boeing787,C919,A220,A321,A330,A350,ARJ21,other airplane,tennis court,"
    "basketball court,football field,baseball field,intersection,roundabout,bridge"
)
LABELS = spellings(CLASSES.split(","))


def read(root, split, defects):
    """``train/part1/labelXml/0.xml`` and ``train/part1/images/0.tif``; ``validation/`` has no parts."""
    folder = layout(root, *(("train",) if split == "train" else ("validation", "val")))
    # labelXmls in some archives (torchgeo, fair1m.py).
    found = layout(folder, "labelXml*/*.xml", "part*/labelXml*/*.xml")
    holder = next(path for path in found.parents if not path.name.startswith("labelXml"))
    # Files have one name in several parts.
    for part in sorted(holder.parent.glob("part*/")) if holder.name.startswith("part") else [holder]:
        annotations = files(part, "**/*.xml")
        for path, image_path in paired(annotations, images_below(part), part / "images", ".tif", defects):
            yield from detected(root, image_path, voc(path), Sensor.OPTICAL, LABELS, defects, quadrilateral)


DATASET = Dataset(
    title="FAIR1M",
    sensors=(Sensor.OPTICAL,),
    tasks=DETECTION,
    licence="CC BY-NC-SA 3.0",
    homepage="https://www.gaofen-challenge.com/benchmark",
    citation="Sun et al., FAIR1M: A benchmark dataset for fine-grained object recognition in high-resolution remote "
    "sensing imagery, 2022",
    splits=("train", "val"),  # validation is labelled from 2.0 on; the test images are not
    classes=tuple(CLASSES.split(",")),
    counts={"train": 16_488},
    reader=read,
    # Few for 37 classes in 16,488 images: the five groups, or a part of the images.
    paper=Paper(splits=("train",), turns=40_466),
)

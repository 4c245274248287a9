"""VisDrone2019-DET: ten classes of people and vehicles in images from drones."""

from earthgpt.datasets import DETECTION, Dataset, Paper
from earthgpt.folders import either, files, images_below, layout, paired
from earthgpt.formats import AnnotatedImage, Annotation, detected, lines, spellings
from earthgpt.outlines import floats
from earthgpt.types import EarthGPTError, Sensor

# "people" are those who neither stand nor walk; "motor" is a motorcycle.
CLASSES = "pedestrian,person,bicycle,car,van,truck,tricycle,awning tricycle,bus,motor"
CODES = ("ignored", *CLASSES.split(","), "others")
LABELS = spellings(CODES[1:-1], {"ignored": None, "others": None, "unscored": None})


def read(root, split, defects):
    """``VisDrone2019-DET-<split>/annotations/<image>.txt`` and ``images/<image>.jpg``."""
    folder = layout(root, f"VisDrone2019-DET-{split}/annotations", f"{split}/annotations").parent
    images, paths = either(folder, "images"), files(either(folder, "annotations"), "*.txt")
    for path, image_path in paired(paths, images_below(images), images, ".jpg", defects):
        yield from detected(root, image_path, labelled(path), Sensor.OPTICAL, LABELS, defects)


def labelled(path):
    """left, top, width, height, score, category, truncation, occlusion on a line; a comma may follow."""
    stated = [floats(line.rstrip(",").split(",")) or () for line in lines(path)]
    if any(len(row) == 10 for row in stated):
        raise EarthGPTError(f"{path} has the ten columns of the VisDrone videos; get VisDrone2019-DET.")
    rows = [row for row in stated if len(row) == 8 and 0 <= row[5] < len(CODES)]
    objects = tuple(Annotation(label_of(row), row[:4]) for row in rows)
    return AnnotatedImage(path.stem, (0, 0), objects, {"unreadable lines": len(stated) - len(rows)})


def label_of(row):
    """The official evaluation drops ignored regions, others, and what has score 0 (VisDrone2018-DET-toolkit)."""
    label = CODES[int(row[5])]
    return "unscored" if row[4] == 0 and label in CODES[1:-1] else label


DATASET = Dataset(
    title="VisDrone2019-DET",
    sensors=(Sensor.OPTICAL,),
    tasks=DETECTION,
    licence="CC BY-NC-SA 3.0 by its web site; check there",
    homepage="https://github.com/VisDrone/VisDrone-Dataset",
    citation="Zhu et al., Detection and Tracking Meet Drones Challenge, 2021",
    splits=("train", "val", "test-dev"),  # test-challenge has no labels
    classes=CODES[1:-1],
    counts={"train": 6_471, "val": 548, "test-dev": 1_610},
    reader=read,
    paper=Paper(splits=("train", "val"), turns=186_810, tiled=True),
)

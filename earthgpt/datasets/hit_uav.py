"""HIT-UAV: people and vehicles in thermal images from a drone, upright boxes."""

from earthgpt.datasets import DETECTION, Dataset, Paper, images_of
from earthgpt.folders import either, layout
from earthgpt.formats import coco, detected, spellings, upright
from earthgpt.outlines import floats, oriented_box, rotated_rectangle
from earthgpt.types import Sensor

CLASSES = ("person", "car", "bicycle", "other vehicle")
# DontCare marks objects that nobody could name, so such an image holds more than its regions say. MMRS-1M asked for
# it like for a class.
UNNAMED = ("DontCare",)
LABELS = spellings(CLASSES + UNNAMED)


def read(root, split, defects, oriented=False):
    """``normal_json/<split>/*.jpg`` and ``normal_json/annotations/<split>.json``, with keys of its own; with oriented
    boxes ``rotate_json/``, whose upright hulls stand where there is nothing else.
    """
    turned_path = f"rotate_json/annotations/{split}.json"
    path = layout(root, *(() if oriented else (f"normal_json/annotations/{split}.json",)), turned_path)
    # The readme calls a box centre-based; the numbers are those of its top left corner (264,319,10,12 there is
    # 269,325.9 by centre in rotate_json).
    rotated = path.parents[1].name == "rotate_json"
    box = (turned if oriented else hull) if rotated else upright
    for image in coco(path, defects, file="filename", annotations="annotations" if rotated else "annotation"):
        image_path = either(path.parents[1], split) / image.file
        yield from detected(root, image_path, image, Sensor.INFRARED, LABELS, defects, box, CLASSES)


def turned(annotation, size, defects):
    """center x, center y, width, height, angle: in radians, clockwise on the screen (seen on cars at 45 degrees)."""
    numbers = floats(annotation.bbox) or ()
    if len(numbers) != 5:
        defects["boxes that are not numbers"] += 1
        return None
    return oriented_box(rotated_rectangle(*numbers), size, defects)


def hull(annotation, size, defects):
    """The upright box about a turned one."""
    box = turned(annotation, size, defects)
    return box and box.bounds


DATASET = Dataset(
    title="HIT-UAV",
    sensors=(Sensor.INFRARED,),
    tasks=DETECTION,
    licence="CC BY 4.0",
    homepage="https://github.com/suojiashun/HIT-UAV-Infrared-Thermal-Dataset",
    citation="Suo et al., HIT-UAV: A high-altitude infrared thermal dataset for Unmanned Aerial Vehicle-based object "
    "detection, 2023",
    splits=("train", "val", "test"),
    classes=CLASSES,
    counts={"train": 2_029, "val": 290, "test": 579},
    objects={"train": 17_628, "val": 2_460, "test": 4_811},  # with 148 DontCare
    reader=read,
    unnamed=UNNAMED,
    # (1 + classes) of each image, for upright and oriented boxes; exact with DontCare as a class, 10,448 without.
    paper=Paper(splits=("train", "val"), turns=10_608, oriented_set="hit_uav_oriented"),
    identity=images_of("hit_uav"),
)

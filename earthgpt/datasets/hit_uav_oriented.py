"""HIT-UAV with oriented boxes: the same images and objects as ``hit_uav``."""

from dataclasses import replace

from earthgpt.datasets import Paper, hit_uav
from earthgpt.formats import coco, detected, either, floats, layout, oriented_box, rotated_rectangle
from earthgpt.types import Sensor


def turned(annotation, size, defects):
    """center x, center y, width, height, angle: in radians, clockwise on the screen (seen on cars at 45 degrees)."""
    numbers = floats(annotation.bbox) or ()
    if len(numbers) != 5:
        defects["boxes that are not numbers"] += 1
        return None
    return oriented_box(rotated_rectangle(*numbers), size, defects)


def read(root, split, defects):
    """``rotate_json/<split>/*.jpg`` and ``rotate_json/annotations/<split>.json``."""
    path = layout(root, f"rotate_json/annotations/{split}.json")
    for image in coco(path, defects, file="filename"):
        image_path = either(path.parents[1], split) / image.file
        yield from detected(root, image_path, image, Sensor.INFRARED, hit_uav.LABELS, defects, turned, hit_uav.CLASSES)


DATASET = replace(
    hit_uav.DATASET,
    title="HIT-UAV oriented",
    reader=read,
    paper=Paper(splits=("train", "val"), turns=10_608, oriented=True),
)

"""HIT-UAV with oriented boxes: the same images and objects as ``hit_uav``."""

from earthgpt.datasets import Dataset
from earthgpt.formats import coco, existing, image_size, oriented_box, rotated_rectangle, words
from earthgpt.types import Region, Sample, Sensor

CLASSES = ("Person", "Car", "Bicycle", "OtherVehicle")


def read(root, split, defects):
    """``rotate_json/<split>/*.jpg`` and ``rotate_json/annotations/<split>.json``."""
    folder = root / "rotate_json"
    for image in coco(folder / "annotations" / f"{split}.json", defects, file="filename"):
        path = folder / split / image.file
        if not existing(path, defects):
            continue
        # DontCare marks objects that nobody could name, so the image may hold more than its regions say.
        kept = [o for o in image.annotations if o.label in CLASSES]
        defects["DontCare regions"] += len(image.annotations) - len(kept)
        # bbox is center x, center y, width, height, angle: in radians, clockwise on the screen (seen on cars at 45°).
        boxes = [(oriented_box(rotated_rectangle(*o.bbox), image.size, defects), words(o.label)) for o in kept]
        yield Sample(
            path,
            path.relative_to(root).as_posix(),
            image_size(path),
            Sensor.INFRARED,
            regions=tuple(Region(box, label) for box, label in boxes if box),
            classes=DATASET.classes,
            complete=len(kept) == len(image.annotations),
        )


DATASET = Dataset(
    title="HIT-UAV oriented",
    sensors=(Sensor.INFRARED,),
    tasks=("object_detection", "visual_grounding", "visual_question_answering", "region_captioning"),
    licence="CC BY 4.0",
    homepage="https://github.com/suojiashun/HIT-UAV-Infrared-Thermal-Dataset",
    citation="Suo et al., HIT-UAV: A high-altitude infrared thermal dataset for Unmanned Aerial Vehicle-based object "
    "detection, 2023",
    splits=("train", "val", "test"),
    classes=tuple(words(name) for name in CLASSES),
    counts={"train": 2_029, "val": 290, "test": 579},
    reader=read,
)

"""HIT-UAV: people and vehicles in thermal images from a drone, upright boxes."""

from earthgpt.datasets import Dataset
from earthgpt.formats import coco, corner_box, existing, image_size, words
from earthgpt.types import Region, Sample, Sensor

CLASSES = ("Person", "Car", "Bicycle", "OtherVehicle")


def read(root, split, defects):
    """``normal_json/<split>/*.jpg`` and ``normal_json/annotations/<split>.json``, with keys of its own."""
    folder = root / "normal_json"
    # The readme calls a box centre-based; the numbers are those of its top left corner (264,319,10,12 there is
    # 269,325.9 by centre in rotate_json).
    for image in coco(folder / "annotations" / f"{split}.json", defects, file="filename", annotations="annotation"):
        path = folder / split / image.file
        if not existing(path, defects):
            continue
        # DontCare marks objects that nobody could name, so the image may hold more than its regions say.
        kept = [o for o in image.annotations if o.label in CLASSES]
        defects["DontCare regions"] += len(image.annotations) - len(kept)
        boxes = [(corner_box(o.bbox, image.size, defects), words(o.label)) for o in kept]
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
    title="HIT-UAV",
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

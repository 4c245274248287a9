"""HRSID: ships in SAR images, oriented boxes from their outlines."""

from earthgpt.datasets import Dataset
from earthgpt.formats import coco, corner_box, existing, image_size, oriented_box
from earthgpt.types import Region, Sample, Sensor


def read(root, split, defects):
    """``annotations/<split>2017.json`` and ``JPEGImages/``."""
    for image in coco(root / "annotations" / f"{split}2017.json", defects):
        path = root / "JPEGImages" / image.file
        if not existing(path, defects):
            continue
        # Rotated HRSID benchmarks take the smallest rectangle about the outline; without one the upright box stands.
        boxes = [
            oriented_box(o.outline, image.size, defects) if o.outline else corner_box(o.bbox, image.size, defects)
            for o in image.annotations
        ]
        regions = tuple(Region(box, "ship") for box in boxes if box)
        name = path.relative_to(root).as_posix()
        yield Sample(path, name, image_size(path), Sensor.SAR, regions=regions, classes=DATASET.classes, complete=True)


DATASET = Dataset(
    title="HRSID",
    sensors=(Sensor.SAR,),
    tasks=("object_detection", "visual_grounding", "visual_question_answering", "region_captioning"),
    licence="GPL-3.0",
    homepage="https://github.com/chaozhong2010/HRSID",
    citation="Wei et al., HRSID: A High-Resolution SAR Images Dataset for Ship Detection and Instance "
    "Segmentation, 2020",
    splits=("train", "test"),
    classes=("ship",),
    counts={"train": 3_642, "test": 1_962},
    reader=read,
)

"""NWPU VHR-10: ten classes of objects in 650 optical images, by the later COCO annotation."""

from earthgpt.datasets import Dataset
from earthgpt.formats import coco, corner_box, existing, image_size, words
from earthgpt.types import Region, Sample, Sensor

CLASSES = (
    "airplane,ship,storage tank,baseball diamond,tennis court,basketball court,ground track field,harbor,bridge,vehicle"
)

# Most images that have no vehicle box show parked cars all the same, so the absence of a vehicle is not a fact here.
CERTAIN = tuple(CLASSES.split(",")[:-1])


def read(root, split, defects):
    """``annotations.json`` and ``positive image set/``."""
    # The official text files label 3,775 objects and this JSON 3,921 (604 instead of 477 vehicles): scores on the
    # one are not scores on the other.
    for image in coco(root / "annotations.json", defects):
        path = root / "positive image set" / image.file
        if not existing(path, defects):
            continue
        boxes = [(corner_box(o.bbox, image.size, defects), words(o.label)) for o in image.annotations]
        regions = tuple(Region(box, label) for box, label in boxes if box)
        name = path.relative_to(root).as_posix()
        yield Sample(path, name, image_size(path), Sensor.OPTICAL, regions=regions, classes=CERTAIN, complete=True)


DATASET = Dataset(
    title="NWPU VHR-10",
    sensors=(Sensor.OPTICAL,),
    tasks=("object_detection", "visual_grounding", "visual_question_answering", "region_captioning"),
    licence="CC BY-NC 4.0",
    homepage="https://gcheng-nwpu.github.io/#Datasets",
    citation="Cheng et al., Multi-class geospatial object detection and geographic image classification based on "
    "collection of part detectors, 2014; COCO annotation: Su et al., Object Detection and Instance Segmentation in "
    "Remote Sensing Imagery Based on Precise Mask R-CNN, 2019",
    splits=("all",),
    classes=tuple(CLASSES.split(",")),
    counts={"all": 650},
    reader=read,
)

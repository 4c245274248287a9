"""MAR20: military aircraft in 3,842 optical images, upright boxes, as one class: airplane."""

from earthgpt.datasets import Dataset, Paper, images_of
from earthgpt.datasets.dior import annotated
from earthgpt.formats import detected, spellings, upright
from earthgpt.types import Sensor

CODES = {f"A{i}": "airplane" for i in range(1, 21)}


def read(root, split, defects, kind="Horizontal", box=upright, codes=CODES):
    """``MAR20/ImageSets/Main/<split>.txt``, ``Annotations/<kind> Bounding Boxes/`` and ``JPEGImages/``."""
    labels = spellings((), codes)
    # 21 files state a size of 0 x 0, 589 name an .xml as their image, and 123 boxes exceed the stated size.
    for path, image in annotated(root, split, defects, kind, "JPEGImages", "MAR20-JPEGImages"):
        yield from detected(root, path, image, Sensor.OPTICAL, labels, defects, box)


DATASET = Dataset(
    title="MAR20",
    sensors=(Sensor.OPTICAL,),
    tasks=("object_detection",),
    licence="CC BY-NC 4.0",
    homepage="https://gcheng-nwpu.github.io/#Datasets",
    citation="Yu et al., MAR20: A Benchmark for Military Aircraft Recognition in Remote Sensing Images, 2023",
    splits=("train", "test"),
    classes=("airplane",),
    counts={"train": 1_331, "test": 2_511},
    objects={"train": 7_870, "test": 14_471},
    reader=read,
    # EarthGPT's AP near 90 without training suggests that it was asked for airplanes, not for types.
    paper=Paper(splits=("test",)),
    identity=images_of("mar20"),
)

"""DIOR: 20 classes of objects in 23,463 optical images, upright boxes."""

from earthgpt.datasets import DETECTION, Dataset, Paper, images_of
from earthgpt.folders import either, layout, search
from earthgpt.formats import detected, listed, spellings, upright
from earthgpt.types import Sensor

CLASSES = (
    "airplane,airport,baseball field,basketball court,bridge,chimney,dam,expressway service area,"
    "expressway toll station,golf field,ground track field,harbor,overpass,ship,stadium,storage tank,tennis court,"
    "train station,vehicle,windmill"
)
LABELS = spellings(CLASSES.split(","))


def annotated(root, split, defects, kind, *folders):
    """``ImageSets/Main/<split>.txt`` (or ``Main/``) and ``Annotations/<kind> Bounding Boxes/``, as in MAR20 too."""
    folders_of = (f"Annotations/{kind}?Bounding?Boxes", f"{kind}?Bounding?Boxes")
    # A folder without a kind has upright boxes.
    annotations = layout(root, *folders_of, *(["Annotations"] if kind == "Horizontal" else []))
    above = annotations.parent if annotations.parent.name != "Annotations" else annotations.parents[1]
    # Beside the annotations first: another set in ``root`` may have lists of the same names.
    lists = (f"ImageSets/Main/{split}.txt", f"Main/{split}.txt")
    listing = search(above, *lists) or layout(root, *lists)
    return listed(listing, either(annotations.parent, annotations.name), either(above, *folders), defects)


def read(root, split, defects, kind="Horizontal", box=upright):
    """Images are in ``JPEGImages-trainval/`` and ``JPEGImages-test/``, or all in ``JPEGImages/``."""
    part = "test" if split == "test" else "trainval"
    for path, image in annotated(root, split, defects, kind, f"JPEGImages-{part}", "JPEGImages"):
        yield from detected(root, path, image, Sensor.OPTICAL, LABELS, defects, box)


DATASET = Dataset(
    title="DIOR",
    sensors=(Sensor.OPTICAL,),
    tasks=DETECTION,
    licence="CC BY-NC 4.0",
    homepage="https://gcheng-nwpu.github.io/#Datasets",
    citation="Li et al., Object detection in optical remote sensing images: A survey and a new benchmark, 2020",
    splits=("train", "val", "test"),
    classes=tuple(CLASSES.split(",")),
    counts={"train": 5_862, "val": 5_863, "test": 11_738},
    objects={"total": 192_518},  # of its web site; 192,472 in the paper
    reader=read,
    # Fits (1 + classes) of each image, for upright and oriented boxes.
    paper=Paper(splits=("train", "val"), turns=58_200, oriented_set="dior_r"),
    identity=images_of("dior"),
)

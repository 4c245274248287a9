"""What the three versions of DOTA share: the reader and most of the card."""

from functools import partial

from earthgpt.datasets import DETECTION, Dataset, images_of
from earthgpt.folders import files, images_below, layout, paired
from earthgpt.formats import detected, dota, quadrilateral, spellings
from earthgpt.types import Sensor

CLASSES = (
    "plane,ship,storage tank,baseball diamond,tennis court,basketball court,ground track field,harbor,bridge,"
    "large vehicle,small vehicle,helicopter,roundabout,soccer ball field,swimming pool"
)


def read(root, split, defects, version, labels):
    """``<split>/images/P0000.png`` and ``<split>/labelTxt/P0000.txt``, or a label folder that names the version."""
    # 1.5 relabels the images of 1.0, and 2.0 needs them besides its own: a plain ``labelTxt`` must be of this version.
    named = f"labelTxt-v{version}"
    inside = (f"{named}/DOTA-v{version}_{split}", f"{named}/labelTxt", named, "labelTxt")
    candidates = [*(f"{split}/{folder}/*.txt" for folder in inside), f"DOTA-v{version}_{split}/*.txt"]
    folder, texts = layout(root, split), layout(root, *candidates).parent
    for path, image_path in paired(files(texts, "*.txt"), images_below(folder), folder / "images", ".png", defects):
        yield from detected(root, image_path, dota(path), Sensor.OPTICAL, labels, defects, quadrilateral)


def card(version, further, counts, paper=None):
    """The card of a version; ``further`` are its classes beyond those of 1.0."""
    classes = (*CLASSES.split(","), *further)
    return Dataset(
        title=f"DOTA {version}",
        sensors=(Sensor.OPTICAL,),
        tasks=DETECTION,
        licence="academic use only; imagery terms of Google Earth",
        homepage="https://captain-whu.github.io/DOTA/",
        citation="Xia et al., DOTA: A Large-Scale Dataset for Object Detection in Aerial Images, 2018; 2.0: Ding et "
        "al., Object Detection in Aerial Images: A Large-Scale Benchmark and Challenges, 2021",
        splits=("train", "val"),  # the labels of the test images are not public
        classes=classes,
        counts=counts,
        reader=partial(read, version=version, labels=spellings(classes)),
        paper=paper,
        identity=images_of("dota"),
    )

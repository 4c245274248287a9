"""RSOD: aircraft, oil tanks, overpasses and playgrounds, one class for each image."""

from earthgpt.datasets import DETECTION, Dataset, Paper
from earthgpt.folders import above, files, images_below, layout
from earthgpt.formats import detected, spellings, voc
from earthgpt.types import Sensor

CLASSES = ("aircraft", "oil tank", "overpass", "playground")
LABELS = spellings(CLASSES)


def read(root, split, defects):
    """``<class>/Annotation/xml/<class>_<n>.xml`` and ``<class>/JPEGImages/``, or ``Annotation/JPEGImages/``."""
    found = layout(root, *(f"{label.replace(' ', '')}/**/*.xml" for label in CLASSES))
    folder = above(found, root, *LABELS)
    folders = [folder / label for label in LABELS if (folder / label).is_dir()]
    defects["missing class folders"] += len(LABELS) - len(folders)
    images, annotations = images_below(*folders), [path for inside in folders for path in files(inside, "**/*.xml")]
    defects["images without annotations"] += len(images.keys() - {path.stem for path in annotations})  # about 40
    for path in annotations:
        label = LABELS.get(path.stem.rpartition("_")[0])
        missing = path.parents[2] / "JPEGImages" / f"{path.stem}.jpg"
        # Only the class of its folder is labelled in an image.
        classes = (label,) if label else ()
        image_path = images.get(path.stem, missing)
        yield from detected(folder, image_path, voc(path), Sensor.OPTICAL, LABELS, defects, classes=classes)


DATASET = Dataset(
    title="RSOD",
    sensors=(Sensor.OPTICAL,),
    tasks=DETECTION,
    licence="none stated",
    homepage="https://github.com/RSIA-LIESMARS-WHU/RSOD-Dataset-",
    citation="Long et al., Accurate Object Localization in Remote Sensing Images Based on Convolutional Neural "
    "Networks, 2017",
    splits=("all",),
    classes=CLASSES,
    counts={"all": 976},
    objects={"all": 6_950},
    reader=read,
    # One turn for each of int(0.8 * n) images of a class, of the 936 with annotations.
    paper=Paper(splits=("all",), turns=747, share=0.8, per_class=False),
)

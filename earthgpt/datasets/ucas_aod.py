"""UCAS-AOD: cars and airplanes in 1,510 optical images, oriented boxes."""

from earthgpt.datasets import DETECTION, Dataset, Paper
from earthgpt.folders import above, either, files, images_below, layout, paired
from earthgpt.formats import AnnotatedImage, Annotation, detected, lines, quadrilateral, spellings
from earthgpt.outlines import floats
from earthgpt.types import Sensor

FOLDERS = {"CAR": "car", "PLANE": "airplane"}
LABELS = spellings(FOLDERS.values())


def read(root, split, defects):
    """``CAR/P0001.png`` and ``CAR/P0001.txt``, and so in ``PLANE/``: files of both have the same names."""
    folder = above(layout(root, *(f"{name}/P*.txt" for name in FOLDERS)), root, *FOLDERS)
    defects["missing class folders"] += sum(not (folder / name).is_dir() for name in FOLDERS)
    for name, label in FOLDERS.items():
        # Only the class of its folder is labelled in an image; other .txt files there are no labels.
        inside = either(folder, name)
        for path, image_path in paired(files(inside, "P*.txt"), images_below(inside), inside, ".png", defects):
            image = labelled(path, label)
            yield from detected(
                folder, image_path, image, Sensor.OPTICAL, LABELS, defects, quadrilateral, classes=(label,)
            )


def labelled(path, label):
    """13 numbers on a line: four corners, an angle in degrees, and left, top, width, height."""
    stated = [floats(line.split()) or () for line in lines(path)]
    rows = [row for row in stated if len(row) == 13]
    objects = tuple(Annotation(label, row[9:], row[:8]) for row in rows)
    return AnnotatedImage(path.stem, (0, 0), objects, {"unreadable lines": len(stated) - len(rows)})


DATASET = Dataset(
    title="UCAS-AOD",
    sensors=(Sensor.OPTICAL,),
    tasks=DETECTION,
    licence="none stated; research use",
    homepage="https://hyper.ai/datasets/5419",
    citation="Zhu et al., Orientation robust object detection in aerial images using deep convolutional neural "
    "network, 2015",
    splits=("all",),  # the split of 755, 302 and 453 images in use is not its owners'
    classes=tuple(FOLDERS.values()),
    counts={"all": 1_510},
    reader=read,
    # One turn for each image, or two for each of a half.
    paper=Paper(splits=("all",), turns=1_510, per_class=False),
)

"""UCAS-AOD: cars and airplanes in 1,510 optical images, oriented boxes."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.formats import (
    AnnotatedImage,
    Annotation,
    detected,
    files,
    floats,
    layout,
    lines,
    quadrilateral,
    spellings,
)
from earthgpt.types import Sensor

FOLDERS = {"CAR": "car", "PLANE": "airplane"}
LABELS = spellings(FOLDERS.values())


def read(root, split, defects):
    """``CAR/P0001.png`` and ``CAR/P0001.txt``, and so in ``PLANE/``: files of both have the same names."""
    folder = layout(root, *(f"{name}/P*.txt" for name in FOLDERS)).parents[1]
    defects["missing class folders"] += sum(not (folder / name).is_dir() for name in FOLDERS)
    for name, label in FOLDERS.items():
        # Only the class of its folder is labelled in an image; other .txt files there are no labels.
        for path in files(folder / name, "P*.txt"):
            image = AnnotatedImage(path.stem, (0, 0), tuple(rows(path, label, defects)))
            image_path = path.with_suffix(".png")
            yield from detected(
                root, image_path, image, Sensor.OPTICAL, LABELS, defects, quadrilateral, classes=(label,)
            )


def rows(path, label, defects):
    """13 numbers: four corners, an angle in degrees, and left, top, width, height."""
    for line in lines(path):
        numbers = floats(line.split())
        defects["unreadable lines"] += numbers is None or len(numbers) != 13
        if numbers and len(numbers) == 13:
            yield Annotation(label, numbers[9:], tuple(zip(numbers[:8:2], numbers[1:8:2], strict=True)))


DATASET = Dataset(
    title="UCAS-AOD",
    sensors=(Sensor.OPTICAL,),
    tasks=("object_detection", "visual_grounding", "visual_question_answering", "region_captioning"),
    licence="none stated; research use",
    homepage="https://hyper.ai/datasets/5419",
    citation="Zhu et al., Orientation robust object detection in aerial images using deep convolutional neural "
    "network, 2015",
    splits=("all",),  # the split of 755, 302 and 453 images in use is not its owners'
    classes=tuple(FOLDERS.values()),
    counts={"all": 1_510},
    reader=read,
    # One turn for each image, or two for each of a half.
    paper=Paper(splits=("all",), turns=1_510),
)

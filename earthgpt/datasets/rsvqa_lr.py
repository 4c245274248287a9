"""RSVQA-LR: questions made from OpenStreetMap about 772 Sentinel-2 images of the Netherlands."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.folders import either, layout
from earthgpt.formats import rsvqa
from earthgpt.image_files import size_if_there
from earthgpt.types import Sample, Sensor


def read(root, split, defects):
    """``LR_split_<split>_questions.json``, ``..._answers.json`` and ``Images_LR/<number>.tif``."""
    images = either(layout(root, f"LR_split_{split}_questions.json").parent, "Images_LR")
    for number, questions in rsvqa(root, f"LR_split_{split}", defects):
        path = images / f"{number}.tif"
        yield Sample(path, path.name, size_if_there(path, defects), Sensor.OPTICAL, questions=questions)


DATASET = Dataset(
    title="RSVQA-LR",
    sensors=(Sensor.OPTICAL,),
    tasks=("visual_question_answering",),
    licence="CC BY 4.0",
    homepage="https://rsvqa.sylvainlobry.com",
    citation="Lobry et al., RSVQA: Visual Question Answering for Remote Sensing Data, 2020",
    splits=("train", "val", "test"),
    classes=(),
    counts={"train": 572, "val": 100, "test": 100},
    reader=read,
    objects={"train": 57_223, "val": 10_005, "test": 10_004},
    paper=Paper(splits=("train", "val"), turns=67_228),
)

"""RSVQA-HR: questions made from OpenStreetMap about aerial images of the USA, 15 cm a pixel."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.folders import either, layout
from earthgpt.formats import rsvqa
from earthgpt.image_files import size_if_there
from earthgpt.types import Sample, Sensor


def read(root, split, defects):
    """``USGS_split_<split>_questions.json``, ``..._answers.json`` and ``Data/<number>.tif`` or ``.png``."""
    images = either(layout(root, f"USGS_split_{split}_questions.json").parent, "Data")
    for number, questions in rsvqa(root, f"USGS_split_{split}", defects):
        path = either(images, f"{number}.tif", f"{number}.png")
        yield Sample(path, str(number), size_if_there(path, defects), Sensor.OPTICAL, questions=questions)


DATASET = Dataset(
    title="RSVQA-HR",
    sensors=(Sensor.OPTICAL,),
    tasks=("visual_question_answering",),
    licence="CC BY 4.0",
    homepage="https://rsvqa.sylvainlobry.com",
    citation="Lobry et al., RSVQA: Visual Question Answering for Remote Sensing Data, 2020",
    splits=("train", "val", "test", "test_phili"),
    classes=(),
    counts={"total": 10_659},  # 10,659 images in all; of the splits only the questions are known
    reader=read,
    objects={"train": 625_340, "val": 102_843, "test": 222_684, "test_phili": 105_647},
    # Philadelphia; its 62,554 questions of presence and comparison alone.
    paper=Paper(splits=("test_phili",)),
)

"""FloodNet: questions about drone images after a hurricane: flooded or not, and how many buildings."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.folders import either, layout
from earthgpt.formats import load_json, shaped, string, words
from earthgpt.image_files import size_if_there
from earthgpt.types import Question, Sample, Sensor


def read(root, split, defects):
    """``Questions/Training Question.json`` and ``Images/Train_Image/<number>.JPG``; other parts have no answers."""
    listing = layout(root, "Questions/Training Question.json", "Questions/Training_Question.json")
    images = either(listing.parents[1], "Images/Train_Image", "Train_Image", "Images")
    asked = {}
    with shaped(listing, "question file of FloodNet"):
        for row in load_json(listing).values():
            defects["questions without an answer"] += "Ground_Truth" not in row
            if "Ground_Truth" in row:
                # Answers to counting questions are numbers, all others text.
                question = Question(string(row["Question"]), str(row["Ground_Truth"]), words(row["Question_Type"]))
                asked.setdefault(string(row["Image_ID"]), []).append(question)
    for file, questions in asked.items():
        size = size_if_there(images / file, defects)
        yield Sample(images / file, file, size, Sensor.OPTICAL, questions=tuple(questions))


DATASET = Dataset(
    title="FloodNet",
    sensors=(Sensor.OPTICAL,),
    tasks=("visual_question_answering",),
    licence="CC BY-SA 4.0 (Track 2 of the challenge)",
    homepage="https://github.com/BinaLab/FloodNet-Challenge-EARTHVISION2021",
    citation="Rahnemoonfar et al., FloodNet: A High Resolution Aerial Imagery Dataset for Post Flood Scene "
    "Understanding, 2021",
    splits=("train",),
    classes=(),
    counts={"train": 1_448},
    reader=read,
    objects={"train": 4_511},
    paper=Paper(splits=("train",), turns=4_511),
)

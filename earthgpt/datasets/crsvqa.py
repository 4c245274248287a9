"""CRSVQA: questions by people about scenes, objects and how they relate."""

from earthgpt.datasets import Dataset, Paper, part_of
from earthgpt.folders import either, files, layout
from earthgpt.formats import text_of
from earthgpt.image_files import size_if_there
from earthgpt.types import Question, Sample, Sensor


def read(root, split, defects):
    """``text/<name>.txt``, a question and its answer in turn, and ``image/<name>.png``."""
    folder = layout(root, "data/text", "text")
    images = either(folder.parent, "image", "images")
    for listing in files(folder, "*.txt"):
        rows = [line.strip() for line in text_of(listing).rstrip().splitlines()]
        questions = []
        for asked, answer in zip(rows[::2], [*rows[1::2], ""], strict=False):
            # As the loader of its owners does: question marks may be full-width, and what follows one is cut off.
            text = asked.replace("\uff1f", "?").partition("?")[0].strip()
            defects["questions without an answer"] += not (text and answer)
            if text and answer:
                questions.append(Question(f"{text}?", answer, kind(text)))
        path = either(images, f"{listing.stem}.png", f"{listing.stem}.jpg")
        size = size_if_there(path, defects)
        yield Sample(path, listing.stem, size, Sensor.OPTICAL, questions=tuple(questions))


def kind(text):
    """What a question is of, by the words that the loader of its owners looks for; the names are ours."""
    words = set(text.lower().split())
    return "scene" if words & {"scene", "theme"} else "object" if words & {"many", "object", "shape"} else "relation"


DATASET = Dataset(
    title="CRSVQA",
    sensors=(Sensor.OPTICAL,),
    tasks=("visual_question_answering",),
    licence="none stated",
    homepage="https://github.com/MeimeiZhang-data/MQVQA",
    citation="Zhang et al., A Multistep Question-Driven Visual Question Answering Method for Remote Sensing, 2023",
    splits=("all",),
    classes=(),
    counts={"all": 4_639},
    reader=read,
    # No rule gives the 900 of Table I, and its 1,000 test questions (10 %) are not listed: nine images in ten.
    paper=Paper(splits=("all",), turns=900, keep=lambda sample: part_of(sample.name) == "train"),
)

"""RSIVQA: questions about the images of five other sets, most of them made from classes and boxes."""

import re
from collections import Counter

from earthgpt.datasets import Dataset, Paper, images_of
from earthgpt.folders import images_below, layout
from earthgpt.formats import lines
from earthgpt.image_files import size_if_there
from earthgpt.types import Question, Sample, Sensor

# The question files of a part, and the folders beside that may hold its images as their own set unpacks.
PARTS = {
    "AID": (("rsicd_vqa",), ("AID", "RSICD")),
    "DOTA": (("dota_train_vqa2", "dota_val_vqa2"), ("DOTA",)),
    "HRRSD": (("opt_val_vqa",), ("HRRSD",)),
    "Sydney": (("sydney_vqa",), ("Sydney_captions",)),
    "UCM": (("ucm_res", "ucm_vqa"), ("UCM_captions",)),
}
# The sets of their images; those of AID have the names of RSICD.
SETS = {"AID": "aid", "DOTA": "dota", "HRRSD": "hrrsd", "Sydney": "sydney_captions", "UCM": "ucmerced"}
KINDS = {"theme": "theme", "does this picture contain": "presence", "how many": "count", "location": "location"}


def read(root, split, defects):
    """``RSIVQA/<part>/*.txt``; images below the folder of their part, or beside ``root`` as their own set unpacks."""
    folder = layout(root, *(f"{part}/{file}.txt" for part, (files, _) in PARTS.items() for file in files)).parents[1]
    for part, (files, beside) in PARTS.items():
        if split == "test" and part != "HRRSD":
            continue
        # What is wrong with the file of both splits is counted with the first.
        of_file = defects if split == "trainval" else Counter()
        places = [place for place in (folder / part, *(root.parent / name for name in beside)) if place.is_dir()]
        asked = {}
        for path in (folder / part / f"{file}.txt" for file in files):
            of_file["missing question files"] += not path.is_file()
            for line in lines(path) if path.is_file() else ():
                row = re.fullmatch(r"([^:]+):\s*([^?]+\?)\s*(.+)", line)
                of_file["unreadable lines"] += row is None
                if row:
                    # Some of ucm_res name nothing ("How many  in the picture?"); the table of the paper counts them.
                    kind = next((kind for said, kind in KINDS.items() if said in row[2].lower()), "")
                    asked.setdefault(row[1], []).append(Question(row[2], row[3], kind))
        chosen = asked
        if part == "HRRSD" and asked:  # its file is called val and holds all parts of HRRSD
            lists = {name: listed(places, name) for name in DATASET.splits}
            # Those of no list are counted with the split whose list is missing.
            if split == next((name for name in lists if not lists[name]), "trainval"):
                defects["HRRSD images without their split lists"] += len(asked.keys() - set().union(*lists.values()))
            chosen = lists[split]
        images = images_below(*places) if chosen else {}
        for name, questions in asked.items():
            if name in chosen:
                path = images.get(name.partition(".")[0], folder / part / name)
                size = size_if_there(path, defects)
                yield Sample(path, f"{part}/{name}", size, Sensor.OPTICAL, questions=tuple(questions))


def listed(places, split):
    """The images of HRRSD in its list of a split; none where the list is missing."""
    lists = [path for place in places for path in sorted(place.rglob(f"ImageSets/Main/{split}.txt"))]
    return set(lines(lists[0])) if lists else set()


def identity(name):
    """That of the image in the set which the part took it from."""
    part = name.partition("/")[0]
    return images_of(SETS[part])(name) if part in SETS else None


def in_table(sample):
    """Whether the paper took the image: 921 of the part AID are of RSICD alone, and their names are numbers."""
    return not sample.name.startswith("AID/0")


DATASET = Dataset(
    title="RSIVQA",
    sensors=(Sensor.OPTICAL,),
    tasks=("visual_question_answering",),
    licence="none stated",
    homepage="https://github.com/spectralpublic/RSIVQA",
    citation="Zheng et al., Mutual Attention Inception Network for Remote Sensing Visual Question Answering, 2021",
    # Of HRRSD, whose lists they are; its owners divide nothing, and the other parts are of trainval.
    splits=("trainval", "test"),
    classes=(),
    counts={"trainval": 26_320, "test": 10_943},
    reader=read,
    objects={"trainval": 69_546, "test": 42_147},
    paper=Paper(splits=("trainval",), turns=68_625, keep=in_table),
    identity=identity,
)

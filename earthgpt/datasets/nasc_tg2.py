"""NaSC-TG2: 20,000 scenes of 10 natural classes, taken from the space station Tiangong-2."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.folders import search
from earthgpt.formats import scenes
from earthgpt.types import Sensor

CLASSES = "beach,circular farmland,cloud,desert,forest,mountain,rectangular farmland,residential,river,snowberg"
# The page of its owners writes circle and rectangle, the copy on Hugging Face circular and rectangular.
LABELS = {label: label for label in CLASSES.split(",")} | {
    "circle farmland": "circular farmland",
    "rectangle farmland": "rectangular farmland",
}


def read(root, split, defects):
    """``*RGB*/<class>/*.jpg``; the same images with 14 bands may lie beside."""
    return scenes(search(root, "*RGB*/") or root, LABELS, defects)


DATASET = Dataset(
    title="NaSC-TG2",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="CC BY-NC-SA 4.0 (a copy says so)",
    homepage="https://captain-whu.github.io/BED4RS/",
    citation="Zhou et al., NaSC-TG2: Natural Scene Classification With Tiangong-2 Remotely Sensed Imagery, 2021",
    splits=("all",),
    classes=tuple(CLASSES.split(",")),
    counts={"all": 20_000},
    reader=read,
    paper=Paper(splits=("all",)),
)

"""DOTA 2.0: 18 classes of objects in large aerial and satellite images, oriented boxes."""

from earthgpt.datasets import Paper
from earthgpt.datasets._dota import card

DATASET = card(
    "2.0",
    ("container crane", "airport", "helipad"),
    {"train": 1_830, "val": 593},
    Paper(splits=("train", "val"), turns=163_486, oriented=True, tiled=True),
)

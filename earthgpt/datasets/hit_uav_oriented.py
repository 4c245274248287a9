"""HIT-UAV with oriented boxes: the same images and objects as ``hit_uav``."""

from dataclasses import replace
from functools import partial

from earthgpt.datasets import Paper, hit_uav

DATASET = replace(
    hit_uav.DATASET,
    title="HIT-UAV oriented",
    reader=partial(hit_uav.read, oriented=True),
    paper=Paper(splits=("train", "val"), turns=10_608, oriented=True),
)

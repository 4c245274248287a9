"""SSDD with oriented boxes: the same images as ``ssdd``."""

from dataclasses import replace
from functools import partial

from earthgpt.datasets import Paper, ssdd
from earthgpt.formats import rectangle

DATASET = replace(
    ssdd.DATASET,
    title="SSDD oriented",
    # The official boxes are in VOC only; of the outlines of 2019 it is the smallest rectangle.
    reader=partial(ssdd.read, kind="RBox_SSDD", box=rectangle),
    paper=Paper(splits=("train",), turns=1_856, per_class=False, oriented=True),
)

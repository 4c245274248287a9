"""DIOR-R: the images of ``dior`` with oriented boxes."""

from dataclasses import replace
from functools import partial

from earthgpt.datasets import Paper, dior
from earthgpt.formats import quadrilateral

DATASET = replace(
    dior.DATASET,
    title="DIOR-R",
    citation="Cheng et al., Anchor-Free Oriented Proposal Generator for Object Detection, 2022",
    # A few objects have only an upright box in these files: its corners stand.
    reader=partial(dior.read, kind="Oriented", box=quadrilateral),
    paper=Paper(splits=("train", "val"), turns=58_200, oriented=True),
)

"""MAR20 with oriented boxes: the same images and objects as ``mar20``."""

from dataclasses import replace
from functools import partial

from earthgpt.datasets import Paper, mar20
from earthgpt.formats import quadrilateral

DATASET = replace(
    mar20.DATASET,
    title="MAR20 oriented",
    reader=partial(mar20.read, kind="Oriented", box=quadrilateral),
    paper=Paper(splits=("test",), oriented=True),
)

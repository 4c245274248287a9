"""MAR20 with the type of each aircraft as its class."""

from dataclasses import replace
from functools import partial

from earthgpt.datasets import mar20

NAMES = "SU-35,C-130,C-17,C-5,F-16,TU-160,E-3,B-52,P-3C,B-1B,E-8,TU-22,F-15,KC-135,F-22,FA-18,TU-95,KC-10,SU-34,SU-24"
TYPES = {f"A{i}": name for i, name in enumerate(NAMES.split(","), 1)}

DATASET = replace(
    mar20.DATASET,
    title="MAR20 by type",
    classes=tuple(TYPES.values()),
    reader=partial(mar20.read, codes=TYPES),
    paper=None,
)

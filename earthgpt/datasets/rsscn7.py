"""RSSCN7: 2,800 scenes of 7 classes at four scales."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.formats import scenes
from earthgpt.types import Sensor

LABELS = {
    "aGrass": "grass",
    "bField": "field",
    "cIndustry": "industry",
    "dRiverLake": "river or lake",
    "eForest": "forest",
    "fResident": "residential area",
    "gParking": "parking lot",
}
# The copy that comes with AiTLAS has other folder names.
COPIES = {
    "grass_land": "grass",
    "farm_land": "field",
    "industrial_region": "industry",
    "river_lake": "river or lake",
    "forest": "forest",
    "residential_region": "residential area",
    "parking_lot": "parking lot",
}


def read(root, split, defects):
    """``aGrass/a001.jpg``: the letter of the class stands before folder and file."""
    return scenes(root, LABELS | COPIES, defects)


DATASET = Dataset(
    title="RSSCN7",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="none stated",
    homepage="https://github.com/palewithout/RSSCN7",
    citation="Zou et al., Deep Learning Based Feature Selection for Remote Sensing Scene Classification, 2015",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 2_800},
    reader=read,
    paper=Paper(splits=("all",), turns=560, share=0.2),
)

"""WHU-RS19: 1,005 scenes of 19 classes."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.formats import scenes, words
from earthgpt.types import Sensor

FOLDERS = (
    "Airport,Beach,Bridge,Commercial,Desert,Farmland,footballField,Forest,Industrial,Meadow,Mountain,Park,Parking,Pond,"
    "Port,railwayStation,Residential,River,Viaduct"
)
LABELS = {folder: words(folder) for folder in FOLDERS.split(",")}


def read(root, split, defects):
    """``<Class>/<class>_<number>.jpg``; files are spelled Desert_01, airport_01, beach-01: the folder counts."""
    return scenes(root, LABELS, defects)


DATASET = Dataset(
    title="WHU-RS19",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="none stated",
    homepage="https://captain-whu.github.io/BED4RS/",
    citation="Xia et al., Structural High-resolution Satellite Image Indexing, 2010",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 1_005},
    reader=read,
    paper=Paper(splits=("all",), turns=196, share=0.2),  # a fifth of all together would be 201
)

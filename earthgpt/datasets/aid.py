"""AID: 10,000 scenes of 30 classes."""

from earthgpt.datasets import Dataset, images_of
from earthgpt.formats import scenes, words
from earthgpt.types import Sensor

FOLDERS = (
    "Airport,BareLand,BaseballField,Beach,Bridge,Center,Church,Commercial,DenseResidential,Desert,Farmland,Forest,"
    "Industrial,Meadow,MediumResidential,Mountain,Park,Parking,Playground,Pond,Port,RailwayStation,Resort,River,School,"
    "SparseResidential,Square,Stadium,StorageTanks,Viaduct"
)
LABELS = {folder: words(folder) for folder in FOLDERS.split(",")}


def read(root, split, defects):
    """``<Class>/<class>_<number>.jpg``."""
    return scenes(root, LABELS, defects)


DATASET = Dataset(
    title="AID",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="none stated; academic use",
    homepage="https://captain-whu.github.io/AID/",
    citation="Xia et al., AID: A Benchmark Data Set for Performance Evaluation of Aerial Scene Classification, 2017",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 10_000},
    reader=read,
    paper=None,  # named in its text, but not in its table: the images are in MMRS-1M through RSIVQA alone
    identity=images_of("aid"),
)

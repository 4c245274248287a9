"""EuroSAT: 27,000 Sentinel-2 scenes of 10 classes, in the colours of its RGB version."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.folders import search
from earthgpt.formats import scenes, words
from earthgpt.types import Sensor

FOLDERS = "AnnualCrop,Forest,HerbaceousVegetation,Highway,Industrial,Pasture,PermanentCrop,Residential,River,SeaLake"
LABELS = {folder: words(folder) for folder in FOLDERS.split(",")}


def read(root, split, defects):
    """``<Class>/<Class>_<number>.jpg`` in ``EuroSAT_RGB/`` or ``2750/``; 13 bands may lie in ``EuroSAT_MS/`` beside."""
    return scenes(search(root, "EuroSAT_RGB", "2750") or root, LABELS, defects)


DATASET = Dataset(
    title="EuroSAT",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="MIT",
    homepage="https://github.com/phelber/EuroSAT",
    citation="Helber et al., EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land Cover "
    "Classification, 2019",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 27_000},
    reader=read,
    paper=Paper(splits=("all",), turns=5_400, share=0.2),
)

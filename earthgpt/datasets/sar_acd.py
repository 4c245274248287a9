"""SAR-ACD: Gaofen-3 chips of six types of civil aircraft."""

from earthgpt.datasets import Dataset
from earthgpt.formats import scenes
from earthgpt.types import Sensor

LABELS = {
    "A220": "A220",
    "A320321": "A320/321",  # a folder name cannot hold the slash
    "A330": "A330",
    "ARJ21": "ARJ21",
    "Boeing737": "Boeing737",
    "Boeing787": "Boeing787",
}


def read(root, split, defects):
    """``images/<Type>/<number>.jpg``; numbers begin anew in each folder, so a file name alone names six chips."""
    # 20 chips of the repository lie in the folders of two types, byte for byte: no answer to them is right twice.
    return scenes(root, LABELS, defects, Sensor.SAR)


DATASET = Dataset(
    title="SAR-ACD",
    sensors=(Sensor.SAR,),
    tasks=("scene_classification",),
    licence="open to the community; cite",
    homepage="https://github.com/AICyberTeam/SAR-ACD",
    citation="Sun et al., SCAN: Scattering Characteristics Analysis Network for Few-Shot Aircraft Classification "
    "in High-Resolution SAR Images, 2022",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 3_032},
    reader=read,
)

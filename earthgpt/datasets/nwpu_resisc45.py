"""NWPU-RESISC45: 31,500 scenes of 45 classes."""

from earthgpt.datasets import Dataset, Paper, images_of
from earthgpt.formats import scenes, words
from earthgpt.types import Sensor

FOLDERS = (
    "airplane,airport,baseball_diamond,basketball_court,beach,bridge,chaparral,church,circular_farmland,cloud,"
    "commercial_area,dense_residential,desert,forest,freeway,golf_course,ground_track_field,harbor,industrial_area,"
    "intersection,island,lake,meadow,medium_residential,mobile_home_park,mountain,overpass,palace,parking_lot,railway,"
    "railway_station,rectangular_farmland,river,roundabout,runway,sea_ice,ship,snowberg,sparse_residential,stadium,"
    "storage_tank,tennis_court,terrace,thermal_power_station,wetland"
)
LABELS = {folder: words(folder) for folder in FOLDERS.split(",")}


def read(root, split, defects):
    """``<class>/<class>_<number>.jpg``; a figshare set of the same name has 12 other classes."""
    return scenes(root, LABELS, defects)


DATASET = Dataset(
    title="NWPU-RESISC45",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="CC BY-NC 4.0",
    homepage="https://gcheng-nwpu.github.io/#Datasets",
    citation="Cheng et al., Remote Sensing Image Scene Classification: Benchmark and State of the Art, 2017",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 31_500},
    reader=read,
    # The other 80 % are what EarthGPT is tested on; which images went where is not published.
    paper=Paper(splits=("all",), turns=6_300, share=0.2),
    identity=images_of("nwpu_resisc45"),
)

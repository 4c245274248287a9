"""FGSCR-42: ships of 42 types, one to an image."""

from earthgpt.datasets import Dataset, Paper
from earthgpt.formats import scenes, words
from earthgpt.types import Sensor

NAMES = (
    "Nimitz-class_aircraft_carrier,KittyHawk-class_aircraft_carrier,Midway-class_aircraft_carrier,"
    "Kuznetsov-class_aircraft_carrier,Charles_de_Gaulle_aircraft_carrier,INS_Viraat_aircraft_carrier,"
    "INS_Vikramaditya_aircraft_carrier,Ticonderoga-class_cruiser,Arleigh_Burke-class_destroyer,Akizuki-class_destroyer,"
    "Asagiri-class_destroyer,Kidd-class_destroyer,Type_45_destroyer,Wasp-class_assault_ship,Osumi-class_landing_ship,"
    "Hyuga-class_helicopter_destroyer,Izumo-class_helicopter_destroyer,Whitby_Island-class_dock_landing_ship,"
    "San_Antonio-class_transport_dock,Freedom-class_combat_ship,Independence-class_combat_ship,"
    "Sacramento-class_support_ship,Crane_ship,Abukuma-class_frigate,Megayacht,Cargo_ship,Murasame-class_destroyer,"
    "Container_ship,Towing_vessel,Civil_yacht,Medical_ship,Sand_carrier,Tank_ship,Garibaldi_aircraft_carrier,"
    "Zumwalt-class_destroyer,Kongo-class_destroyer,Horizon-class_destroyer,Atago-class_destroyer,"
    "Mistral-class_amphibious_assault_ship,Juan_Carlos_I_Strategic_Projection_Ship,Maestrale-class_frigate,"
    "San_Giorgio-class_transport_dock"
)
LABELS = {name: words(name) for name in NAMES.split(",")}
# As the folders of the archive spell them.
MISSPELT = {
    "Charles_de_Gaulle_aricraft_carrier": "charles de gaulle aircraft carrier",
    "INS_Virrat_aircraft_carrier": "ins viraat aircraft carrier",
    "Lzumo-class_helicopter_destroyer": "izumo-class helicopter destroyer",
}


def read(root, split, defects):
    """``<number>.<Type>/*.bmp``; two numberings are about, so the name alone is what counts."""
    return scenes(root, LABELS | MISSPELT, defects)


DATASET = Dataset(
    title="FGSCR-42",
    sensors=(Sensor.OPTICAL,),
    tasks=("scene_classification",),
    licence="none stated",
    homepage="https://github.com/DYH666/FGSCR-42",
    citation="Di et al., A Public Dataset for Fine-Grained Ship Classification in Optical Remote Sensing Images, 2021",
    splits=("all",),
    classes=tuple(LABELS.values()),
    counts={"all": 7_778},  # of the archive; the paper of the set says 9,320
    reader=read,
    # Half of each class fits Table I; it cannot be proven without the archive.
    paper=Paper(splits=("all",), turns=3_878, share=0.5),
)

"""AIR-SARShip-2.0: ships in 300 Gaofen-3 scenes."""

from earthgpt.datasets import DETECTION, Dataset, Paper
from earthgpt.folders import above, either, files, images_below, layout, paired
from earthgpt.formats import detected, spellings, voc
from earthgpt.types import Sensor

LABELS = spellings(("ship",))


def read(root, split, defects):
    """``AIR-SARShip-2.0-xml/<n>.xml`` and ``AIR-SARShip-2.0-data/<n>.tiff``: 16 bits, one channel."""
    first = layout(root, "AIR-SARShip-2.0-xml/*.xml", "AIR_SARShip_2.0_xml/*.xml")
    folder = above(first, root, "AIR-SARShip-2.0-xml", "AIR_SARShip_2.0_xml")
    data = either(folder, "AIR-SARShip-2.0-data", "AIR_SARShip_2.0_data")
    for path, image_path in paired(files(first.parent, "*.xml"), images_below(data), data, ".tiff", defects):
        # Each object has four or five corners of an upright box; one loader takes them to count from 1 (unproven).
        image = voc(path)
        if image.size == (0, 0) and not image_path.is_file():
            image = image._replace(size=(1000, 1000))  # all scenes are of one size
        yield from detected(folder, image_path, image, Sensor.SAR, LABELS, defects)


DATASET = Dataset(
    title="AIR-SARShip-2.0",
    sensors=(Sensor.SAR,),
    tasks=DETECTION,
    licence="research use; terms on its web site",
    homepage="https://radars.ac.cn/web/data/getData?dataType=SARDataset",
    citation="Sun et al., AIR-SARShip-1.0: High-resolution SAR Ship Detection Dataset, 2019",
    splits=("all",),
    classes=("ship",),
    counts={"all": 300},
    reader=read,
    paper=Paper(splits=("all",), turns=1_433, per_class=False, tiled=True),
)

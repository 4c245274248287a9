"""NWPU-Captions: the 31,500 scenes of NWPU-RESISC45 with five captions each."""

import re

from earthgpt.datasets import Dataset, Paper, images_of
from earthgpt.folders import either, layout
from earthgpt.formats import distinct, load_json, shaped, string
from earthgpt.image_files import size_if_there
from earthgpt.types import Sample, Sensor


def read(root, split, defects):
    """``dataset_nwpu.json``, a list for each class, and ``NWPU_images/<class>/<class>_<number>.jpg``."""
    listing = layout(root, "dataset_nwpu.json")
    images = either(listing.parent, "NWPU_images", "NWPU-RESISC45", "images")
    said: dict[str, list[str]] = {}
    with shaped(listing, "caption file of NWPU-Captions"):
        for folder, entries in load_json(listing).items():
            for entry in entries:
                if entry["split"] == split:
                    # The captions are raw, raw_1, ... raw_4; not every image has all five (a public loader skips
                    # airplane_111).
                    texts = [string(text or "") for key, text in entry.items() if re.fullmatch(r"raw(_\d)?", key)]
                    name = f"{folder}/{string(entry['filename'])}"
                    defects["files listed twice"] += name in said
                    said.setdefault(name, []).extend(texts)
    for name, texts in said.items():
        captions, size = distinct(texts, defects), size_if_there(images / name, defects)
        yield Sample(images / name, name, size, Sensor.OPTICAL, captions=captions)


DATASET = Dataset(
    title="NWPU-Captions",
    sensors=(Sensor.OPTICAL,),
    tasks=("image_captioning",),
    licence="none stated; images CC BY-NC 4.0",
    homepage="https://github.com/HaiyanHuang98/NWPU-Captions",
    citation="Cheng et al., NWPU-Captions Dataset and MLCA-Net for Remote Sensing Image Captioning, 2022",
    splits=("train", "val", "test"),
    classes=(),
    counts={"train": 25_200, "val": 3_150, "test": 3_150},
    reader=read,
    paper=Paper(splits=("train", "val"), turns=141_631),  # of 141,750; the rest repeats in its image
    identity=images_of("nwpu_resisc45"),
)

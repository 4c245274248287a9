"""DIOR-RSVG: 38,320 referring phrases about objects of DIOR."""

from earthgpt.datasets import Dataset, Paper, images_of
from earthgpt.folders import either, files, layout
from earthgpt.formats import lines, shaped, upright, voc
from earthgpt.image_files import size_of
from earthgpt.types import EarthGPTError, Region, Sample, Sensor

TOTAL = 38_320


def read(root, split, defects):
    """``DIOR_RSVG/<split>.txt``, ``Annotations/<image>.xml`` and ``JPEGImages/<image>.jpg``."""
    listing = layout(root, f"DIOR_RSVG/{split}.txt", f"{split}.txt")
    folder = listing.parent
    # Split files number the objects, counted from 0 over all XML files in name order (RSVG-pytorch, data_loader.py).
    images = [(path, voc(path)) for path in sorted(files(layout(folder, "Annotations/*.xml").parent, "*.xml"))]
    total = sum(len(image.annotations) for _, image in images)
    if total != TOTAL:
        raise EarthGPTError(
            f"{folder / 'Annotations'} holds {total:,} objects, not {TOTAL:,}. The split lists number the objects over "
            "all files, so with another number of them phrases and splits no longer fit: unpack the download again."
        )
    with shaped(listing, "list of object numbers"):
        wanted = {int(line) for line in lines(listing)}
    defects["missing annotations"] += sum(not 0 <= number < TOTAL for number in wanted)
    number, folder = 0, either(folder, "JPEGImages")
    for path, image in images:
        chosen = [a for i, a in enumerate(image.annotations, number) if i in wanted]
        number += len(image.annotations)
        image_path = folder / f"{path.stem}.jpg"
        size = size_of(image_path, image.size, defects) if chosen else None
        if size:
            boxes = [(upright(a, size, defects), a.text) for a in chosen]
            defects["empty captions"] += sum(not text for _, text in boxes)
            # Words stay as they are ("groundtrackfield"). A few phrases are said of two boxes of an image.
            phrases = tuple(Region(box, text) for box, text in boxes if box and text)
            yield Sample(image_path, image_path.relative_to(root).as_posix(), size, Sensor.OPTICAL, expressions=phrases)


DATASET = Dataset(
    title="DIOR-RSVG",
    sensors=(Sensor.OPTICAL,),
    tasks=("visual_grounding", "region_captioning"),
    licence="none stated; images CC BY-NC 4.0 (DIOR)",
    homepage="https://github.com/ZhanYang-nwpu/RSVG-pytorch",
    citation="Zhan et al., RSVG: Exploring Data and Models for Visual Grounding on Remote Sensing Data, 2023",
    splits=("train", "val", "test"),  # by phrase: test shares images with train
    classes=(),
    counts={"total": 17_402},
    objects={"train": 26_991, "val": 3_829, "test": 7_500},
    reader=read,
    # 30,820 phrases, for grounding and for region captioning: exact.
    paper=Paper(splits=("train", "val"), turns=61_640, tasks=("visual_grounding", "region_captioning")),
    identity=images_of("dior"),
)

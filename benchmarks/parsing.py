"""How fast annotations are read, beside pycocotools and plain ElementTree, as a Markdown table.

    python benchmarks/parsing.py data

The argument is the folder of the data sets. Readers take turns in one process, and must find as many objects as the
other. A ratio below 1 says that ours takes less time. pycocotools keeps the dicts of the file and checks nothing; ours
are values, made of numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from pycocotools.coco import COCO

from earthgpt import formats

# (title, file, key of an image's file)
COCO_FILES = [
    ("SSDD, outlines", "formats/SSDD_coco/SSDD.json", "file_name"),
    ("NWPU VHR-10, outlines", "NWPU VHR-10 dataset/annotations.json", "file_name"),
    ("HIT-UAV, turned boxes", "formats/HIT-UAV/rotate_json/annotations/val.json", "filename"),
]
VOC_FOLDERS = [
    ("HRRSD", "formats/HRRSD/OPT2017/Annotations"),
    ("MAR20, upright", "formats/MAR20/MAR20/Annotations/Horizontal Bounding Boxes"),
    ("MAR20, oriented", "formats/MAR20/MAR20/Annotations/Oriented Bounding Boxes"),
]


def main() -> None:
    """Prints a row for each file of boxes and each folder of XML files that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=31)
    arguments = parser.parse_args()
    print("| annotations | beside | objects | ours, ms | theirs, ms | ratio |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for title, file, key in COCO_FILES:
        path = arguments.data / file
        if path.is_file():
            row(title, "pycocotools", partial(coco, path, key), partial(pycocotools, path), arguments.rounds)
        else:
            print(f"{path} is not there.", file=sys.stderr)
    for title, folder in VOC_FOLDERS:
        paths = sorted((arguments.data / folder).glob("*.xml"))
        if paths:
            row(title, "ElementTree", partial(voc, paths), partial(element_tree, paths), arguments.rounds)
        else:
            print(f"{arguments.data / folder} holds no XML.", file=sys.stderr)


def row(title: str, other: str, ours: Callable[[], int], theirs: Callable[[], int], rounds: int) -> None:
    """Prints the medians of both and of the ratios within a round; EarthGPT's reader goes first in every other one."""
    objects, found = ours(), theirs()
    assert objects == found, f"{title}: {objects} objects, but {found} by {other}"
    times = {ours: [], theirs: []}
    for i in range(rounds):
        for reader in (ours, theirs) if i % 2 else (theirs, ours):
            start = time.perf_counter()
            reader()
            times[reader].append((time.perf_counter() - start) * 1000)
    ratio = statistics.median(mine / its for mine, its in zip(times[ours], times[theirs], strict=True))
    mine, its = (statistics.median(times[reader]) for reader in (ours, theirs))
    print(f"| {title} | {other} | {objects:,} | {mine:.2f} | {its:.2f} | {ratio:.2f} |")


def coco(path: Path, key: str) -> int:
    return sum(len(image.annotations) for image in formats.coco(path, Counter(), file=key))


def pycocotools(path: Path) -> int:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it took
        return len(COCO(path).anns)


def voc(paths: list[Path]) -> int:
    return sum(len(formats.voc(path).annotations) for path in paths)


def element_tree(paths: list[Path]) -> int:
    """The same fields with ElementTree alone: nothing is checked, and other encodings than UTF-8 are not read."""
    objects = 0
    for path in paths:
        tree = ElementTree.parse(path).getroot()
        size = tree.find("size")
        entries = []
        for element in tree.iter("object"):
            upright, turned = element.find("bndbox"), element.find("robndbox")
            bbox = () if upright is None else tuple(float(upright.findtext(name)) for name in formats.EDGES)
            outline = () if turned is None else tuple(float(turned.findtext(name)) for name in formats.CORNERS)
            text = element.findtext("description", "")
            entries.append(formats.Annotation(element.findtext("name"), bbox, outline, text))
        stated = int(size.findtext("width")), int(size.findtext("height"))
        objects += len(formats.AnnotatedImage(tree.findtext("filename"), stated, tuple(entries)).annotations)
    return objects


if __name__ == "__main__":
    main()

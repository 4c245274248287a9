"""How fast annotations are read, beside pycocotools and plain ElementTree, as a Markdown table.

    python benchmarks/parsing.py data

The argument is the folder of the data sets, else EARTHGPT_REAL_DATA. Readers take turns in one process, and must find
as many objects as the other. pycocotools keeps the dicts of the file and checks nothing; ours are values, made of
numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from guard import in_turn
from pycocotools.coco import COCO
from table import Row, table

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
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path(os.environ.get("EARTHGPT_REAL_DATA", "data")))
    print(table(rows(data=parser.parse_args().data)))


def rows(quick: bool = False, data: Path = Path(os.environ.get("EARTHGPT_REAL_DATA", "data"))) -> list[Row]:
    """A row for each file of boxes and each folder of XML files that is there. Raises FileNotFoundError for none."""
    found, rounds = [], 3 if quick else 11
    for title, file, key in COCO_FILES:
        path = data / file
        if path.is_file():
            rival = f"pycocotools {metadata.version('pycocotools')}"
            found.append(row(title, rival, partial(coco, path, key), partial(pycocotools, path), rounds))
    for title, folder in VOC_FOLDERS:
        if paths := sorted((data / folder).glob("*.xml")):
            rival = f"ElementTree {platform.python_version()}"
            found.append(row(title, rival, partial(voc, paths), partial(element_tree, paths), rounds))
    if not found:
        raise FileNotFoundError(f"{data} has none of the files: name the folder of the data sets.")
    return found


def row(title: str, rival: str, ours: Callable[[], int], theirs: Callable[[], int], rounds: int) -> Row:
    """Both in turn. Raises ValueError where they find different numbers of objects."""
    mine, its = in_turn({"ours": ours, "theirs": theirs}, rounds, 5).values()
    if mine.result != its.result:
        raise ValueError(f"{title}: {mine.result} objects, but {its.result} by {rival}.")
    same = f"{mine.result:,} objects"
    return Row("parsing", title, "ms", 1000 * mine.seconds, 1000 * its.seconds, rival, 1, None, same, mine.samples)


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

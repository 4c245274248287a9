"""Annotation formats that several data sets share, read into plain values in the units of their files."""

from __future__ import annotations

import csv
import gc
import math
import os
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from xml.etree import ElementTree

from pydantic_core import from_json

from earthgpt.folders import IMAGES, content_of, files, inner, layout, natural, visible
from earthgpt.image_files import size_if_there, size_of
from earthgpt.outlines import corner_box, floats, hull_bbox, oriented_box, points, rotated_rectangle, usable
from earthgpt.types import Box, EarthGPTError, OrientedBox, Question, Region, Sample, Sensor, Size

# The elements of VOC and its relatives that hold numbers.
SIZE = ("width", "height")
EDGES = ("xmin", "ymin", "xmax", "ymax")
CORNERS = tuple(
    f"{axis}_{place}" for place in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in ("x", "y")
)
SSDD_CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
CENTERED = ("cx", "cy", "w", "h", "angle")


# These two are made in half the time of a frozen dataclass, and a file may hold a million.
class Annotation(NamedTuple):
    """One object of a file: its class as spelled there, its box as written there, and its outline in pixels, if any.

    ``outline`` is x, y, x, y, ... as files write it. ``text`` is a phrase that the file says of it.
    """

    label: str
    bbox: tuple[float, ...]
    outline: tuple[float, ...] = ()
    text: str = ""


class AnnotatedImage(NamedTuple):
    """One image of a file: its name there, its (width, height) as stated there or (0, 0), and its objects.

    ``defects`` counts by kind what else the file marks in it and the format leaves out: with any, the objects are not
    complete. ``detected`` counts them on.
    """

    file: str
    size: Size
    annotations: tuple[Annotation, ...]
    defects: Mapping[str, int] = MappingProxyType({})


def load_json(path: Path) -> Any:
    """The content of a JSON file; EarthGPTError when it is missing or broken."""
    with suppress(ValueError):  # nearly all files are UTF-8, which is parsed as it is
        return from_json(bytes_of(path).removeprefix(BOM_UTF8))  # in half the time of json.loads
    try:
        return from_json(text_of(path))
    except ValueError as error:
        raise EarthGPTError(f"{path} is not valid JSON: {error}.") from None


@contextmanager
def shaped(path: Path, kind: str) -> Iterator[None]:
    """EarthGPTError that names the file, where what is read from it inside turns out to be of another shape."""
    try:
        yield
    except KeyError as error:
        raise EarthGPTError(f"{path} is no {kind}: an entry lacks or names an unknown {error}.") from error
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError, csv.Error) as error:
        raise EarthGPTError(f"{path} is no {kind}: {error}.") from error


@contextmanager
def uncollected() -> Iterator[None]:
    """Makes values that hold no cycles without looking for cycles, which takes up to half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def string(value: Any) -> str:
    """The value itself, which is to be text: TypeError when it is something else."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} stands where text is wanted")
    return value


def text_of(path: Path) -> str:
    """The text of a file in UTF-8 (with or without a byte order mark), UTF-16 (with one), or else in GBK.

    EarthGPTError when it is missing or none of them, or holds zero bytes, as broken downloads do.
    """
    content = bytes_of(path)
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if utf16 else ("utf-8-sig", "gb18030"):
        with suppress(UnicodeDecodeError):
            decoded = content.decode(encoding)
            if "\0" not in decoded:
                return decoded
    raise EarthGPTError(f"{path} is no text in UTF-8, UTF-16 or GBK, or is damaged.")


def bytes_of(path: Path) -> bytes:
    """The content of a file; EarthGPTError when it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise EarthGPTError(f"No file {path.name} in {path.parent}.") from None
    except OSError as error:  # it is a folder, or others may not read it
        raise EarthGPTError(f"{path} cannot be read: {error.strerror}.") from None


def lines(path: Path) -> list[str]:
    """The lines of a text file without the blanks around them; empty ones are left out."""
    return [line.strip() for line in text_of(path).splitlines() if line.strip()]


def words(name: str) -> str:
    """A class name as English words: "BaseballField" and "baseball_field" become "baseball field"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\s]+", " ", name).lower()


def class_folders(root: Path, labels: Mapping[str, str], defects: Counter) -> Iterator[tuple[Path, str]]:
    """Images and labels of a folder with one folder for each class, in natural order; ``labels`` is folder -> label.

    The class folders lie in ``root`` or up to two folders further down. Case, blanks, hyphens, underscores and a number
    in front ("001.") make no difference. Several folders may stand for one label (copies with other names); a label
    without any is counted in ``defects``.
    """
    spelled = {spelling(folder): label for folder, label in labels.items()}
    for depth in (".", "*/", "*/*/"):
        parents = [root] if depth == "." else sorted(path for path in root.glob(depth) if visible(path, root))
        # Sets that lie side by side share some names of classes: the one that has most of them is meant.
        folders = max((_folders_of(parent, spelled) for parent in parents), key=len, default={})
        if folders:
            break
    else:
        raise EarthGPTError(f"No class folders ({next(iter(labels))}, ...) in {root}; it holds {content_of(root)}.")
    defects["missing class folders"] += len(set(spelled.values()) - {spelled[key] for key in folders})
    found = {folder for same in folders.values() for folder in same}
    beside = {path for path in next(iter(found)).parent.iterdir() if path.is_dir() and visible(path, root)}
    defects["folders of no class"] += len(beside - found)
    for key, label in spelled.items():
        for folder in folders.get(key, ()):
            images = [path for path in files(inner(folder), "*") if path.suffix.lower() in IMAGES]
            defects["missing class folders"] += not images
            for path in images:
                yield path, label


def _folders_of(parent: Path, spelled: Iterable[str]) -> dict[str, list[Path]]:
    """The folders in ``parent`` whose name is one of ``spelled``, by that name."""
    folders: dict[str, list[Path]] = {}
    for path in sorted(parent.iterdir(), key=natural):
        key = spelling(re.sub(r"^\d+\.", "", path.name))
        if key in spelled and path.is_dir():
            folders.setdefault(key, []).append(path)
    return folders


def captions(path: Path, split: str, defects: Counter) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(file, distinct captions) of each image of a split in the JSON of Karpathy's splits.

    The captions of an image that is listed twice are put together.
    """
    said: dict[str, list[str]] = {}
    with shaped(path, "file of captions"):
        for image in load_json(path)["images"]:
            if image["split"] == split:
                file = string(image["filename"])
                defects["files listed twice"] += file in said
                said.setdefault(file, []).extend(string(sentence["raw"]) for sentence in image["sentences"])
    for file, texts in said.items():
        yield file, distinct(texts, defects)


def distinct(texts: Iterable[str], defects: Counter) -> tuple[str, ...]:
    """Captions without the blanks around them, each once; empty ones are counted in ``defects``.

    Blanks inside stay as they are: only so do RSICD and UCM-Captions give the numbers of MMRS-1M.
    """
    kept = [text.strip() for text in texts]
    defects["empty captions"] += kept.count("")
    return tuple(dict.fromkeys(filter(None, kept)))


def coco(
    path: Path, defects: Counter, file: str = "file_name", annotations: str = "annotations"
) -> Iterator[AnnotatedImage]:
    """Images with their objects of a COCO-like JSON, in its order; the keys are named because sets rename them.

    ``bbox`` is kept as written. ``outline`` holds the points of all polygons; it is empty for run lengths. Crowds are
    counted with their image. Annotations of an image that is not listed are counted in ``defects``, and so are images
    that are listed twice, which are read once.
    """
    with shaped(path, "COCO file"), uncollected():
        content = load_json(path)
        missing = {"images", "categories", annotations} - content.keys()
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        labels = {identity_of(category["id"]): string(category["name"]) for category in content["categories"]}
        images = {identity_of(image["id"]): image for image in content["images"]}
        defects["files listed twice"] += len(content["images"]) - len(images)
        objects: dict[Any, list[Annotation]] = {number: [] for number in images}
        crowded: dict[Any, Counter] = {}
        for place, entry in enumerate(content[annotations], 1):
            number = identity_of(entry["image_id"])
            if number not in objects:
                defects["annotations of unlisted images"] += 1
            elif entry.get("iscrowd"):  # one box about many objects
                crowded.setdefault(number, Counter())["crowds"] += 1
            else:
                bbox, polygons, outline = tuple(entry.get("bbox") or ()), entry.get("segmentation"), ()
                if polygons and not isinstance(polygons, dict):
                    outline = tuple(polygons[0] if len(polygons) == 1 else chain.from_iterable(polygons))
                try:
                    sum(outline, sum(bbox))
                    label = labels[identity_of(entry["category_id"])]
                except TypeError:
                    raise ValueError(f"box or outline of number {place} of {annotations} is not all numbers") from None
                except KeyError as error:
                    raise ValueError(
                        f"number {place} of {annotations} has no category that is listed: {error}"
                    ) from None
                objects[number].append(Annotation(label, bbox, outline))
        read = [
            AnnotatedImage(
                string(image[file]),
                _stated_size(image, "width", "height"),
                tuple(objects[number]),
                crowded.get(number, {}),
            )
            for number, image in images.items()
        ]
    yield from read


def identity_of(value: Any) -> str:
    """A number or a name as text: some write 1 in one place, and "1" or 1.0 in another. ValueError for other values."""
    if not isinstance(value, str | int | float):
        raise ValueError(f"an id is a number or a text, not {value!r}")
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _stated_size(image: Mapping[str, Any], width: str, height: str) -> Size:
    return int(image.get(width) or 0), int(image.get(height) or 0)


def voc(path: Path) -> AnnotatedImage:
    """The image of a VOC XML, or of its relatives: DIOR-R, SSDD, roLabelImg, FAIR1M.

    ``bbox`` is (left, top, width, height) in pixels, or () where there is none; ``outline`` has four corners, if any.
    No object is left out. EarthGPTError when the file is missing, broken, or declares entities.
    """
    tree = _xml(path)
    objects = tuple(map(_voc_object, tree.iter("object")))
    if not objects and tree.tag != "annotation":  # the page of a failed download, for one
        raise EarthGPTError(f"{path} is no annotation of an image: its first element is {tree.tag}.")
    size = _numbers(tree.find("size"), SIZE) or (0, 0)
    file = tree.findtext("filename") or tree.findtext("source/filename") or path.stem
    return AnnotatedImage(file.strip(), (int(size[0]), int(size[1])), objects)


# Plain ASCII or UTF-8 without another word on its encoding, in which "<!DOCTYPE" could hide.
_PLAIN_XML = re.compile(rb"\s*(<\?xml version=['\"]1\.\d['\"]( encoding=['\"][Uu][Tt][Ff]-8['\"])?\s*\?>)?\s*<[A-Za-z]")


def _xml(path: Path) -> ElementTree.Element:
    content = bytes_of(path)
    # Entities may grow to gigabytes or read other files (billion laughs, XXE), and annotations need none.
    if _PLAIN_XML.match(content) and b"<!DOCTYPE" not in content:
        with suppress(ElementTree.ParseError):
            return ElementTree.fromstring(content.strip())
    text = text_of(path)
    if "<!DOCTYPE" in text:
        raise EarthGPTError(f"{path} declares a document type or entities, which annotations never need: not read.")
    try:
        return ElementTree.fromstring(text.strip())
    except ElementTree.ParseError as error:
        raise EarthGPTError(f"{path} is not valid XML: {error}.") from None


def _voc_object(element: ElementTree.Element) -> Annotation:
    edges = _numbers(element.find("bndbox"), EDGES)
    bbox = (edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]) if edges else ()
    label = element.findtext("name") or element.findtext("possibleresult/name") or ""
    return Annotation(label.strip(), bbox, _voc_outline(element), (element.findtext("description") or "").strip())


def _voc_outline(element: ElementTree.Element) -> tuple[float, ...]:
    turned = element.find("robndbox")
    if turned is None:
        turned = element.find("rotated_bndbox")
    if turned is not None:
        corners = _numbers(turned, CORNERS) or _numbers(turned, SSDD_CORNERS)
        rectangle = () if corners else _numbers(turned, CENTERED)
        return tuple(chain(*rotated_rectangle(*rectangle))) if rectangle else corners
    points = element.find("points")
    if points is None:
        return ()
    pairs = [(point.text or "").split(",") for point in points]
    outline = floats(chain(*pairs)) or () if all(len(pair) == 2 for pair in pairs) else ()
    return outline[:8] if len(outline) == 10 and outline[:2] == outline[8:] else outline  # FAIR1M closes its polygons


def _numbers(element: ElementTree.Element | None, names: tuple[str, ...]) -> tuple[float, ...]:
    """The numbers in some children of an element; () when one is missing."""
    return () if element is None else floats(map(element.findtext, names)) or ()


def dota(path: Path) -> AnnotatedImage:
    """The image of a DOTA text: four corners, the class (blanks are allowed), 0 or 1 for difficult.

    ``bbox`` is (). Header lines are passed over; other lines that cannot be read are counted in its ``defects``.
    """
    annotations, defects = [], Counter()
    for line in lines(path):
        fields = line.split()
        corners = floats(fields[:8])
        if corners is None or len(fields) < 9:
            if not re.match(r"[a-z ]+:", line, re.IGNORECASE):  # imagesource:GoogleEarth, gsd:null
                defects["unreadable lines"] += 1
            continue
        difficult = fields.pop() if len(fields) > 9 and fields[-1].isdecimal() else "0"
        if difficult == "2":  # of which the devkit's ImgSplit.py left 70 % or less in a tile
            defects["objects cut by tiling"] += 1
            continue
        annotations.append(Annotation(" ".join(fields[8:]), (), corners))
    return AnnotatedImage(path.stem, (0, 0), tuple(annotations), defects)


def yolo(path: Path, size: Size) -> AnnotatedImage:
    """The image of a YOLO text, in pixels of an image of ``size``; a label is the number of a class, from "0".

    A line is a class and center x, center y, width, height, or the points of a polygon, in fractions of the image, and
    a score where a model wrote it; scores, and lines that are neither, are counted in its ``defects``.
    """
    width, height = size
    annotations, defects = [], Counter()
    for line in lines(path):
        values = yolo_line(line)
        if values is None:
            defects["unreadable lines"] += 1
            continue
        if len(values) % 2 == 0:
            defects["scores of boxes"] += 1
            values = values[:-1]
        label, numbers = str(int(values[0])), values[1:]
        if len(numbers) == 4:
            x, y, w, h = numbers
            bbox = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
            annotations.append(Annotation(label, bbox))
        else:
            outline = tuple(number * (height if i % 2 else width) for i, number in enumerate(numbers))
            annotations.append(Annotation(label, (), outline))
    return AnnotatedImage(path.stem, size, tuple(annotations), defects)


def yolo_line(line: str) -> Sequence[float] | None:
    """The numbers of a line of YOLO: a class, four numbers or the points of a polygon, and a score or none; None of
    another line."""
    values = floats(line.split()) or ()
    if len(values) < 5 or values[0] < 0 or values[0] != int(values[0]):
        return None
    scored = len(values) % 2 == 0  # a score lies in [0, 1], and so does what stands before it, but for rounding
    if scored and not (0 <= values[-1] <= 1 and all(-0.01 <= value <= 1.01 for value in values[1:-1])):
        return None
    return values


def labelme(path: Path) -> AnnotatedImage:
    """The image of a LabelMe JSON: its rectangles, polygons and circles. Points and lines are counted."""
    annotations, defects = [], Counter()
    with shaped(path, "LabelMe file"):
        content = load_json(path)
        for shape in content["shapes"]:
            label, kind = string(shape["label"]), shape.get("shape_type") or "polygon"
            corners = [(float(x), float(y)) for x, y in shape["points"]]
            if kind == "rectangle" and len(corners) > 1:  # two opposite corners in any order, or all four
                annotations.append(Annotation(label, hull_bbox(corners)))
            elif kind == "circle" and len(corners) == 2 and corners[0] != corners[1]:  # its middle, and a point of it
                (x, y), radius = corners[0], math.dist(*corners)
                annotations.append(Annotation(label, (x - radius, y - radius, 2 * radius, 2 * radius)))
            elif kind in ("polygon", "rotation") and len(corners) > 2:
                annotations.append(Annotation(label, (), tuple(chain(*corners))))
            else:
                defects["shapes without area"] += 1
        size = _stated_size(content, "imageWidth", "imageHeight")
    file = str(content.get("imagePath") or path.stem).replace("\\", "/").rpartition("/")[2]
    return AnnotatedImage(file, size, tuple(annotations), defects)


def listed(listing: Path, annotations: Path, images: Path, defects: Counter) -> Iterator[tuple[Path, AnnotatedImage]]:
    """Image file and VOC annotation for each name of a list; names without an XML file, and names that are listed once
    more, are counted in ``defects``.
    """
    names = lines(listing)
    defects["files listed twice"] += len(names) - len(set(names))
    there = {path.stem: path for path in annotations.glob("*.xml")}
    for name in dict.fromkeys(names):
        defects["missing annotations"] += name not in there
        if name in there:
            yield images / f"{name}.jpg", voc(there[name])


def spellings(classes: Iterable[str], others: Mapping[str, str | None] | None = None) -> dict[str, str | None]:
    """Spelling -> class, as ``detected`` wants it. ``others`` are further spellings; None is what is to be left out."""
    known = {label: label for label in classes} | dict(others or {})
    return {spelling(name): label for name, label in known.items()}


def spelling(label: str) -> str:
    """A class name without what its spellings differ in: case, blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", label).lower()


def upright(annotation: Annotation, size: Size, defects: Counter) -> Box | None:
    """The box of an annotation, or else the upright hull of its outline; None when none of it has area."""
    bbox = annotation.bbox
    if not bbox and annotation.outline:
        corners = points(annotation.outline, defects)
        if not corners:
            return None
        bbox = hull_bbox(corners)
    if not bbox:
        defects["objects without a box"] += 1
        return None
    return corner_box(bbox, size, defects)


def rectangle(annotation: Annotation, size: Size, defects: Counter) -> OrientedBox | None:
    """The smallest rectangle about the outline of an annotation, or else its upright box; None without area."""
    if annotation.outline:
        corners = points(annotation.outline, defects)
        return oriented_box(corners, size, defects) if corners else None
    box = upright(annotation, size, defects)
    return box and OrientedBox(box.corners)


def quadrilateral(annotation: Annotation, size: Size, defects: Counter) -> OrientedBox | None:
    """The four corners of an annotation as they stand, where it has four; else its ``rectangle``."""
    if len(annotation.outline) != 8 or floats(annotation.outline) is None:
        return rectangle(annotation, size, defects)
    corners = points(annotation.outline, defects)
    return OrientedBox.from_pixels(corners, size) if usable(corners, size, defects) else None


def detected(
    root: Path,
    path: Path,
    image: AnnotatedImage,
    sensor: Sensor,
    labels: Mapping[str, str | None],
    defects: Counter,
    box: Callable[[Annotation, Size, Counter], Box | OrientedBox | None] = upright,
    classes: Sequence[str] | None = None,
) -> Iterator[Sample]:
    """The image as a sample with its objects; none where its size is not known.

    It is named by its path from ``root``. What is held out of a set that its owners did not divide follows from the
    names: there, this is the folder of the set itself, wherever below the folder that was named as root.
    ``labels`` are ``spellings``. The sample is complete for ``classes``, which are all of ``labels`` when None,
    unless an object that may belong to them was left out.
    """
    defects.update(image.defects)
    size = size_of(path, image.size, defects)
    if size is None:
        return
    classes = tuple(dict.fromkeys(filter(None, labels.values()))) if classes is None else tuple(classes)
    regions, complete = [], not any(image.defects.values())
    for annotation, times in Counter(image.annotations).items():
        defects["objects stated twice"] += times - 1
        key = spelling(annotation.label)
        label = labels.get(key)
        found = box(annotation, size, defects) if label else None
        if found:
            regions.append(Region(found, label))
            continue
        if not label:
            kind = f"{annotation.label} regions" if key in labels else f"objects of unknown class {annotation.label!r}"
            defects[kind] += times
        complete &= label is not None and label not in classes
    if any(isinstance(region.box, OrientedBox) for region in regions):  # then all: an answer has boxes of one kind
        regions = [replace(region, box=OrientedBox(region.box.corners)) for region in regions]
    # An annotation may state a path of the machine it was made on, and a set lie beside the root.
    name = Path(os.path.relpath(path, root)).as_posix()
    yield Sample(path, name, size, sensor, regions=tuple(regions), classes=classes, complete=complete)


def scenes(
    root: Path, labels: Mapping[str, str], defects: Counter, sensor: Sensor = Sensor.OPTICAL
) -> Iterator[Sample]:
    """Scenes of ``class_folders``, named ``<folder>/<file>``."""
    choices = tuple(dict.fromkeys(labels.values()))
    for path, label in class_folders(root, labels, defects):
        name, size = f"{path.parent.name}/{path.name}", size_if_there(path, defects)
        yield Sample(path, name, size, sensor, label=label, choices=choices)


def rsvqa(root: Path, prefix: str, defects: Counter) -> Iterator[tuple[int, tuple[Question, ...]]]:
    """(image number, its questions) of RSVQA's ``<prefix>_questions.json`` and ``<prefix>_answers.json``.

    Questions without an answer are left out and counted in ``defects``.
    """
    questions = layout(root, f"{prefix}_questions.json")
    answers = questions.with_name(f"{prefix}_answers.json")
    # A file keeps a slot for each number of the whole set: rows of other splits are {"id": n, "active": false}.
    with shaped(answers, "answer file of RSVQA"):
        rows = [row for row in load_json(answers)["answers"] if row["active"]]
        said = {row["id"]: str(row["answer"]) for row in rows}
    asked: dict[int, list[Question]] = {}
    with shaped(questions, "question file of RSVQA"):
        for row in load_json(questions)["questions"]:
            if not row["active"]:
                continue
            answer = next((said[number] for number in row["answers_ids"] if number in said), None)
            defects["questions without an answer"] += answer is None
            if answer is not None:
                kind = {"comp": "comparison"}.get(row["type"], string(row["type"]))
                asked.setdefault(row["img_id"], []).append(Question(string(row["question"]), answer, kind))
        numbers = sorted(asked)
    for number in numbers:
        yield number, tuple(asked[number])

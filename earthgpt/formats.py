"""Annotation formats that several data sets share, read into plain values in the units of their files."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from earthgpt.types import Box, EarthGPTError, OrientedBox, Point, Size

IMAGES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object of a file: its class as spelled there, its box as written there, and its outline in pixels, if any."""

    label: str
    bbox: tuple[float, ...]
    outline: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image of a file: its name there, its (width, height) as stated there, and its objects."""

    file: str
    size: Size
    annotations: tuple[Annotation, ...]


def load_json(path: Path) -> Any:
    """The content of a JSON file; EarthGPTError when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EarthGPTError(f"No file {path.name} in {path.parent}.") from None
    except ValueError as error:
        raise EarthGPTError(f"{path} is not valid JSON: {error}.") from None


def image_size(path: Path) -> Size:
    """(width, height) as stored, from the header: the pixels are not decoded."""
    with Image.open(path) as image:
        return image.size


def existing(path: Path, defects: Counter) -> bool:
    """Whether the image is there; one that is not is counted in ``defects``."""
    defects["missing images"] += not path.is_file()
    return path.is_file()


def words(name: str) -> str:
    """A class name as English words: "BaseballField" and "baseball_field" become "baseball field"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\s]+", " ", name).lower()


def class_folders(root: Path, labels: Mapping[str, str], defects: Counter) -> Iterator[tuple[Path, str]]:
    """Images and labels of a folder with one folder for each class, in natural order; ``labels`` is folder -> label.

    Several folders may stand for one label (copies with other names); a label without any is counted in ``defects``.
    """
    present = {folder: label for folder, label in labels.items() if (root / folder).is_dir()}
    if not present:
        raise EarthGPTError(f"No class folders ({next(iter(labels))}, ...) in {root}.")
    defects["missing class folders"] += len(set(labels.values()) - set(present.values()))
    for folder, label in present.items():
        for path in sorted((root / folder).iterdir(), key=natural):
            if path.suffix.lower() in IMAGES:
                yield path, label


def natural(path: Path) -> list:
    """A sort key that puts ``a_2`` before ``a_10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def captions(path: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(file, split, distinct captions) of each image in the JSON of Karpathy's splits, with single blanks."""
    for image in load_json(path)["images"]:
        texts = (" ".join(sentence["raw"].split()) for sentence in image["sentences"])
        yield image["filename"], image["split"], tuple(dict.fromkeys(text for text in texts if text))


def coco(
    path: Path, defects: Counter, file: str = "file_name", annotations: str = "annotations"
) -> Iterator[AnnotatedImage]:
    """Images with their objects of a COCO-like JSON, in its order; the keys are named because sets rename them.

    ``bbox`` is kept as written. ``outline`` holds the points of all polygons; it is empty for run lengths.
    Annotations of an image that is not listed are counted in ``defects``.
    """
    content = load_json(path)
    labels = {category["id"]: category["name"] for category in content["categories"]}
    objects: dict[Any, list[Annotation]] = {image["id"]: [] for image in content["images"]}
    for entry in content[annotations]:
        if entry["image_id"] not in objects:
            defects["annotations of unlisted images"] += 1
            continue
        polygons = entry.get("segmentation") or []
        numbers = [] if isinstance(polygons, dict) else [number for polygon in polygons for number in polygon]
        outline = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        objects[entry["image_id"]].append(Annotation(labels[entry["category_id"]], tuple(entry["bbox"]), outline))
    for image in content["images"]:
        yield AnnotatedImage(image[file], (image["width"], image["height"]), tuple(objects[image["id"]]))


def corner_box(bbox: Iterable[float], size: Size, defects: Counter) -> Box | None:
    """The box of (left, top, width, height) in pixels; None when none of it has area in an image of ``size``."""
    left, top, width, height = bbox
    corners = ((left, top), (left + width, top + height))
    return Box.from_pixels(*corners[0], *corners[1], size) if _usable(corners, size, defects) else None


def oriented_box(outline: Iterable[Point], size: Size, defects: Counter) -> OrientedBox | None:
    """The smallest rectangle about an outline in pixels; None when none of it has area in an image of ``size``."""
    corners = min_area_rectangle(outline)
    return OrientedBox.from_pixels(corners, size) if _usable(corners, size, defects) else None


def _usable(corners: tuple[Point, ...], size: Size, defects: Counter) -> bool:
    """Whether a box covers part of the image. Boxes that do not, or not whole, are counted in ``defects``."""
    xs, ys = zip(*corners, strict=True)
    # A corner may overshoot by rounding: half a pixel is not a defect.
    inside = min(xs) >= -0.5 and min(ys) >= -0.5 and max(xs) <= size[0] + 0.5 and max(ys) <= size[1] + 0.5
    if len(corners) == 2:
        flat = xs[1] <= xs[0] or ys[1] <= ys[0]
    else:
        (ax, ay), (bx, by), (cx, cy) = corners[:3]
        flat = abs((bx - ax) * (cy - by) - (by - ay) * (cx - bx)) < 1e-6
    if flat:
        defects["boxes without area"] += 1
    elif max(xs) <= 0 or max(ys) <= 0 or min(xs) >= size[0] or min(ys) >= size[1]:
        defects["boxes outside the image"] += 1
    else:
        defects["boxes cut at the edge"] += not inside
        return True
    return False


def rotated_rectangle(center_x: float, center_y: float, width: float, height: float, angle: float) -> tuple[Point, ...]:
    """The corners of a rectangle turned about its center by ``angle`` in radians, clockwise on the screen."""
    cos, sin = math.cos(angle), math.sin(angle)
    halves = [(sx * width / 2, sy * height / 2) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return tuple((center_x + dx * cos - dy * sin, center_y + dx * sin + dy * cos) for dx, dy in halves)


def min_area_rectangle(outline: Iterable[Point]) -> tuple[Point, ...]:
    """The four corners of the smallest rectangle, at any angle, that holds all points.

    One of its sides lies along an edge of the convex hull (Freeman and Shapira, 1975), so each edge is tried.
    """
    hull = np.array(_convex_hull(outline), dtype=float)  # [N, 2]
    edges = np.roll(hull, -1, axis=0) - hull
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    if not lengths.any():
        return (tuple(hull[0].tolist()),) * 4
    along = edges[lengths > 0] / lengths[lengths > 0, None]  # [E, 2]
    axes = np.stack([along, np.stack([-along[:, 1], along[:, 0]], axis=1)], axis=1)  # [E, 2, 2]
    projected = axes @ hull.T  # [E, 2, N]
    low, high = projected.min(axis=2), projected.max(axis=2)  # [E, 2]
    best = int(np.argmin((high - low).prod(axis=1)))
    (u0, v0), (u1, v1) = low[best], high[best]
    corners = np.array([(u0, v0), (u1, v0), (u1, v1), (u0, v1)]) @ axes[best]
    return tuple((float(x), float(y)) for x, y in corners)


def _convex_hull(points: Iterable[Point]) -> list[Point]:
    """The convex hull, each corner once (Andrew's monotone chain, 1979)."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered

    def chain(points: Iterable[Point]) -> list[Point]:
        kept: list[Point] = []
        for x, y in points:
            while len(kept) > 1:
                (ax, ay), (bx, by) = kept[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return chain(ordered) + chain(reversed(ordered))

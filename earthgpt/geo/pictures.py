"""Regions drawn on their image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from earthgpt.geo.raster import Raster
from earthgpt.types import EarthGPTError, Region

# Colours that people with any colour vision can tell apart (Okabe and Ito, 2008), the brightest first.
COLOURS = ("#F0E442", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
SHORTEST_SIDE = 512
HIDDEN = 0.3  # the part of a box that a label of another may cover


def draw(raster: Raster, regions: Sequence[Region]) -> Image.Image:
    """The image, enlarged to at least ``SHORTEST_SIDE`` pixels, with boxes, labels and scores; a colour for a label."""
    picture = Image.fromarray(raster.pixels)
    scale = max(1.0, SHORTEST_SIDE / min(picture.size))
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    mark(picture, regions, colours_of(region.label for region in regions))
    return picture


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label, in the order in which they come; they begin anew after the last."""
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(dict.fromkeys(labels))}


def mark(picture: Image.Image, regions: Sequence[Region], colours: Mapping[str, str]) -> None:
    """Draws boxes, labels and scores on a picture.

    A label stands above its box or below it, or in it where it is as high as the picture. Where it would cover another
    label, or ``HIDDEN`` of another box, it is left out.
    """
    pen = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 260))
    font = ImageFont.load_default(size=max(12, round(min(picture.size) / 40)))
    for region in regions:
        points = [(x * picture.width, y * picture.height) for x, y in region.box.corners]
        pen.line([*points, points[0], points[1]], fill=colours[region.label], width=line, joint="curve")
    boxes = np.array([region.box.bounds.to_pixels(picture.size) for region in regions]).reshape(-1, 4)
    areas = np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1)
    taken = np.zeros((picture.height, picture.width), bool)  # by labels
    for i, region in enumerate(regions):
        text = region.label if region.score is None else f"{region.label} {region.score:.2f}"
        left, top, _, bottom = boxes[i]
        _, _, right, low = font.getbbox(text)
        width, height = right + 6, low + 4
        x = min(max(0, left), max(0, picture.width - width))
        beside = [y for y in (top - height - 1, bottom + 1) if 0 <= y <= picture.height - height]
        for y in beside or [max(0, top)]:
            plate = (x, y, x + width, y + height)
            place = np.s_[int(y) : math.ceil(y + height), int(x) : math.ceil(x + width)]
            hidden = _shared(boxes, plate) / areas
            hidden[i] = 0
            if not taken[place].any() and not (hidden > HIDDEN).any():
                taken[place] = True
                pen.rectangle(plate, fill=colours[region.label])
                pen.text((x + 3, y + 1), text, fill=_ink(colours[region.label]), font=font)
                break


def _shared(boxes: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The area that each of some boxes [N, 4] shares with one, in pixels."""
    width = np.minimum(boxes[:, 2], box[2]) - np.maximum(boxes[:, 0], box[0])
    height = np.minimum(boxes[:, 3], box[3]) - np.maximum(boxes[:, 1], box[1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def _ink(ground: str) -> str:
    """Black, or white on the darkest of the colours."""
    red, green, blue = ImageColor.getrgb(ground)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 100 else "white"


def write_picture(path: str | Path, regions: Sequence[Region], raster: Raster) -> None:
    """Draws and saves as PNG or JPEG, complete or not at all. Raises EarthGPTError for another kind of file."""
    file_format(path)
    save_picture(draw(raster, regions), path)


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """As PNG or JPEG, complete or not at all. Raises EarthGPTError for another kind, and where nothing is written."""
    path = Path(path)
    kind, fresh = file_format(path), path.with_name(path.name + ".new")
    try:
        picture.save(fresh, kind)
        os.replace(fresh, path)
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror}.") from None


def file_format(path: str | Path) -> str:
    """What a picture of that name is saved as, "PNG" or "JPEG". Raises EarthGPTError for another ending."""
    path = Path(path)
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in formats:
        raise EarthGPTError(f"Pictures are written as .png or .jpg; not {path.suffix or path.name!r}.")
    return formats[path.suffix.lower()]

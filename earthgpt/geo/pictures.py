"""Regions drawn on their image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from earthgpt.files import whole_file
from earthgpt.geo.placing import Feature, each
from earthgpt.geo.raster import LARGEST_SIDE, Raster, open_raster
from earthgpt.geo.scene import Scene
from earthgpt.types import EarthGPTError, Point, Region

# Colours that people with any colour vision can tell apart (Okabe and Ito, 2008), the brightest first; and for more
# classes those of Tol's scheme "muted" (SRON/EPS/TN/09-002, 2021) that are not among them.
COLOURS = ("#F0E442", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
COLOURS += ("#CC6677", "#999933", "#44AA99", "#AA4499", "#882255", "#332288")
SHORTEST_SIDE = 512
HIDDEN = 0.3  # the part of a box that a label of another may cover
MOST_LABELS, MOST_ROWS = 500, 6  # the surest regions have their labels; rows of a legend
CASING, PAPER, INK = "#000000", "#FFFFFF", "#1A1A1A"


def draw(
    raster: Any,
    regions: Iterable[Feature | Region] | Feature | Region | None,
    legend: bool = False,
    side: int = LARGEST_SIDE,
    gsd_m: float | None = None,
) -> Image.Image:
    """An image, which is anything that ``earthgpt.open`` takes, with the boxes, labels and scores of some regions, of
    one, or of None where nothing was found; a colour for a label.

    The picture is the image at most ``side`` pixels a side, enlarged until its shorter side is ``SHORTEST_SIDE`` or its
    longer one ``side``. legend: whether a strip below it says what the colours mean and how often each label occurs,
    with a scale bar where the metres of a pixel are known: ``gsd_m``, or the scene's own.
    Raises EarthGPTError for an image that cannot be read, and for what are no regions.
    """
    if not isinstance(legend, bool):
        raise EarthGPTError(f"legend is True or False, not {legend!r}; what draw returns is saved by its save().")
    raster = raster if isinstance(raster, Raster | Scene) else open_raster(raster)
    regions = [one.region if isinstance(one, Feature) else one for one in each(regions)]
    picture = Image.fromarray(pixels_of(raster, side))
    scale = max(1.0, min(SHORTEST_SIDE / min(picture.size), side / max(picture.size)))
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    colours = colours_of(region.label for region in regions)
    mark(picture, regions, colours)
    if not legend:
        return picture
    gsd_m = gsd_m or getattr(raster, "gsd_m", None)
    metres = gsd_m * raster.size[0] / picture.width if gsd_m else None
    strip = _legend(picture.width, Counter(region.label for region in regions), colours, metres)
    page = Image.new("RGB", (picture.width, picture.height + strip.height), PAPER)
    page.paste(picture)
    page.paste(strip, (0, picture.height))
    return page


def pixels_of(raster: Any, side: int = LARGEST_SIDE) -> np.ndarray:
    """A Raster or a Scene as uint8 [h, w, 3], at most ``side`` pixels a side."""
    if not isinstance(raster, Raster):
        return raster.preview(side)[0]
    picture = Image.fromarray(raster.pixels)
    picture.thumbnail((side, side))
    return np.asarray(picture)


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label, in the order in which they come; they begin anew after the last."""
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(dict.fromkeys(labels))}


def mark(picture: Image.Image, regions: Sequence[Region], colours: Mapping[str, str]) -> None:
    """Draws boxes, labels and scores on a picture.

    A label stands above its box or below it; in it where there is no place, or where the place is another box's. Where
    it would cover another label, or ``HIDDEN`` of another box, it is left out; the surest regions come first. A long
    label is cut to the width of its box, or to some words. Lines of small boxes are thin.
    """
    pen = ImageDraw.Draw(picture)
    widest = max(2, round(min(picture.size) / 260))
    font = ImageFont.load_default(size=max(12, round(min(picture.size) / 60)))
    boxes = np.array([region.box.bounds.to_pixels(picture.size) for region in regions]).reshape(-1, 4)
    thinnest = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    lines = np.clip(np.round(thinnest / 6), 1, widest).astype(int).tolist()
    for casing in (True, False):  # a dark edge about every line, below all lines: seen on any ground
        for region, line in zip(regions, lines, strict=True):
            outline(
                pen,
                [(x * picture.width, y * picture.height) for x, y in region.box.corners],
                CASING if casing else colours[region.label],
                line + 2 * casing,
            )
    areas = np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1)
    taken = np.zeros((picture.height, picture.width), bool)  # by labels
    surest = sorted(range(len(regions)), key=lambda i: -(regions[i].score or 0))
    for i in surest[:MOST_LABELS]:
        region = regions[i]
        score = "" if region.score is None else f" {region.score:.2f}"
        room = max(boxes[i, 2] - boxes[i, 0] - 6 - font.getlength(score), 14 * font.size)
        text = _fitting(" ".join(region.label.split()), font, room) + score
        left, top, _, bottom = boxes[i]
        _, _, right, low = font.getbbox(text)
        width, height = right + 6, low + 4
        x = min(max(0, left), max(0, picture.width - width))
        beside = [y for y in (top - height - 1, bottom + 1) if 0 <= y <= picture.height - height] or [max(0, top)]
        if width <= boxes[i, 2] - left and 2 * height <= bottom - top:  # its own box has room, as tiles side by side
            others = np.delete(boxes, i, axis=0)
            shares = [_shared(others, (x, y, x + width, y + height)).max(initial=0) for y in beside]
            beside = [y for y, share in zip(beside, shares, strict=True) if share <= width * height / 2]
            beside.append(top + 1)
        for y in beside:
            plate = (x, y, x + width, y + height)
            place = np.s_[int(y) : math.ceil(y + height), int(x) : math.ceil(x + width)]
            hidden = _shared(boxes, plate) / areas
            hidden[i] = 0
            if not taken[place].any() and not (hidden > HIDDEN).any():
                taken[place] = True
                tag(pen, plate, text, colours[region.label], font)
                break


def outline(pen: ImageDraw.ImageDraw, points: Sequence[Point], colour: str, width: int) -> None:
    """A closed line through some points."""
    pen.line([*points, points[0], points[1]], fill=colour, width=width, joint="curve")


def tag(pen: ImageDraw.ImageDraw, plate: tuple[float, ...], text: str, colour: str, font: Any) -> None:
    """A word on a plate (left, top, right, bottom) of a colour."""
    pen.rectangle(plate, fill=colour)
    pen.text((plate[0] + 3, plate[1] + 1), text, fill=_ink(colour), font=font)


def _legend(width: int, counts: Counter[str], colours: Mapping[str, str], metres: float | None) -> Image.Image:
    """Colours, labels and counts in rows as wide as the picture, the most frequent first; a scale bar to the right."""
    size = max(13, round(width / 75))
    font, gap, row = ImageFont.load_default(size=size), size, round(size * 1.8)
    bar, bar_text = _scale_bar(width, metres)
    room = width - 2 * gap - (bar + 2 * gap if bar else 0)
    places, x, y = [], 0.0, 0
    for label, count in counts.most_common():
        text = f"{_fitting(' '.join(label.split()), font, room / 2)}  {count:,}"
        needed = 2 * size + font.getlength(text)
        if x and x + needed > room:
            x, y = 0.0, y + row
        places.append((x, y, label, text))
        x += needed + gap
    shown = [place for place in places if place[1] < MOST_ROWS * row]
    rows = 1 + max((place[1] for place in shown), default=0) // row
    left_out = len(places) - len(shown)
    strip = Image.new("RGB", (width, (rows + bool(left_out)) * row + gap), PAPER)
    pen = ImageDraw.Draw(strip)
    for x, y, label, text in shown:
        left, middle = gap + x, gap / 2 + y + row / 2
        square = (left, middle - size / 2, left + size, middle + size / 2)
        pen.rectangle(square, fill=colours[label], outline=INK)
        pen.text((left + 1.5 * size, middle), text, fill=INK, font=font, anchor="lm")
    if left_out:
        pen.text((gap, gap / 2 + (rows + 0.5) * row), f"and {left_out} more", fill=INK, font=font, anchor="lm")
    if not counts:
        pen.text((gap, gap / 2 + row / 2), "0 regions", fill=INK, font=font, anchor="lm")
    if bar:
        right, middle = width - gap, gap / 2 + row * 0.75
        pen.line([(right - bar, middle - 4), (right - bar, middle), (right, middle), (right, middle - 4)], INK, 2)
        pen.text((right - bar / 2, middle - 3), bar_text, fill=INK, font=font, anchor="ms")
    return strip


def _fitting(text: str, font: Any, room: float) -> str:
    """The text, cut with an ellipsis where it is wider than the room."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def _scale_bar(width: int, metres: float | None) -> tuple[int, str]:
    """How many pixels a round distance of at most a fifth of the width takes, and the distance; (0, "") without one."""
    if not metres or not math.isfinite(metres):
        return 0, ""
    most = metres * width / 5
    unit = 10 ** math.floor(math.log10(most))
    length = max((step * unit for step in (1, 2, 5) if step * unit <= most), default=unit)  # a logarithm is rounded
    return round(length / metres), f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"


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
    kind = file_format(path)
    try:
        with whole_file(path) as fresh:
            picture.save(fresh, kind)
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror or error}.") from None


def file_format(path: str | Path) -> str:
    """What a picture of that name is saved as, "PNG" or "JPEG". Raises EarthGPTError for another ending."""
    path = Path(path)
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in formats:
        raise EarthGPTError(f"Pictures are written as .png or .jpg; not {path.suffix or path.name!r}.")
    return formats[path.suffix.lower()]

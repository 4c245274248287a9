"""Regions drawn on their image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from earthgpt.geo.raster import Raster
from earthgpt.types import EarthGPTError, Region

# Colours that people with any colour vision can tell apart (Okabe and Ito, 2008), the brightest first.
COLOURS = ("#F0E442", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
SHORTEST_SIDE = 512


def draw(raster: Raster, regions: Sequence[Region]) -> Image.Image:
    """The image, enlarged to at least ``SHORTEST_SIDE`` pixels, with boxes, labels and scores; a colour for a label."""
    picture = Image.fromarray(raster.pixels)
    scale = max(1.0, SHORTEST_SIDE / min(picture.size))
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 260))
    font = ImageFont.load_default(size=max(12, round(min(picture.size) / 40)))
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(dict.fromkeys(r.label for r in regions))}
    for region in regions:
        points = [(x * picture.width, y * picture.height) for x, y in region.box.corners]
        pen.line([*points, points[0], points[1]], fill=colours[region.label], width=line, joint="curve")
    for region in regions:
        text = region.label if region.score is None else f"{region.label} {region.score:.2f}"
        bounds = region.box.bounds
        left, top, right, bottom = font.getbbox(text)
        x = min(max(0, bounds.left * picture.width), max(0, picture.width - right - 6))
        y = max(0, bounds.top * picture.height - bottom - 5)
        pen.rectangle([x, y, x + right + 6, y + bottom + 4], fill=colours[region.label])
        pen.text((x + 3, y + 1), text, fill="black", font=font)
    return picture


def write_picture(path: str | Path, regions: Sequence[Region], raster: Raster) -> None:
    """Draws and saves as PNG or JPEG, complete or not at all. Raises EarthGPTError for another kind of file."""
    path = Path(path)
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in formats:
        raise EarthGPTError(f"Pictures are written as .png or .jpg; not {path.suffix or path.name!r}.")
    fresh = path.with_name(path.name + ".new")
    try:
        draw(raster, regions).save(fresh, formats[path.suffix.lower()])
        os.replace(fresh, path)
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror}.") from None

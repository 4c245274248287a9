"""Large images in windows: where to cut, how a window is named, and what of the objects lies in it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from earthgpt.types import Box, EarthGPTError, OrientedBox, Sample, Size

Window = tuple[int, int, int, int]  # left, top, width, height in pixels of the image
ROUNDING = 1e-9  # the half of an object may come out as 0.49999999999
MARK = "#xywh="
_NUMBER, _POSITIVE = "(0|[1-9][0-9]*)", "([1-9][0-9]*)"
_FRAGMENT = re.compile(rf"(.+){MARK}{_NUMBER},{_NUMBER},{_POSITIVE},{_POSITIVE}", re.DOTALL)


def windows(size: Size, tile: int, overlap: int) -> list[Window]:
    """Windows of at most ``tile`` pixels a side that cover an image of ``size`` (width, height), row by row.

    Neighbours share at least ``overlap`` pixels; the last of a row or column ends at the edge. The whole image where it
    is no larger than a tile. Raises ValueError unless 0 <= overlap < tile.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"Tiles of {tile} pixels cannot share {overlap}.")

    def starts(length: int) -> list[int]:
        if length <= tile:
            return [0]
        return [*range(0, length - tile, tile - overlap), length - tile]

    width, height = min(tile, size[0]), min(tile, size[1])
    return [(left, top, width, height) for top in starts(size[1]) for left in starts(size[0])]


def inside(window: Window, size: Size, name: Any) -> Window:
    """The window, as it is. Raises EarthGPTError where it is empty or not inside an image of that size and name."""
    left, top, width, height = window
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[0] or top + height > size[1]:
        raise EarthGPTError(
            f"The window {left},{top},{width},{height} is not inside {name} of {size[0]:,} x {size[1]:,} pixels."
        )
    return window


def fragment(name: str, window: Window) -> str:
    """The name of a window into an image: ``P0000.png#xywh=0,0,1024,1024``, left, top, width and height in pixels (W3C
    Media Fragments 1.0, 4.2.2).

    Raises ValueError for a window without area or with negative numbers, and for a name that has a window already.
    """
    text = f"{name}{MARK}{','.join(map(str, window))}"
    if parse_fragment(name)[1] or not _FRAGMENT.fullmatch(text):
        raise ValueError(f"{window} is no window into {name}.")
    return text


def parse_fragment(text: str) -> tuple[str, Window | None]:
    """The name of an image and the window that is meant, None for the whole; the inverse of ``fragment``.

    A ``#`` without ``xywh=`` is part of the name. Raises EarthGPTError for numbers that are no window.
    """
    if MARK not in text:
        return text, None
    found = _FRAGMENT.fullmatch(text)
    if not found or MARK in found[1]:
        raise EarthGPTError(f"{text!r}: a window is written image.png{MARK}left,top,width,height in whole pixels.")
    left, top, width, height = map(int, found.groups()[1:])
    return found[1], (left, top, width, height)


def cut(sample: Sample, window: Window, visible: float = 0.5) -> tuple[Sample, int]:
    """The sample as the window shows it, and how many objects of it were left out because too little of them shows.

    An object stays when at least ``visible`` of its area lies inside; its corners outside move to the nearest point of
    the edge. Where one was left out the sample is no longer complete, and names it as ``cut`` where all others are
    stated. What is said of the whole image is dropped, and
    phrases too: "the ship on the left" may be another one here. Name and image remain those of the whole.
    """
    left, top, width, height = window
    frame = Box.from_pixels(left, top, left + width, top + height, sample.size)
    shares = [(region, _part_inside(region.box, frame)) for region in sample.regions]
    least = max(visible - ROUNDING, ROUNDING)
    kept = [region for region, share in shares if share > least]
    lost = [region for region, share in shares if ROUNDING < share <= least]
    parts = [*lost, *(region for region in sample.cut if _part_inside(region.box, frame) > ROUNDING)]
    shown = replace(
        sample,
        size=(width, height),
        label=None,
        choices=(),
        captions=(),
        questions=(),
        expressions=(),
        regions=tuple(replace(region, box=_move(region.box, window, sample.size)) for region in kept),
        complete=sample.complete and not lost,
        cut=tuple(replace(region, box=_move(region.box.bounds, window, sample.size)) for region in parts)
        if sample.complete or sample.cut
        else (),
    )
    return shown, len(lost)


def _part_inside(box: Box | OrientedBox, frame: Box) -> float:
    """How much of a box lies in the frame, in [0, 1]; of one without area its middle decides."""
    bounds = box.bounds
    if bounds.left > frame.right or bounds.right < frame.left or bounds.top > frame.bottom or bounds.bottom < frame.top:
        return 0.0  # as most objects of a large image: their polygons need not be cut
    area = box.area
    if area <= 0:
        x, y = box.center
        return float(frame.left <= x <= frame.right and frame.top <= y <= frame.bottom)
    # iou = overlap / (area + frame - overlap), solved for the overlap
    iou = box.iou(frame)
    return min(1.0, iou * (area + frame.area) / (1 + iou) / area)


def _move(box: Box | OrientedBox, window: Window, size: Size) -> Box | OrientedBox:
    left, top, width, height = window
    corners = tuple((x * size[0] - left, y * size[1] - top) for x, y in box.corners)
    if isinstance(box, OrientedBox):
        return OrientedBox.from_pixels(corners, (width, height))
    return Box.from_pixels(*corners[0], *corners[2], (width, height))


def tile_side(seen: int) -> int:
    """The side of a tile in pixels of its scene, for a model that sees ``seen`` pixels a side: four become one, which
    is the scale of the images that the model learned from, and which it sees whole."""
    return 4 * seen

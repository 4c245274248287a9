"""The frames a box may be written in, and boxes as text.

A box lives in the frame of its own image. MMRS-1M and the model write it in the frame of the image padded to a square:
the image is centred on a square of side max(width, height), with an offset of int((long - short) / 2) on the short
axis, and divided by that side (README of the EarthGPT release). Other frames differ only in the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from earthgpt.types import Box, OrientedBox, Point, Size, release_order

NUMBER = r"\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)\s*"
BOX = rf"{NUMBER}(?:,{NUMBER}){{3}}(?:(?:,{NUMBER}){{4}})?"
BOX_LIST = re.compile(rf"\[{BOX}(?:;{BOX})*;?\s*\]")
_BOX = re.compile(BOX)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where numbers are measured from and in what unit: ``number = (fraction * extent + offset) / unit``.

    ``extent``, ``offset`` and ``unit`` are in pixels of the image, for x and y.
    """

    extent: Point
    offset: Point
    unit: Point

    def numbers(self, point: Point) -> Point:
        """A point in fractions of the image as numbers of this frame."""
        return tuple((point[i] * self.extent[i] + self.offset[i]) / self.unit[i] for i in (0, 1))

    def fractions(self, numbers: Point) -> Point:
        """Numbers of this frame as fractions of the image, cut to [0, 1]: padding is not image."""
        return tuple(min(max((numbers[i] * self.unit[i] - self.offset[i]) / self.extent[i], 0.0), 1.0) for i in (0, 1))


def image_frame(size: Size) -> Frame:
    """Fractions of the image itself, [0, 1]. ``size`` is (width, height) in pixels, here as everywhere."""
    return Frame(size, (0, 0), size)


def padded_square(size: Size) -> Frame:
    """Fractions of the image padded to a square: the frame of MMRS-1M and of the model."""
    long = max(size)
    return Frame(size, (int((long - size[0]) / 2), int((long - size[1]) / 2)), (long, long))


def pixels(size: Size) -> Frame:
    """Pixels of the image."""
    return Frame(size, (0, 0), (1, 1))


def scaled(size: Size, maximum: int) -> Frame:
    """Fractions of the image times a maximum: the 0-100 (GeoChat) and 0-1000 (Qwen-VL) frames."""
    return Frame(size, (0, 0), (size[0] / maximum, size[1] / maximum))


# By the names that users give: "square" is ours, "0-100" GeoChat's, "0-1000" Qwen-VL's.
FRAMES: Mapping[str, Callable[[Size], Frame]] = {
    "square": padded_square,
    "image": image_frame,
    "0-100": partial(scaled, maximum=100),
    "0-1000": partial(scaled, maximum=1000),
    "pixels": pixels,
}


def write_box(box: Box | OrientedBox, frame: Frame, decimals: int = 3) -> str:
    """``xmin,ymin,xmax,ymax`` or eight numbers, without brackets.

    An oriented box starts with the corner nearest the frame's origin, the others follow by ascending angle about it,
    both judged on the printed numbers, so that writing what was read gives the same text.
    """
    corners = box.corners if isinstance(box, OrientedBox) else ((box.left, box.top), (box.right, box.bottom))
    # The zero turns -0.0 into 0.0, which prints without a sign.
    points = tuple(tuple(round(value, decimals) + 0.0 for value in frame.numbers(corner)) for corner in corners)
    if isinstance(box, OrientedBox):
        points = release_order(points)
    return ",".join(f"{value:.{decimals}f}" for point in points for value in point)


def write_boxes(boxes: list[Box | OrientedBox] | tuple[Box | OrientedBox, ...], frame: Frame, decimals: int = 3) -> str:
    """``[box;box;...]``, as the release writes them."""
    return "[" + ";".join(write_box(box, frame, decimals) for box in boxes) + "]"


def find_boxes(text: str, frame: Frame) -> Iterator[tuple[Box | OrientedBox, tuple[int, int]]]:
    """Every box inside square brackets in the text, with the span of its numbers: (start, end) in characters.

    Any number of decimals and stray spaces are read. Numbers in the padding are cut to the image. Edges in the wrong
    order are no box and are left out, so that they count as unread.
    """
    for found in BOX_LIST.finditer(text):
        for part in _BOX.finditer(text, found.start(), found.end()):
            values = [float(number) for number in part.group().split(",")]
            points = tuple(frame.fractions(pair) for pair in zip(values[::2], values[1::2], strict=True))
            if len(points) == 4:
                yield OrientedBox(points), part.span()
            elif values[0] <= values[2] and values[1] <= values[3]:
                yield Box(*points[0], *points[1]), part.span()

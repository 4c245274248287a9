"""Large images in windows: where to cut, and what of the objects lies in a window."""

from __future__ import annotations

from dataclasses import replace

from earthgpt.types import Box, OrientedBox, Region, Sample, Size

Window = tuple[int, int, int, int]  # left, top, width, height in pixels of the image


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


def cut(sample: Sample, window: Window, visible: float = 0.5) -> tuple[Sample, int]:
    """The sample as the window shows it, and how many objects of it were left out because too little of them shows.

    An object stays when at least ``visible`` of its area lies inside; its corners outside move to the nearest point of
    the edge. Where one was left out the sample is no longer complete. What is said of the whole image is dropped.
    """
    left, top, width, height = window
    frame = Box.from_pixels(left, top, left + width, top + height, sample.size)
    kept: dict[str, list[Region]] = {"regions": [], "expressions": []}
    lost = 0
    for name, found in kept.items():
        for region in getattr(sample, name):
            share = _part_inside(region.box, frame)
            if share > 0 and share >= visible:
                found.append(replace(region, box=_move(region.box, window, sample.size)))
            else:
                lost += share > 0
    shown = replace(
        sample,
        size=(width, height),
        label=None,
        choices=(),
        captions=(),
        questions=(),
        regions=tuple(kept["regions"]),
        expressions=tuple(kept["expressions"]),
        complete=sample.complete and not lost,
    )
    return shown, lost


def _part_inside(box: Box | OrientedBox, frame: Box) -> float:
    """How much of a box lies in the frame, in [0, 1]; 0 for one without area."""
    iou, area = box.iou(frame), box.area
    # iou = overlap / (area + frame - overlap), solved for the overlap
    return min(1.0, iou * (area + frame.area) / (1 + iou) / area) if area > 0 else 0.0


def _move(box: Box | OrientedBox, window: Window, size: Size) -> Box | OrientedBox:
    left, top, width, height = window
    corners = tuple((x * size[0] - left, y * size[1] - top) for x, y in box.corners)
    if isinstance(box, OrientedBox):
        return OrientedBox.from_pixels(corners, (width, height))
    return Box.from_pixels(*corners[0], *corners[2], (width, height))

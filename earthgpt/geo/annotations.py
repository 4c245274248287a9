"""Features as annotations in pixels, as detectors and label tools read them: COCO, YOLO and DOTA."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from earthgpt.geo.layers import Text
from earthgpt.geo.placing import Placed
from earthgpt.types import EarthGPTError


class COCO(Text):
    """COCO detection JSON (cocodataset.org, "data format"): boxes (left, top, width, height) and polygons in pixels.

    Categories are numbered from 1 in the order of ``classes``, then as they come. What COCO has no field for (score,
    answer, metres) stands in the annotation under the name of its column.
    """

    numbered = True

    def head(self) -> None:
        self.count = 0
        # Readers take the members by name, so the categories may come when all are known.
        self.file.write('{"annotations": [')

    def write(self, features: Sequence[Placed]) -> None:
        for one in features:
            self.count += 1
            xs, ys = zip(*one.pixels, strict=True)
            more = {name: value for name, value in one.values.items() if value is not None}
            del more["label"], more["pixels"]
            annotation = {
                "id": self.count,
                "image_id": 1,
                "category_id": self.layer.labels[one.region.label] + 1,
                "bbox": [_short(value) for value in (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))],
                "segmentation": [[_short(value) for point in one.pixels for value in point]],
                "area": _short(_area(one)),
                "iscrowd": 0,
                **more,
            }
            self.file.write(",\n" * (self.count > 1) + json.dumps(annotation, ensure_ascii=False, allow_nan=False))

    def finish(self) -> None:
        width, height = self.layer.size
        name = Path(getattr(self.layer.raster, "name", "") or self.name).name
        images = [{"id": 1, "file_name": name, "width": width, "height": height}]
        categories = [{"id": i + 1, "name": label} for label, i in self.layer.labels.items()]
        for key, value in (("images", images), ("categories", categories)):
            self.file.write(f'],\n"{key}": {json.dumps(value, ensure_ascii=False)[:-1]}')
        self.file.write("]}\n")
        self.file.close()


class YOLO(Text):
    """YOLO text, a line for a box: number of the class, middle, width and height in [0, 1], and the score if there is
    one, as Ultralytics saves what it predicts. A line for each class stands in
    ``<name>.yolo.names`` beside it (of oriented boxes ``<name>.yolo-obb.names``)."""

    numbered = True
    beside = (".names",)

    def head(self) -> None:
        self.names = self.path.with_suffix(".names")
        self.files = (self.names,)

    def write(self, features: Sequence[Placed]) -> None:
        for one in features:
            numbers = [*self.numbers(one), *(() if one.region.score is None else (one.region.score,))]
            line = [str(self.layer.labels[one.region.label]), *(f"{value:.6f}" for value in numbers)]
            self.file.write(" ".join(line) + "\n")

    def numbers(self, one: Placed) -> list[float]:
        box = one.region.box.bounds
        return [*box.center, box.right - box.left, box.bottom - box.top]

    def finish(self) -> None:
        self.file.close()
        lines = (" ".join(label.split()) for label in self.layer.labels)
        self.names.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class OrientedYOLO(YOLO):
    """YOLO text for oriented boxes: number of the class, four corners in [0, 1], and the score if there is one."""

    def numbers(self, one: Placed) -> list[float]:
        return [value for corner in one.region.box.corners for value in corner]


class DOTA(Text):
    """DOTA's annotation text: four corners in pixels, the class with hyphens for blanks, 0 for "not difficult"; metres
    a pixel on the second line. It has no room for scores."""

    def head(self) -> None:
        gsd = self.layer.gsd_m
        self.file.write(f"imagesource:null\ngsd:{'null' if gsd is None else round(gsd, 6)}\n")

    def write(self, features: Sequence[Placed]) -> None:
        for one in features:
            label = "-".join(one.region.label.split())
            if not label:
                raise EarthGPTError("DOTA has no room for a region without a label; write another format.")
            numbers = " ".join(f"{value:.1f}" for point in one.pixels for value in point)
            self.file.write(f"{numbers} {label} 0\n")

    def finish(self) -> None:
        self.file.close()


def _short(value: float) -> float:
    return round(value, 2)


def _area(one: Placed) -> float:
    """Of the polygon, in square pixels."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = one.pixels
    return abs((cx - ax) * (dy - by) - (dx - bx) * (cy - ay)) / 2

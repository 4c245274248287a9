"""Results over their scene as one HTML file that any browser opens, without a network."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from earthgpt.geo.layers import Text, middle
from earthgpt.geo.pictures import COLOURS, pixels_of
from earthgpt.geo.place import short
from earthgpt.geo.placing import Layer, Placed

NODES = 33  # a side of the grid of longitudes and latitudes: off by a metre for a scene of 100 km in UTM
NAMES = {"area_m2": "area, m²", "length_m": "length, m", "width_m": "width, m", "angle_deg": "angle from north, °"}


class WebMap(Text):
    """The scene at most 2,048 pixels a side, the features over it, and all that they need in one file.

    Text of a model, a file or a user reaches the page as JSON, and from there as text, never as markup.
    """

    def head(self) -> None:
        template = Path(__file__).with_name("webmap.html").read_text(encoding="utf-8")
        # The texts between the marks: what is put in is never searched for marks itself.
        start, image, facts, features, self.end = re.split(r"{{(?:image|facts|features|labels)}}", template)
        name = Path(getattr(self.layer.raster, "name", "") or self.name).name
        self.file.write(start.replace("{{title}}", html.escape(f"{name}: regions", quote=True)))
        self.file.write(jpeg(pixels_of(self.layer.raster)) + image + _json(facts_of(self.layer, name)) + facts)
        self.after, self.between = features, "\n"

    def write(self, features: Sequence[Placed]) -> None:
        for one in features:
            same = self.layer.properties  # said once for all, in ``about``
            more = {name: v for name, v in one.values.items() if v is not None and same.get(name) != v}
            for name in ("label", "score", "pixels"):
                more.pop(name, None)
            corners = [round(value, 2) for point in one.pixels for value in point]
            where = one.lonlat and [round(value, 7) for value in middle(one.lonlat)]
            row = [self.layer.labels[one.region.label], one.values["score"], corners, more, where]
            self.file.write(self.between + _json(row))
            self.between = ",\n"

    def finish(self) -> None:
        self.file.write(self.after + _json(list(self.layer.labels)) + self.end)
        self.file.close()


def facts_of(layer: Layer, name: str) -> dict[str, Any]:
    """What a page knows of a scene, as JSON has it: its size, its place, and the colours of classes."""
    width, height = layer.size
    about = [f"{width:,} x {height:,} pixels" + ("" if layer.gsd_m is None else f", {_metres(layer.gsd_m)} a pixel")]
    if layer.crs:
        about.append(short(layer.crs))
    about += [*layer.notes, *(f"{name}: {value}" for name, value in layer.properties.items() if value is not None)]
    return {
        "name": name,
        "size": [width, height],
        "colours": COLOURS,
        "names": NAMES,
        "about": about,
        "crs": layer.crs and short(layer.crs),
        "transform": layer.place.transform if layer.crs and layer.place.model is None else None,
        "degrees": layer.in_degrees,
        "grid": _grid(layer),
    }


def _grid(layer: Layer) -> list[list[list[float] | None]] | None:
    """Longitude and latitude at ``NODES`` by ``NODES`` points over the image, row by row; None where there is none."""
    if not layer.on_earth:
        return None
    width, height = layer.size
    x, y = np.meshgrid(np.linspace(0, width, NODES), np.linspace(0, height, NODES))
    nodes = layer.place.to_wgs84(np.stack((x, y), axis=-1).reshape(-1, 2)).reshape(NODES, NODES, 2)
    return [[[round(float(v), 8) for v in node] if np.isfinite(node).all() else None for node in row] for row in nodes]


def _metres(value: float) -> str:
    return f"{value / 1000:.3g} km" if value >= 1000 else f"{value:.3g} m"


def _json(value: Any) -> str:
    """JSON that may stand in a script element: no text can end the element, for "<" is written as an escape."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def jpeg(pixels: np.ndarray) -> str:
    """uint8 [H, W, 3] as a JPEG in base64."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=88)
    return base64.b64encode(stream.getvalue()).decode("ascii")

"""Features as layers of a map: one class for a format, fed a batch at a time."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earthgpt.geo.placing import Place, Placed, closed, rings_on_earth
from earthgpt.types import EarthGPTError, Point

BATCH = 2_000  # features that are handed to GDAL at once


class GeoJSON:
    """RFC 7946: longitude and latitude in WGS 84 to 1e-7 degrees (a centimetre), rings counterclockwise, cut at the
    antimeridian. Without a CRS pixels, and the foreign member ``coordinates`` says so."""

    def __init__(self, path: Path, place: Place) -> None:
        self.place = place
        self.file = path.open("w", encoding="utf-8")
        head = '{"type": "FeatureCollection"' + "".join(f", {json.dumps(k)}: {json.dumps(v)}" for k, v in _said(place))
        self.file.write(head + ', "features": [')
        self.between = "\n"

    def add(self, features: Sequence[Placed]) -> None:
        for one in features:
            self.file.write(self.between + json.dumps(geojson(one, self.place), ensure_ascii=False, allow_nan=False))
            self.between = ",\n"

    def close(self) -> None:
        self.file.write("\n]}\n")
        self.file.close()

    def discard(self) -> None:
        self.file.close()


def _said(place: Place) -> list[tuple[str, str]]:
    return [] if place.on_earth else [("coordinates", "pixels of the image, y down")]


def geojson(one: Placed, place: Place) -> dict[str, Any]:
    """A GeoJSON Feature; what is not known is left out, and without a place the geometry is null (RFC 7946, 3.2)."""
    properties = {name: value for name, value in one.values.items() if value is not None}
    properties["pixels"] = json.loads(one.values["pixels"])
    if place.on_earth:
        rings = rings_on_earth(one.lonlat) if one.lonlat else []
        digits = 7
    else:
        rings, digits = [closed(one.pixels)], 2
    rounded = [[[round(x, digits), round(y, digits)] for x, y in ring] for ring in rings]
    geometry = None
    if len(rounded) == 1:
        geometry = {"type": "Polygon", "coordinates": rounded}
    elif rounded:
        geometry = {"type": "MultiPolygon", "coordinates": [[ring] for ring in rounded]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def wkb(points: Sequence[Point] | None) -> bytes | None:
    """A polygon as well-known binary, little-endian (OGC 06-103r4, 8.2); None of nothing."""
    if points is None:
        return None
    ring = closed(points)
    return struct.pack(f"<BIII{2 * len(ring)}d", 1, 3, 1, len(ring), *(value for point in ring for value in point))


class GeoPackage:
    """A GeoPackage in the CRS of the scene, by GDAL (pyogrio); a layer by the name of the file."""

    driver = "GPKG"

    def __init__(self, path: Path, place: Place, name: str) -> None:
        self.path, self.place, self.name = path, place, name
        self.waiting: list[Placed] = []
        self.begun = False
        _pyogrio()

    def add(self, features: Sequence[Placed]) -> None:
        self.waiting += features
        while len(self.waiting) >= BATCH:
            self._flush(BATCH)

    def close(self) -> None:
        if self.waiting or not self.begun:
            self._flush(BATCH)

    def discard(self) -> None:
        self.waiting = []

    def _flush(self, count: int) -> None:
        import numpy as np

        rows, self.waiting = self.waiting[:count], self.waiting[count:]
        columns = self.place.columns
        fields = [[row.values[name] for row in rows] for name in columns]
        filled = {float: float("nan"), int: 0, bool: False}
        data = [
            np.array([filled.get(kind) if value is None else value for value in values], _DTYPES[kind])
            for values, kind in zip(fields, columns.values(), strict=True)
        ]
        masks = [np.array([value is None for value in values], bool) for values in fields]
        shapes = [wkb(row.points if self.place.crs else row.pixels) for row in rows]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*crs.*", UserWarning)  # without a CRS: said in the description
            _pyogrio().raw.write(
                self.path,
                np.array(shapes, object),
                data,
                np.array(list(columns), object),
                masks,
                layer=self.name,
                driver=self.driver,
                geometry_type="Polygon",
                crs=self.place.crs,
                append=self.begun,
                layer_metadata=None if self.begun else {"DESCRIPTION": " ".join(self.place.notes) or "EarthGPT"},
            )
        self.begun = True


def _pyogrio() -> Any:
    try:
        import pyogrio
    except ImportError:
        raise EarthGPTError('GeoPackage and FlatGeobuf need pyogrio: pip install "earthgpt[geo]".') from None
    return pyogrio


_DTYPES = {str: object, float: "float64", int: "int64", bool: bool}

"""Regions as map features."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earthgpt.geo.raster import Raster
from earthgpt.types import EarthGPTError, Region


def features(regions: Sequence[Region], raster: Raster) -> dict[str, Any]:
    """A GeoJSON FeatureCollection (RFC 7946): polygons in WGS 84 longitude and latitude, with label and score.

    For an image without a place on Earth the coordinates are pixels (y down), and the foreign member
    ``coordinates`` says so. Raises EarthGPTError when the image has a place but rasterio is not installed.
    """
    mapped = raster.crs is not None and raster.transform is not None
    found = []
    for region in regions:
        points = [(x * raster.size[0], y * raster.size[1]) for x, y in region.box.corners]
        if mapped:
            points = _to_wgs84(points, raster)
        if _turns_clockwise(points):
            points.reverse()  # RFC 7946: outer rings are counterclockwise
        ring = [[round(x, 8), round(y, 8)] for x, y in [*points, points[0]]]
        properties = {"label": region.label}
        if region.score is not None:
            properties["score"] = round(region.score, 4)
        geometry = {"type": "Polygon", "coordinates": [ring]}
        found.append({"type": "Feature", "properties": properties, "geometry": geometry})
    collection = {"type": "FeatureCollection", "features": found}
    return collection if mapped else {**collection, "coordinates": "pixels of the image, y down"}


def write(path: str | Path, regions: Sequence[Region], raster: Raster) -> None:
    """Writes regions as GeoJSON, complete or not at all. Raises EarthGPTError for another kind of file."""
    path = Path(path)
    if path.suffix.lower() not in (".geojson", ".json"):
        raise EarthGPTError(f"Regions are written as .geojson; not {path.suffix or path.name!r}.")
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_text(json.dumps(features(regions, raster), indent=1) + "\n")
        os.replace(fresh, path)
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror}.") from None


def _to_wgs84(points: list[tuple[float, float]], raster: Raster) -> list[tuple[float, float]]:
    try:
        from rasterio.crs import CRS
        from rasterio.warp import transform
    except ImportError:
        raise EarthGPTError('Map coordinates need rasterio: pip install "earthgpt[geo]".') from None
    a, b, c, d, e, f = raster.transform
    xs = [a * column + b * row + c for column, row in points]
    ys = [d * column + e * row + f for column, row in points]
    longitudes, latitudes = transform(CRS.from_string(raster.crs), CRS.from_epsg(4326), xs, ys)
    return list(zip(longitudes, latitudes, strict=True))


def _turns_clockwise(points: list[tuple[float, float]]) -> bool:
    following = points[1:] + points[:1]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, following, strict=True)) < 0

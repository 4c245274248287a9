"""Regions as map features, in files whose names say the format."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from earthgpt.geo.layers import GeoJSON, GeoPackage, geojson
from earthgpt.geo.placing import Feature, Place
from earthgpt.types import EarthGPTError, Region

__all__ = ["Feature", "Writer", "features", "open_writer", "write"]
FORMATS = (".geojson", ".json", ".gpkg")


def features(regions: Iterable[Feature | Region], raster: Any) -> dict[str, Any]:
    """A GeoJSON FeatureCollection (RFC 7946): polygons in WGS 84 longitude and latitude, with their attributes.

    For an image without a place on Earth the coordinates are pixels (y down), and the foreign member
    ``coordinates`` says so. Raises EarthGPTError when the image has a place but rasterio is not installed.
    """
    place = Place(raster)
    collection = {"type": "FeatureCollection", "features": [geojson(one, place) for one in place.of(regions)]}
    return collection if place.on_earth else {**collection, "coordinates": "pixels of the image, y down"}


class Writer:
    """A file of features that grows: ``add`` as they are found, then ``close``. See ``open_writer``.

    count: how many were added. labels: how many of each. notes: what a reader of the coordinates has to know.
    """

    def __init__(self, path: Path, place: Place, overwrite: bool) -> None:
        self.path, self.count, self.labels = path, 0, Counter()
        self._place, self._overwrite, self._closed = place, overwrite, False
        self._fresh = path.with_name(f"{path.stem}.new{path.suffix}")
        self._fresh.unlink(missing_ok=True)
        self._sink = _sink(path, self._fresh, place)

    @property
    def notes(self) -> list[str]:
        return self._place.notes

    def add(self, features: Iterable[Feature | Region]) -> None:
        """Adds some; many at once are faster. Raises ValueError for properties that are no columns."""
        placed = self._place.of(features)
        self.count += len(placed)
        self.labels.update(one.region.label for one in placed)
        self._sink.add(placed)

    def close(self) -> None:
        """Completes the file and gives it its name. Raises EarthGPTError where that cannot be done."""
        if self._closed:
            return
        self._sink.close()
        self._closed = True
        os.replace(self._fresh, self.path)

    def discard(self) -> None:
        """Removes what was written; what had the name before is still there."""
        if not self._closed:
            self._closed = True
            self._sink.discard()
            self._fresh.unlink(missing_ok=True)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close() if kind is None else self.discard()


def open_writer(
    path: str | Path,
    raster: Any,
    *,
    properties: Mapping[str, Any] | None = None,
    columns: Mapping[str, type] | None = None,
    overwrite: bool = False,
) -> Writer:
    """A file of features of a Raster or a Scene, to be filled as they are found; the name's ending is the format.

    properties: what holds for all of them, such as ``model``, ``prompt`` and ``time``; a feature's own come first.
    columns: extra columns and their types (str, float, int or bool). overwrite: whether a file of that name is
    replaced. Until ``close`` the name keeps what it had: ``ships.gpkg`` grows as ``ships.new.gpkg``.
    Raises EarthGPTError for a name of no known format, for a file that is there already, where nothing can be written,
    and where a library is missing.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise EarthGPTError(f"{path} is there already; choose another name, or allow it to be overwritten.")
    try:
        return Writer(path, Place(raster, columns, properties or {}), overwrite)
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror}.") from None


def write(
    path: str | Path,
    regions: Iterable[Feature | Region],
    raster: Any,
    *,
    properties: Mapping[str, Any] | None = None,
    columns: Mapping[str, type] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes regions or features of an image, complete or not at all; arguments and errors as of ``open_writer``."""
    with open_writer(path, raster, properties=properties, columns=columns, overwrite=overwrite) as writer:
        writer.add(regions)


def _sink(path: Path, fresh: Path, place: Place) -> Any:
    ending = path.suffix.lower()
    if ending in (".geojson", ".json"):
        return GeoJSON(fresh, place)
    if ending == ".gpkg":
        return GeoPackage(fresh, place, path.stem)
    raise EarthGPTError(f"Regions are written as {', '.join(FORMATS)}; not {path.suffix or path.name!r}.")

"""Regions as map features and annotations, in files whose names say the format."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from shutil import disk_usage
from types import TracebackType
from typing import Any

from earthgpt.geo.annotations import COCO, DOTA, YOLO, OrientedYOLO
from earthgpt.geo.drawings import AnnotatedGeoTIFF, Picture
from earthgpt.geo.layers import CSV, KML, PIXELS, FlatGeobuf, GeoJSON, GeoPackage, GeoParquet, Sink, geojson
from earthgpt.geo.placing import Feature, Layer, each
from earthgpt.geo.styles import qgis_style
from earthgpt.geo.webmap import WebMap
from earthgpt.types import EarthGPTError, Region

__all__ = ["FORMATS", "Feature", "Writer", "check_output", "features", "open_writer", "write"]
# The first that a name ends with.
FORMATS: dict[str, type[Sink]] = {
    ".coco.json": COCO,
    ".yolo.txt": YOLO,
    ".yolo-obb.txt": OrientedYOLO,
    ".dota.txt": DOTA,
    ".geojson": GeoJSON,
    ".json": GeoJSON,
    ".gpkg": GeoPackage,
    ".parquet": GeoParquet,
    ".geoparquet": GeoParquet,
    ".fgb": FlatGeobuf,
    ".kml": KML,
    ".csv": CSV,
    ".html": WebMap,
    ".png": Picture,
    ".jpg": Picture,
    ".jpeg": Picture,
    ".tif": AnnotatedGeoTIFF,
    ".tiff": AnnotatedGeoTIFF,
}
_LITTLE = 100 * 2**20  # bytes of a disk that is nearly full
STYLED = (GeoJSON, GeoPackage, FlatGeobuf, GeoParquet)  # layers that QGIS opens; it looks for a style beside them


def features(regions: Iterable[Feature | Region], raster: Any) -> dict[str, Any]:
    """A GeoJSON FeatureCollection (RFC 7946): polygons in WGS 84 longitude and latitude, with their attributes.

    For an image without a place on Earth the coordinates are pixels (y down), and the foreign member
    ``coordinates`` says so. Raises EarthGPTError when the image has a place but rasterio is not installed.
    """
    layer = Layer(raster)
    collection = {"type": "FeatureCollection", "features": [geojson(one, layer) for one in layer.of(regions)]}
    return collection if layer.on_earth else {**collection, "coordinates": PIXELS}


class Writer:
    """A file of features that grows: ``add`` as they are found, then ``close``; made by ``open_writer``.

    As a context manager it closes at the end, and discards after an error. path: the final name. count: how many were
    added. labels: how many of each class.
    """

    def __init__(self, path: Path, ending: str, layer: Layer, style: bool) -> None:
        self.path, self.count, self.labels = path, 0, Counter()
        self._layer, self._style, self._open = layer, style, True
        name = path.name[: -len(ending)]
        self._fresh = path.with_name(f"{name}.new{path.name[-len(ending) :]}")
        with self._told():
            self._fresh.open("wb").close()  # a folder that is missing or closed is told now
            try:
                self._sink = FORMATS[ending](self._fresh, layer, name)
            except BaseException:
                self._fresh.unlink(missing_ok=True)
                raise

    @property
    def notes(self) -> list[str]:
        """What a reader of the coordinates has to know, in sentences."""
        return self._layer.notes

    def add(self, features: Iterable[Feature | Region]) -> None:
        """Adds some; many at once are faster. Raises ValueError for properties that are no columns, and EarthGPTError
        where they cannot be written."""
        features = each(features)
        while placed := self._layer.of(islice(features, 2_000)):
            with self._told():
                self._sink.add(placed)
            self.count += len(placed)
            self.labels.update(one.region.label for one in placed)

    def close(self) -> None:
        """Completes the file and gives it its name. Raises EarthGPTError where that cannot be done."""
        if not self._open:
            return
        with self._told():
            self._sink.close()
            for suffix in self._sink.beside:
                os.replace(self._fresh.with_suffix(suffix), self.path.with_suffix(suffix))
            os.replace(self._fresh, self.path)
            if self._style and isinstance(self._sink, STYLED):
                self.path.with_suffix(".qml").write_text(qgis_style(self._layer), encoding="utf-8")
        self._end()

    def discard(self) -> None:
        """Removes what was written; what had the name before is still there."""
        if self._open:
            with suppress(OSError):  # of a full disk: what is thrown away need not be complete
                self._sink.stop()
            self._end()

    def _end(self) -> None:
        self._open = False
        for path in (self._fresh, *self._sink.files):
            path.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = str(error.strerror or error).rstrip(".")
            if error.errno is None and (free := disk_usage(self.path.parent).free) < _LITTLE:
                reason += f" (the disk has {free / 2**20:.1f} MB left)"  # GDAL does not say so
            raise EarthGPTError(f"Cannot write {self.path}: {reason}.") from None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            return self.discard()
        try:
            self.close()
        except BaseException:
            self.discard()
            raise


def open_writer(
    path: str | Path,
    raster: Any,
    *,
    properties: Mapping[str, Any] | None = None,
    columns: Mapping[str, type] | None = None,
    classes: Iterable[str] | None = (),
    overwrite: bool = False,
    style: bool = True,
) -> Writer:
    """A file of features of a Raster or a Scene, to be filled as they are found. Its name's ending, one of ``FORMATS``,
    is the format (docs/rasters.md).

    properties: what holds for all of them, such as ``model``, ``prompt`` and ``time``; a feature's own come first.
    columns: extra columns and their types (str, float, int or bool). classes: those that are numbered and coloured
    first, in their order; others follow as they come. overwrite: whether a file of that name is replaced. style:
    whether a QGIS style (.qml) is written beside a layer; one that is there stays unless ``overwrite``.

    Until ``close`` the name keeps what it had: ``ships.gpkg`` grows as ``ships.new.gpkg``, and a writer that was
    killed leaves no more than that; the next one begins anew. Memory does not grow with the number of features, but
    for pictures.
    Raises EarthGPTError for a name of no known format, for a file that is there already, where nothing can be written,
    where a library is missing, and for what is no Raster or Scene.
    """
    if not all(hasattr(raster, name) for name in ("size", "crs", "transform")):
        raise EarthGPTError(f"Features belong to a Raster or a Scene (earthgpt.open), not a {type(raster).__name__}.")
    name = getattr(raster, "name", None)
    path, ending = Path(path), check_output(path, overwrite, [name] if name else (), raster)
    style = style and (overwrite or not path.with_suffix(".qml").exists())
    return Writer(path, ending, Layer(raster, properties, columns, classes), style)


def check_output(
    path: str | Path, overwrite: bool = False, inputs: Iterable[str | Path] = (), raster: Any = None
) -> str:
    """The ending of a name, one of ``FORMATS``; raises EarthGPTError where ``open_writer`` would, before the work, and
    for one of the ``inputs``, whatever may be written over. raster: whose features they are, where that is known."""
    path = Path(path)
    if path.exists() and any(Path(one).exists() and path.samefile(one) for one in inputs):
        raise EarthGPTError(f"{path} is one of the inputs: choose another name for what is written.")
    ending = ending_of(path)
    if raster is not None and FORMATS[ending].needs_place and not (layer := Layer(raster)).on_earth:
        raise EarthGPTError(
            f"{ending[1:].upper()} has longitude and latitude only; write .csv or .geojson. {layer.notes[0]}"
        )
    if not path.parent.is_dir():
        raise EarthGPTError(f"Cannot write {path}: there is no folder {path.parent}.")
    for one in (path, *(path.with_suffix(suffix) for suffix in FORMATS[ending].beside)):
        if one.exists() and not overwrite:
            raise EarthGPTError(
                f"{one} is there already; choose another name, or allow it with --overwrite (overwrite=True)."
            )
    return ending


def ending_of(path: str | Path) -> str:
    """The ending of a name that is its format, one of ``FORMATS``; raises EarthGPTError where there is none."""
    path = Path(path)
    ending = next((ending for ending in FORMATS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise EarthGPTError(f"Results are written as {', '.join(FORMATS)}; not {path.suffix or path.name!r}.")
    return ending


def write(
    path: str | Path, regions: Iterable[Feature | Region] | Feature | Region | None, raster: Any, **options: Any
) -> None:
    """Writes regions or features of an image, complete or not at all; options and errors: see ``open_writer``.

    One region is written alone, and None, where nothing was found, as a layer without features.
    """
    with open_writer(path, raster, **options) as writer:
        writer.add(regions)

"""Features as layers of a map: a class for each format, fed some features at a time."""

from __future__ import annotations

import csv
import json
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from earthgpt.geo.pictures import COLOURS
from earthgpt.geo.placing import Layer, Placed, closed, rings_on_earth
from earthgpt.tables import no_formula
from earthgpt.types import EarthGPTError, Point

_FORBIDDEN = re.compile("[\ud800-\udfff\ufffe\uffff]")
EDGES = ("xmin", "ymin", "xmax", "ymax")
PIXELS = "pixels of the image, y down"


class Sink:
    """A file in the making. ``add`` hands over ``batch`` features at a time to ``write``; ``finish`` completes it.

    path: where it grows. name: the final name without its ending. Each may raise OSError and EarthGPTError.
    needs_place: whether there must be longitude and latitude. numbered: whether classes are stated by their numbers,
    which have to be the same in files of other images. beside: suffixes of what is written with it.
    """

    batch = 1
    needs_place = False
    numbered = False
    beside: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()  # what else is left beside ``path``, to be removed

    def __init__(self, path: Path, layer: Layer, name: str) -> None:
        self.path, self.layer, self.name = path, layer, name
        self._waiting: list[Placed] = []
        self.begin()

    def begin(self) -> None: ...

    def write(self, features: Sequence[Placed]) -> None:
        raise NotImplementedError

    def finish(self) -> None: ...

    def stop(self) -> None:
        """Lets go of the file, whatever state it is in."""

    def add(self, features: Sequence[Placed]) -> None:
        if self.batch == 1:
            return self.write(features)
        self._waiting += features
        while len(self._waiting) >= self.batch:
            ready, self._waiting = self._waiting[: self.batch], self._waiting[self.batch :]
            self.write(ready)

    def close(self) -> None:
        if self._waiting:
            self.write(self._waiting)
        self.finish()


class Text(Sink):
    """A file of text; it is flushed by the system."""

    newline: str | None = None

    def begin(self) -> None:
        self.file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline=self.newline)
        self.head()

    def head(self) -> None: ...

    def stop(self) -> None:
        self.file.close()


class GeoJSON(Text):
    """RFC 7946: longitude and latitude in WGS 84 to 1e-7 degrees (a centimetre), rings counterclockwise, cut at the
    antimeridian. Without a place on Earth pixels, and the foreign member ``coordinates`` says so."""

    def head(self) -> None:
        said = "" if self.layer.on_earth else f', "coordinates": {json.dumps(PIXELS)}'
        self.file.write(f'{{"type": "FeatureCollection"{said}, "features": [')
        self.between = "\n"

    def write(self, features: Sequence[Placed]) -> None:
        for one in features:
            self.file.write(self.between + json.dumps(geojson(one, self.layer), ensure_ascii=False, allow_nan=False))
            self.between = ",\n"

    def finish(self) -> None:
        self.file.write("\n]}\n")
        self.file.close()


def geojson(one: Placed, layer: Layer) -> dict[str, Any]:
    """A GeoJSON Feature; what is not known is left out, and without a place the geometry is null (RFC 7946, 3.2)."""
    properties = {name: value for name, value in one.values.items() if value is not None}
    properties["pixels"] = json.loads(one.values["pixels"])
    digits = 7 if layer.on_earth else 2
    rings = [[[round(x, digits), round(y, digits)] for x, y in ring] for ring in _rings(one, layer)]
    geometry = None
    if len(rings) == 1:
        geometry = {"type": "Polygon", "coordinates": rings}
    elif rings:
        geometry = {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def _rings(one: Placed, layer: Layer) -> list[list[Point]]:
    """Closed rings in longitude and latitude; in pixels without a place on Earth; none where the CRS has no place."""
    if not layer.on_earth:
        return [closed(one.pixels)]
    return rings_on_earth(one.lonlat) if one.lonlat else []


class CSV(Text):
    """Every column, longitude and latitude of the middle in degrees, and the polygon as WKT: in WGS 84 longitude and
    latitude, or in pixels (y down) without a place on Earth. RFC 4180, with a header; text that a spreadsheet would run
    has an apostrophe in front."""

    newline = ""

    def head(self) -> None:
        self.rows = csv.writer(self.file)
        self.rows.writerow([*self.layer.columns, "longitude", "latitude", "wkt"])

    def write(self, features: Sequence[Placed]) -> None:
        digits = 7 if self.layer.on_earth else 2
        for one in features:
            rings = [
                f"(({', '.join(f'{x:.{digits}f} {y:.{digits}f}' for x, y in ring)}))"
                for ring in _rings(one, self.layer)
            ]
            wkt = f"POLYGON {rings[0]}" if len(rings) == 1 else f"MULTIPOLYGON ({', '.join(rings)})" if rings else ""
            center = [f"{value:.7f}" for value in middle(one.lonlat)] if one.lonlat else ["", ""]
            values = [no_formula(value) if isinstance(value, str) else value for value in one.values.values()]
            self.rows.writerow([*values, *center, wkt])

    def finish(self) -> None:
        self.file.close()


def middle(lonlat: Sequence[Point]) -> Point:
    """The mean of corners in degrees, as ``Placed`` has them."""
    x = sum(x for x, _ in lonlat) / 4
    return x if abs(x) <= 180 else (x + 180) % 360 - 180, sum(y for _, y in lonlat) / 4


class KML(Text):
    """OGC KML 2.2 (07-147r2), for Google Earth and others; a colour for a class, every column as ``Data``."""

    needs_place = True

    def head(self) -> None:
        self.file.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
        )
        self.file.write(f"<name>{_xml(self.name)}</name>\n")
        for i, colour in enumerate(COLOURS):
            line = f"ff{colour[5:7]}{colour[3:5]}{colour[1:3]}".lower()  # alpha, blue, green, red
            fill = f"<PolyStyle><color>30{line[2:]}</color></PolyStyle>"
            self.file.write(f'<Style id="c{i}"><LineStyle><color>{line}</color></LineStyle>{fill}</Style>\n')

    def write(self, features: Sequence[Placed]) -> None:
        for one in features:
            shapes = "".join(
                "<Polygon><outerBoundaryIs><LinearRing><coordinates>"
                + " ".join(f"{x:.7f},{y:.7f}" for x, y in ring)
                + "</coordinates></LinearRing></outerBoundaryIs></Polygon>"
                for ring in _rings(one, self.layer)
            )
            data = "".join(
                f'<Data name="{_xml(name)}"><value>{_xml(value)}</value></Data>'
                for name, value in one.values.items()
                if value is not None
            )
            style = f"#c{self.layer.labels[one.region.label] % len(COLOURS)}"
            self.file.write(
                f"<Placemark><name>{_xml(one.region.label)}</name><styleUrl>{style}</styleUrl>"
                f"<ExtendedData>{data}</ExtendedData>"
                f"{f'<MultiGeometry>{shapes}</MultiGeometry>' if shapes else ''}</Placemark>\n"
            )

    def finish(self) -> None:
        self.file.write("</Document></kml>\n")
        self.file.close()


def xml_text(value: Any) -> str:
    """As text without the characters that XML 1.0 forbids (2.2); they become U+FFFD. Not escaped yet."""
    return "".join(c if c in "\t\n\r" or (ord(c) >= 32 and not _FORBIDDEN.match(c)) else "\ufffd" for c in str(value))


def _xml(value: Any) -> str:
    return escape(xml_text(value), {'"': "&quot;"})


def wkb(points: Sequence[Point] | None) -> bytes | None:
    """A polygon as well-known binary, little-endian (OGC 06-103r4, 8.2); None of nothing."""
    if points is None:
        return None
    ring = closed(points)
    return struct.pack(f"<BIII{2 * len(ring)}d", 1, 3, 1, len(ring), *(value for point in ring for value in point))


class GeoPackage(Sink):
    """OGC GeoPackage in the CRS of the scene, by GDAL; a layer with the name of the file."""

    batch = 2_000
    driver = "GPKG"

    def begin(self) -> None:
        self.begun = False
        self.path.unlink(missing_ok=True)  # GDAL makes a new one only where there is none
        with _gdal():
            pass

    def write(self, features: Sequence[Placed]) -> None:
        columns = self.layer.columns
        fields = [[one.values[name] for one in features] for name in columns]
        data = [_column(values, kind) for values, kind in zip(fields, columns.values(), strict=True)]
        shapes = [wkb(one.points if self.layer.crs else one.pixels) for one in features]
        with _gdal() as pyogrio:
            pyogrio.raw.write(
                self.path,
                np.array(shapes, object),
                data,
                np.array(list(columns), object),
                [np.array([value is None for value in values], bool) for values in fields],
                layer=self.name,
                driver=self.driver,
                geometry_type="Polygon",
                crs=self.layer.crs,
                append=self.begun,
                dataset_options={"VERSION": "1.2"},  # the newest that GDAL before 3.7, and QGIS with it, knows
                layer_metadata=None if self.begun else {"DESCRIPTION": " ".join(self.layer.notes) or "EarthGPT"},
            )
        self.begun = True

    def finish(self) -> None:
        if not self.begun:
            self.write([])


class FlatGeobuf(GeoPackage):
    """FlatGeobuf in the CRS of the scene, by GDAL. Its index stands before the features, so they wait in a GeoPackage
    and are copied when all are there; those without a place are left out, for the format has no room for them."""

    def begin(self) -> None:
        self.final, self.path = self.path, self.path.with_suffix(".waiting.gpkg")
        self.files = (self.path,)
        self.final.unlink(missing_ok=True)
        super().begin()

    def finish(self) -> None:
        super().finish()
        with _gdal() as pyogrio, pyogrio.open_arrow(self.path, use_pyarrow=False) as (facts, stream):
            pyogrio.write_arrow(
                stream,
                self.final,
                layer=self.name,
                driver="FlatGeobuf",
                geometry_name=facts["geometry_name"] or "wkb_geometry",
                geometry_type="Polygon",
                crs=self.layer.crs,
            )


class GeoParquet(Sink):
    """GeoParquet 1.1 in the CRS of the scene (PROJJSON; null without one), with a box around each feature."""

    batch = 20_000

    def begin(self) -> None:
        pyarrow = _pyarrow()
        kinds = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64(), bool: pyarrow.bool_()}
        column = {
            "encoding": "WKB",
            "geometry_types": ["Polygon"],
            "crs": self.layer.projjson(),
            "orientation": "counterclockwise",
            "covering": {"bbox": {edge: ["bbox", edge] for edge in EDGES}},
        }
        facts = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        self.schema = pyarrow.schema(
            [
                *((name, kinds[kind]) for name, kind in self.layer.columns.items()),
                ("bbox", pyarrow.struct([(edge, pyarrow.float64()) for edge in EDGES])),
                ("geometry", pyarrow.binary()),
            ],
            {"geo": json.dumps(facts), "description": " ".join(self.layer.notes)},
        )
        self.writer = pyarrow.parquet.ParquetWriter(self.path, self.schema, compression="zstd")

    def write(self, features: Sequence[Placed]) -> None:
        points = [one.points if self.layer.crs else one.pixels for one in features]
        columns = {name: [one.values[name] for one in features] for name in self.layer.columns}
        columns["bbox"] = [_bounds(ring) for ring in points]
        columns["geometry"] = [wkb(ring) for ring in points]
        self.writer.write_table(_pyarrow().Table.from_pydict(columns, self.schema))

    def finish(self) -> None:
        self.writer.close()

    def stop(self) -> None:
        self.writer.close()


def _bounds(ring: Sequence[Point] | None) -> dict[str, float] | None:
    if ring is None:
        return None
    xs, ys = zip(*ring, strict=True)
    return dict(zip(EDGES, (min(xs), min(ys), max(xs), max(ys)), strict=True))


def _column(values: list[Any], kind: type) -> np.ndarray:
    filled = {float: np.nan, int: 0, bool: False}.get(kind)
    array = np.empty(len(values), object if kind is str else kind)
    array[:] = [filled if value is None else value for value in values]
    return array


@contextmanager
def _gdal() -> Iterator[Any]:
    """pyogrio, and what GDAL says of a file in one line."""
    try:
        import pyogrio
        import pyogrio.raw
    except ImportError:
        raise EarthGPTError('GeoPackage and FlatGeobuf need pyogrio: pip install "earthgpt[geo]".') from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)  # the layer's description says so
        try:
            yield pyogrio
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError) as error:
            raise OSError(None, str(error)) from error


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise EarthGPTError('GeoParquet needs pyarrow: pip install "earthgpt[geo]".') from None
    return pyarrow

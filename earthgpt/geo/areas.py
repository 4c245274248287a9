"""Places that a user names on the map, as pixels of a scene: bounding boxes, and the features of a GeoJSON file."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from earthgpt.geo.placing import COLUMNS
from earthgpt.geo.scene import Scene
from earthgpt.geo.tiles import Window
from earthgpt.types import EarthGPTError, Point

Ring = tuple[Point, ...]
# Columns that layers have themselves, or their formats.
_TAKEN = {*COLUMNS, "fid", "geom", "geometry", "bbox", "wkt", "longitude", "latitude"}
_log = logging.getLogger("earthgpt")


@dataclass(frozen=True, slots=True)
class Area:
    """A feature of a file: outer rings in WGS 84 longitude and latitude (a point has one of one corner), properties,
    and its number in the file, from 1."""

    rings: tuple[Ring, ...]
    properties: dict[str, Any]
    number: int = 0


def columns_of(areas: Sequence[Area]) -> tuple[dict[str, type], list[dict[str, Any]]]:
    """The properties of areas as columns of a table and their types, and as a row for each: numbers, yes and no where
    all are that, else text (JSON of lists and objects). Names that features have themselves, and the "fid" of GDAL,
    begin with "place_"."""
    names = {}
    for name in dict.fromkeys(name for area in areas for name in area.properties):
        taken = {*_TAKEN, *map(str.lower, names.values())}
        own = name
        while own.lower() in taken:
            own = f"place_{own}"
        names[name] = own
    kinds: dict[str, type] = {}
    for name, own in names.items():
        found = {type(one) for area in areas if (one := area.properties.get(name)) is not None}
        kinds[own] = found.pop() if len(found) == 1 else float if found == {int, float} else str
        if kinds[own] is int and any(abs(area.properties.get(name) or 0) >= 2**63 for area in areas):
            kinds[own] = str
        if kinds[own] not in (int, float, bool):
            kinds[own] = str
    rows = []
    for area in areas:
        row = {names[name]: value for name, value in area.properties.items() if value is not None}
        rows.append({own: _cell(value, kinds[own]) for own, value in row.items()})
    return kinds, rows


def _cell(value: Any, kind: type) -> Any:
    if kind is float:
        return float(value) if math.isfinite(value) else None
    if kind is not str:
        return kind(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace").decode()


def read_areas(path: str | Path) -> list[Area]:
    """Points and polygons of a GeoJSON file (RFC 7946: WGS 84); holes are left out. So are features without a place and
    those of other geometries, with a warning in the log.

    Raises EarthGPTError for a file that is none, one without points and polygons, and coordinates that are no numbers,
    with the feature's number.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        features = {"FeatureCollection": lambda: value["features"], "Feature": lambda: [value]}.get(
            value["type"], lambda: [{"geometry": value, "properties": {}}]
        )()
        if not isinstance(features, list):
            raise ValueError("its features are no list")
    except OSError as error:
        raise EarthGPTError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise EarthGPTError(
            f"{path} is no text, and so no GeoJSON: ogr2ogr -f GeoJSON makes it of other files."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise EarthGPTError(f"{path} is not readable GeoJSON: {error}.") from None
    stated = value.get("crs")  # of GeoJSON before RFC 7946
    stated = stated.get("properties", {}).get("name", "") if isinstance(stated, dict) else ""
    if stated and not str(stated).upper().endswith(("CRS84", "EPSG::4326", "EPSG:4326", "CRS84H", "EPSG::4979")):
        raise EarthGPTError(
            f"{path} has coordinates in {stated}, and GeoJSON has longitude and latitude (RFC 7946): "
            "ogr2ogr -t_srs EPSG:4326 makes them so."
        )
    placed = [(i, one) for i, one in enumerate(features, 1) if not isinstance(one, dict) or one.get("geometry", 0)]
    if not placed:
        raise EarthGPTError(f"{path} has no features with a place.")
    if without := len(features) - len(placed):
        _log.warning("%s: %d of %d features have no place and are left out.", path, without, len(features))
    areas = [(i, feature) for i, feature in placed if _kind(feature) not in _NO_AREAS]
    if not areas:
        raise EarthGPTError(f"{path} has lines alone, or the like: a place is a Point, a Polygon or a MultiPolygon.")
    if others := len(placed) - len(areas):
        _log.warning("%s: %d of %d features are no points and no polygons: left out.", path, others, len(features))
    return [_area(feature, f"{path}, feature {i}", i) for i, feature in areas]


_NO_AREAS = ("LineString", "MultiLineString", "MultiPoint", "GeometryCollection")


def _kind(feature: Any) -> Any:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    return geometry.get("type") if isinstance(geometry, dict) else None


def _area(feature: Any, where: str, number: int) -> Area:
    try:
        geometry = feature["geometry"]
        coordinates = geometry["coordinates"]
        rings = {
            "Point": lambda: [[coordinates]],
            "Polygon": lambda: [coordinates[0]],
            "MultiPolygon": lambda: [polygon[0] for polygon in coordinates],
        }[geometry["type"]]()
        points = tuple(tuple((float(x), float(y)) for x, y, *_ in ring) for ring in rings)
        if geometry["type"] != "Point":  # some leave a ring open
            points = tuple(ring if ring[0] == ring[-1] else (*ring, ring[0]) for ring in points)
        properties = dict(feature.get("properties") or {})
    except (KeyError, TypeError, ValueError, IndexError):
        raise EarthGPTError(f"{where}: a place is a Point, a Polygon or a MultiPolygon with numbers.") from None
    if not all(ring and all(map(math.isfinite, (v for point in ring for v in point))) for ring in points):
        raise EarthGPTError(f"{where}: a place is a Point, a Polygon or a MultiPolygon with numbers.")
    return Area(points, properties, number)


def to_pixels(scene: Scene, points: Sequence[Point]) -> np.ndarray:
    """Longitude and latitude (WGS 84) as pixels of the scene, [N, 2].

    Raises EarthGPTError where the scene has no place on Earth, and for points that its CRS does not reach.
    """
    if scene.crs is None:
        raise EarthGPTError(f"{scene.name} has no place on Earth: name a window in pixels.")
    if not scene.place.on_earth:
        raise EarthGPTError(f"{scene.name} is not of the Earth: name a window in pixels.")
    points = np.asarray(points, float).reshape(-1, 2)
    pixels = scene.place.to_pixels(points, together=True)
    if (lost := ~np.isfinite(pixels).all(axis=1)).any():
        lon, lat = points[lost][0]
        raise EarthGPTError(
            f"{scene.name}: its CRS does not reach as far as {lon:.3f}, {lat:.3f} (longitude, latitude)."
        )
    return pixels


def those_in(scene: Scene, areas: Sequence[Area]) -> tuple[list[Area], list[int]]:
    """The areas that lie in a scene, at least in part, and the numbers of the others in their file."""
    inside, others = [], []
    for area in areas:
        try:
            pixels = to_pixels(scene, [point for ring in area.rings for point in ring])
            window_of(scene, pixels if len(pixels) > 1 else pixels + np.array([[0.0], [1e-6]]))  # a point has no width
        except EarthGPTError:
            if scene.crs is None or not scene.place.on_earth:
                raise
            others.append(area.number)
        else:
            inside.append(area)
    return inside, others


def window_of(scene: Scene, pixels: np.ndarray) -> Window:
    """The smallest window of the scene that holds points [N, 2], as far as they lie in it.

    Raises EarthGPTError when nothing of it does.
    """
    left, top = np.floor(pixels.min(axis=0)).astype(int)
    right, bottom = np.ceil(pixels.max(axis=0)).astype(int)
    left, top = max(0, int(left)), max(0, int(top))
    right, bottom = min(scene.size[0], int(right)), min(scene.size[1], int(bottom))
    if right <= left or bottom <= top:
        raise EarthGPTError(f"The place that was named does not lie in {scene.name}.")
    return left, top, right - left, bottom - top


def bounding_box(scene: Scene, text: str) -> Window:
    """The window of ``west,south,east,north`` in degrees (WGS 84); one whose west is the larger number, by 180 or
    more, crosses the antimeridian (RFC 7946, 5.2). Raises EarthGPTError for what is no such box."""
    try:
        west, south, east, north = (float(value) for value in text.split(","))
        fine = -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90
        fine &= west < east or west - east >= 180
    except ValueError:
        fine = False
    if not fine:
        raise EarthGPTError(f"A bounding box is west,south,east,north in degrees, not {text!r}.")
    # Along the edges, because straight lines of degrees are curves in most map projections.
    steps, east = np.linspace(0, 1, 9), east + 360 * (east < west)
    edges = [(west + s * (east - west), y) for s in steps for y in (south, north)]
    edges += [(x, south + s * (north - south)) for s in steps for x in (west, east)]
    pixels = to_pixels(scene, edges)
    width, height = scene.size
    if east > 180 and scene.place.meridian is not None and (pixels[:, 0].min() < -1 or pixels[:, 0].max() > width + 1):
        there = scene.place.to_map([(0, height / 2), (width, height / 2)])
        if np.ptp(there[:, 0]) > 350:  # a map of the world, in which it is two windows
            raise EarthGPTError(f"The bounding box {text!r} has a part at either edge of {scene.name}: ask for each.")
    return window_of(scene, pixels)


class Outlines:
    """Polygons in pixels of a scene, asked many times what lies in them."""

    def __init__(self, rings: Sequence[Ring]) -> None:
        from shapely import Polygon, make_valid, prepare, union_all

        self.shape = union_all([make_valid(Polygon(ring)) for ring in rings])
        prepare(self.shape)

    def touch(self, window: Window) -> bool:
        """Whether a window has something of them."""
        from shapely import box

        left, top, width, height = window
        return bool(self.shape.intersects(box(left, top, left + width, top + height)))

    def share(self, window: Window) -> float:
        """The part of a window that lies in them, in [0, 1]."""
        from shapely import box

        left, top, width, height = window
        whole = box(left, top, left + width, top + height)
        if self.shape.contains_properly(whole):  # the prepared shape knows that at once
            return 1.0
        return float(self.shape.intersection(whole).area / (width * height))

    def hold(self, point: Point) -> bool:
        """Whether a point lies in one of them."""
        import shapely

        return bool(self.shape.intersects(shapely.Point(point)))


def outlines_of(scene: Scene, areas: Sequence[Area]) -> tuple[Ring, ...]:
    """The polygons of areas as rings in pixels of a scene.

    Raises EarthGPTError when there are none but points, and as ``to_pixels`` does.
    """
    rings = [ring for area in areas for ring in area.rings if len(ring) >= 4]
    if not rings:
        raise EarthGPTError("The file holds points but no polygon: an area of interest is a polygon.")
    return tuple(tuple(map(tuple, to_pixels(scene, ring).round(2).tolist())) for ring in rings)

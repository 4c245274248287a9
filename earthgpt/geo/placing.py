"""Features and where they lie: from pixels to the map, and their sizes in metres."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from earthgpt.geo.place import EARTH_RADIUS_M, ECCENTRICITY2, Place, place
from earthgpt.types import Box, EarthGPTError, Point, Region

# The columns of every table of features, and their types; each may be empty but the label and the pixels.
COLUMNS: dict[str, type] = {
    "label": str,
    "score": float,
    "answer": str,
    "area_m2": float,
    "length_m": float,
    "width_m": float,
    "angle_deg": float,
    "tile": str,
    "model": str,
    "prompt": str,
    "time": str,
    "pixels": str,
}
GIVEN = ("answer", "tile", "model", "prompt", "time")  # those that a caller fills in
_SLIVER = 1e-6  # degrees: what is narrower is left by rounding


@dataclass(frozen=True, slots=True)
class Feature:
    """A region of a scene and what else is known of it.

    ``properties`` may hold ``answer`` (what the model said of it), ``tile`` (the window it was found in), ``model``,
    ``prompt``, ``time`` (when it was made, as text), and the extra columns that the writer was opened with.
    """

    region: Region
    properties: Mapping[str, Any] = field(default_factory=dict)


def each(features: Iterable[Feature | Region] | Feature | Region | None) -> Iterator[Feature | Region]:
    """Features and regions as they come: one by itself, and none of None, as where nothing was found. Raises
    EarthGPTError for what is neither."""
    features = [] if features is None else features
    several = isinstance(features, Iterable)
    for one in features if several else [features]:
        if not isinstance(one, Feature | Region):
            raise EarthGPTError(f"Regions or Features are written and drawn, not a {type(one).__name__}: {one!r:.60}")
        yield one


@dataclass(frozen=True, slots=True)
class Placed:
    """A feature with its place.

    region: as the model gave it. pixels: its corners in pixels of the file, x to the right and y down.
    points: the corners in the units of the scene's CRS, None without a CRS and where no place was found.
    lonlat: the corners as WGS 84 longitude and latitude in degrees, None likewise and on other bodies than the Earth;
        of a region that crosses the antimeridian longitudes go on beyond 180 degrees.
    values: every column in order; None where it is not known.
    """

    region: Region
    pixels: list[Point]
    points: list[Point] | None
    lonlat: list[Point] | None
    values: dict[str, Any]


class Layer:
    """What the features of a scene are written with: their place, their columns, and their classes.

    raster: a Raster, a Scene, or anything with ``size``, ``crs`` and ``transform``. place: where its pixels lie.
    columns: names and types. labels: the number of each class, those given first, then as they come.
    properties: what holds for all features.
    """

    def __init__(
        self,
        raster: Any,
        properties: Mapping[str, Any] | None = None,
        columns: Mapping[str, type] | None = None,
        classes: Iterable[str] | None = (),
    ) -> None:
        self.raster, self.size = raster, raster.size
        self.place: Place = getattr(raster, "place", None) or place(raster.crs, raster.transform, raster.size)
        try:
            self.columns = {**COLUMNS, **(columns or {})}
            wrong = [kind for kind in self.columns.values() if kind not in (str, float, int, bool)]
        except TypeError:
            wrong = [columns]
        if wrong:
            raise EarthGPTError(f"Columns are names with their types, str, float, int or bool; not {wrong[0]!r:.80}.")
        self.properties = self._known(properties or {})
        self.labels = {label: i for i, label in enumerate(dict.fromkeys(classes or ()))}
        self.lost = 0

    @property
    def crs(self) -> str | None:
        """That of the coordinates; None where they are pixels."""
        return self.place.crs

    @property
    def on_earth(self) -> bool:
        """Whether there is longitude and latitude."""
        return self.place.crs is not None and self.place.on_earth

    @property
    def in_degrees(self) -> bool:
        """Whether the coordinates of the CRS are longitude and latitude."""
        return self.crs is not None and _crs(self.crs).is_geographic

    @property
    def gsd_m(self) -> float | None:
        """Metres a pixel, at the middle of the image; None where it is not known."""
        return getattr(self.raster, "gsd_m", None) or self.place.gsd_m

    @property
    def notes(self) -> list[str]:
        """What a reader of the coordinates has to know, in sentences."""
        notes = list(self.place.notes)
        if self.lost:
            notes.append(
                f"{self.lost} features lie where the CRS has no place: they have pixels alone, and FlatGeobuf has no "
                "room for them."
            )
        return notes

    def projjson(self) -> dict[str, Any] | None:
        """The CRS as PROJJSON; None without one."""
        return None if self.crs is None else _crs(self.crs).to_dict(projjson=True)

    def of(self, features: Iterable[Feature | Region]) -> list[Placed]:
        """Features with their places; many at once cost little more than one."""
        features = [one if isinstance(one, Feature) else Feature(one) for one in each(features)]
        if not features:
            return []
        for one in features:
            self.labels.setdefault(one.region.label, len(self.labels))
        pixels = np.array([one.region.box.corners for one in features]) * self.size  # [N, 4, 2]
        flat = pixels.reshape(-1, 2)
        points = self.place.to_map(flat).reshape(pixels.shape)
        lonlat = self.place.to_wgs84(flat).reshape(pixels.shape) if self.on_earth else np.full_like(pixels, np.nan)
        there = np.isfinite(points).all(axis=(1, 2))
        if self.on_earth:
            there &= np.isfinite(lonlat).all(axis=(1, 2))
        if self.crs:
            self.lost += int((~there).sum())
        if self.on_earth:
            far = np.ptp(lonlat[..., 0], axis=1) > 180
            far |= (np.ptp(points[..., 0], axis=1) > 180) & (self.place.meridian is not None)
            for i in np.flatnonzero(there & far):
                lonlat[i, :, 0] = self._longitudes(pixels[i])
        sizes = self._sizes_m(points, lonlat)
        return [
            Placed(
                one.region,
                _pairs(pixels[i]),
                _pairs(points[i]) if self.crs and there[i] else None,
                _pairs(lonlat[i]) if self.on_earth and there[i] else None,
                self._values(one, pixels[i], sizes[i]),
            )
            for i, one in enumerate(features)
        ]

    def _longitudes(self, corners: np.ndarray) -> np.ndarray:
        """Longitudes [4] of corners [4, 2] in pixels, followed along the edges in steps, so that a region across the
        antimeridian is told from one around most of the Earth."""
        steps = np.linspace(0, 1, 16, endpoint=False)[:, None]
        edges = [a + steps * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
        found = self.place.to_wgs84(np.concatenate(edges))[:, 0]
        moves = (np.diff(found) + 180) % 360 - 180
        followed = np.concatenate((found[:1], found[0] + np.cumsum(moves)))[::16]
        return followed if np.isfinite(followed).all() else found[::16]

    def _known(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        for name in properties:
            if name not in self.columns or (name in COLUMNS and name not in GIVEN):
                given = [*GIVEN, *(name for name in self.columns if name not in COLUMNS)]
                raise ValueError(f"A feature has {', '.join(given)}; not {name!r}.")
        return dict(properties)

    def _values(self, feature: Feature, pixels: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
        region, (area, length, width, angle) = feature.region, sizes
        corners = [[round(x, 2), round(y, 2)] for x, y in pixels.tolist()]
        values = {
            **self.properties,
            **self._known(feature.properties),
            "label": region.label,
            "score": None if region.score is None or not math.isfinite(region.score) else round(float(region.score), 4),
            "area_m2": _number(area),
            "length_m": _number(length),
            "width_m": _number(width),
            "angle_deg": None if isinstance(region.box, Box) else _number(angle),
            "pixels": json.dumps(corners),
        }
        return {name: values.get(name) for name in self.columns}

    def _sizes_m(self, points: np.ndarray, lonlat: np.ndarray) -> np.ndarray:
        """Area in m2, length and width in metres and the angle in degrees of quadrilaterals: [N, 4], NaN if unknown.

        On the Earth corners are taken to geocentric coordinates on the ellipsoid, so that neither the projection nor
        degrees distort them: straight lines through the Earth, short by 1e-5 at 100 km, and unknown of what spans more
        than 90 degrees. On other bodies the units of a projected CRS count, and without a CRS the metres of a pixel, if
        they were given.
        """
        count = len(points)
        if self.on_earth:
            corners, north, east = _geocentric(lonlat)
        else:
            metres = self.gsd_m if self.crs is None else _unit_m(self.crs)
            if metres is None:
                return np.full((count, 4), np.nan)
            flat = points * np.asarray(metres)
            corners = np.concatenate((flat, np.zeros((count, 4, 1))), axis=2)
            north = np.broadcast_to((0.0, 1.0 if self.crs else -1.0, 0.0), (count, 3))
            east = np.broadcast_to((1.0, 0.0, 0.0), (count, 3))
        sides = np.roll(corners, -1, axis=1) - corners  # [N, 4, 3]
        lengths = np.linalg.norm(sides, axis=2)
        first, second = (lengths[:, 0] + lengths[:, 2]) / 2, (lengths[:, 1] + lengths[:, 3]) / 2
        diagonals = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        area = np.linalg.norm(np.cross(*diagonals), axis=1) / 2
        along = np.where((first >= second)[:, None], sides[:, 0] - sides[:, 2], sides[:, 1] - sides[:, 3])
        angle = np.degrees(np.arctan2((along * east).sum(axis=1), (along * north).sum(axis=1))) % 180
        found = np.stack((area, np.maximum(first, second), np.minimum(first, second), angle), axis=1)
        if self.on_earth:
            found[np.ptp(lonlat, axis=1).max(axis=1) > 90] = np.nan
        return found


def _geocentric(lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners [N, 4, 3] in metres from the Earth's centre, and north and east [N, 3] at the first of them."""
    longitude, latitude = np.radians(lonlat[..., 0]), np.radians(lonlat[..., 1])
    normal = EARTH_RADIUS_M / np.sqrt(1 - ECCENTRICITY2 * np.sin(latitude) ** 2)  # radius of the prime vertical
    across = normal * np.cos(latitude)
    corners = np.stack(
        (across * np.cos(longitude), across * np.sin(longitude), normal * (1 - ECCENTRICITY2) * np.sin(latitude)),
        axis=-1,
    )
    lam, phi = longitude[:, 0], latitude[:, 0]
    north = np.stack((-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)), axis=-1)
    east = np.stack((-np.sin(lam), np.cos(lam), np.zeros_like(lam)), axis=-1)
    return corners, north, east


def _number(value: float) -> float | None:
    """Rounded to millimetres (or their squares); None for NaN."""
    return round(float(value), 3) if math.isfinite(value) else None


def _pairs(points: np.ndarray) -> list[Point]:
    return [(x, y) for x, y in points.tolist()]


def _crs(text: str) -> Any:
    from rasterio.crs import CRS

    return CRS.from_user_input(text)


def _unit_m(crs: str) -> float | None:
    """How many metres the unit of a projected CRS has; None of degrees and of what is no projection."""
    system = _crs(crs)
    return system.linear_units_factor[1] if system.is_projected else None


def clockwise(points: Sequence[Point]) -> bool:
    """Whether a ring turns clockwise where y points up."""
    following = [*points[1:], points[0]]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, following, strict=True)) < 0


def closed(points: Sequence[Point]) -> list[Point]:
    """A ring as the OGC and RFC 7946 want it: counterclockwise where y points up, the first point again at the end."""
    ring = list(reversed(points)) if clockwise(points) else list(points)
    return [*ring, ring[0]]


def rings_on_earth(points: Sequence[Point]) -> list[list[Point]]:
    """The closed rings of a polygon in longitude and latitude, as ``Placed`` has them: one, or two where it crosses the
    antimeridian, at which it is cut (RFC 7946, 3.1.9)."""
    longitudes = [x for x, _ in points]
    if min(longitudes) >= -180 and max(longitudes) <= 180:
        return [closed(points)]
    rings = []
    for turn in range(math.floor((min(longitudes) + 180) / 360), math.ceil((max(longitudes) + 180) / 360)):
        west = 360 * turn - 180
        part = _half(_half(points, lambda x, west=west: x - west), lambda x, west=west: west + 360 - x)
        rings.append([(x - 360 * turn, y) for x, y in part])
    return [closed(ring) for ring in rings if len(ring) > 2 and np.ptp([x for x, _ in ring]) > _SLIVER]


def _half(points: Sequence[Point], inside: Any) -> list[Point]:
    """The part of a convex polygon where ``inside(x)`` is not negative; it must be linear in x."""
    kept = []
    for (x0, y0), (x1, y1) in zip([points[-1], *points[:-1]], points, strict=True):
        before, here = inside(x0), inside(x1)
        if (before > 0 > here) or (before < 0 < here):
            part = before / (before - here)
            kept.append((x0 + part * (x1 - x0), y0 + part * (y1 - y0)))
        if here >= 0:
            kept.append((x1, y1))
    return kept

"""Where an image lies: from its pixels to the map, to longitude and latitude, and to metres."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from earthgpt.types import EarthGPTError, Point, Size

Affine = tuple[float, float, float, float, float, float]
# Of WGS 84 (NIMA TR8350.2, 3.2): half the equator's diameter in metres, and the first eccentricity squared.
EARTH_RADIUS_M, ECCENTRICITY2 = 6_378_137.0, 0.00669437999014
# Ellipsoids of the Earth differ by less than this part of the radius; the Moon and the planets by far more.
_SAME_BODY = 0.005


@dataclass(frozen=True)
class Place:
    """Where the pixels of an image lie on a map.

    crs: the coordinate reference system as text (authority code or WKT); None where coordinates are pixels.
    transform: (a, b, c, d, e, f) with ``x = a * column + b * row + c`` and ``y = d * column + e * row + f`` at pixel
        corners; None without one. It is the nearest affine map where ground control points or RPCs say more.
    gsd_m: ground sampling distance in metres at the middle of the image, the root of a pixel's area on the ground;
        None where it is not known.
    on_earth: whether ``crs`` belongs to the Earth.
    notes: what a user must know of it.
    """

    crs: str | None = None
    transform: Affine | None = None
    gsd_m: float | None = None
    on_earth: bool = True
    notes: tuple[str, ...] = ()
    model: tuple[str, Any] | None = field(default=None, repr=False)  # ("gcps" or "rpcs", theirs)
    meridian: float | None = field(default=None, repr=False)  # x at the middle of the image, of a CRS in degrees

    def to_map(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        """Map coordinates, float64 [N, 2] as (x, y) in ``crs``, of points [N, 2] as (column, row) at pixel corners.

        The points themselves where the image has no place.
        """
        points = np.asarray(points, np.float64).reshape(-1, 2)
        if self.transform is None:
            return points
        if self.model is not None:
            with _transformer(self.model) as transformer:
                xs, ys = transformer.xy(points[:, 1].tolist(), points[:, 0].tolist(), offset="ul")
            return np.column_stack([xs, ys])
        return apply(self.transform, points)

    def to_wgs84(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        """Longitude and latitude in degrees, float64 [N, 2], of points [N, 2] in pixels; longitudes in [-180, 180].

        NaN for a point off the Earth's disc (of a geostationary image). Raises EarthGPTError where the image has no
        place on Earth.
        """
        self._on_earth()
        return _degrees(self.crs, self.to_map(points))

    def to_pixels(self, points: Sequence[Point] | np.ndarray, together: bool = False) -> np.ndarray:
        """Pixels, float64 [N, 2] as (column, row) at pixel corners, of points [N, 2] as longitude and latitude in
        degrees (WGS 84): the inverse of ``to_wgs84``.

        together: the points are those of one shape, which goes whole to the turn of the Earth that is nearest to the
        image; else each point does. NaN for a point that the CRS does not reach. Raises EarthGPTError where the image
        has no place on Earth.
        """
        self._on_earth()
        there = _between("EPSG:4326", self.crs, np.asarray(points, np.float64).reshape(-1, 2))
        if self.meridian is not None:  # an image may reach from 170 to 190 degrees, or from 0 to 360
            low, high = (np.nanmin(there[:, 0]), np.nanmax(there[:, 0])) if together and len(there) else (0, 0)
            middle = (low + high) / 2 if together else there[:, 0]
            turns = (self.meridian - middle) / 360
            there[:, 0] += 360 * (turns if high - low >= 360 else np.round(turns))
        if self.model is None:
            a, b, c, d, e, f = self.transform
            return np.linalg.solve([[a, b], [d, e]], (there - (c, f)).T).T
        pixels, known = np.full_like(there, np.nan), np.isfinite(there).all(axis=1)
        if known.any():
            with _transformer(self.model) as transformer:
                rows, columns = transformer.rowcol(*there[known].T.tolist(), op=float)
            pixels[known] = np.column_stack([columns, rows])
        pixels[~np.isfinite(pixels).all(axis=1)] = np.nan
        return pixels

    def _on_earth(self) -> None:
        if self.crs is None or not self.on_earth:
            raise EarthGPTError("The image has no place on Earth; its coordinates cannot be longitude and latitude.")


def place_of(dataset: Any, crs: str | None = None) -> Place:
    """The place of an open rasterio dataset; ``crs`` stands where the file has none.

    Coordinates are pixels, and a note says so, where there is no CRS, no transform, or one that leads nowhere.
    Raises EarthGPTError for a ``crs`` that is none.
    """
    size = dataset.width, dataset.height
    found, notes, model = dataset.crs, [], None
    transform = None if dataset.transform.is_identity else tuple(dataset.transform)[:6]
    gcps, gcps_crs = dataset.gcps
    if transform is None and gcps and (gcps_crs or crs):
        model, found = ("gcps", _unwrapped(gcps, gcps_crs or crs)), gcps_crs
    elif transform is None and dataset.rpcs is not None:
        model, found = ("rpcs", dataset.rpcs), "EPSG:4326"
    if model is not None:
        transform, off = _nearest_affine(model, size)
        kind = (
            f"{len(gcps)} ground control points" if model[0] == "gcps" else "rational polynomials (RPC) at mean height"
        )
        notes.append(
            f"The place is approximate: from {kind}; one affine map for all is off by up to {off:,.1f} pixels."
        )
    if found and crs:
        notes.append(f"The file has its own CRS; {crs} is not used.")
    return place(
        str(found.to_string() if hasattr(found, "to_string") else found or crs or "") or None,
        transform,
        size,
        notes,
        model,
    )


def _unwrapped(gcps: Sequence[Any], crs: Any) -> Sequence[Any]:
    """Control points whose longitudes do not jump: those across the antimeridian go on beyond 180 degrees."""
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS

    longitudes = sorted({one.x for one in gcps})
    gap, west = max(((east - west, west) for west, east in pairwise(longitudes)), default=(0, 0))
    if not CRS.from_user_input(crs).is_geographic or gap <= 180:  # a map of the world has no such gap
        return gcps
    return [GroundControlPoint(one.row, one.col, one.x + 360 * (one.x <= west), one.y, one.z) for one in gcps]


def place(crs: str | None, transform: Affine | None, size: Size, notes: Sequence[str] = (), model: Any = None) -> Place:
    """A Place of a CRS and a transform, examined: see ``place_of``."""
    notes = list(notes)
    if crs is None or transform is None:
        missing = "no CRS" if crs is None else "no transform"
        if crs is None and transform is not None:
            missing += " (a transform alone)"
        return Place(notes=(*notes, f"There is {missing}: coordinates are pixels."))
    try:
        from rasterio.crs import CRS
        from rasterio.errors import CRSError
    except ImportError:
        raise EarthGPTError('Map coordinates need rasterio: pip install "earthgpt[geo]".') from None
    try:
        system = CRS.from_user_input(crs)
    except CRSError:
        raise EarthGPTError(f"{crs!r} is no coordinate reference system; write one like EPSG:32633.") from None
    radius = re.search(r'(?:SPHEROID|ELLIPSOID)\["[^"]*",\s*([0-9.eE+]+)', system.to_wkt())
    if radius and abs(float(radius[1]) / EARTH_RADIUS_M - 1) > _SAME_BODY:
        notes.append(
            f"The CRS is not of the Earth (radius {float(radius[1]) / 1000:,.0f} km): map coordinates are its own."
        )
        gsd = None if not system.is_projected else _area_side(transform) * system.linear_units_factor[1]
        return Place(crs, transform, gsd, False, tuple(notes), model)
    there = Place(crs, transform, model=model)
    width, height = size
    spread = [(width * (i + 0.5) / 8, height * (j + 0.5) / 8) for i in range(8) for j in range(8)]
    degrees = there.to_wgs84(spread) if radius else np.full((64, 2), np.nan)
    mapped = there.to_map(spread)
    if system.is_geographic and np.abs(mapped[:, 1]).min() > 90.5:
        degrees[:] = np.nan
    if not np.isfinite(degrees).any():
        return Place(
            notes=(*notes, f"The CRS {short(system.to_string())} does not fit its coordinates: coordinates are pixels.")
        )
    meridian = float(there.to_map([(width / 2, height / 2)])[0, 0]) if system.is_geographic else None
    return Place(crs, transform, _gsd(there, size), True, tuple(notes), model, meridian)


def apply(transform: Affine, points: np.ndarray) -> np.ndarray:
    """Points [N, 2] under an affine map, [N, 2]."""
    a, b, c, d, e, f = transform
    return points @ np.array([[a, d], [b, e]]) + (c, f)


def short(crs: str) -> str:
    """A CRS in a few words: the name of a long WKT, other texts as they are."""
    return crs if len(crs) < 40 or '"' not in crs else crs.split('"')[1]


def _degrees(crs: str, points: np.ndarray) -> np.ndarray:
    """Map coordinates [N, 2] as longitude and latitude [N, 2]; NaN where there is none."""
    degrees = _between(crs, "EPSG:4326", points)
    beyond = np.abs(degrees[:, 0]) > 180  # 180 itself stays: it is the eastern edge of a map of the world
    degrees[beyond, 0] = (degrees[beyond, 0] + 180) % 360 - 180
    return degrees


def _between(source: str, target: str, points: np.ndarray) -> np.ndarray:
    """Coordinates [N, 2] of one CRS in another, [N, 2]; NaN where there is none."""
    try:
        from rasterio._err import CPLE_BaseError
        from rasterio.crs import CRS
        from rasterio.errors import RasterioError
        from rasterio.warp import transform
    except ImportError:
        raise EarthGPTError('Map coordinates need rasterio: pip install "earthgpt[geo]".') from None
    try:
        found = transform(CRS.from_user_input(source), CRS.from_user_input(target), *points.T.tolist())
    except (RasterioError, CPLE_BaseError):  # one point that leads nowhere
        if len(points) == 1:
            return np.full((1, 2), np.nan)
        return np.concatenate([_between(source, target, point[None]) for point in points])
    there = np.column_stack(found).astype(np.float64)
    there[~np.isfinite(there).all(1)] = np.nan
    return there


def _area_side(transform: Affine) -> float:
    return math.sqrt(abs(transform[0] * transform[4] - transform[1] * transform[3]))


def _gsd(there: Place, size: Size) -> float | None:
    """Metres a pixel at the middle: degrees of a step to the right and down, by the radii of curvature of WGS 84."""
    x, y = size[0] / 2, size[1] / 2
    (lon, lat), *steps = there.to_wgs84([(x, y), (x + 1, y), (x, y + 1)])
    if not np.isfinite([lon, lat, *np.ravel(steps)]).all():
        return None
    root = 1 - ECCENTRICITY2 * math.sin(math.radians(lat)) ** 2
    east = math.radians(1) * EARTH_RADIUS_M / math.sqrt(root) * math.cos(math.radians(lat))
    north = math.radians(1) * EARTH_RADIUS_M * (1 - ECCENTRICITY2) / root**1.5
    (a, d), (b, e) = [(((x - lon + 180) % 360 - 180) * east, (y - lat) * north) for x, y in steps]
    return math.sqrt(abs(a * e - b * d)) or None


def _transformer(model: tuple[str, Any]) -> Any:
    from rasterio.transform import GCPTransformer, RPCTransformer

    kind, numbers = model
    if kind == "gcps":
        return GCPTransformer(numbers, tps=True)  # thin plate splines: exact at the points
    return RPCTransformer(numbers, rpc_height=numbers.height_off)


def _nearest_affine(model: tuple[str, Any], size: Size) -> tuple[Affine, float]:
    """The affine map that is nearest by least squares on a grid over the image, and its largest error in pixels."""
    width, height = size
    grid = np.array([(width * i / 10, height * j / 10) for i in range(11) for j in range(11)])
    there = Place("-", (1, 0, 0, 0, 1, 0), model=model).to_map(grid)
    kept = np.isfinite(there).all(1)
    if kept.sum() < 3:
        raise EarthGPTError("The ground control points or RPCs lead nowhere; give a georeferenced file.")
    solved, *_ = np.linalg.lstsq(np.column_stack([grid[kept], np.ones(kept.sum())]), there[kept], rcond=None)  # [3, 2]
    transform = tuple(float(value) for value in solved.T.ravel())
    off = np.linalg.norm(apply(transform, grid[kept]) - there[kept], axis=1).max()
    return transform, float(off / max(_area_side(transform), 1e-30))

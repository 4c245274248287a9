"""A raster of any size, opened without reading its pixels: where it lies, what took it, and windows of it in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from earthgpt.geo.place import Affine, Place
from earthgpt.geo.readers import MOST_PIXELS, SAMPLES, ArrayReader, FileReader, any_band, reduced
from earthgpt.geo.sensors import UNITS, Stretch, intensity, parse_limits, stretches_of, to_8bit, units_of
from earthgpt.geo.sources import Band
from earthgpt.geo.speckle import LEE_SIDE, box_mean, equivalent_looks, lee
from earthgpt.geo.tiles import Window, inside
from earthgpt.types import EarthGPTError, Point, Sensor, Size

_NUMBER = (int, float, np.integer, np.floating)


class Scene:
    """A raster that is read in windows; ``open_scene`` makes one.

    name: where it came from, for messages. format: GDAL's name of what the first file is, or "array".
    size: (width, height) in pixels. place, crs, transform, gsd_m: see ``Place``.
    bands: those of the scene; shown: the one or three of them that are seen. dtype: of the values as stored.
    sensor, sensor_reason, units: what took it, how that is known, and what the values stand for (``sensors.UNITS``);
        values are read to tell where nothing else does.
    stretches: how values become 8 bits, for each band shown; empty where they are 8 bits already.
    notes: what a user must know, one sentence each; more may come while windows are read.
    damaged: blocks that could not be decoded so far, as (file, column, row) in blocks.

    A scene can be pickled, and several threads may read windows of it.
    """

    def __init__(self, reader: ArrayReader | FileReader, name: str, options: _Options) -> None:
        self._reader, self._options, self.name = reader, options, name
        self.place: Place = reader.place
        self._notes: list[str] = [*reader.notes]

    @property
    def format(self) -> str:
        return self._reader.format

    @property
    def size(self) -> Size:
        return self._reader.size

    @property
    def crs(self) -> str | None:
        return self.place.crs

    @property
    def transform(self) -> Affine | None:
        return self.place.transform

    @property
    def gsd_m(self) -> float | None:
        return self._options.gsd_m or self.place.gsd_m

    @property
    def dtype(self) -> np.dtype:
        return self._reader.dtype

    @property
    def bands(self) -> tuple[Band, ...]:
        return self._reader.bands

    @property
    def shown(self) -> tuple[Band, ...]:
        return self._reader.shown

    @property
    def coloured(self) -> bool:
        """Whether three bands or a palette are shown, not one band as grey."""
        return self._reader.depth == 3

    @property
    def notes(self) -> tuple[str, ...]:
        damaged = (_damage(self._reader.damaged),) if self._reader.damaged else ()
        return (*self.place.notes, *self._notes, *damaged)

    @property
    def damaged(self) -> tuple[tuple[str, int, int], ...]:
        return tuple(sorted(self._reader.damaged))

    @property
    def blocks(self) -> Size:
        """(width, height) of what is decoded at once, in pixels."""
        return self._reader.block

    @property
    def sensor(self) -> Sensor:
        return self._sensor[0]

    @property
    def sensor_reason(self) -> str:
        return self._sensor[1]

    @cached_property
    def _sensor(self) -> tuple[Sensor, str]:
        if self._options.sensor is not None:
            return self._options.sensor, "as given"
        if self._reader.sensor is not None:
            return self._reader.sensor, self._reader.reason
        if len(self.shown) == 1 and self.dtype != np.uint8:
            values, valid = self._sample
            if values.dtype.kind == "f" and units_of(values, Sensor.INFRARED, valid) == "kelvin":
                return Sensor.INFRARED, "one band whose middle is between 150 and 400, as kelvin are"
            if values.dtype.kind == "f" and _like_decibels(values[valid]):
                return Sensor.SAR, "one band of floats mostly between -60 and 0, as decibels are"
        return Sensor.OPTICAL, "nothing says otherwise"

    @cached_property
    def units(self) -> str:
        if self._options.units:
            return self._options.units
        if self._reader.units in UNITS[self.sensor]:
            return self._reader.units
        if self.sensor is Sensor.OPTICAL or self.dtype == np.uint8:
            return UNITS[self.sensor][0]
        values, valid = self._sample
        return units_of(values, self.sensor, valid)

    @property
    def reading(self) -> dict[str, Any]:
        """How values are read, besides the bands and their stretch, as plain values."""
        options, nodata = self._options, self._reader.nodata_value
        return {"looks": options.looks, "speckle": options.speckle, "nodata": None if nodata is None else str(nodata)}

    @cached_property
    def _sample(self) -> tuple[np.ndarray, np.ndarray]:
        """Values of the whole raster by its overviews, [h, w, 1 or 3], or of places spread over it, and where they are
        valid, of the same shape."""
        values, valid, whole = self._reader.sample()
        if not whole:
            self._notes.append(
                f"The raster has no overviews: the stretch is from {SAMPLES * SAMPLES} places spread over it."
            )
        if not valid.any():
            self._notes.append("No pixel of the statistics is valid: the scene may be nodata alone.")
        return values, valid

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        options = self._options
        if options.stretch == "none" and self.dtype != np.uint8:
            raise EarthGPTError(f"{self.name} has {self.dtype} values; only 8-bit ones need no stretch.")
        plain = self.dtype == np.uint8 and not options.filtered
        plain &= options.stretch == "none" or (options.stretch is None and not self._reader.raw)
        if plain and not options.black_hot:
            return ()
        if plain:
            return (Stretch(0, 255, inverted=True),) * self._reader.depth
        limits = None if options.stretch == "none" else options.stretch
        if limits is not None and parse_limits(limits)[0] != "%":  # no value counts
            values, valid = np.zeros((1, 1, self._reader.depth), np.float32), None
        else:
            values, valid = self._sample
        return stretches_of(values, self.sensor, valid, limits, self.units, options.black_hot)

    @cached_property
    def _looks(self) -> float:
        """The equivalent number of looks of the middle of the scene, after multi-looking."""
        side = min(512, *self.size)
        x, y = ((length - side) // 2 for length in self.size)
        values, valid = self._reader.read((x, y, side, side), (side, side))
        power = intensity(values[..., 0], self.units)
        if self._options.looks > 1:
            power = box_mean(power, valid[..., 0], self._options.looks)
        return equivalent_looks(power, valid[..., 0])

    def window(self, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of a window at full size, uint8 [height, width, 3], and where they are valid, bool [height, width].

        What is not valid (nodata, alpha 0, NaN, a damaged block) is black. Neighbouring windows have one stretch. Of an
        array of 8-bit colours the pixels are a part of it, read-only.
        Raises EarthGPTError for a window that is empty, not inside, or of more than ``MOST_PIXELS``.
        """
        _examine((x, y, width, height), self.size, self.name)
        return self._view((x, y, width, height), (width, height))

    def preview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole raster at most ``side`` pixels a side, as ``window`` gives it."""
        return self._view((0, 0, *self.size), reduced(self.size, side))

    def to_map(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        """``Place.to_map``."""
        return self.place.to_map(points)

    def to_wgs84(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        """``Place.to_wgs84``."""
        return self.place.to_wgs84(points)

    def understood(self) -> dict[str, Any]:
        """What was understood of the raster, as plain values: what ``earthgpt info`` prints.

        ``stretch`` is (black, white) for each band shown, empty for 8 bits as they are; ``centre`` longitude and
        latitude of the middle, None without a place; ``valid`` the part of the raster that is data, about; ``nodata``
        is None without one, and for NaN.
        """
        stretches = [(one.low, one.high) for one in self.stretches]
        _, valid = self._sample
        nodata = self._reader.nodata_value
        nodata = None if nodata is None or np.isnan(nodata) else nodata
        centre = None
        if self.crs is not None and self.place.on_earth:
            found = self.to_wgs84([(self.size[0] / 2, self.size[1] / 2)])[0]
            centre = None if np.isnan(found).any() else [round(float(value), 6) for value in found]
        bands = [
            {"number": i + 1, "name": band.name, "colour": band.colour or None, "wavelength_nm": band.wavelength_nm}
            for i, band in enumerate(self.bands)
        ]
        return {
            "name": self.name, "format": self.format, "size": self.size, "dtype": str(self.dtype), "bands": bands,
            "shown": [band.name for band in self.shown], "nodata": nodata, "crs": self.crs,
            "transform": self.transform, "gsd_m": self.gsd_m, "centre": centre, "blocks": self.blocks,
            "overviews": self._reader.overviews, "valid": round(float(valid.any(-1).mean()), 4), "sensor": self.sensor,
            "sensor_reason": self.sensor_reason, "units": self.units, "stretch": stretches, "notes": list(self.notes),
            "damaged": self.damaged,
        }  # fmt: skip

    def in_reading_order(self, windows: Sequence[Window]) -> list[Window]:
        """Windows in an order in which each block of the file is decoded about once: row by row, and where the blocks
        of a row of windows are more than what GDAL keeps, in columns of the raster of which they are not.
        """
        width, height = self.blocks
        wide, high = (max((window[axis] for window in windows), default=1) for axis in (2, 3))
        rows = high // height + 2  # of blocks that a window may touch
        columns = self._reader.cache_bytes // max(1, rows * self._reader.block_bytes) - wide // width - 2
        if width >= self.size[0] or columns * width >= self.size[0]:
            return sorted(windows, key=lambda window: (window[1], window[0]))
        columns = max(1, columns) * width
        return sorted(windows, key=lambda window: (window[0] // columns, window[1], window[0]))

    def _view(self, window: Window, size: Size) -> tuple[np.ndarray, np.ndarray]:
        stretches = self.stretches
        if self._options.filtered and window[2:] == size:
            values, valid = self._filtered(window)
        else:
            values, valid = self._reader.read(window, size, smooth=True)
        valid = any_band(valid)
        pixels = to_8bit(values, valid=valid, stretches=stretches)
        if pixels.ndim == 2:
            pixels = np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
        if pixels.strides[1:] != (3, 1):
            planes, pixels = pixels, np.empty(pixels.shape, np.uint8)
            for band in range(3):  # three times as fast as one copy of all
                pixels[..., band] = planes[..., band]
        return pixels, np.ones(pixels.shape[:2], bool) if valid is None else valid

    def _filtered(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """SAR values of a window in its units, multi-looked and without speckle; neighbours are read too, so that
        windows fit together."""
        x, y, width, height = window
        options = self._options
        margin = options.looks // 2 + (LEE_SIDE // 2 if options.speckle else 0)
        left, top = max(0, x - margin), max(0, y - margin)
        right, bottom = min(self.size[0], x + width + margin), min(self.size[1], y + height + margin)
        wide = right - left, bottom - top
        values, valid = self._reader.read((left, top, *wide), wide)
        asked = np.s_[y - top : y - top + height, x - left : x - left + width]
        shown = []
        for band in range(values.shape[2]):
            mask = valid[..., band]
            power = intensity(np.where(mask, values[..., band], 0), self.units)
            if options.looks > 1:
                power = box_mean(power, mask, options.looks)
            if options.speckle:
                power = lee(power, mask, self._looks)
            power = power[asked]
            if self.units == "amplitude":
                power = np.sqrt(power)
            elif self.units == "decibels":
                power = 10 * np.log10(np.maximum(power, np.finfo(np.float32).tiny))
            shown.append(power)
        return np.stack(shown, -1), valid[asked]


class _Options:
    """What the user asked for, examined."""

    def __init__(
        self,
        sensor: Sensor | str | None,
        stretch: Any,
        units: str | None,
        looks: int,
        speckle: str | None,
        black_hot: bool,
        gsd_m: float | None,
        nodata: float | None,
    ) -> None:
        self.sensor = None if sensor is None else Sensor.of(sensor)
        if stretch not in (None, "none"):
            parse_limits(stretch)
        if units is not None and units not in (known := sorted({one for kinds in UNITS.values() for one in kinds})):
            raise EarthGPTError(f"The units of values are one of {', '.join(known)}; not {units!r}.")
        if speckle not in (None, "lee"):
            raise EarthGPTError(f"The speckle filter is lee; not {speckle!r}.")
        if not (isinstance(looks, int | np.integer) and 1 <= looks <= 64):
            raise EarthGPTError(f"Multi-looking averages 1 to 64 pixels a side; not {looks!r}.")
        if not (gsd_m is None or (isinstance(gsd_m, _NUMBER) and gsd_m > 0)):
            raise EarthGPTError(f"The ground sampling distance is a number of metres above 0; not {gsd_m!r}.")
        if not (nodata is None or isinstance(nodata, _NUMBER)):
            raise EarthGPTError(f"The value of no data is a number; not {nodata!r}.")
        self.stretch, self.units, self.looks, self.speckle = stretch, units, looks, speckle
        self.black_hot, self.gsd_m = black_hot, gsd_m

    @property
    def filtered(self) -> bool:
        return self.looks > 1 or self.speckle is not None


def open_scene(
    source: str | Path | np.ndarray | Sequence[str | Path] | Scene,
    sensor: Sensor | str | None = None,
    bands: str | Sequence[str | int] | None = None,
    stretch: str | Sequence[float] | None = None,
    units: str | None = None,
    *,
    looks: int = 1,
    speckle: str | None = None,
    black_hot: bool = False,
    nodata: float | None = None,
    crs: str | None = None,
    gsd_m: float | None = None,
    remote: bool = False,
) -> Scene:
    """A Scene of a file, of several files with a band each, of the folder of a Sentinel-1, Sentinel-2 or Landsat
    product, or of an array ([H, W] or [H, W, C] of any numeric type). No pixels are read yet.

    bands: one or three to show, by number from 1, name, colour or wavelength: "4,3,2", "red,green,blue", "665nm".
    sensor: what took it, "optical", "sar" or "infrared"; None to infer it from names, tags and values.
    stretch: black and white: (low, high) or "low:high" in the units of the values, "2%:98%", "minmax", "10C:45C", or
        "none" for 8-bit values as they are; None for what the sensor needs (``sensors.STRETCH``).
    units: what the values stand for, one of ``sensors.UNITS``; None to infer it.
    looks: SAR: intensities are averaged over so many pixels a side; the grid stays. speckle: SAR: "lee" or None.
    black_hot: heat is dark. nodata: the value of no data, where the file does not say so.
    crs: where the file has none. gsd_m: metres a pixel, where the file does not say so or is wrong.
    remote: whether URLs, object stores and GDAL's virtual files may be read, and files that point to others elsewhere.
    Raises EarthGPTError for what cannot be opened, bands that are not there, and options that cannot be.
    """
    if isinstance(source, Scene):
        return source
    options = _Options(sensor, stretch, units, looks, speckle, black_hot, gsd_m, nodata)
    if isinstance(source, np.ndarray):
        scene = Scene(ArrayReader(source, bands, nodata, options.sensor), "array", options)
    else:
        named = [str(one) for one in source] if isinstance(source, (list, tuple)) else str(source)
        several = [named] if isinstance(named, str) else named
        name = " and ".join([*several[:1], *([f"{len(several) - 1} more"] if len(several) > 1 else [])])
        scene = Scene(_reader(named, bands, nodata, crs, options.sensor, remote), name, options)
    if options.filtered and scene.sensor is not Sensor.SAR:
        raise EarthGPTError(f"{scene.name} is {scene.sensor} ({scene.sensor_reason}); looks and speckle are for sar.")
    if black_hot and scene.sensor is not Sensor.INFRARED:
        raise EarthGPTError(f"{scene.name} is {scene.sensor} ({scene.sensor_reason}); black-hot is for infrared.")
    return scene


def _reader(
    named: str | list[str], bands: Any, nodata: float | None, crs: str | None, sensor: Sensor | None, remote: bool
) -> ArrayReader | FileReader:
    try:
        import rasterio  # noqa: F401
    except ImportError:
        from earthgpt.geo.raster import read_pixels

        if isinstance(named, str) and Path(named).suffix.lower() not in (".tif", ".tiff", ".jp2", ".vrt"):
            return ArrayReader(read_pixels(named, sensor=sensor), bands, nodata, sensor)
        raise EarthGPTError('Scenes of maps need rasterio: pip install "earthgpt[geo]".') from None
    return FileReader(named, bands, nodata, crs, sensor, remote)


def _examine(window: Window, size: Size, name: str) -> None:
    x, y, width, height = inside(window, size, name)
    if width * height > MOST_PIXELS:
        raise EarthGPTError(
            f"The window {x},{y},{width},{height} of {name} has more than {MOST_PIXELS:,} pixels; read smaller ones."
        )


def _damage(blocks: set[tuple[str, int, int]]) -> str:
    some = ", ".join(
        f"{'overviews' if column < 0 else f'{column},{row}'} of {Path(path).name}"
        for path, column, row in sorted(blocks)[:3]
    )
    many = "1 block" if len(blocks) == 1 else f"{len(blocks)} blocks"
    return f"{many} cannot be decoded: {some}{', ...' if len(blocks) > 3 else ''}."


def _like_decibels(values: np.ndarray) -> bool:
    """Whether values look like backscatter: nine of ten between -60 and 0, and some below -3."""
    values = values[np.isfinite(values)]
    return bool(values.size) and np.mean((values > -60) & (values < 0)) > 0.9 and np.percentile(values, 5) < -3

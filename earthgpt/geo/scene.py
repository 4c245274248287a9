"""A raster of any size, opened without reading its pixels: where it lies, what took it, and windows of it in 8 bits."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from earthgpt.geo.place import Affine, Place, place, place_of
from earthgpt.geo.sensors import Stretch, stretches_of, to_rgb8
from earthgpt.geo.tiles import Window
from earthgpt.types import EarthGPTError, Point, Sensor, Size

# Of decoded blocks kept by GDAL, in bytes: a row of 512 x 512 blocks of three bands of 40,000 pixels. Memory for
# reading is this and no more, however large the raster.
CACHE_BYTES = 64 * 2**20
# What statistics are taken of, in pixels a side.
STATISTICS_SIDE = 2048
# A window has no more pixels than this.
MOST_PIXELS = 2**28


class Scene:
    """A raster that is read in windows.

    size: (width, height) in pixels. name: where it came from, for messages.
    crs, transform, gsd_m: see ``Place``; the place itself is ``place``.
    sensor: what took it, and ``sensor_reason``: how that is known.
    notes: what a user must know, one sentence each; more may come while windows are read.
    A scene can be pickled, and windows can be read by several threads.
    """

    def __init__(self, reader: Any, name: str, sensor: Sensor | None, stretch: Any, notes: Sequence[str]) -> None:
        self._reader = reader
        self.name = name
        self.place: Place = reader.place
        self._given_sensor, self._given_stretch, self._notes = sensor, stretch, list(notes)

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
        return self.place.gsd_m

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.place.notes, *self._notes)

    @cached_property
    def sensor(self) -> Sensor:
        return self._given_sensor or Sensor.OPTICAL

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """How values become 8 bits, for each band shown: from the whole raster by its overviews. Empty where they are
        8 bits already.
        """
        if self._reader.dtype == np.uint8:
            return ()
        values, valid = self._reader.read((0, 0, *self.size), _reduced(self.size, STATISTICS_SIDE))
        return stretches_of(values, self.sensor, valid)

    def window(self, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of a window at full size, uint8 [height, width, 3], and where they are valid, bool [height, width].

        What is not valid (nodata, alpha 0, a damaged block) is black. Neighbouring windows have one stretch.
        Raises EarthGPTError for a window that is empty, not inside, or of more than ``MOST_PIXELS``.
        """
        _examine((x, y, width, height), self.size, self.name)
        return self._view((x, y, width, height), (width, height))

    def preview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole raster at most ``side`` pixels a side, as ``window`` gives it."""
        return self._view((0, 0, *self.size), _reduced(self.size, side))

    def to_map(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        """``Place.to_map``."""
        return self.place.to_map(points)

    def to_wgs84(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        """``Place.to_wgs84``."""
        return self.place.to_wgs84(points)

    def _view(self, window: Window, size: Size) -> tuple[np.ndarray, np.ndarray]:
        stretches = self.stretches
        values, valid = self._reader.read(window, size)
        if stretches:
            shown = np.stack([stretch(values[..., i]) for i, stretch in enumerate(stretches)], axis=-1)
        else:
            shown = values
        return to_rgb8(shown, valid=valid), valid


def open_scene(
    source: str | Path | np.ndarray | Sequence[str | Path] | Scene,
    sensor: Sensor | str | None = None,
    bands: Sequence[str | int] | str | None = None,
    stretch: Any = None,
    crs: str | None = None,
) -> Scene:
    """A Scene of a file or an array ([H, W] or [H, W, C] of any numeric type). No pixels are read.

    Raises EarthGPTError for what cannot be opened.
    """
    if isinstance(source, Scene):
        return source
    given = None
    if sensor is not None:
        try:
            given = Sensor(sensor)
        except ValueError:
            raise EarthGPTError(f"The sensor is one of {', '.join(Sensor)}; not {sensor!r}.") from None
    if isinstance(source, np.ndarray):
        return Scene(_Array(source), "array", given, stretch, ())
    return Scene(_Files(str(source), bands, crs), str(source), given, stretch, ())


def _reduced(size: Size, side: int) -> Size:
    part = min(1.0, side / max(size))
    return max(1, round(size[0] * part)), max(1, round(size[1] * part))


def _examine(window: Window, size: Size, name: str) -> None:
    x, y, width, height = window
    said = f"The window {x},{y},{width},{height}"
    if min(x, y) < 0 or min(width, height) < 1 or x + width > size[0] or y + height > size[1]:
        raise EarthGPTError(f"{said} is not inside {name} of {size[0]:,} x {size[1]:,} pixels.")
    if width * height > MOST_PIXELS:
        raise EarthGPTError(f"{said} of {name} has more than {MOST_PIXELS:,} pixels; read smaller ones.")


class _Array:
    """Values in memory."""

    def __init__(self, values: np.ndarray, where: Place | None = None) -> None:
        if values.ndim not in (2, 3) or 0 in values.shape:
            raise EarthGPTError(f"An image is an array [height, width] or [height, width, bands], not {values.shape}.")
        values = values[..., None] if values.ndim == 2 else values
        self.values = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
        self.size, self.dtype = (values.shape[1], values.shape[0]), values.dtype
        self.place = where or place(None, None, self.size)

    def read(self, window: Window, size: Size) -> tuple[np.ndarray, np.ndarray]:
        x, y, width, height = window
        columns = x + (np.arange(size[0]) * width) // size[0]
        rows = y + (np.arange(size[1]) * height) // size[1]
        values = self.values[rows[:, None], columns]
        return values, np.isfinite(values).any(-1)


class _Files:
    """Bands of files that GDAL reads."""

    def __init__(self, path: str, bands: Any, crs: str | None) -> None:
        self.path = path
        self._open = threading.local()
        with self.dataset() as dataset:
            self.size = dataset.width, dataset.height
            self.place = place_of(dataset, crs)
            self.numbers = [1, 2, 3] if dataset.count >= 3 else [1]
            self.dtype = np.dtype(dataset.dtypes[0])

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _open=threading.local())

    @contextmanager
    def dataset(self) -> Iterator[Any]:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                if getattr(self._open, "file", None) is None:
                    self._open.file = rasterio.open(self.path)
                yield self._open.file
            except (RasterioError, ValueError) as error:
                reason = str(error.__cause__ or error).splitlines()[0]
                raise EarthGPTError(f"{self.path} cannot be read: {reason}") from None

    def read(self, window: Window, size: Size) -> tuple[np.ndarray, np.ndarray]:
        from rasterio.windows import Window as Part

        with self.dataset() as dataset:
            shape = size[::-1]
            values = dataset.read(self.numbers, window=Part(*window), out_shape=(len(self.numbers), *shape))
            valid = dataset.dataset_mask(window=Part(*window), out_shape=shape) > 0
        return values.transpose(1, 2, 0), valid

"""Values of a raster in windows, wherever they are stored: in memory, in one file, or with a file for each band."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from earthgpt.geo.place import Affine, place, place_of
from earthgpt.geo.sensors import named_sensor, refuse_bands_first
from earthgpt.geo.sources import LOCAL_DRIVERS, Band, alpha_of, bands_of, choose, product, shown
from earthgpt.geo.tiles import Window
from earthgpt.types import EarthGPTError, Sensor, Size

# Decoded blocks that GDAL keeps, in bytes. Memory for reading tiles is this and no more, however large the raster. Of
# strips, which are as wide as the raster, so many rows are kept as a window is high, up to MOST_CACHE_BYTES. (rasterio
# takes a number as bytes: 48 would be no cache.)
CACHE_BYTES, STRIP_ROWS, MOST_CACHE_BYTES = 48 * 2**20, 1024, 2**30
# A file whose blocks are larger than this when decoded is refused: a block is decoded whole.
MOST_BLOCK_BYTES = 2**31
# A window has no more pixels than this, and a file that can only be decoded whole too: 400 million of DOTA 2.0 are well
# below, a bomb is above.
MOST_PIXELS = 2**30
# What statistics are taken of: the raster reduced to this side, or, where that would decode more than MOST_DECODED
# pixels, SAMPLES x SAMPLES squares of SAMPLE_SIDE pixels spread over it.
STATISTICS_SIDE, MOST_DECODED = 2048, 2**26
SAMPLES, SAMPLE_SIDE = 16, 128
# Files that GDAL decodes from the top, whatever is asked for: these are decoded once, whole.
WITHOUT_WINDOWS = ("PNG", "JPEG", "GIF", "WEBP", "JPEGXL")
# A part of a reduced image that cannot be decoded is halved until it has no more pixels a side than this.
SMALLEST_PART = 32


class ArrayReader:
    """Values in memory. Its attributes are those of ``FileReader``."""

    format, damaged, notes, raw, overviews = "array", frozenset(), (), False, ()

    def __init__(
        self, values: np.ndarray, asked: Any = None, nodata: float | None = None, sensor: Sensor | None = None
    ) -> None:
        if values.ndim not in (2, 3) or 0 in values.shape:
            raise EarthGPTError(f"An image is an array [height, width] or [height, width, bands], not {values.shape}.")
        refuse_bands_first(values.shape)
        self.sensor, self.reason, self.units = None, "", None
        values = values[..., None] if values.ndim == 2 else values
        if values.dtype == bool:
            values = values.astype(np.uint8) * 255
        if np.iscomplexobj(values):
            self.sensor, self.reason, self.units = Sensor.SAR, "its values are complex", "amplitude"
            values = np.abs(values).astype(np.float32)
        count = values.shape[2]
        names = ("red", "green", "blue", "alpha") if count in (3, 4) else [str(i + 1) for i in range(count)]
        self.bands = tuple(
            Band("", i + 1, name, name if count in (3, 4) else "") for i, name in enumerate(names[:count])
        )
        self.shown = choose(self.bands, asked, "The array") if asked else shown(self.bands, sensor or self.sensor)[0]
        numbers = [band.number - 1 for band in self.shown]
        row = slice(numbers[0], numbers[-1] + 1)
        self.values = values[..., row if numbers == list(range(count))[row] else numbers]  # a row is not copied
        self.values.flags.writeable = False
        self.valid, self.nodata_value = _valid(self.values, nodata), nodata
        self.size, self.dtype, self.depth = (values.shape[1], values.shape[0]), values.dtype, len(self.shown)
        self.block, self.block_bytes, self.cache_bytes = self.size, values.nbytes, 0
        self.place = place(None, None, self.size)

    def read(self, window: Window, size: Size, smooth: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """As ``FileReader.read``."""
        return _cut(self.values, self.valid, window, size, smooth)

    def sample(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """As ``FileReader.sample``."""
        return *self.read((0, 0, *self.size), reduced(self.size, STATISTICS_SIDE)), True


class FileReader:
    """Bands of one or more files that GDAL reads.

    bands, shown: all, and the one or three that are read. size, place: of the grid, which is that of the band with the
    smallest pixels. dtype: of the values as stored; complex ones are read as their magnitude. depth: how many layers
    are read: three of a palette. block: (width, height) of what is decoded at once. stored_bands: how many bands a
    block holds. raw: whether 8-bit values are measurements, not a picture. sensor, reason, units: what names and tags
    tell, None where they are silent. damaged: blocks that could not be decoded, as (file, column, row); of reduced
    images column and row are -1. overviews: by what factors reduced images are stored. nodata_value: None without one.
    block_bytes: of a decoded block with all bands that are stored in it. cache_bytes: of decoded blocks that are kept.
    """

    def __init__(
        self,
        named: str | list[str],
        asked: Any,
        nodata: float | None,
        crs: str | None,
        sensor: Sensor | None,
        remote: bool,
    ) -> None:
        self.remote, self.nodata, self._handles, self.cache_bytes = remote, nodata, threading.local(), CACHE_BYTES
        self.damaged: set[tuple[str, int, int]] = set()
        self._whole: tuple[np.ndarray, np.ndarray] | None = None
        found = product(named, remote)
        self.notes = list(found.notes)
        self.bands = tuple(band for one in found.bands for band in (self._bands(one) if one.number == 0 else (one,)))
        if isinstance(named, list):
            self._refuse_several_scenes()
        self.sensor, self.reason, self.units = found.sensor, found.reason, found.units
        self.raw = found.sensor is not None
        name = named if isinstance(named, str) else named[0]
        if self.sensor is None:
            with self._file(self.bands[0].path) as file:
                texts = [Path(name).name, *(band.name for band in self.bands), *file.tags().values()]
            self.sensor, self.reason = named_sensor(texts)
        if asked is not None:
            self.shown = choose(self.bands, asked, name)
        else:
            self.shown, note = shown(self.bands, sensor or self.sensor)
            self.notes += [note] if note else []
        if all(band.thermal for band in self.shown):
            self.sensor, self.reason = Sensor.INFRARED, f"the band {self.shown[0].name} measures heat"
            self.units = found.thermal_units
        self._lay_out(crs)

    def _refuse_several_scenes(self) -> None:
        """Raises EarthGPTError for files that are no bands of one scene: of several places, or pictures."""
        from rasterio.coords import disjoint_bounds

        first: tuple[str, Any, Any] | None = None
        for path in dict.fromkeys(band.path for band in self.bands):
            with self._file(path) as file:
                crs, bounds, count = file.crs, file.bounds, file.count
            if first is None:
                first = path, crs, bounds
                continue
            other, its_crs, its_bounds = first
            if crs is None or its_crs is None:
                apart = count > 1
            else:
                apart = crs != its_crs or disjoint_bounds(bounds, its_bounds)
            if apart:
                raise EarthGPTError(
                    f"{path} and {other} are no bands of one scene, which have one CRS and place: ask about images one "
                    "by one."
                )

    def _bands(self, one: Band) -> tuple[Band, ...]:
        """Every band of a file."""
        with self._file(one.path) as file:
            parts = [text for key, text in file.tags(ns="SUBDATASETS").items() if key.endswith("_NAME")]
            if not file.count:
                some = "; ".join(parts[:8]) or "none"
                raise EarthGPTError(f"{one.path} holds several images; name one of them: {some}.")
            if len(parts) > 1 and file.driver == "GTiff":
                self.notes.append(f"{one.path} has {len(parts)} pages; the first is read.")
            return bands_of(file, one.path, one.name)

    def _lay_out(self, crs: str | None) -> None:
        """The grid, and where each file lies on it."""
        grids, kinds, self.stored_bands, self._tables = {}, set(), 0, {}
        for path in dict.fromkeys(band.path for band in self.shown):
            numbers = [band.number for band in self.shown if band.path == path]
            with self._file(path) as file:
                grids[path] = (file.width, file.height), tuple(file.transform)[:6], file.crs
                kinds |= {file.dtypes[number - 1] for number in numbers}
                self.stored_bands += _stored_bands(file, path, len(numbers))
                if len(self.shown) == 1 and (table := _table(file, numbers[0])) is not None:
                    self._tables[path] = table
        grid = max(grids, key=lambda path: grids[path][0][0])
        self._lies = {path: _lie(path, grids[path], grid, grids[grid]) for path in grids}
        self.size = grids[grid][0]
        if any("complex" in kind for kind in kinds):
            self.sensor, self.reason, self.units = Sensor.SAR, "its values are complex", "amplitude"
        self.dtype = np.result_type(*("complex64" if kind == "complex_int16" else kind for kind in kinds))
        self.depth = 3 if self._tables else len(self.shown)
        with self._file(grid) as file:
            self.place, self.format, self.block = place_of(file, crs), file.driver, file.block_shapes[0][::-1]
            first = next(band for band in self.shown if band.path == grid)
            self.overviews = tuple(file.overviews(first.number))
            declared = file.nodatavals[first.number - 1] if first.nodata is None else first.nodata
            self.nodata_value = declared if self.nodata is None else self.nodata
            self._turn = int(file.tags().get("EXIF_Orientation", 1))
        self.block_bytes = math.prod(self.block) * self.stored_bands * self.dtype.itemsize
        kept = 2 * self.block_bytes
        if self.block[0] >= self.size[0]:
            kept += STRIP_ROWS * self.size[0] * self.stored_bands * self.dtype.itemsize
        self.cache_bytes = max(CACHE_BYTES, min(kept, MOST_CACHE_BYTES))
        if self.format in WITHOUT_WINDOWS:
            self.block = self.size
            if math.prod(self.size) > MOST_PIXELS:
                raise EarthGPTError(
                    f"{grid}: {self.size[0]:,} x {self.size[1]:,} pixels of {self.format} can only be decoded whole, "
                    f"and are more than {MOST_PIXELS:,}; convert it first: gdal_translate -of COG."
                )
        if self._turn > 1 and self.place.transform is not None:
            self.notes.append("The camera was turned (EXIF orientation); the image is read as its place has it.")
            self._turn = 1
        if self._turn > 4:
            self.size = self.size[::-1]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_handles": None, "_whole": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _handles=threading.local())

    @contextmanager
    def _file(self, path: str) -> Iterator[Any]:
        """An open file, one for a thread; what goes wrong is told in one line."""
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        options: dict[str, Any] = {"GDAL_CACHEMAX": self.cache_bytes}
        if self.remote:
            options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"  # no listing of a bucket
        else:  # nothing is fetched, whatever a file names: no name is allowed, and requests go to a closed door
            options["CPL_VSIL_CURL_ALLOWED_FILENAME"] = "none"
            options["GDAL_HTTP_PROXY"] = options["GDAL_HTTPS_PROXY"] = "http://127.0.0.1:1"
        # A forked process would share the file's position with its parent: it opens its own.
        opened = vars(self._handles).setdefault(os.getpid(), {})
        with rasterio.Env(**options):
            try:
                if path not in opened:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", NotGeoreferencedWarning)
                        file = rasterio.open(path)
                    if not self.remote and file.driver not in LOCAL_DRIVERS:
                        raise EarthGPTError(
                            f"{path} is {file.driver}, which may point elsewhere; allow it with --remote."
                        )
                    opened[path] = file
                yield opened[path]
            except (RasterioError, ValueError) as error:
                reason = str(error.__cause__ or error).splitlines()[0]
                if "not recognized as being in a supported file format" in reason:
                    raise EarthGPTError(f"{path} is not an image, or of a kind that is not known here.") from None
                raise EarthGPTError(f"{path} is damaged or no image: {reason}") from None

    def read(self, window: Window, size: Size, smooth: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Values and where they are valid, both [h, w, depth], read-only, of a window at another size: the nearest, or
        averages if ``smooth``.

        Scaled by the tags of their band, but for 8-bit ones. A block that cannot be decoded is not valid, and is kept
        in ``damaged``.
        """
        if self.format not in WITHOUT_WINDOWS:
            return self._read(window, size, smooth)
        if self._whole is None:
            stored = self.size[::-1] if self._turn > 4 else self.size
            self._whole = tuple(_turned(part, self._turn) for part in self._read((0, 0, *stored), stored, False))
        return _cut(*self._whole, window, size, smooth)

    def sample(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """Values for statistics and where they are valid, both [h, w, depth], and whether they are of the whole raster:
        of places spread over it where it has no overviews and is too large to decode.
        """
        size = reduced(self.size, STATISTICS_SIDE)
        smallest = max((factor for factor in self.overviews if factor <= self.size[0] / size[0]), default=1)
        if math.prod(self.size) / smallest**2 <= MOST_DECODED or self.format in WITHOUT_WINDOWS:
            return *self.read((0, 0, *self.size), size), True
        rows = []
        for j in range(SAMPLES):
            places = []
            for i in range(SAMPLES):
                x, y = ((2 * k + 1) * length // (2 * SAMPLES) for k, length in zip((i, j), self.size, strict=True))
                width, height = (min(SAMPLE_SIDE, length // SAMPLES) for length in self.size)
                width, height = max(1, width), max(1, height)
                places.append(self.read((x - width // 2, y - height // 2, width, height), (width, height)))
            rows.append([np.concatenate(parts, axis=1) for parts in zip(*places, strict=True)])
        values, valid = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        return values, valid, False

    def _read(self, window: Window, size: Size, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
        planes: list[Any] = [None] * len(self.shown)
        masks: list[Any] = [None] * len(self.shown)
        for path, lie in self._lies.items():
            places = [i for i, band in enumerate(self.shown) if band.path == path]
            with self._file(path) as file:
                values, valid = self._of_file(file, path, [self.shown[i] for i in places], lie, window, size, smooth)
            for i, value, mask in zip(places, values, valid, strict=True):
                planes[i], masks[i] = value, mask
        if len(self._lies) > 1:
            values = np.stack(planes)
        values = values.transpose(1, 2, 0)  # [h, w, bands], still stored band after band
        valid = _everywhere(values.shape) if all(map(_is_everywhere, masks)) else np.stack(masks, axis=-1)
        for table in self._tables.values():
            values = table[np.minimum(values[..., 0], len(table) - 1)]
            valid = np.broadcast_to(valid, values.shape)
        return values, valid

    def _of_file(
        self, file: Any, path: str, bands: Sequence[Band], lie: OnGrid, window: Window, size: Size, smooth: bool
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Values [bands, h, w] of the bands in one file, and for each where it is valid [h, w]."""
        spans = [
            _span(start, length, count, *lie[axis], (file.width, file.height)[axis])
            for axis, (start, length, count) in enumerate(zip(window[:2], window[2:], size, strict=True))
        ]
        (column, columns, x, width), (row, rows, y, height) = spans
        numbers, there, shape = [band.number for band in bands], (x, y, width, height), (rows, columns)
        kind = file.dtypes[numbers[0] - 1]
        if not rows or not columns:
            values, valid = np.zeros((len(bands), *size[::-1]), np.float32), np.zeros(size[::-1], bool)
            return values, [valid] * len(bands)
        smooth = smooth and "complex" not in kind and path not in self._tables and width > columns
        source = self._without_nodata(file, path, bands) if smooth else file
        values, whole = self._decode(source, path, numbers, there, shape, smooth)
        masks = [_both(whole, self._valid(file, band, values[i], there, shape)) for i, band in enumerate(bands)]
        if values.dtype.kind == "c":
            values = np.abs(values)
        elif values.dtype != np.uint8 and any((band.scale, band.offset) != (1, 0) for band in bands):
            scale, offset = (
                np.array([getattr(band, key) for band in bands], np.float32)[:, None, None]
                for key in ("scale", "offset")
            )
            values = values.astype(np.float32) * scale + offset
        if shape != size[::-1]:  # the file does not reach as far as the grid
            edges = ((row, size[1] - row - rows), (column, size[0] - column - columns))
            values = np.pad(values, ((0, 0), *edges))
            masks = [np.pad(mask, edges) for mask in masks]
        return values, masks

    def _without_nodata(self, file: Any, path: str, bands: Sequence[Band]) -> Any:
        """A file whose averages leave out what is no data. GDAL knows what the file itself says; where a product or the
        user says more, a VRT around the file does.
        """
        import rasterio
        import rasterio.shutil
        from rasterio.errors import NotGeoreferencedWarning

        nodata = bands[0].nodata if self.nodata is None else self.nodata
        if nodata is None or np.array_equal(nodata, file.nodatavals[bands[0].number - 1] or np.inf, equal_nan=True):
            return file
        kind = np.dtype(file.dtypes[bands[0].number - 1])
        if kind.kind in "iu":
            bounds = np.iinfo(kind)
            if not (float(nodata).is_integer() and bounds.min <= nodata <= bounds.max):
                return file  # no value of this type is that number
        opened = vars(self._handles)[os.getpid()]
        if (path, nodata) not in opened:
            with warnings.catch_warnings(), rasterio.MemoryFile(ext=".vrt") as around:
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                rasterio.shutil.copy(file, around.name, driver="VRT")
                try:
                    with rasterio.open(around.name, "r+") as vrt:
                        vrt.nodata = nodata
                    opened[path, nodata] = rasterio.open(around.name)
                except ValueError:  # no value of this type is that number
                    opened[path, nodata] = file
        return opened[path, nodata]

    def _decode(
        self, file: Any, path: str, numbers: Sequence[int], window: Sequence[float], shape: Size, smooth: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values [bands, h, w] of a window of a file, and whether they could be decoded [h, w]; ``shape`` is (h, w).

        Raises EarthGPTError for a picture that cannot be decoded: from the place of the damage on it is noise.
        """
        from rasterio import windows
        from rasterio.enums import Resampling
        from rasterio.errors import RasterioIOError

        whole = tuple(window) == (0, 0, file.width, file.height) and tuple(shape) == (file.height, file.width)
        if file.driver in WITHOUT_WINDOWS and whole:
            return _picture(file, path, numbers), _everywhere(shape)
        block = file.block_shapes[numbers[0] - 1][::-1]
        full = window[2:] == shape[::-1]
        spans = [
            (int(start // side), int(-(-(start + length) // side)))
            for start, length, side in zip(window[:2], window[2:], block, strict=True)
        ]
        alone = all(last - first <= 1 for first, last in spans)
        if not (alone and (path, spans[0][0], spans[1][0]) in self.damaged):
            how = Resampling.average if smooth else Resampling.nearest
            try:
                values = file.read(
                    list(numbers), window=windows.Window(*window), out_shape=(len(numbers), *shape), resampling=how
                )
                return values, _everywhere(shape)
            except RasterioIOError:
                pass  # is counted below, part by part
        if alone or (not full and max(shape) <= SMALLEST_PART):
            self.damaged.add((path, spans[0][0], spans[1][0]) if alone else (path, -1, -1))
            return np.zeros((len(numbers), *shape), file.dtypes[numbers[0] - 1]), np.zeros(shape, bool)
        axis = int(shape[0] >= shape[1] and shape[0] > 1)  # 0: left and right, 1: above and below
        if full and spans[axis][1] - spans[axis][0] <= 1:
            axis = 1 - axis
        count = shape[1 - axis]
        cut = count // 2
        if full:
            cut = (spans[axis][0] + spans[axis][1]) // 2 * block[axis] - int(window[axis])
        halves = []
        for first, last in ((0, cut), (cut, count)):
            start, length = list(window[:2]), list(window[2:])
            start[axis] += first * window[2 + axis] / count
            length[axis] = (last - first) * window[2 + axis] / count
            size = (last - first, shape[1]) if axis else (shape[0], last - first)
            if full:
                start, length = map(round, start), map(round, length)
            halves.append(self._decode(file, path, numbers, (*start, *length), size, smooth))
        (one, first), (other, second) = halves
        return np.concatenate([one, other], axis=2 - axis), np.concatenate([first, second], axis=1 - axis)

    def _valid(self, file: Any, band: Band, values: np.ndarray, window: Sequence[float], shape: Size) -> np.ndarray:
        """Where the values [h, w] of a band are data: not nodata, NaN or infinite, and not masked or transparent."""
        from rasterio import windows
        from rasterio.enums import MaskFlags
        from rasterio.errors import RasterioIOError

        nodata = self.nodata if self.nodata is not None else band.nodata
        flags = file.mask_flag_enums[band.number - 1]
        if nodata is None and MaskFlags.nodata in flags:
            nodata = file.nodatavals[band.number - 1]
        valid = _valid(values, nodata)
        if MaskFlags.per_dataset in flags and (MaskFlags.alpha not in flags or alpha_of(file) is not None):
            try:
                valid = _both(valid, file.read_masks(band.number, window=windows.Window(*window), out_shape=shape) > 0)
            except RasterioIOError:
                self.damaged.add((band.path, -1, -1))
                valid = np.zeros(shape, bool)
        return valid


def _picture(file: Any, path: str, numbers: Sequence[int]) -> np.ndarray:
    """Values [bands, h, w] of a whole picture, in two parts: GDAL passes over the missing end of a PNG that is read in
    one."""
    from rasterio import windows
    from rasterio.errors import RasterioIOError

    middle = (file.height + 1) // 2
    parts = [(0, middle), (middle, file.height - middle)]
    try:
        return np.concatenate(
            [
                file.read(list(numbers), window=windows.Window(0, top, file.width, rows))
                for top, rows in parts[: file.height]
            ],
            axis=1,
        )
    except RasterioIOError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise EarthGPTError(f"{path} is damaged: {reason}") from None


# Where a file lies on the grid: for columns and for rows, the pixels of the file that a pixel of the grid is long, and
# the pixel of the file at which the grid begins.
OnGrid = tuple[tuple[float, float], tuple[float, float]]


def _lie(path: str, own: tuple[Size, Affine, Any], grid_path: str, grid: tuple[Size, Affine, Any]) -> OnGrid:
    (size, transform, crs), (grid_size, grid_transform, grid_crs) = own, grid
    if (size, transform) == (grid_size, grid_transform):
        return (1.0, 0.0), (1.0, 0.0)
    if crs != grid_crs or crs is None or any(one[k] for one in (transform, grid_transform) for k in (1, 3)):
        raise EarthGPTError(f"{path} and {grid_path} do not lie on one grid; warp them to one first (gdalwarp).")
    columns = grid_transform[0] / transform[0], (grid_transform[2] - transform[2]) / transform[0]
    rows = grid_transform[4] / transform[4], (grid_transform[5] - transform[5]) / transform[4]
    return columns, rows


def _span(start: int, length: int, count: int, step: float, begin: float, most: int) -> tuple[int, int, float, float]:
    """Of ``count`` places for ``length`` pixels of the grid, those that lie on a file of ``most`` pixels: the first,
    how many, and where in the file, as its first pixel and length.
    """
    if step == 1 and begin == 0:
        return 0, count, start, length
    middles = (start + (np.arange(count) + 0.5) * length / count) * step + begin
    inside = np.flatnonzero((middles >= 0) & (middles < most))
    if not inside.size:
        return 0, 0, 0.0, 0.0
    first, number = int(inside[0]), int(inside.size)
    low = max(0.0, (start + first * length / count) * step + begin)
    high = min(float(most), (start + (first + number) * length / count) * step + begin)
    return first, number, low, high - low


def reduced(size: Size, side: int) -> Size:
    """(width, height) of an image that is brought to at most ``side`` pixels a side."""
    part = min(1.0, side / max(size))
    return max(1, round(size[0] * part)), max(1, round(size[1] * part))


def _everywhere(shape: Sequence[int]) -> np.ndarray:
    """A mask that is true everywhere and takes no memory."""
    return np.broadcast_to(np.True_, shape)


def _is_everywhere(mask: np.ndarray) -> bool:
    return not any(mask.strides)


def _both(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where both masks are true."""
    if _is_everywhere(one) or _is_everywhere(other):
        return other if _is_everywhere(one) else one
    return one & other


def any_band(valid: np.ndarray) -> np.ndarray | None:
    """Where a band is valid, bool [h, w], of a mask [h, w, bands]; None for everywhere."""
    if _is_everywhere(valid):
        return None
    found = valid.any(-1)
    return None if found.all() else found


def _valid(values: np.ndarray, nodata: float | None) -> np.ndarray:
    """Where values are finite and not nodata."""
    valid = _everywhere(values.shape)
    if values.dtype.kind in "fc":
        finite = np.isfinite(values)
        valid = valid if finite.all() else finite
    if nodata is None or math.isnan(nodata):
        return valid
    if values.dtype.kind in "ui":
        limits = np.iinfo(values.dtype)
        if not math.isfinite(nodata) or nodata != int(nodata) or not limits.min <= nodata <= limits.max:
            return valid
    with np.errstate(over="ignore"):
        return _both(valid, values != values.dtype.type(nodata))


def _cut(
    values: np.ndarray, valid: np.ndarray, window: Window, size: Size, smooth: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A window of values [h, w, bands] and of where they are valid, at another size."""
    x, y, width, height = window
    if window[2:] == size:
        part = np.s_[y : y + height, x : x + width]
        return values[part], valid[part]
    starts = x + np.arange(size[0]) * width // size[0], y + np.arange(size[1]) * height // size[1]
    if not smooth:
        nearest = [
            start + length // number // 2 for start, length, number in zip(starts, (width, height), size, strict=True)
        ]
        return values[nearest[1][:, None], nearest[0]], valid[nearest[1][:, None], nearest[0]]
    part = np.s_[y : y + height, x : x + width]
    sums = []
    for layer in (np.where(valid[part], values[part], 0), valid[part]):
        layer = np.add.reduceat(layer, starts[1] - y, axis=0, dtype=np.float64)
        sums.append(np.add.reduceat(layer, starts[0] - x, axis=1))
    mean = sums[0] / np.maximum(sums[1], 1)
    return (np.rint(mean) if values.dtype.kind in "ui" else mean).astype(values.dtype), sums[1] > 0


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An image [h, w, bands] as it was seen: EXIF 2.32, tag 274."""
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1] if orientation in (2, 3) else pixels[::-1]
    if orientation in (3, 4):
        pixels = pixels[::-1]
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[::-1] if orientation in (7, 8) else pixels


def _stored_bands(file: Any, path: str, read: int) -> int:
    """How many bands are decoded for those that are read. Raises EarthGPTError for blocks that are too large."""
    height, width = file.block_shapes[0]
    mixed = file.count if file.interleaving is not None and file.interleaving.name == "pixel" else 1
    wide = max(16 if "complex" in kind else np.dtype(kind).itemsize for kind in file.dtypes)
    size = width * height * mixed * wide
    if size > MOST_BLOCK_BYTES:
        raise EarthGPTError(
            f"{path} is decoded in blocks of {width:,} x {height:,} pixels, {size / 2**30:,.1f} GB each; convert it "
            "first: gdal_translate -of COG."
        )
    return max(mixed, read)


def _table(file: Any, number: int) -> np.ndarray | None:
    """The colours of a palette, uint8 [n, 3]; black and white for one bit; None for values that are no indices."""
    from rasterio.enums import ColorInterp

    if file.colorinterp[number - 1] is ColorInterp.palette and file.dtypes[number - 1] in ("uint8", "uint16"):
        table = file.colormap(number)
        return np.array([table.get(i, (0, 0, 0))[:3] for i in range(max(table) + 1)], np.uint8)
    if file.tags(number, ns="IMAGE_STRUCTURE").get("NBITS") == "1":
        return np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    return None

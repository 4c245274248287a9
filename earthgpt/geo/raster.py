"""Any image as a Raster: 8-bit pixels for a model, and where on Earth they lie."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from earthgpt.geo.sensors import Stretch, stretches_of, to_8bit, to_rgb8
from earthgpt.geo.tiles import Window
from earthgpt.types import EarthGPTError, Sensor, Size

# A model sees a few hundred pixels a side: larger files are read reduced, so memory does not grow with them.
LARGEST_SIDE = 2048
# What is decoded at once of a local file, in pixels: 400 million of DOTA 2.0 are well below, a bomb is above.
MOST_PIXELS = 2**30
_ORIENTATION = 0x0112  # of EXIF; 5 to 8 swap width and height
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Raster:
    """An image with its place on Earth.

    pixels: uint8 [h, w, 3]; reduced where the file is larger than ``LARGEST_SIDE``.
    size: (width, height) of the file in pixels. sensor: what took it. name: where it came from, for messages.
    crs: the coordinate reference system as text (authority code or WKT), None without one.
    transform: (a, b, c, d, e, f) with ``x = a * column + b * row + c`` and ``y = d * column + e * row + f`` at pixel
        corners of the full file; None without one.
    """

    pixels: np.ndarray
    size: Size
    sensor: Sensor = Sensor.OPTICAL
    name: str = ""
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None


def open_raster(
    source: str | Path | np.ndarray | Image.Image | Raster | Callable[[], Any], sensor: Sensor | str | None = None
) -> Raster:
    """A Raster from a PNG, JPEG or TIFF file, an array ([H, W] or [H, W, C] of any numeric type), or a PIL image.

    ``sensor`` decides how values that are not 8-bit are stretched; None means optical. GeoTIFFs keep their place
    when rasterio is there (extra "geo"); without it they open as plain pictures.
    Raises EarthGPTError for a file that is missing, empty, damaged or no image, and for an unknown sensor.
    """
    if isinstance(source, Raster):
        return source
    sensor = _sensor(sensor)
    if callable(source):
        source = source()
    if isinstance(source, np.ndarray):
        pixels = to_rgb8(source, sensor)
        return Raster(pixels, (pixels.shape[1], pixels.shape[0]), sensor, "array")
    if isinstance(source, Image.Image):
        return Raster(_pillow(source, sensor), source.size, sensor, "image")
    return _open_file(Path(source), sensor)


def read_pixels(path: str | Path, window: Window | None = None, sensor: Sensor | str | None = None) -> np.ndarray:
    """The pixels of a file, or of a window (left, top, width, height) of it, at full size: uint8, [H, W] for one band
    and [H, W, 3] for colours.

    Values that are not 8-bit are stretched as those of the whole image, so neighbouring windows look alike. Of a TIFF
    the window alone is read when rasterio is there (extra "geo"). Other files are decoded whole; the last one that a
    window was read of is kept, so its windows one after the other cost one decoding.
    Raises EarthGPTError for what ``open_raster`` does, for a window that is not inside the image, and where more than
    ``MOST_PIXELS`` would be decoded.
    """
    path, sensor = Path(path), _sensor(sensor)
    if _is_geotiff(path):
        return _read_geotiff(path, window, sensor)
    if window is None:
        return np.array(_decode(path, sensor))
    image = _last_decoded(path, path.stat().st_mtime_ns, sensor)
    left, top, width, height = _inside(window, image.size, path)
    return np.array(image.crop((left, top, left + width, top + height)))


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """A local file as Pillow opens it, but of up to ``MOST_PIXELS``, where Pillow alone suspects an attack.

    Raises EarthGPTError beyond, and OSError, SyntaxError or ValueError for a file that is no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path)
        except Image.DecompressionBombError:
            with path.open("rb") as file:
                head = file.read(16)
            accepting = (factory for factory, accept in Image.OPEN.values() if accept and accept(head) is True)
            image = next(accepting)(path)
        with image:
            _not_too_large(image.size, path)
            yield image


def _sensor(sensor: Sensor | str | None) -> Sensor:
    try:
        return Sensor(sensor or Sensor.OPTICAL)
    except ValueError:
        raise EarthGPTError(f"The sensor is one of {', '.join(Sensor)}; not {sensor!r}.") from None


def _is_geotiff(path: Path) -> bool:
    """Whether the file is a TIFF that rasterio can open. Raises EarthGPTError where there is nothing to read."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise EarthGPTError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise EarthGPTError(f"{path} is a folder; name an image file.") from None
    except OSError as error:
        raise EarthGPTError(f"Cannot read {path}: {error.strerror}.") from None
    if not head:
        raise EarthGPTError(f"{path} is empty; copy or download it again.")
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return head[:4] in _TIFF


def _not_too_large(size: Size, path: Path) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise EarthGPTError(
            f"{path}: {size[0]:,} x {size[1]:,} pixels are more than the {MOST_PIXELS:,} that are read at once; "
            "make it a GeoTIFF and read windows of it."
        )


def _inside(window: Window, size: Size, path: Path) -> Window:
    left, top, width, height = window
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[0] or top + height > size[1]:
        raise EarthGPTError(f"The window {left},{top},{width},{height} is not inside {path} of {size[0]} x {size[1]}.")
    return window


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What Pillow raises as one line about the file."""
    try:
        yield
    except UnidentifiedImageError:
        raise EarthGPTError(f"{path} is not an image; give a PNG, JPEG or TIFF file.") from None
    except Image.DecompressionBombError:
        raise EarthGPTError(f"{path} has too many pixels for this format; convert it to a GeoTIFF.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise EarthGPTError(f"{path} is damaged: {error}.") from None


def _open_file(path: Path, sensor: Sensor) -> Raster:
    if _is_geotiff(path):
        return _open_geotiff(path, sensor)
    with warnings.catch_warnings(), _told(path):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            size, turned = image.size, image.getexif().get(_ORIENTATION, 1) > 4
            if image.mode in ("L", "RGB"):
                image.draft(None, (LARGEST_SIDE, LARGEST_SIDE))  # reads a large JPEG reduced: image.size changes
            # Cameras store how they were held; boxes are in the frame of the image as it is shown.
            pixels = _pillow(ImageOps.exif_transpose(image), sensor)
            return Raster(pixels, size[::-1] if turned else size, sensor, str(path))


def _decode(path: Path, sensor: Sensor) -> Image.Image:
    """The whole image in mode L or RGB."""
    with _told(path), open_image(path) as image:
        ImageOps.exif_transpose(image, in_place=True)  # without a copy: the largest images take 1.6 GB
        image.load()
        image = _plain(image)
        return image if image.mode in ("L", "RGB") else Image.fromarray(to_8bit(np.asarray(image), sensor))


@lru_cache(maxsize=1)
def _last_decoded(path: Path, _modified: int, sensor: Sensor) -> Image.Image:
    return _decode(path, sensor)


def _plain(image: Image.Image) -> Image.Image:
    """In mode L, RGB, or one of wide numbers."""
    if image.mode in ("L", "RGB") or image.mode.startswith(("I", "F")):
        return image
    return image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")


def _pillow(image: Image.Image, sensor: Sensor) -> np.ndarray:
    image = _plain(image)
    if max(image.size) > LARGEST_SIDE:
        image = image.copy()
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return to_rgb8(np.asarray(image), sensor)


@contextmanager
def _geotiff(path: Path) -> Iterator[Any]:
    """The file as rasterio opens it; what goes wrong is told in one line."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as file:
                yield file
        except (RasterioError, ValueError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise EarthGPTError(f"{path} is damaged or no TIFF: {reason}") from None


def _open_geotiff(path: Path, sensor: Sensor) -> Raster:
    with _geotiff(path) as file:
        values, valid = _reduced(file)
        return Raster(
            to_rgb8(values, sensor, valid),
            (file.width, file.height),
            sensor,
            str(path),
            file.crs.to_string() if file.crs else None,
            None if file.transform.is_identity else tuple(file.transform)[:6],
        )


def _read_geotiff(path: Path, window: Window | None, sensor: Sensor) -> np.ndarray:
    with _geotiff(path) as file:
        size = file.width, file.height
        window = (0, 0, *size) if window is None else _inside(window, size, path)
        _not_too_large(window[2:], path)
        values, valid = _values(file, window, window[2:])
        stretches = () if values.dtype == np.uint8 else _stretches(path, path.stat().st_mtime_ns, sensor)
        return to_8bit(values, sensor, valid, stretches)


@lru_cache(maxsize=1024)
def _stretches(path: Path, _modified: int, sensor: Sensor) -> tuple[Stretch, ...]:
    """Those of the whole image, as ``open_raster`` finds them."""
    with _geotiff(path) as file:
        values, valid = _reduced(file)
        return stretches_of(values, sensor, valid)


def _reduced(file: Any) -> tuple[np.ndarray, np.ndarray | None]:
    part = min(1.0, LARGEST_SIDE / max(file.width, file.height))
    size = max(1, round(file.width * part)), max(1, round(file.height * part))
    return _values(file, (0, 0, file.width, file.height), size)


def _values(file: Any, window: Window, size: Size) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of a window of a GeoTIFF at another size, [h, w, 1 or 3], and where they are valid, [h, w]; None for
    everywhere.
    """
    from rasterio import windows
    from rasterio.enums import ColorInterp

    kinds = list(file.colorinterp)
    colours = [i + 1 for i, kind in enumerate(kinds) if kind is not ColorInterp.alpha]
    bands = colours[:3] if len(colours) >= 3 else colours[:1]
    named = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(kind in kinds for kind in named):  # not always the first three, and not always in this order
        bands = [kinds.index(kind) + 1 for kind in named]
    where, shape = windows.Window(*window), size[::-1]
    values = file.read(bands, window=where, out_shape=(len(bands), *shape)).transpose(1, 2, 0)
    if kinds[0] is ColorInterp.palette:
        table = file.colormap(1)
        colour = np.array([table.get(i, (0, 0, 0))[:3] for i in range(max(table) + 1)], np.uint8)
        values = colour[np.minimum(values[..., 0], len(colour) - 1)]
    valid = file.dataset_mask(window=where, out_shape=shape) > 0
    return values, None if valid.all() else valid

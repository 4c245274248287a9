"""Any image as a Raster: 8-bit pixels for a model, and where on Earth they lie."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from earthgpt.geo.sensors import to_rgb8
from earthgpt.types import EarthGPTError, Sensor, Size

# A model sees a few hundred pixels a side: larger files are read reduced, so memory does not grow with them.
LARGEST_SIDE = 2048
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
    try:
        sensor = Sensor(sensor or Sensor.OPTICAL)
    except ValueError:
        raise EarthGPTError(f"The sensor is one of {', '.join(Sensor)}; not {sensor!r}.") from None
    if callable(source):
        source = source()
    if isinstance(source, np.ndarray):
        pixels = to_rgb8(source, sensor)
        return Raster(pixels, (pixels.shape[1], pixels.shape[0]), sensor, "array")
    if isinstance(source, Image.Image):
        return Raster(_pillow(source, sensor), source.size, sensor, "image")
    return _open_file(Path(source), sensor)


def _open_file(path: Path, sensor: Sensor) -> Raster:
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
    if head[:4] in _TIFF:
        try:
            import rasterio  # noqa: F401
        except ImportError:
            pass
        else:
            return _open_geotiff(path, sensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                size, turned = image.size, image.getexif().get(_ORIENTATION, 1) > 4
                if image.mode in ("L", "RGB"):
                    image.draft(None, (LARGEST_SIDE, LARGEST_SIDE))  # reads a large JPEG reduced: image.size changes
                # Cameras store how they were held; boxes are in the frame of the image as it is shown.
                pixels = _pillow(ImageOps.exif_transpose(image), sensor)
                return Raster(pixels, size[::-1] if turned else size, sensor, str(path))
        except UnidentifiedImageError:
            raise EarthGPTError(f"{path} is not an image; give a PNG, JPEG or TIFF file.") from None
        except Image.DecompressionBombError:
            raise EarthGPTError(f"{path} has too many pixels for this format; convert it to a GeoTIFF.") from None
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise EarthGPTError(f"{path} is damaged: {error}.") from None


def _pillow(image: Image.Image, sensor: Sensor) -> np.ndarray:
    if image.mode not in ("L", "RGB") and not image.mode.startswith(("I", "F")):
        image = image.convert("RGB")
    if max(image.size) > LARGEST_SIDE:
        image = image.copy()
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return to_rgb8(np.asarray(image), sensor)


def _open_geotiff(path: Path, sensor: Sensor) -> Raster:
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as file:
                kinds = list(file.colorinterp)
                colours = [i + 1 for i, kind in enumerate(kinds) if kind is not ColorInterp.alpha]
                bands = colours[:3] if len(colours) >= 3 else colours[:1]
                named = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
                if all(kind in kinds for kind in named):  # not always the first three, and not always in this order
                    bands = [kinds.index(kind) + 1 for kind in named]
                part = min(1.0, LARGEST_SIDE / max(file.width, file.height))
                shape = max(1, round(file.height * part)), max(1, round(file.width * part))
                values = file.read(bands, out_shape=(len(bands), *shape))  # [C, h, w]
                if kinds[0] is ColorInterp.palette:
                    table = file.colormap(1)
                    colour = np.array([table.get(i, (0, 0, 0))[:3] for i in range(max(table) + 1)], np.uint8)
                    values = colour[np.minimum(values[0], len(colour) - 1)].transpose(2, 0, 1)
                valid = file.dataset_mask(out_shape=shape) > 0  # [h, w]
                return Raster(
                    to_rgb8(values.transpose(1, 2, 0), sensor, None if valid.all() else valid),
                    (file.width, file.height),
                    sensor,
                    str(path),
                    file.crs.to_string() if file.crs else None,
                    None if file.transform.is_identity else tuple(file.transform)[:6],
                )
        except (RasterioError, ValueError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise EarthGPTError(f"{path} is damaged or no TIFF: {reason}") from None

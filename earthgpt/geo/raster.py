"""Any image as a Raster: 8-bit pixels for a model, and where on Earth they lie."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from earthgpt import image_files
from earthgpt.geo.place import Place
from earthgpt.geo.readers import MOST_PIXELS
from earthgpt.geo.scene import Scene, open_scene
from earthgpt.geo.sensors import named_sensor, to_8bit, to_rgb8
from earthgpt.geo.sources import MAPS
from earthgpt.geo.tiles import Window, inside
from earthgpt.types import EarthGPTError, Sensor, Size

# A model sees a few hundred pixels a side: larger files are read reduced, so memory does not grow with them.
LARGEST_SIDE = 2048
# What undoes a turn that EXIF asks for, by its number.
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
# How files begin that hold maps: TIFF, JPEG 2000, VRT, HDF5 and netCDF 4, netCDF 3, NITF.
_MAPS = (
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP",
    b"\xffO\xffQ",
    b"<VRT",
    b"\x89HDF",
    b"CDF\x01",
    b"CDF\x02",
    b"NITF",
)
_WORLD_FILES = {".png": (".pgw", ".wld"), ".jpg": (".jgw", ".wld"), ".jpeg": (".jgw", ".wld"), ".bmp": (".bpw", ".wld")}


@dataclass(frozen=True)
class Raster:
    """An image with its place on Earth.

    pixels: uint8 [h, w, 3]; reduced where the file is larger than ``LARGEST_SIDE``.
    size: (width, height) of the file in pixels. sensor: what took it. name: where it came from, for messages.
    crs: the coordinate reference system as text (authority code or WKT), None without one.
    transform: (a, b, c, d, e, f) with ``x = a * column + b * row + c`` and ``y = d * column + e * row + f`` at pixel
        corners of the full file; None without one. place: what else is known of where it lies, as control points; None
        where ``crs`` and ``transform`` say all. gsd_m: metres a pixel, where they were given.
    """

    pixels: np.ndarray
    size: Size
    sensor: Sensor = Sensor.OPTICAL
    name: str = ""
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    place: Place | None = None
    gsd_m: float | None = None

    def __repr__(self) -> str:
        width, height = self.size
        return f"<Raster {self.name}: {width} x {height} pixels, {self.sensor}, {self.crs or 'no CRS'}>"

    @cached_property
    def digest(self) -> bytes:
        """What tells its pixels from others, in 32 bytes."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels)).digest()

    def _repr_png_(self) -> bytes:
        """The picture, as a notebook shows it."""
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "PNG")
        return file.getvalue()


def open_raster(
    source: str | Path | Sequence[str | Path] | np.ndarray | Image.Image | Scene | Raster | Callable[[], Any],
    sensor: Sensor | str | None = None,
    **options: Any,
) -> Raster:
    """A Raster from a file, an array or tensor ([H, W] or [H, W, C] of any numeric type), a PIL image, or a Scene.

    ``sensor`` decides how values that are not 8-bit are stretched; None to infer it from a map, or from the name of a
    picture. GeoTIFFs and other maps, folders and lists of bands keep their place when rasterio is there (extra "geo"),
    and ``options`` are those of ``open_scene``; without rasterio TIFFs open as plain pictures.
    Raises EarthGPTError for a file that is missing, empty, damaged or no image, one without a valid pixel, for an
    unknown sensor, and for a Raster or Scene that was opened as something else.
    """
    taken = Sensor.of(sensor or Sensor.OPTICAL)
    if callable(source):
        source = source()
    if isinstance(source, os.PathLike):
        source = Path(source)
    if isinstance(source, Raster | Scene):
        if options or (sensor and source.sensor != taken):
            asked = ", ".join([*([f"sensor {taken}"] if sensor else []), *options])
            raise EarthGPTError(f"{source.name} is open already, as {source.sensor}: open it with {asked} at once.")
        return source if isinstance(source, Raster) else _of_scene(source)
    if isinstance(source, Image.Image):
        if not options:
            return Raster(_pillow(source, taken), source.size, taken, "image")
        source = np.asarray(_plain(source))
    if hasattr(source, "__array__"):  # of another library, as a tensor
        try:
            source = np.asarray(source)
        except (RuntimeError, TypeError) as error:  # of gradients, bfloat16, or on a GPU
            raise EarthGPTError(f"A {type(source).__name__} is no array of numpy: {error}.") from None
    if isinstance(source, np.ndarray) and not options:
        pixels = to_rgb8(source, taken)
        return Raster(pixels, (pixels.shape[1], pixels.shape[0]), taken, "array")
    files = [source] if isinstance(source, str | Path) else source if isinstance(source, list | tuple) else ()
    if not isinstance(source, np.ndarray) and not (
        files and all(isinstance(one, str | Path) and str(one) for one in files)
    ):
        raise EarthGPTError(
            f"An image is the name of a file or of several with a band each, an array, a PIL image or a Scene; not a "
            f"{type(source).__name__}: {source!r:.60}. Bytes and open files are opened by PIL.Image.open."
        )
    if options or not isinstance(source, str | Path) or not is_picture(source):
        return _of_scene(open_scene(source, sensor, **options))
    path = Path(source)
    return _open_picture(path, taken if sensor else named_sensor([path.name])[0] or taken)


def is_picture(source: str | Path) -> bool:
    """Whether ``open_raster`` opens a file as a picture without a place, by Pillow. Raises as it does for a file that
    is missing or empty."""
    return "://" not in str(source) and not _is_map(Path(source))


def _of_scene(scene: Scene) -> Raster:
    pixels, valid = scene.preview(LARGEST_SIDE)
    _not_damaged(scene)
    if not valid.any():
        raise EarthGPTError(f"{scene.name} has no valid pixel: there is nothing to be seen in it.")
    known = scene.crs, scene.transform, scene.place, scene.gsd_m
    return Raster(pixels, scene.size, scene.sensor, scene.name, *known)


def _not_damaged(scene: Scene) -> None:
    if scene.damaged:
        raise EarthGPTError(f"{scene.name} is damaged: {scene.notes[-1]}")


def read_pixels(
    source: str | Path | Callable[[], Any], window: Window | None = None, sensor: Sensor | str | None = None
) -> np.ndarray:
    """The pixels of a file, or of a window (left, top, width, height) of it, at full size: uint8, [H, W] for one band
    and [H, W, 3] for colours. A function that renders them, as a ``Sample`` may have, is called.

    Values that are not 8-bit are stretched as those of the whole image, so neighbouring windows look alike. Of a TIFF
    the window alone is read when rasterio is there (extra "geo"). Other files are decoded whole; the last one that a
    window was read of is kept, so its windows one after the other cost one decoding.
    Raises EarthGPTError for what ``open_raster`` does, for a window that is not inside the image, and where more than
    ``MOST_PIXELS`` would be decoded.
    """
    if callable(source):
        pixels = np.asarray(source())
        if window is None:
            return pixels
        left, top, width, height = inside(window, pixels.shape[1::-1], source)
        return pixels[top : top + height, left : left + width]
    path, given, sensor = Path(source), sensor, Sensor.of(sensor or Sensor.OPTICAL)
    if _is_map(path):
        scene = _scene(path, path.stat().st_mtime_ns, None if given is None else sensor)
        x, y, width, height = (0, 0, *scene.size) if window is None else inside(window, scene.size, path)
        _not_too_large((width, height), path)
        pixels, _ = scene.window(x, y, width, height)
        _not_damaged(scene)
        return pixels if scene.coloured else np.array(pixels[..., 0])
    if window is None:
        return np.array(_decode(path, sensor))
    image = _last_decoded(path, path.stat().st_mtime_ns, sensor)
    left, top, width, height = inside(window, image.size, path)
    return np.array(image.crop((left, top, left + width, top + height)))


@contextmanager
def open_within_limit(path: Path) -> Iterator[Image.Image]:
    """A local file as Pillow opens it, but of up to ``MOST_PIXELS`` (``image_files.open_image``).

    Raises EarthGPTError beyond, and OSError, SyntaxError or ValueError for a file that is no image.
    """
    with image_files.open_image(path) as image:
        _not_too_large(image.size, path)
        yield image


def _is_map(path: Path) -> bool:
    """Whether the file, or folder of a product, is a map that rasterio can open. Raises EarthGPTError where there is
    nothing to read.
    """
    try:
        import rasterio  # noqa: F401
    except ImportError:
        able = False
    else:
        able = True
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise EarthGPTError(f"There is no file {path}.") from None
    except IsADirectoryError:
        if able:
            return True
        raise EarthGPTError(f"{path} is a folder; name an image file.") from None
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise EarthGPTError(f"Cannot read {path}: {getattr(error, 'strerror', error)}.") from None
    if not head:
        raise EarthGPTError(f"{path} is empty; copy or download it again.")
    beside = _WORLD_FILES.get(path.suffix.lower(), ())
    like = head.startswith(_MAPS) or path.suffix.lower() in MAPS
    return able and (like or any(path.with_suffix(ending).exists() for ending in beside))


def _not_too_large(size: Size, path: Path) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise EarthGPTError(
            f"{path}: {size[0]:,} x {size[1]:,} pixels are more than the {MOST_PIXELS:,} that are read at once; "
            "make it a GeoTIFF and read windows of it."
        )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What Pillow raises as one line about the file."""
    try:
        yield
    except UnidentifiedImageError:
        raise EarthGPTError(f"{path} is not an image; give a PNG, JPEG or TIFF file.") from None
    except Image.DecompressionBombError:
        raise EarthGPTError(f"{path} has too many pixels for this format; convert it to a GeoTIFF.") from None
    except image_files.UNREADABLE as error:
        raise EarthGPTError(f"{path} is damaged: {error}.") from None


def _open_picture(path: Path, sensor: Sensor) -> Raster:
    with _told(path), open_within_limit(path) as image:
        size = image_files.shown_size(image)
        if image.mode in ("L", "RGB"):
            image.draft(None, (LARGEST_SIDE, LARGEST_SIDE))  # reads a large JPEG reduced: image.size changes
        return Raster(_pillow(_shown(image), sensor), size, sensor, str(path))


def _decode(path: Path, sensor: Sensor) -> Image.Image:
    """The whole image in mode L or RGB."""
    with _told(path), open_within_limit(path) as image:
        image = _plain(_shown(image))
        return image if image.mode in ("L", "RGB") else Image.fromarray(to_8bit(np.asarray(image), sensor))


@lru_cache(maxsize=1)
def _last_decoded(path: Path, _modified: int, sensor: Sensor) -> Image.Image:
    return _decode(path, sensor)


def _shown(image: Image.Image) -> Image.Image:
    """An image as its camera was held, which is the frame of boxes; a TIFF as it is stored (``shown_size``)."""
    asked = image.getexif().get(image_files.ORIENTATION) if image.format == "TIFF" else None
    ImageOps.exif_transpose(image, in_place=True)  # without a copy: the largest images take 1.6 GB
    return image.transpose(_BACK[asked]) if asked in _BACK else image


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


@lru_cache(maxsize=32)
def _scene(path: Path, _modified: int, sensor: Sensor | None) -> Scene:
    return open_scene(path, sensor)

"""Image files as their headers tell of them: nothing is decoded here."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from earthgpt.types import Size

# What Pillow raises for what is missing or no image.
UNREADABLE = (EOFError, KeyError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)
NO_SIZE = "images of unknown size, left out"
ORIENTATION = 0x0112  # of EXIF; 5 to 8 swap width and height
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image file as Pillow opens it, however large: beyond some size Pillow alone suspects an attack.

    Raises what is in ``UNREADABLE`` for a file that is missing or no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path)
        except Image.DecompressionBombError:  # of DOTA 2.0, for one; a header does no harm
            with path.open("rb") as file:
                head = file.read(16)
            accepting = [factory for factory, accept in Image.OPEN.values() if accept and accept(head) is True]
            if not accepting:
                raise
            image = accepting[0](path)
        with image:
            yield image


def shown_size(image: Image.Image) -> Size:
    """(width, height) in the frame that boxes are in: as EXIF says that the image is to be shown; of a TIFF as it is
    stored, which is how GDAL reads it. Nothing is decoded.
    """
    if image.format == "TIFF":
        return image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]
    # Not ``image.getexif``: of a PNG without EXIF in its header that decodes the pixels, to look behind them.
    turned = Image.Image.getexif(image).get(ORIENTATION, 1) > 4
    return image.size[::-1] if turned else image.size


def image_size(path: Path) -> Size:
    """(width, height) as shown (``shown_size``), from the header: the pixels are not decoded."""
    with open_image(path) as image:
        return shown_size(image)


def size_of(path: Path, stated: Size, defects: Counter) -> Size | None:
    """(width, height) of an image: as shown, or else as its annotation states it, or None.

    Images that are missing, broken, or of another size than stated are counted in ``defects``.
    """
    try:
        size = image_size(path)
    except FileNotFoundError:
        defects["missing images"] += 1
    except UNREADABLE:
        defects["unreadable images"] += 1
    else:
        defects["wrong sizes in annotations"] += min(stated) > 0 and size != stated
        return size
    if min(stated) > 0:
        return stated
    defects[NO_SIZE] += 1
    return None


def size_if_there(path: Path, defects: Counter) -> Size:
    """(width, height) of an image; (0, 0), with a count, where it is missing or broken: words hold without it."""
    try:
        return image_size(path)
    except FileNotFoundError:
        defects["missing images"] += 1
    except UNREADABLE:
        defects["unreadable images"] += 1
    return 0, 0

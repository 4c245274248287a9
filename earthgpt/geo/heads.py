"""The head of a TIFF from somebody unknown, read before anything is decoded."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earthgpt.types import EarthGPTError, Size


@dataclass(frozen=True, slots=True)
class TiffHead:
    """What a TIFF says of itself.

    size: (width, height) in pixels. block_bytes: of what is decoded at once. elsewhere: whether it names another file,
    from which GDAL would take its overviews, wherever that is.
    """

    size: Size
    block_bytes: int
    elsewhere: bool


def tiff_head(path: Path) -> TiffHead:
    """The head of a TIFF; nothing beside it is looked for, and nothing is fetched.

    Raises EarthGPTError for a damaged one.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    shut = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    with warnings.catch_warnings(), rasterio.Env(**shut):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path, driver="GTiff") as file:
                kinds = ("complex64" if "complex" in kind else kind for kind in file.dtypes)
                wide = max((np.dtype(kind).itemsize for kind in kinds), default=1)
                together = file.count if file.interleaving and file.interleaving.name == "pixel" else 1
                block = math.prod(file.block_shapes[0]) if file.count else 0
                return TiffHead((file.width, file.height), block * wide * together, bool(file.tags(ns="OVERVIEWS")))
        except (RasterioError, ValueError, TypeError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise EarthGPTError(f"{path} is damaged or no TIFF: {reason}") from None

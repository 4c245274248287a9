"""Pixels written as a GeoTIFF without any library of maps: for scenes that are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin


def write_geotiff(path: Path, pixels: np.ndarray, west: float, north: float, resolution: float, epsg: int) -> None:
    """Pixels as a georeferenced, north-up TIFF: uint8 [H, W, 3], or uint8, uint16 or float32 [H, W].

    ``west`` and ``north`` are the outer corner of the top left pixel and ``resolution`` the side of a pixel, in the
    units of a projected system given by its EPSG code (GeoTIFF 1.1, OGC 19-008: tags 33550, 33922, 34735).
    """
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[33550] = (resolution, resolution, 0.0)
    tags[33922] = (0.0, 0.0, 0.0, west, north, 0.0)
    # Version 1.1.0, three keys: model type projected, raster pixel is area, projected system.
    tags[34735] = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg)
    tags.tagtype[33550] = tags.tagtype[33922] = 12  # DOUBLE
    tags.tagtype[34735] = 3  # SHORT
    Image.fromarray(pixels).save(path, format="TIFF", tiffinfo=tags, compression="tiff_adobe_deflate")

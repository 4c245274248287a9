"""Features drawn on their scene: a picture, or a GeoTIFF of every pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from earthgpt.geo.layers import Sink
from earthgpt.geo.pictures import CASING, COLOURS, draw, file_format, outline, tag
from earthgpt.geo.placing import Placed
from earthgpt.geo.raster import Raster
from earthgpt.types import EarthGPTError, Size

STRIP = 512  # rows that are drawn at once
MARGIN = 24  # of rows that lines and labels reach beyond their box


class Picture(Sink):
    """A PNG or JPEG of the whole scene, at most 2,048 pixels a side, with boxes, labels, a legend and a scale bar."""

    def begin(self) -> None:
        self.regions = []

    def write(self, features: Sequence[Placed]) -> None:
        self.regions += [one.region for one in features]

    def finish(self) -> None:
        picture = draw(self.layer.raster, self.regions, legend=True, gsd_m=self.layer.gsd_m)
        picture.save(self.path, file_format(self.path), quality=90)


class AnnotatedGeoTIFF(Sink):
    """The scene as the model saw it (8 bits) with boxes burnt in, as a cloud-optimised GeoTIFF in its CRS.

    Rows are drawn ``STRIP`` at a time. A label stands in its box where the box is as wide as the label.
    """

    def begin(self) -> None:
        try:
            import rasterio  # noqa: F401
        except ImportError:
            raise EarthGPTError('GeoTIFFs need rasterio: pip install "earthgpt[geo]".') from None
        self.waiting = self.path.with_suffix(".waiting.tif")
        self.files = (self.waiting,)
        self.corners, self.tops, self.bottoms, self.texts, self.classes = [], [], [], [], []

    def write(self, features: Sequence[Placed]) -> None:
        for one in features:
            region = one.region
            self.corners.append(np.array(region.box.corners, np.float32))
            self.tops.append(region.box.bounds.top)
            self.bottoms.append(region.box.bounds.bottom)
            self.texts.append(region.label if region.score is None else f"{region.label} {region.score:.2f}")
            self.classes.append(self.layer.labels[region.label])

    def finish(self) -> None:
        from warnings import catch_warnings, simplefilter

        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
        from rasterio.shutil import copy
        from rasterio.windows import Window

        size, strips = _strips(self.layer.raster)
        profile = {"driver": "GTiff", "width": size[0], "height": size[1], "count": 3, "dtype": "uint8"}
        profile |= {"photometric": "RGB", "tiled": True, "compress": "zstd", "bigtiff": "if_safer"}
        if self.layer.crs:
            a, b, c, d, e, f = self.layer.place.transform
            x, y = self.layer.size[0] / size[0], self.layer.size[1] / size[1]
            profile |= {"crs": self.layer.crs, "transform": rasterio.Affine(a * x, b * y, c, d * x, e * y, f)}
        tops, bottoms = np.array(self.tops) * size[1], np.array(self.bottoms) * size[1]
        font = ImageFont.load_default(size=14)
        try:
            with catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(self.waiting, "w", **profile) as file:
                    for top, pixels, valid in strips:
                        height = len(pixels)
                        shown = np.flatnonzero((bottoms >= top - MARGIN) & (tops <= top + height + MARGIN))
                        drawn = self._drawn(pixels, top, size, shown.tolist(), font)
                        where = Window(0, top, size[0], height)
                        file.write(drawn.transpose(2, 0, 1), window=where)
                        file.write_mask(valid | (drawn != pixels).any(axis=2), window=where)
                copy(self.waiting, self.path, driver="COG", compress="deflate", predictor="yes", bigtiff="if_safer")
        except RasterioError as error:
            raise OSError(None, str(error)) from error

    def _drawn(self, pixels: np.ndarray, top: int, size: Size, shown: list[int], font: Any) -> np.ndarray:
        picture = Image.fromarray(pixels)
        pen = ImageDraw.Draw(picture)
        for casing in (True, False):
            for i in shown:
                points = [(float(x) * size[0], float(y) * size[1] - top) for x, y in self.corners[i]]
                outline(pen, points, CASING if casing else self._colour(i), 4 if casing else 2)
        for i in shown:
            left, right = self.corners[i][:, 0].min() * size[0], self.corners[i][:, 0].max() * size[0]
            _, _, width, height = font.getbbox(self.texts[i])
            y = self.tops[i] * size[1] - top
            if width + 6 <= right - left:
                tag(pen, (left, y, left + width + 6, y + height + 4), self.texts[i], self._colour(i), font)
        return np.asarray(picture)

    def _colour(self, i: int) -> str:
        return COLOURS[self.classes[i] % len(COLOURS)]


def _strips(raster: Any) -> tuple[Size, Iterator[tuple[int, np.ndarray, np.ndarray]]]:
    """The size of the drawing, and row numbers, pixels [h, w, 3] and validity [h, w] from top to bottom."""
    if isinstance(raster, Raster):  # holds its pixels, reduced where the file is large
        height, width = raster.pixels.shape[:2]
        return (width, height), iter([(0, raster.pixels, np.ones((height, width), bool))])
    width, height = raster.size
    tops = range(0, height, STRIP)
    return (width, height), ((top, *raster.window(0, top, width, min(STRIP, height - top))) for top in tops)

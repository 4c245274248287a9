"""Made-up pixels have a place on Earth, for every reader of maps."""

import numpy as np
import pytest

from earthgpt.geo.geotiff import write_geotiff


@pytest.mark.parametrize(
    "pixels",
    [
        np.arange(60, dtype=np.uint8).reshape(4, 5, 3),
        np.arange(20, dtype=np.uint8).reshape(4, 5),
        np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000,
        np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5),
    ],
    ids=lambda pixels: f"{pixels.dtype}-{pixels.ndim}",
)
def test_a_geotiff_holds_the_pixels_and_their_place(tmp_path, pixels):
    rasterio = pytest.importorskip("rasterio")
    write_geotiff(tmp_path / "a.tif", pixels, 448_250.5, 5_411_000.25, 2.5, 32633)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.crs.to_epsg() == 32633
        assert tuple(file.transform)[:6] == (2.5, 0.0, 448_250.5, 0.0, -2.5, 5_411_000.25)
        assert (file.width, file.height) == (5, 4)
        values = file.read()
        assert values.dtype == pixels.dtype
        assert np.array_equal(values, pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None])
        assert file.tags().get("AREA_OR_POINT") == "Area"

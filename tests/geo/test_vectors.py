"""Regions on the map are where they are in the image."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.raster import Raster, open_raster
from earthgpt.geo.vectors import features, write
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region

PIXELS = np.zeros((10, 20, 3), np.uint8)
PLAIN = Raster(PIXELS, (20, 10))
SHIP = Region(Box(0.1, 0.2, 0.5, 0.6), "ship", 0.87654)


def area(ring) -> float:
    """Twice the signed area: positive for counterclockwise."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))


def ring_of(collection, which=0):
    (ring,) = collection["features"][which]["geometry"]["coordinates"]
    return ring


def test_without_a_place_the_coordinates_are_pixels_and_say_so():
    found = features([SHIP], PLAIN)
    assert found["coordinates"] == "pixels of the image, y down"
    assert sorted(map(tuple, ring_of(found)[:4])) == [(2.0, 2.0), (2.0, 6.0), (10.0, 2.0), (10.0, 6.0)]
    corners = [[2.0, 2.0], [10.0, 2.0], [10.0, 6.0], [2.0, 6.0]]
    assert found["features"][0]["properties"] == {"label": "ship", "score": 0.8765, "pixels": corners}


def test_a_ring_is_closed_and_counterclockwise():
    diamond = Region(OrientedBox(((0.5, 0.1), (0.9, 0.5), (0.5, 0.9), (0.1, 0.5))), "ship")
    found = features([SHIP, diamond], PLAIN)
    for which in (0, 1):
        ring = ring_of(found, which)
        assert len(ring) == 5 and ring[0] == ring[-1]
        assert area(ring) > 0


def test_an_annotation_has_no_score():
    assert features([Region(SHIP.box, "ship")], PLAIN)["features"][0]["properties"].keys() == {"label", "pixels"}


def test_corners_on_the_map_are_those_of_the_projection(tmp_path):
    """UTM zone 31 about its middle, 3 degrees east, at the equator; worked out by hand.

    East of the middle by E metres lies longitude 3 + E / (0.9996 a) radians, to first order, and N metres north lies
    latitude N / (0.9996 a (1 - e2)), with a = 6378137 and e2 = 0.00669438.
    """
    warp = pytest.importorskip("rasterio.warp")
    write_geotiff(tmp_path / "a.tif", PIXELS, 500_000, 1_000, 100, 32631)  # 2,000 m wide, from 1,000 m north down to 0
    found = features([Region(Box(0, 0, 1, 1), "all"), SHIP], open_raster(tmp_path / "a.tif"))
    assert "coordinates" not in found
    ring = ring_of(found)
    assert len(ring) == 5 and ring[0] == ring[-1] and area(ring) > 0
    east = 3 + math.degrees(2000 / (0.9996 * 6378137))
    north = math.degrees(1000 / (0.9996 * 6378137 * (1 - 0.00669438)))
    assert east == pytest.approx(3.017974, abs=1e-6) and north == pytest.approx(0.009047, abs=1e-6)
    corners = sorted(map(tuple, ring[:4]))
    expected = [(3.0, 0.0), (3.0, north), (east, 0.0), (east, north)]
    for corner, wanted in zip(corners, expected, strict=True):
        assert corner == pytest.approx(wanted, abs=2e-7)  # two centimetres
    # The ship: x from 2 to 10 pixels of 100 m, y from 2 to 6 pixels below 1,000 m.
    xs, ys = warp.transform("EPSG:32631", "EPSG:4326", [500_200, 501_000], [400, 800])
    ship = ring_of(found, 1)
    assert (min(p[0] for p in ship), max(p[0] for p in ship)) == pytest.approx(tuple(xs), abs=1e-7)
    assert (min(p[1] for p in ship), max(p[1] for p in ship)) == pytest.approx(tuple(ys), abs=1e-7)


def test_longitude_comes_first(tmp_path):
    pytest.importorskip("rasterio")
    raster = Raster(PIXELS, (20, 10), crs="EPSG:4326", transform=(0.1, 0, 100.0, 0, -0.1, 50.0))
    ring = ring_of(features([Region(Box(0, 0, 1, 1), "all")], raster))
    assert sorted(map(tuple, ring[:4])) == [
        pytest.approx(point) for point in ((100.0, 49.0), (100.0, 50.0), (102.0, 49.0), (102.0, 50.0))
    ]


def test_a_rotated_image_is_rotated_on_the_map():
    pytest.importorskip("rasterio")
    # Columns go south and rows go east: x = 10 + 0.01 * row, y = 20 - 0.01 * column.
    raster = Raster(PIXELS, (20, 10), crs="EPSG:4326", transform=(0, 0.01, 10.0, -0.01, 0, 20.0))
    ring = ring_of(features([SHIP], raster))
    assert sorted(map(tuple, ring[:4])) == [
        pytest.approx(point) for point in ((10.02, 19.9), (10.02, 19.98), (10.06, 19.9), (10.06, 19.98))
    ]
    assert area(ring) > 0


def test_a_file_is_written_whole_and_read_back(tmp_path):
    write(tmp_path / "ships.geojson", [SHIP], PLAIN)
    assert json.loads((tmp_path / "ships.geojson").read_text()) == features([SHIP], PLAIN)
    write(tmp_path / "ships.geojson", [], PLAIN, overwrite=True)
    assert json.loads((tmp_path / "ships.geojson").read_text())["features"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ships.geojson", "ships.qml"]


@pytest.mark.parametrize("name", ["ships.shp", "ships"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    with pytest.raises(EarthGPTError, match=r"Results are written as .*\.geojson, .*; not"):
        write(tmp_path / name, [SHIP], PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(EarthGPTError, match=r"Cannot write .*: there is no folder"):
        write(tmp_path / "nowhere" / "ships.geojson", [SHIP], PLAIN)

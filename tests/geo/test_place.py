"""Where pixels lie on the Earth."""

import math

import numpy as np
import pytest
from PIL import Image

from earthgpt.geo.scene import open_scene
from earthgpt.types import EarthGPTError
from tests.geo.test_scene import write

rasterio = pytest.importorskip("rasterio")
UTM = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)}
RANDOM = np.random.default_rng(0)


def test_metres_a_pixel_are_of_the_ground(tmp_path):
    zeros = np.zeros((100, 100), np.uint8)
    for crs, transform, expected in (
        ("EPSG:32631", UTM["transform"], 10),
        # a degree of latitude at 60 degrees is 111,412 m and of longitude 55,800 m (WGS 84)
        ("EPSG:4326", rasterio.Affine(1e-3, 0, 10, 0, -1e-3, 60.05), math.sqrt(111.412 * 55.800)),
        # Web Mercator is stretched by 1 / cos(latitude): 60 degrees is at 8,399,738 m
        ("EPSG:3857", rasterio.Affine(10, 0, 0, 0, -10, 8_400_238), 5.005),
    ):
        scene = open_scene(write(tmp_path / "a.tif", zeros, crs=crs, transform=transform))
        assert scene.gsd_m == pytest.approx(expected, rel=2e-3), crs
    assert open_scene(tmp_path / "a.tif", gsd_m=0.5).gsd_m == 0.5


def test_a_turned_grid_keeps_its_corners(tmp_path):
    turned = rasterio.Affine(8, 6, 500_000, 6, -8, 4_000_000)
    scene = open_scene(write(tmp_path / "a.tif", np.zeros((20, 10), np.uint8), crs="EPSG:32631", transform=turned))
    assert scene.to_map([(0, 0), (10, 20)]).tolist() == [[500_000, 4_000_000], [500_200, 3_999_900]]
    assert scene.gsd_m == pytest.approx(10, rel=1e-3)


def test_longitudes_go_on_beyond_the_antimeridian(tmp_path):
    grid = {"crs": "EPSG:32601", "transform": rasterio.Affine(1000, 0, 250_000, 0, -1000, 2_000_000)}
    scene = open_scene(write(tmp_path / "a.tif", np.zeros((10, 200), np.uint8), **grid))
    (west, _), (east, _) = scene.to_wgs84([(0, 5), (-200, 5)])
    assert -180 < west < -175 and 175 < east < 180


def test_control_points_and_rpcs_place_a_scene_about(tmp_path):
    points = [
        rasterio.control.GroundControlPoint(row, column, 10 + column * 1e-3, 50 - row * 1e-3)
        for row in (0, 50, 100) for column in (0, 50, 100)
    ]  # fmt: skip
    scene = open_scene(write(tmp_path / "a.tif", np.zeros((100, 100), np.uint8), gcps=points, crs="EPSG:4326"))
    assert scene.crs == "EPSG:4326" and scene.gsd_m == pytest.approx(89.3, rel=5e-3)
    assert np.allclose(scene.to_map([(20, 30)]), [[10.02, 49.97]], atol=1e-6)
    assert np.allclose(scene.transform, (1e-3, 0, 10, 0, -1e-3, 50), atol=1e-6)
    assert any("approximate: from 9 ground control points" in note for note in scene.notes)
    rpcs = rasterio.rpc.RPC(
        height_off=0, height_scale=500, lat_off=50, lat_scale=0.05, long_off=10, long_scale=0.05, line_off=50,
        line_scale=50, samp_off=50, samp_scale=50, err_bias=None, err_rand=None,
        line_num_coeff=[0, 0, -1] + [0] * 17, line_den_coeff=[1] + [0] * 19,
        samp_num_coeff=[0, 1] + [0] * 18, samp_den_coeff=[1] + [0] * 19,
    )  # fmt: skip
    scene = open_scene(write(tmp_path / "b.tif", np.zeros((100, 100), np.uint8), rpcs=rpcs))
    assert np.allclose(scene.to_wgs84([(50, 50), (100, 0)]), [[10, 50], [10.05, 50.05]], atol=2e-3)
    assert any("RPC" in note for note in scene.notes)


def test_no_place_is_told(tmp_path):
    zeros = np.zeros((8, 8), np.uint8)
    for name, options, says in (
        ("none", {}, "There is no CRS"),
        ("transform", {"transform": UTM["transform"]}, "There is no CRS"),
        ("crs", {"crs": "EPSG:32631"}, "There is no transform"),
        ("nonsense", {"crs": "EPSG:4326", "transform": UTM["transform"]}, "does not fit its coordinates"),
    ):
        scene = open_scene(write(tmp_path / f"{name}.tif", zeros, **options))
        assert any(says in note and "coordinates are pixels" in note for note in scene.notes), (name, scene.notes)
        assert scene.crs is None and scene.gsd_m is None and scene.to_map([(1, 2)]).tolist() == [[1, 2]]
        with pytest.raises(EarthGPTError, match="no place on Earth"):
            scene.to_wgs84([(0, 0)])
    given = open_scene(tmp_path / "transform.tif", crs="EPSG:32631")
    assert given.crs == "EPSG:32631" and given.gsd_m == pytest.approx(10, rel=1e-3)
    with pytest.raises(EarthGPTError, match="'EPSG:1' is no coordinate reference system"):
        open_scene(tmp_path / "transform.tif", crs="EPSG:1")


def test_the_moon_is_not_the_earth(tmp_path):
    moon = 'GEOGCS["Moon",DATUM["Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Reference",0],UNIT["degree",0.0174532925]]'
    grid = {"crs": moon, "transform": rasterio.Affine(0.01, 0, 10, 0, -0.01, 10)}
    scene = open_scene(write(tmp_path / "a.tif", np.zeros((8, 8), np.uint8), **grid))
    assert not scene.place.on_earth and scene.crs is not None
    assert any("not of the Earth (radius 1,737 km)" in note for note in scene.notes)
    with pytest.raises(EarthGPTError, match="no place on Earth"):
        scene.to_wgs84([(0, 0)])


def test_a_world_file_places_a_picture(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n3999999.75\n")
    scene = open_scene(tmp_path / "a.png", crs="EPSG:32631")
    assert scene.transform == (0.5, 0, 500_000, 0, -0.5, 4_000_000)

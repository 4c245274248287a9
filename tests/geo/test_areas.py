"""Places on the map are found in the pixels of a scene."""

import json

import numpy as np
import pytest

from earthgpt.geo.areas import (
    Area,
    Outlines,
    bounding_box,
    columns_of,
    outlines_of,
    read_areas,
    those_in,
    to_pixels,
    window_of,
)
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.place import place
from earthgpt.geo.scene import open_scene
from earthgpt.types import EarthGPTError
from tests.geo.test_scene import write

rasterio = pytest.importorskip("rasterio")


@pytest.fixture
def scene(tmp_path):
    """300 x 200 pixels of two metres in UTM 33; the upper left corner is on the central meridian, 15 degrees east."""
    path = tmp_path / "scene.tif"
    write_geotiff(path, np.full((200, 300, 3), 90, np.uint8), 500_000, 5_000_000, 2.0, 32633)
    return open_scene(path)


def polygon(scene, *pixels):
    ring = [list(map(float, point)) for point in scene.to_wgs84(np.array(pixels, float))]
    return {
        "type": "Feature",
        "properties": {"id": 7},
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
    }


def test_degrees_and_back(scene):
    pixels = np.array([[0.0, 0.0], [150, 100], [300, 200]])
    assert to_pixels(scene, scene.to_wgs84(pixels)) == pytest.approx(pixels, abs=1e-3)
    assert scene.to_wgs84(pixels)[0][0] == pytest.approx(15.0, abs=1e-9)


def test_a_bounding_box_is_a_window(scene):
    (west, north), (east, south) = scene.to_wgs84(np.array([[50.0, 40.0], [120.0, 90.0]]))
    left, top, width, height = bounding_box(scene, f"{west},{south},{east},{north}")
    assert (left, top) == pytest.approx((50, 40), abs=1) and (width, height) == pytest.approx((70, 50), abs=2)
    for text, says in (
        ("1,2,3", "west,south,east,north"),
        ("15,45,14,46", "west,south"),
        ("0,0,1,1", "does not lie in"),
    ):
        with pytest.raises(EarthGPTError, match=says):
            bounding_box(scene, text)


@pytest.mark.parametrize(("west", "crosses"), [(170, True), (0, False), (-180, False)])
def test_degrees_are_found_in_images_beyond_the_antimeridian(tmp_path, west, crosses):
    there = place("EPSG:4326", (0.1, 0, west, 0, -0.1, 10), (3600 if not crosses else 200, 200))
    pixels = np.array([[10.0, 20.0], [150.0, 90.0], [190.0, 100.0]])
    assert there.to_pixels(there.to_wgs84(pixels)) == pytest.approx(pixels, abs=1e-6)
    if crosses:
        transform = rasterio.Affine(*there.transform)
        path = write(tmp_path / "a.tif", np.zeros((200, 200), np.uint8), crs="EPSG:4326", transform=transform)
        assert bounding_box(open_scene(path), "178,-5,-178,5") == (80, 50, 40, 100)


@pytest.mark.parametrize(
    ("west", "text", "window"),
    [
        (-180.125, "-180,-90,180,90", (0, 0, 1440, 720)),
        (-180.125, "90,0,180,45", (1080, 180, 360, 180)),
        (-180.125, "0,0,180,10", (720, 320, 720, 40)),
        (0, "-180,-90,180,90", (0, 0, 1440, 720)),
        (0, "170,0,-170,10", (680, 320, 80, 40)),
        (-180, "170,0,-170,10", "a part at either edge"),
    ],
)
def test_boxes_of_a_map_of_the_world_are_whole(tmp_path, west, text, window):
    transform = rasterio.Affine(0.25, 0, west, 0, -0.25, 90)
    path = write(tmp_path / "a.tif", np.zeros((720, 1440), np.uint8), crs="EPSG:4326", transform=transform)
    if isinstance(window, str):
        with pytest.raises(EarthGPTError, match=window):
            bounding_box(open_scene(path), text)
    else:
        assert bounding_box(open_scene(path), text) == pytest.approx(window, abs=1)


def test_control_points_around_the_world_stay(tmp_path):
    points = [
        rasterio.control.GroundControlPoint(y, x, -180 + 1.8 * x, 50 - 0.5 * y)
        for y in (0, 100, 200) for x in (0, 50, 100, 150, 200)
    ]  # fmt: skip
    options = {"driver": "GTiff", "width": 200, "height": 200, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **options) as file:
        file.gcps = points, rasterio.crs.CRS.from_epsg(4326)
    assert open_scene(tmp_path / "a.tif").to_wgs84([(150, 60)]) == pytest.approx(np.array([[90.0, 20.0]]), abs=1e-6)


def test_control_points_across_the_antimeridian_lead_on(tmp_path):
    def wrapped(x):
        return x - 360 if x > 180 else x

    points = [
        rasterio.control.GroundControlPoint(y, x, wrapped(179 + 0.01 * x), 50 - 0.01 * y)
        for y in (0, 100, 200) for x in (0, 100, 200)
    ]  # fmt: skip
    options = {"driver": "GTiff", "width": 200, "height": 200, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **options) as file:
        file.gcps = points, rasterio.crs.CRS.from_epsg(4326)
    bent = open_scene(tmp_path / "a.tif")
    pixels = np.array([[25.0, 60.0], [99.0, 60.0], [150.0, 60.0]])
    assert bent.to_wgs84(pixels) == pytest.approx(np.array([[179.25, 49.4], [179.99, 49.4], [-179.5, 49.4]]))
    assert bent.place.to_pixels(bent.to_wgs84(pixels)) == pytest.approx(pixels, abs=0.01)
    assert "off by up to 0.0 pixels" in bent.notes[0]


def test_features_of_a_file_and_their_outlines(scene, tmp_path):
    path = tmp_path / "areas.geojson"
    point = {"type": "Feature", "properties": None, "geometry": {"type": "Point", "coordinates": [15.001, 45.15]}}
    features = [polygon(scene, (10, 10), (60, 10), (10, 60)), point]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8-sig")
    areas = read_areas(path)
    assert areas[0].properties == {"id": 7} and areas[1].rings == (((15.001, 45.15),),)
    (ring,) = outlines_of(scene, areas)
    assert np.array(ring)[:3] == pytest.approx(np.array([[10, 10], [60, 10], [10, 60]]), abs=0.02)
    assert window_of(scene, np.array(ring)) == pytest.approx((10, 10, 50, 50), abs=1)
    outlines = Outlines((ring,))
    assert outlines.hold((20, 20)) and not outlines.hold((50, 50))
    assert outlines.touch((0, 0, 12, 12)) and not outlines.touch((50, 50, 20, 20))
    with pytest.raises(EarthGPTError, match="no polygon"):
        outlines_of(scene, areas[1:])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nothing", "not readable GeoJSON"),
        ("[1]", "not readable GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "has no features"),
        ('{"type": "FeatureCollection", "features": 3}', "not readable GeoJSON: its features are no list"),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": [1]}', "feature 1"),
        ('{"type": "LineString", "coordinates": [[1, 2], [3, 4]]}', "has lines alone"),
        ('{"type": "GeometryCollection", "geometries": []}', "has lines alone"),
        ('{"type": "Point", "coordinates": [1, "x"]}', "feature 1: a place is"),
        ('{"type": "Point", "coordinates": [NaN, 1]}', "feature 1: a place is"),
    ],
)
def test_what_is_no_place_is_told(tmp_path, content, says):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(EarthGPTError, match=says):
        read_areas(tmp_path / "a.geojson")


def test_features_of_other_kinds_are_left_out_and_the_others_keep_their_numbers(tmp_path, caplog):
    line = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
    point = {"type": "Point", "coordinates": [1, 2]}
    features = [{"type": "Feature", "geometry": one, "properties": {}} for one in (line, None, point, point)]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert [one.number for one in read_areas(tmp_path / "a.geojson")] == [3, 4]
    assert "1 of 4 features have no place" in caplog.text and "1 of 4 features are no points and no poly" in caplog.text


def test_an_image_without_a_place_has_no_map_coordinates():
    with pytest.raises(EarthGPTError, match="no place on Earth"):
        to_pixels(open_scene(np.zeros((10, 10, 3), np.uint8)), [(15, 45)])


def test_a_point_that_the_crs_does_not_reach_is_named(scene):
    with pytest.raises(EarthGPTError, match=r"does not reach as far as 15\.000, 95\.000"):
        to_pixels(scene, [(15, 45), (15, 95), (16, 96)])


def test_control_points_lead_back_to_pixels(tmp_path):
    """The grid is bent, so that one affine map for all is off by pixels."""
    points = [
        rasterio.control.GroundControlPoint(row, column, 10 + column * 1e-3 + row * column * 2e-6, 50 - row * 1e-3)
        for row in (0, 100, 200, 300) for column in (0, 100, 200, 300)
    ]  # fmt: skip
    bent = open_scene(write(tmp_path / "a.tif", np.zeros((300, 300), np.uint8), gcps=points, crs="EPSG:4326"))
    pixels = np.array([[0.0, 0.0], [300, 300], [150, 20]])
    assert to_pixels(bent, bent.to_wgs84(pixels)) == pytest.approx(pixels, abs=0.1)


def test_degrees_do_not_lead_to_pixels_of_another_body(tmp_path):
    mars = 'GEOGCS["Mars",DATUM["Mars",SPHEROID["Mars",3396190,169.9]],PRIMEM["Reference",0],UNIT["degree",0.01745329]]'
    grid = {"crs": mars, "transform": rasterio.Affine(0.01, 0, 10, 0, -0.01, 10)}
    scene = open_scene(write(tmp_path / "a.tif", np.zeros((8, 8), np.uint8), **grid))
    with pytest.raises(EarthGPTError, match="is not of the Earth"):
        to_pixels(scene, [(10, 10)])


def test_a_ring_that_is_open_is_closed_and_another_crs_is_told(scene, tmp_path):
    path = tmp_path / "a.geojson"
    feature = polygon(scene, (10, 10), (60, 10), (10, 60))
    feature["geometry"]["coordinates"][0].pop()
    path.write_text(json.dumps(feature))
    (area,) = read_areas(path)
    assert area.rings[0][0] == area.rings[0][-1] and len(outlines_of(scene, [area])[0]) == 4
    for name, fine in (("urn:ogc:def:crs:OGC:1.3:CRS84", True), ("urn:ogc:def:crs:EPSG::32631", False)):
        whole = {"type": "FeatureCollection", "features": [feature], "crs": {"properties": {"name": name}}}
        path.write_text(json.dumps(whole))
        if fine:
            assert read_areas(path)
        else:
            with pytest.raises(EarthGPTError, match=r"coordinates in urn:.*32631, .*ogr2ogr -t_srs"):
                read_areas(path)
    for content, says in ((b"GPKG\xd8\0", "ogr2ogr -f GeoJSON"), (None, "No such file")):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(EarthGPTError, match=says):
            read_areas(path)


def test_properties_of_any_kind_fit_their_columns():
    ring = (((0.0, 0.0),),)
    one = {"id": 2**63, "mean": float("nan"), "name": "\ud800", "bbox": [1, 2], "geometry": "x", "n": 1}
    columns, rows = columns_of([Area(ring, one), Area(ring, {"id": 1, "n": 2.5})])
    assert columns == {"id": str, "mean": float, "name": str, "place_bbox": str, "place_geometry": str, "n": float}
    assert rows[0] == {
        "id": str(2**63), "mean": None, "name": "?", "place_bbox": "[1, 2]", "place_geometry": "x", "n": 1.0,
    }  # fmt: skip
    assert rows[1] == {"id": "1", "n": 2.5}


def test_places_outside_a_scene_are_numbered(scene):
    outside = Area((((16.0, 45.0),),), {}, 7)
    inside = Area(((tuple(scene.to_wgs84([(20, 20)])[0]),),), {})  # a point at the corner of a pixel
    assert those_in(scene, [outside, inside]) == ([inside], [7])

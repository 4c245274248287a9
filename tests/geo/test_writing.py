"""Features in every format, opened again by other libraries and compared with numbers worked out by hand."""

import csv
import json
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.pictures import COLOURS
from earthgpt.geo.raster import Raster, open_raster
from earthgpt.geo.vectors import FORMATS, Feature, open_writer, write
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region

pytest.importorskip("rasterio")
PIXELS = np.full((100, 200, 3), 90, np.uint8)
# 2 m a pixel in UTM 32 north, its top left corner at 500,000 m east (9 degrees, the middle) and 5,000,200 m north.
UTM = Raster(PIXELS, (200, 100), name="folder/port.tif", crs="EPSG:32632", transform=(2, 0, 500_000, 0, -2, 5_000_200))
PLAIN = Raster(PIXELS, (200, 100), name="port.png")
SHIP = Region(Box(0.1, 0.2, 0.5, 0.6), "ship", 0.87654)  # pixels 20..100 and 20..60
# Corners (100, 20), (140, 50), (110, 90), (70, 60): sides of 50 pixels, 100 m; the first goes 30 m right and 40 down.
TANK = Region(OrientedBox(((0.5, 0.2), (0.7, 0.5), (0.55, 0.9), (0.35, 0.6))), "storage tank")
FEATURES = [Feature(SHIP, {"tile": "0,0,448,448", "answer": "a ship"}), TANK]
GIVEN = {"model": "tiny", "prompt": "Find ships.", "time": "2026-01-02T03:04:05Z"}
SHIP_ON_MAP = (500_040, 5_000_080, 500_200, 5_000_160)  # left, bottom, right, top in metres
SCALE = 0.9996  # of UTM at its middle: 160 m on the map are 160 / 0.9996 m on the ground


def written(tmp_path: Path, name: str, raster=UTM, regions=FEATURES, **options) -> Path:
    write(tmp_path / name, regions, raster, properties=GIVEN, **options)
    return tmp_path / name


def assert_ship_and_tank(table) -> None:
    """A geopandas table in the CRS of the scene."""
    assert table.crs.to_epsg() == 32632
    assert list(table["label"]) == ["ship", "storage tank"]
    assert table["score"][0] == 0.8765 and np.isnan(table["score"][1])
    assert table.geometry[0].bounds == SHIP_ON_MAP
    assert set(table.geometry[1].exterior.coords) == {
        (500_200, 5_000_160),
        (500_280, 5_000_100),
        (500_220, 5_000_020),
        (500_140, 5_000_080),
    }
    assert all(shape.exterior.is_ccw and shape.is_valid for shape in table.geometry)
    assert_sizes(*(table[name] for name in ("area_m2", "length_m", "width_m")))
    assert table["tile"][0] == "0,0,448,448" and table["answer"][0] == "a ship" and table["answer"].isna()[1]
    assert [set(table[name]) for name in GIVEN] == [{value} for value in GIVEN.values()]
    assert json.loads(table["pixels"][0]) == [[20, 20], [100, 20], [100, 60], [20, 60]]


def assert_sizes(areas, lengths, widths) -> None:
    """160 x 80 m and 100 x 100 m on the map."""
    assert list(areas) == [pytest.approx(12_800 / SCALE**2, rel=1e-5), pytest.approx(10_000 / SCALE**2, rel=1e-5)]
    assert list(lengths) == [pytest.approx(160 / SCALE, rel=1e-5), pytest.approx(100 / SCALE, rel=1e-5)]
    assert list(widths) == [pytest.approx(80 / SCALE, rel=1e-5), pytest.approx(100 / SCALE, rel=1e-5)]


def test_a_geopackage_keeps_the_crs_the_polygons_and_the_columns(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    path = written(tmp_path, "port.gpkg")
    assert_ship_and_tank(geopandas.read_file(path))
    with sqlite3.connect(path) as base:
        assert base.execute("select table_name, srs_id from gpkg_contents").fetchall() == [("port", 32632)]
        assert base.execute("select count(*) from rtree_port_geom").fetchone() == (2,)


def test_a_flatgeobuf_keeps_the_crs_the_polygons_and_the_columns(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    table = geopandas.read_file(written(tmp_path, "port.fgb")).sort_values("label").reset_index(drop=True)
    assert_ship_and_tank(table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["port.fgb", "port.qml"]


def test_a_geoparquet_keeps_the_crs_the_polygons_and_the_columns(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    path = written(tmp_path, "port.parquet")
    assert_ship_and_tank(geopandas.read_parquet(path))
    assert list(geopandas.read_parquet(path, bbox=(500_000, 5_000_150, 500_100, 5_000_200))["label"]) == ["ship"]
    import pyarrow.parquet

    facts = json.loads(pyarrow.parquet.read_schema(path).metadata[b"geo"])
    assert facts["version"] == "1.1.0" and facts["columns"]["geometry"]["crs"]["id"]["code"] == 32632


def test_a_geojson_is_in_degrees_and_says_nothing_of_a_crs(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    path = written(tmp_path, "port.geojson")
    found = json.loads(path.read_text())
    assert found.keys() == {"type", "features"}
    assert_sizes(
        *([one["properties"][name] for one in found["features"]] for name in ("area_m2", "length_m", "width_m"))
    )
    assert geopandas.read_file(path).to_crs(32632).geometry[0].bounds == pytest.approx(SHIP_ON_MAP, abs=0.02)


def test_csv_has_every_column_the_middle_and_the_polygon(tmp_path):
    shapely = pytest.importorskip("shapely")
    with written(tmp_path, "port.csv").open(newline="") as file:
        ship, tank = csv.DictReader(file)
    assert (ship["label"], ship["score"], ship["tile"], tank["score"]) == ("ship", "0.8765", "0,0,448,448", "")
    polygon = shapely.from_wkt(ship["wkt"])
    assert polygon.exterior.is_ccw
    assert (float(ship["longitude"]), float(ship["latitude"])) == pytest.approx(polygon.centroid.coords[0], abs=1e-6)
    # 120 m east of the middle of the zone: 120 / (0.9996 N cos(latitude)) radians.
    assert float(ship["longitude"]) == pytest.approx(9 + 0.0015278, abs=2e-6)


def test_kml_is_read_by_gdal_with_hostile_words_kept(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    words = '<b>&"ship\x07'
    path = written(tmp_path, "port.kml", regions=[Region(SHIP.box, words, 0.5)])
    table = geopandas.read_file(path)
    assert table["Name"][0] == '<b>&"ship\ufffd'
    assert table.to_crs(32632).geometry[0].bounds == pytest.approx(SHIP_ON_MAP, abs=0.02)
    names = {element.get("name") for element in ElementTree.parse(path).iter() if element.tag.endswith("}Data")}
    assert names == {"label", "score", "area_m2", "length_m", "width_m", "model", "prompt", "time", "pixels"}
    with pytest.raises(EarthGPTError, match="KML has longitude and latitude only"):
        written(tmp_path, "plain.kml", PLAIN)
    assert [path.name for path in tmp_path.iterdir()] == ["port.kml"]


def test_coco_is_read_by_pycocotools(tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco").COCO(written(tmp_path, "port.coco.json", classes=["plane", "ship"]))
    assert [(one["id"], one["name"]) for one in coco.loadCats(coco.getCatIds())] == [
        (1, "plane"),
        (2, "ship"),
        (3, "storage tank"),
    ]
    assert coco.loadImgs(1) == [{"id": 1, "file_name": "port.tif", "width": 200, "height": 100}]
    ship, tank = coco.loadAnns(coco.getAnnIds())
    assert (ship["bbox"], ship["area"], ship["category_id"], ship["score"]) == ([20, 20, 80, 40], 3200, 2, 0.8765)
    assert (tank["bbox"], tank["area"]) == ([70, 20, 70, 70], 2500)
    assert coco.annToMask(ship).sum() == 3200 and coco.annToMask(tank).sum() == pytest.approx(2500, abs=60)


def test_yolo_has_middles_and_sizes_and_its_classes_beside_it(tmp_path):
    path = written(tmp_path, "port.yolo.txt", PLAIN)
    assert path.read_text().splitlines() == [
        "0 0.300000 0.400000 0.400000 0.400000 0.876540",
        "1 0.525000 0.550000 0.350000 0.700000",
    ]
    assert (tmp_path / "port.yolo.names").read_text() == "ship\nstorage tank\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["port.yolo.names", "port.yolo.txt"]


def test_the_classes_of_yolo_are_not_overwritten_unless_that_is_allowed(tmp_path):
    (tmp_path / "port.yolo.names").write_text("mine\n")
    with pytest.raises(EarthGPTError, match=r"port\.yolo\.names is there already"):
        written(tmp_path, "port.yolo.txt", PLAIN)
    assert (tmp_path / "port.yolo.names").read_text() == "mine\n"
    written(tmp_path, "port.yolo.txt", PLAIN, overwrite=True)
    assert (tmp_path / "port.yolo.names").read_text() == "ship\nstorage tank\n"


def test_oriented_yolo_has_four_corners(tmp_path):
    path = written(tmp_path, "port.yolo-obb.txt", PLAIN, [TANK])
    assert path.read_text().split() == [
        "0",
        *(f"{value:.6f}" for corner in TANK.box.corners for value in corner),
    ]


def test_dota_has_corners_in_pixels_and_classes_without_blanks(tmp_path):
    path = written(tmp_path, "port.dota.txt")
    assert path.read_text().splitlines() == [
        "imagesource:null",
        "gsd:2.0008",
        "20.0 20.0 100.0 20.0 100.0 60.0 20.0 60.0 ship 0",
        f"{' '.join(f'{v:.1f}' for x, y in TANK.box.corners for v in (x * 200, y * 100))} storage-tank 0",
    ]


def test_a_geotiff_has_the_boxes_burnt_in_where_they_are(tmp_path):
    import rasterio

    with rasterio.open(written(tmp_path, "port.tif")) as file:
        assert file.crs.to_epsg() == 32632 and tuple(file.transform)[:6] == UTM.transform
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        pixels = file.read().transpose(1, 2, 0)
        row, column = file.index(500_120, 5_000_160)  # the middle of the ship's upper edge
        assert "#{:02X}{:02X}{:02X}".format(*pixels[row, column]) == COLOURS[0]
        assert (pixels[80, 30] == 90).all() and (pixels[5, 150] == 90).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["port.tif"]


def test_a_picture_has_a_legend_below_the_image(tmp_path):
    with Image.open(written(tmp_path, "port.png")) as picture:
        assert picture.width == 1024 and picture.height > 512 + 20
        legend = np.asarray(picture)[512:]
    for colour in COLOURS[:2]:
        assert (legend == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).any()
    assert (legend == 255).all(axis=2).mean() > 0.8


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_complete_without_features_and_keeps_what_is_there(tmp_path, ending):
    path = written(tmp_path, f"port{ending}", regions=[])
    before = path.read_bytes()
    with pytest.raises(EarthGPTError, match="is there already"):
        written(tmp_path, f"port{ending}")
    with pytest.raises(RuntimeError, match="on the way"), open_writer(path, UTM, overwrite=True) as writer:
        writer.add(FEATURES)
        raise RuntimeError("on the way")
    assert path.read_bytes() == before
    assert not [path.name for path in tmp_path.iterdir() if ".new" in path.name or "waiting" in path.name]
    written(tmp_path, f"port{ending}", overwrite=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize("ending", FORMATS)
def test_a_folder_that_is_not_there_is_told(tmp_path, ending):
    with pytest.raises(EarthGPTError, match=r"Cannot write .*: there is no folder"):
        written(tmp_path / "nowhere", f"port{ending}")


@pytest.mark.parametrize("ending", [".gpkg", ".parquet", ".fgb"])
def test_without_a_crs_there_are_pixels_and_the_layer_says_so(tmp_path, ending):
    geopandas = pytest.importorskip("geopandas")
    path = tmp_path / f"port{ending}"
    with open_writer(path, PLAIN) as writer:
        writer.add([SHIP])
        assert writer.notes == ["There is no CRS: coordinates are pixels."]
    table = geopandas.read_parquet(path) if ending == ".parquet" else geopandas.read_file(path)
    assert table.geometry[0].bounds == (20, 20, 100, 60)
    assert table.crs is None or not table.crs.is_geographic
    assert np.isnan(table["area_m2"].astype(float)[0])


def test_one_region_or_none_is_written_too_and_a_path_is_no_raster(tmp_path):
    raster = Raster(PIXELS, (200, 100))
    for regions, count in ((Region(Box(0, 0, 1, 1), "ship"), 1), (None, 0)):
        write(tmp_path / "a.geojson", regions, raster, overwrite=True)
        assert len(json.loads((tmp_path / "a.geojson").read_text())["features"]) == count
    with pytest.raises(EarthGPTError, match="belong to a Raster or a Scene"):
        write(tmp_path / "b.geojson", [], "scene.tif")


@pytest.mark.parametrize(("score", "kept"), [(np.float32(0.5), 0.5), (float("nan"), None), (0.25, 0.25)])
def test_scores_of_any_kind_are_numbers_or_none(tmp_path, score, kept):
    write(tmp_path / "a.geojson", Region(Box(0, 0, 1, 1), "ship", score), Raster(PIXELS, (200, 100)))
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert feature["properties"].get("score") == kept


def test_the_image_itself_is_never_written_over(tmp_path):
    write_geotiff(tmp_path / "a.tif", PIXELS, 0.0, 0.0, 1.0, 32631)
    before = (tmp_path / "a.tif").read_bytes()
    with pytest.raises(EarthGPTError, match="is one of the inputs"):
        write(tmp_path / "a.tif", [], open_raster(tmp_path / "a.tif"), overwrite=True)
    assert (tmp_path / "a.tif").read_bytes() == before


def test_what_crosses_the_antimeridian_is_cut_in_two(tmp_path):
    raster = Raster(PIXELS, (200, 100), crs="EPSG:4326", transform=(0.01, 0, 179.0, 0, -0.01, 1.0))  # 179 E to 179 W
    region = Region(Box(0.25, 0, 0.75, 1), "storm")  # 179.5 E to 179.5 W
    shape = json.loads(written(tmp_path, "a.geojson", raster, [region]).read_text())["features"][0]["geometry"]
    assert shape["type"] == "MultiPolygon"
    spans = [sorted({x for x, _ in ring}) for (ring,) in shape["coordinates"]]
    assert spans == [[179.5, 180.0], [-180.0, -179.5]]
    for (ring,) in shape["coordinates"]:
        assert sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) > 0
    with written(tmp_path, "a.csv", raster, [region]).open(newline="") as file:
        assert abs(float(next(csv.DictReader(file))["longitude"])) == 180


@pytest.mark.parametrize(
    ("crs", "transform", "size", "box", "spans"),
    [
        ("EPSG:4326", (1, 0, -180, 0, -1, 90), (360, 180), Box(0, 0, 1, 1), [[-180, 180]]),
        ("EPSG:4326", (1, 0, -180, 0, -1, 90), (360, 180), Box(0.1, 0.1, 0.9, 0.9), [[-144, 144]]),
        ("EPSG:4326", (1, 0, 0, 0, -1, 90), (360, 180), Box(0, 0, 1, 1), [[0, 180], [-180, 0]]),
        ("EPSG:3857", (2 * 20037508.34 / 256, 0, -20037508.34, 0, -2 * 20037508.34 / 256, 20037508.34), (256, 256),
         Box(0, 0, 1, 1), [[-180, 180]]),
    ],
)  # fmt: skip
def test_regions_around_most_of_the_earth_are_whole(tmp_path, crs, transform, size, box, spans):
    raster = Raster(np.zeros((*size[::-1], 3), np.uint8), size, crs=crs, transform=transform)
    feature = json.loads(written(tmp_path, "a.geojson", raster, [Region(box, "world")]).read_text())["features"][0]
    shape = feature["geometry"]
    polygons = [shape["coordinates"]] if shape["type"] == "Polygon" else shape["coordinates"]
    found = [[min(x for x, _ in ring), max(x for x, _ in ring)] for (ring,) in polygons]
    assert [[round(x, 3) for x in span] for span in found] == spans
    assert feature["properties"].get("area_m2") is None, "straight lines through the Earth tell nothing of it"


def test_sizes_in_degrees_are_metres_on_the_ellipsoid(tmp_path):
    """A hundredth of a degree at 60 north, a = 6378137 m and e2 = 0.00669438: 1 - e2 sin2(60) = 0.994979.

    Of a parallel: N cos(60), N = a / sqrt(0.994979) = 6394209 m, so 3197105 m a radian, 558.0 m.
    Of a meridian: M = a (1 - e2) / 0.994979**1.5 = 6383453 m a radian, 1114.12 m.
    """
    raster = Raster(PIXELS, (200, 100), crs="EPSG:4326", transform=(0.001, 0, 10, 0, -0.001, 60.05))
    region = Region(Box(0.4, 0.45, 0.45, 0.55), "field")  # 0.01 by 0.01 degrees about 60 north
    (one,) = json.loads(written(tmp_path, "a.geojson", raster, [region]).read_text())["features"]
    sizes = one["properties"]
    assert sizes["length_m"] == pytest.approx(1114.12, abs=0.05) and sizes["width_m"] == pytest.approx(558.0, abs=0.05)
    assert sizes["area_m2"] == pytest.approx(1114.12 * 558.0, rel=1e-4)


def test_an_angle_is_clockwise_from_north_along_the_longer_side(tmp_path):
    # 60 by 20 pixels, its long side going 3 right and 4 up: atan(3 / 4) = 36.87 degrees east of north.
    long, short = np.array([36.0, -48.0]), np.array([16.0, 12.0])
    start = np.array([60.0, 70.0])
    corners = [start, start + long, start + long + short, start + short]
    region = Region(OrientedBox.from_pixels(tuple(map(tuple, corners)), (200, 100)), "ship")
    (one,) = json.loads(written(tmp_path, "a.geojson", UTM, [region]).read_text())["features"]
    assert one["properties"]["angle_deg"] == pytest.approx(36.87, abs=0.01)
    assert (
        "angle_deg"
        not in json.loads(written(tmp_path, "b.geojson", UTM, [SHIP]).read_text())["features"][0]["properties"]
    )


def test_no_cell_of_a_table_is_read_as_a_formula(tmp_path):
    ship = replace(SHIP, label="=HYPERLINK(1)")
    rows = list(csv.DictReader(written(tmp_path, "port.csv", regions=[ship]).open()))
    assert rows[0]["label"] == "'=HYPERLINK(1)"


@pytest.mark.parametrize("columns", [["name"], {"name": "str"}, {"name": list}, 5])
def test_columns_that_are_no_names_and_types_are_told(tmp_path, columns):
    with pytest.raises(EarthGPTError, match="names with their types"):
        written(tmp_path, "port.geojson", regions=[TANK], columns=columns)


def test_extra_columns_are_declared(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    columns = {"name": str, "floors": int, "open": bool}
    known = Feature(SHIP, {"name": "Anna", "floors": 3, "open": True})
    table = geopandas.read_file(written(tmp_path, "port.gpkg", regions=[known, TANK], columns=columns))
    assert table["name"][0] == "Anna" and table["floors"][0] == 3 and table["floors"].isna()[1]
    with pytest.raises(ValueError, match="A feature has answer, tile, model, prompt, time; not 'colour'"):
        write(tmp_path / "a.gpkg", [Feature(SHIP, {"colour": "red"})], UTM)
    with pytest.raises(ValueError, match="not 'area_m2'"):
        write(tmp_path / "a.gpkg", [Feature(SHIP, {"area_m2": 5.0})], UTM)


@pytest.mark.parametrize("ending", [".gpkg", ".parquet", ".geojson"])
def test_features_come_in_any_portions(tmp_path, ending):
    geopandas = pytest.importorskip("geopandas")
    with open_writer(tmp_path / f"a{ending}", UTM) as writer:
        for count in (1, 2_500, 0, 1_999):
            writer.add([SHIP] * count)
        assert not (tmp_path / f"a{ending}").exists()
    assert writer.count == 4_500 and writer.labels == {"ship": 4_500}
    path = tmp_path / f"a{ending}"
    assert len(geopandas.read_parquet(path) if ending == ".parquet" else geopandas.read_file(path)) == 4_500


def test_a_style_beside_a_layer_has_a_colour_for_each_class(tmp_path):
    style = written(tmp_path, "port.gpkg", classes=["plane"]).with_suffix(".qml")
    root = ElementTree.parse(style).getroot()
    values = [one.get("value") for one in root.iter("category")]
    assert values == ["plane", "ship", "storage tank", ""]
    outlines = [one.get("value") for one in root.iter("Option") if one.get("name") == "outline_color"]
    assert outlines[1] == "86,180,233,255"  # COLOURS[1], #56B4E9
    style.write_text("mine")
    (tmp_path / "port.gpkg").unlink()
    written(tmp_path, "port.gpkg")
    assert style.read_text() == "mine"
    written(tmp_path, "bare.gpkg", style=False)
    assert not (tmp_path / "bare.qml").exists()


def test_a_map_is_one_file_that_asks_for_nothing_and_where_words_stay_words(tmp_path):
    words = "</script><img src=x onerror=alert(1)>{{labels}}"
    page = written(
        tmp_path, "port.html", regions=[Feature(Region(SHIP.box, words, 0.9), {"answer": words})]
    ).read_text()
    assert page.count("</script>") == 4 and words not in page and "<img src=x" not in page
    assert "http" not in page.replace("http-equiv", "") and "default-src 'none'" in page
    rows = page.partition('id="features">')[2].partition("</script>")[0]
    ((label, score, corners, more, where),) = json.loads(rows)
    assert (label, score, corners) == (0, 0.9, [20, 20, 100, 20, 100, 60, 20, 60]) and more["answer"] == words
    assert where == pytest.approx([9.0015278, 45.1555], abs=2e-3)
    assert json.loads(page.partition('id="labels">')[2].partition("</script>")[0]) == [words]


def test_a_map_has_a_crs_that_is_no_wkt(tmp_path):
    proj = "+proj=utm +zone=32 +datum=WGS84 +units=m +no_defs"
    page = written(tmp_path, "port.html", replace(UTM, crs=proj)).read_text()
    assert f'"crs": "{proj}"' in page


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(EarthGPTError, match=r'need pyogrio: pip install "earthgpt\[geo\]"'):
        written(tmp_path, "port.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_scenes_are_written_as_rasters_are(tmp_path):
    from earthgpt.geo.scene import open_scene

    write_geotiff(tmp_path / "scene.tif", PIXELS, 500_000, 5_000_200, 2, 32632)
    scene = open_scene(tmp_path / "scene.tif")
    for name in ("a.geojson", "a.html", "a.png", "a.tif"):
        assert written(tmp_path, name, scene).stat().st_size > 500
    assert json.loads((tmp_path / "a.geojson").read_text()) == json.loads(written(tmp_path, "b.geojson").read_text())


def test_a_full_disk_is_told_in_one_line_and_nothing_is_left(tmp_path):
    """A limit on the size of files stands for the disk; text is buffered, so that closing fails as well."""
    pytest.importorskip("resource")
    code = f"""
import resource, signal
import numpy as np
from earthgpt.geo.raster import Raster
from earthgpt.geo.vectors import write
from earthgpt.types import Box, EarthGPTError, Region
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
raster = Raster(np.zeros((9, 9, 3), np.uint8), (9, 9), crs="EPSG:32632", transform=(2, 0, 500_000, 0, -2, 5_000_200))
for ending in (".geojson", ".csv", ".coco.json", ".gpkg", ".fgb"):
    try:
        write({str(tmp_path)!r} + "/a" + ending, [Region(Box(0, 0, 1, 1), "ship")] * 2_500, raster)
    except EarthGPTError as error:
        print(str(error).count("Cannot write"))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1"] * 5
    assert list(tmp_path.iterdir()) == []


def test_another_body_keeps_its_crs_and_has_no_longitude_in_wgs84(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    moon = "+proj=eqc +R=1737400 +units=m"
    raster = Raster(PIXELS, (200, 100), crs=moon, transform=(2, 0, 0, 0, -2, 200))
    with open_writer(tmp_path / "a.gpkg", raster) as writer:
        writer.add([SHIP])
        assert "not of the Earth" in writer.notes[0]
    table = geopandas.read_file(tmp_path / "a.gpkg")
    assert table.crs.ellipsoid.semi_major_metre == 1_737_400 and table.geometry[0].bounds == (40, 80, 200, 160)
    assert table["area_m2"][0] == 160 * 80
    found = json.loads(written(tmp_path, "a.geojson", raster, [SHIP]).read_text())
    assert found["coordinates"] == "pixels of the image, y down"

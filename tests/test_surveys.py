"""The command line over large scenes in tiles, and over many images."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from commands import told
from PIL import Image

import earthgpt
from earthgpt.cli import console
from earthgpt.datasets import synthetic
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.types import Sensor


@pytest.fixture
def scene(tmp_path) -> Path:
    """A GeoTIFF of 300 x 200 pixels of two metres."""
    path = tmp_path / "scene.tif"
    write_geotiff(path, np.full((200, 300, 3), 90, np.uint8), 500_000, 5_000_000, 2.0, 32633)
    return path


def test_a_large_scene_is_detected_in_tiles_and_written_with_its_place(run, scene, model_folder, says, tmp_path):
    says("There is one ship [0.500,0.500,0.600,0.600] in the image.")
    code, out, err = run(
        "detect", scene, "-c", "ship", "-m", model_folder, "--tile", 100, "--overlap", 0, "-o", tmp_path / "s.geojson"
    )
    assert code == 0, err
    assert "6 ship" in out and "in 6 tiles of 100" in err
    features = json.loads((tmp_path / "s.geojson").read_text())["features"]
    assert len(features) == 6 and features[0]["properties"]["area_m2"] == pytest.approx(20 * 20, rel=0.02)
    assert not list(tmp_path.glob("*.tiles.jsonl")), "the record of a finished job goes"
    again = run("detect", scene, "-c", "ship", "-m", model_folder, "-o", tmp_path / "s.geojson")
    assert told(again, "is there already")
    words = ("detect", scene, "-c", "ship", "-m", model_folder, "-o", tmp_path / "s.geojson")
    assert run(*words, "--overwrite", "--tile", 0)[0] == 0
    assert len(json.loads((tmp_path / "s.geojson").read_text())["features"]) == 1, "it fits in one tile"


def test_answers_of_tiles_are_a_map_with_a_sum(run, scene, model_folder, says, tmp_path):
    says("2")
    code, out, _ = run("ask", scene, "How many cars?", "-m", model_folder, "--tile", 100, "-o", tmp_path / "c.gpkg")
    assert code == 0 and "sum of the answers: 12" in out
    assert (tmp_path / "c.gpkg").stat().st_size > 0
    value = json.loads(run("ask", scene, "How many?", "-m", model_folder, "--tile", 100, "--json")[1])
    assert (value["total"], value["tiles"], value["counts"]) == (12, 6, {"2": 6})
    assert value["area_km2"] == pytest.approx(0.24, rel=0.01)


def test_what_is_said_of_a_box_and_a_phrase_is_written_with_the_model_and_the_time(
    run, scene, model_folder, says, tmp_path
):
    says("a ship [0.500,0.500,0.600,0.600]")
    for name, words in (("describe", ("0,0,30,20",)), ("ground", ("the ship",))):
        path = tmp_path / f"{name}.geojson"
        code, _, err = run(name, scene, *words, "-m", model_folder, "-o", path)
        assert code == 0 and "Wrote" in err, err
        (feature,) = json.loads(path.read_text())["features"]
        assert feature["properties"]["model"] == str(model_folder) and feature["properties"]["time"].endswith("Z")
        assert told(run(name, scene, *words, "-m", model_folder, "-o", path), "is there already")
    assert json.loads((tmp_path / "describe.geojson").read_text())["features"][0]["properties"]["pixels"] == [
        [0, 0], [30, 0], [30, 20], [0, 20],
    ]  # fmt: skip


def test_the_way_an_image_is_read_leaves_the_probabilities_of_its_classes(run, scene, model_folder):
    words = ("classify", scene, "-c", "harbor,airport", "-m", model_folder, "--json")
    value = json.loads(run(*words, "--bands", "3,2,1", "--stretch", "minmax")[1])
    assert set(value["probabilities"]) == {"harbor", "airport"}


def test_a_window_is_all_that_is_looked_at(run, scene, model_folder, says):
    says("forest")
    words = ("classify", scene, "-m", model_folder, "--tile", 50, "--json")
    assert json.loads(run(*words, "--window", "100,50,100,50")[1])["tiles"] == 2
    assert told(run(*words, "--window", "100,50,300,50"), "is not inside", "of 300 x 200 pixels")
    assert told(run(*words, "--window", "1,2,3"), "left,top,width,height")


def test_a_box_of_degrees_is_all_that_is_asked_about(run, scene, model_folder, says, tmp_path):
    """The scene begins at 15 degrees east, on the central meridian of its zone, at 45.16 degrees north."""
    says("2")
    corner = "15.0,45.1500,15.00250,45.1525"
    words = ("ask", scene, "How many cars?", "-m", model_folder, "--tile", 50, "--json")
    assert json.loads(run(*words)[1])["tiles"] == 24
    code, out, err = run(*words, "--bbox", corner)
    assert code == 0, err
    assert json.loads(out)["tiles"] == 6, "197 x 278 metres of two metres a pixel"
    far = run("caption", scene, "-m", model_folder, "-o", tmp_path / "c.csv", "--bbox", "1,1,2,2")
    assert far[0] == 1 and "does not lie in" in (tmp_path / "c.csv").read_text()


def test_a_folder_of_images_becomes_a_table_that_goes_on(run, harbor, model_folder, says, tmp_path):
    says("a harbor, with ships")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    code, _, err = run("caption", tmp_path, "-m", model_folder, "-o", tmp_path / "captions.csv")
    assert code == 3 and "2 images, 1 of them failed" in err
    rows = list(csv.reader((tmp_path / "captions.csv").open(newline="")))
    assert rows[0] == ["image", "caption", "score", "prompt", "model", "reading", "error"]
    assert rows[2] == [str(harbor), "a harbor, with ships", "0.5000", "", str(model_folder), "", ""]
    assert "broken.png" in rows[1][6]
    assert "broken.png is not" in err or "broken.png is damaged" in err
    Image.new("RGB", (50, 50)).save(tmp_path / "later.png")
    Image.new("RGB", (50, 50)).save(tmp_path / "broken.png")  # mended: what failed is asked again
    assert run("caption", tmp_path, "-m", model_folder, "-o", tmp_path / "captions.csv")[0] == 0
    rows = list(csv.reader((tmp_path / "captions.csv").open(newline="")))
    assert [Path(row[0]).name for row in rows[1:]] == ["harbor.png", "broken.png", "later.png"]
    assert all(row[1] for row in rows) and not any(row[6] for row in rows[1:])


def test_a_table_of_another_question_is_not_taken_for_this_one(run, harbor, model_folder, says, tmp_path):
    says("yes")
    words = ("-m", model_folder, "-o", tmp_path / "answers.csv")
    assert run("ask", harbor.parent, "Is there a ship?", *words)[0] == 0
    told(run("ask", harbor.parent, "Is it raining?", *words), "'Is there a ship?'", "--overwrite")
    told(run("ask", harbor.parent, "Is there a ship?", *words, "-s", "infrared"), "read with", "--overwrite")
    assert "1 of them were there before" in run("ask", harbor.parent, "Is there a ship?", *words)[2]
    assert run("ask", harbor.parent, "Is it raining?", *words, "--overwrite")[0] == 0
    assert {row["prompt"] for row in csv.DictReader((tmp_path / "answers.csv").open(newline=""))} == {"Is it raining?"}


def test_what_is_said_of_several_images_is_printed_with_their_names(run, harbor, model_folder, says, tmp_path):
    says("a harbor, with ships")
    Image.new("RGB", (50, 50)).save(tmp_path / "later.png")
    code, out, err = run("caption", tmp_path, "-m", model_folder)
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"{harbor}: a harbor, with ships", f"{tmp_path / 'later.png'}: a harbor, with ships"]
    code, out, _ = run("ask", tmp_path, "What is this?", "-m", model_folder, "--json")
    first = json.loads(out.splitlines()[0])
    assert first == {
        "image": str(harbor), "question": "What is this?", "answer": "a harbor, with ships", "score": 0.5,
    }  # fmt: skip
    told(run("caption", tmp_path, "-m", model_folder, "-o", tmp_path / "all.json"), "2 images", ".csv")
    told(run("caption", tmp_path, "-m", model_folder, "-o", tmp_path / "no" / "all.csv"), "there is no folder")


def test_the_version_is_shown(run):
    assert run("--version")[:2] == (0, f"earthgpt {earthgpt.__version__}\n")


def test_a_scene_without_a_valid_pixel_is_told(run, model_folder, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "width": 50, "height": 50, "count": 1, "dtype": "uint8", "nodata": 0}
    profile |= {"crs": "EPSG:32631", "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 0)}
    with rasterio.open(tmp_path / "empty.tif", "w", **profile) as file:
        file.write(np.zeros((1, 50, 50), np.uint8))
    told(run("ask", tmp_path / "empty.tif", "What is this?", "-m", model_folder), "no valid pixel")
    Image.new("L", (20, 20)).save(tmp_path / "black.png")
    code, _, err = run("ask", tmp_path / "black.png", "What is this?", "-m", model_folder)
    assert code == 0 and "every pixel is black" in err
    code, out, err = run("detect", tmp_path / "empty.tif", "-m", model_folder)
    assert (code, out) == (0, "nothing found\n") and "no valid pixel" in err


def test_each_of_many_images_has_an_output_by_its_name(run, scene, harbor, model_folder, says, tmp_path):
    says("There is one ship [0.500,0.500,0.600,0.600] in the image.")
    assert told(run("detect", scene, harbor, "-m", model_folder, "-o", tmp_path / "x.geojson"), "{name}")
    assert told(run("detect", scene, harbor, "-m", model_folder, "-o", tmp_path / "x.coco.json"), "{name}.coco.json")
    assert run("detect", scene, harbor, "-m", model_folder, "-o", tmp_path / "{name}.geojson")[0] == 0
    assert {path.name for path in tmp_path.glob("*.geojson")} == {"scene.geojson", "harbor.geojson"}
    (tmp_path / "broken.png").write_bytes(b"nothing")
    code, _, err = run("detect", scene, tmp_path / "broken.png", "-m", model_folder)
    assert code == 3 and "1 of 2 images failed" in err and "broken.png" in err


def test_classes_have_the_same_number_in_the_files_of_all_images(run, tmp_path):
    for i, (seed, sensor) in enumerate(((300, "optical"), (301, "optical"))):
        Image.fromarray(synthetic.scene(seed, Sensor(sensor), (160, 160)).image()).save(tmp_path / f"{i}.png")
    (tmp_path / "out").mkdir()
    for name in ("yolo.txt", "coco.json"):
        asked = ("-c", "storage tanks", "-c", "ship", "-s", "optical", "-o", tmp_path / "out" / f"{{name}}.{name}")
        assert run("detect", tmp_path / "0.png", tmp_path / "1.png", *asked)[0] == 0
    for i in range(2):
        assert (tmp_path / "out" / f"{i}.yolo.names").read_text().split("\n")[:2] == ["storage tank", "ship"]
        categories = json.loads((tmp_path / "out" / f"{i}.coco.json").read_text())["categories"]
        assert categories == [{"id": 1, "name": "storage tank"}, {"id": 2, "name": "ship"}]
    assert run("detect", tmp_path / "0.png", "-o", tmp_path / "out" / "all.coco.json")[0] == 0
    categories = json.loads((tmp_path / "out" / "all.coco.json").read_text())["categories"]
    known = earthgpt.load().model.dense_heads.vocabulary.objects
    assert [one["name"] for one in categories] == list(known), "the same for images of every sensor"
    assert run("detect", tmp_path / "0.png", "-o", tmp_path / "out" / "all.geojson")[0] == 0
    found = {one["properties"]["label"] for one in json.loads((tmp_path / "out/all.geojson").read_text())["features"]}
    style = (tmp_path / "out" / "all.qml").read_text()
    assert found and [one for one in known if f'"{one}"' in style] == [one for one in known if one in found]


def test_images_of_one_name_are_named_and_a_format_that_needs_a_place_is_refused_before_the_work(
    run, harbor, model_folder, tmp_path, monkeypatch
):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.open(harbor).save(tmp_path / folder / "port.png")
    pictures = [tmp_path / folder / "port.png" for folder in ("a", "b")]
    monkeypatch.setattr("earthgpt.cli.surveys.load_model", None)  # it is not come to that
    words = ("detect", *pictures, "-c", "ship", "-m", model_folder, "-o")
    assert told(run(*words, tmp_path / "{name}.geojson"), "Several images are called port, and so would")
    assert told(run("detect", harbor, "-c", "ship", "-o", tmp_path / "port.kml"), "KML has longitude and latitude only")
    assert not (tmp_path / "port.kml").exists()


def test_places_keep_their_properties_in_what_is_written(run, scene, model_folder, says, tmp_path):
    says("a quay")
    ring = [[15.0, 45.15], [15.003, 45.15], [15.003, 45.148], [15.0, 45.15]]
    own = ({"fid": 4, "name": "north", "area": 2.5, "label": "P1", "tags": ["a"]}, {"fid": 5, "name": None, "area": 3})
    features = [
        {"type": "Feature", "properties": one, "geometry": {"type": "Polygon", "coordinates": [ring]}} for one in own
    ]
    (tmp_path / "parcels.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    words = ("describe", scene, "--places", tmp_path / "parcels.geojson", "-m", model_folder, "-o")
    for name in ("told.geojson", "told.gpkg"):
        code, _, err = run(*words, tmp_path / name)
        assert code == 0, err
    one, other = (one["properties"] for one in json.loads((tmp_path / "told.geojson").read_text())["features"])
    assert (one["label"], one["place_label"], one["name"], one["place_fid"]) == ("a quay", "P1", "north", 4)
    assert (one["area"], one["tags"], other["area"], "name" in other) == (2.5, '["a"]', 3.0, False)
    table = pytest.importorskip("pyogrio").read_dataframe(tmp_path / "told.gpkg")
    assert list(table["place_fid"]) == [4, 5] and list(table["name"].isna()) == [False, True]


def test_places_outside_the_scene_are_left_out_and_counted(run, scene, model_folder, says, tmp_path):
    says("a quay")
    points = ([15.002, 45.151], [16, 45])
    features = [{"type": "Feature", "geometry": {"type": "Point", "coordinates": one}} for one in points]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    code, out, err = run("describe", scene, "--places", tmp_path / "a.geojson", "-m", model_folder)
    assert code == 0, err
    assert out.count("a quay") == 1 and "1 features do not lie in" in err and "(number 2)" in err
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features[1:]}))
    assert told(run("describe", scene, "--places", tmp_path / "a.geojson", "-m", model_folder), "No feature of")


def test_the_way_a_picture_is_read_is_an_option_of_every_command(run, harbor, model_folder, says, tmp_path):
    says("There is one ship [0.500,0.500,0.600,0.600] in the image.")
    words = ("detect", harbor, "-c", "ship", "-m", model_folder, "--crs", "EPSG:32633", "--nodata", 0, "-o")
    code, _, err = run(*words, tmp_path / "a.geojson", "-s", "infrared", "--black-hot")
    assert code == 0, err
    assert told(run(*words, tmp_path / "b.geojson", "--looks", 4), "looks and speckle are for sar")


def test_a_table_knows_an_image_by_any_of_its_names(run, harbor, model_folder, says, tmp_path, monkeypatch):
    says("a port")
    monkeypatch.chdir(harbor.parent)
    words = ("caption", "-m", model_folder, "-o", tmp_path / "a.csv")
    for name in (harbor, harbor.name):
        assert run(words[0], name, *words[1:])[0] == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 2


def test_threads_that_wait_soon_sleep_unless_somebody_chose_otherwise(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    console.be_quiet()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("PASSIVE", "3000")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    console.be_quiet()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE" and "GOMP_SPINCOUNT" not in os.environ


def test_objects_in_a_large_image_that_is_seen_whole_are_told_to_be_missed(run, tmp_path, caplog):
    Image.fromarray(synthetic.scene(300, Sensor.OPTICAL, (900, 700)).image()).save(tmp_path / "a.png")
    for command, words in (("ask", "How many ships are there?"), ("ground", "the ship")):
        assert run(command, tmp_path / "a.png", words)[0] == 0
        assert "looked at as a whole, and small objects are missed: tiles of 896" in caplog.text
        caplog.clear()
    for i, side in enumerate((900, 950)):
        Image.new("RGB", (side, 200), (9, 90, 9)).save(tmp_path / f"large_{i}.png")
    images = [tmp_path / name for name in ("a.png", "large_0.png", "large_1.png")]
    err = run("ask", *images, "How many ships are there?", "-o", tmp_path / "a.csv")[2]
    assert err.count("looked at as a whole") == 1 and "3 images have more than 896 pixels a side" in err
    assert "as a whole" in run("ask", *images, "How many ships are there?")[2]
    assert run("ask", tmp_path / "a.png", "What is the weather like?")[0] == 0
    assert run("detect", tmp_path / "a.png", "-c", "ship")[0] == 0
    assert run("ask", tmp_path / "a.png", "How many ships are there?", "--tile", "448")[0] == 0
    assert "as a whole" not in caplog.text

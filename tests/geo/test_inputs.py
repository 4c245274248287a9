"""Files, folders, patterns and STAC items become a list of images."""

import json
import os
import sys
from pathlib import Path

import pytest

from earthgpt.geo.inputs import expand
from earthgpt.geo.sources import MAPS
from earthgpt.types import EarthGPTError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.tif", "a.PNG", "deep/c.jpg", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_hidden_files_are_no_images_of_a_folder(folder):
    (folder / "._a.PNG").touch()
    (folder / "d.gif").touch()
    assert "d.gif" in names(expand([folder]), folder) and "._a.PNG" not in names(expand([folder]), folder)


def names(found, folder):
    return [path.relative_to(folder).as_posix() for path in found]


def test_a_folder_is_all_images_below_it(folder):
    assert names(expand([folder]), folder) == ["a.PNG", "b.tif", "deep/c.jpg"]


def test_patterns_and_files_come_in_order_and_each_once(folder):
    found = expand([folder / "b.tif", folder / "**" / "*.[tj][ip][fg]"])
    assert names(found, folder) == ["b.tif", "deep/c.jpg"]


def test_what_was_named_before_is_no_mistake(folder):
    assert names(expand([folder, folder, folder / "*.tif"]), folder) == ["a.PNG", "b.tif", "deep/c.jpg"]


def item(**assets):
    return {"type": "Feature", "stac_version": "1.0.0", "assets": assets}


def test_of_a_stac_item_the_asset_that_shows_it_is_taken(folder):
    assets = {"thumbnail": {"href": "a.PNG", "roles": ["thumbnail"]}, "image": {"href": "b.tif", "roles": ["data"]}}
    (folder / "item.json").write_text(json.dumps(item(**assets)))
    assert names(expand([folder / "item.json"]), folder) == ["b.tif"]
    both = {
        "type": "FeatureCollection",
        "features": [item(**assets), item(x={"href": "deep/c.jpg", "type": "image/jpeg"})],
    }
    (folder / "items.json").write_text(json.dumps(both))
    assert names(expand([folder / "items.json"]), folder) == ["b.tif", "deep/c.jpg"]


@pytest.mark.parametrize("content", ["7", "{}", "[1]", '{"assets": 3}', "nothing"])
def test_other_json_is_told(folder, content):
    (folder / "some.json").write_text(content)
    with pytest.raises(EarthGPTError, match=r"some\.json is no STAC item"):
        expand([folder / "some.json"])


@pytest.mark.parametrize("assets", [{}, {"x": {"href": "x.json", "type": "application/json", "roles": ["metadata"]}}])
def test_an_item_without_an_image_is_told(folder, assets):
    (folder / "item.json").write_text(json.dumps(item(**assets)))
    with pytest.raises(EarthGPTError, match=r"item\.json has no asset that is an image"):
        expand([folder / "item.json"])


def test_what_is_elsewhere_is_not_fetched(folder):
    (folder / "item.json").write_text(json.dumps(item(x={"href": "https://example.org/x.tif", "roles": ["data"]})))
    with pytest.raises(EarthGPTError, match="download it first"):
        expand([folder / "item.json"])


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_a_name_that_is_not_utf_8_is_told(tmp_path):
    Path(os.fsdecode(bytes(tmp_path) + b"/sh\xf6re.png")).touch()
    with pytest.raises(EarthGPTError, match=r"sh\ufffdre\.png is not UTF-8: rename it"):
        expand([tmp_path])


def test_maps_of_every_format_that_opens_are_images_of_a_folder(tmp_path):
    for ending in MAPS:
        (tmp_path / f"a{ending}").write_bytes(b"?")
    assert [path.suffix for path in expand([tmp_path])] == sorted({*MAPS} - {".dat", ".h5"})  # thumbnails, weights
    assert expand([tmp_path / "a.dat"]) == [tmp_path / "a.dat"]


def test_nothing_is_told(folder):
    (folder / "empty").mkdir()
    for one in (folder / "empty", folder / "*.jp2"):
        with pytest.raises(EarthGPTError, match="holds no image"):
            expand([one])
    assert expand([folder / "missing.tif"]) == [folder / "missing.tif"]  # whoever opens it says that it is missing


def test_the_folder_of_a_product_is_one_image_and_an_address_stays_as_it_is(tmp_path):
    scene = tmp_path / "LC08_L1TP_042034_20170616_20170629_01_T1"
    scene.mkdir()
    for band in (2, 3, 4):
        (scene / f"{scene.name}_B{band}.TIF").write_bytes(b"II*\0")
    assert expand([scene, "https://example.org/a.tif"]) == [scene, "https://example.org/a.tif"]
    (scene / f"{scene.name}_QA_PIXEL.TIF").write_bytes(b"II*\0")  # one of its own
    assert expand([scene]) == [scene]


def test_a_folder_of_images_is_one_though_a_product_is_among_them(tmp_path):
    bands = [tmp_path / f"LC08_L2SP_042034_20170616_20200903_02_T1_SR_B{band}.TIF" for band in (2, 3, 4)]
    for path in bands:
        path.write_bytes(b"II*\0")
    assert expand([tmp_path]) == [tmp_path]
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert expand([tmp_path]) == [*bands, tmp_path / "photo.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_links_of_a_folder_that_lead_nowhere_are_counted(folder, caplog):
    (folder / "gone.tif").symlink_to(folder / "nowhere.tif")
    (folder / "linked.tif").symlink_to(folder / "b.tif")
    assert names(expand([folder]), folder) == ["a.PNG", "b.tif", "deep/c.jpg", "linked.tif"]
    assert "1 links lead nowhere" in caplog.text and "gone.tif" in caplog.text

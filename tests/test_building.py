"""Building an instruction set: the same bytes each time, whole or not at all, and no test image unseen."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import downloads
import numpy as np
import pytest
from PIL import Image

from earthgpt import conversations, lookup
from earthgpt.building import build
from earthgpt.config import BuildRecipe, Recipe, Source, load_recipe
from earthgpt.geo.raster import read_pixels
from earthgpt.geo.tiles import parse_fragment
from earthgpt.mixture import open_sources
from earthgpt.types import EarthGPTError, Sensor

RECIPE = Path(__file__).parents[1] / "recipes" / "build_mmrs.toml"


@pytest.fixture
def roots(tmp_path):
    """Three downloads side by side."""
    return {
        "rsicd": downloads.rsicd(tmp_path / "in" / "RSICD"),
        "rsscn7": downloads.rsscn7(tmp_path / "in" / "RSSCN7"),
        "hit_uav": downloads.hit_uav(tmp_path / "in" / "HIT-UAV"),
    }


def recipe(output, roots, **changes) -> BuildRecipe:
    sources = [{"dataset": name, "root": str(root)} for name, root in roots.items()]
    return BuildRecipe(**{"output": str(output), "sources": sources, "workers": 1, **changes})


def records(folder):
    return [json.loads(line) for line in (folder / "mmrs.jsonl").read_text().splitlines()]


def told(message):
    """``pytest.raises`` of an EarthGPTError with these words."""
    return pytest.raises(EarthGPTError, match=message)


# --- the output --------------------------------------------------------------------------------------------------


def test_the_output_has_the_form_of_the_release_and_its_images_are_there(tmp_path, roots):
    built = build(recipe(tmp_path / "out", roots))
    assert sorted(path.name for path in built.folder.iterdir()) == [
        "data", "manifest.json", "mmrs.json", "mmrs.jsonl", "recipe.json",
    ]  # fmt: skip
    found = records(built.folder)
    assert json.loads((built.folder / "mmrs.json").read_text()) == found
    assert len(found) == 5 + 7 + 2
    for record in found:
        assert set(record) == {"image", "conversations"}
        assert record["image"].startswith("data/") and (built.folder / record["image"]).is_file()
        assert [turn["from"] for turn in record["conversations"]] == ["human", "gpt"] * (
            len(record["conversations"]) // 2
        )
    checked = conversations.validate(built.folder / "mmrs.json", built.folder)
    assert (checked.records, checked.defects) == (14, {})


def test_the_manifest_counts_what_was_built_beside_table_1(tmp_path, roots):
    manifest = build(recipe(tmp_path / "out", roots)).manifest
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["totals"] == {"images": 5 + 7 + 3, "records": 14, "turns": 10 + 7 + 10}
    captions, scenes, objects = manifest["sets"]
    assert (captions["turns"], captions["turns_of_the_paper"], captions["licence"]) == (
        10, 24_333, "none stated; academic use",
    )  # fmt: skip
    assert objects["defects"] == {"images or tiles with nothing to ask": 1}
    assert (scenes["share"], scenes["splits"], scenes["weight"]) == (0.2, ["all"], 1.0)
    assert str(tmp_path) not in json.dumps(manifest), "a manifest is the same on every machine"


def test_the_same_recipe_gives_the_same_bytes_with_any_number_of_processes(tmp_path, roots):
    for name, workers in (("one", 1), ("two", 3)):
        build(recipe(tmp_path / name, roots, workers=workers))
    for file in ("mmrs.json", "mmrs.jsonl", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    build(recipe(tmp_path / "other", roots, seed=1))
    assert (tmp_path / "one" / "mmrs.jsonl").read_bytes() != (tmp_path / "other" / "mmrs.jsonl").read_bytes()


def test_coordinates_and_tags_are_written_as_the_recipe_says(tmp_path, roots):
    only = {"hit_uav": roots["hit_uav"]}
    build(recipe(tmp_path / "out", only, decimals=3, tagged=True))
    answer = records(tmp_path / "out")[0]["conversations"][1]["value"]
    # The car: 4,8,8,4 in pixels of 64 x 48, on a square of 64 with the image 8 pixels down.
    assert "<p>one car</p>[0.062,0.250,0.188,0.312]" in answer


def test_images_are_copied_or_left_where_they_are(tmp_path, roots):
    build(recipe(tmp_path / "copied", roots, images="copy"))
    assert not (tmp_path / "copied" / "data" / "rsicd").is_symlink()
    assert (tmp_path / "copied" / records(tmp_path / "copied")[0]["image"]).is_file()
    build(recipe(tmp_path / "none", roots, images="none"))
    assert not (tmp_path / "none" / "data").exists()
    assert records(tmp_path / "none") == records(tmp_path / "copied")


def test_without_images_a_broken_one_is_compared_by_its_name(tmp_path, roots):
    folder = roots["rsicd"] / "RSICD_images"
    (folder / "beach_2.jpg").write_bytes(b"no image")
    whole = (folder / "airport_1.jpg").read_bytes()
    (folder / "airport_1.jpg").write_bytes(whole[: len(whole) // 2])
    built = build(recipe(tmp_path / "out", {"rsicd": roots["rsicd"]}, images="none", compare="looks"))
    assert built.manifest["totals"]["images"] == 5
    assert built.manifest["sets"][0]["defects"]["broken images, compared by their names"] == 2


def test_images_of_two_folders_with_one_name_are_refused_before_any_is_copied(tmp_path):
    for folder, grey in (("a", 10), ("b", 200)):
        downloads.picture(tmp_path / folder / "ship" / "1.png", grey)
    sources = [{"dataset": "own_classes", "root": str(tmp_path / folder), "splits": ["all"]} for folder in "ab"]
    with told("own_classes is taken from .*a and from .*b"):
        build(BuildRecipe(output=str(tmp_path / "out"), sources=sources, policy="clean", images="copy", workers=1))
    assert not (tmp_path / "out" / "data").exists()


def test_a_folder_of_ones_own_is_trained_on_as_what_its_sensor_is(tmp_path):
    for i in range(3):
        downloads.picture(tmp_path / "in" / "ship" / f"{i}.png", i)
    (tmp_path / "in" / "sensor.txt").write_text("sar")
    sources = [{"dataset": "own_classes", "root": str(tmp_path / "in"), "splits": ["all"]}]
    built = build(BuildRecipe(output=str(tmp_path / "out"), sources=sources, policy="clean", workers=1))
    assert built.manifest["sets"][0]["sensors"] == ["sar"]
    (part,) = open_sources(Recipe(model="tiny", output="out", steps=1, sources=[Source(records=str(built.folder))]))
    assert part.sensor is Sensor.SAR


def test_synthetic_scenes_are_drawn_into_the_output(tmp_path, monkeypatch):
    sources = [{"dataset": "synthetic", "splits": ["val"], "tasks": ["scene_classification"], "share": 0.1}]
    build(BuildRecipe(output=str(tmp_path), sources=sources, policy="clean", workers=1))
    found = records(tmp_path)
    assert len(found) > 10
    assert Image.open(tmp_path / found[0]["image"]).size[0] > 64


# --- large images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiles", ["windows", "files"])
def test_large_images_are_cut_into_tiles_with_their_objects(tmp_path, tiles):
    root = downloads.air_sarship2(tmp_path / "in")
    options = {"tile": 100, "overlap": 20, "tiles": tiles}
    manifest = build(recipe(tmp_path / "out", {"air_sarship2": root}, **options)).manifest
    found = records(tmp_path / "out")
    # 200 x 120 in tiles of 100 that share 20: three columns and two rows. The left ship is in one tile, the right one
    # at y 60 to 66 in both rows.
    assert len(found) == 3
    assert manifest["sets"][0]["defects"]["tiles without objects"] == 3
    for record in found:
        name, window = parse_fragment(record["image"])
        assert (window is None) == (tiles == "files")
        assert read_pixels(tmp_path / "out" / name, window, Sensor.SAR).shape[:2] == (100, 100)
    assert conversations.validate(tmp_path / "out" / "mmrs.jsonl", tmp_path / "out").defects == {}
    assert found[0]["conversations"][1]["value"] == "There is one ship [0.04,0.10,0.14,0.16] in the image."


def test_tiles_of_other_images_and_sizes_are_other_files(tmp_path):
    root = tmp_path / "in"
    for i, name in enumerate(("a_b/c", "a/b_c")):
        path, label = root / "train/images" / f"{name}.png", root / "train/labelTxt-v2.0" / f"{Path(name).name}.txt"
        for one in (path, label):
            one.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((200, 200), 50 + 100 * i, np.uint8)).save(path)
        label.write_text("20 20 60 20 60 60 20 60 ship 0\n")
    for tile in (150, 100):  # the second one in the same folder, as after a build that failed
        sources = [{"dataset": "dota_v2", "root": str(root), "splits": ["train"]}]
        build(recipe(tmp_path / "out", {}, sources=sources, tile=tile, overlap=20, tiles="files"))
        for record in records(tmp_path / "out"):
            pixels = read_pixels(tmp_path / "out" / record["image"], None, Sensor.OPTICAL)
            assert pixels.shape[:2] == (tile, tile) and pixels.mean() == (50 if "a_b" in record["image"] else 150)
        for file in ("manifest.json", "mmrs.json", "mmrs.jsonl"):
            (tmp_path / "out" / file).unlink()


# --- going on, and not being half-written ------------------------------------------------------------------------


def test_a_killed_build_goes_on_and_gives_the_same_bytes(tmp_path, roots):
    build(recipe(tmp_path / "whole", roots))
    toml = tmp_path / "recipe.toml"
    lines = [f'output = "{tmp_path / "killed"}"', "workers = 1"]
    for name, root in roots.items():
        lines += ["[[sources]]", f'dataset = "{name}"', f'root = "{root}"']
    toml.write_text("\n".join(lines))
    command = [sys.executable, "-m", "earthgpt", "build", str(toml)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = tmp_path / "killed" / "parts" / "00_rsicd.report.json"
    until = time.monotonic() + 60
    while not first.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "mmrs.json").exists()
    written = first.stat().st_mtime_ns
    seen = []
    build(recipe(tmp_path / "killed", roots), lambda name, done, total: seen.append((name, first.stat().st_mtime_ns)))
    assert seen[0] == ("00_rsicd", written), "the set that was finished is not built again"
    for file in ("mmrs.json", "mmrs.jsonl", "manifest.json"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_disk_that_fills_is_one_error_and_leaves_no_half_file(tmp_path, roots):
    script = (
        "import resource, sys\n"
        "from earthgpt.building import build\n"
        "from earthgpt.config import load_recipe, BuildRecipe\n"
        "from earthgpt.types import EarthGPTError\n"
        "if __name__ == '__main__':\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))\n"
        "    try: build(load_recipe(sys.argv[1], kind=BuildRecipe))\n"
        "    except EarthGPTError as error: sys.exit(f'said: {error}')\n"
    )
    path = tmp_path / "full.py"
    path.write_text(script)
    toml = tmp_path / "recipe.toml"
    toml.write_text(
        f'output = "{tmp_path / "out"}"\nworkers = 1\n[[sources]]\ndataset = "rsicd"\nroot = "{roots["rsicd"]}"\n'
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, str(path), str(toml)], capture_output=True, text=True)
    assert done.returncode == 1 and "said: Cannot write" in done.stderr and "File too large" in done.stderr
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"recipe.json", "evaluation.pickle"}


def test_a_finished_set_is_not_overwritten_by_another_recipe(tmp_path, roots):
    build(recipe(tmp_path / "out", roots))
    before = (tmp_path / "out" / "mmrs.json").read_bytes()
    with told(r"another recipe \(seed changed\)"):
        build(recipe(tmp_path / "out", roots, seed=3))
    build(recipe(tmp_path / "out", roots, workers=2))
    assert (tmp_path / "out" / "mmrs.json").read_bytes() == before


# --- bad input ---------------------------------------------------------------------------------------------------


def test_a_set_that_fails_stops_the_build_or_is_named_when_the_others_go_on(tmp_path, roots):
    (roots["hit_uav"] / "normal_json" / "annotations" / "val.json").write_text('{"images": [')
    with told(r"val\.json is not valid JSON"):
        build(recipe(tmp_path / "out", roots))
    assert not (tmp_path / "out" / "mmrs.json").exists()
    built = build(recipe(tmp_path / "out", roots, go_on=True))
    assert list(built.failed) == ["hit_uav"] and "val.json" in built.failed["hit_uav"]
    assert [report["dataset"] for report in built.manifest["sets"]] == ["rsicd", "rsscn7"]


def test_a_folder_that_is_not_there_is_left_out_when_the_others_go_on(tmp_path, roots):
    some = {**roots, "dior": tmp_path / "nowhere"}
    with told("No folder"):
        build(recipe(tmp_path / "out", some))
    built = build(recipe(tmp_path / "out", some, go_on=True))
    assert built.failed == {} and "nowhere" in built.manifest["left_out"]["dior"]


def test_missing_and_broken_images_stop_a_set_unless_they_are_left_out(tmp_path, roots):
    only = {"rsicd": roots["rsicd"]}
    (roots["rsicd"] / "RSICD_images" / "beach_2.jpg").unlink()
    path = roots["rsicd"] / "RSICD_images" / "airport_1.jpg"
    path.write_bytes(path.read_bytes()[:-30])  # its head is whole
    with told(r"1 images of RSICD are missing or broken \(beach_2\.jpg"):
        build(recipe(tmp_path / "out", only, compare="names"))
    for options in ({"compare": "names", "verify": True}, {"compare": "looks"}):
        with told(r"2 images of RSICD are missing or broken"):
            build(recipe(tmp_path / "out", only, **options))
    manifest = build(recipe(tmp_path / "out", only, verify=True, broken="left_out")).manifest
    assert manifest["totals"]["images"] == 3
    assert manifest["sets"][0]["defects"]["missing or broken images, left out"] == 2


# A set of class folders is its images, so that it misses none.
@pytest.mark.parametrize(
    ("kind", "damage"),
    [("own_coco", Path.unlink), ("own_coco", Path.touch), ("own_classes", Path.touch)],
)
def test_images_whose_size_nobody_states_stop_a_set_too(tmp_path, kind, damage):
    for i in range(12):
        (tmp_path / "in" / "lake").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(tmp_path / "in" / "lake" / f"{i}.png")
    if kind == "own_coco":
        content = {
            "images": [{"id": i, "file_name": f"lake/{i}.png"} for i in range(12)],
            "categories": [{"id": 1, "name": "boat"}],
            "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in range(12)],
        }
        (tmp_path / "in" / "a.json").write_text(json.dumps(content))
    one = recipe(tmp_path / "out", {kind: tmp_path / "in"})
    assert build(one.model_copy(update={"output": str(tmp_path / "whole")})).manifest["totals"]["images"] > 9
    lost = sorted(record["image"] for record in records(tmp_path / "whole"))[0]
    (tmp_path / "in" / "lake" / Path(lost).name).write_bytes(b"")
    damage(tmp_path / "in" / "lake" / Path(lost).name)
    with told("1 images of .* are missing or broken"):
        build(one)
    assert build(one.model_copy(update={"broken": "left_out"})).manifest["totals"]["images"] > 8


def test_a_folder_of_ones_own_keeps_the_tenth_that_is_held_out(tmp_path):
    for i in range(40):
        downloads.picture(tmp_path / "in" / "lake" / f"{i}.png", i)
    dataset = lookup.find("datasets", "own_classes")
    for policy in ("paper", "clean"):
        build(recipe(tmp_path / policy, {"own_classes": tmp_path / "in"}, policy=policy))
        built = {Path(one["image"]).name for one in records(tmp_path / policy)}
        held_out = {Path(one.name).name for one in dataset.read(tmp_path / "in", "val")}
        assert held_out and built == {f"{i}.png" for i in range(40)} - held_out


# --- leaks -------------------------------------------------------------------------------------------------------


def test_a_build_of_the_paper_says_which_test_images_it_trains_on(tmp_path, roots):
    report = build(recipe(tmp_path / "out", {"rsicd": roots["rsicd"]})).manifest["sets"][0]
    assert report["leaks"] == {"rsicd test, by name": 1}
    assert report["leak_examples"] == ["pond_5.jpg is aid/pond_5 of rsicd test (by name)"]


def test_a_clean_build_refuses_images_that_are_evaluated_on_or_leaves_them_out(tmp_path, roots):
    evaluated = tmp_path / "in" / "AID"
    downloads.picture(evaluated / "Beach" / "beach_2.jpg", 77)  # another picture of the same name: the name tells
    again = Image.open(roots["rsicd"] / "RSICD_images" / "airport_1.jpg").resize((50, 40))
    (evaluated / "Airport").mkdir()
    again.save(evaluated / "Airport" / "airport_900.png")  # the same picture at another size: its looks tell
    options = {"policy": "clean", "evaluation": [{"dataset": "aid", "root": str(evaluated)}]}
    only = {"rsicd": roots["rsicd"]}
    with told(r"RSICD has images that are evaluated on: 1 of aid all, by looks; 1 of aid all, by name"):
        build(recipe(tmp_path / "out", only, **options))
    assert not (tmp_path / "out" / "mmrs.json").exists()
    report = build(recipe(tmp_path / "out", only, leaks="leave_out", **options)).manifest["sets"][0]
    assert report["images"] == 4 - 2
    assert report["leaks"] == {"aid all, by looks": 1, "aid all, by name": 1}
    by_name = build(recipe(tmp_path / "names", only, leaks="leave_out", compare="names", **options)).manifest["sets"][0]
    assert by_name["leaks"] == {"aid all, by name": 1}


def test_tests_of_a_source_are_compared_with_whatever_split_of_it_is_evaluated(tmp_path, roots):
    listing = roots["rsicd"] / "dataset_rsicd.json"
    images = json.loads(listing.read_text())["images"]
    twice = next(image for image in images if image["split"] == "test")
    listing.write_text(json.dumps({"images": [*images, {**twice, "split": "train"}]}))
    options = {"policy": "clean", "evaluation": [{"dataset": "rsicd", "root": str(roots["rsicd"]), "splits": ["val"]}]}
    with told(r"evaluated on: 1 of rsicd test, by name"):
        build(recipe(tmp_path / "out", {"rsicd": roots["rsicd"]}, **options))


def test_a_test_split_that_is_missing_hides_no_other(tmp_path):
    root = downloads.rsvqa_hr(tmp_path / "in")  # it has the second test, not the first
    for kind in ("questions", "answers"):
        for split in ("train", "val"):
            shutil.copy(root / f"USGS_split_test_phili_{kind}.json", root / f"USGS_split_{split}_{kind}.json")
    with told("4 of rsvqa_hr test_phili, by name"):
        build(recipe(tmp_path / "out", {"rsvqa_hr": root}, policy="clean"))
    manifest = build(recipe(tmp_path / "out", {"rsvqa_hr": root}, policy="clean", leaks="report")).manifest
    assert manifest["evaluation_sets_not_there"] == ["rsvqa_hr test"]


def test_near_copies_within_one_set_are_reported_and_kept(tmp_path, roots):
    folder = roots["hit_uav"] / "normal_json"
    listing = json.loads((folder / "annotations" / "val.json").read_text())
    (folder / "annotations" / "test.json").write_text(json.dumps(listing).replace("1_60_30_0_3", "1_60_30_0_4"))
    (folder / "test").mkdir()
    frame = Image.open(folder / "val" / "1_60_30_0_3.jpg")
    frame.save(folder / "test" / "1_60_30_0_4.jpg", quality=60)
    report = build(recipe(tmp_path / "out", {"hit_uav": roots["hit_uav"]}, policy="clean")).manifest["sets"][0]
    assert report["leaks"] == {"hit_uav test, near copies": 1}
    assert report["images"] == 3


# --- licences and recipes ----------------------------------------------------------------------------------------


def test_a_build_for_gain_leaves_out_what_no_licence_clearly_allows(tmp_path, roots):
    manifest = build(recipe(tmp_path / "out", roots, purpose="commercial")).manifest
    assert [report["dataset"] for report in manifest["sets"]] == ["hit_uav"]
    assert set(manifest["left_out"]) == {"rsicd", "rsscn7"}
    assert "academic" in manifest["left_out"]["rsicd"]


def test_the_recipe_of_mmrs_names_the_34_sets_of_table_1():
    from earthgpt import lookup

    found = load_recipe(RECIPE, kind=BuildRecipe)
    named = [source.dataset for source in found.sources]
    assert len(set(named)) == 34
    assert sum(lookup.find("datasets", name).paper.turns for name in named) == 1_005_842


def test_a_misspelt_key_of_a_build_is_named(tmp_path):
    with told(r"unknown key 'polcy'; did you mean 'policy'"):
        load_recipe(RECIPE, ["polcy=clean"], BuildRecipe)
    with told(r"did you mean 'splits'"):
        load_recipe(RECIPE, ["sources.0.split=['train']"], BuildRecipe)

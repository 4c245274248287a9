"""A download is counted beside its card, with or without its images, and nothing that is wrong stays unsaid."""

import json
import re
from pathlib import Path

import downloads
import pytest

import earthgpt
from earthgpt import lookup
from earthgpt.checking import ACTIONS, check, what_is_done
from earthgpt.image_files import NO_SIZE
from earthgpt.types import EarthGPTError

ROOT = Path(earthgpt.__file__).parent


def test_images_objects_and_turns_stand_beside_what_is_expected(tmp_path):
    found = check("hit_uav", downloads.hit_uav(tmp_path))
    # Three objects in two images of training, and DontCare in one of validation; (1 + classes), upright and oriented.
    assert found.found == {"images": 3, "objects": 4, "turns": 2 * 3 + 2 * 2}
    assert found.expected == {"images": 2_898, "objects": 24_899, "turns": 10_608}
    assert (found.splits["train"].images, found.splits["train"].images_expected) == (2, 2_029)
    assert "annotations/test.json" in found.splits["test"].problem
    assert found.defects == {}
    value = json.loads(json.dumps(found.to_dict()))
    assert value["found"]["turns"] == 10 and value["matches"]["turns"] is False


def test_annotations_alone_are_counted_too(tmp_path):
    root = downloads.hit_uav(tmp_path, rotated=False)
    for path in root.rglob("*.jpg"):
        path.unlink()
    found = check("hit_uav", root)
    assert found.found == {"images": 3, "objects": 4, "turns": 5}
    assert found.defects == {"images without their oriented boxes": 3, "missing images": 3}


def test_captions_are_counted_as_such_and_classes_of_images_not_at_all(tmp_path):
    captions = check("rsicd", downloads.rsicd(tmp_path / "a"))
    assert (captions.unit, captions.found) == ("captions", {"images": 5, "objects": 10, "turns": 10})
    scenes = check("rsscn7", downloads.rsscn7(tmp_path / "b"))
    assert scenes.found == {"images": 35, "objects": None, "turns": 7}
    assert scenes.expected == {"images": 2_800, "objects": None, "turns": 560}


def test_a_clean_build_is_counted_when_asked_for(tmp_path):
    assert check("rsicd", downloads.rsicd(tmp_path), "clean").turns == 4 * 2 + 3


def test_a_defect_is_counted_once_though_every_split_reads_the_whole_download(tmp_path):
    boxes = [{"image_id": 0, "category_id": 0, "bbox": [1, 1, 4, 4], "iscrowd": crowd} for crowd in (0, 1)]
    for i, part in enumerate(("train", "val")):
        downloads.picture(tmp_path / part / f"{part}.png", i)
        downloads.picture(tmp_path / part / "alone.png", 10 + i)
        images = [{"id": 0, "file_name": f"{part}.png", "width": 64, "height": 48}]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "ship"}]}
        (tmp_path / f"{part}.json").write_text(json.dumps(content))
    for name in ("infrared_security", "own_coco"):  # the second reads it as "all" too
        found = check(name, tmp_path)
        assert found.defects == {"crowds": 2, "images without annotations": 2}
        assert (found.found["images"], found.found["objects"]) == (2, 2)


MINE = """
from pathlib import Path
from earthgpt.datasets import DETECTION, Dataset
from earthgpt.types import Box, Region, Sample

def read(root, split, defects):
    for name in ("a", "b", "a"):
        yield Sample(IMAGE, name, (9, 9), "sar", regions=(Region(Box(0, 0, 1, 1), "ship"),))

TASKS = ("region_captioning", *DETECTION)
DATASET = Dataset("Mine", ("sar",), TASKS, "", "", "", ("all",), ("ship",), {"all": 3}, read)
"""


def test_a_reader_that_says_a_name_twice_or_gives_no_path_is_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sets_of_mine").mkdir()
    (tmp_path / "sets_of_mine" / "twice.py").write_text(MINE.replace("IMAGE", 'Path("a.png")'))
    (tmp_path / "sets_of_mine" / "no_path.py").write_text(MINE.replace("IMAGE", '"a.png"'))
    found = check("sets_of_mine.twice", tmp_path)
    assert found.defects == {"names that stand twice": 1} and found.images == 2
    assert found.found["objects"] == 3, "its first task says nothing of how its objects are called"
    with pytest.raises(EarthGPTError, match="image of a Sample is a Path"):
        check("sets_of_mine.no_path", tmp_path)


def test_a_folder_without_the_set_says_what_was_looked_for_and_what_is_there(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(EarthGPTError, match=r"normal_json/annotations/train\.json .* in .*it holds readme\.txt"):
        check("hit_uav", tmp_path)


def test_every_kind_of_defect_has_its_own_word_on_what_is_done():
    sources = [
        *(ROOT / "datasets").glob("*.py"),
        *(ROOT / f"{name}.py" for name in ("checking", "folders", "formats", "image_files", "outlines", "policies")),
    ]
    text = "".join(path.read_text() for path in sources)
    kinds = {NO_SIZE, *re.findall(r'\["([^"]+)"\] \+= ', text)}
    assert len(kinds) > 25
    assert {kind for kind in kinds if what_is_done(kind) == "counted"} == set()
    said = [kind for pattern in ACTIONS for kind in re.split(r"\|(?![^(]*\))", pattern)]
    stale = [pattern for pattern in said if not any(re.fullmatch(pattern, kind) for kind in kinds)]
    assert stale == ["objects of unknown class .*", ".* regions"]  # which have the class in them
    assert what_is_done("boxes cut at the edge (oriented)") == what_is_done("boxes cut at the edge")


@pytest.mark.parametrize("name", [name for name in lookup.names("datasets") if name != "synthetic"])
def test_a_root_that_is_not_there_is_one_clear_error_for_every_set(name, tmp_path):
    with pytest.raises(EarthGPTError, match=r"No folder .*nowhere"):
        check(name, tmp_path / "nowhere")
    with pytest.raises(EarthGPTError):
        check(name, tmp_path)

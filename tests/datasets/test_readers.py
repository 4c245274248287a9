"""Every reader reads a tiny fake download in its true layout; with real data, the numbers of the real files."""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import downloads
import pytest
from PIL import Image

from earthgpt.lookup import find
from earthgpt.types import Box, EarthGPTError, OrientedBox, Sensor


def picture(path: Path, size=(40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path)


def write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def coco(files, objects, categories, file="file_name", annotations="annotations") -> dict:
    """``objects`` are (image number, category, bbox, segmentation or None)."""
    return {
        "images": [{"id": i, file: name, "width": 40, "height": 20} for i, name in enumerate(files)],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
        annotations: [
            {"image_id": image, "category_id": category, "bbox": bbox} | ({"segmentation": outline} if outline else {})
            for image, category, bbox, outline in objects
        ],
    }


def fake_sar_acd(root):
    picture(root / "images" / "A320321" / "001.jpg")
    picture(root / "images" / "ARJ21" / "001.jpg")
    (root / "README.md").touch()


def fake_nwpu_vhr10(root):
    objects = [
        (0, 1, [4, 2, 8, 4], None),
        (0, 3, [30, 10, 20, 5], None),  # 10 pixels beyond the right edge
        (0, 10, [5, 5, 0, 5], None),
        (1, 10, [0, 0, 4, 4], None),
        (2, 1, [0, 0, 4, 4], None),
    ]
    files = ["001.jpg", "002.jpg", "003.jpg"]
    write_json(root / "annotations.json", coco(files, objects, {1: "airplane", 3: "storage_tank", 10: "vehicle"}))
    for file in files[:2]:
        picture(root / "positive image set" / file)


HIT_UAV = {0: "Person", 1: "Car", 2: "Bicycle", 3: "OtherVehicle", 4: "DontCare"}


def fake_hit_uav(root):
    objects = [(0, 0, [4, 2, 8, 4], None), (0, 3, [0, 0, 4, 4], None), (1, 1, [0, 0, 4, 4], None)]
    content = coco(["1_a.jpg", "1_b.jpg"], [*objects, (1, 4, [9, 9, 4, 4], None)], HIT_UAV, "filename", "annotation")
    write_json(root / "normal_json" / "annotations" / "train.json", content)
    picture(root / "normal_json" / "train" / "1_a.jpg")
    picture(root / "normal_json" / "train" / "1_b.jpg")


def fake_hit_uav_oriented(root):
    objects = [(0, 1, [20, 10, 12, 6, math.pi / 2], None), (0, 4, [20, 10, 12, 6, 0.0], None)]
    write_json(root / "rotate_json" / "annotations" / "val.json", coco(["1_a.jpg"], objects, HIT_UAV, "filename"))
    picture(root / "rotate_json" / "val" / "1_a.jpg")


def fake_hrsid(root):
    diamond = [[10, 2, 18, 10, 10, 18, 2, 10]]
    objects = [(0, 1, [2, 2, 16, 16], diamond), (0, 1, [30, 5, 4, 4], None), (1, 1, [1, 1, 3, 3], [[1, 1, 3, 3]])]
    write_json(root / "annotations" / "train2017.json", coco(["P0001_a.jpg", "P0001_b.jpg"], objects, {1: "ship"}))
    picture(root / "JPEGImages" / "P0001_a.jpg")
    picture(root / "JPEGImages" / "P0001_b.jpg")


FAKES = {name.removeprefix("fake_"): make for name, make in globals().copy().items() if name.startswith("fake_")}


@dataclass(frozen=True)
class Expected:
    """What a reader finds in its fake download."""

    split: str
    names: tuple[str, ...]
    labels: tuple[str | None, ...]  # of scenes, or of all objects in order
    sensor: Sensor
    defects: dict[str, int]


EXPECTED = {
    "sar_acd": Expected(
        "all",
        ("A320321/001.jpg", "ARJ21/001.jpg"),
        ("A320/321", "ARJ21"),
        Sensor.SAR,
        {"missing class folders": 4},
    ),
    "nwpu_vhr10": Expected(
        "all",
        ("positive image set/001.jpg", "positive image set/002.jpg", "positive image set/003.jpg"),
        ("airplane", "storage tank", "vehicle", "airplane"),
        Sensor.OPTICAL,
        {"missing images": 1, "boxes without area": 1, "boxes cut at the edge": 1},
    ),
    "hit_uav": Expected(
        "train",
        ("normal_json/train/1_a.jpg", "normal_json/train/1_b.jpg"),
        ("person", "other vehicle", "car"),
        Sensor.INFRARED,
        {"objects that nobody could name": 1},
    ),
    "hit_uav_oriented": Expected(
        "val",
        ("rotate_json/val/1_a.jpg",),
        ("car",),
        Sensor.INFRARED,
        {"objects that nobody could name": 1},
    ),
    "hrsid": Expected(
        "train",
        ("JPEGImages/P0001_a.jpg", "JPEGImages/P0001_b.jpg"),
        ("ship", "ship"),
        Sensor.SAR,
        {"boxes without area": 1},
    ),
}
each = pytest.mark.parametrize("name", FAKES)


def read(name, root, split=None):
    FAKES[name](root)
    return list(find("datasets", name).read(root, split or EXPECTED[name].split))


@each
def test_a_fake_download_is_read_whole(name, tmp_path):
    expected, defects = EXPECTED[name], Counter()
    FAKES[name](tmp_path)
    samples = list(find("datasets", name).read(tmp_path, expected.split, defects))
    detects = "object_detection" in find("datasets", name).tasks
    labels = (
        [region.label for sample in samples for region in sample.regions]
        if detects
        else [sample.label for sample in samples]
    )
    assert tuple(sample.name for sample in samples) == expected.names
    assert tuple(labels) == expected.labels
    assert +defects == expected.defects
    # Objects of a picture that is missing are read where its annotation states a size.
    assert sum(not sample.image.is_file() for sample in samples) <= defects["missing images"]
    for sample in samples:
        assert sample.image.is_absolute()
        assert sample.size == (40, 20)
        assert sample.sensor is expected.sensor


@each
def test_every_label_is_a_class_of_the_card(name, tmp_path):
    dataset = find("datasets", name)
    for sample in read(name, tmp_path):
        stated = {sample.label, *sample.choices, *sample.classes, *(region.label for region in sample.regions)}
        assert stated - {None} <= set(dataset.classes)
        assert bool(sample.choices) == (sample.label is not None)
        assert bool(sample.classes) == ("object_detection" in dataset.tasks)


@each
def test_names_do_not_depend_on_the_machine(name, tmp_path):
    first = [sample.name for sample in read(name, tmp_path / "here")]
    assert first == [sample.name for sample in read(name, tmp_path / "there")]


@each
def test_an_unknown_split_is_named_with_the_known_ones(name, tmp_path):
    dataset = find("datasets", name)
    with pytest.raises(EarthGPTError) as caught:
        dataset.read(tmp_path, "traning")
    assert str(caught.value).startswith(f"{dataset.title} has splits {', '.join(dataset.splits)}; not 'traning'.")


@each
def test_a_missing_root_is_named(name, tmp_path):
    dataset = find("datasets", name)
    with pytest.raises(EarthGPTError, match=f"No folder .*nowhere: {dataset.title} would be read from it"):
        dataset.read(tmp_path / "nowhere", dataset.splits[0])


@each
def test_a_root_without_the_files_says_what_was_looked_for(name, tmp_path):
    dataset = find("datasets", name)
    with pytest.raises(EarthGPTError, match=r"^No (file|class folders) "):
        list(dataset.read(tmp_path, dataset.splits[0]))


def test_vhr10_boxes_are_fractions_cut_at_the_edge_and_vehicles_are_never_certain(tmp_path):
    first, *_ = read("nwpu_vhr10", tmp_path)
    # (4, 2) to (12, 6) of 40 x 20; then (30, 10) to (50, 15), cut at 40.
    assert [region.box for region in first.regions] == [Box(0.1, 0.1, 0.3, 0.3), Box(0.75, 0.5, 1.0, 0.75)]
    assert first.complete
    assert len(first.classes) == 9 and "vehicle" not in first.classes


def test_hit_uav_is_incomplete_where_objects_have_no_class(tmp_path):
    first, second = read("hit_uav", tmp_path)
    assert first.complete and not second.complete
    assert first.regions[0].box == Box(0.1, 0.1, 0.3, 0.3)  # from the top left corner, not from the center


def test_hit_uav_oriented_turns_the_box_about_its_center(tmp_path):
    (sample,) = read("hit_uav_oriented", tmp_path)
    # 12 x 6 about (20, 10), turned by 90 degrees: 17 to 23 and 4 to 16.
    assert sample.regions[0].box.bounds.to_pixels((40, 20)) == pytest.approx((17, 4, 23, 16))
    assert not sample.complete


def test_hrsid_takes_the_smallest_rectangle_about_an_outline_and_else_the_upright_box(tmp_path):
    first, second = read("hrsid", tmp_path)
    turned, upright = (region.box for region in first.regions)
    assert isinstance(turned, OrientedBox)
    assert turned.area * 40 * 20 == pytest.approx(128)  # a diamond of diagonals 16: 16 * 16 / 2
    assert upright == OrientedBox(Box.from_pixels(30, 5, 34, 9, (40, 20)).corners)
    assert second.regions == ()


# Counted in the files themselves (find, and the lengths of the JSON lists), not by the readers. 75 and 6 of the
# 10,808 and 1,117 objects of HIT-UAV are DontCare.
REAL = [
    ("aid", "AID", "all", 8_971, 0),
    ("rsscn7", "RSSCN7", "all", 2_240, 0),
    ("sar_acd", "SAR-ACD", "all", 2_401, 0),
    ("nwpu_vhr10", "NWPU VHR-10 dataset", "all", 454, 2_660),
    ("hit_uav", "HIT-UAV", "train", 1_213, 10_808 - 75),
    ("hit_uav", "HIT-UAV", "val", 128, 1_117 - 6),
    ("hrsid", "HRSID", "train", 22, 40),
]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "folder", "split", "images", "objects"), REAL)
def test_real_files_hold_the_numbers_counted_by_hand(name, folder, split, images, objects):
    defects = Counter()
    samples = list(find("datasets", name).read(downloads.real(folder), split, defects))
    assert len({sample.name for sample in samples}) == len(samples) == images
    assert sum(len(sample.regions) for sample in samples) == objects
    assert set(+defects) <= {"objects that nobody could name"}

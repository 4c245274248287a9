"""Sets with boxes: each reader reads a tiny fake download in its true layout, and finds the numbers of real files."""

import json
import math
from collections import Counter
from dataclasses import dataclass, field

import downloads
import pytest
from fakes import BOXES, DIAMOND, HIT_UAV, SIZE, coco, fake_mar20, fake_ssdd, picture, upright, voc, write

from earthgpt import lookup
from earthgpt.datasets import dior_rsvg
from earthgpt.folders import MissingFilesError
from earthgpt.lookup import find
from earthgpt.types import Box, EarthGPTError, OrientedBox, Sensor


@dataclass(frozen=True)
class Expected:
    """What a reader finds in its fake download: files and, for each, its labels."""

    split: str
    found: dict[str, tuple[str, ...]]
    defects: dict[str, int] = field(default_factory=dict)
    sensor: Sensor = Sensor.OPTICAL
    complete: tuple[bool, ...] = ()  # all, when empty


CUT, FLAT = "boxes cut at the edge", "boxes without area"
MISSING, UNKNOWN = "missing images", "images of unknown size, left out"
IR = {"sensor": Sensor.INFRARED}
EXPECTED = {
    "dota_v1": Expected(
        "train",
        {"DOTA/train/images/P0001.png": ("large vehicle",), "DOTA/train/images/part2/P0010.png": ("ship",)},
        {"objects cut by tiling": 1, MISSING: 1, UNKNOWN: 1, "objects of unknown class 'container-crane'": 1},
        complete=(False, False),
    ),
    "dota_v15": Expected("val", {"val/images/P0001.png": ("container crane",)}),
    "dota_v2": Expected(
        "train",
        {"train/images/P0001.png": ("helipad",)},
        {"objects stated twice": 1, "unreadable lines": 1},
        complete=(False,),
    ),
    "dior": Expected(
        "train",
        {
            "JPEGImages-trainval/00001.jpg": ("expressway service area",),
            "JPEGImages-trainval/00002.jpg": ("ground track field",),
        },
        {"missing annotations": 1, FLAT: 1, CUT: 1},
        complete=(False, True),
    ),
    "dior_r": Expected("test", {"DIOR/JPEGImages-test/11726.jpg": ("expressway toll station", "ship")}),
    "fair1m": Expected(
        "train", {"train/part1/images/0.tif": ("Boeing737",), "train/part2/images/0.tif": ("other ship",)}
    ),
    "nwpu_vhr10": Expected(
        "all",
        {
            "positive image set/001.jpg": ("airplane", "vehicle"),
            "positive image set/002.jpg": (),
        },
        {"unreadable lines": 1},
        complete=(True, False),
    ),
    "hrrsd": Expected(
        "val",
        {"OPT2017/JPEGImages/00002.jpg": ("storage tank",), "OPT2017/JPEGImages/00001.jpg": ("T junction",)},
        {MISSING: 1, "missing annotations": 1, "wrong sizes in annotations": 1},
        complete=(False, False),
    ),
    "rsod": Expected(
        "all",
        {
            "aircraft/Annotation/JPEGImages/aircraft_2.jpg": ("aircraft",),
            "aircraft/Annotation/JPEGImages/aircraft_10.jpg": ("aircraft",),
            "oiltank/oiltank/JPEGImages/oiltank_1.jpg": ("oil tank",),
        },
        {"missing class folders": 2, "images without annotations": 1, CUT: 1},
    ),
    "ucas_aod": Expected(
        "all",
        {"CAR/P0001.png": ("car",), "PLANE/P0001.png": ("airplane",)},
        {"unreadable lines": 1},
        complete=(True, False),
    ),
    "visdrone": Expected(
        "train",
        {
            "VisDrone2019-DET-train/images/0000002_a.jpg": ("car", "person"),
            "VisDrone2019-DET-train/images/0000003_a.jpg": ("motor",),
        },
        {"ignored regions": 1, "others regions": 1, "unscored regions": 1, FLAT: 1},
        complete=(False, True),
    ),
    "air_sarship2": Expected(
        "all",
        {"AIR-SARShip-2.0-data/9.tiff": ("ship",), "AIR-SARShip-2.0-data/10.tiff": ("ship",)},
        sensor=Sensor.SAR,
    ),
    "ssdd": Expected(
        "test",
        {"Official-SSDD-OPEN/Official-SSDD-OPEN/BBox_SSDD/voc_style/JPEGImages/000001.jpg": ("ship",)},
        sensor=Sensor.SAR,
    ),
    "ssdd_oriented": Expected("train", {"RBox_SSDD/voc_style/JPEGImages/000002.jpg": ("ship",)}, sensor=Sensor.SAR),
    "mar20": Expected(
        "test",
        {"MAR20/MAR20/JPEGImages/10.jpg": ("airplane",), "MAR20/MAR20/JPEGImages/9.jpg": ("airplane",)},
        {MISSING: 2, UNKNOWN: 1},
    ),
    "mar20_oriented": Expected("train", {"JPEGImages/1.jpg": ("airplane",)}),
    "mar20_types": Expected(
        "test",
        {"MAR20/MAR20/JPEGImages/10.jpg": ("C-130",), "MAR20/MAR20/JPEGImages/9.jpg": ("SU-24",)},
        {MISSING: 2, UNKNOWN: 1},
    ),
    "sea_shipping": Expected(
        "train",
        {"红外船舶数据库/dataset/images/train/a1.jpg": ("fishing boat",)},
        {"objects of unknown class 'submarine'": 1, "further annotations of an image": 1},
        complete=(False,),
        **IR,
    ),
    "infrared_security": Expected(
        "train",
        {"images/train/0.jpg": ("car",)},
        {FLAT: 1, "objects of unknown class '7'": 1, "unreadable lines": 1},
        complete=(False,),
        **IR,
    ),
    "aerial_mancar": Expected(
        "train",
        {"红外航拍数据集/dataset/train/a.jpg": ("person",)},
        {"shapes without area": 1},
        complete=(False,),
        **IR,
    ),
    "double_light_vehicle": Expected(
        "train",
        {"infrared/train/train1.jpg": ("Car",)},
        {"images of another sensor": 1, "crowds": 1},
        complete=(False,),
        **IR,
    ),
    "oceanic_ship": Expected("val", {"swir/val/1.png": ("ship",)}, **IR),
    "hit_uav": Expected(
        "train",
        {"normal_json/train/1_a.jpg": ("person", "other vehicle"), "normal_json/train/1_b.jpg": ("car",)},
        {"objects that nobody could name": 1},
        complete=(True, False),
        **IR,
    ),
    "hit_uav_oriented": Expected(
        "val",
        {"rotate_json/val/1_a.jpg": ("car",)},
        {"objects that nobody could name": 1},
        complete=(False,),
        **IR,
    ),
    "hrsid": Expected(
        "train",
        {"JPEGImages/P0001_a.jpg": ("ship", "ship"), "JPEGImages/P0001_b.jpg": ()},
        {FLAT: 1},
        sensor=Sensor.SAR,
        complete=(True, False),
    ),
}
ORIENTED = {
    "dota_v1", "dota_v15", "dota_v2", "dior_r", "fair1m", "ucas_aod", "ssdd_oriented", "mar20_oriented",
    "hit_uav_oriented", "hrsid",
}  # fmt: skip
each = pytest.mark.parametrize("name", BOXES)


def read(name, root):
    BOXES[name](root)
    return list(find("datasets", name).read(root, EXPECTED[name].split))


def labels(sample):
    return tuple(region.label for region in sample.regions)


@each
def test_a_fake_download_is_read_whole(name, tmp_path):
    expected, dataset, defects = EXPECTED[name], find("datasets", name), Counter()
    BOXES[name](tmp_path)
    samples = list(dataset.read(tmp_path, expected.split, defects))
    assert {sample.name: labels(sample) for sample in samples} == expected.found
    assert [sample.name for sample in samples] == list(expected.found)
    assert +defects == expected.defects
    assert tuple(sample.complete for sample in samples) == (expected.complete or (True,) * len(samples))
    left_out = defects[UNKNOWN]
    assert sum(not sample.image.is_file() for sample in samples) == defects[MISSING] - left_out
    for sample in samples:
        assert sample.sensor is expected.sensor and sample.sensor in dataset.sensors
        assert sample.size == SIZE
        assert sample.image.is_relative_to(tmp_path) and sample.image.as_posix().endswith(f"/{sample.name}")
        kinds = {type(region.box) for region in sample.regions}
        assert kinds <= {OrientedBox if name in ORIENTED else Box}
        if dataset.classes:
            assert set(sample.classes) <= set(dataset.classes) and set(labels(sample)) <= set(dataset.classes)


@each
def test_the_first_box_is_where_its_annotation_says(name, tmp_path):
    # Fakes have one of two boxes: (4, 2) to (12, 6), or the diamond of area 128 about (10, 10), of 40 x 20 pixels.
    box = read(name, tmp_path)[0].regions[0].box
    if isinstance(box, OrientedBox) and box.bounds != Box.from_pixels(4, 2, 12, 6, SIZE):
        assert box.area * 40 * 20 == pytest.approx(128)
        assert box.bounds.to_pixels(SIZE) == pytest.approx((2, 2, 18, 18))
    else:
        assert box.bounds.to_pixels(SIZE) == pytest.approx((4, 2, 12, 6))


@each
def test_a_root_without_the_files_says_what_was_looked_for_and_what_there_is(name, tmp_path):
    (tmp_path / "unrelated").mkdir()
    write(tmp_path / "unrelated.md", "x")
    with pytest.raises(EarthGPTError, match=r"^No .* in .*; it holds .*unrelated"):
        list(find("datasets", name).read(tmp_path, find("datasets", name).splits[0]))


def test_dota_versions_read_their_own_labels(tmp_path):
    BOXES["dota_v15"](tmp_path)
    assert labels(*find("datasets", "dota_v1").read(tmp_path, "val")) == ("plane",)
    assert labels(*find("datasets", "dota_v15").read(tmp_path, "val")) == ("container crane",)


def test_only_the_class_of_its_folder_is_certain_in_rsod_and_ucas_aod(tmp_path):
    assert [sample.classes for sample in read("rsod", tmp_path / "a")] == [("aircraft",)] * 2 + [("oil tank",)]
    assert [sample.classes for sample in read("ucas_aod", tmp_path / "b")] == [("car",), ("airplane",)]


def test_visdrone_videos_are_refused(tmp_path):
    folder = tmp_path / "VisDrone2019-DET-val"
    picture(folder / "images" / "a.jpg")
    write(folder / "annotations" / "a.txt", "1,0,593,43,174,190,0,0,0,0\n")
    with pytest.raises(EarthGPTError, match="ten columns of the VisDrone videos"):
        list(find("datasets", "visdrone").read(tmp_path, "val"))


def test_ssdd_is_also_read_from_the_official_coco_files_and_the_outlines_of_2019(tmp_path):
    def content(*files):
        images = [{"id": i, "file_name": file, "width": 40, "height": 20} for i, file in enumerate(files)]
        objects = [{"image_id": 0, "category_id": 0, "bbox": [4, 2, 8, 4], "segmentation": [list(DIAMOND)]}]
        return {"images": images, "annotations": objects, "categories": [{"id": 0, "name": "ship"}]}

    write(tmp_path / "a" / "BBox_SSDD" / "coco_style" / "annotations" / "train.json", content("000002.jpg"))
    (sample,) = find("datasets", "ssdd").read(tmp_path / "a", "train")
    assert sample.name == "BBox_SSDD/coco_style/images/train/000002.jpg"
    write(tmp_path / "b" / "SSDD.json", content("000002.jpg", "000011.jpg", "000029.jpg"))
    # Test images are those whose number ends in 1 or 9.
    read = find("datasets", "ssdd_oriented").read
    assert [sample.name for sample in read(tmp_path / "b", "test")] == [
        "JPEGImages/000011.jpg",
        "JPEGImages/000029.jpg",
    ]
    (sample,) = read(tmp_path / "b", "train")
    assert sample.regions[0].box.area * 40 * 20 == pytest.approx(128)


@pytest.mark.parametrize(("upright_one", "fake"), [("ssdd", fake_ssdd), ("mar20", fake_mar20)])
def test_upright_annotations_are_not_read_as_oriented_ones(upright_one, fake, tmp_path):
    fake(tmp_path)
    if upright_one == "mar20":  # as they lie where only they were unpacked
        folder = tmp_path / "MAR20" / "MAR20" / "Annotations"
        for path in (folder / "Horizontal Bounding Boxes").iterdir():
            path.rename(folder / path.name)
        (folder / "Horizontal Bounding Boxes").rmdir()
    assert list(find("datasets", upright_one).read(tmp_path, "test"))
    with pytest.raises(MissingFilesError, match=r"No f.*(RBox_SSDD|Oriented)"):
        list(find("datasets", f"{upright_one}_oriented").read(tmp_path, "test"))


def test_what_the_one_file_of_both_splits_of_ssdd_marks_is_counted_once(tmp_path):
    content = coco(["000002.jpg", "000011.jpg"], [(0, 0, [4, 2, 8, 4], None), (9, 0, [4, 2, 8, 4], None)], {0: "ship"})
    content["annotations"].append({"image_id": 1, "category_id": 0, "bbox": [0, 0, 9, 9], "iscrowd": 1})
    write(tmp_path / "SSDD.json", content)
    found = {split: Counter() for split in ("train", "test")}
    for split, defects in found.items():
        list(find("datasets", "ssdd").read(tmp_path, split, defects))
    assert +found["train"] == {"annotations of unlisted images": 1, MISSING: 1}
    assert +found["test"] == {"crowds": 1, MISSING: 1}


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zero bytes": lambda content: content + bytes(9),
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "list": lambda content: b"[]",
    "mapping": lambda content: b'{"images": {}, "annotations": [1], "categories": null}',
    "web page": lambda content: b"<html><body>Not found</body></html>",
}


@each
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_read_around_or_named(name, damage, tmp_path):
    BOXES[name](tmp_path)
    for path in sorted(path for path in tmp_path.rglob("*") if path.suffix in (".json", ".xml", ".txt")):
        content = path.read_bytes()
        path.write_bytes(DAMAGES[damage](content))
        try:
            list(find("datasets", name).read(tmp_path, EXPECTED[name].split))
        except EarthGPTError as error:
            assert path.name in str(error) or str(tmp_path) in str(error)
            assert "\n" not in str(error)
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["dota_v1", "fair1m", "ucas_aod", "visdrone", "air_sarship2", "nwpu_vhr10", "rsod"])
def test_folders_that_were_unpacked_into_others_of_their_name_are_read_alike(name, tmp_path):
    BOXES[name](tmp_path / "a")
    BOXES[name](tmp_path / "b")
    folders = {path.parent for path in (tmp_path / "b").rglob("*") if path.suffix in (".jpg", ".png", ".tif", ".tiff")}
    for folder in sorted(folders, reverse=True):
        moved = folder.rename(folder.with_name("moved"))
        folder.mkdir()
        moved.rename(folder / folder.name)
    defects = Counter()
    samples = list(find("datasets", name).read(tmp_path / "b", EXPECTED[name].split, defects))
    assert [labels(sample) for sample in samples] == list(EXPECTED[name].found.values())
    assert +defects == EXPECTED[name].defects


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("dota_v2", "train/images/P0009.png"),
        ("fair1m", "train/part2/images/9.tif"),
        ("ucas_aod", "UCAS_AOD/PLANE/P0009.png"),
        ("visdrone", "VisDrone2019-DET-train/images/9.jpg"),
        ("air_sarship2", "AIR-SARShip-2.0-data/99.tiff"),
    ],
)
def test_images_without_annotations_are_counted(name, image, tmp_path):
    picture(tmp_path / image)
    BOXES[name](tmp_path)
    defects = Counter()
    list(find("datasets", name).read(tmp_path, EXPECTED[name].split, defects))
    assert defects["images without annotations"] == 1


def test_the_folder_of_a_split_or_class_may_be_the_root(tmp_path):
    BOXES["dota_v2"](tmp_path)
    assert labels(*find("datasets", "dota_v2").read(tmp_path / "train", "train")) == ("helipad",)
    BOXES["ucas_aod"](tmp_path)
    car, plane = find("datasets", "ucas_aod").read(tmp_path / "UCAS_AOD" / "CAR", "all")
    assert (car.name, plane.name) == ("CAR/P0001.png", "PLANE/P0001.png")


def test_parts_of_fair1m_in_another_folder_of_its_name_are_kept_apart(tmp_path):
    BOXES["fair1m"](tmp_path / "train")
    found = [(sample.name, *labels(sample)) for sample in find("datasets", "fair1m").read(tmp_path, "train")]
    assert found == [
        ("train/train/part1/images/0.tif", "Boeing737"),
        ("train/train/part2/images/0.tif", "other ship"),
    ]


def test_all_classes_of_rsod_are_read_though_one_lies_in_a_folder_of_its_name(tmp_path):
    voc(tmp_path / "aircraft" / "aircraft" / "Annotation" / "xml" / "aircraft_1.xml", upright("aircraft", 4, 2, 12, 6))
    voc(tmp_path / "overpass" / "Annotation" / "xml" / "overpass_1.xml", upright("overpass", 4, 2, 12, 6))
    defects = Counter()
    samples = list(find("datasets", "rsod").read(tmp_path, "all", defects))
    assert [sample.classes for sample in samples] == [("aircraft",), ("overpass",)]
    assert +defects == {"missing class folders": 2, MISSING: 2}


def test_the_coco_annotation_of_vhr10_finds_its_images_in_the_folder_beside(tmp_path):
    boxes = [{"image_id": 0, "category_id": 1, "bbox": [4, 2, 8, 4]}]
    images = [{"id": 0, "file_name": "001.jpg", "width": 40, "height": 20}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "airplane"}]}
    write(tmp_path / "NWPU VHR-10_dataset_coco" / "annotations.json", content)
    picture(tmp_path / "NWPU_VHR-10_dataset" / "positive_image_set" / "001.jpg")
    (sample,) = find("datasets", "nwpu_vhr10").read(tmp_path, "all")
    assert sample.name == "positive_image_set/001.jpg" and sample.image.is_file()


def test_the_coco_annotation_of_vhr10_is_read_first_and_vehicles_are_never_certain(tmp_path):
    objects = [
        (0, 1, [4, 2, 8, 4], None),
        (0, 3, [30, 10, 20, 5], None),  # 10 pixels beyond the right edge
        (0, 10, [5, 5, 0, 5], None),
        (1, 10, [0, 0, 4, 4], None),
        (2, 1, [0, 0, 4, 4], None),
    ]
    files = ["001.jpg", "002.jpg", "003.jpg"]
    content = coco(files, objects, {1: "airplane", 3: "storage_tank", 10: "vehicle"})
    BOXES["nwpu_vhr10"](tmp_path)
    folder = tmp_path / "NWPU VHR-10 dataset"
    write(folder / "annotations.json", content)
    defects = Counter()
    first, second, third = find("datasets", "nwpu_vhr10").read(tmp_path, "all", defects)
    # (4, 2) to (12, 6) of 40 x 20; then (30, 10) to (50, 15), cut at 40.
    assert [region.box for region in first.regions] == [Box(0.1, 0.1, 0.3, 0.3), Box(0.75, 0.5, 1.0, 0.75)]
    assert [labels(sample) for sample in (first, second, third)] == [
        ("airplane", "storage tank"),
        ("vehicle",),
        ("airplane",),
    ]
    assert first.complete
    assert len(first.classes) == 9 and "vehicle" not in first.classes
    assert +defects == {MISSING: 1, FLAT: 1, CUT: 1}


def test_hit_uav_is_incomplete_where_objects_have_no_class(tmp_path):
    first, second = read("hit_uav", tmp_path)
    assert first.complete and not second.complete
    assert first.regions[0].box == Box(0.1, 0.1, 0.3, 0.3)  # from the top left corner, not from the center


def test_hit_uav_oriented_turns_the_box_about_its_center(tmp_path):
    content = coco(["1_a.jpg"], [(0, 1, [20, 10, 12, 6, math.pi / 2], None)], HIT_UAV, "filename")
    write(tmp_path / "rotate_json" / "annotations" / "val.json", content)
    (sample,) = find("datasets", "hit_uav_oriented").read(tmp_path, "val")
    # 12 x 6 about (20, 10), turned by 90 degrees: 17 to 23 and 4 to 16.
    assert sample.regions[0].box.bounds.to_pixels(SIZE) == pytest.approx((17, 4, 23, 16))


def test_hrsid_takes_the_smallest_rectangle_about_an_outline_and_else_the_upright_box(tmp_path):
    first, second = read("hrsid", tmp_path)
    turned, upright = (region.box for region in first.regions)
    assert turned.area * 40 * 20 == pytest.approx(128)  # a diamond of diagonals 16: 16 * 16 / 2
    assert upright == OrientedBox(Box.from_pixels(30, 5, 34, 9, SIZE).corners)
    assert second.regions == ()


@pytest.mark.parametrize("name", lookup.names("datasets"))
def test_an_unknown_split_is_named_with_the_known_ones(name, tmp_path):
    dataset = find("datasets", name)
    with pytest.raises(EarthGPTError) as caught:
        dataset.read(tmp_path, "traning")
    assert str(caught.value).startswith(f"{dataset.title} has splits {', '.join(dataset.splits)}; not 'traning'.")


def fake_dior_rsvg(root):
    folder = root / "DIOR_RSVG"
    voc(folder / "Annotations" / "00010.xml", upright("ship", 4, 2, 12, 6, text="The last ship"))
    two = (upright("dam", 4, 2, 12, 6, text="A dam"), upright("dam", 0, 0, 4, 4, text="The dam on the left"))
    voc(folder / "Annotations" / "00002.xml", *two)
    write(folder / "train.txt", "2\n0\n")
    write(folder / "val.txt", "1")
    picture(folder / "JPEGImages" / "00002.jpg")


def test_split_numbers_of_dior_rsvg_count_objects_in_name_order(tmp_path, monkeypatch):
    monkeypatch.setattr(dior_rsvg, "TOTAL", 3)
    fake_dior_rsvg(tmp_path)
    defects = Counter()
    first, second = dior_rsvg.DATASET.read(tmp_path, "train", defects)
    assert [(region.label, region.box) for region in first.expressions] == [("A dam", Box(0.1, 0.1, 0.3, 0.3))]
    assert [region.label for region in second.expressions] == ["The last ship"]
    assert +defects == {MISSING: 1}
    (sample,) = dior_rsvg.DATASET.read(tmp_path, "val")
    assert [region.label for region in sample.expressions] == ["The dam on the left"]


def test_dior_rsvg_with_another_number_of_objects_is_refused(tmp_path):
    fake_dior_rsvg(tmp_path)
    with pytest.raises(EarthGPTError, match="holds 3 objects, not 38,320"):
        list(dior_rsvg.DATASET.read(tmp_path, "train"))


def test_dior_rsvg_counts_numbers_without_an_object_and_names_a_list_of_something_else(tmp_path, monkeypatch):
    monkeypatch.setattr(dior_rsvg, "TOTAL", 3)
    fake_dior_rsvg(tmp_path)
    write(tmp_path / "DIOR_RSVG" / "Annotations" / "._00002.xml", "Mac OS X")
    write(tmp_path / "DIOR_RSVG" / "val.txt", "1\n3\n")
    voc(tmp_path / "DIOR_RSVG" / "Annotations" / "00010.xml", upright("ship", 4, 2, 12, 6))
    defects = Counter()
    assert len(list(dior_rsvg.DATASET.read(tmp_path, "val", defects))) == 1
    assert +defects == {"missing annotations": 1}
    assert [len(sample.expressions) for sample in dior_rsvg.DATASET.read(tmp_path, "train", defects)] == [1, 0]
    assert defects["empty captions"] == 1
    write(tmp_path / "DIOR_RSVG" / "val.txt", "00002\nten\n")
    with pytest.raises(EarthGPTError, match=r"val\.txt is no list of object numbers: .*'ten'"):
        list(dior_rsvg.DATASET.read(tmp_path, "val"))


# --- real files --------------------------------------------------------------------------------------------------


# Images and objects as grep counts them in the files: <object> of the XML that is there, entries of the JSON; 7 of the
# 2,460 objects of HIT-UAV are DontCare. None of the images is there, and most XML of the lists are not.
REAL = [
    ("hrrsd", "HRRSD", "train", 109, 247, {"missing annotations": 5_401 - 109}),
    ("hrrsd", "HRRSD", "val", 85, 200, {"missing annotations": 5_417 - 85}),
    ("hrrsd", "HRRSD", "test", 169, 491, {"missing annotations": 10_943 - 169}),
    ("mar20", "MAR20", "train", 27, 143, {"missing annotations": 1_331 - 27}),
    ("mar20", "MAR20", "test", 38, 236, {"missing annotations": 2_511 - 38}),
    ("mar20_oriented", "MAR20", "train", 17, 83, {"missing annotations": 1_331 - 17, CUT: 4}),
    ("mar20_oriented", "MAR20", "test", 47, 293, {"missing annotations": 2_511 - 47, CUT: 6}),
    ("ssdd", "SSDD_coco", "train", 928, 2_040, {}),
    ("ssdd", "SSDD_coco", "test", 232, 546, {}),
    ("ssdd_oriented", "SSDD_coco", "train", 928, 2_040, {CUT: 15}),
    ("hit_uav_oriented", "HIT-UAV", "val", 290, 2_460 - 7, {"objects that nobody could name": 7}),
]


# With their images; 75 and 6 of the 10,808 and 1,117 objects of HIT-UAV are DontCare.
WHOLE = [
    ("nwpu_vhr10", "NWPU VHR-10 dataset", "all", 454, 2_660),
    ("hit_uav", "HIT-UAV", "train", 1_213, 10_808 - 75),
    ("hit_uav", "HIT-UAV", "val", 128, 1_117 - 6),
    ("hrsid", "HRSID", "train", 22, 40),
]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "folder", "split", "images", "objects"), WHOLE)
def test_real_files_with_their_images_hold_the_numbers_counted_by_hand(name, folder, split, images, objects):
    defects = Counter()
    samples = list(find("datasets", name).read(downloads.real(folder), split, defects))
    assert len({sample.name for sample in samples}) == len(samples) == images
    assert sum(len(sample.regions) for sample in samples) == objects
    assert set(+defects) <= {"objects that nobody could name"}


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "folder", "split", "images", "objects", "defects"), REAL)
def test_real_files_hold_the_numbers_counted_by_hand(name, folder, split, images, objects, defects):
    found = Counter()
    samples = list(find("datasets", name).read(downloads.real(f"formats/{folder}"), split, found))
    assert len({sample.name for sample in samples}) == len(samples) == images
    assert sum(len(sample.regions) for sample in samples) == objects
    assert +found == {MISSING: images, **defects}


@pytest.mark.realdata
def test_real_lists_of_hrrsd_give_the_turns_of_the_paper():
    # One turn for all objects of an image and one for each class that its lists say it holds.
    folder = downloads.real("formats/HRRSD") / "OPT2017" / "ImageSets" / "Main"
    images = len((folder / "trainval.txt").read_text().split())
    flags = [line.split()[-1] for path in folder.glob("*_trainval.txt") for line in path.read_text().splitlines()]
    assert images == 10_818
    assert images + flags.count("1") == find("datasets", "hrrsd").paper.turns


@pytest.mark.realdata
def test_real_boxes_of_hit_uav_give_the_turns_of_the_paper():
    # 4,643 + 661 for train and val, twice; DontCare is a class there.
    content = json.loads((downloads.real("formats/HIT-UAV") / "rotate_json" / "annotations" / "val.json").read_text())
    pairs = {(entry["image_id"], entry["category_id"]) for entry in content["annotations"]}
    assert len({image for image, _ in pairs}) + len(pairs) == 661
    assert find("datasets", "hit_uav_oriented").paper.turns == 2 * (4_643 + 661)


@pytest.mark.realdata
def test_real_split_lists_of_dior_rsvg_number_each_phrase_once():
    numbers = [
        int(line) for path in downloads.real("formats/DIOR_RSVG").glob("*.txt") for line in path.read_text().split()
    ]
    assert sorted(numbers) == list(range(dior_rsvg.TOTAL))
    for split, count in dior_rsvg.DATASET.objects.items():
        assert len((downloads.real("formats/DIOR_RSVG") / f"{split}.txt").read_text().split()) == count


@pytest.mark.realdata
def test_real_labels_of_dota_are_read_whole(tmp_path):
    # 984 lines have ten fields, seven files two header lines each; one image is there.
    (tmp_path / "train").mkdir()
    for name in ("images", "labelTxt"):
        (tmp_path / "train" / name).symlink_to(downloads.real("formats/DOTA") / name)
    defects = Counter()
    (sample,) = find("datasets", "dota_v1").read(tmp_path, "train", defects)
    assert sample.name == "train/images/P1888.png"
    lines = (downloads.real("formats/DOTA") / "labelTxt" / "P1888.txt").read_text().splitlines()
    assert len(sample.regions) + defects["objects stated twice"] == len(lines) - 2
    assert defects[MISSING] == defects[UNKNOWN] == 6


@pytest.mark.realdata
def test_real_folders_without_a_part_of_the_download_say_what_is_missing():
    with pytest.raises(
        EarthGPTError, match=r"^No file or folder Annotations/\*\.xml in .*DIOR_RSVG; it holds test\.txt, "
    ):
        list(dior_rsvg.DATASET.read(downloads.real("formats/DIOR_RSVG"), "train"))
    with pytest.raises(EarthGPTError, match=r"^No file or folder train in .*DOTA; it holds images, labelTxt\."):
        list(find("datasets", "dota_v1").read(downloads.real("formats/DOTA"), "train"))


@pytest.mark.realdata
@pytest.mark.parametrize("folder", [".", "HRRSD", "HRRSD/OPT2017"])
def test_real_files_of_hrrsd_are_found_from_any_folder_about_them(folder):
    assert len(list(find("datasets", "hrrsd").read(downloads.real(f"formats/{folder}"), "train"))) == 109

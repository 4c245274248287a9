"""Annotation formats and the geometry that belongs to them."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from earthgpt import formats
from earthgpt.types import Box, EarthGPTError

SIZE = (100, 50)


def sides_and_area(corners):
    a, b, c, _ = corners
    return sorted([math.dist(a, b), math.dist(b, c)]), math.dist(a, b) * math.dist(b, c)


def contains(corners, point, slack=1e-6):
    turns = []
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        turns.append((bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax))
    return min(turns) >= -slack or max(turns) <= slack


def test_rectangle_about_a_diamond_is_the_diamond():
    # Corners 10 from the center: sides of 10 * sqrt(2), area 200, half of the upright hull's 400.
    corners = formats.min_area_rectangle([(10, 0), (20, 10), (10, 20), (0, 10)])
    sides, area = sides_and_area(corners)
    assert sides == pytest.approx([math.sqrt(200)] * 2)
    assert area == pytest.approx(200)


def test_rectangle_ignores_points_inside_and_points_on_edges():
    corners = formats.min_area_rectangle([(0, 0), (4, 0), (8, 0), (8, 3), (0, 3), (2, 2), (0, 0)])
    assert {(round(x, 9), round(y, 9)) for x, y in corners} == {(0, 0), (8, 0), (8, 3), (0, 3)}


def test_rectangle_about_points_on_a_line_has_no_area():
    sides, area = sides_and_area(formats.min_area_rectangle([(0, 0), (3, 4), (6, 8)]))
    assert sides == pytest.approx([0, 10])
    assert area == pytest.approx(0)


def test_rectangle_about_one_point_is_that_point():
    assert formats.min_area_rectangle([(2, 3), (2, 3)]) == ((2.0, 3.0),) * 4


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20))
def test_rectangle_holds_all_points_and_is_no_larger_than_the_upright_one(points):
    corners = formats.min_area_rectangle(points)
    xs, ys = zip(*points, strict=True)
    _, area = sides_and_area(corners)
    assert area <= (max(xs) - min(xs)) * (max(ys) - min(ys)) + 1e-6
    if area > 1e-6:
        assert all(contains(corners, point, slack=1e-4) for point in points)


def test_a_quarter_turn_swaps_width_and_height():
    corners = formats.rotated_rectangle(50, 20, 30, 10, math.pi / 2)
    assert {(round(x), round(y)) for x, y in corners} == {(45, 5), (55, 5), (45, 35), (55, 35)}


def test_a_positive_angle_turns_clockwise_on_the_screen():
    # y grows downwards: the right end of a lying box goes down.
    _, top_right, bottom_right, _ = formats.rotated_rectangle(0, 0, 10, 0, math.pi / 4)
    assert top_right == bottom_right == pytest.approx((5 / math.sqrt(2), 5 / math.sqrt(2)))


@pytest.mark.parametrize(
    ("bbox", "box", "defect"),
    [
        ((10, 5, 20, 10), Box(0.1, 0.1, 0.3, 0.3), None),
        ((90, 40, 20, 20), Box(0.9, 0.8, 1.0, 1.0), "boxes cut at the edge"),
        ((90, 40, 10.3, 10), Box(0.9, 0.8, 1.0, 1.0), None),  # rounding, less than half a pixel
        ((10, 5, 0, 10), None, "boxes without area"),
        ((10, 5, -3, 10), None, "boxes without area"),
        ((120, 5, 10, 10), None, "boxes outside the image"),
    ],
)
def test_boxes_are_kept_cut_or_counted(bbox, box, defect):
    defects = Counter()
    found = formats.corner_box(bbox, SIZE, defects)
    assert (found and found.to_pixels(SIZE)) == (box and pytest.approx(box.to_pixels(SIZE)))
    assert +defects == ({defect: 1} if defect else {})


def test_oriented_boxes_without_area_or_outside_are_counted():
    defects = Counter()
    assert formats.oriented_box([(1, 1), (5, 5)], SIZE, defects) is None
    assert formats.oriented_box([(1, -9), (5, -5), (1, -1)], SIZE, defects) is None
    assert formats.oriented_box([(10, 10), (20, 10), (20, 20), (10, 20)], SIZE, defects).area == pytest.approx(0.02)
    assert +defects == {"boxes without area": 1, "boxes outside the image": 1}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BaseballField", "baseball field"),
        ("ground_track_field", "ground track field"),
        ("OtherVehicle", "other vehicle"),
        ("ship", "ship"),
    ],
)
def test_class_names_become_words(name, expected):
    assert formats.words(name) == expected


def write(path: Path, content) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_coco_reads_images_in_file_order_and_counts_strays(tmp_path):
    path = write(
        tmp_path / "a.json",
        {
            "images": [
                {"id": 7, "filename": "b.jpg", "width": 9, "height": 8},
                {"id": 3, "filename": "a.jpg", "width": 9, "height": 8},
            ],
            "categories": [{"id": 1, "name": "ship"}],
            "objects": [
                {"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 2, 4, 6]]},
                {"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1], "segmentation": {"counts": [3], "size": [1]}},
                {"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1]},
            ],
        },
    )
    defects = Counter()
    first, second = formats.coco(path, defects, file="filename", annotations="objects")
    assert (first.file, first.size, first.annotations) == ("b.jpg", (9, 8), ())
    assert [annotation.outline for annotation in second.annotations] == [(1, 2, 4, 2, 4, 6), ()]
    assert second.annotations[0].bbox == (1, 2, 3, 4)
    assert +defects == {"annotations of unlisted images": 1}


def test_captions_are_distinct_in_order_with_the_blanks_inside_kept_and_empty_ones_counted(tmp_path):
    sentences = [{"raw": text} for text in ("a  pond .", "two ponds .", "a pond .", " ", " two ponds .")]
    images = [{"filename": f"{split}.tif", "split": split, "sentences": sentences} for split in ("val", "test")]
    path, defects = write(tmp_path / "d.json", {"images": images}), Counter()
    found = list(formats.captions(path, "val", defects))
    assert found == [("val.tif", ("a  pond .", "two ponds .", "a pond ."))]
    assert +defects == {"empty captions": 1}


def test_class_folders_are_found_by_any_spelling_and_inside_other_folders(tmp_path):
    for file in ("a/a/003.Bare_Land/1.tif", "a/a/storage-tank/._1.tif", "a/a/storage-tank/1.tif", "b/b/c/pond/1.tif"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    labels = {"pond": "pond", "bareland": "bare land", "StorageTank": "storage tank"}
    defects = Counter()
    found = list(formats.class_folders(tmp_path, labels, defects))
    assert [(path.parent.name, label) for path, label in found] == [
        ("003.Bare_Land", "bare land"),
        ("storage-tank", "storage tank"),
    ]
    assert +defects == {"missing class folders": 1}


def test_class_folders_are_read_in_natural_order_and_other_files_left(tmp_path):
    (tmp_path / "Pond").mkdir()
    for name in ("pond_10.jpg", "pond_2.jpg", ".DS_Store", "notes.txt"):
        (tmp_path / "Pond" / name).touch()
    defects = Counter()
    found = list(formats.class_folders(tmp_path, {"Pond": "pond", "pool": "pond", "Port": "port"}, defects))
    assert [(path.name, label) for path, label in found] == [("pond_2.jpg", "pond"), ("pond_10.jpg", "pond")]
    assert +defects == {"missing class folders": 1}


def test_a_folder_without_any_class_is_an_error(tmp_path):
    with pytest.raises(EarthGPTError, match=r"No class folders \(Pond, \.\.\.\) in "):
        list(formats.class_folders(tmp_path, {"Pond": "pond"}, Counter()))


def test_missing_and_broken_json_are_errors_in_one_line(tmp_path):
    with pytest.raises(EarthGPTError, match=r"^No file a\.json in "):
        formats.load_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(EarthGPTError, match=r"b\.json is not valid JSON") as caught:
        formats.load_json(tmp_path / "b.json")
    assert "\n" not in str(caught.value)


def test_image_size_is_width_and_height(tmp_path):
    Image.new("L", (7, 4)).save(tmp_path / "a.png")
    assert formats.image_size(tmp_path / "a.png") == (7, 4)

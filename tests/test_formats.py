"""Annotation formats, read into plain values."""

import gc
import json
import math
from collections import Counter
from pathlib import Path

import pytest

from earthgpt import formats
from earthgpt.types import Box, EarthGPTError

SIZE = (100, 50)


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


@pytest.mark.parametrize("collecting", [True, False])
def test_reading_leaves_the_collector_of_garbage_as_it_was(collecting, tmp_path):
    path = write(tmp_path / "a.json", {"images": 5})
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(EarthGPTError):
            list(formats.coco(path, Counter()))
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


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


# --- files that are damaged, or in another encoding --------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_text_is_read_in_the_encodings_that_are_about(encoding, tmp_path):
    (tmp_path / "a.txt").write_bytes("机场\r\n\r\n ship \r\n".encode(encoding))
    assert formats.lines(tmp_path / "a.txt") == ["机场", "ship"]


@pytest.mark.parametrize("content", [b"ship\0\0\0", b"\xff\xfe\x00", b"\x81"])
def test_what_is_no_text_is_an_error_that_names_the_file(content, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(EarthGPTError, match=r"a\.txt is no text in UTF-8, UTF-16 or GBK, or is damaged\."):
        formats.text_of(tmp_path / "a.txt")


def test_a_folder_where_a_file_is_wanted_is_an_error(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(EarthGPTError, match=r"a\.json cannot be read: Is a directory"):
        formats.load_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", ["", "[1, 2", "[" * 5000, '{"a": 1} x', '"\\ud800"', "1" * 5000])
def test_broken_json_is_an_error_in_one_line(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(EarthGPTError, match=r"a\.json is not valid JSON: ") as caught:
        formats.load_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


IMAGE = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 20}
OBJECT = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
SHIPS = {"images": [IMAGE], "categories": [{"id": 1, "name": "ship"}], "annotations": [OBJECT]}


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        "images",
        {},
        {**SHIPS, "images": None},
        {**SHIPS, "images": [5]},
        {**SHIPS, "images": [{**IMAGE, "id": [1]}]},
        {**SHIPS, "images": [{**IMAGE, "file_name": None}]},
        {**SHIPS, "images": [{**IMAGE, "width": "wide"}]},
        {**SHIPS, "images": [{"id": 1}]},
        {**SHIPS, "categories": [{"id": 1, "name": 7}]},
        {**SHIPS, "annotations": {"1": OBJECT}},
        {**SHIPS, "annotations": [{**OBJECT, "category_id": 9}]},
        {**SHIPS, "annotations": [{**OBJECT, "bbox": 5}]},
        {**SHIPS, "annotations": [{**OBJECT, "bbox": ["a", 2, 3, 4]}]},
        {**SHIPS, "annotations": [{**OBJECT, "segmentation": [1, 2, 3]}]},
        {**SHIPS, "annotations": [{**OBJECT, "segmentation": [[[1, 2], [3, 4]]]}]},
    ],
)
def test_json_of_another_shape_is_no_coco_file(content, tmp_path):
    path = write(tmp_path / "a.json", content)
    with pytest.raises(EarthGPTError, match=r"a\.json is no COCO file: "):
        list(formats.coco(path, Counter()))


def test_coco_reads_an_image_once_and_objects_without_a_box(tmp_path):
    outlined = {"image_id": 1, "category_id": 1, "segmentation": [[4, 2, 12, 2], [12, 6]]}
    content = {**SHIPS, "images": [IMAGE, IMAGE], "annotations": [OBJECT, outlined, {**OBJECT, "bbox": None}]}
    defects = Counter()
    (image,) = formats.coco(write(tmp_path / "a.json", content), defects)
    assert +defects == {"files listed twice": 1}
    boxes = [formats.upright(annotation, image.size, defects) for annotation in image.annotations]
    assert boxes == [Box(0.025, 0.1, 0.1, 0.3), Box(0.1, 0.1, 0.3, 0.3), None]
    assert defects["objects without a box"] == 1


@pytest.mark.parametrize("bbox", [(1, 2, 3), (1, 2, 3, 4, 0.5), (math.nan, 2, 3, 4), (10**400, 2, 3, 4)])
def test_boxes_that_are_not_four_numbers_are_counted(bbox):
    defects = Counter()
    assert formats.upright(formats.Annotation("ship", bbox), SIZE, defects) is None
    assert +defects == {"boxes that are not numbers": 1}


@pytest.mark.parametrize("outline", [(1, 2, 3), (1, 2, math.inf, 4), ("a", "b")])
def test_outlines_that_are_not_pairs_of_numbers_are_counted_and_left_out(outline):
    annotation, defects = formats.Annotation("ship", (), outline), Counter()
    for box in (formats.upright, formats.rectangle, formats.quadrilateral):
        assert box(annotation, SIZE, defects) is None
    assert +defects == {"boxes that are not numbers": 3}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"images": 5},
        {"images": [{"split": "val"}]},
        {"images": [{"split": "val", "filename": 5, "sentences": []}]},
        {"images": [{"split": "val", "filename": "a.jpg", "sentences": ["A pond ."]}]},
        {"images": [{"split": "val", "filename": "a.jpg", "sentences": [{"raw": None}]}]},
    ],
)
def test_json_of_another_shape_is_no_file_of_captions(content, tmp_path):
    with pytest.raises(EarthGPTError, match=r"a\.json is no file of captions: "):
        list(formats.captions(write(tmp_path / "a.json", content), "val", Counter()))


def test_captions_of_an_image_that_is_listed_twice_are_put_together(tmp_path):
    images = [{"split": "val", "filename": "a.jpg", "sentences": [{"raw": text}]} for text in ("A pond .", "A lake .")]
    defects = Counter()
    found = list(formats.captions(write(tmp_path / "a.json", {"images": images}), "val", defects))
    assert found == [("a.jpg", ("A pond .", "A lake ."))]
    assert +defects == {"files listed twice": 1}


@pytest.mark.parametrize(
    "shape",
    [5, {}, {"label": "dam", "points": [1, 2]}, {"label": "dam", "points": [["a", "b"]]}, {"label": 5, "points": []}],
)
def test_json_of_another_shape_is_no_labelme_file(shape, tmp_path):
    with pytest.raises(EarthGPTError, match=r"a\.json is no LabelMe file: "):
        formats.labelme(write(tmp_path / "a.json", {"shapes": [shape]}))


@pytest.mark.parametrize("part", ["questions", "answers"])
@pytest.mark.parametrize("content", [[], {}, {"questions": 5, "answers": 5}, {"questions": [{}], "answers": [{}]}])
def test_json_of_another_shape_is_no_file_of_rsvqa(part, content, tmp_path):
    for name in ("questions", "answers"):
        write(tmp_path / f"x_{name}.json", content if name == part else {name: []})
    with pytest.raises(EarthGPTError, match=rf"x_{part}\.json is no {part[:-1]} file of RSVQA: "):
        list(formats.rsvqa(tmp_path, "x", Counter()))


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not valid XML"),
        ("<annotation><object>", "is not valid XML"),
        ("<annotation>&bomb;</annotation>", "is not valid XML"),
        (BOMB, "declares a document type or entities"),
        ("<html><body>Not found</body></html>", "is no annotation of an image: its first element is html"),
        ("<annotation>\0</annotation>", "is damaged"),
    ],
)
def test_xml_that_is_broken_or_something_else_is_an_error_that_names_the_file(content, said, tmp_path):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(EarthGPTError, match=rf"a\.xml .*{said}"):
        formats.voc(tmp_path / "a.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk"])
def test_xml_is_read_in_the_encodings_that_are_about(encoding, tmp_path):
    box = "<bndbox><xmin>4</xmin><ymin>2</ymin><xmax>12</xmax><ymax>6.5</ymax></bndbox>"
    head, ship = f'<?xml version="1.0" encoding="{encoding}"?>\r\n', f"<object><name>机场 </name>{box}</object>"
    (tmp_path / "a.xml").write_bytes(f"{head}<annotation>{ship}</annotation>".encode(encoding))
    assert formats.voc(tmp_path / "a.xml").annotations == (formats.Annotation("机场", (4, 2, 8, 4.5)),)


def test_images_listed_twice_are_read_once(tmp_path):
    (tmp_path / "list.txt").write_text("2\r\n1\r\n2\r\n" + "3" * 5000)
    for name in ("1", "2"):
        (tmp_path / f"{name}.xml").write_text("<annotation/>")
    defects = Counter()
    found = [path.name for path, _ in formats.listed(tmp_path / "list.txt", tmp_path, tmp_path, defects)]
    assert found == ["2.jpg", "1.jpg"]
    assert +defects == {"files listed twice": 1, "missing annotations": 1}


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_class_folders_are_those_of_the_set_that_has_most_of_them(tmp_path):
    touch(tmp_path / "A" / "Forest" / "1.jpg", tmp_path / "B" / "forest" / "1.jpg", tmp_path / "B" / "pond" / "1.jpg")
    touch(tmp_path / "B" / "lists" / "train.txt", tmp_path / "B" / "port" / "Thumbs.db")
    labels, defects = {label: label for label in ("forest", "pond", "port")}, Counter()
    found = [path.parent.parent.name for path, _ in formats.class_folders(tmp_path, labels, defects)]
    assert found == ["B", "B"]
    assert +defects == {"folders of no class": 1, "missing class folders": 1}


def test_a_class_folder_in_another_of_its_name_is_read(tmp_path):
    touch(tmp_path / "pond" / "pond" / "1.jpg")
    ((path, label),) = formats.class_folders(tmp_path, {"pond": "pond"}, Counter())
    assert (path, label) == (tmp_path / "pond" / "pond" / "1.jpg", "pond")

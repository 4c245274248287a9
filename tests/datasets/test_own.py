"""Folders of one's own: images and annotations are found by what they are, and divided by folders, lists or names."""

import json
from collections import Counter

import pytest
from fakes import DIAMOND, SIZE, dota_text, picture, turned, upright, voc, write

import earthgpt
from earthgpt.formats import yolo_line
from earthgpt.lookup import find
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region, Sensor


def labels(sample):
    return tuple(region.label for region in sample.regions)


def own(name, root, split="all"):
    defects = Counter()
    return list(find("datasets", f"own_{name}").read(root, split, defects)), +defects


def test_own_voc_reads_oriented_and_upright_boxes_and_other_sensors(tmp_path):
    picture(tmp_path / "JPEGImages" / "a.jpg")
    picture(tmp_path / "JPEGImages" / "b.jpg")
    voc(tmp_path / "Annotations" / "a.xml", turned("Fishing boat", *DIAMOND), upright("dam", 4, 2, 12, 6))
    write(tmp_path / "sensor.txt", "SAR\n")
    (sample,), defects = own("voc", tmp_path)
    assert labels(sample) == ("Fishing boat", "dam") == sample.classes
    assert {type(region.box) for region in sample.regions} == {OrientedBox}
    assert sample.sensor is Sensor.SAR
    assert defects == {"images without annotations": 1}
    write(tmp_path / "sensor.txt", "x-ray")
    with pytest.raises(EarthGPTError, match=r"says 'x-ray'; it may say optical, sar, infrared"):
        own("voc", tmp_path)


def test_own_lists_divide_a_folder_and_without_parts_one_in_ten_is_val(tmp_path):
    for i in range(40):
        voc(tmp_path / "Annotations" / f"{i}.xml", upright("dam", 4, 2, 12, 6))
    whole, train, val = (own("voc", tmp_path, split)[0] for split in ("all", "train", "val"))
    assert len(train) + len(val) == len(whole) == 40 and 0 < len(val) < 12
    with pytest.raises(EarthGPTError, match="no part for tests"):
        own("voc", tmp_path, "test")
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "3\n5\n")
    write(tmp_path / "ImageSets" / "Main" / "test.txt", "7\n")
    assert [sample.name for sample in own("voc", tmp_path, "train")[0]] == ["Annotations/3.jpg", "Annotations/5.jpg"]
    assert len(own("voc", tmp_path, "test")[0]) == 1
    with pytest.raises(EarthGPTError, match="divided into train and test; there is no val"):
        own("voc", tmp_path, "val")


def test_own_lists_name_images_with_blanks_points_and_words_after_them(tmp_path):
    for name in ("a b", "c 1.5", "d", "e f"):
        picture(tmp_path / f"{name}.png")
        voc(tmp_path / f"{name}.xml", upright("dam", 4, 2, 12, 6))
    picture(tmp_path / "alone.png")
    write(tmp_path / "train.txt", "a b.png\nc 1.5\nimages\\d.png 1\nalone\nnowhere.png\n")
    write(tmp_path / "val.txt", "./e f.png\n")
    samples, defects = own("voc", tmp_path, "train")
    assert [sample.name for sample in samples] == ["a b.png", "c 1.5.png", "d.png"]
    assert defects == {"images without annotations": 1, "lines without an image of the folder": 1}
    samples, defects = own("voc", tmp_path, "val")
    assert ([sample.name for sample in samples], defects) == (["e f.png"], {})


def test_own_lists_tell_images_of_one_name_apart_by_their_folders(tmp_path):
    for part in ("train", "val"):  # numbered anew in each folder
        for i in range(3):
            picture(tmp_path / "images" / part / f"{i}.png")
            write(tmp_path / "labels" / part / f"{i}.txt", "0 0.5 0.5 0.2 0.2\n")
        write(tmp_path / f"{part}.txt", "".join(f"/data/mine/images/{part}/{i}.png\n" for i in range(3)))
    write(tmp_path / "classes.txt", "dam\n")
    for part in ("train", "val"):
        samples, defects = own("yolo", tmp_path, part)
        assert ([sample.name for sample in samples], defects) == ([f"images/{part}/{i}.png" for i in range(3)], {})


def test_own_lists_of_names_that_several_images_have_need_their_folders(tmp_path):
    for label in ("ship", "dam"):
        for i in range(2):
            picture(tmp_path / label / f"{i}.png")
    write(tmp_path / "test.txt", "ship/0.png\n1.png\n")
    write(tmp_path / "train.txt", "dam/0.png\nship/1.png\ndam/1.png\n")
    samples, defects = own("classes", tmp_path, "test")
    assert [sample.name for sample in samples] == ["ship/0.png"]
    assert defects == {"lines without an image of the folder": 1}  # which 1.png is meant nobody knows
    assert [sample.name for sample in own("classes", tmp_path, "train")[0]] == ["dam/0.png", "dam/1.png", "ship/1.png"]


def test_own_captions_of_an_image_in_two_parts_stay_with_the_first(tmp_path):
    rows = ("a.png,one,train", "b.png,two,test", "a.png,three,test")
    write(tmp_path / "captions.csv", "image,caption,split\n" + "\n".join(rows))
    (sample,), defects = own("captions", tmp_path, "train")
    assert sample.captions == ("one", "three")
    assert defects == {"captions of another part than their image": 1, "missing images": 1}
    assert [one.name for one in own("captions", tmp_path, "test")[0]] == ["b.png"]


@pytest.mark.parametrize("folders", [("train", "val"), ("a", "b")])  # divided, and not
def test_own_defects_are_counted_with_the_part_of_their_file_alone(folders, tmp_path):
    for i, folder in enumerate(folders):
        for j in range(30):
            voc(tmp_path / folder / f"{i}_{j}.xml", upright("dam", 4, 2, 12, 6))
            picture(tmp_path / folder / f"{i}_{j}.jpg")
            picture(tmp_path / folder / f"{i}_{j} alone.jpg")
            write(tmp_path / folder / f"{i}_{j}.txt", dota_text((DIAMOND, "dam 0")))  # the VOC file is read
            write(tmp_path / folder / f"{i}_{j} lost.txt", dota_text((DIAMOND, "dam 0")))
    read = find("datasets", "infrared_security").read
    of_parts = {split: Counter() for split in ("train", "val")}
    samples = {split: list(read(tmp_path, split, of_parts[split])) for split in of_parts}
    assert len(samples["train"]) + len(samples["val"]) == 60
    kinds = "further annotations of an image", "images without annotations", "annotations without an image"
    for kind in kinds:
        assert of_parts["train"][kind] + of_parts["val"][kind] == 60
        assert 0 < of_parts["val"][kind] < 60
    assert set(+of_parts["train"]) == set(kinds)


def test_own_files_of_no_part_are_counted_with_the_first(tmp_path):
    for name in ("train/a", "test/b", "c"):
        voc(tmp_path / f"{name}.xml", upright("dam", 4, 2, 12, 6))
        picture(tmp_path / f"{name}.jpg")
    picture(tmp_path / "d.jpg")
    assert own("voc", tmp_path, "train")[1] == {"images of no part": 1, "images without annotations": 1}
    assert own("voc", tmp_path, "test")[1] == {}
    samples, defects = own("voc", tmp_path)
    assert (len(samples), defects) == (3, {"images without annotations": 1})


def test_own_coco_finds_images_of_one_name_by_their_folders(tmp_path):
    for folder in ("a", "b"):
        picture(tmp_path / "images" / folder / "1.jpg")
    images = [{"id": i, "file_name": f"{folder}\\1.jpg", "width": 40, "height": 20} for i, folder in enumerate("ba")]
    boxes = [{"image_id": 0, "category_id": 1, "bbox": [4, 2, 8, 4], "segmentation": [[4, 2, 12, 2, 12, 6]]}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dam"}]}
    write(tmp_path / "annotations.json", content)
    samples, defects = own("coco", tmp_path)
    assert {sample.name: labels(sample) for sample in samples} == {"images/a/1.jpg": (), "images/b/1.jpg": ("dam",)}
    assert samples[1].regions[0].box == Box(0.1, 0.1, 0.3, 0.3)
    assert not defects


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "dam\nfishing boat\n"),
        ("classes.json", '["dam", "fishing boat"]'),
        ("classes.json", '{"0": "dam", "1": "fishing boat"}'),
        ("data.yaml", "train: images\nnc: 2\nnames: ['dam', \"fishing boat\"]  # two\n"),
        ("data.yaml", "names:\n  0: dam\n  1: fishing boat\nnc: 2\n"),
        ("data.yaml", "names:\n- dam\n- 'fishing boat'\n\ntrain: images\n"),
        ("data.yaml", "names: {0: dam, 1: fishing boat}\n"),
        ("data.yaml", "names: [\n  dam,\n  fishing boat,\n]\n"),
        ("data.yaml", "names:\n  # of the second release\n  - dam\n\n  - fishing boat # small\n"),
    ],
)
def test_own_yolo_names_its_classes_in_any_of_the_usual_files(file, text, tmp_path):
    write(tmp_path / file, text)
    picture(tmp_path / "images" / "a.png")
    write(tmp_path / "labels" / "a.txt", "1 0.2 0.2 0.2 0.2\n0 0.25 0.1 0.45 0.5 0.25 0.9 0.05 0.5\n")
    (sample,), defects = own("yolo", tmp_path)
    assert labels(sample) == ("fishing boat", "dam")
    assert sample.classes == ("dam", "fishing boat")
    boat, dam = (region.box for region in sample.regions)
    assert boat.bounds.to_pixels(SIZE) == pytest.approx((4, 2, 12, 6))
    assert dam.area * 40 * 20 == pytest.approx(128)
    assert not defects


@pytest.mark.parametrize("ending", [".yolo.txt", ".yolo-obb.txt"])
def test_own_yolo_is_what_the_writer_writes_with_its_scores(tmp_path, ending):
    picture(tmp_path / "a.png")
    boxes = Box(0.2, 0.2, 0.6, 0.8), OrientedBox(((0.5, 0.1), (0.9, 0.3), (0.8, 0.5), (0.4, 0.3)))
    regions = [Region(box, "dam", 0.7) for box in boxes]
    earthgpt.write(tmp_path / f"a{ending}", regions, earthgpt.open(tmp_path / "a.png"))
    (tmp_path / f"a{ending}").rename(tmp_path / "a.txt")
    (tmp_path / f"a{ending[:-4]}.names").rename(tmp_path / "classes.txt")
    (sample,), defects = own("yolo", tmp_path)
    for found, made in zip(sample.regions, boxes, strict=True):
        assert found.box.iou(made if ending == ".yolo-obb.txt" else made.bounds) > 0.999
    assert defects == {"scores of boxes": 2}


def test_names_of_a_yaml_file_may_hold_commas_and_marks(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 0.2 0.2 0.2 0.2\n1 0.2 0.2 0.2 0.2\n2 0.2 0.2 0.2 0.2\n")
    write(tmp_path / "data.yaml", "names: ['ship, large', 'ship #1', no]\n")
    assert labels(own("yolo", tmp_path)[0][0]) == ("ship, large", "ship #1", "no")
    for broken in ("names: [a", "nc: 2", "- a", ""):
        write(tmp_path / "data.yaml", broken)
        with pytest.raises(EarthGPTError, match=r"data\.yaml has no list of names"):
            own("yolo", tmp_path)


def test_own_yolo_without_class_names_says_where_to_write_them(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.txt", "1 0.2 0.2 0.2 0.2\n")
    with pytest.raises(EarthGPTError, match=r"YOLO files number their classes: write their names, .*classes\.txt"):
        own("yolo", tmp_path)


def test_own_yolo_labels_do_not_take_the_image_of_another_part(tmp_path):
    write(tmp_path / "classes.txt", "dam")
    picture(tmp_path / "images" / "train" / "a.png")
    write(tmp_path / "labels" / "val" / "a.txt", "0 0.2 0.2 0.2 0.2\n")
    write(tmp_path / "labels" / "train" / "a.txt", "")
    samples, defects = own("yolo", tmp_path)
    assert [(sample.name, sample.regions) for sample in samples] == [("images/train/a.png", ())]
    assert defects == {"annotations without an image": 1}


def test_own_dota_and_own_labelme(tmp_path):
    for name in "abc":
        picture(tmp_path / "d" / "images" / f"{name}.png")
    write(tmp_path / "d" / "labelTxt" / "a.txt", dota_text((DIAMOND, "dam 0")))
    write(tmp_path / "d" / "labelTxt" / "b.txt", "")
    write(tmp_path / "d" / "labelTxt" / "c.txt", "imagesource:GoogleEarth\ngsd:0.5\n")
    (sample, *empty), found = own("dota", tmp_path / "d")
    assert [one.regions for one in empty] == [(), ()] and not found
    assert labels(sample) == ("dam",) and isinstance(sample.regions[0].box, OrientedBox)
    shape = {"label": "dam", "points": [[4, 2], [12, 2], [12, 6], [8, 6], [4, 6]], "shape_type": "polygon"}
    write(tmp_path / "l" / "a.json", {"shapes": [shape], "imageWidth": 40, "imageHeight": 20})
    (sample,), defects = own("labelme", tmp_path / "l")
    assert sample.regions[0].box.bounds.to_pixels(SIZE) == pytest.approx((4, 2, 12, 6))
    assert defects == {"missing images": 1}


def test_what_detect_wrote_belongs_to_its_image_and_a_circle_is_an_object(tmp_path):
    for name in ("d/a.png", "y/a.png", "l/a.png"):
        picture(tmp_path / name)
    write(tmp_path / "d" / "a.dota.txt", dota_text((DIAMOND, "storage-tank 0")))
    (sample,), found = own("dota", tmp_path / "d")
    assert labels(sample) == ("storage tank",) and not found
    write(tmp_path / "y" / "a.yolo.txt", "0 0.2 0.2 0.2 0.2 0.9\n")
    write(tmp_path / "y" / "classes.txt", "dam")
    (sample,), _ = own("yolo", tmp_path / "y")
    assert labels(sample) == ("dam",)
    (tmp_path / "y" / "classes.txt").unlink()
    write(tmp_path / "y" / "a.yolo.names", "ship\ndam\n")
    (sample,), _ = own("yolo", tmp_path / "y")
    assert labels(sample) == ("ship",), "its names stand beside it"
    write(tmp_path / "d" / "a.txt", dota_text((DIAMOND, "small-dam 0")))
    (sample,), found = own("dota", tmp_path / "d")
    assert labels(sample) == ("small-dam",) and found == {"further annotations of an image": 1}, "truth comes first"
    circle = {"label": "tank", "points": [[10, 10], [13, 14]], "shape_type": "circle"}  # a radius of 5
    line = {"label": "road", "points": [[10, 10], [13, 14]], "shape_type": "line"}
    write(tmp_path / "l" / "a.json", {"shapes": [circle], "imageWidth": 40, "imageHeight": 20})
    (sample,), found = own("labelme", tmp_path / "l")
    assert sample.regions[0].box.to_pixels(SIZE) == pytest.approx((5, 5, 15, 15)) and sample.complete and not found
    write(tmp_path / "l" / "a.json", {"shapes": [circle, line], "imageWidth": 40, "imageHeight": 20})
    assert own("labelme", tmp_path / "l")[1] == {"shapes without area": 1}


def test_own_classes_are_named_by_folders_or_by_a_file(tmp_path):
    for name in ("train/fishing_boat/a.jpg", "train/dam/b.png", "test/dam/c.jpg", "d.jpg"):
        picture(tmp_path / name)
    samples, defects = own("classes", tmp_path, "train")
    assert [(sample.name, sample.label) for sample in samples] == [
        ("train/dam/b.png", "dam"),
        ("train/fishing_boat/a.jpg", "fishing boat"),
    ]
    assert samples[0].choices == ("dam", "fishing boat")
    assert defects == {"images outside class folders": 1}
    write(tmp_path / "classes.json", '{"fishing_boat": "ship", "dam": null}')
    samples, defects = own("classes", tmp_path, "train")
    assert [(sample.label, sample.choices) for sample in samples] == [("ship", ("ship",))]
    assert defects["images of no class"] == 1


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_own_captions_are_gathered_by_image(separator, tmp_path):
    rows = [("Image", "Caption", "split"), ("a.jpg", "A dam .", "train"), ("b.jpg", "A ship .", "valid")]
    rows += [("a.jpg", '"A ""big"" dam ."', "train"), ("a.jpg", "A dam .", "train"), ("", "lost", "train")]
    write(tmp_path / "captions.csv", "\ufeff" + "\r\n".join(separator.join(row) for row in rows))
    picture(tmp_path / "a.jpg")
    samples, defects = own("captions", tmp_path, "train")
    assert [(sample.name, sample.captions) for sample in samples] == [("a.jpg", ("A dam .", 'A "big" dam .'))]
    assert defects == {"lines without an image of the folder": 1}


def test_own_captions_may_be_in_a_file_for_each_part_and_images_in_a_folder_of_their_own(tmp_path):
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png")
    write(tmp_path / "train.csv", "image,caption\na.png,A dam .\nb.png,A ship .\n")
    write(tmp_path / "val" / "captions.csv", "image,caption\nc.png,A quay .\n")
    write(tmp_path / "sizes.csv", "image,width\na.png,40\n")
    samples, defects = own("captions", tmp_path, "train")
    assert [sample.name for sample in samples] == ["images/a.png", "images/b.png"]
    assert defects == {"tables without image and caption": 1}
    assert [sample.captions for sample in own("captions", tmp_path, "val")[0]] == [("A quay .",)]


def test_own_captions_are_not_what_a_model_said_and_stay_with_their_image(tmp_path):
    for folder in ("sar", "other"):
        picture(tmp_path / folder / "1.png")
    write(tmp_path / "captions.csv", "image,caption\noptical/1.png,An optical image .\nsar/1.png,A radar image .\n")
    write(tmp_path / "out.csv", "image,caption,score,prompt,model,reading,error\nsar/1.png,A dam .,0.9,,tiny,,\n")
    samples, defects = own("captions", tmp_path, "all")
    assert {one.name: one.captions for one in samples} == {
        "optical/1.png": ("An optical image .",), "sar/1.png": ("A radar image .",),
    }  # fmt: skip
    assert defects == {"missing images": 1, "tables without image and caption": 1}
    (tmp_path / "captions.csv").unlink()
    with pytest.raises(EarthGPTError, match=r"out\.csv is what a model said"):
        own("captions", tmp_path, "all")


def test_own_captions_of_a_file_for_each_part_say_the_part_of_its_images(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    write(tmp_path / "captions.csv", "image,caption\na.png,A dam .\nb.png,A ship .\n")
    for part, name in (("train", "a"), ("test", "b")):
        write(tmp_path / f"{part}.csv", f"image,caption\n{name}.png,More of it .\n")
    assert [one.name for one in own("captions", tmp_path, "train")[0]] == ["a.png"]
    assert [one.name for one in own("captions", tmp_path, "test")[0]] == ["b.png"]


@pytest.mark.parametrize("line", ["0 .5 .5 .2 .1 1.57", "10 20 30 40 50 60 70 80", "0 " + ".5 " * 4 + ".5 .5 2 " * 17])
def test_lines_of_angles_pixels_and_key_points_are_no_yolo(line):
    assert yolo_line(line) is None
    assert yolo_line("0 .5 .5 .2 .1 .9") and yolo_line("0 .1 .1 .9 .1 .9 .9")


def test_own_annotations_that_cannot_be_read_are_counted(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    write(tmp_path / "classes.txt", "dam")
    write(tmp_path / "a.txt", "0 0.2 0.2 0.2 0.2\n")
    write(tmp_path / "b.txt", "0,0.2,0.2,0.2,0.2\n")
    samples, defects = own("yolo", tmp_path, "all")
    assert [sample.name for sample in samples] == ["a.png"]
    assert defects == {"annotation files of no kind that is known": 1, "images without annotations": 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [({"category_id": 9}, "number 1 of annotations has no category that is listed: '9'"),
     ({"bbox": ["1", "2", "30", "40"]}, "box or outline of number 1 of annotations is not all numbers")],
)  # fmt: skip
def test_a_broken_entry_of_own_coco_is_named(tmp_path, change, says):
    picture(tmp_path / "a.png")
    entry = {"image_id": "0", "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {"images": [{"id": 0, "file_name": "a.png"}], "categories": [{"id": 1, "name": "dam"}]}
    write(tmp_path / "a.json", json.dumps({**content, "annotations": [entry]}))
    assert labels(own("coco", tmp_path, "all")[0][0]) == ("dam",), "numbers may be text"
    write(tmp_path / "a.json", json.dumps({**content, "annotations": [entry | change]}))
    with pytest.raises(EarthGPTError, match=says):
        own("coco", tmp_path, "all")


def test_own_captions_need_a_first_line(tmp_path):
    write(tmp_path / "captions.csv", "a.jpg,A dam .\n")
    with pytest.raises(EarthGPTError, match=r"needs a first line with image and caption; it has 'a\.jpg,A dam \.'"):
        own("captions", tmp_path)


def test_own_captions_stand_without_their_image_and_within_the_folder(tmp_path):
    write(tmp_path / "captions.csv", "image,caption\na.jpg,A dam .\n../b.jpg,A ship .\n")
    write(tmp_path / "._captions.csv", "Mac OS X")
    (sample,), defects = own("captions", tmp_path)
    assert (sample.name, sample.size, sample.captions) == ("a.jpg", (0, 0), ("A dam .",))
    assert defects == {"missing images": 1, "lines without an image of the folder": 1}
    write(tmp_path / "captions.csv", 'image,caption\na.jpg,"' + "a" * 200_000)
    with pytest.raises(EarthGPTError, match=r"captions\.csv is no list of captions: field larger"):
        own("captions", tmp_path)


def test_own_annotations_in_utf_16_are_read(tmp_path):
    voc(tmp_path / "a.xml", upright("dam", 4, 2, 12, 6))
    (tmp_path / "a.xml").write_bytes((tmp_path / "a.xml").read_text().encode("utf-16"))
    (sample,), _ = own("voc", tmp_path)
    assert labels(sample) == ("dam",)


@pytest.mark.parametrize("content", ["5", '{"0": 5}', '[["dam"]]'])
def test_own_classes_that_are_no_names_are_an_error_that_names_the_file(content, tmp_path):
    write(tmp_path / "classes.json", content)
    voc(tmp_path / "a.xml", upright("dam", 4, 2, 12, 6))
    with pytest.raises(EarthGPTError, match=r"classes\.json is no list of classes: "):
        own("voc", tmp_path)


@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "dota", "labelme", "classes", "captions"])
def test_an_empty_folder_of_ones_own_is_an_error(name, tmp_path):
    with pytest.raises(EarthGPTError, match=r"^No "):
        own(name, tmp_path)

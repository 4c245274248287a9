"""Sets with boxes: each reader reads a tiny fake download in its true layout, and finds the numbers of real files."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import downloads
import pytest
from PIL import Image

from earthgpt.datasets import dior_rsvg
from earthgpt.lookup import find
from earthgpt.types import Box, EarthGPTError, OrientedBox, Sensor

SIZE = (40, 20)


def picture(path: Path, mode="L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, SIZE).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def upright(name, *edges, text=""):
    corners = "".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True))
    said = f"<description>{text}</description>" if text else ""
    return f"<object><name>{name}</name><pose>x</pose><bndbox>{corners}</bndbox>{said}</object>"


def turned(name, *numbers, tag="robndbox"):
    places = ("left_top", "right_top", "right_bottom", "left_bottom")
    names = [f"{axis}_{place}" for place in places for axis in "xy"]
    if tag == "rotated_bndbox":
        names = [f"{axis}{i}" for i in range(1, 5) for axis in "xy"]
    corners = "".join(f"<{n}>{v}</{n}>" for n, v in zip(names, numbers, strict=True))
    return f"<object><type>robndbox</type><name>{name}</name><{tag}>{corners}</{tag}><angle>0</angle></object>"


def pointed(name, *points):
    inner = "".join(f"<point>{x}, {y}</point>" for x, y in points)
    result = f"<possibleresult><name>{name}</name></possibleresult>"
    return f"<object><coordinate>pixel</coordinate>{result}<points>{inner}</points></object>"


def voc(path: Path, *objects, size=SIZE, inner="{}") -> None:
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    write(path, f"<annotation><filename>x.jpg</filename>{stated}{inner.format(''.join(objects))}</annotation>")


DIAMOND = (10, 2, 18, 10, 10, 18, 2, 10)  # diagonals of 16: area 128
LYING = (4, 2, 12, 2, 12, 6, 4, 6)  # the box of 4, 2, 12, 6


def dota_text(*rows, header="imagesource:GoogleEarth\r\ngsd:null\r\n"):
    return header + "".join(f"{' '.join(map(str, numbers))} {label}\r\n" for numbers, label in rows)


def fake_dota_v1(root):
    folder = root / "DOTA" / "train"
    picture(folder / "images" / "P0001.png")
    picture(folder / "images" / "part2" / "P0010.png")
    write(folder / "labelTxt" / "P0001.txt", dota_text((LYING, "large-vehicle 0"), (LYING, "plane 2")))
    write(folder / "labelTxt" / "P0010.txt", dota_text((DIAMOND, "ship 1"), (LYING, "container-crane 0"), header=""))
    write(folder / "labelTxt" / "P0002.txt", "")  # its image is missing


def fake_dota_v15(root):
    picture(root / "val" / "images" / "P0001.png")
    write(root / "val" / "labelTxt" / "P0001.txt", dota_text((LYING, "plane 0")))  # of 1.0
    labels = root / "val" / "labelTxt-v1.5"
    write(labels / "DOTA-v1.5_val" / "P0001.txt", dota_text((LYING, "container-crane 0")))
    write(labels / "DOTA-v1.5_val_hbb" / "P0001.txt", dota_text((LYING, "ship 0")))


def fake_dota_v2(root):
    picture(root / "train" / "images" / "P0001.png")
    text = dota_text((LYING, "helipad 0"), (LYING, "helipad 0"), ((1, 2, 3), "nonsense"))
    write(root / "train" / "labelTxt-v2.0" / "DOTA-v2.0_train" / "P0001.txt", text)


def fake_dior(root):
    write(root / "Main" / "train.txt", "00001\r\n00002\r\n00003")
    folder = root / "Annotations" / "Horizontal Bounding Boxes"
    voc(folder / "00001.xml", upright("Expressway-Service-area", 4, 2, 12, 6), upright("golffield", 0, 0, 0, 5))
    voc(folder / "00002.xml", upright("groundtrackfield", 30, 5, 50, 15))
    picture(root / "JPEGImages-trainval" / "00001.jpg")
    picture(root / "JPEGImages-trainval" / "00002.jpg")


def fake_dior_r(root):
    write(root / "DIOR" / "ImageSets" / "Main" / "test.txt", "11726\n")
    folder = root / "DIOR" / "Annotations" / "Oriented_Bounding_Boxes"
    voc(folder / "11726.xml", turned("expressway-toll-station", *DIAMOND), upright("ship", 4, 2, 12, 6))
    picture(root / "DIOR" / "JPEGImages-test" / "11726.jpg")


def fake_fair1m(root):
    closed = pointed("Boeing737", (10, 2), (18, 10), (10, 18), (2, 10), (10, 2))
    voc(root / "train" / "part1" / "labelXml" / "0.xml", closed, size=None, inner="<objects>{}</objects>")
    other = pointed("other-ship", (4, 2), (12, 2), (12, 6), (4, 6), (4, 2))
    voc(root / "train" / "part2" / "labelXmls" / "labelXmls" / "0.xml", other, size=None)
    picture(root / "train" / "part1" / "images" / "0.tif")
    picture(root / "train" / "part2" / "images" / "0.tif")


def fake_nwpu_vhr10(root):
    folder = root / "NWPU VHR-10 dataset"
    write(folder / "ground truth" / "001.txt", "(4,2),(12,6),1 \r\n( 30,5),(36, 9) , 10\r\n\r\n\r\n")
    write(folder / "ground truth" / "002.txt", "(4,2),(12,6)\n")
    picture(folder / "positive image set" / "001.jpg")
    picture(folder / "positive image set" / "002.jpg")


def fake_hrrsd(root):
    folder = root / "OPT2017"
    write(folder / "ImageSets" / "Main" / "val.txt", "00002\n00001\n00003")
    voc(folder / "Annotations" / "00001.xml", upright("T junction", 0, 0, 40, 20))
    voc(folder / "Annotations" / "00002.xml", upright("storage tank", 4, 2, 12, 6), size=(50, 20))
    picture(folder / "JPEGImages" / "00002.jpg")


def fake_rsod(root):
    voc(root / "aircraft" / "Annotation" / "xml" / "aircraft_10.xml", upright("aircraft", -9, 2, 12, 6))
    voc(root / "aircraft" / "Annotation" / "xml" / "aircraft_2.xml", upright("aircraft", 4, 2, 12, 6))
    voc(root / "oiltank" / "oiltank" / "Annotation" / "xml" / "oiltank_1.xml", upright("oiltank", 4, 2, 12, 6))
    for name in ("aircraft_2", "aircraft_10", "aircraft_11"):
        picture(root / "aircraft" / "Annotation" / "JPEGImages" / f"{name}.jpg")
    picture(root / "oiltank" / "oiltank" / "JPEGImages" / "oiltank_1.jpg")


def fake_ucas_aod(root):
    row = "".join(f"{number:e}\t" for number in (*DIAMOND, 45, 2, 2, 16, 16))
    write(root / "UCAS_AOD" / "CAR" / "P0001.txt", row + "\n")
    write(root / "UCAS_AOD" / "PLANE" / "P0001.txt", row + "\n1 2 3\n")
    write(root / "UCAS_AOD" / "PLANE" / "readme.txt", "no label")
    for name in ("CAR", "PLANE", "Neg"):
        picture(root / "UCAS_AOD" / name / "P0001.png")


def fake_visdrone(root):
    folder = root / "VisDrone2019-DET-train"
    rows = [
        "4,2,8,4,1,4,0,1",
        "4,2,8,4,1,2,0,0,",
        "0,0,40,5,0,0,0,0",
        "1,1,2,2,1,11,0,0",
        "1,1,9,9,0,4,0,0",
        "3,3,4,0,1,1,0,0",
    ]
    write(folder / "annotations" / "0000002_a.txt", "\n".join(rows))
    write(folder / "annotations" / "0000003_a.txt", "4,2,8,4,1,10,0,0\n")
    picture(folder / "images" / "0000002_a.jpg")
    picture(folder / "images" / "0000003_a.jpg")


def fake_air_sarship2(root):
    folder = root / "AIR-SARShip-2.0-xml" / "AIR-SARShip-2.0-xml"
    ship = pointed("ship", (4, 2), (12, 2), (12, 6), (4, 6), (4, 2))
    voc(folder / "10.xml", ship, size=None, inner="<objects>{}</objects>")
    voc(folder / "9.xml", ship, size=None)
    for name in ("9", "10"):
        picture(root / "AIR-SARShip-2.0-data" / f"{name}.tiff", "I;16")


def fake_ssdd(root):
    folder = root / "Official-SSDD-OPEN" / "Official-SSDD-OPEN" / "BBox_SSDD" / "voc_style"
    write(folder / "ImageSets" / "Main" / "test.txt", "000001\n")
    voc(folder / "Annotations" / "000001.xml", upright("ship", 4, 2, 12, 6))
    picture(folder / "JPEGImages" / "000001.jpg")


def fake_ssdd_oriented(root):
    folder = root / "RBox_SSDD" / "voc_style"
    write(folder / "ImageSets" / "Main" / "train.txt", "000002\n")
    voc(folder / "Annotations" / "000002.xml", turned("ship", *DIAMOND, tag="rotated_bndbox"))
    picture(folder / "JPEGImages" / "000002.jpg")


def fake_mar20(root):
    folder = root / "MAR20" / "MAR20"
    write(folder / "ImageSets" / "Main" / "test.txt", "10\n9\n3")
    annotations = folder / "Annotations" / "Horizontal Bounding Boxes"
    voc(annotations / "10.xml", upright("A2", 4, 2, 12, 6), size=(0, 0))
    voc(annotations / "9.xml", upright("A20", 4, 2, 12, 6))
    voc(annotations / "3.xml", upright("A1", 4, 2, 12, 6), size=(0, 0))  # without its image nobody knows how large
    picture(folder / "JPEGImages" / "10.jpg")


def fake_mar20_oriented(root):
    write(root / "ImageSets" / "Main" / "train.txt", "1")
    voc(root / "Annotations" / "Oriented Bounding Boxes" / "1.xml", turned("A4", *DIAMOND))
    picture(root / "JPEGImages" / "1.jpg")


def fake_mar20_types(root):
    fake_mar20(root)


def fake_sea_shipping(root):
    folder = root / "红外船舶数据库" / "dataset"
    picture(folder / "images" / "train" / "a1.jpg")
    voc(folder / "labels" / "train" / "a1.xml", upright("fishing boat", 4, 2, 12, 6), upright("submarine", 1, 1, 3, 3))
    write(folder / "labels" / "train" / "a1.txt", "6 0.2 0.2 0.2 0.2\n")  # the same once more, as YOLO
    picture(folder / "images" / "val" / "a1.jpg")
    voc(folder / "labels" / "val" / "a1.xml", upright("bulk_carrier", 4, 2, 12, 6))


def fake_infrared_security(root):
    write(root / "classes.txt", "person\r\ncar\r\n")
    for i, part in enumerate(("train", "val")):
        picture(root / "images" / part / f"{i}.jpg")
    write(root / "labels" / "train" / "0.txt", "1 0.2 0.2 0.2 0.2\n0 0.5 0.5 0 0.1\n7 0.5 0.5 0.1 0.1\n1 0.5\n")
    write(root / "labels" / "val" / "1.txt", "")


def fake_aerial_mancar(root):
    folder = root / "红外航拍数据集" / "dataset"
    for name in ("train/a.jpg", "val/b.jpg"):
        picture(folder / name)
    shape = {"label": "人", "points": [[12, 6], [4, 2]], "shape_type": "rectangle"}
    spot = {"label": "人", "points": [[12, 6]], "shape_type": "point"}
    content = {"imageData": "", "imageHeight": 20, "imageWidth": 40, "imagePath": "..\\a.jpg", "shapes": [shape, spot]}
    write(folder / "train" / "a.json", json.dumps(content))
    voc(folder / "val" / "b.json", upright("car", 4, 2, 12, 6))  # XML under another suffix
    write(root / "classes.json", json.dumps({"人": "person", "car": "car"}))


def fake_double_light_vehicle(root):
    for part in ("train", "val"):
        picture(root / "infrared" / part / f"{part}1.jpg")
        picture(root / "visible" / part / f"{part}1.jpg")
    images = [{"id": 1, "file_name": "train1.jpg", "width": 40, "height": 20}]
    boxes = [{"image_id": 1, "category_id": 3, "bbox": [4, 2, 8, 4]}]
    crowd = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    content = {"images": images, "annotations": [*boxes, crowd], "categories": [{"id": 3, "name": "Car"}]}
    write(root / "annotations" / "instances_train.json", json.dumps(content))
    content = {**content, "images": [{**images[0], "file_name": "val1.jpg"}]}
    write(root / "annotations" / "instances_val.json", json.dumps(content))


def fake_oceanic_ship(root):
    for part in ("train", "val"):
        picture(root / "swir" / part / "1.png")
        voc(root / "swir" / part / "1.xml", upright("ship", 4, 2, 12, 6))


FAKES = {name.removeprefix("fake_"): make for name, make in globals().copy().items() if name.startswith("fake_")}


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
            "NWPU VHR-10 dataset/positive image set/001.jpg": ("airplane", "vehicle"),
            "NWPU VHR-10 dataset/positive image set/002.jpg": (),
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
        {"UCAS_AOD/CAR/P0001.png": ("car",), "UCAS_AOD/PLANE/P0001.png": ("airplane",)},
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
        {"images of another sensor": 2, "crowds": 2},
        complete=(False,),
        **IR,
    ),
    "oceanic_ship": Expected("val", {"swir/val/1.png": ("ship",)}, **IR),
}
ORIENTED = {"dota_v1", "dota_v15", "dota_v2", "dior_r", "fair1m", "ucas_aod", "ssdd_oriented", "mar20_oriented"}
each = pytest.mark.parametrize("name", FAKES)


def read(name, root, split=None):
    FAKES[name](root)
    return list(find("datasets", name).read(root, split or EXPECTED[name].split))


def labels(sample):
    return tuple(region.label for region in sample.regions)


@each
def test_a_fake_download_is_read_whole(name, tmp_path):
    expected, dataset, defects = EXPECTED[name], find("datasets", name), Counter()
    FAKES[name](tmp_path)
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
        assert sample.image.is_absolute() and sample.name == sample.image.relative_to(tmp_path).as_posix()
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
    fake_dota_v15(tmp_path)
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
        return json.dumps({"images": images, "annotations": objects, "categories": [{"id": 0, "name": "ship"}]})

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
    FAKES[name](tmp_path)
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
    FAKES[name](tmp_path / "a")
    FAKES[name](tmp_path / "b")
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
    FAKES[name](tmp_path)
    defects = Counter()
    list(find("datasets", name).read(tmp_path, EXPECTED[name].split, defects))
    assert defects["images without annotations"] == 1


def test_the_folder_of_a_split_or_class_may_be_the_root(tmp_path):
    fake_dota_v2(tmp_path)
    assert labels(*find("datasets", "dota_v2").read(tmp_path / "train", "train")) == ("helipad",)
    fake_ucas_aod(tmp_path)
    car, plane = find("datasets", "ucas_aod").read(tmp_path / "UCAS_AOD" / "CAR", "all")
    assert (car.name, plane.name) == ("P0001.png", "../PLANE/P0001.png")


def test_parts_of_fair1m_in_another_folder_of_its_name_are_kept_apart(tmp_path):
    fake_fair1m(tmp_path / "train")
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
    write(tmp_path / "NWPU VHR-10_dataset_coco" / "annotations.json", json.dumps(content))
    picture(tmp_path / "NWPU_VHR-10_dataset" / "positive_image_set" / "001.jpg")
    (sample,) = find("datasets", "nwpu_vhr10").read(tmp_path, "all")
    assert sample.name == "NWPU_VHR-10_dataset/positive_image_set/001.jpg" and sample.image.is_file()


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


# --- folders of one's own ----------------------------------------------------------------------------------------


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
    with pytest.raises(EarthGPTError, match="divided into test and train; there is no val"):
        own("voc", tmp_path, "val")


def test_own_coco_finds_images_of_one_name_by_their_folders(tmp_path):
    for folder in ("a", "b"):
        picture(tmp_path / "images" / folder / "1.jpg")
    images = [{"id": i, "file_name": f"{folder}\\1.jpg", "width": 40, "height": 20} for i, folder in enumerate("ba")]
    boxes = [{"image_id": 0, "category_id": 1, "bbox": [4, 2, 8, 4], "segmentation": [[4, 2, 12, 2, 12, 6]]}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dam"}]}
    write(tmp_path / "annotations.json", json.dumps(content))
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
    picture(tmp_path / "d" / "images" / "a.png")
    write(tmp_path / "d" / "labelTxt" / "a.txt", dota_text((DIAMOND, "dam 0")))
    (sample,), _ = own("dota", tmp_path / "d")
    assert labels(sample) == ("dam",) and isinstance(sample.regions[0].box, OrientedBox)
    shape = {"label": "dam", "points": [[4, 2], [12, 2], [12, 6], [8, 6], [4, 6]], "shape_type": "polygon"}
    write(tmp_path / "l" / "a.json", json.dumps({"shapes": [shape], "imageWidth": 40, "imageHeight": 20}))
    (sample,), defects = own("labelme", tmp_path / "l")
    assert sample.regions[0].box.bounds.to_pixels(SIZE) == pytest.approx((4, 2, 12, 6))
    assert defects == {MISSING: 1}


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


def test_own_captions_need_a_first_line(tmp_path):
    write(tmp_path / "captions.csv", "a.jpg,A dam .\n")
    with pytest.raises(EarthGPTError, match=r"needs a first line with image and caption; it has 'a\.jpg,A dam \.'"):
        own("captions", tmp_path)


def test_own_captions_stand_without_their_image_and_within_the_folder(tmp_path):
    write(tmp_path / "captions.csv", "image,caption\na.jpg,A dam .\n../b.jpg,A ship .\n")
    write(tmp_path / "._captions.csv", "Mac OS X")
    (sample,), defects = own("captions", tmp_path)
    assert (sample.name, sample.size, sample.captions) == ("a.jpg", (0, 0), ("A dam .",))
    assert defects == {MISSING: 1, "lines without an image of the folder": 1}
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

"""Tiny fake downloads of data sets in their true layouts, and what they are made of."""

import json
import math
from functools import partial
from pathlib import Path

import downloads
from PIL import Image

SIZE = (40, 20)
DIAMOND = (10, 2, 18, 10, 10, 18, 2, 10)  # diagonals of 16: area 128
LYING = (4, 2, 12, 2, 12, 6, 4, 6)  # the box of 4, 2, 12, 6


def picture(path: Path, size=SIZE, mode="L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


def write(path: Path, content) -> None:
    """Text, or JSON of anything else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


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


def dota_text(*rows, header="imagesource:GoogleEarth\r\ngsd:null\r\n"):
    return header + "".join(f"{' '.join(map(str, numbers))} {label}\r\n" for numbers, label in rows)


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
        picture(root / "AIR-SARShip-2.0-data" / f"{name}.tiff", mode="I;16")


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
    write(folder / "train" / "a.json", content)
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
    write(root / "annotations" / "instances_train.json", content)
    content = {**content, "images": [{**images[0], "file_name": "val1.jpg"}]}
    write(root / "annotations" / "instances_val.json", content)


def fake_oceanic_ship(root):
    for part in ("train", "val"):
        picture(root / "swir" / part / "1.png")
        voc(root / "swir" / part / "1.xml", upright("ship", 4, 2, 12, 6))


HIT_UAV = {0: "Person", 1: "Car", 2: "Bicycle", 3: "OtherVehicle", 4: "DontCare"}


def fake_hit_uav(root):
    objects = [(0, 0, [4, 2, 8, 4], None), (0, 3, [0, 0, 4, 4], None), (1, 1, [0, 0, 4, 4], None)]
    content = coco(["1_a.jpg", "1_b.jpg"], [*objects, (1, 4, [9, 9, 4, 4], None)], HIT_UAV, "filename", "annotation")
    write(root / "normal_json" / "annotations" / "train.json", content)
    picture(root / "normal_json" / "train" / "1_a.jpg")
    picture(root / "normal_json" / "train" / "1_b.jpg")


def fake_hit_uav_oriented(root):
    side = 8 * math.sqrt(2)  # the diamond
    objects = [(0, 1, [10, 10, side, side, math.pi / 4], None), (0, 4, [20, 10, 12, 6, 0.0], None)]
    write(root / "rotate_json" / "annotations" / "val.json", coco(["1_a.jpg"], objects, HIT_UAV, "filename"))
    picture(root / "rotate_json" / "val" / "1_a.jpg")


def fake_hrsid(root):
    objects = [(0, 1, [2, 2, 16, 16], [DIAMOND]), (0, 1, [30, 5, 4, 4], None), (1, 1, [1, 1, 3, 3], [[1, 1, 3, 3]])]
    write(root / "annotations" / "train2017.json", coco(["P0001_a.jpg", "P0001_b.jpg"], objects, {1: "ship"}))
    picture(root / "JPEGImages" / "P0001_a.jpg")
    picture(root / "JPEGImages" / "P0001_b.jpg")


# Sets with boxes, by name.
BOXES = {name.removeprefix("fake_"): make for name, make in globals().copy().items() if name.startswith("fake_")}


# The files of scenes, in the layouts that are about.
SCENES = {
    "aid": ("Airport/airport_1.jpg", "Airport/airport_10.jpg", "Airport/airport_2.jpg", "BareLand/bareland_1.jpg"),
    "nwpu_resisc45": (
        "NWPU-RESISC45/NWPU-RESISC45/sea_ice/sea_ice_001.jpg",
        "NWPU-RESISC45/NWPU-RESISC45/lake/lake_700.jpg",
    ),
    "eurosat": (
        "EuroSAT_MS/SeaLake/SeaLake_1.tif",
        "EuroSAT_RGB/SeaLake/SeaLake_1.jpg",
        "EuroSAT_RGB/River/River_3.jpg",
    ),
    "ucmerced": ("UCMerced_LandUse/Images/tenniscourt/tenniscourt00.tif", "UCMerced_LandUse/Images/beach/beach99.tif"),
    "whu_rs19": ("WHU-RS19/footballField/footballField_01.jpg", "WHU-RS19/Beach/beach-01.jpg"),
    "rsscn7": ("aGrass/a001.jpg", "gParking/g001.jpg", "farm_land/1.jpg"),
    "fgscr42": (
        "007.INS_Virrat_aircraft_carrier/1.bmp",
        "005.Charles_de_Gaulle_aricraft_carrier/1.bmp",
        "025.Megayacht/1.bmp",
    ),
    "clrs": ("bare-land/bare-land_1_Level1_4.51m.tif", "bare-land/bare-land_2_Level3_8m.tif"),
    "nasc_tg2": ("NaSC-TG2/NaSC-TG2_RGB/circle_farmland/1.jpg", "NaSC-TG2/NaSC-TG2/beach/1.tif"),
    "sar_acd": ("images/A320321/001.jpg", "images/ARJ21/001.jpg"),
}


def fake_scenes(root, name):
    for file in SCENES[name]:
        picture(root / file)


FAKES = {**BOXES, **{name: partial(fake_scenes, name=name) for name in SCENES}, "crsvqa": downloads.crsvqa}

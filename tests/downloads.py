"""Downloads for tests that build and check: tiny made-up ones in the true layout, and real files where they are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def real(folder: str) -> Path:
    """A folder of real data set files; skips the test where there are none."""
    beside = Path(__file__).parents[1].parent / "shared" / "data"
    root = Path(os.environ.get("EARTHGPT_REAL_DATA", beside)) / folder
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set EARTHGPT_REAL_DATA")
    return root


def picture(path: Path, seed: int, size=(64, 48)) -> None:
    """An image of soft random shapes: unlike any other seed, alike at another size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)


def rsscn7(root: Path, each=5) -> Path:
    """``each`` images of all seven classes."""
    for i, folder in enumerate(("aGrass", "bField", "cIndustry", "dRiverLake", "eForest", "fResident", "gParking")):
        for number in range(each):
            picture(root / folder / f"{folder[0]}{number + 1:03d}.jpg", 100 * i + number)
    return root


def rsicd(root: Path) -> Path:
    """Three images of training, one of validation, one of tests; the captions repeat each other."""
    files = (("airport_1", "train"), ("beach_2", "train"), ("00003", "train"), ("pond_4", "val"), ("pond_5", "test"))
    images = []
    for i, (name, split) in enumerate(files):
        picture(root / "RSICD_images" / f"{name}.jpg", 1000 + i)
        said = ["a pond .", "a pond .", "some  water .", "a pond .", " a pond . "]
        images.append({"filename": f"{name}.jpg", "split": split, "sentences": [{"raw": text} for text in said]})
    (root / "dataset_rsicd.json").write_text(json.dumps({"images": images, "dataset": "rsicd"}))
    return root


def hit_uav(root: Path, rotated=True) -> Path:
    """Two images of training, one with a car and two people and one with nothing, and one of validation: DontCare."""
    objects = {
        "train": {"0_60_30_0_1.jpg": [(1, 4), (0, 10), (0, 30)], "0_60_30_0_2.jpg": []},
        "val": {"1_60_30_0_3.jpg": [(4, 20)]},
    }
    categories = [{"id": i, "name": name} for i, name in enumerate(("Person", "Car", "Bicycle", "OtherVehicle"))]
    categories.append({"id": 4, "name": "DontCare"})
    for split, images in objects.items():
        for kind, key in (("normal_json", "annotation"), ("rotate_json", "annotations")):
            if kind == "rotate_json" and not rotated:
                continue
            listed, annotations = [], []
            for number, (file, found) in enumerate(images.items()):
                picture(root / kind / split / file, 2000 + number + 10 * (split == "val"))
                listed.append({"id": number, "filename": file, "width": 64, "height": 48})
                for label, left in found:
                    box = [left, 8, 8, 4] if kind == "normal_json" else [left + 4, 10, 8, 4, 0.5]
                    annotations.append({"image_id": number, "category_id": label, "bbox": box})
            path = root / kind / "annotations" / f"{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"images": listed, "categories": categories, key: annotations}))
    return root


def air_sarship2(root: Path, size=(200, 120)) -> Path:
    """One scene with a ship at the left and one at the right edge."""
    picture(root / "AIR-SARShip-2.0-data" / "1.tiff", 3000, size)
    ships = ""
    for left, top in ((4, 10), (180, 60)):
        corners = ((left, top), (left + 10, top), (left + 10, top + 6), (left, top + 6), (left, top))
        points = "".join(f"<point>{x}, {y}</point>" for x, y in corners)
        ships += f"<object><possibleresult><name>ship</name></possibleresult><points>{points}</points></object>"
    path = root / "AIR-SARShip-2.0-xml" / "1.xml"
    path.parent.mkdir(parents=True)
    path.write_text(f"<annotation><source><filename>1.tiff</filename></source><objects>{ships}</objects></annotation>")
    return root


# --- the sets that the paper is evaluated on ---------------------------------------------------------------------


def nwpu_resisc45(root: Path, each=5) -> Path:
    """``each`` images of two classes."""
    for i, label in enumerate(("airplane", "sea_ice")):
        for number in range(each):
            picture(root / label / f"{label}_{number + 1:03d}.jpg", 4000 + 10 * i + number)
    return root


def clrs(root: Path) -> Path:
    """Two images of bare land and one of a port."""
    names = ("bare-land/bare-land_1_Level1_4.51m", "bare-land/bare-land_2_Level3_8m", "port/port_1_Level2_1.0m")
    for i, name in enumerate(names):
        picture(root / f"{name}.tif", 4100 + i)
    return root


def nasc_tg2(root: Path) -> Path:
    """One image of a class that its owners spell in their own way."""
    picture(root / "NaSC-TG2_RGB" / "circle_farmland" / "1.jpg", 4200)
    return root


def nwpu_captions(root: Path) -> Path:
    """Two images of the test and one of training."""
    said = {"raw": "a plane on a runway .", "raw_1": "one plane is parked .", "raw_2": "a plane on a runway ."}
    splits = {"airplane_001.jpg": "test", "airplane_002.jpg": "train", "airplane_003.jpg": "test"}
    for i, name in enumerate(splits):
        picture(root / "NWPU_images" / "airplane" / name, 4300 + i)
    entries = [{"filename": name, "split": split, **said} for name, split in splits.items()]
    (root / "dataset_nwpu.json").write_text(json.dumps({"airplane": entries}))
    return root


def crsvqa(root: Path, count=40) -> Path:
    """``count`` images with two questions each: the theme and how many."""
    (root / "data" / "text").mkdir(parents=True)
    for i in range(count):
        picture(root / "data" / "image" / f"scene_{i}.png", 4400 + i)
        rows = "What is the theme of the picture?\r\nairport\r\nHow many planes are there?\r\n2\r\n"
        (root / "data" / "text" / f"scene_{i}.txt").write_text(rows)
    return root


def rsvqa_hr(root: Path) -> Path:
    """Two images of the second test: two questions of presence, three of comparison, one of counting, one of area."""
    asked = [
        (0, "presence", "Is there a road?", "yes"),
        (0, "presence", "Is there a river?", "no"),
        (0, "count", "How many roads are there?", "2"),
        (1, "comp", "Are there more roads than rivers?", "yes"),
        (1, "comp", "Are there more rivers than roads?", "no"),
        (1, "comp", "Is the number of roads equal to the number of rivers?", "no"),
        (1, "area", "What is the area covered by roads?", "20m2"),
    ]
    questions, answers = [], []
    for i, (image, kind, question, answer) in enumerate(asked):
        row = {"id": i, "img_id": image, "type": kind, "question": question, "answers_ids": [i], "active": True}
        questions.append(row)
        answers.append({"id": i, "question_id": i, "answer": answer, "active": True})
    questions.append({"id": len(asked), "active": False})
    for i in range(2):
        picture(root / "Data" / f"{i}.png", 4500 + i)
    (root / "USGS_split_test_phili_questions.json").write_text(json.dumps({"questions": questions}))
    (root / "USGS_split_test_phili_answers.json").write_text(json.dumps({"answers": answers}))
    return root


def _voc(path: Path, objects: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
    path.write_text(f"<annotation><filename>x.jpg</filename>{size}{objects}</annotation>")


def dior_rsvg(root: Path) -> Path:
    """Two images with three phrases, of which the first and the last are of the test; ``TOTAL`` is to be 3."""
    images = {"00001": [("A dam", (4, 4, 20, 20)), ("A ship", (30, 4, 40, 20))], "00002": [("The dam", (0, 0, 32, 24))]}
    for i, (name, phrases) in enumerate(images.items()):
        picture(root / "JPEGImages" / f"{name}.jpg", 4600 + i)
        objects = ""
        for text, edges in phrases:
            box = "".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True))
            objects += f"<object><name>x</name><bndbox>{box}</bndbox><description>{text}</description></object>"
        _voc(root / "Annotations" / f"{name}.xml", objects)
    (root / "test.txt").write_text("0\n2\n")
    return root


def mar20(root: Path) -> Path:
    """Two images of the test: one with two aircraft of different types, one with one."""
    images = {"9": [("A1", (4, 4, 20, 20)), ("A20", (30, 4, 50, 20))], "10": [("A2", (10, 10, 30, 30))]}
    for i, (name, aircraft) in enumerate(images.items()):
        picture(root / "JPEGImages" / f"{name}.jpg", 4700 + i)
        upright = turned = ""
        for label, (left, top, right, bottom) in aircraft:
            upright += (
                f"<object><name>{label}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
                f"<ymax>{bottom}</ymax></bndbox></object>"
            )
            corners = ((left, top), (right, top), (right, bottom), (left, bottom))
            places = ("left_top", "right_top", "right_bottom", "left_bottom")
            points = "".join(
                f"<x_{place}>{x}</x_{place}><y_{place}>{y}</y_{place}>"
                for place, (x, y) in zip(places, corners, strict=True)
            )
            turned += f"<object><name>{label}</name><robndbox>{points}</robndbox></object>"
        for kind, objects in (("Horizontal", upright), ("Oriented", turned)):
            _voc(root / "Annotations" / f"{kind} Bounding Boxes" / f"{name}.xml", objects)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "test.txt").write_text("9\n10")
    return root


def paper_suite(root: Path) -> Path:
    """All sets that the paper is evaluated on, as tests above make them, by the names of their downloads."""
    nwpu_resisc45(root / "NWPU-RESISC45")
    clrs(root / "CLRS")
    nasc_tg2(root / "NaSC-TG2")
    nwpu_captions(root / "NWPU-Captions")
    crsvqa(root / "MQVQA_dataset")
    rsvqa_hr(root / "RSVQA-HR")
    dior_rsvg(root / "DIOR_RSVG")
    mar20(root / "MAR20")
    return root

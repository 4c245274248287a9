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

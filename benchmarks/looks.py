"""How well ``earthgpt.leaks.appearance`` tells copies from other images.

    python benchmarks/looks.py ../shared/data

The part of the copies of some images, at other sizes and JPEG qualities, that is found again; and how many pairs of
different AID images are taken for copies. Two minutes on two cores.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from earthgpt.leaks import ALIKE, appearance

SETS = {"AID": 300, "RSSCN7": 300, "SAR-ACD": 300, "HIT-UAV": 100, "HRSID": 22, "NWPU VHR-10 dataset": 40}
BICUBIC = Image.Resampling.BICUBIC


def copies(image: Image.Image, folder: Path) -> Iterator[tuple[str, Path]]:
    """Files that hold the image at another size or quality, by what was done."""
    width, height = image.size
    half, large = (image.resize((round(width * part), round(height * part)), BICUBIC) for part in (0.5, 1.7))
    square = image.resize((224, 224), Image.Resampling.BILINEAR)
    for name, copy in (("half", half), ("1.7 times", large), ("224 pixels", square)):
        copy.save(folder / "a.png")
        yield name, folder / "a.png"
    for quality in (30, 50, 75, 90):
        for name, copy in ((f"quality {quality}", image), (f"half, quality {quality}", half)):
            copy.save(folder / "a.jpg", quality=quality)
            yield name, folder / "a.jpg"


def recall(files: list[Path], folder: Path) -> dict[str, float]:
    """The part of the copies of each kind that are found."""
    found: dict[str, list[bool]] = {}
    for file in files:
        original = appearance(file)
        with Image.open(file) as image:
            for name, path in copies(image.convert("RGB"), folder):
                found.setdefault(name, []).append((original ^ appearance(path)).bit_count() <= ALIKE)
    return {name: float(np.mean(hits)) for name, hits in found.items()}


def distances(looks: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many pairs differ in how many bits, [129], of one class and of different ones; looks are [N, 128] of ±1."""
    same, other = np.zeros(129, int), np.zeros(129, int)
    for i in range(len(looks) - 1):
        bits = ((128 - looks[i + 1 :] @ looks[i]) / 2).astype(int)
        alike = classes[i + 1 :] == classes[i]
        same += np.bincount(bits[alike], minlength=129)
        other += np.bincount(bits[~alike], minlength=129)
    return same, other


if __name__ == "__main__":
    data = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        for name, number in SETS.items():
            files = sorted((data / name).rglob("*.jpg"))
            chosen = random.Random(0).sample(files, min(number, len(files)))
            print(name, {kind: round(part, 3) for kind, part in recall(chosen, Path(scratch)).items()}, flush=True)
    files = sorted((data / "AID").rglob("*.jpg"))
    looks = np.array([[int(bit) for bit in f"{appearance(file):0128b}"] for file in files], np.float32) * 2 - 1
    same, other = distances(looks, np.array([file.parent.name for file in files]))
    for kind, pairs in (("one class", same), ("different classes", other)):
        nearest = int(np.flatnonzero(pairs)[0])
        print(
            f"AID, {kind}: {pairs[: ALIKE + 1].sum():,} of {pairs.sum():,} pairs alike; the nearest at {nearest} bits"
        )

"""Images that are used twice: by the name that sets share, by the bytes of the file, and by how they look."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from earthgpt.datasets.ucmerced import LABELS as UCM_FOLDERS
from earthgpt.types import Sample

# Sets whose images are those of another, under the same file names.
FAMILIES = {
    **dict.fromkeys(("aid", "rsicd"), "aid"),
    **dict.fromkeys(("nwpu_resisc45", "nwpu_captions"), "nwpu_resisc45"),
    **dict.fromkeys(("ucmerced", "ucm_captions"), "ucmerced"),
    **dict.fromkeys(("dior", "dior_r", "dior_rsvg"), "dior"),
    **dict.fromkeys(("dota_v1", "dota_v15", "dota_v2"), "dota"),
    **dict.fromkeys(("ssdd", "ssdd_oriented"), "ssdd"),
    **dict.fromkeys(("hit_uav", "hit_uav_oriented"), "hit_uav"),
    **dict.fromkeys(("mar20", "mar20_oriented", "mar20_types"), "mar20"),
    **dict.fromkeys(("hrrsd", "sydney_captions"), ""),
}
RSIVQA = {"AID": "aid", "DOTA": "dota", "HRRSD": "hrrsd", "Sydney": "sydney_captions", "UCM": "ucmerced"}
BANDS, BITS = 8, 128  # two hashes that differ in fewer bits than there are bands agree in one band at least
ALIKE = BANDS - 1
FLAT = 2.0  # levels of 255; below this, noise decides how an even surface looks


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells an image: ``name`` across sets, ``content`` of the file and ``look``; None where not taken."""

    name: str
    content: str | None = None
    look: int | None = None


@dataclass(frozen=True, slots=True)
class Leak:
    """An image that is also another: which one, of which set, and how that is known ("name", "bytes" or "looks")."""

    name: str
    origin: str
    other: str
    how: str


def family(dataset: str) -> str:
    """The set that an image of ``dataset`` comes from first."""
    return FAMILIES.get(dataset) or dataset


def identity(dataset: str, name: str) -> str:
    """The name of an image that is the same in all sets that hold it under their names."""
    path = PurePosixPath(name)
    if dataset == "rsivqa" and path.parts[0] in RSIVQA:
        return f"{RSIVQA[path.parts[0]]}/{path.stem.lower()}"
    if dataset not in FAMILIES:
        return f"{dataset}/{path.with_suffix('')}".lower()
    stem = path.stem.lower()
    if dataset == "ucmerced" and path.parent.name in UCM_FOLDERS:
        # The caption set numbers the images from 1, a hundred for each class in the order of its names.
        stem = str(100 * sorted(UCM_FOLDERS).index(path.parent.name) + int(stem[-2:]) + 1)
    return f"{family(dataset)}/{stem}"


def fingerprint(dataset: str, sample: Sample, compare: str) -> Fingerprint:
    """Of a sample; ``compare`` is "names", "bytes" or "looks", each with what stands before it.

    Raises OSError, SyntaxError or ValueError for a file that is no image.
    """
    name = identity(dataset, sample.name)
    if compare == "names" or callable(sample.image) or not sample.image.is_file():
        return Fingerprint(name)
    content = hashlib.blake2b(sample.image.read_bytes(), digest_size=16).hexdigest()
    return Fingerprint(name, content, look(sample.image) if compare == "looks" else None)


def look(path: Path) -> int | None:
    """128 bits that stay nearly the same when an image is scaled or compressed: on a grid of 9 x 9 grey values, whether
    each is brighter than its right neighbour, and than the one below (dHash, Krawetz 2013). None for an even surface.

    Images of 16 bits and floats are scaled by their range first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            image.draft("L", (72, 72))  # a JPEG decodes to a small picture many times faster
            if image.mode.startswith(("I", "F")):
                values = np.nan_to_num(np.asarray(image, dtype=np.float32))
                low, high = values.min(), values.max()
                image = Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
            grey = np.asarray(image.convert("L").resize((9, 9), Image.Resampling.BOX), dtype=np.int16)  # [9, 9]
    if grey.std() < FLAT:
        return None
    bits = np.concatenate([(grey[:8, :8] > grey[:8, 1:]).ravel(), (grey[:8, :8] > grey[1:, :8]).ravel()])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@dataclass
class Index:
    """Fingerprints of images that must not be trained on, to be asked one image at a time."""

    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    contents: dict[str, tuple[str, str]] = field(default_factory=dict)
    looks: list[tuple[int, str, str]] = field(default_factory=list)
    bands: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def add(self, origin: str, prints: Iterable[Fingerprint]) -> None:
        """``origin`` says where the images are from: "rsicd test"."""
        for one in prints:
            self.names.setdefault(one.name, (origin, one.name))
            if one.content:
                self.contents.setdefault(one.content, (origin, one.name))
            if one.look is not None:
                for band in _bands(one.look):
                    self.bands.setdefault(band, []).append(len(self.looks))
                self.looks.append((one.look, origin, one.name))

    def find(self, one: Fingerprint) -> Leak | None:
        """The image of the index that this one is, or looks like in all but ``ALIKE`` of 128 bits; the surest first."""
        if one.name in self.names:
            return Leak(one.name, *self.names[one.name], "name")
        if one.content in self.contents:
            return Leak(one.name, *self.contents[one.content], "bytes")
        if one.look is not None:
            near = {i for band in _bands(one.look) for i in self.bands.get(band, ())}
            distances = sorted(((self.looks[i][0] ^ one.look).bit_count(), i) for i in near)
            if distances and distances[0][0] <= ALIKE:
                return Leak(one.name, *self.looks[distances[0][1]][1:], "looks")
        return None


def _bands(value: int) -> list[tuple[int, int]]:
    width = BITS // BANDS
    return [(i, value >> (i * width) & ((1 << width) - 1)) for i in range(BANDS)]

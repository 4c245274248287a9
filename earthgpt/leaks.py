"""Images that are used twice: by the name that sets share, by the bytes of the file, and by how they look."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from earthgpt import lookup
from earthgpt.geo.raster import open_within_limit
from earthgpt.geo.tiles import parse_fragment
from earthgpt.types import Sample

# Bits of 128 in which copies may differ, from benchmarks/looks.py: of 300 images each of AID and RSSCN7, 100 of HIT-UAV
# and 40 of NWPU VHR-10 at least 99 % are found again at half and 1.7 times their size, at 224 pixels, and at JPEG
# qualities from 30 to 90; of 300 of SAR-ACD all at other sizes, 99 % at quality 75 and 93 % at 50. The 38.9 million
# pairs of AID images of different classes all differ in 18 bits or more; of the 1.4 million pairs of one class 58 pass,
# nearly all of them straight beaches.
ALIKE = 12
SMALL = 288  # pixels of a side that are enough to see how an image looks
WORDS, WIDTH = 8, 16  # an appearance as words of 16 bits
# Appearances that differ in fewer than 2 * WORDS bits have a word that differs in one bit at most (Norouzi et al., Fast
# Exact Search in Hamming Space with Multi-Index Hashing, 2014).
NEAR = (0, *(1 << bit for bit in range(WIDTH)))
# Neighbours in an image are alike, and a word that is the same in many images costs time: the bits of one are of places
# far apart. Of 100,000 appearances a query meets 290 in this order and 1,500 in that of the rows.
_STEP, _ROW, _COLUMN = np.indices((2, 8, 8))
ORDER = np.argsort(((4 * _STEP + _ROW + 2 * _COLUMN) % WORDS).ravel(), kind="stable")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells an image: ``name`` across sets, ``content`` of the file and ``appearance``; None where not taken."""

    name: str
    content: str | None = None
    appearance: int | None = None


@dataclass(frozen=True, slots=True)
class Leak:
    """An image that is also another: which one, of which set, and how that is known ("name", "bytes" or "looks")."""

    name: str
    origin: str
    other: str
    how: str


def identity(dataset: str, name: str) -> str:
    """The name of a sample's image that is the same in all sets that hold it (``Dataset.identity``).

    A tile has the identity of the image that it is cut from.
    """
    path = str(PurePosixPath(parse_fragment(name)[0]))
    shared = lookup.find("datasets", dataset).identity
    return (shared and shared(path)) or f"{dataset}/{path}"


def fingerprint(dataset: str, sample: Sample, compare: Literal["names", "bytes", "looks"]) -> Fingerprint:
    """Of a sample: its name; for "bytes" its content too; for "looks" all three. A missing image has its name only.

    Raises OSError, SyntaxError or ValueError for a file that is no image.
    """
    name = identity(dataset, sample.name)
    if compare == "names" or callable(sample.image) or not sample.image.is_file():
        return Fingerprint(name)
    with sample.image.open("rb") as file:
        content = hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()
    return Fingerprint(name, content, appearance(sample.image) if compare == "looks" else None)


def appearance(path: Path) -> int | None:
    """128 bits that stay nearly the same when an image is scaled or compressed: on a grid of 9 x 9 grey values, whether
    each is brighter than its right neighbour, and than the one below (dHash, Krawetz 2013). None where half of the
    neighbours are equal, as in an image without data: all such images look alike.
    """
    with open_within_limit(path) as image:
        image.draft("L", (SMALL, SMALL))  # a JPEG decodes to a small picture many times faster
        if image.mode.startswith(("I", "F")):
            image = Image.fromarray(np.nan_to_num(np.asarray(image, dtype=np.float32)))
        else:
            image = image.convert("L")
    small = image.resize((min(SMALL, image.width), min(SMALL, image.height)), Image.Resampling.BILINEAR).convert("F")
    # Grey values with decimals: rounded ones lose the shades of open sea.
    grey = np.asarray(small.resize((9, 9), Image.Resampling.BILINEAR))  # [9, 9]
    steps = np.stack([grey[:8, :8] - grey[:8, 1:], grey[:8, :8] - grey[1:, :8]])  # [2, 8, 8]
    if np.count_nonzero(steps) <= steps.size // 2:
        return None
    return int.from_bytes(np.packbits(steps.ravel()[ORDER] > 0).tobytes(), "big")


@dataclass
class Index:
    """Fingerprints of images that must not be trained on, to be asked one image at a time."""

    names: dict[str, str] = field(default_factory=dict)
    contents: dict[str, tuple[str, str]] = field(default_factory=dict)
    appearances: list[tuple[int, str, str]] = field(default_factory=list)
    words: dict[int, list[int]] = field(default_factory=dict)

    def add(self, origin: str, prints: Iterable[Fingerprint]) -> None:
        """``origin`` says where the images are from: "rsicd test"."""
        for one in prints:
            self.names.setdefault(one.name, origin)
            if one.content:
                self.contents.setdefault(one.content, (origin, one.name))
            if one.appearance is not None:
                for word in _words(one.appearance):
                    self.words.setdefault(word, []).append(len(self.appearances))
                self.appearances.append((one.appearance, origin, one.name))

    def find(self, one: Fingerprint, own: str = "") -> Leak | None:
        """The image of the index that this one is, by name or else bytes; or else the one it looks like most, where at
        most ``ALIKE`` of 128 bits differ. One of the set ``own`` only where it looks like none of another: neighbours
        within a set look alike.
        """
        if one.name in self.names:
            return Leak(one.name, self.names[one.name], one.name, "name")
        if one.content in self.contents:
            return Leak(one.name, *self.contents[one.content], "bytes")
        if one.appearance is not None:
            near = {i for word in _words(one.appearance) for flip in NEAR for i in self.words.get(word ^ flip, ())}
            bits = [((self.appearances[i][0] ^ one.appearance).bit_count(), i) for i in near]
            alike = [(self.appearances[i][1].split()[0] == own, count, i) for count, i in bits if count <= ALIKE]
            if alike:
                return Leak(one.name, *self.appearances[min(alike)[2]][1:], "looks")
        return None


def _words(bits: int) -> list[int]:
    """The words of an appearance, each with its place above its bits."""
    return [i << WIDTH | bits >> (i * WIDTH) & ((1 << WIDTH) - 1) for i in range(WORDS)]

"""Images with captions in WebDataset shards, read in place: what img2dataset makes of LAION-400M and COCO Caption.

A shard is a tar file of samples, each of ``000000000.jpg``, ``000000000.txt`` (its caption) and ``000000000.json``;
beside ``00000.tar`` stands ``00000_stats.json``, whose ``successes`` says how many samples there are
(rom1504/img2dataset, ``writer.py`` and ``logger.py``). Nothing is unpacked, and no name in a tar is used as a path.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from earthgpt.files import whole_file
from earthgpt.order import key_of, shuffled
from earthgpt.types import EarthGPTError

IMAGES = ("jpg", "jpeg", "png", "webp")  # what img2dataset can be told to write, and what others write


class Captioned(NamedTuple):
    """A sample: its key within the shard, the bytes of the image file, and the caption, which may be empty."""

    key: str
    image: bytes
    caption: str


class Shards(Sequence[Captioned]):
    """The samples of many shards by index, read from disk one at a time: shard after shard, as they lie in the tars.

    ``where`` is a folder, a pattern (``laion/*.tar`` or ``laion/{00000..41407}.tar``), or a list of tar files.
    A few bytes for each shard are kept, and the places in the last few tars; a tar is gone through once and its places
    are written beside it (``00000.tar.index``, where the folder can be written). Pickles, forks and threads are safe.

    ``defects`` counts what was left out or mended in the tars that this process has read.
    Raises EarthGPTError for shards that are missing; when it is first read, for a tar that is damaged, cut short or
    compressed, or that holds another number of samples than its ``_stats.json`` says.
    """

    def __init__(self, where: str | Path | Iterable[str | Path]) -> None:
        self.paths = _paths(where)
        self.defects: Counter[str] = Counter()
        self._seen: set[int] = set()
        self.counts = [_stated(path) for path in self.paths]
        for shard, count in enumerate(self.counts):
            if count is None:
                self._table(shard)
        self._starts = [0, *accumulate(self.counts)]  # of each shard, and the end

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Captioned:
        index = range(len(self))[index]
        shard = bisect_right(self._starts, index) - 1
        path, table = self.paths[shard], self._table(shard)
        row = index - self._starts[shard]
        image_start, image_size, text_start, text_size = table.places[row].tolist()
        with path.open("rb", buffering=0) as file:
            image = os.pread(file.fileno(), image_size, image_start)
            text = os.pread(file.fileno(), text_size, text_start)
        try:
            caption = text.decode()
        except UnicodeDecodeError:
            self.defects["captions that are not UTF-8, read with replacements"] += 1
            caption = text.decode(errors="replace")
        return Captioned(table.keys[row], image, caption)

    def order(self, seed: int, epoch: int) -> ShardOrder:
        """The indices of all samples in the order of an epoch, for reading that stays in few tars at a time."""
        return ShardOrder(self.counts, seed, epoch)

    def _table(self, shard: int) -> Table:
        path = self.paths[shard]
        about = path.stat()
        table = _table(path, about.st_size, about.st_mtime_ns)
        count = len(table.keys)
        if self.counts[shard] is None:
            self.counts[shard] = count
        if self.counts[shard] != count:
            notes = "".join(f"; {kind}: {number:,}" for kind, number in sorted(table.defects.items()))
            raise EarthGPTError(
                f"{path} holds {count:,} samples with image and caption{notes}. {_stats(path).name} promises "
                f"{self.counts[shard]:,}: get the shard again, or delete that file to take what is there."
            )
        if shard not in self._seen:
            self._seen.add(shard)
            self.defects += table.defects
        return table


class ShardOrder(Sequence[int]):
    """The indices of all samples of shards, each once: the shards shuffled, then the samples within each.

    A function of seed, epoch and position alone: to go on in the middle, go on at that position.
    """

    def __init__(self, counts: Sequence[int], seed: int, epoch: int) -> None:
        self._seed, self._epoch, self._counts = seed, epoch, counts
        key = key_of(seed, epoch, "shards")
        self._shards = [shuffled(visit, len(counts), key) for visit in range(len(counts))]
        self._begins = [0, *accumulate(counts[shard] for shard in self._shards)]  # positions, of each visit
        self._starts = [0, *accumulate(counts)]  # indices, of each shard

    def __len__(self) -> int:
        return self._begins[-1]

    def __getitem__(self, position: int) -> int:
        position = range(len(self))[position]
        visit = bisect_right(self._begins, position) - 1
        shard = self._shards[visit]
        key = key_of(self._seed, self._epoch, shard)
        return self._starts[shard] + shuffled(position - self._begins[visit], self._counts[shard], key)


# --- which shards ------------------------------------------------------------------------------------------------


def _paths(where: str | Path | Iterable[str | Path]) -> list[Path]:
    if isinstance(where, str | Path):
        where = Path(where)
        paths = sorted(where.glob("*.tar")) if where.is_dir() else list(_matches(where))
    else:
        paths = [Path(path) for path in where]
    if not paths:
        raise EarthGPTError(f"There are no shards (.tar) in {where}.")
    for path in paths:
        if path.suffix != ".tar":
            raise EarthGPTError(f"{path} is no .tar file; compressed shards have to be unpacked to .tar first.")
        if not path.is_file():
            raise EarthGPTError(f"There is no shard {path}.")
    return paths


def _matches(pattern: Path) -> Iterator[Path]:
    """The files of a pattern with ``*``, or with WebDataset's ``{00000..41407}`` in the name."""
    numbers = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", pattern.name)
    if numbers:
        before, first, last, after = numbers.groups()
        for number in range(int(first), int(last) + 1):
            yield pattern.with_name(f"{before}{number:0{len(first)}d}{after}")
    else:
        yield from sorted(pattern.parent.glob(pattern.name))


def _stats(path: Path) -> Path:
    return path.with_name(f"{path.stem}_stats.json")


def _stated(path: Path) -> int | None:
    """The number of samples that img2dataset says it wrote; None where it does not say."""
    stats = _stats(path)
    if not stats.is_file():
        return None
    try:
        count = json.loads(stats.read_bytes())["successes"]
    except (ValueError, LookupError, TypeError) as error:
        raise EarthGPTError(f"{stats} does not state the successes; delete it to count the tar itself.") from error
    if type(count) is not int or count < 0:
        raise EarthGPTError(f"{stats} states {count!r} successes; delete it to count the tar itself.")
    return count


# --- what is in a shard ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """The samples of a tar, n of them.

    ``places``, int64 [n, 4], are start and size of the image, start and size of the caption, in bytes of the tar.
    ``defects`` counts the members and samples that are left out.
    """

    keys: list[str]
    places: np.ndarray
    defects: Counter[str]


@lru_cache(maxsize=8)  # of 10,000 samples each, a megabyte
def _table(path: Path, size: int, changed: int) -> Table:
    """The table of a tar of this size and time of change (ns), from the index beside it or from the tar itself."""
    index = path.with_name(f"{path.name}.index")
    table = _load(index, size, changed)
    if table is None:
        table = _scan(path, size)
        with suppress(OSError):  # a folder that cannot be written: the tar is gone through again next time
            _save(index, table, size, changed)
    return table


def _load(index: Path, size: int, changed: int) -> Table | None:
    """A table that was saved; None when there is none for this very tar."""
    try:
        saved = json.loads(index.read_bytes())
        if [saved["size"], saved["changed"]] != [size, changed]:
            return None
        places = np.array(saved["places"], np.int64).reshape(len(saved["keys"]), 4)
        return Table(saved["keys"], places, Counter(saved["defects"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _save(index: Path, table: Table, size: int, changed: int) -> None:
    content = {"size": size, "changed": changed, "defects": table.defects, "keys": table.keys}
    with whole_file(index, several=True) as fresh:
        fresh.write_text(json.dumps({**content, "places": table.places.tolist()}))


def _scan(path: Path, size: int) -> Table:
    """Goes through the headers of a tar. Raises EarthGPTError for one that is damaged, cut short or compressed."""
    images: dict[str, tuple[int, int]] = {}
    captions: dict[str, tuple[int, int]] = {}
    defects: Counter[str] = Counter()
    for member in _members(path, size):
        # As in WebDataset, the key is all before the first dot of the file's name, with the folder.
        folder, slash, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        key, extension = folder + slash + stem, extension.lower()
        kind = images if extension in IMAGES else captions if extension == "txt" else None
        if member.isdir() or extension == "json":
            continue
        if not member.isreg() or member.issparse():
            defects["members that are no plain files"] += 1
        elif kind is None:
            defects["members that are neither image nor caption"] += 1
        elif key in kind:
            defects["members with a key that was there before"] += 1
        else:
            kind[key] = member.offset_data, member.size
    keys = [key for key in images if key in captions]
    defects["images without a caption"] = len(images) - len(keys)
    defects["captions without an image"] = len(captions) - len(keys)
    places = np.array([images[key] + captions[key] for key in keys], np.int64).reshape(-1, 4)
    return Table(keys, places, +defects)


def _members(path: Path, size: int) -> Iterator[tarfile.TarInfo]:
    """The headers of a tar in order, each of a member that lies whole in the file."""
    damaged = f"{path} is damaged or cut short"
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            raise EarthGPTError(f"{path} is compressed with gzip; unpack it to a plain tar first.")
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:", errors="replace") as tar:
                begin = 0
                while (member := tar.next()) is not None:
                    tar.members = []  # or it keeps them all
                    # A negative size would make tarfile go round in circles (CVE-2025-8194).
                    if member.size < 0 or tar.offset <= begin or member.offset_data + member.size > size:
                        raise EarthGPTError(f"{damaged} at byte {begin:,}; get it again.")
                    yield member
                    begin = tar.offset
        # RecursionError: a header that says another one follows, a thousand times over.
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise EarthGPTError(f"{damaged}: {error}; get it again.") from error
        # tarfile takes a header that it cannot read for the end; the true end is a block of zeros (POSIX pax, ustar).
        file.seek(begin)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EarthGPTError(f"{damaged} at byte {begin:,}; get it again.")

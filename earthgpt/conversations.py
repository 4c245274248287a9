"""The record of MMRS-1M on disk: conversations about images, as a JSON array or as JSON lines.

A record is ``{"image": "data/...", "conversations": [{"from": "human" | "gpt", "value": ...}, ...]}`` with exactly
these keys. ``image`` is a path, a list of paths, or absent; the parties alternate, and the last word is an answer.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import struct
import weakref
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, pairwise
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, Literal, overload

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from earthgpt.files import whole_file
from earthgpt.types import Conversation, EarthGPTError, Message

ROLES = {"human": "user", "gpt": "assistant"}
PARTIES = {role: party for party, role in ROLES.items()}
# LLaVA and its descendants say in the first question where the image stands; here it always comes first.
_IMAGE_MARKS = re.compile(r"\A(?:<image>\s*)+")


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    party: Literal["human", "gpt"] = Field(alias="from")
    value: str


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str | int | None = None  # LLaVA's records have one; nothing is made of it
    image: str | list[str] = []
    conversations: list[_Turn] = Field(min_length=1)

    @property
    def images(self) -> list[str]:
        return [self.image] if isinstance(self.image, str) else self.image


def read(path: str | Path) -> Iterator[Conversation]:
    """The conversations of a ``.json`` or ``.jsonl`` file, in order; image paths stay as they are in the file.

    One record at a time is in memory. Raises EarthGPTError for a missing file, one that is no list, and for a broken
    record with its number, counted from 1.
    """
    path = Path(path)
    with _opened(path) as file:
        for number, (start, after) in enumerate(_spans(file, path), 1):
            yield _conversation(_bytes(file, start, after), path, number)


def write(path: str | Path, conversations: Iterable[Conversation]) -> int:
    """Writes conversations to a ``.json`` or ``.jsonl`` file, one record a line; returns how many there were.

    The file is there whole or not at all: it is written beside its place and then moved. Raises TypeError for an image
    that is no path, ValueError for a conversation whose last question has no answer.
    """
    path = Path(path)
    start, between, end = ("", "\n", "\n") if _is_lines(path) else ("[\n", ",\n", "\n]\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with whole_file(path, several=True) as fresh, fresh.open("w", encoding="utf-8", newline="\n") as file:
        for conversation in conversations:
            file.write((between if count else start) + json.dumps(_record(conversation), ensure_ascii=False))
            count += 1
        file.write(end if count else start + end.lstrip("\n"))
    return count


class Records(Sequence[Conversation]):
    """The conversations of a ``.json`` or ``.jsonl`` file by index, read from disk one at a time.

    Memory does not grow with the file: the places of its records are in ``<file>.index`` beside it, written when it
    is first opened and again when the file has changed; where the folder cannot be written, they are kept in memory
    (8 bytes a record). Pickles, forks and threads are safe. Blank lines of JSON lines do not count.
    Raises EarthGPTError when opened for a missing file and for an array that is cut short, with the number of the
    record where it ends; and when a broken record is read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = _opened(self.path)
        weakref.finalize(self, self._file.close)
        self._starts = _index(self._file, self.path)

    def __reduce__(self):
        return Records, (self.path,)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start, after = self._starts[index : index + 2].tolist()
        return _conversation(_bytes(self._file, start, after), self.path, index + 1)

    def content(self, index: int) -> bytes:
        """A record as it stands in the file."""
        start, after = self._starts[index : index + 2].tolist()
        return _bytes(self._file, start, after)


@dataclass(frozen=True, slots=True)
class Validation:
    """What ``validate`` found in a file.

    ``turns`` are questions with their answers and ``images`` the paths in all records that could be read.
    ``defects`` says how many records have a defect of each kind, ``first`` the numbers of up to five, from 1.
    """

    records: int
    turns: int
    images: int
    defects: dict[str, int]
    first: dict[str, tuple[int, ...]]


def validate(
    path: str | Path,
    images: str | Path | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Validation:
    """Goes through a whole file and reports every defect of its records, in constant memory but for 8 bytes a record.

    ``images`` is the folder that the paths are relative to, the one that holds ``data/``; without it nobody looks
    whether the images are there. ``progress`` is told how many of how many bytes were read.
    A record that is broken or cut short is reported, not raised; raises EarthGPTError for a file that is missing or
    no list at all.
    """
    path, root = Path(path), None if images is None else Path(images)
    turns = mentions = number = 0
    hashes = array("Q")
    defects, first = Counter(), defaultdict(list)

    def found(kind: str, number: int) -> None:
        defects[kind] += 1
        if defects[kind] <= 5:
            first[kind].append(number)

    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        spans = _spans(file, path)
        try:
            for number, (start, after) in enumerate(spans, 1):
                content = _bytes(file, start, after).strip()
                hashes.append(int.from_bytes(blake2b(content, digest_size=8).digest(), "little"))
                try:
                    record = _Record.model_validate_json(content)
                except ValidationError as error:
                    kinds = {_KINDS.get(flaw["type"], "wrong values") for flaw in error.errors()}
                else:
                    turns += len(record.conversations) // 2
                    mentions += len(record.images)
                    kinds = set(chain(_turn_flaws(record), *(_path_flaws(image, root) for image in record.images)))
                for kind in kinds:
                    found(kind, number)
                if number % 1000 == 0:
                    progress(after, size)
        except EarthGPTError:  # from the scanner; what comes after this place is in no known record
            found("list without a proper end", number + 1)
    for repeated in _repeated(hashes):
        found("the same as a record before", repeated + 1)
    progress(size, size)
    return Validation(
        len(hashes), turns, mentions, dict(defects), {kind: tuple(numbers) for kind, numbers in first.items()}
    )


# What pydantic calls a flaw, and what we do; the rest are wrong values.
_KINDS = {
    "json_invalid": "broken JSON",
    "extra_forbidden": "wrong keys",
    "missing": "wrong keys",
    "model_type": "wrong keys",
    "too_short": "no turns",
}
_ADDRESS = re.compile(r"https?://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")  # C:/ too


def _turn_flaws(record: _Record) -> Iterator[str]:
    if len(record.conversations) % 2:
        yield "odd number of turns"
    if any(turn.party != ("human", "gpt")[i % 2] for i, turn in enumerate(record.conversations)):
        yield "roles that do not alternate"
    if any(turn.party == "gpt" and not turn.value.strip() for turn in record.conversations):
        yield "empty answer"


def _path_flaws(image: str, root: Path | None) -> Iterator[str]:
    if _ADDRESS.match(image):
        return
    if "\\" in image:
        yield "backslash in a path"
    path = PurePosixPath(image.partition("#xywh=")[0].replace("\\", "/"))  # a window into a large image
    if path.is_absolute() or ".." in path.parts or _SCHEME.match(image):
        yield "path out of the folder"
    elif root is not None and not _is_file(root / path):
        yield "missing image"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system, or a folder that may not be read
        return False


def _repeated(hashes: array) -> list[int]:
    """Positions of the values that stood before, in order."""
    hashes = np.frombuffer(hashes, np.uint64)
    order = np.argsort(hashes, kind="stable")
    again = hashes[order[1:]] == hashes[order[:-1]]
    return np.sort(order[1:][again]).tolist()


# --- where the records are ---------------------------------------------------------------------------------------

# Record i lies at [starts[i], starts[i + 1] - 1): one byte, the separator, stands between a record and the next start.
# White space around a record belongs to it. A file of n records has n + 1 starts.

_CHUNK = 1 << 18  # bytes; the arrays for one chunk fit the cache
_QUOTE, _COMMA, _END = b'",]'
_IS_MARK = np.zeros(256, bool)
_IS_MARK[list(b'"[]{},')] = True
_STEP = np.zeros(256, np.int64)  # how a byte changes the depth
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1
# The index file: magic and version, size and time of change (ns) of the file it belongs to, how many starts follow.
_HEADER = struct.Struct("<8sQqQ")
_MAGIC = b"EGPTidx1"


def _starts(file: BinaryIO, path: Path) -> Iterator[np.ndarray]:
    """The starts of all records in order, some at a time: uint64 [k].

    Raises EarthGPTError for an array that is none, at once, and for one that does not end, when that is found.
    """
    file.seek(0)
    file.seek(len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0)
    if _is_lines(path):
        return _line_starts(file)
    while (first := file.read(1)).isspace():
        pass
    if first != b"[":
        lines = "; JSON lines are in files that end in .jsonl" if first == b"{" else ""
        raise EarthGPTError(f"{path} is not a JSON list of records: it starts with {first.decode('latin-1')!r}{lines}.")
    return _array_starts(file, path)


def _line_starts(file: BinaryIO) -> Iterator[np.ndarray]:
    starts, place, line = array("Q"), file.tell(), b"\n"
    for line in file:
        if not line.isspace():
            starts.append(place)
        place += len(line)
        if len(starts) == _CHUNK:
            yield np.array(starts, "<u8")
            starts = array("Q")
    starts.append(place + (not line.endswith(b"\n")))
    yield np.array(starts, "<u8")


def _array_starts(file: BinaryIO, path: Path) -> Iterator[np.ndarray]:
    """Goes on after the opening bracket, and finds the commas between records.

    They are where the depth of brackets outside strings is one; simdjson does the same with bit masks (Langdale and
    Lemire 2019, "Parsing Gigabytes of JSON per Second").
    """
    opening = place = file.tell()  # place: of the first byte of the chunk
    depth, in_string, held, number = 1, 0, b"", 1
    yield np.array([opening], "<u8")
    while chunk := file.read(_CHUNK):
        # Without its escapes, every quote is the end of a string. An escape that is cut waits for the next chunk.
        text = (held + chunk).replace(b"\\\\", b"__").replace(b'\\"', b"__")
        held = b"\\" if text.endswith(b"\\") else b""
        text = text.removesuffix(held)
        values = np.frombuffer(text, np.uint8)
        marks = np.flatnonzero(_IS_MARK[values])  # [m] quotes, brackets and commas
        kinds = values[marks]
        quotes = kinds == _QUOTE
        inside = np.cumsum(quotes) + in_string & 1
        outside = (inside == 0) & ~quotes
        in_string = int(inside[-1]) if len(inside) else in_string
        marks, kinds = marks[outside], kinds[outside]
        depths = np.cumsum(_STEP[kinds]) + depth
        ends = np.flatnonzero(depths == 0)
        stop = int(ends[0]) if len(ends) else len(marks)
        starts = marks[:stop][(kinds[:stop] == _COMMA) & (depths[:stop] == 1)] + (place + 1)
        number += len(starts)
        yield starts.astype("<u8")
        if len(ends):
            if kinds[stop] != _END:
                raise EarthGPTError(f"{path}, record {number}: not JSON: the brackets do not match.")
            after, rest = place + int(marks[stop]) + 1, text[marks[stop] + 1 :] + held
            while rest:
                if rest.strip():
                    raise EarthGPTError(f"{path} goes on after the end of its list, after record {number}.")
                rest = file.read(_CHUNK)
            # An empty array has no record, though it has room for one.
            if number > 1 or _bytes(file, opening, after).strip():
                yield np.array([after], "<u8")
            return
        depth = int(depths[-1]) if len(depths) else depth
        place += len(text)
    raise EarthGPTError(f"{path} is not JSON: it is cut short in record {number}.")


def _spans(file: BinaryIO, path: Path) -> Iterator[tuple[int, int]]:
    """(start, start of the next) of each record."""
    return pairwise(chain.from_iterable(starts.tolist() for starts in _starts(file, path)))


def _bytes(file: BinaryIO, start: int, after: int) -> bytes:
    """A record; the position of the file, which forks and threads share, is neither used nor moved."""
    return os.pread(file.fileno(), after - start - 1, start)


def _index(file: BinaryIO, path: Path) -> np.ndarray:
    """The starts of all records, from the index beside the file, which is made where there is none that fits."""
    about, beside = os.fstat(file.fileno()), path.with_name(f"{path.name}.index")
    starts = _mapped(beside, about)
    if starts is None:
        with suppress(OSError), whole_file(beside, several=True) as fresh, fresh.open("wb") as index:
            index.write(bytes(_HEADER.size))
            count = sum(index.write(starts.tobytes()) // 8 for starts in _starts(file, path))
            index.seek(0)
            index.write(_HEADER.pack(_MAGIC, about.st_size, about.st_mtime_ns, count))
        starts = _mapped(beside, about)
    if starts is None:  # the folder cannot be written
        starts = np.concatenate(list(_starts(file, path)))
    return starts


def _mapped(index: Path, about: os.stat_result) -> np.ndarray | None:
    """The starts in an index file, uint64 [n + 1], mapped; None when there are none for this very file."""
    try:
        with index.open("rb") as file:
            magic, size, changed, count = _HEADER.unpack(file.read(_HEADER.size))
            whole = os.fstat(file.fileno()).st_size == _HEADER.size + 8 * count
            if not whole or (magic, size, changed) != (_MAGIC, about.st_size, about.st_mtime_ns):
                return None
            return np.memmap(file, "<u8", "r", _HEADER.size).view(np.ndarray)
    except (OSError, struct.error):
        return None


# --- files and records -------------------------------------------------------------------------------------------


def _is_lines(path: Path) -> bool:
    if path.suffix not in (".json", ".jsonl"):
        there = "is a folder" if path.is_dir() else "is not" if path.exists() else "is not there"
        raise EarthGPTError(f"Conversations are in .json or .jsonl files, and {path} {there}.")
    return path.suffix == ".jsonl"


def _opened(path: Path) -> BinaryIO:
    _is_lines(path)
    if not path.is_file():
        raise EarthGPTError(f"There is no file {path}.")
    return path.open("rb")


def _conversation(content: bytes, path: Path, number: int) -> Conversation:
    where = f"{path}, record {number}"
    try:
        record = _Record.model_validate_json(content)
        messages = [Message(ROLES[turn.party], turn.value) for turn in record.conversations]
        messages[0] = Message(messages[0].role, _IMAGE_MARKS.sub("", messages[0].text))
        return _answered(Conversation(tuple(record.images), tuple(messages)))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise EarthGPTError(f"{where}: not JSON: {first['ctx']['error']}.") from error
        place = ".".join(map(str, first["loc"])) or "the record"
        raise EarthGPTError(f"{where}: {place}: {first['msg']}.") from error
    except ValueError as error:
        raise EarthGPTError(f"{where}: {error}") from error


def _answered(conversation: Conversation) -> Conversation:
    if not conversation.messages or len(conversation.messages) % 2:
        raise ValueError("A record needs a question, and an answer to every question.")
    return conversation


def _record(conversation: Conversation) -> dict[str, Any]:
    images = [image if isinstance(image, str) else PurePath(image).as_posix() for image in conversation.images]
    turns = [{"from": PARTIES[message.role], "value": message.text} for message in _answered(conversation).messages]
    image = {"image": images[0] if len(images) == 1 else images} if images else {}
    return {**image, "conversations": turns}

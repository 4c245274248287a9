"""The record of MMRS-1M on disk: conversations about images, as a JSON array or as JSON lines.

A record is ``{"image": "data/...", "conversations": [{"from": "human" | "gpt", "value": ...}, ...]}`` with exactly
these keys. ``image`` is a path, a list of paths, or absent; the parties alternate, and the last word is an answer.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
    image: str | list[str] = []
    conversations: list[_Turn] = Field(min_length=2)


def read(path: str | Path) -> Iterator[Conversation]:
    """The conversations of a ``.json`` or ``.jsonl`` file, in order; image paths stay as they are in the file.

    Raises EarthGPTError for a missing or broken file, and for a broken record with its number, counted from 1.
    """
    path = Path(path)
    if _is_lines(path):
        yield from Records(path)
        return
    try:
        records = json.loads(_existing(path).read_bytes())
    except ValueError as error:
        raise EarthGPTError(f"{path} is not JSON: {error}.") from error
    if not isinstance(records, list):
        raise EarthGPTError(f"{path} holds a {type(records).__name__}; a list of records was expected.")
    for number, record in enumerate(records, 1):
        yield _conversation(record, path, number)


def write(path: str | Path, conversations: Iterable[Conversation]) -> int:
    """Writes conversations to a ``.json`` or ``.jsonl`` file, one record a line; returns how many there were.

    The file is there whole or not at all: it is written beside its place and then moved. Raises TypeError for an image
    that is no path, ValueError for a conversation whose last question has no answer.
    """
    path = Path(path)
    start, between, end = ("", "\n", "\n") if _is_lines(path) else ("[\n", ",\n", "\n]\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            for conversation in conversations:
                file.write((between if count else start) + json.dumps(_record(conversation), ensure_ascii=False))
                count += 1
            file.write(end if count else start + end.lstrip("\n"))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return count


class Records(Sequence[Conversation]):
    """The conversations of a JSON-lines file by index, read from disk one at a time; blank lines do not count.

    Only the place of each line is kept (8 bytes), and no file stays open: pickles, forks and threads are safe.
    Raises EarthGPTError for a missing file when opened, and for a broken record when it is read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = _existing(Path(path))
        self._places = array("Q")
        place = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.isspace():
                    self._places.append(place)
                place += len(line)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        with self.path.open("rb") as file:
            file.seek(self._places[index])
            line = file.readline()
        number = index % len(self) + 1
        try:
            record = json.loads(line)
        except ValueError as error:
            raise EarthGPTError(f"{self.path}, record {number}: not JSON: {error}.") from error
        return _conversation(record, self.path, number)


def _is_lines(path: Path) -> bool:
    if path.suffix not in (".json", ".jsonl"):
        raise EarthGPTError(f"Conversations are in .json or .jsonl files, not {path.name!r}.")
    return path.suffix == ".jsonl"


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise EarthGPTError(f"There is no file {path}.")
    return path


def _conversation(record: Any, path: Path, number: int) -> Conversation:
    where = f"{path}, record {number}"
    try:
        checked = _Record.model_validate(record)
        images = (checked.image,) if isinstance(checked.image, str) else tuple(checked.image)
        messages = [Message(ROLES[turn.party], turn.value) for turn in checked.conversations]
        messages[0] = Message(messages[0].role, _IMAGE_MARKS.sub("", messages[0].text))
        return _answered(Conversation(images, tuple(messages)))
    except ValidationError as error:
        first = error.errors()[0]
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

"""From a name to a data set or a task: the name is that of its file, so the folder is the catalogue."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from earthgpt.types import EarthGPTError

ATTRIBUTES = {"datasets": "DATASET", "tasks": "TASK"}


def names(kind: str) -> list[str]:
    """Names of all "datasets" or "tasks", sorted.

    The files are looked at, not imported; one that defines no DATASET or TASK, or begins with "_", is a helper.
    """
    defines = re.compile(rf"^{ATTRIBUTES[kind]}\b", re.MULTILINE)
    files = sorted((Path(__file__).parent / kind).glob("[!_]*.py"))
    return [file.stem for file in files if defines.search(file.read_text(encoding="utf-8"))]


def find(kind: str, name: str) -> Any:
    """The data set or task of that name; a dotted name ("mypackage.mymodule") loads one from a user's own package."""
    if "." in name:
        return _load(name, ATTRIBUTES[kind])
    known = names(kind)
    if name not in known:
        raise EarthGPTError(
            f"No {name!r} among the {kind}.{hint(name, known)} There are: {', '.join(known)}; or name a module of "
            "yours, with a dot."
        )
    return _load(f"earthgpt.{kind}.{name}", ATTRIBUTES[kind])


def _load(path: str, attribute: str) -> Any:
    module = _module(path)
    if not hasattr(module, attribute):
        raise EarthGPTError(f"Module {path!r} defines no {attribute}.")
    return getattr(module, attribute)


def _module(path: str) -> ModuleType:
    if not all(path.split(".")):  # it would be taken for relative
        raise EarthGPTError(f"{path!r} is no name of a Python module, such as mypackage.mymodule.")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # Only the module that was asked for may be a wrong name; an import that fails inside it is another mistake.
        if error.name is None or not (path == error.name or path.startswith(f"{error.name}.")):
            raise
        raise EarthGPTError(f"No Python module {path!r}: {error.name!r} is not on the import path.") from None


def import_all(names: str) -> None:
    """Imports modules of one's own, named with commas between them, for what they register.

    Raises EarthGPTError for one that is not there.
    """
    for name in filter(None, map(str.strip, names.split(","))):
        _module(name)


def hint(name: str, known: Iterable[str]) -> str:
    """A sentence that asks for the known name that was meant, with a blank before it; empty where none is like it."""
    close = difflib.get_close_matches(name.lower(), list(known), 1)
    return f" Did you mean {close[0]!r}?" if close else ""

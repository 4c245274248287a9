"""Run cards: what a result was made with, beside the result."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from earthgpt.files import whole_file
from earthgpt.types import EarthGPTError

LIBRARIES = ("torch", "transformers", "numpy", "pillow", "rasterio", "pyogrio", "pyarrow")


def card_of(output: str | Path) -> Path:
    """Where the run card of a result lies: ``ships.gpkg.run.json`` beside ``ships.gpkg``."""
    output = Path(output)
    return output.with_name(f"{output.name}.run.json")


def write_run_card(
    output: str | Path,
    *,
    command: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    model: str = "",
    data: Mapping[str, Any] | None = None,
    counts: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    time: str = "",
    seconds: float | None = None,
) -> Path:
    """Writes the run card of a result, complete or not at all, and returns its name; it replaces that of an older run.

    command: the words of the command line. settings: what was asked, with defaults filled in. model: its name. data:
    name, size, CRS and the like of what was looked at. counts: results of each class. notes: what was said about the
    data. time: when, as text; seconds: how long. Versions of the interpreter and
    of the libraries that are installed are added.
    Raises EarthGPTError where nothing can be written.
    """
    path = card_of(output)
    card = {
        "output": Path(output).name,
        "command": list(command),
        "settings": dict(settings or {}),
        "model": model,
        "data": dict(data or {}),
        "counts": dict(counts or {}),
        "notes": list(notes),
        "time": time,
        "seconds": seconds,
        "versions": {name: version or "not installed" for name, version in versions(LIBRARIES).items()},
    }
    try:
        with whole_file(path) as fresh:
            fresh.write_text(json.dumps(card, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror}.") from None
    return path


def versions(libraries: Iterable[str]) -> dict[str, str | None]:
    """Of Python, the package, and libraries; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("earthgpt", *libraries):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def made_with(model: str) -> dict[str, str]:
    """What holds for all features of a run: the model, and when they are made (UTC)."""
    return {"model": model, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}

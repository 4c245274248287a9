"""The public names and their signatures as text. ``python tests/api.py`` renews ``tests/api.txt``."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("api.txt")
# Modules whose public names are documented beside those of the package itself.
MODULES = (
    "datasets", "tasks", "boxes", "endpoints", "evaluation", "pages", "predictions", "reports", "scenes", "geo.scene",
    "metrics.accuracy", "metrics.captions", "metrics.detection", "metrics.grounding", "metrics.overlaps",
    "metrics.statistics",
)  # fmt: skip


def signature(value: Any) -> str:
    """How it is called; a default that is a function is not told apart from others."""
    return re.sub(r"<function .*? at 0x\w+>", "...", str(inspect.signature(value))) if callable(value) else ""


def members(name: str, value: Any) -> Iterator[str]:
    """A line for a name, and for a class one for each public member that it defines itself."""
    if not inspect.isclass(value):
        yield f"{name}{signature(value)}"
        return
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    yield f"class {name}({bases})"
    if "__init__" in vars(value):
        yield f"  {name}.__init__{signature(value.__init__)}"
    for member, one in sorted(vars(value).items()):
        if member.startswith("_"):
            continue
        if isinstance(one, property):
            yield f"  {name}.{member}: property"
        elif isinstance(one, (classmethod, staticmethod)) or inspect.isfunction(one):
            yield f"  {name}.{member}{signature(getattr(value, member))}"
        elif not inspect.ismemberdescriptor(one):
            yield f"  {name}.{member}"


def api() -> str:
    """All public names, a line each."""
    package = importlib.import_module("earthgpt")
    lines = []
    for name in package.__all__:
        lines += members(f"earthgpt.{name}", getattr(package, name))
    for dotted in MODULES:
        module = importlib.import_module(f"earthgpt.{dotted}")
        for name, value in sorted(vars(module).items()):
            own = inspect.isfunction(value) or inspect.isclass(value)
            if own and value.__module__ == module.__name__ and not name.startswith("_"):
                lines += members(f"earthgpt.{dotted}.{name}", value)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    STORED.write_text(api(), encoding="utf-8")

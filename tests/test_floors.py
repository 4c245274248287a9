"""The house stands: a module imports only from the floors below, and importing the package is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import earthgpt

ROOT = Path(earthgpt.__file__).parent
FLOORS = {
    "types": 0,
    "files": 0,
    **dict.fromkeys(
        (
            "config",
            "lookup",
            "folders",
            "formats",
            "image_files",
            "outlines",
            "metrics",
            "conversations",
            "coordinates",
            "order",
            "grammar",
            "shards",
            "cards",
            "tables",
        ),
        1,
    ),
    **dict.fromkeys(("datasets", "tasks", "geo", "augmentation", "boxes"), 2),
    **dict.fromkeys(("leaks", "model", "generation", "policies", "mixture", "parallel", "checkpoints"), 3),
    **dict.fromkeys(("features", "logs", "machine", "preparation"), 3),
    **dict.fromkeys(("building", "checking", "training", "evaluation", "scenes", "assistant", "demo", "previews"), 4),
    "doctor": 4,
    "endpoints": 3,
    "reports": 3,
    "pages": 3,
    "perception": 3,
    "calibration": 3,
    "predictions": 3,
    "rows": 2,
    "answer_table": 2,
    "suites": 4,
    "vllm_plugin": 4,
    "lmms_plugin": 4,
    **dict.fromkeys(("cli", "serve", "__main__"), 5),
}
# Pairs on one floor of which the first may use the second.
NEIGHBOURS = {
    ("shards", "order"),
    ("formats", "outlines"),
    ("formats", "folders"),
    ("formats", "image_files"),
    ("generation", "model"),
    ("mixture", "model"),
    ("preparation", "model"),
    ("preparation", "mixture"),
    ("mixture", "features"),
    ("checkpoints", "model"),
    ("checkpoints", "parallel"),
    ("endpoints", "generation"),
    ("perception", "generation"),
    ("perception", "model"),
    ("calibration", "perception"),
    ("calibration", "model"),
    ("scenes", "assistant"),
    ("evaluation", "assistant"),
    ("suites", "evaluation"),
    ("predictions", "reports"),
    ("pages", "reports"),
    ("suites", "assistant"),
    ("training", "evaluation"),
    ("training", "assistant"),
    ("demo", "assistant"),
    ("lmms_plugin", "assistant"),
    ("lmms_plugin", "evaluation"),
    ("__main__", "cli"),
    ("cli", "serve"),
}
# The lowest floor that may use a library, and the only modules that may.
LOWEST = {
    "numpy": 1,
    "pydantic": 1,
    "PIL": 1,
    "yaml": 2,
    "torch": 3,
    "transformers": 3,
    "tokenizers": 3,
    "typer": 5,
    "fastapi": 5,
}
ONLY = {
    **{name: {"geo"} for name in ("rasterio", "shapely", "pyogrio", "pyarrow")},
    "ray": {"scenes", "serve"},
    "vllm": {"vllm_plugin"},
    "lmms_eval": {"lmms_plugin"},
}
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def module_of(path: Path) -> str:
    """The first name below ``earthgpt``: "tasks" for tasks/wording.py."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: write imports in full."
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def may_import(module: str, other: str) -> bool:
    """Whether the floors allow one module of the package to use another."""
    return other == module or FLOORS[other] < FLOORS[module] or (module, other) in NEIGHBOURS


def test_the_floors_are_what_they_say():
    assert may_import("tasks", "metrics") and may_import("scenes", "assistant") and may_import("tasks", "tasks")
    assert not may_import("metrics", "tasks") and not may_import("tasks", "datasets")
    assert not may_import("assistant", "scenes")


def test_the_page_of_the_architecture_has_every_module_on_its_floor():
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    for floor in range(5):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {floor} | "))
        names = row.split("|")[2].partition("(")[0]
        assert {name.strip() for name in names.split(",")} == {name for name, one in FLOORS.items() if one == floor}
    modules = {module_of(path) for path in FILES} - {"__main__"}
    assert not [name for name in modules if f"\n  {name}.py " not in page and f"\n  {name}/ " not in page]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_from_floors_below(path):
    module = module_of(path)
    assert module in FLOORS, f"Give {module} a floor."
    for name in imports(path):
        library, _, rest = name.partition(".")
        if library == "earthgpt":
            other = rest.partition(".")[0]
            # What is no module is a public name of the package, which stands above all but the top floor.
            allowed = may_import(module, other) if other in FLOORS else FLOORS[module] == 5
        else:
            allowed = FLOORS[module] >= LOWEST.get(library, 0) and module in ONLY.get(library, {module})
        assert allowed, f"{module} (floor {FLOORS[module]}) must not import {name}."


@pytest.mark.parametrize("module", [name for name, floor in FLOORS.items() if floor == 0])
def test_the_lowest_floor_needs_only_the_standard_library(module):
    assert {name.partition(".")[0] for name in imports(ROOT / f"{module}.py")} <= sys.stdlib_module_names


def test_importing_the_package_imports_no_heavy_library():
    code = "import sys, earthgpt; print(*{'torch', 'transformers', 'numpy', 'PIL'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert found.stdout.split() == []

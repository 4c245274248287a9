"""The package as others install it: what it needs, what it brings, and the names that it promises."""

import difflib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from api import STORED, api

import earthgpt

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = (
    "augmentation boxes building cards checking cli config conversations coordinates formats leaks lookup order pages "
    "policies predictions previews reports shards tables types"
)
# Imports every module that data and metrics need, reads a data set, and scores an answer, as if torch were not there.
WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "tokenizers", "safetensors"):
    sys.modules[name] = None
import importlib, pkgutil, random
import earthgpt.datasets, earthgpt.geo, earthgpt.metrics, earthgpt.tasks
for package in (earthgpt.datasets, earthgpt.geo, earthgpt.metrics, earthgpt.tasks):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in "{modules}".split():
    importlib.import_module("earthgpt." + name)
from earthgpt import lookup
sample = next(iter(lookup.find("datasets", "synthetic").read(None, "val")))
task = lookup.find("tasks", "scene_classification")
turn = task.turns(sample, random.Random(0))[0]
assert task.parse(task.format(turn.answer, sample.size), sample.size) == turn.answer
from earthgpt.cli import main
sys.argv = ["earthgpt", "score", "scene_classification", sys.argv[1]]
main()
"""


def test_data_metrics_and_scores_need_no_torch(tmp_path):
    (tmp_path / "answers.csv").write_text("prediction,truth\nharbor,harbor\nforest,airport\n")
    code = WITHOUT_TORCH.format(modules=MODULES)
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "answers.csv"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0.5000" in done.stdout


def test_public_names_and_signatures_are_those_that_are_stored():
    stored, found = STORED.read_text(encoding="utf-8").splitlines(), api().splitlines()
    changed = "\n".join(difflib.unified_diff(stored, found, "stored", "found", lineterm="", n=0))
    assert not changed, f"{changed}\nWhere this is meant: python tests/api.py, and a line in CHANGELOG.md"


def test_the_version_is_the_same_everywhere():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert PROJECT["version"] == earthgpt.__version__
    assert re.search(r"^## \[([\d.]+)\]", changes, re.MULTILINE)[1] == earthgpt.__version__
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == earthgpt.__version__


def test_all_extras_are_told_in_the_readme_or_the_docs():
    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for extra in set(PROJECT["optional-dependencies"]) - {"dev"}:
        assert re.search(rf"\[[\w,]*{extra}[\w,]*\]|`{extra}`", text), extra


def test_the_program_is_installed():
    found = metadata.entry_points(group="console_scripts", name="earthgpt")
    assert {one.value for one in found} == {"earthgpt.cli:main"}


def test_the_default_model_lies_in_the_package():
    folder = Path(earthgpt.__file__).parent / "pretrained" / "earthgpt-tiny"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {one.name for one in folder.iterdir()}

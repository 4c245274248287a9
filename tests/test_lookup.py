"""Names of data sets and tasks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import earthgpt
from earthgpt import lookup
from earthgpt.datasets import Dataset
from earthgpt.tasks import Task
from earthgpt.types import EarthGPTError


def test_names_are_those_of_the_files_without_helpers():
    assert {"aid", "hrsid", "rsicd"} <= set(lookup.names("datasets"))
    assert "object_detection" in lookup.names("tasks")
    assert "wording" not in lookup.names("tasks")  # a helper: defines no TASK
    assert not [name for name in lookup.names("datasets") if name.startswith("_")]


@pytest.mark.parametrize("name", lookup.names("datasets"))
def test_every_data_set_is_found_and_complete(name):
    dataset = lookup.find("datasets", name)
    assert isinstance(dataset, Dataset)
    assert set(dataset.counts) | set(dataset.objects) <= {*dataset.splits, "total"}
    assert dataset.paper is None or set(dataset.paper.splits) <= set(dataset.splits)
    assert set(dataset.tasks) <= set(lookup.names("tasks"))
    assert len(set(dataset.classes)) == len(dataset.classes)
    assert dataset.title and dataset.licence and dataset.citation


@pytest.mark.parametrize("name", lookup.names("tasks"))
def test_every_task_is_found(name):
    assert isinstance(lookup.find("tasks", name), Task)


def test_a_misspelt_name_is_answered_with_the_nearest_and_the_list():
    with pytest.raises(EarthGPTError) as caught:
        lookup.find("datasets", "hit_uva")
    said = str(caught.value)
    assert said.startswith("No 'hit_uva' among the datasets. Did you mean 'hit_uav'? There are: aerial_mancar, ")


def test_a_name_like_no_other_gets_the_list_alone():
    with pytest.raises(EarthGPTError, match=r"^No 'zzzz' among the tasks\. There are: .*image_captioning, "):
        lookup.find("tasks", "zzzz")


def test_a_dotted_name_loads_from_a_users_package(tmp_path, monkeypatch):
    package = tmp_path / "lookup_fixture"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text("DATASET = 'my data set'\n")
    (package / "broken.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert lookup.find("datasets", "lookup_fixture.mine") == "my data set"
        with pytest.raises(EarthGPTError, match=r"'lookup_fixture.mine' defines no TASK"):
            lookup.find("tasks", "lookup_fixture.mine")
        with pytest.raises(EarthGPTError, match=r"No Python module 'lookup_fixture.absent'"):
            lookup.find("datasets", "lookup_fixture.absent")
        with pytest.raises(ModuleNotFoundError, match="a_package_nobody_has"):
            lookup.find("datasets", "lookup_fixture.broken")
    finally:
        for name in [name for name in sys.modules if name.startswith("lookup_fixture")]:
            del sys.modules[name]


def test_modules_of_ones_own_are_imported_with_the_model(tmp_path):
    """``EARTHGPT_PLUGINS``, in a process of its own: what is registered stays."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "patches.py").write_text(
        "from transformers import AutoConfig, PreTrainedConfig\n"
        "from earthgpt import EarthGPTConfig\n"
        "class Patches(PreTrainedConfig):\n    model_type = 'patches'\n"
        "AutoConfig.register('patches', Patches)\n"
    )
    code = "import earthgpt.model, transformers; print(type(transformers.AutoConfig.for_model('patches')).__name__)"
    paths = os.pathsep.join(map(str, (tmp_path, Path(earthgpt.__file__).parents[1])))
    for plugins, said in (
        ("mine.patches", "Patches"),
        ("mine.nothing", "No Python module 'mine.nothing'"),
        ("../mine", "is no name of a"),
    ):
        ways = {**os.environ, "PYTHONPATH": paths, "EARTHGPT_PLUGINS": plugins}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ways)
        assert said in done.stdout + done.stderr, done.stderr
        assert (done.returncode == 0) == (plugins == "mine.patches")

"""lmms-eval asks the model: in batches, in its own order of requests, cut where it says."""

import importlib
import sys
import tomllib
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from earthgpt.types import EarthGPTError


@pytest.fixture
def plugin(monkeypatch):
    """The plug-in, with as much of lmms-eval as it uses where lmms-eval is not installed."""
    if importlib.util.find_spec("lmms_eval") is None:
        model, registry = ModuleType("lmms_eval.api.model"), ModuleType("lmms_eval.models.registry_v2")
        model.lmms = type("lmms", (), {"__init__": lambda self: setattr(self, "task_dict", {})})
        registry.ModelManifest = dataclass(
            type("ModelManifest", (), {"__annotations__": {"model_id": str, "simple_class_path": str}})
        )
        for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.models"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, model.__name__, model)
        monkeypatch.setitem(sys.modules, registry.__name__, registry)
    monkeypatch.delitem(sys.modules, "earthgpt.lmms_plugin", raising=False)
    yield importlib.import_module("earthgpt.lmms_plugin")
    sys.modules.pop("earthgpt.lmms_plugin", None)


def test_lmms_eval_finds_the_plugin(plugin, request):
    project = tomllib.loads((request.config.rootpath / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["lmms_eval.models"]["earthgpt"].partition(":")
    manifest = getattr(importlib.import_module(module), name)
    module, _, name = manifest.simple_class_path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is plugin.LmmsEvalModel


def test_requests_are_answered_in_their_order(plugin, model_folder, monkeypatch):
    model = plugin.LmmsEvalModel(str(model_folder), batch_size="2")
    asked = []

    def ask(assistant, conversations, most):
        asked.append((most, [one.messages[0].text for one in conversations]))
        return [SimpleNamespace(text=f"{one.messages[0].text} of {one.images[0].size}\nmore") for one in conversations]

    monkeypatch.setattr(plugin, "ask", ask)
    image = Image.fromarray(np.zeros((10, 20, 3), np.uint8))
    model.task_dict = {"task": {"test": [[image], ["video.mp4"]]}}

    def request(text, most, document=0):
        return SimpleNamespace(args=(text, {"max_new_tokens": most, "until": ["\n"]}, list, document, "task", "test"))

    answers = model.generate_until([request("<image>\nlonger", 5), request("c", 9), request("b", 5), request("a", 5)])
    assert answers == [f"{text} of (20, 10)" for text in ("longer", "c", "b", "a")]
    assert asked == [(5, ["b", "a"]), (5, ["longer"]), (9, ["c"])]
    with pytest.raises(EarthGPTError, match=r"video\.mp4"):
        model.generate_until([request("a", 5, document=1)])
    for other in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(EarthGPTError, match="in lmms-eval"):
            other([])


def test_the_model_itself_answers(plugin, model_folder):
    model = plugin.LmmsEvalModel(str(model_folder))
    model.task_dict = {"task": {"test": [[Image.new("RGB", (30, 20))], None]}}
    requests = [SimpleNamespace(args=("What is this?", {"max_new_tokens": 3}, list, i, "task", "test")) for i in (0,)]
    assert [type(answer) for answer in model.generate_until(requests)] == [str]

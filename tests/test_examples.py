"""Every example runs, on inputs of its own and small ones."""

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
RUN_HERE = {
    "ask_geotiff", "ships_in_sar", "finetune_folder", "score_predictions", "openai_client", "ray_folder",
}  # fmt: skip


@pytest.fixture
def example(monkeypatch, tmp_path, capsys):
    """Runs an example in an empty folder; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_each_example_is_run_here_and_told_in_the_readme():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == RUN_HERE
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}.py`" in readme for name in RUN_HERE)


def test_a_geotiff_is_asked(example):
    assert "What is this? An aerial image" in example("ask_geotiff")
    layer = json.loads(Path("ships.geojson").read_text())
    assert all(0 < x < 10 and 50 < y < 60 for one in layer["features"] for x, y in one["geometry"]["coordinates"][0])


def test_ships_of_a_sar_scene_are_a_layer(example):
    assert "9 tiles" in example("ships_in_sar", "--tile", 256)
    assert Path("ships.gpkg").stat().st_size and not list(Path.cwd().glob("*.jsonl"))


def test_a_folder_of_ones_own_is_learned(example):
    said = example("finetune_folder", "--steps", 2, "--images", 2)
    assert "before: accuracy_strict 0.00" in said and "after:" in said
    assert Path("runs/own/model/model.safetensors").is_file()


def test_predictions_of_others_are_scored(example):
    said = example("score_predictions")
    assert "0.600" in said and "0.933" in said, "9 and 14 of 15"


def test_the_openai_client_is_answered(example, shared_model, processor):
    pytest.importorskip("openai")
    from servers import running

    from earthgpt.assistant import EarthGPT

    with running(EarthGPT(shared_model, processor)) as served:
        said = example("openai_client", "--url", f"{served.url}/v1/")
    assert said.startswith("What is this?") and "How many ships" in said


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("ask_geotiff", ["nowhere.tif"], "There is no file nowhere.tif"),
        ("ships_in_sar", ["nowhere.tif"], "There is no file nowhere.tif"),
        ("score_predictions", ["nowhere.jsonl"], "Cannot read nowhere.jsonl"),
        ("finetune_folder", ["."], "No folders with images in"),
        ("openai_client", ["--url", "http://127.0.0.1:9/v1/"], "No server answers at http://127.0.0.1:9;"),
    ],
)
def test_a_mistake_in_an_example_is_told_in_one_line(example, name, words, says):
    pytest.importorskip("openai")
    with pytest.raises(SystemExit) as told:
        example(name, *words)
    assert str(told.value).startswith(f"error: {says}") and "\n" not in str(told.value)


def test_ray_is_not_started_on_a_folder_without_images(example, capsys):
    pytest.importorskip("ray")
    for folder, says in ((".", ". has no image"), ("nowhere", "nowhere is no folder")):
        with pytest.raises(SystemExit):
            example("ray_folder", folder)
        assert says in capsys.readouterr().err


def test_ray_captions_a_folder(example):
    pytest.importorskip("ray")
    assert "6 images, 0 of them unreadable" in example("ray_folder", "--workers", 1)
    with Path("captions.csv").open(newline="") as file:
        assert [row["error"] for row in csv.DictReader(file)] == [""] * 6

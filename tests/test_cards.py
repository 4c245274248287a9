"""A run card says what a result was made with."""

import json
import platform

import pytest

from earthgpt.cards import card_of, write_run_card
from earthgpt.types import EarthGPTError


def test_a_card_lies_beside_its_result_and_says_what_it_was_made_with(tmp_path):
    output = tmp_path / "ships.gpkg"
    path = write_run_card(
        output,
        command=["earthgpt", "detect", "port.tif", "-o", "ships.gpkg"],
        settings={"tile": 448},
        model="tiny",
        data={"name": "port.tif", "crs": None},
        counts={"ship": 3},
        notes=["There is no CRS: coordinates are pixels."],
        time="2026-01-02T03:04:05Z",
        seconds=1.5,
    )
    assert path == card_of(output) == tmp_path / "ships.gpkg.run.json"
    card = json.loads(path.read_text())
    assert card["output"] == "ships.gpkg" and card["settings"] == {"tile": 448} and card["counts"] == {"ship": 3}
    assert card["time"] == "2026-01-02T03:04:05Z" and card["versions"]["python"] == platform.python_version()
    assert card["versions"]["earthgpt"] and [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_card_of_a_newer_run_replaces_the_older(tmp_path):
    write_run_card(tmp_path / "a.csv", model="old")
    write_run_card(tmp_path / "a.csv", model="new")
    assert json.loads(card_of(tmp_path / "a.csv").read_text())["model"] == "new"


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(EarthGPTError, match=r"Cannot write .*: No such file or directory"):
        write_run_card(tmp_path / "nowhere" / "a.csv")

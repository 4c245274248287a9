"""``earthgpt info`` says what was understood of a raster, and shows what a model sees of it."""

import json

import numpy as np
import pytest
from PIL import Image

from earthgpt import cli
from tests.geo.test_scene import UTM, write


def run(monkeypatch, capsys, *words):
    """The exit code, what was printed, and what was told."""
    monkeypatch.setattr("sys.argv", ["earthgpt", "info", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, *capsys.readouterr()


def test_a_raster_is_told_and_shown(tmp_path, monkeypatch, capsys):
    ramp = np.arange(64 * 32, dtype=np.uint16).reshape(32, 64)
    path = write(tmp_path / "S1A_vv.tif", ramp + 1, nodata=0, **UTM)
    code, told, _ = run(monkeypatch, capsys, path, "--json", "--preview", tmp_path / "a.png")
    found = json.loads(told)
    assert code == 0 and found["size"] == [64, 32] and found["crs"] == "EPSG:32631" and found["nodata"] == 0
    assert (found["sensor"], found["units"], found["valid"]) == ("sar", "amplitude", 1)
    assert found["gsd_m"] == pytest.approx(10, rel=1e-3) and found["centre"] == pytest.approx(
        [3.0036, 36.1436], abs=1e-3
    )
    with Image.open(tmp_path / "a.png") as view:
        assert view.size == (64, 32) and view.getextrema()[0] == (0, 255)
    code, told, _ = run(monkeypatch, capsys, path)
    assert code == 0 and "64 x 32 pixels, uint16" in told and "'s1a' in 'S1A_vv.tif'" in told and " dB" in told


def test_several_files_are_one_raster(tmp_path, monkeypatch, capsys):
    paths = [write(tmp_path / f"{name}.tif", np.full((8, 8), 9, np.uint8), **UTM) for name in ("nir", "red", "green")]
    code, told, _ = run(monkeypatch, capsys, *paths, "--bands", "green,red,nir", "--json")
    assert code == 0 and json.loads(told)["shown"] == ["green", "red", "nir"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("missing.tif",), "There is no file missing.tif"),
        (("https://example.org/a.tif",), "allow it with --remote"),
        (("a.tif", "--bands", "9"), "'9' is not among them"),
        (("a.tif", "--stretch", "9:1"), "A stretch is black:white"),
        (("a.tif", "--preview", "a.gif"), "Pictures are written as .png or .jpg"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.tif", np.zeros((8, 8), np.uint8))
    code, _, told = run(monkeypatch, capsys, *words)
    assert code == 1 and says in told and told.count("\n") == 1

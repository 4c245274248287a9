"""The data sets of a recipe in parts that can be moved."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PACK = Path(__file__).parent.parent / "recipes" / "pack.py"


def recipe(folder: Path, name: str, root: str, after: str = "") -> None:
    lines = [
        f'output = "runs/{name}"',
        "steps = 1",
        *([f'after = "{after}"'] if after else ['model = "earthgpt-tiny"']),
    ]
    (folder / f"{name}.toml").write_text("\n".join([*lines, f'[[sources]]\ndataset = "rsscn7"\nroot = "{root}"\n']))


def packed(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PACK), "second.toml", "parts", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for root in ("one", "two"):
        for kind in ("aGrass", "bField"):
            folder = tmp_path / root / f"{kind}{'x' * 90}"
            folder.mkdir(parents=True)
            for number in range(5):
                pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    recipe(tmp_path, "first", "one")
    recipe(tmp_path, "second", "two", "first.toml")
    return tmp_path


def test_all_files_of_all_stages_come_in_parts_of_a_size(data):
    done = packed(data, "--most", "0.06")
    assert not done.returncode, done.stderr
    parts = sorted((data / "parts").iterdir())
    assert len(parts) > 2 and all(part.stat().st_size <= 60_000 for part in parts)
    there = data / "there"
    for part in parts:
        with tarfile.open(part) as tar:
            tar.extractall(there, filter="data")
    files = sorted(path.relative_to(data) for root in ("one", "two") for path in (data / root).rglob("*.png"))
    assert sorted(path.relative_to(there) for path in there.rglob("*.png")) == files and len(files) == 20
    assert all((there / name).read_bytes() == (data / name).read_bytes() for name in files)


def test_what_cannot_be_packed_is_told(data):
    done = packed(data, "--most", "0.012")
    assert done.returncode and "raise --most" in done.stderr
    recipe(data, "first", "three")
    done = packed(data)
    assert done.returncode and "three, which second.toml names, holds no files" in done.stderr
    assert "Traceback" not in done.stderr

"""The table of the benchmarks: what a row says, what is measured, and what makes `make bench` fail."""

import json
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
FAKE = """
from table import Row

def rows(quick=False):
    return [
        Row("fake", "one", "s", 2.0, 5.0, "rival 1.2", 2, 1.0, "2 texts", "3 of 3"),
        Row("fake", "other", "images/s", 300.0, 100.0, "rival 1.2", 4, 1200.0, "quick" if quick else "whole"),
    ]
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The program, with one benchmark, and a folder for its files."""
    monkeypatch.syspath_prepend(FOLDER)
    import run

    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "poor.py").write_text("import a_rival_that_nobody_has")
    (tmp_path / "wrong.py").write_text("def rows(quick):\n    raise ValueError('The answers differ.')")
    monkeypatch.setattr(run, "NAMES", ("fake", "poor", "wrong"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = f"import run; run.NAMES = {run.NAMES!r}; run.main()"
    (tmp_path / "child.py").write_text(f"import sys; sys.path.insert(0, {str(FOLDER)!r}); {child}")
    monkeypatch.setattr(run, "__file__", str(tmp_path / "child.py"))
    return run


def test_rows_have_ratio_goal_and_floor_and_what_is_not_installed_is_left_out(run, capsys):
    assert run.main(["fake", "poor", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| fake: one, s | 2 | rival 1.2 | 5 | 2.5 | 2 | 1 | 2 | 2 texts | 3 of 3 |"
    assert lines[3] == "| fake: other, images/s | 300 | rival 1.2 | 100 | 3 (missed) | 4 | 1,200 | 4 | quick |  |"
    assert "poor: left out: No module named 'a_rival_that_nobody_has'" in lines


def test_a_benchmark_whose_check_fails_has_no_row_and_fails_the_run(run, capsys):
    assert run.main(["wrong"]) == 1
    assert "The answers differ." in capsys.readouterr().out


def test_ratios_are_kept_and_one_that_falls_fails_the_run(run, tmp_path, capsys):
    kept = tmp_path / "expected.json"
    kept.write_text('{"another: row": 7.0}')
    assert run.main(["fake", "--write", str(kept)]) == 0
    assert json.loads(kept.read_text()) == {
        "another: row": 7.0, "fake: one / rival": 2.5, "fake: other / rival": 3.0,
    }  # fmt: skip
    assert run.main(["fake", "--check", str(kept)]) == 0
    kept.write_text('{"fake: one / rival": 3.2}')  # 0.8 of it is 2.56
    assert run.main(["fake", "--check", str(kept)]) == 1
    assert "fake: one / rival: 2.5 times, but 3.2 were expected" in capsys.readouterr().out


def test_every_benchmark_of_the_table_is_there(run):
    text = (FOLDER / "run.py").read_text()
    names = text.split("NAMES = (")[1].split(")")[0].replace('"', "").replace(",", " ").split()
    assert all("\ndef rows(" in (FOLDER / f"{name}.py").read_text() for name in names)
    assert len(names) == 18


def test_ways_go_in_turn_and_the_best_sample_counts(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from guard import in_turn

    said = []
    ways = {"quick": lambda: said.append("quick"), "slow": lambda: (said.append("slow"), time.sleep(0.25))}
    found = in_turn(ways, 1, 0)
    assert found["slow"].seconds >= 0.25 > found["quick"].seconds
    assert found["slow"].clean + found["slow"].dirty == 1 and found["slow"].samples.endswith("of 1")
    assert said[:2] == ["quick", "slow"] and said.count("quick") > said.count("slow") == 2

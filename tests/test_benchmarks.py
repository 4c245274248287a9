"""The table of the benchmarks: what a row says, what is measured, and what makes `make bench` fail."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from earthgpt.reports import plain
from earthgpt.types import Box, Region

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


def test_a_ratio_that_is_expected_and_not_measured_fails_the_run(run, tmp_path, capsys):
    kept = tmp_path / "expected.json"
    kept.write_text('{"fake: one / rival": 2.5, "fake: 32 images / rival": 2.0, "poor: one / rival": 9.0}')
    assert run.main(["fake", "poor", "--check", str(kept)]) == 1
    said = capsys.readouterr().out
    assert "fake: 32 images / rival: not measured, but 2 times were expected" in said
    assert "poor: one" not in said  # it was left out


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


def test_a_server_ends_where_a_check_fails(monkeypatch, model_folder):
    monkeypatch.syspath_prepend(FOLDER)
    from serving import server

    with pytest.raises(ValueError, match="differ"), server(str(model_folder), "--no-compiled") as url:
        assert httpx.get(f"{url}/health").status_code == 200
        raise ValueError("The answers differ.")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_a_server_that_does_not_start_is_said(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    from serving import server

    with pytest.raises(RuntimeError, match="did not start"), server(str(tmp_path / "nowhere")):
        pass


def test_regions_are_read_from_what_a_report_keeps(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from cases import regions

    ship = Region(Box(0.1, 0.2, 0.3, 0.4), "ship", 0.5)
    assert regions(plain(ship.box)) == (Region(ship.box, ""),)
    assert regions(plain((ship,))) == (ship,)
    assert regions(["a pond .", "two ponds ."]) == regions("harbor") == regions(None) == regions([]) == ()


def test_sets_and_images_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    import figures

    (tmp_path / "RSSCN7").mkdir()
    assert [name for name, *_ in figures.sets(tmp_path)] == ["rsscn7", "synthetic"]
    said = figures.not_there(tmp_path, {"rsscn7": 3, "synthetic": 0})
    assert said == "Not there: hit_uav, hrsid, nwpu_vhr10, rsicd, sar_acd, 3 of the images of rsscn7."


@pytest.mark.parametrize(
    ("blind", "there", "asked"),
    [
        (0, 1000, [(400, 0)]),
        (400, 1000, [(400, 3)]),
        (100, 1000, [(100, 3), (400, 0)]),
        (100, 60, [(100, 3)]),  # those are all
    ],
)
def test_fewer_questions_are_asked_without_their_images(monkeypatch, tmp_path, blind, there, asked):
    monkeypatch.syspath_prepend(FOLDER)
    import figures

    calls = []

    def evaluate(*where, rounds, blind=()):
        limit = where[-1]
        calls.append((limit, len(blind)))
        shown = {figures.BLIND[one]: {"bleu_4": 0.25} for one in blind}
        examples = min(limit, there)
        return SimpleNamespace(
            examples=examples, unparsed=0, metrics={"bleu_4": examples / 1000},
            baselines={"shuffled answers": {"bleu_4": 0.125}, **shown},
        )  # fmt: skip

    row = ("optical", "synthetic", "", "val", None, "image_captioning", None, ["bleu_4"])
    monkeypatch.setattr(figures, "ROWS", [row])
    monkeypatch.setattr(figures, "evaluate", evaluate)
    (line,) = figures.lines(None, tmp_path, 400, blind)
    assert calls == asked
    assert f"**{min(400, there) / 1000:.3f}** | {'0.250' if blind else ''} | " in line and "| 0.125 |" in line
    assert ("text only, 100 questions at most |" in figures.header(400, blind)) == (blind == 100)


def test_the_benchmark_of_a_card_runs_in_toy_size_and_a_part_that_fails_costs_no_other(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    import gpu

    def broken(bench):
        bench.keep("prefill", before=1.0)
        raise RuntimeError("The card is on fire.")

    monkeypatch.setitem(gpu.PARTS, "prefill", broken)
    assert gpu.main(["--quick", "--json", str(tmp_path / "gpu.json")]) == 1
    said = capsys.readouterr()
    assert "The card is on fire." in said.err and "failed: prefill" in said.out
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["prefill"] == {"before": 1.0} and found["failed"] == ["prefill"]
    assert {"ceilings", "decode", "batches", "align", "instruct"} < set(found)
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["decode, one stream, ours"]["same"].startswith("12 tokens, probabilities to")
    # Alpha and beta of seven linear layers in each of two layers: 4 x 256, 2 x 512 and 256 outputs.
    assert found["instruct"]["trained"] == 2 * 2 * (4 * 256 + 2 * 512 + 256)
    assert found["instruct"]["mfu"] == pytest.approx(rows["training, instruct.toml"]["ratio"])
    with pytest.raises(SystemExit):
        gpu.main(["--quick", "decoding"])
    assert "no part decoding; there are ceilings" in capsys.readouterr().err


def test_the_benchmark_of_building_builds_in_toy_size(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import building

    (row,) = building.rows(images=4, rounds=1, workers=1)
    assert row.what == "32 images, 1 processes" and row.same == "all bytes"

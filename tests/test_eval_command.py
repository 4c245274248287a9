"""``earthgpt eval`` on the command line: endpoints, suites, stopping and going on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import downloads
import pytest
from chat_server import completion, question_of, serve
from typer.testing import CliRunner

from earthgpt import cli
from earthgpt.datasets import dior_rsvg, synthetic
from earthgpt.lookup import find
from earthgpt.reports import Scored, report
from earthgpt.types import EarthGPTError

SCENES = ("synthetic", "scene_classification")


@pytest.fixture
def run(monkeypatch):
    """Runs the command; returns (exit code, standard output, the error)."""
    monkeypatch.setitem(synthetic.SPLITS, "val", range(12))

    def call(*words):
        found = CliRunner().invoke(cli.app, ["eval", *map(str, words)])
        if found.exception and not isinstance(found.exception, EarthGPTError | SystemExit):
            raise found.exception
        return found.exit_code, found.stdout, str(found.exception or "")

    return call


def test_a_model_behind_an_address_is_asked_with_the_key_of_the_environment(run, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with serve(lambda request, number: completion("harbor")) as server:
        code, out, error = run(f"{server.url}#my/model", *SCENES, "-o", tmp_path / "a.json", "-o", tmp_path / "a.md")
        assert (code, error) == (0, "")
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}
        assert {request["model"] for request in server.requests} == {"my/model"}
        code, again, _ = run("my/model", *SCENES, "--endpoint", server.url, "--json", "--fields", '{"seed": 1}')
        assert server.requests[-1]["seed"] == 1
    report = json.loads((tmp_path / "a.json").read_text())
    assert f"{report['metrics']['accuracy_strict']:.4f}" in out and "most common answer" in out
    assert json.loads(again)["metrics"] == report["metrics"]
    assert "secret" not in json.dumps(report)
    assert "accuracy_strict" in (tmp_path / "a.md").read_text()


def test_baselines_and_frames_are_asked_for(run):
    def answer(request, number):
        question, pixels = question_of(request)
        assert question.endswith("from its top left corner; an oriented one as its four corners.")
        return completion("[1,2,3,4]" if pixels is None else "no box")

    with serve(answer) as server:
        words = ("--limit", 3, "--frame", "0-1000", "--baselines", "text-only, blank", "--json", "--rounds", 0)
        code, out, error = run(f"{server.url}#x", "synthetic", "visual_grounding", *words)
    assert (code, error) == (0, "")
    report = json.loads(out)
    assert report["unparsed"] == 3
    assert {"text only", "blank image"} <= set(report["baselines"])
    assert report["settings"]["frame"] == "0-1000"


def test_a_suite_prints_the_tables_of_the_paper(run, tmp_path, monkeypatch):
    monkeypatch.setattr(dior_rsvg, "TOTAL", 3)
    downloads.dior_rsvg(tmp_path / "data" / "DIOR-RSVG")
    with serve(lambda request, number: completion("[0.062,0.188,0.312,0.438]")) as server:
        words = (f"{server.url}#x", "--suite", "paper", tmp_path / "data", "-o", tmp_path / "out")
        code, out, error = run(*words)
        assert (code, error) == (0, "")
        assert re.search(r"MGVLF +published +76\.78", out)
        assert re.search(r"x +measured +50\.00", out)
        assert out.count("Not asked") == 8
        asked = len(server.requests)
        tables = json.loads(run(*words, "--json")[1])["tables"]
        assert len(server.requests) == asked == 2
    assert tables[5]["rows"][-1]["Pr@0.5"] == "50.00"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("x",), "Name a data set and a task, or a --suite"),
        (("x", "--suite", "paper"), "needs the folder of its sets"),
        (("x", "FOLDER", "--suite", "paper", "--split", "test"), "says itself what is asked"),
        (("x", "FOLDER", "--suite", "paper", "-o", "a", "-o", "b"), "one folder"),
        (("http://127.0.0.1:9/v1#x", "FOLDER", "--suite", "papers"), "A suite is one of paper; not 'papers'"),
        (("http://127.0.0.1:9/v1", *SCENES), "Say which model"),
        (("http://127.0.0.1:9/v1#x", *SCENES, "--fields", "[1]"), "--fields is a JSON object"),
        (("http://127.0.0.1:9/v1#x", *SCENES, "--baselines", "text"), "A baseline is one of text-only"),
        (("http://127.0.0.1:9/v1#x", *SCENES, "--frame", "0-10"), "A frame is one of square"),
        (("http://127.0.0.1:9/v1#x", *SCENES, "--option", "colour=red"), "has no option 'colour'"),
        (("http://127.0.0.1:9/v1#x", *SCENES, "-o", "FOLDER/none/a.json"), "no folder"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(run, tmp_path, words, told):
    code, out, error = run(*(str(word).replace("FOLDER", str(tmp_path)) for word in words))
    assert code != 0 and told in error and "\n" not in error
    assert out == ""


def test_a_comparison_without_resamples_and_one_that_cannot_be(tmp_path):
    def compare(*words):
        return CliRunner().invoke(cli.app, ["compare", *map(str, words)])

    truth = Scored("1", "a", "q", "yes", "yes", "yes")
    found = report(find("tasks", "visual_question_answering"), "visual_question_answering", [truth], rounds=0)
    found.write(tmp_path / "whole.json")
    replace(found, answers=()).write(tmp_path / "bare.json")
    replace(found, answers=({"id": "1"},)).write(tmp_path / "damaged.json")
    plain = compare(tmp_path / "whole.json", tmp_path / "whole.json", "--rounds", 0)
    assert plain.exit_code == 0 and "bootstrap" not in plain.stdout
    for name, told in (("bare", "bare.json holds no answers"), ("damaged", "damaged.json is damaged: answer 1")):
        for words in (("whole", name), (name, "whole")):
            assert told in str(compare(*(tmp_path / f"{word}.json" for word in words)).exception)


@pytest.mark.slow
def test_what_was_answered_is_kept_when_it_is_stopped(tmp_path):
    def answer(request, number):
        time.sleep(0.2)
        return completion("harbor")

    with serve(answer) as server:
        words = ["eval", f"{server.url}#x", *SCENES, "--limit", "40", "--concurrency", "2", "-o", "a.json"]
        command = [sys.executable, "-m", "earthgpt", *words]
        options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        stopped = subprocess.Popen(command, env=environment, **options)
        began = time.monotonic()
        while len(server.requests) < 10:
            assert time.monotonic() - began < 60 and stopped.poll() is None
            time.sleep(0.01)
        stopped.send_signal(signal.SIGINT)
        _, told = stopped.communicate(timeout=30)
        assert stopped.returncode == 130
        assert "the same command goes on" in told and "Traceback" not in told
        kept = (tmp_path / "a.json.partial.jsonl").read_bytes().count(b"\n") - 1
        assert 0 < kept < 40
        before = len(server.requests)
        subprocess.run(command, env=environment, check=True, timeout=60, **options)
        assert len(server.requests) - before == 40 - kept
    assert json.loads((tmp_path / "a.json").read_text())["examples"] == 40

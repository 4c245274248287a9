"""The container's files fit the repository; there is no Docker in the tests, so its steps are read."""

import fnmatch
import json
import re
from pathlib import Path

from typer.testing import CliRunner

from earthgpt.cli import app

ROOT = Path(__file__).parents[1]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()


def steps(name):
    """The words of every step of a kind."""
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{name} ")]


def test_what_is_copied_exists_and_is_sent_to_the_builder():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    copied = [name for step in steps("COPY") if "--from" not in step for name in step.split()[:-1]]
    assert len(copied) > 4 and "*" in ignored
    for name in copied:
        assert (ROOT / name).exists() and any(fnmatch.fnmatch(name, one) for one in sent), name


def test_the_project_is_built_of_what_is_copied():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = " ".join(steps("COPY")).split()
    needed = [project["project"]["readme"], *project["project"]["license-files"]]
    needed += project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed += project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert set(needed) <= set(copied)


def test_the_server_is_started_as_nobody_special_with_options_that_it_has():
    (entry,) = steps("ENTRYPOINT")
    program, command, *options = json.loads(entry)
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).output
    assert program == "earthgpt" and all(word in shown for word in options if word.startswith("--"))
    assert steps("USER") == ["earthgpt"]
    (health,) = [line for line in LINES if line.startswith("HEALTHCHECK")]
    assert "127.0.0.1:8000/health" in health and options[options.index("--port") + 1] == "8000"


def test_both_backends_are_one_file():
    assert "BACKEND=cpu" in steps("ARG") and any("--torch-backend ${BACKEND}" in step for step in steps("RUN"))

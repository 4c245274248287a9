"""What the docs say is true: their code runs, their commands are taken, their links and tables hold."""

import functools
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import downloads
import numpy as np
import pytest
from dataset_table import PAGE
from dataset_table import page as dataset_page
from PIL import Image

import earthgpt
from earthgpt import cli, lookup
from earthgpt.geo.sensors import STRETCH, UNITS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Python that is not run, by a line of it; a comment <!-- not run: WHY --> before a block says the same.
NOT_RUN = {"from torchao.quantization import Int8WeightOnlyConfig": "the extra quantise is not part of the extra dev"}


@dataclass(frozen=True)
class Block:
    """A block of code: where it begins, what it is, and what a comment before it says."""

    page: Path
    line: int
    kind: str
    code: str
    note: str

    @property
    def reason(self) -> str:
        """Why it is not run; empty where it is."""
        stated = self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else ""
        return stated or next((why for line, why in NOT_RUN.items() if line in self.code), "")


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start(3)) + 1, found[2], found[3], found[1] or "")
        for found in BLOCK.finditer(text)
    ]


ALL = [block for page in PAGES for block in blocks(page)]
# --- python ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    """A folder with every file that the pages name."""
    from earthgpt.datasets.synthetic import DATASET, scene
    from earthgpt.geo.geotiff import write_geotiff
    from earthgpt.geo.vectors import features

    folder = tmp_path_factory.mktemp("inputs")
    (folder / "outputs/demo").mkdir(parents=True)
    for seed, sensor in enumerate(DATASET.sensors, 300):
        pixels = scene(seed, sensor, (256, 256)).image()
        write_geotiff(folder / f"outputs/demo/{sensor}.tif", pixels, 598_000, 5_920_000, 0.8, 32631)
    harbour = Image.fromarray(scene(300, earthgpt.Sensor.OPTICAL, (256, 256)).image())
    for name in ("harbor.png", "image.png"):
        harbour.save(folder / name)
    write_geotiff(folder / "harbor.tif", np.asarray(harbour), 598_000, 5_920_000, 0.8, 32631)
    for path in ("photos/a.png", "photos/b.jpg"):
        (folder / path).parent.mkdir(exist_ok=True)
        harbour.save(folder / path)
    (folder / "scenes").mkdir()
    for name in ("region", "city", "scenes/east", "scenes/west"):
        write_geotiff(folder / f"{name}.tif", np.asarray(harbour.resize((520, 520))), 598_000, 5_920_000, 0.8, 32631)
    field = earthgpt.Region(earthgpt.Box(0.1, 0.1, 0.5, 0.5), "field")
    parcels = features([field], earthgpt.open(folder / "city.tif"))
    (folder / "parcels.geojson").write_text(json.dumps(parcels))
    downloads.hit_uav(folder / "data" / "HIT-UAV")
    downloads.rsscn7(folder / "data" / "RSSCN7")
    held_out = lookup.find("datasets", "rsscn7").read(folder / "data" / "RSSCN7", "all", part="val")
    (folder / "theirs.csv").write_text("".join(["image,prediction\n", *(f"{one.name},field\n" for one in held_out)]))
    noise = np.random.default_rng(0).integers(0, 3_000, (1_000, 1_500), np.uint16)
    write_geotiff(folder / "scene.tif", noise, 598_000, 5_920_000, 0.8, 32631)
    rows = ['{"question": "How many?", "answer": "2", "ground_truth": "3", "category": "count", "question_id": %d}'] * 2
    (folder / "RSVQA_LR.jsonl").write_text("\n".join(row % i for i, row in enumerate(rows)))
    (folder / "runs/instruct").mkdir(parents=True)
    (folder / "runs/instruct/model").symlink_to(Path(earthgpt.__file__).parent / "pretrained/earthgpt-tiny")
    return folder


@pytest.fixture
def here(inputs, tmp_path, monkeypatch) -> Path:
    """A folder of one's own in which these files lie, and the recipes."""
    for path in inputs.rglob("*"):
        target = tmp_path / path.relative_to(inputs)
        if path.is_dir() and not path.is_symlink():
            target.mkdir(exist_ok=True)
        else:
            target.symlink_to(path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run_command(words: list[str], monkeypatch) -> None:
    """One command of ours, in this process."""
    monkeypatch.setattr(sys, "argv", ["earthgpt", *words])
    monkeypatch.setattr(sys, "stdin", io.StringIO("How many ships are there?\n"))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0, f"earthgpt {shlex.join(words)}"


def is_run(block: Block) -> bool:
    return not block.reason and (block.kind == "python" or block.note == "run")


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_run, blocks(page)))], ids=lambda page: page.stem)
def test_code_runs(page, here, monkeypatch, request):
    """The blocks of a page run one after the other, in one namespace."""
    namespace = {"__name__": page.stem}
    url = request.getfixturevalue("server") if "localhost:8000" in page.read_text(encoding="utf-8") else ""
    for block in filter(is_run, blocks(page)):
        code = block.code.replace("http://localhost:8000", url) if url else block.code
        if block.note.startswith("file: "):
            path = here / block.note.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, encoding="utf-8")
        elif block.kind == "bash":
            for words in filter(None, map(ours, commands(code))):
                run_command(words, monkeypatch)
        else:
            exec(compile("\n" * (block.line - 1) + code, str(page), "exec"), namespace)


@pytest.fixture
def server():
    """The address of a server with the default model."""
    from servers import running

    with running(earthgpt.load(), name="earthgpt-tiny") as served:
        yield served.url


def test_few_blocks_are_not_run():
    assert [block.reason for block in ALL if block.kind == "python" and block.reason] == [*NOT_RUN.values()]


# --- the shell ---------------------------------------------------------------------------------------------------


def commands(code: str) -> list[list[str]]:
    """The words of each command: comments go, lines that end in a backslash or within quotes go on."""
    found, begun = [], ""
    for line in code.replace("\\\n", " ").splitlines():
        begun = f"{begun}\n{line}" if begun else line
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # a quote is open
            continue
        begun = ""
        while words:
            end = next((i for i, word in enumerate(words) if word in ("&&", "|", ";")), len(words))
            found.append([word for i, word in enumerate(words[:end]) if ">" not in words[max(0, i - 1) : i + 1]])
            words = words[end + 1 :]
    assert not begun, begun
    return [words for words in found if words]


def ours(words: list[str]) -> list[str] | None:
    """What a command says to our program; None where it is another."""
    words = [*words]
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    if Path(words[0]).name == "earthgpt":
        return words[1:]
    if "-m" in words and words[words.index("-m") + 1 :][:1] == ["earthgpt"]:
        return words[words.index("-m") + 2 :]
    return None


@functools.cache
def program():
    import typer

    return typer.main.get_command(cli.app)


def parse(words: list[str]) -> None:
    """Reads the words of a command as the program does, without running it; raises for what it would not take."""
    command = program()
    names = []
    while hasattr(command, "commands"):
        assert words and words[0] in command.commands, f"There is no command {words}."
        command, names, words = command.commands[words[0]], [*names, words[0]], words[1:]
    given = command.make_context(" ".join(names), [*words]).params
    if names in (["train"], ["build"]):
        from earthgpt.config import BuildRecipe, Recipe, load_recipe

        kind, file = BuildRecipe if names == ["build"] else Recipe, ROOT / given["recipe"]
        load_recipe(file if file.is_file() else given["recipe"], given["overrides"] or (), kind)


@functools.cache
def endpoints() -> list[str]:
    from earthgpt.serve.app import Settings, create_app

    with tempfile.TemporaryDirectory() as jobs:
        return [*create_app(Settings(jobs=Path(jobs)), None).openapi()["paths"]]


def extras(text: str) -> set[str]:
    return {one for group in re.findall(r"\[([\w,]+)\]", text) for one in group.split(",")}


def check(words: list[str]) -> None:
    """Whether a command of others, or of ours, names what is there."""
    if (said := ours(words)) is not None:
        parse(said)
        return
    words = [word for i, word in enumerate(words) if i or "=" not in word]
    name, rest = Path(words[0]).name or words[0], words[1:]
    there = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if name == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), words
    elif name == "setup.sh":
        assert set(rest) <= {*there}, words
    elif name in ("pip", "uv"):
        assert extras(" ".join(rest)) <= {*there, "EXTRA"}, words
    elif name in ("python", "pytest"):
        files = [one for one in rest if re.fullmatch(r"[\w./]+\.(py|sh)", one)]
        assert all((ROOT / one).is_file() for one in files), words
    elif name == "curl":
        asked = re.search(r"localhost:8000(/[\w/]+)", " ".join(rest))[1].replace("/ID", "/{job}")
        assert any(re.fullmatch(re.sub(r"\{\w+\}", r"[^/]+", path), asked) for path in endpoints()), words
    elif name.endswith(".sh"):
        assert (ROOT / words[0]).is_file(), words
    else:
        assert name in OTHERS, f"{words}: a command that no test knows"


OTHERS = {
    ".", "cd", "docker", "export", "lmms-eval", "pre-commit", "ray", "sort", "srun", "tail", "tar", "vllm", "zensical",
}  # fmt: skip


@pytest.mark.parametrize(
    "block", [one for one in ALL if one.kind == "bash"], ids=lambda one: f"{one.page.stem}-{one.line}"
)
def test_commands_are_taken(block):
    for words in commands(block.code):
        check(words)


@pytest.mark.parametrize(
    "block", [one for one in ALL if one.kind == "toml"], ids=lambda one: f"{one.page.stem}-{one.line}"
)
def test_toml_is_read(block):
    tomllib.loads(block.code)


def test_a_wrong_option_would_be_told():
    with pytest.raises(Exception, match="--clases"):
        check(["earthgpt", "classify", "a.png", "--clases", "harbor"])
    with pytest.raises(Exception, match="stepz"):
        check(["earthgpt", "train", "recipes/debug.toml", "stepz=3"])


# --- the site ----------------------------------------------------------------------------------------------------


def pages_of(nav: list) -> list[str]:
    """Files of a navigation, in their order."""
    found = []
    for one in nav:
        for entry in one.values() if isinstance(one, dict) else [one]:
            found += [entry] if isinstance(entry, str) else pages_of(entry)
    return found


def test_every_page_is_in_the_navigation():
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    assert sorted(pages_of(nav)) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_site_is_built_without_a_warning(tmp_path):
    """Strictly: a link to a page or a heading that is not there, or a docstring that cannot be found, is an error."""
    for name in ("zensical.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "earthgpt").symlink_to(ROOT / "earthgpt")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    card = (tmp_path / "site/model-card/index.html").read_text(encoding="utf-8")
    assert "<h1" in card and "pipeline_tag" not in card, "model-card.md leaves out the first lines of the card"
    reference = (tmp_path / "site/reference/index.html").read_text(encoding="utf-8")
    assert "A short answer to a question in words" in reference, "docstrings are read"


def test_links_of_the_other_pages_lead_somewhere():
    for page in [page for page in PAGES if page.parent != ROOT / "docs"]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_table_of_data_sets_is_that_of_the_cards():
    assert PAGE.read_text(encoding="utf-8") == dataset_page(), "python tests/dataset_table.py"


def test_every_sensor_has_its_way_to_8_bits():
    assert set(STRETCH) == set(UNITS) == set(earthgpt.Sensor)

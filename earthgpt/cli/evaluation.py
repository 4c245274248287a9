"""Commands that score models and predictions, and compare reports."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from earthgpt import lookup
from earthgpt.cli.console import be_quiet, err, load_model, note, out, print_wide, waiting
from earthgpt.cli.options import AsJson, Dtype, Reports, TaskOptions
from earthgpt.types import EarthGPTError

Rounds = Annotated[int, typer.Option(min=0, help="Resamples of the images for intervals and tests.")]


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name, folder or hub id, or http://HOST:PORT/v1#NAME.")],
    dataset: Annotated[str, typer.Argument(help="See: earthgpt datasets list. With --suite, the folder of all.")] = "",
    task: Annotated[str, typer.Argument(help="See: earthgpt tasks list")] = "",
    root: Annotated[str, typer.Argument(help="The folder of the data set; none for synthetic.")] = "",
    suite: Annotated[str | None, typer.Option(help="Run a protocol on the sets in a folder: paper.")] = None,
    split: Annotated[str, typer.Option(help='The split; "all" for every one.')] = "val",
    part: Annotated[str | None, typer.Option(help='"train" or "val" of the split "all".')] = None,
    kind: Annotated[str | None, typer.Option(help="Only questions of these kinds: hbb, presence,count, ...")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="That many questions, drawn with a fixed seed.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions asked at a time.")] = 16,
    dtype: Dtype = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 512,
    baselines: Annotated[
        str, typer.Option(help="Other passes: text-only,blank,shuffled-images. Each takes as long as the first.")
    ] = "",
    frame: Annotated[
        str, typer.Option(help="How a model writes boxes: square (ours), image, 0-100, 0-1000 or pixels.")
    ] = "square",
    instruction: Annotated[
        str | None, typer.Option(help="A sentence behind every question; by default it tells of the frame.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="The server of MODEL: http://HOST:PORT/v1")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to a server in flight.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a server may take for an answer.")] = 120.0,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Ask a server for those of tokens: scores of detections.")
    ] = False,
    fields: Annotated[
        str, typer.Option(help='Fields of the request to a server, as JSON; null leaves out: {"max_tokens": null}')
    ] = "{}",
    words: TaskOptions = None,
    rounds: Annotated[int, typer.Option(min=0, help="Resamples of the images for intervals.")] = 1000,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Also write here: .json, .md, .tex, .csv or .html; with --suite, a folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on a task of a data set, beside chance. With -o REPORT.json a run that was stopped goes on.

    A server speaks OpenAI's chat API; its key is taken from OPENAI_API_KEY.

    Example: earthgpt eval earthgpt-tiny synthetic object_detection --limit 100 -o report.json
    """
    be_quiet()
    if suite is None and not (dataset and task):
        raise EarthGPTError("Name a data set and a task, or a --suite and the folder of its sets.")
    if suite is None and lookup.find("datasets", dataset).downloaded and not root:
        lookup.find("tasks", task)  # a misspelt name is told first
        raise EarthGPTError(f"Name the folder of the data set: earthgpt eval {model} {dataset} {task} FOLDER")
    if suite is not None and (not dataset or task or part or kind or words or split != "val"):
        raise EarthGPTError("A --suite needs the folder of its sets, and says itself what is asked of them.")
    if suite is not None and len(output or ()) > 1:
        raise EarthGPTError("A --suite writes into one folder.")
    for path in (output or ()) if suite is None else ():
        _writable(path)
    asked = _asked(f"{endpoint}#{model}" if endpoint else model, concurrency, timeout, probabilities, fields, dtype)
    options = {
        "limit": limit, "batch_size": batch_size, "max_new_tokens": max_new_tokens, "name": model, "frame": frame,
        "blind": [one.strip() for one in baselines.split(",") if one.strip()], "instruction": instruction,
        "rounds": rounds,
    }  # fmt: skip
    kept = Path("outputs", suite) if suite else None
    kept = next((path for path in output or () if suite or path.suffix == ".json"), kept)
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def told(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=done, total=total)

        try:
            if suite is not None:
                from earthgpt.suites import hold

                found = hold(suite, asked, Path(dataset), kept, told, **options)
            else:
                from earthgpt.evaluation import evaluate as run

                found = run(
                    asked, dataset, task, root, split, part, kind, output=kept, options=_options(words), **options,
                    progress=lambda done, total: told("asking", done, total),
                )  # fmt: skip
        except KeyboardInterrupt:
            if kept:
                err.print("What was answered is kept: the same command goes on.", highlight=False)
            raise
    if suite is not None:
        tables = found.tables
        err.print(f"Reports and tables (.md, .tex, .csv, .html) are in {kept}", highlight=False, soft_wrap=True)
        value = {"missing": found.missing, "tables": [{"title": one.title, "rows": _rows(one)} for one in tables]}
    else:
        from earthgpt.pages import images_in, save
        from earthgpt.pages import tables as tables_of

        short = model.rstrip("/").rpartition("/")[2]
        for path in output or ():
            if path != kept:
                save(path, {short: found}, images_in(root) if root else None)
            note(f"Wrote {path}")
        tables = tables_of({short: found})
        value = {key: one for key, one in found.to_dict().items() if key != "answers"}
        unreadable = list(found.data["unreadable"].values())
        for why in unreadable[:5]:
            err.print(why, highlight=False, soft_wrap=True, markup=False)
        if len(unreadable) > 5:
            err.print(f"... and {len(unreadable) - 5:,} more images that cannot be read", highlight=False)
    if as_json:
        typer.echo(json.dumps(value))
    else:
        _print_tables(tables)


def _rows(table: Any) -> list[dict[str, str]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def _asked(model: str, concurrency: int, timeout: float, probabilities: bool, fields: str, dtype: str | None) -> Any:
    """The model to evaluate: one behind an address, or one that is loaded."""
    from earthgpt.endpoints import endpoint_of

    try:
        given = json.loads(fields)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise EarthGPTError(f'--fields is a JSON object, such as {{"max_tokens": null}}; not {fields!r}.')
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    options = {"concurrency": concurrency, "timeout_s": timeout, "probabilities": probabilities, "fields": given}
    return endpoint_of(model, key=key, **options) or load_model(model, dtype)


def score(
    task: Annotated[str, typer.Argument(help="See: earthgpt tasks list")],
    predictions: Annotated[Path, typer.Argument(help="JSON lines, JSON, CSV, TSV, COCO's results, or a report.")],
    truth: Annotated[
        Path | None, typer.Option(help="A file of the true answers, where they are apart: any of these, or COCO's.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--format", help="jsonl, json, csv, tsv or report.")] = None,
    fields: Annotated[
        list[str] | None, typer.Option("--field", help="ROLE=NAME of a field: prediction, truth, id, image, ...")
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="What boxes are written in: image, square, 0-100, 0-1000 or pixels.")
    ] = None,
    truth_frame: Annotated[str | None, typer.Option(help="The same of the true boxes.")] = None,
    clockwise: Annotated[
        bool, typer.Option("--clockwise", help="A fifth number of a box turns it that way, not against it.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count what does not fit together, and score the rest.")
    ] = False,
    options: TaskOptions = None,
    images: Annotated[Path | None, typer.Option(help="The folder of the images, for the pictures of .html.")] = None,
    output: Reports = None,
    rounds: Rounds = 1000,
    as_json: AsJson = False,
) -> None:
    """Score anybody's predictions. Names of fields and the frame of boxes are guessed, and told, unless given.

    Example: earthgpt score visual_grounding answers.jsonl --frame 0-100 -o report.json -o report.html
    """
    from earthgpt.pages import images_in, save, tables
    from earthgpt.predictions import score as run

    for path in output or ():
        _writable(path)
    with waiting("Scoring ..."):
        report, read = run(
            task, predictions, truth=truth, kind=kind, fields=_pairs(fields, "--field prediction=answer"), frame=frame,
            truth_frame=truth_frame, clockwise=clockwise, allow_missing=allow_missing,
            options=_options(options), rounds=rounds,
        )  # fmt: skip
    pictures, shown = images and images_in(images), Counter[bool]()

    def find(name: str) -> Any:
        found = pictures(name)
        shown[found is not None] += 1
        return found

    told = [f"{role}: {name}" for role, name in read.fields.items()]
    told += [f"boxes of the {role}: {name}" for role, name in read.frames.items()]
    err.print(f"Read {read.lines:,} rows as {', '.join(told)}", highlight=False, soft_wrap=True, markup=False)
    if read.frames and not _any_meets(report):
        note(
            "No box that was predicted meets a true one of its class at an IoU of 0.5. Are they left, top, right, "
            "bottom, in the frame told above (--frame), of classes of these names, and answers to these questions?"
        )
    for path in output or ():
        save(path, {predictions.stem: report}, pictures and find)
        note(f"Wrote {path}")
    if shown[False]:
        note(f"{images} has {shown[True]} of the {shown.total()} pictures that are shown: names start from there")
    if as_json:
        typer.echo(json.dumps({key: value for key, value in report.to_dict().items() if key != "answers"}))
    else:
        _print_tables(tables({predictions.stem: report}))


def _any_meets(report: Any) -> bool:
    """Whether any box is right, where enough were asked for and predicted to expect one."""
    both = [one for one in report.answers if one["truth"] and one["read"]]
    return len(both) < 5 or any(one["score"] >= (0.5 if report.task == "visual_grounding" else 1e-9) for one in both)


def compare(
    one: Annotated[Path, typer.Argument(help="A report.", metavar="REPORT")],
    other: Annotated[Path, typer.Argument(help="A report on the same questions.", metavar="REPORT")],
    common: Annotated[
        bool, typer.Option("--common", help="Compare the questions that both have, and leave out the others.")
    ] = False,
    output: Reports = None,
    rounds: Rounds = 1000,
    as_json: AsJson = False,
) -> None:
    """Compare two reports on the same questions. Differences come with how likely they are by chance.

    Example: earthgpt compare first.json second.json -o table.md
    """
    from earthgpt.pages import compared_tables, save_compared
    from earthgpt.reports import Report
    from earthgpt.reports import compare as run

    for path in output or ():
        _writable(path)
    with waiting("Comparing ..."):
        found = run(Report.read(one), Report.read(other), common, rounds, names=(str(one), str(other)))
    names = (one.stem, other.stem) if one.stem != other.stem else (str(one), str(other))
    for path in output or ():
        save_compared(path, found, names)
        note(f"Wrote {path}")
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        _print_tables(compared_tables(found, names))


def _writable(path: Path) -> None:
    """Told before the work: a report that could not be written after it."""
    from earthgpt.pages import ending_of

    ending_of(path)
    if not path.absolute().parent.is_dir():
        raise EarthGPTError(f"There is no folder {path.parent} for {path.name}.")


def _pairs(words: Sequence[str] | None, example: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in words or ()]
    if wrong := [word for word, sign, value in pairs if not (word and sign and value)]:
        raise EarthGPTError(f"Write NAME=VALUE, as in {example}; not {wrong[0]!r}.")
    return {name: value for name, _, value in pairs}


def _options(words: Sequence[str] | None) -> dict[str, Any]:
    """Values of options: true, false and whole numbers are what they look like."""
    found = _pairs(words, "--option protocol=voc07")
    known = {"true": True, "false": False}
    return {name: known.get(value, int(value) if value.isdecimal() else value) for name, value in found.items()}


def _print_tables(tables: Sequence[Any]) -> None:
    from rich.text import Text

    for one in tables:
        table = Table(title=Text(one.title), title_justify="left", box=None, pad_edge=False)
        for i, name in enumerate(one.header):
            table.add_column(Text(name), justify="right" if i else "left")
        for row in one.rows:
            table.add_row(*map(Text, row))
        print_wide(table)
        out.print(f"{one.note}\n" if one.note else "", highlight=False, soft_wrap=True, markup=False)

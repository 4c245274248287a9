"""Commands on data sets, on tasks, and on the instruction sets that are built of both."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from earthgpt.cli.console import err, note, out, print_wide, say, waiting
from earthgpt.cli.options import AsJson, Overrides, Recipe
from earthgpt.types import EarthGPTError

Name = Annotated[str, typer.Argument(help="See: earthgpt datasets list", metavar="NAME")]


def build(
    recipe: Recipe,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Build an instruction set in the form of MMRS-1M. A build that was stopped goes on.

    Example: earthgpt build build_mmrs policy=clean output=data/mmrs-clean
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from earthgpt.building import build as run
    from earthgpt.config import BuildRecipe, load_recipe

    loaded = load_recipe(recipe, overrides or (), BuildRecipe)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def told(name: str, done: int, total: int | None) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=done, total=total)

        built = run(loaded, told)
    if as_json:
        typer.echo(json.dumps(built.manifest))
    else:
        _print_manifest(built.manifest, built.folder)
    if built.failed:
        raise EarthGPTError(f"{len(built.failed)} data set(s) failed; the others are in {built.folder}.")


def _print_manifest(manifest: dict[str, Any], folder: Path) -> None:
    table = Table("data set", "images", "records", "turns", "Table I", "left out or mended", "leaks")
    for report in manifest["sets"]:
        paper = report["turns_of_the_paper"]
        defects, leaks = ("; ".join(f"{kind}: {count:,}" for kind, count in report[what].items())
                          for what in ("defects", "leaks"))  # fmt: skip
        numbers = (f"{report[what]:,}" for what in ("images", "records", "turns"))
        table.add_row(report["dataset"], *numbers, f"{paper:,}" if paper else "", defects, leaks)
    table.add_section()
    table.add_row("all", *(f"{manifest['totals'][what]:,}" for what in ("images", "records", "turns")))
    out.print(table)
    reasons: dict[str, list[str]] = {}
    for name, why in manifest["left_out"].items():
        reasons.setdefault("no folder" if why.startswith("no folder") else why, []).append(name)
    for why, names in reasons.items():
        out.print(f"Left out ({why}): {', '.join(names)}", highlight=False, soft_wrap=True)
    for name, why in manifest["failed"].items():
        out.print(f"Failed: {name}: {why}", highlight=False, soft_wrap=True)
    if manifest["evaluation_sets_not_there"]:
        names = ", ".join(manifest["evaluation_sets_not_there"])
        out.print(f"Not there, so not compared with: {names}", highlight=False, soft_wrap=True)
    out.print(
        f"Wrote {folder / 'mmrs.json'}, mmrs.jsonl and manifest.json", highlight=False, markup=False, soft_wrap=True
    )


def validate(
    file: Annotated[Path, typer.Argument(help="Conversations in a .json or .jsonl file.", metavar="FILE")],
    images: Annotated[
        Path | None, typer.Option(help="The folder that the images' paths start from; looks whether they are there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go through an instruction set and list what is wrong in it.

    Example: earthgpt validate MMRS-1M/data/json/total.json --images MMRS-1M
    """
    from dataclasses import asdict

    from earthgpt.conversations import validate as run

    with waiting(f"Reading {file} ..."):
        found = run(file, images)
    lines = [f"{found.records:,} records, {found.turns:,} turns, {found.images:,} images"]
    for kind, times in found.defects.items():
        lines.append(f"{times:,} {kind} (records {', '.join(map(str, found.first[kind]))} ...)")
    say(asdict(found), as_json, "\n".join(lines))
    if found.defects:
        raise EarthGPTError(f"{file} has defects of {len(found.defects)} kind(s).")


def list_datasets(as_json: AsJson = False) -> None:
    """List the data sets.

    Example: earthgpt datasets list
    """
    from earthgpt import lookup

    cards = {name: lookup.find("datasets", name) for name in lookup.names("datasets")}
    if as_json:
        typer.echo(json.dumps({name: _card(card) for name, card in cards.items()}))
        return
    table = Table("name", "sensor", "main task", "images", "turns in Table I", "licence", box=None, pad_edge=False)
    for name, card in cards.items():
        images = card.counts.get("total") or sum(card.counts.values())
        turns = card.paper.turns if card.paper and card.paper.turns else None
        numbers = (f"{number:,}" if number else "" for number in (images, turns))
        table.add_row(name, ", ".join(card.sensors), card.tasks[0], *numbers, card.licence)
    print_wide(table)


def check_dataset(
    name: Name,
    root: Annotated[Path, typer.Argument(help="The folder its download unpacks to.", metavar="ROOT")],
    policy: Annotated[str, typer.Option(help="Count turns as the paper took the set, or for a clean build.")] = "paper",
    as_json: AsJson = False,
) -> None:
    """Compare a download with what its owners and the paper state. Defects are listed; images may be missing.

    Example: earthgpt datasets check hit_uav data/HIT-UAV
    """
    from earthgpt.checking import check, what_is_done

    if policy not in ("paper", "clean"):
        raise EarthGPTError(f"The policy is paper or clean; not {policy!r}.")
    with waiting(f"Reading {root} ...") as status:

        def told(split: str, images: int) -> None:
            if status is not None:
                status.update(f"Reading {root}: {images:,} images of {split} ...")

        found = check(name, root, policy, told)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    table = Table("", "found", "expected", "", title=f"{found.title} in {root}")
    for split, count in found.splits.items():
        table.add_row(f"images, {split}", *_compared(count.images, count.images_expected))
        if count.objects is not None or count.objects_expected is not None:
            table.add_row(f"{found.unit}, {split}", *_compared(count.objects or 0, count.objects_expected))
    table.add_section()
    for what, number in found.found.items():
        if number is not None or found.expected[what] is not None:
            name = found.unit if what == "objects" else what
            table.add_row(name, *_compared(number or 0, found.expected[what]))
    out.print(table)
    if found.defects:
        defects = Table("defect", "times", "what is done about it")
        for kind, times in found.defects.items():
            defects.add_row(kind, f"{times:,}", what_is_done(kind))
        out.print(defects)
    for split, count in found.splits.items():
        if count.problem:
            out.print(f"{split}: {count.problem}", highlight=False)


def _compared(found: int, expected: int | None) -> tuple[str, str, str]:
    if expected is None:
        return f"{found:,}", "not known", ""
    return f"{found:,}", f"{expected:,}", "yes" if found == expected else f"{found - expected:+,}"


def show_dataset(
    name: Name,
    root: Annotated[Path | None, typer.Argument(help="Its folder, for a picture.", metavar="ROOT")] = None,
    preview: Annotated[Path | None, typer.Option(help="Draw samples with their boxes and answers here (.png).")] = None,
    split: Annotated[str | None, typer.Option(help="The split to draw; the first without it.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Draw samples and questions of this task only; of all without it.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many samples are drawn.")] = 12,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show the card of a data set, and what is in it as a picture.

    \b
    Example: earthgpt datasets show nwpu_vhr10 "data/NWPU VHR-10 dataset" --preview vhr10.png
    Example: earthgpt datasets show synthetic --split val --preview phrases.png --task visual_grounding
    """
    from earthgpt import lookup

    card = lookup.find("datasets", name)
    if preview is None:
        if task is not None:
            raise EarthGPTError("--task chooses what is drawn: say where with --preview.")
        value = _card(card)
        say(value, as_json, "\n".join(f"{key:10} {_plain(one)}" for key, one in value.items()))
        return
    from earthgpt.previews import preview as draw

    with waiting(f"Reading {root or name} ..."):
        draw(name, root or "", split or card.splits[0], preview, count, seed, task)
    note(f"Wrote {preview}")


def _card(card: Any) -> dict[str, Any]:
    value = {
        "title": card.title, "sensors": list(card.sensors), "tasks": list(card.tasks), "splits": list(card.splits),
        "licence": card.licence, "homepage": card.homepage, "citation": card.citation, "classes": list(card.classes),
        "images": dict(card.counts), "objects": dict(card.objects),
    }  # fmt: skip
    if card.paper:
        paper = {"splits": list(card.paper.splits), "turns": card.paper.turns, "share": card.paper.share}
        value["paper"] = {key: one for key, one in paper.items() if one is not None}
    return value


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def list_tasks(as_json: AsJson = False) -> None:
    """List the tasks.

    Example: earthgpt tasks list
    """
    from earthgpt import lookup

    modules = {name: import_module(f"earthgpt.tasks.{name}") for name in lookup.names("tasks")}
    found = {name: (module.__doc__ or "").partition("\n")[0] for name, module in modules.items()}
    say(found, as_json, "\n".join(f"{name:26}{text}" for name, text in found.items()))

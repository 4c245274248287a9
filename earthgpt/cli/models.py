"""Commands that list, size, assemble, export and merge models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from earthgpt.cli.console import be_quiet, out, say, waiting
from earthgpt.cli.options import AsJson, ImageSize
from earthgpt.types import EarthGPTError


def list_models(as_json: AsJson = False) -> None:
    """List the models of the package, and presets of public parts.

    Example: earthgpt models list
    """
    be_quiet()
    from earthgpt.model.loading import names
    from earthgpt.model.presets import PRESETS

    rows = [{"name": name, "kind": "ready"} for name in names()]
    rows += [
        {"name": name, "kind": "preset", "vit": one.vit, "cnn": one.cnn, "text": one.text}
        for name, one in PRESETS.items()
    ]
    parts = (", ".join(row[part] for part in ("vit", "cnn", "text") if part in row) for row in rows)
    lines = (f"{row['name']:16}{row['kind']:10}{one}".rstrip() for row, one in zip(rows, parts, strict=True))
    say(rows, as_json, "\n".join(lines))


def show_model(
    name: Annotated[str, typer.Argument(help="A preset, or a model's name, folder or hub id.", metavar="NAME")],
    image_size: ImageSize = None,
    as_json: AsJson = False,
) -> None:
    """Show how large a model is, part by part, what its detector knows, and the runs that trained it. A preset needs no
    download.

    Example: earthgpt models show earthgpt-7b --image-size 336
    """
    be_quiet()
    from dataclasses import asdict

    from earthgpt.model.presets import configuration, on_meta, size_of

    config = configuration(name, image_size)
    size, known = size_of(on_meta(config)), (config.dense or {}).get("sensors") or {}
    if as_json:
        typer.echo(json.dumps({"name": name, **asdict(size), "classes": known, "runs": config.runs}))
        return
    _print_size(name, size)
    for sensor, objects in known.items():
        out.print(f"Its detector knows, in {sensor} images: {', '.join(objects)}", highlight=False, soft_wrap=True)
    if config.runs:
        out.print("Trained in these runs:", highlight=False)
    for run in config.runs:
        seen = run["steps"] * run["batch_size"]
        sources = ", ".join(one["dataset"] for one in run["sources"])
        text = f"{run['steps']:,} steps, {seen:,} images of {sources}"
        out.print(text, highlight=False, soft_wrap=True)


def _print_size(title: str, size: Any) -> None:
    table = Table("part", title=title)
    table.add_column("parameters", justify="right")
    for part, count in size.parameters.items():
        if part == "total":
            table.add_section()
        table.add_row(part.replace("_", " "), f"{count:,}")
    out.print(table)
    out.print(
        f"An image of {size.image_size} px takes {size.tokens_per_image:,} places: {size.grid} x {size.grid} visual "
        f"tokens of {size.visual_width:,} channels, a start and an end.",
        highlight=False,
        soft_wrap=True,
    )


def assemble_model(
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder of the model.")],
    preset: Annotated[str | None, typer.Option(help="Takes the parts of a preset that are not named.")] = None,
    vit: Annotated[str | None, typer.Option(help="Folder or hub id of the vision transformer.")] = None,
    cnn: Annotated[str | None, typer.Option(help="Folder or hub id of the convolutional network.")] = None,
    text: Annotated[str | None, typer.Option(help="Folder or hub id of the language model.")] = None,
    image_size: ImageSize = 448,
    dtype: Annotated[str, typer.Option(help="Of the weights: bfloat16, float16 or float32.")] = "bfloat16",
    seed: Annotated[int, typer.Option(help="Of the random start of the projector.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make an untrained model of public parts. Parts keep their weights; the projector is new.

    Example: earthgpt models assemble --preset earthgpt-7b --text ~/Llama-2-7b-hf --image-size 448 -o models/7b
    """
    be_quiet()
    from dataclasses import asdict

    from earthgpt.model.presets import preset as find

    parts = {"vit": vit, "cnn": cnn, "text": text}
    if preset:
        parts = {part: given or getattr(find(preset), part) for part, given in parts.items()}
    if missing := [f"--{part}" for part, given in parts.items() if not given]:
        raise EarthGPTError(f"Name {', '.join(missing)}, or a --preset, whose parts are then taken.")
    from earthgpt.model.assemble import assemble as run

    with waiting("Assembling the model ..."):
        made = run(output, **parts, image_size=image_size, dtype=dtype, seed=seed)
    if as_json:
        value = {"folder": str(made.folder), "parts": parts, "dtype": dtype}
        typer.echo(json.dumps({**value, **asdict(made.size), "notes": list(made.notes)}))
        return
    _print_size(str(output), made.size)
    for part, place in parts.items():
        out.print(f"{part}: {place}", highlight=False, soft_wrap=True)
    for note in made.notes:
        out.print(note, highlight=False, soft_wrap=True)
    out.print(
        f"Wrote {output} in {dtype}. It is untrained: see recipes/align.toml",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def export_model(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.", metavar="RUN")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder of the model.")],
    as_json: AsJson = False,
) -> None:
    """Write the model of a run that is not finished. It is that of the latest checkpoint, in plain safetensors.

    Example: earthgpt models export runs/instruct -o models/halfway
    """
    be_quiet()
    from earthgpt.training import export

    step = export(run, output)
    say({"folder": str(output), "step": step}, as_json, f"Wrote the model after step {step} to {output}")


def merge_model(
    model: Annotated[str, typer.Argument(help="A model's name, folder or hub id.", metavar="MODEL")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder of the merged model.")],
    as_json: AsJson = False,
) -> None:
    """Leave out what only training needs. Bias tuning and LoRA are folded into plain layers; the answers stay the
    same, from a language model of the usual form.

    Example: earthgpt models merge runs/instruct/model -o models/merged
    """
    be_quiet()
    from earthgpt.model.assemble import merge as run

    with waiting("Merging ..."):
        changed = run(model, output)
    say({"folder": str(output), "layers": changed}, as_json, f"Merged {changed} layers into {output}")

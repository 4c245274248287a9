"""Commands that train, and that say what can be trained here."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from earthgpt.cli.console import be_quiet, out, waiting
from earthgpt.cli.options import AsJson, ImageSize, Overrides, Recipe


def train(
    recipe: Recipe,
    overrides: Overrides = None,
) -> None:
    """Train as a recipe says. A run that was stopped goes on.

    \b
    Example: earthgpt train debug steps=20 output=runs/first
    Example: earthgpt train my/recipe.toml
    """
    be_quiet()
    from earthgpt.config import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    from earthgpt.training import train as run

    run(loaded)


def doctor(
    memory: Annotated[
        float | None, typer.Option("--memory", min=0.1, help="GB of each device; this machine's without it.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--devices", min=1, help="How many devices share a model; this machine's without it.")
    ] = None,
    image_size: ImageSize = 224,
    as_json: AsJson = False,
) -> None:
    """Say what this machine is and what can be trained on it. --memory asks for another machine.

    Example: earthgpt doctor --memory 24
    """
    be_quiet()
    from dataclasses import asdict

    from earthgpt.doctor import LABELLED, TEXT, examine

    with waiting("Looking ..."):
        found = examine(memory and int(memory * 2**30), processes, image_size)
    if as_json:
        devices = [{**asdict(device), "device": str(device.device)} for device in found.devices]
        typer.echo(json.dumps({**asdict(found), "devices": devices}))
        return
    there = (f"{name} {version}" for name, version in found.versions.items() if version)
    out.print(", ".join(there), highlight=False, soft_wrap=True)
    missing = [name for name, version in found.versions.items() if not version]
    if missing:
        out.print(f"not installed: {', '.join(missing)}", highlight=False)
    for device in found.devices:
        memory_of = f"{device.memory / 2**30:.1f} GB of memory, {device.free / 2**30:.1f} GB of it free"
        out.print(f"{device.device}: {device.name}, {memory_of}", highlight=False, soft_wrap=True)
    out.print(f"a bfloat16 product runs at {found.rate / 1e12:.2f} TFLOP/s", highlight=False)
    size, many = f"{found.memory / 2**30:.1f} GB", f"{found.processes} device{'s' * (found.processes > 1)}"
    table = Table("model", "stage (recipe)", title=f"Training at {image_size} px on {many} of {size}")
    for column in ("GB needed for 1 image", "images at a time", "checkpointing"):
        table.add_column(column, justify="right")
    for fit in found.fits:
        table.add_row(
            fit.model, fit.stage, f"{fit.needed / 2**30:.1f}", f"{fit.images:,}" if fit.images else "none fits",
            "yes" if fit.checkpointing else "no",
        )  # fmt: skip
    out.print(table)
    out.print(
        f"An image comes with {TEXT} tokens of text, {LABELLED} of them learned. Set accumulate so that batch_size / "
        f"(devices x accumulate) is no more than the images at a time.",
        highlight=False,
        soft_wrap=True,
    )

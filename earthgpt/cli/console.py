"""What every command needs: the two streams, the model, and values as lines."""

from __future__ import annotations

import gc
import json
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from earthgpt.cli.options import Look
from earthgpt.types import Box, Region

out = Console()
err = Console(stderr=True)


def waiting(what: str) -> AbstractContextManager:
    """A sign of life while something takes long; none where no one looks."""
    return err.status(what) if err.is_terminal else nullcontext()


def be_quiet() -> None:
    """Libraries keep their notes to themselves, errors still come through; and threads that wait soon sleep.

    Those of OpenMP spin while they wait, and where the processors are busy with something else they take the time that
    the work would need: a caption then takes seconds, not a tenth of one. Threads that sleep at once double its time on
    a quiet machine; 3,000 turns cost little on either (docs/results.md, Speed).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # of GNU's; others go by the policy
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def load_model(model: str, dtype: str | None = None, compiled: bool | None = False) -> Any:
    be_quiet()
    # Imports and weights leave no garbage, and looking for it takes a second of four.
    gc.disable()
    try:
        from earthgpt.assistant import load

        with waiting("Loading the model ..."):
            return load(model, dtype=dtype, compiled=compiled)
    finally:
        gc.freeze()
        gc.enable()


def ready(image: str | Path, how: Look) -> tuple[Any, Any]:
    """The image first, so that a wrong file name is told at once; then the model."""
    from earthgpt.geo.raster import open_raster

    raster = open_raster(image, how.sensor, **how.reading)
    if not raster.pixels.any():
        note(f"{raster.name}: every pixel is black")
    return load_model(how.model), raster


def note(text: str) -> None:
    """A line beside the values, on standard error, as it is."""
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def say(value: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(value) if as_json else text)


def print_wide(table: Table) -> None:
    """A table that is not squeezed: a terminal that is too narrow breaks its lines."""
    for column in table.columns:
        column.no_wrap = True
    Console(width=max(out.width, 160)).print(table)


def region_value(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """A region as plain values: pixel corners of the image."""
    corners = [[round(x * size[0], 1), round(y * size[1], 1)] for x, y in region.box.corners]
    value: dict[str, Any] = {"label": region.label, "corners": corners}
    return value if region.score is None else {**value, "score": round(region.score, 4)}


def region_line(region: Region, size: tuple[int, int]) -> str:
    box = region.box
    values = box.to_pixels(size) if isinstance(box, Box) else [v for point in box.to_pixels(size) for v in point]
    numbers = ", ".join(f"{value:.0f}" for value in values)
    return f"{region.label}  [{numbers}] px" + ("" if region.score is None else f"  score {region.score:.2f}")

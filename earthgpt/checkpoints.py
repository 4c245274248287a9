"""What a training run leaves on disk: checkpoints to go on from, and the model."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from transformers.utils import logging

from earthgpt.config import Recipe
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.parallel import Ranks
from earthgpt.types import EarthGPTError

# A run may go on with others of these.
FREE = {"save_every", "keep", "workers", "output", "accumulate"}


def save(folder: Path, step: int, model, optimizer, ranks: Ranks, keep: int = 1) -> None:
    """A checkpoint ``<folder>/<step>`` that is either whole or not there; the ``keep`` latest stay.

    Every process writes its part (torch.distributed.checkpoint), so any number of processes can go on from it.
    """
    fresh, place = folder / f".{step:08d}.new", folder / f"{step:08d}"
    if ranks.first:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
    ranks.wait()
    weights, moments = get_state_dict(model, optimizer)
    with _alone_is_fine():
        dcp.save({"model": weights, "optimizer": moments, "step": step}, checkpoint_id=fresh)
    ranks.wait()
    if ranks.first:
        shutil.rmtree(place, ignore_errors=True)
        os.replace(fresh, place)
        for old in sorted(_whole(folder))[:-keep]:
            shutil.rmtree(old)
    ranks.wait()


def restore(folder: Path, recipe: Recipe, model, optimizer) -> int:
    """Weights and optimiser state of the latest checkpoint; returns the step to go on with, 0 when there is none.

    Raises EarthGPTError when the run in this folder was started from another recipe.
    """
    found = _whole(folder)
    if not found:
        return 0
    old = Recipe(**json.loads((folder.parent / "recipe.json").read_text()))
    bound = Recipe.model_fields.keys() - FREE
    changed = sorted(key for key in bound if getattr(old, key) != getattr(recipe, key))
    if changed:
        raise EarthGPTError(
            f"{folder.parent} holds a run of another recipe ({', '.join(changed)} changed); give another output folder."
        )
    weights, moments = get_state_dict(model, optimizer)
    kept = FileSystemReader(found[-1]).read_metadata().state_dict_metadata
    missing = [name for name in weights if f"model.{name}" not in kept]
    if missing:
        raise EarthGPTError(f"The checkpoint {found[-1]} is of another model: it has no {missing[0]}.")
    state = {"model": weights, "optimizer": moments, "step": 0}
    with _alone_is_fine():  # what never had a gradient (DINOv2's mask token) has no moments either
        dcp.load(state, checkpoint_id=found[-1], planner=DefaultLoadPlanner(allow_partial_load=True))
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return state["step"]


@contextmanager
def _alone_is_fine() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _whole(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


def save_model(folder: Path, model, processor: EarthGPTProcessor, ranks: Ranks) -> None:
    """The model in bfloat16 and its processor, complete or not at all; the first process writes."""
    logging.disable_progress_bar()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)  # of the first process alone, when there are several
    if ranks.first:
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        written = EarthGPTForConditionalGeneration(model.config).to(torch.bfloat16)
        written.load_state_dict(weights)
        written.generation_config = model.generation_config
        written.save_pretrained(fresh)
        processor.save_pretrained(fresh)
        swap(fresh, folder)
    ranks.wait()


def swap(fresh: Path, folder: Path) -> None:
    """Puts a new folder in the place of another."""
    old = folder.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)

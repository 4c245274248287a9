"""What a training run leaves on disk: checkpoints to go on from, and the model."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException, DefaultLoadPlanner, FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from transformers.utils import logging

from earthgpt.config import Recipe, saved_recipe
from earthgpt.files import whole_folder
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.parallel import Ranks
from earthgpt.types import EarthGPTError

# A run may go on with others of these.
FREE = {
    "save_every", "keep", "workers", "output", "accumulate", "checkpointing", "compile", "cache", "validate_every",
    "validation", "validation_questions", "calibrate", "wandb", "pixels_gb", "after",
    "broken",
}  # fmt: skip


class Checkpoints:
    """The checkpoints of a run: ``<folder>/<step>`` is either whole or not there, and the ``keep`` latest stay.

    Every process writes its part (torch.distributed.checkpoint), so any number of processes can go on from it. Writing
    goes on while training does: ``save`` copies the state, ``put_in_place`` gives a checkpoint its name once every
    process has written its part. What is frozen is left out: it is in the model that the run began with.
    """

    def __init__(self, folder: Path, recipe: Recipe, ranks: Ranks):
        self.folder, self.recipe, self.ranks = folder, recipe, ranks
        self.group = ranks.own_group()  # writing must not mix its messages with those of training
        self.writing: tuple[int, Future] | None = None
        frozen_is_known = isinstance(recipe.model, str)
        self.options = StateDictOptions(ignore_frozen_params=frozen_is_known, strict=not frozen_is_known)

    def save(self, step: int, model, optimizer) -> None:
        """Begins to write the state after ``step`` steps."""
        self.put_in_place()
        fresh = self._fresh(step)
        if self.ranks.first:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
        self.ranks.wait()
        weights, moments = get_state_dict(model, optimizer, options=self.options)
        state = {"model": weights, "optimizer": moments, "step": step}
        future = dcp.async_save(state, checkpoint_id=fresh, process_group=self.group)
        self.writing = step, future

    @property
    def written(self) -> bool:
        """Whether this process has written its part of a checkpoint that has no name yet."""
        return self.writing is not None and self.writing[1].done()

    def put_in_place(self) -> None:
        """Waits for what is being written, by all processes, and gives it its name.

        Raises what writing raised (a full disk); the checkpoints before stay.
        """
        if self.writing is None:
            return
        (step, future), self.writing = self.writing, None
        future.result()
        self.ranks.wait()
        if self.ranks.first:
            place = self.folder / f"{step:08d}"
            shutil.rmtree(place, ignore_errors=True)
            os.replace(self._fresh(step), place)
            for old in _whole(self.folder)[: -self.recipe.keep]:
                shutil.rmtree(old)
        self.ranks.wait()

    def restore(self, model, optimizer) -> int:
        """Weights and optimiser state of the latest checkpoint; returns the step to go on with, 0 when there is none.

        Raises EarthGPTError when the run in this folder was started from another recipe, or with another model.
        """
        found = _whole(self.folder)
        if not found:
            return 0
        self._refuse_another_recipe()
        weights, moments = get_state_dict(model, optimizer, options=self.options)
        with _damage_told(found[-1]):
            kept = FileSystemReader(found[-1]).read_metadata().state_dict_metadata
        for name, weight in weights.items():
            stored = kept.get(f"model.{name}")
            if stored is None or getattr(stored, "size", weight.shape) != weight.shape:
                has = "no such tensor" if stored is None else f"one of {tuple(stored.size)}"
                raise EarthGPTError(
                    f"The checkpoint {found[-1]} is of another model: for {name} {tuple(weight.shape)} it has {has}. "
                    f"Give another output folder, or the model that the run began with."
                )
        state = {"model": weights, "optimizer": moments, "step": 0}
        # What never had a gradient (DINOv2's mask token) has no moments either.
        with _damage_told(found[-1]):
            dcp.load(state, checkpoint_id=found[-1], planner=DefaultLoadPlanner(allow_partial_load=True))
        set_state_dict(
            model,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=self.options,
        )
        return state["step"]

    def _refuse_another_recipe(self) -> None:
        run = self.folder.parent
        old = saved_recipe(run)
        bound = Recipe.model_fields.keys() - FREE
        changed = sorted(key for key in bound if getattr(old, key) != getattr(self.recipe, key))
        if changed:
            raise EarthGPTError(
                f"{run} holds a run of another recipe ({', '.join(changed)} changed); give another output folder."
            )

    def _fresh(self, step: int) -> Path:
        return self.folder / f".{step:08d}.new"


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (CheckpointException, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        causes = [error]
        if isinstance(error, CheckpointException):
            causes = [one[0] if isinstance(one, tuple) else one for one in error.failures.values()]
        elsewhere = (MemoryError, torch.OutOfMemoryError)  # and the disk, or who may read it
        for one in causes:
            if isinstance(one, elsewhere) or (isinstance(one, OSError) and not isinstance(one, FileNotFoundError)):
                raise
        reason = " ".join(str(causes[0]).split())[:200] or type(causes[0]).__name__
        raise EarthGPTError(
            f"The checkpoint {path} is damaged ({reason}): delete it, and the run goes on from the one before."
        ) from error


def _whole(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


def save_model(folder: Path, model, processor: EarthGPTProcessor, ranks: Ranks) -> None:
    """The model in bfloat16 and its processor, complete or not at all; the first process writes."""
    logging.disable_progress_bar()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)  # of the first process alone, when there are several
    if ranks.first:
        with torch.device("meta"):  # no second copy of the weights
            written = EarthGPTForConditionalGeneration(model.config).to(torch.bfloat16)
        weights = {
            name: value.to(torch.bfloat16) if value.is_floating_point() else value for name, value in weights.items()
        }
        written.load_state_dict(weights, assign=True)
        written.tie_weights()
        written.generation_config = model.generation_config
        with whole_folder(folder) as fresh:
            written.save_pretrained(fresh)
            processor.save_pretrained(fresh)
    ranks.wait()

"""Training: one loop, top to bottom. A stage is another recipe."""

from __future__ import annotations

import fnmatch
import json
import math
import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from earthgpt.config import NewModel, Recipe, load_recipe, save_recipe
from earthgpt.mixture import Collate, Mixture, Part, open_sources
from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.loading import load
from earthgpt.model.tokenization import train_tokenizer
from earthgpt.model.vision import start_positions
from earthgpt.types import EarthGPTError


@dataclass(frozen=True)
class Trained:
    """What a run leaves: the folder with model and processor, and the loss of every step this process took."""

    folder: Path
    losses: tuple[float, ...]


def train(recipe: Recipe | str | Path) -> Trained:
    """Trains as the recipe says, in its ``output`` folder; goes on from the checkpoint there when there is one.

    An interrupted run that goes on gives the same losses as one that was not: what step i sees and draws depends on
    the recipe and i alone. Writes ``log.jsonl`` (a line for each step), TensorBoard events in ``tensorboard/`` when
    tensorboard is installed, ``checkpoint/``, and at the end ``model/``.
    Raises EarthGPTError for what a user can mend: no data, no such model, patterns that match no parameter.
    """
    recipe = load_recipe(recipe) if not isinstance(recipe, Recipe) else recipe
    output = Path(recipe.output)
    output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    torch.manual_seed(recipe.seed)
    parts = open_sources(recipe)
    for part in parts:
        notes = "".join(f"; {kind}: {count:,}" for kind, count in sorted((+part.defects).items()))
        console.print(f"{part.name}: {len(part):,} images{notes}")
    model, processor = prepare(recipe, parts)
    trainable = choose_trainable(model, recipe.trainable)
    model.to(device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    plain = [parameter for parameter in parameters if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=recipe.betas,
    )
    checkpoint = output / "checkpoint"
    start = 0
    if checkpoint.is_dir():
        start = restore(checkpoint, recipe, model, optimizer, device)
        console.print(f"Going on from step {start}.")
    save_recipe(recipe, output / "recipe.json")
    console.print(
        f"{sum(p.numel() for p in parameters):,} of {sum(p.numel() for p in model.parameters()):,} parameters "
        f"in {len(trainable)} tensors are trained, on {device}."
    )

    batches = DataLoader(
        Mixture(recipe, parts, processor),
        batch_size=recipe.batch_size,
        sampler=range(start * recipe.batch_size, recipe.steps * recipe.batch_size),
        num_workers=recipe.workers,
        collate_fn=Collate(processor),
        prefetch_factor=4 if recipe.workers else None,
    )
    writer = open_tensorboard(output)
    losses, left_out = [], Counter()
    began = time.perf_counter()
    with (output / "log.jsonl").open("a") as log, progress_bar(console, recipe, start) as advance:
        for step, (batch, missed) in enumerate(batches, start):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule(step, recipe)
            torch.manual_seed(recipe.seed + step)
            train_mode(model)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                loss = model(**batch.to(device), use_cache=False).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            left_out.update(missed)
            if not math.isfinite(losses[-1]):
                raise EarthGPTError(f"The loss is {losses[-1]} at step {step}; lower the learning rate.")

            rate = (step + 1 - start) * recipe.batch_size / (time.perf_counter() - began)
            figures = {
                "loss": losses[-1],
                "lr": optimizer.param_groups[0]["lr"],
                "norm": float(norm),
                "images_per_s": rate,
            }
            log.write(json.dumps({"step": step, **figures}) + "\n")
            for name, value in figures.items() if writer else ():
                writer.add_scalar(name, value, step)
            advance(losses[-1], rate)
            if (step + 1) % recipe.save_every == 0:
                log.flush()
                save(checkpoint, step + 1, model, optimizer)
    if writer:
        writer.close()
    for kind, count in sorted(left_out.items()):
        console.print(f"{count:,} {kind}")
    folder = output / "model"
    save_model(folder, model, processor)
    console.print(f"The model is in {folder}")
    return Trained(folder, tuple(losses))


# --- model -------------------------------------------------------------------------------------------------------


def prepare(recipe: Recipe, parts: list[Part]) -> tuple[EarthGPTForConditionalGeneration, EarthGPTProcessor]:
    """The model that a recipe starts from, and its processor."""
    if isinstance(recipe.model, NewModel):
        model, processor = new_model(recipe, parts)
    else:
        model, processor = load(recipe.model)
    if recipe.image_size:
        model.config.image_size = processor.image_size = recipe.image_size
    if recipe.bias_tuning:
        model.add_bias_tuning()
    return model, processor


def new_model(recipe: Recipe, parts: list[Part]) -> tuple[EarthGPTForConditionalGeneration, EarthGPTProcessor]:
    """A model with random weights, and a tokenizer learned from the text of the mixture."""
    new = recipe.model
    kept = Path(recipe.output) / "tokenizer"
    if not kept.is_dir():  # a run that goes on keeps the words it began with, whatever became of the data
        fresh = kept.with_suffix(".new")
        train_tokenizer(Mixture(recipe, parts, None).texts(), new.vocabulary).save_pretrained(fresh)
        _swap(fresh, kept)
    tokenizer = AutoTokenizer.from_pretrained(kept)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    vit = AutoConfig.for_model(**new.vit)
    config = EarthGPTConfig(
        vit_config=vit,
        cnn_config=AutoConfig.for_model(**new.cnn),
        text_config=AutoConfig.for_model(**new.text, vocab_size=len(tokenizer), **ids),
        image_size=recipe.image_size or vit.image_size,
        vit_layers=new.vit_layers and list(new.vit_layers),
        cnn_stages=new.cnn_stages and list(new.cnn_stages),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = EarthGPTProcessor(
        tokenizer,
        image_size=config.image_size,
        patch_size=vit.patch_size,
        user="<|user|>",
        assistant="<|assistant|>",
    )
    model = EarthGPTForConditionalGeneration(config)
    start_positions(model.vision_encoder.vit)
    return model, processor


def choose_trainable(model: torch.nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Freezes all parameters but those whose names match a pattern; returns the names that do.

    Raises EarthGPTError for a pattern that matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise EarthGPTError(f"trainable: no parameter of the model is named like {pattern!r}.")
    chosen = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return sorted(chosen)


def train_mode(model: torch.nn.Module) -> None:
    """Training mode where something is trained; frozen parts stay as in use (batch statistics, dropout)."""
    model.eval()
    for module in model.modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            module.training = True


def schedule(step: int, recipe: Recipe) -> float:
    """Part of the peak learning rate: linear warm-up, then a cosine to 0."""
    warmup = max(1, round(recipe.warmup * recipe.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, recipe.steps - warmup)))


# --- files -------------------------------------------------------------------------------------------------------


def save(folder: Path, step: int, model, optimizer) -> None:
    """A checkpoint that is either whole or not there: written beside and then put in place."""
    state = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    torch.save(state, fresh / "state.pt")
    _swap(fresh, folder)


def restore(folder: Path, recipe: Recipe, model, optimizer, device) -> int:
    """Weights and optimiser state of a checkpoint; returns the step to go on with.

    Raises EarthGPTError when the run in this folder was started from another recipe.
    """
    old = Recipe(**json.loads((folder.parent / "recipe.json").read_text()))
    bound = Recipe.model_fields.keys() - {"save_every", "workers", "output"}
    changed = sorted(key for key in bound if getattr(old, key) != getattr(recipe, key))
    if changed:
        raise EarthGPTError(
            f"{folder.parent} holds a run of another recipe ({', '.join(changed)} changed); give another output folder."
        )
    state = torch.load(folder / "state.pt", map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def save_model(folder: Path, model, processor) -> None:
    """The model in bfloat16 and its processor, complete or not at all."""
    logging.disable_progress_bar()
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    dtype = model.dtype
    model.to(torch.bfloat16).save_pretrained(fresh)
    model.to(dtype)
    processor.save_pretrained(fresh)
    _swap(fresh, folder)


def _swap(fresh: Path, folder: Path) -> None:
    old = folder.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def open_tensorboard(output: Path):
    """A TensorBoard writer, or None where tensorboard is not installed (extra "train")."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(output / "tensorboard")


class progress_bar:
    """A bar with loss and throughput on a terminal; a line every hundred steps elsewhere."""

    def __init__(self, console: Console, recipe: Recipe, start: int):
        self.console, self.total, self.step = console, recipe.steps, start
        self.bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=recipe.steps, completed=start, figures="")

    def __enter__(self):
        self.bar.start()
        return self.advance

    def advance(self, loss: float, rate: float) -> None:
        self.step += 1
        figures = f"loss {loss:.3f}, {rate:.1f} images/s"
        self.bar.update(self.task, completed=self.step, figures=figures)
        if not self.console.is_terminal and (self.step % 100 == 0 or self.step == self.total):
            self.console.print(f"step {self.step} of {self.total}: {figures}")

    def __exit__(self, *failure):
        self.bar.stop()

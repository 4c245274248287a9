"""Training: one loop, top to bottom. A stage is another recipe."""

from __future__ import annotations

import fnmatch
import json
import math
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from earthgpt import lookup
from earthgpt.augmentation import augment
from earthgpt.config import NewModel, Recipe, Source, load_recipe, save_recipe
from earthgpt.datasets import at_hand, part_of
from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.loading import load
from earthgpt.model.tokenization import train_tokenizer
from earthgpt.model.vision import start_positions
from earthgpt.tasks import Task, Turn, converse
from earthgpt.types import EarthGPTError, Sample


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
    samples = read_sources(recipe, console)
    model, processor = prepare(recipe, samples)
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
        Mixture(recipe, samples, processor),
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


# --- data --------------------------------------------------------------------------------------------------------


def read_sources(recipe: Recipe, console: Console) -> list[tuple[Source, list[Sample]]]:
    """The samples of every source; says how many there are and what was left out."""
    found = []
    for source in recipe.sources:
        defects = Counter()
        samples = [
            sample
            for sample in lookup.find("datasets", source.dataset).read(source.root, source.split, defects)
            if source.part in (None, part_of(sample.name)) and at_hand(sample)
        ]
        if not samples:
            raise EarthGPTError(f"{source.dataset} has no images in {source.root or 'its source'} ({source.split}).")
        notes = "".join(f"; {kind}: {count:,}" for kind, count in sorted(defects.items()))
        console.print(f"{source.dataset}: {len(samples):,} images{notes}")
        found.append((source, samples))
    return found


def source_tasks(source: Source) -> list[Task]:
    """The tasks of a source, as they are trained."""
    names = source.tasks or lookup.find("datasets", source.dataset).tasks
    return [lookup.find("tasks", name).for_training() for name in names]


class Mixture(Dataset):
    """Images with the turns that are learned from them; item i depends on the recipe and i alone.

    An epoch holds every image ``repeat`` times, in a new order; a fraction is drawn anew each epoch.
    """

    def __init__(self, recipe: Recipe, samples: list[tuple[Source, list[Sample]]], processor: EarthGPTProcessor):
        self.recipe, self.processor = recipe, processor
        self.samples = [rows for _, rows in samples]
        self.repeats = [source.repeat for source, _ in samples]
        self.tasks = [
            [replace(task, decimals=recipe.decimals) for task in source_tasks(source)] for source, _ in samples
        ]
        sizes = [max(1, round(len(rows) * repeat)) for rows, repeat in zip(self.samples, self.repeats, strict=True)]
        self.sizes, self.epoch_size = sizes, sum(sizes)
        self._epoch: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch_size

    def place(self, index: int) -> tuple[int, int]:
        """(source, sample) of item ``index``."""
        epoch, position = divmod(index, self.epoch_size)
        if self._epoch is None or self._epoch[0] != epoch:
            draw = np.random.default_rng((self.recipe.seed, epoch))
            places = []
            for source, (rows, size) in enumerate(zip(self.samples, self.sizes, strict=True)):
                whole, rest = divmod(size, len(rows))
                chosen = [*(np.arange(len(rows)) for _ in range(whole)), draw.permutation(len(rows))[:rest]]
                places += [(source, row) for row in np.concatenate(chosen)]
            order = np.array(places)
            draw.shuffle(order)
            self._epoch = epoch, order
        source, row = self._epoch[1][position]
        return int(source), int(row)

    def __getitem__(self, index: int) -> tuple[dict, np.ndarray, Counter]:
        """A rendered conversation, its square (uint8 [S, S, 3]), and what had to be left out."""
        recipe, rng = self.recipe, random.Random(f"{self.recipe.seed}/{index}")
        source, row = self.place(index)
        sample = self.samples[source][row]
        pixels = read_pixels(sample)
        if recipe.augment:
            sample, pixels = augment(sample, pixels, rng)
        turns = [(task, turn) for task in self.tasks[source] for turn in balanced(task.turns(sample, rng), rng)]
        rng.shuffle(turns)
        chosen, missed = self.fill(turns, sample, rng)
        branches = rng.random() >= recipe.dialogue
        rendered = self.processor.render(converse(sample.name, sample.size, chosen), branches)
        return rendered, self.processor.square(pixels, sample.sensor), missed

    def fill(self, turns: list[tuple[Task, Turn]], sample: Sample, rng: random.Random) -> tuple[list, Counter]:
        """Turns until ``text_tokens`` are full; one that is longer than that alone is left out, with a count."""
        chosen, missed, room = [], Counter(), self.recipe.text_tokens
        for task, turn in turns:
            text = [turn.question, task.format(turn.answer, sample.size)]
            length = sum(len(ids) for ids in self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]) + 4
            if length > self.recipe.text_tokens:
                missed["turns were longer than text_tokens and left out"] += 1
            elif length <= room:
                chosen.append((task, turn))
                room -= length
        if not chosen:
            missed["images had no turn to learn"] += 1
        return chosen, missed


def balanced(turns: list[Turn], rng: random.Random, most: int = 3) -> list[Turn]:
    """At most ``most`` turns of a task for each image, so that five captions do not crowd out one class."""
    return turns if len(turns) <= most else rng.sample(turns, most)


def read_pixels(sample: Sample) -> np.ndarray:
    """The pixels of a sample: uint8 [H, W] or [H, W, 3]. Raises EarthGPTError for a file that is no image."""
    if callable(sample.image):
        return sample.image()
    try:
        with Image.open(sample.image) as image:
            return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise EarthGPTError(f"{sample.image} is not a readable image: {error}") from None


@dataclass
class Collate:
    """Items of a Mixture to one batch."""

    processor: EarthGPTProcessor

    def __call__(self, rows):
        rendered, squares, missed = zip(*rows, strict=True)
        return self.processor.collate(rendered, squares), sum(missed, Counter())


# --- model -------------------------------------------------------------------------------------------------------


def prepare(recipe: Recipe, samples) -> tuple[EarthGPTForConditionalGeneration, EarthGPTProcessor]:
    """The model that a recipe starts from, and its processor."""
    if isinstance(recipe.model, NewModel):
        model, processor = new_model(recipe, samples)
    else:
        model, processor = load(recipe.model)
    if recipe.image_size:
        model.config.image_size = processor.image_size = recipe.image_size
    if recipe.bias_tuning:
        model.add_bias_tuning()
    return model, processor


def new_model(recipe: Recipe, samples) -> tuple[EarthGPTForConditionalGeneration, EarthGPTProcessor]:
    """A model with random weights, and a tokenizer learned from the text of the mixture."""
    parts = recipe.model
    kept = Path(recipe.output) / "tokenizer"
    if not kept.is_dir():  # a run that goes on keeps the words it began with, whatever became of the data
        fresh = kept.with_suffix(".new")
        train_tokenizer(mixture_text(samples, recipe), parts.vocabulary).save_pretrained(fresh)
        _swap(fresh, kept)
    tokenizer = AutoTokenizer.from_pretrained(kept)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    vit = AutoConfig.for_model(**parts.vit)
    config = EarthGPTConfig(
        vit_config=vit,
        cnn_config=AutoConfig.for_model(**parts.cnn),
        text_config=AutoConfig.for_model(**parts.text, vocab_size=len(tokenizer), **ids),
        image_size=recipe.image_size or vit.image_size,
        vit_layers=parts.vit_layers and list(parts.vit_layers),
        cnn_stages=parts.cnn_stages and list(parts.cnn_stages),
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


def mixture_text(samples, recipe: Recipe, most: int = 2000) -> Iterator[str]:
    """Questions and answers of up to ``most`` images of each source."""
    rng = random.Random(recipe.seed)
    for source, rows in samples:
        for sample in rng.sample(rows, min(most, len(rows))):
            for task in source_tasks(source):
                for turn in task.turns(sample, rng):
                    yield turn.question
                    yield task.format(turn.answer, sample.size)


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
    old = json.loads((folder.parent / "recipe.json").read_text())
    new = json.loads(json.dumps(recipe.model_dump()))
    free = {"save_every", "workers", "output"}
    changed = sorted(key for key in new if key not in free and old.get(key) != new[key])
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

"""Training: one loop, top to bottom. A stage is another recipe."""

from __future__ import annotations

import fnmatch
import json
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoTokenizer

from earthgpt.checkpoints import restore, save, save_model, swap
from earthgpt.config import NewModel, Recipe, load_recipe, save_recipe
from earthgpt.mixture import Collate, Mixture, Part, open_sources
from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.loading import load
from earthgpt.model.processing import IGNORED
from earthgpt.model.tokenization import train_tokenizer
from earthgpt.model.vision import start_positions
from earthgpt.order import share
from earthgpt.parallel import Ranks, joined, shard, whole
from earthgpt.types import EarthGPTError


@dataclass(frozen=True)
class Trained:
    """What a run leaves: the folder with model and processor, and the loss of every step this process took."""

    folder: Path
    losses: tuple[float, ...]


def train(recipe: Recipe | str | Path) -> Trained:
    """Trains as the recipe says, in its ``output`` folder; goes on from the checkpoint there when there is one.

    An interrupted run that goes on gives the same losses as one that was not: what step i sees and draws depends on
    the recipe and i alone. So do several processes (``torchrun``) as one: they share every batch, and each token of
    it counts the same. Writes ``log.jsonl`` (a line for each step), TensorBoard events in ``tensorboard/`` when
    tensorboard is installed, ``checkpoints/``, and at the end ``model/``.
    Raises EarthGPTError for what a user can mend: no data, no such model, patterns that match no parameter; for a loss
    that is not finite, with the batch kept; and after SIGTERM or SIGINT, with a checkpoint.
    """
    recipe = load_recipe(recipe) if not isinstance(recipe, Recipe) else recipe
    with joined() as ranks, asked_to_stop() as asked:
        return _train(recipe, ranks, asked)


def _train(recipe: Recipe, ranks: Ranks, asked: Callable[[], bool]) -> Trained:
    output, device = Path(recipe.output), ranks.device
    output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, quiet=not ranks.first)

    torch.manual_seed(recipe.seed)
    parts = open_sources(recipe)
    for part in parts:
        notes = "".join(f"; {kind}: {count:,}" for kind, count in sorted((+part.defects).items()))
        console.print(f"{part.name}: {len(part):,} images{notes}")
    with ranks.first_goes_ahead():  # it writes what the others find
        model, processor = prepare(recipe, parts)
    trainable = choose_trainable(model, recipe.trainable)
    total = sum(parameter.numel() for parameter in model.parameters())
    chosen = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if recipe.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.to(device)
    shard(model, ranks)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    plain = [parameter for parameter in parameters if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=recipe.betas,
    )
    checkpoints = output / "checkpoints"
    start = restore(checkpoints, recipe, model, optimizer)
    if start:
        console.print(f"Going on from step {start}.")
    if ranks.first:
        save_recipe(recipe, output / "recipe.json")
    among = f" by {ranks.count} processes" if ranks.count > 1 else ""
    console.print(f"{chosen:,} of {total:,} parameters in {len(trainable)} tensors are trained, on {device}{among}.")

    batches = iter(
        DataLoader(
            Mixture(recipe, parts, processor),
            batch_size=micro_batch(recipe, ranks),
            sampler=share(
                start * recipe.batch_size, recipe.steps * recipe.batch_size, ranks.rank, ranks.count, recipe.batch_size
            ),
            num_workers=recipe.workers,
            collate_fn=Collate(processor),
            prefetch_factor=4 if recipe.workers else None,
        )
    )
    writer = open_tensorboard(output) if ranks.first else None
    losses, left_out = [], Counter()
    began = time.perf_counter()
    with (output / "log.jsonl").open("a", buffering=1) as log, progress_bar(console, recipe, start) as advance:
        for step in range(start, recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule(step, recipe)
            torch.manual_seed(recipe.seed + step)
            train_mode(model)
            micro, missed = zip(*(next(batches) for _ in range(recipe.accumulate)), strict=True)
            left_out.update(sum(missed, Counter()))
            # Every token of the batch counts the same, whichever part and process it is in.
            learned = [int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in micro]
            tokens = max(1, int(ranks.sum(torch.tensor(sum(learned), device=device))))
            loss = torch.zeros((), device=device)
            for batch, count in zip(micro, learned, strict=True):
                with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                    share_of_loss = model(**batch.to(device), use_cache=False).loss * (count / tokens)
                (share_of_loss * ranks.count).backward()  # gradients are averaged over the processes
                loss += share_of_loss.detach()
            norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)))
            losses.append(float(ranks.sum(loss)))
            if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
                path = output / f"bad_batch_{ranks.rank}.pt"
                torch.save([dict(batch) for batch in micro], path)
                raise EarthGPTError(
                    f"The loss is {losses[-1]} at step {step}; lower the learning rate. What it saw is in {path}."
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            rate = (step + 1 - start) * recipe.batch_size / (time.perf_counter() - began)
            lr = optimizer.param_groups[0]["lr"]
            figures = {"loss": losses[-1], "lr": lr, "norm": norm, "images_per_s": rate}
            if ranks.first:
                log.write(json.dumps({"step": step, **figures}) + "\n")
            for name, value in figures.items() if writer else ():
                writer.add_scalar(name, value, step)
            advance(losses[-1], rate)
            stop = bool(ranks.sum(torch.tensor(int(asked()), device=device)))
            if stop or (step + 1) % recipe.save_every == 0:
                save(checkpoints, step + 1, model, optimizer, ranks, recipe.keep)
            if stop and step + 1 < recipe.steps:
                raise EarthGPTError(f"Stopped after step {step + 1} of {recipe.steps}; the same command goes on.")
    if writer:
        writer.close()
    for kind, count in sorted(ranks.gather(left_out).items()):
        console.print(f"{count:,} {kind}")
    folder = output / "model"
    save_model(folder, model, processor, ranks)
    console.print(f"The model is in {folder}")
    return Trained(folder, tuple(losses))


def micro_batch(recipe: Recipe, ranks: Ranks) -> int:
    """Images that one process sees at a time. Raises EarthGPTError when a batch cannot be divided so."""
    parts = ranks.count * recipe.accumulate
    if recipe.batch_size % parts:
        raise EarthGPTError(
            f"batch_size = {recipe.batch_size} cannot be divided over {ranks.count} processes that take "
            f"{recipe.accumulate} part(s) each; make it a multiple of {parts}."
        )
    return recipe.batch_size // parts


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or SIGINT came; a second SIGINT stops at once."""
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        swap(fresh, kept)
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


# --- progress ---------------------------------------------------------------------------------------------------


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

"""Training: one loop, top to bottom. A stage is another recipe."""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.utils.data import DataLoader

from earthgpt import lookup
from earthgpt.assistant import EarthGPT
from earthgpt.calibration import calibrate
from earthgpt.checkpoints import Checkpoints, save_model
from earthgpt.config import Recipe, Source, load_recipe, save_recipe, saved_recipe
from earthgpt.datasets import at_hand
from earthgpt.evaluation import evaluate
from earthgpt.features import FeatureCache, digest_of
from earthgpt.files import whole_file
from earthgpt.logs import RunLog
from earthgpt.machine import matrix_rate, peak_memory, spare_cores
from earthgpt.mixture import Batch, Collate, Mixture, Part, open_sources
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.costs import StepCost
from earthgpt.model.loading import load
from earthgpt.model.processing import IGNORED
from earthgpt.order import share
from earthgpt.parallel import Ranks, joined, shard, whole
from earthgpt.preparation import choose_trainable, compile_parts, keep_precision, prepare, train_mode
from earthgpt.tasks import can_be_asked
from earthgpt.types import EarthGPTError, Sample, StoppedError


@dataclass(frozen=True)
class Trained:
    """What a run leaves: the folder with model and processor, and the loss of every step this process took."""

    folder: Path
    losses: tuple[float, ...]


def train(recipe: Recipe | str | Path) -> Trained:
    """Trains as the recipe says, in its ``output`` folder; goes on from the checkpoint there when there is one. Stages
    before it (``after``) whose model is not there are trained first.

    An interrupted run that goes on gives the same losses as one that was not: what step i sees and draws depends on
    the recipe and i alone. So do several processes (``torchrun``) as one: they share every batch, and each token of
    it counts the same; dense heads alone take the mean over the objects of each part. A batch is one packed row,
    without padding. Writes ``log.jsonl`` and what else ``logs.RunLog`` tells, ``checkpoints/``, and at the end
    ``model/``.
    Raises EarthGPTError for what a user can mend: no data, no such model, patterns that match no parameter; for a loss
    that is not finite, with the batch kept; and StoppedError after SIGTERM or SIGINT, with a checkpoint.
    """
    recipe = load_recipe(recipe) if not isinstance(recipe, Recipe) else recipe
    missing = recipe.after and isinstance(recipe.model, str) and not Path(recipe.model).is_dir()
    if missing and recipe.model == f"{load_recipe(recipe.after).output}/model":
        train(recipe.after)
    with joined() as ranks, asked_to_stop() as asked, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process keeps checkpoints alone
        return _train(recipe, ranks, asked)


def _train(recipe: Recipe, ranks: Ranks, asked: Callable[[], int]) -> Trained:
    output, device = Path(recipe.output), ranks.device
    if (output / "manifest.json").exists() or (output / "parts").exists():
        raise EarthGPTError(f"{output} holds an instruction set: give a run another output folder.")
    output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, quiet=not ranks.first)

    torch.manual_seed(recipe.seed)
    if recipe.validate_every:
        check_validation(recipe)
    parts = open_sources(recipe)
    for part in parts:
        notes = "".join(f"; {kind}: {count:,}" for kind, count in sorted((+part.defects).items()))
        console.print(f"{part.name}: {len(part):,} images{notes}")
    with ranks.first_goes_ahead():  # it writes what the others find
        if ranks.first and not any(output.glob("checkpoints/[0-9]*")):  # of a run that ended before its first one
            shutil.rmtree(output / "tokenizer", ignore_errors=True)
            (output / "classes.json").unlink(missing_ok=True)
        model, processor = prepare(recipe, parts, console.print)
        trainable = choose_trainable(model, recipe.trainable)
        cache = open_cache(recipe, model, sum(map(len, parts)))
    total = sum(parameter.numel() for parameter in model.parameters())
    chosen = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    keep_precision(model, recipe.precision)
    cost = StepCost.of(model)
    if recipe.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.to(device)
    if recipe.compile:
        compile_parts(model)
    shard(model, ranks)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = open_optimizer(recipe, parameters)
    checkpoints = Checkpoints(output / "checkpoints", recipe, ranks)
    start = checkpoints.restore(model, optimizer)
    refuse_other_data(output / "data.json", parts, start, ranks.first)
    if start:
        console.print(f"Going on from step {start}.")
    if ranks.first:
        save_recipe(recipe, output / "recipe.json")
    among = f" by {ranks.count} processes" if ranks.count > 1 else ""
    console.print(f"{chosen:,} of {total:,} parameters in {len(trainable)} tensors are trained, on {device}{among}.")

    workers = spare_cores(ranks.beside) if recipe.workers is None else recipe.workers
    batches = iter(
        DataLoader(
            Mixture(recipe, parts, processor, cache, model.dense_heads and model.dense_heads.vocabulary),
            batch_size=micro_batch(recipe, ranks),
            sampler=share(
                start * recipe.batch_size, recipe.steps * recipe.batch_size, ranks.rank, ranks.count, recipe.batch_size
            ),
            num_workers=workers,
            collate_fn=Collate(processor, cached=cache is not None),
            prefetch_factor=4 if workers else None,
            pin_memory=device.type == "cuda",
        )
    )
    meter = Meter(ranks, matrix_rate(device, getattr(torch, recipe.precision)))
    losses, left_out = [], Counter()
    with RunLog(output, recipe.steps, start, console, ranks.first, recipe.wandb) as log, out_of_memory_told(recipe):

        def look_at_validation(step: int) -> None:
            checkpoints.put_in_place()  # whatever comes of it, this step is kept
            with arithmetic(recipe, device):
                log.validation(step, *score_validation(recipe, model, processor))
            meter.restart()

        due = recipe.validate_every and start and start % recipe.validate_every == 0
        # A model that is divided among processes has to be trained before it may run without gradients.
        if due and ranks.count == 1 and not log.was_validated(start):
            look_at_validation(start)  # a stop came in between
        for step in range(start, recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule(step, recipe)
            torch.manual_seed(recipe.seed + step)
            train_mode(model)
            micro = [meter.fetch(batches) for _ in range(recipe.accumulate)]
            left_out.update(sum((batch.left_out for batch in micro), Counter()))
            # Every token of the batch counts the same, whichever part and process it is in.
            learned = [learned_tokens(batch) for batch in micro]
            tokens = max(1, int(ranks.sum(torch.tensor(sum(learned), device=device))))
            loss, dense_loss = torch.zeros(2, device=device)
            for batch, count in zip(micro, learned, strict=True):
                refuse_no_image(batch, cost, ranks)
                with arithmetic(recipe, device):
                    found = model(**batch.on(device, processor), use_cache=False)
                    share_of_loss = found.loss * (count / tokens) if found.loss is not None else 0.0
                    if found.dense_loss is not None:
                        share_of_dense = found.dense_loss * (batch.images / recipe.batch_size)
                        share_of_loss = share_of_loss + recipe.dense * share_of_dense
                        dense_loss += share_of_dense.detach()
                (share_of_loss * ranks.count).backward()  # gradients are averaged over the processes
                loss += share_of_loss.detach()
                if cache and batch.encoded:
                    cache.put(batch.encoded, found.encoded)
                meter.add(batch, cost)
            norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)))
            losses.append(float(ranks.sum(loss)))
            if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
                path = output / f"bad_batch_{ranks.rank}.pt"
                torch.save([dict(batch.inputs) for batch in micro], path)
                raise EarthGPTError(
                    f"The loss is {losses[-1]} and the norm of its gradient {norm} at step {step}; lower the learning "
                    f"rate. What it saw is in {path}."
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            lr = optimizer.param_groups[0]["lr"]
            figures = {"loss": losses[-1], "lr": lr, "norm": norm, **meter.figures()}
            log.step(step + 1, figures | ({"dense_loss": float(ranks.sum(dense_loss))} if recipe.dense else {}))
            news = torch.tensor([asked(), int(checkpoints.written)], device=device)
            stop, written = ranks.sum(news).tolist()
            if written == ranks.count:
                checkpoints.put_in_place()
            if stop or (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                checkpoints.save(step + 1, model, optimizer)
            if stop and step + 1 < recipe.steps:
                checkpoints.put_in_place()
                text = f"Stopped after step {step + 1} of {recipe.steps}; the same command goes on."
                raise StoppedError(text, asked() or signal.SIGTERM)
            if recipe.validate_every and (step + 1) % recipe.validate_every == 0:
                look_at_validation(step + 1)
        checkpoints.put_in_place()
    for kind, count in sorted(ranks.gather(left_out).items()):
        console.print(f"{count:,} {kind}")
    folder = output / "model"
    model.config.runs = [*model.config.runs, run_of(recipe, recipe.steps)]
    save_model(folder, model, processor, ranks)
    if recipe.calibrate and ranks.first:
        calibrate_saved(folder, recipe, console.print)
    ranks.wait()
    console.print(f"The model is in {folder}")
    return Trained(folder, tuple(losses))


def refuse_other_data(path: Path, parts: Sequence[Part], start: int, writes: bool) -> None:
    """Writes what the sources of a run hold when it begins. Raises EarthGPTError where a run goes on and one of them
    holds something else, so that step i would see other images than it would have seen."""
    now = [{"name": part.name, "images": len(part), "digest": part.digest()} for part in parts]
    if start and path.is_file():
        for old, new in zip_longest(json.loads(path.read_text()), now, fillvalue={"name": "A source", "images": 0}):
            if old != new:
                raise EarthGPTError(
                    f"{new['name']} holds other data than when this run began ({old['images']:,} images then, "
                    f"{new['images']:,} now): bring them back, or give another output folder."
                )
    elif writes:
        with whole_file(path) as fresh:
            fresh.write_text(json.dumps(now, indent=1))


def export(run: str | Path, folder: str | Path) -> int:
    """Writes the model of a run as its latest checkpoint has it, whatever number of processes wrote that, in plain
    safetensors; returns the step.

    Raises EarthGPTError when the folder exists, and for a run without a checkpoint.
    """
    run, folder = Path(run), Path(folder)
    if folder.exists():
        raise EarthGPTError(f"{folder} is there already; choose another name.")
    recipe = saved_recipe(run).model_copy(update={"output": str(run)})
    torch.manual_seed(recipe.seed)
    model, processor = prepare(recipe, [])
    choose_trainable(model, recipe.trainable)
    keep_precision(model, recipe.precision)
    ranks = Ranks(0, 1, torch.device("cpu"))
    optimizer = open_optimizer(recipe, [one for one in model.parameters() if one.requires_grad])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        step = Checkpoints(run / "checkpoints", recipe, ranks).restore(model, optimizer)
    if not step:
        raise EarthGPTError(f"{run} has no checkpoint yet.")
    model.config.runs = [*model.config.runs, run_of(recipe, step)]
    save_model(folder, model, processor, ranks)
    return step


def run_of(recipe: Recipe, steps: int) -> dict[str, Any]:
    """What a model keeps of a run of so many steps: how it learned, and from what; no folders."""
    how = ("batch_size", "image_size", "image_sizes", "learning_rate", "trainable", "text_tokens", "dense", "calibrate")
    sources = [
        {
            "dataset": source.dataset or Path(source.records or source.shards).name,
            **source.model_dump(
                mode="json", include={"split", "part", "tasks", "repeat", "rare"}, exclude_defaults=True
            ),
        }
        for source in recipe.sources
    ]
    return {"steps": steps, **recipe.model_dump(mode="json", include={*how, "seed"}), "sources": sources}


def arithmetic(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The precision of a forward pass."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")


def open_optimizer(recipe: Recipe, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW in one pass over the weights; matrices decay and vectors do not."""
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    plain = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def open_cache(recipe: Recipe, model: EarthGPTForConditionalGeneration, images: int) -> FeatureCache | None:
    """Where features of frozen encoders are kept; None unless the recipe asks for it.

    Raises EarthGPTError when the encoders are trained.
    """
    if not recipe.cache:
        return None
    encoder, config = model.vision_encoder, model.config
    if any(parameter.requires_grad for parameter in encoder.parameters()):
        raise EarthGPTError("cache = true keeps features of frozen encoders, but `trainable` trains them.")
    folder, sources = Path(recipe.output) / "features", json.dumps([one.model_dump() for one in recipe.sources])
    names = ("image_size", "vit_layers", "cnn_stages", "vit_mean", "vit_std", "cnn_mean", "cnn_std")
    encoders = digest_of(encoder, {name: getattr(config, name) for name in names})
    return FeatureCache(folder, images, config.grid**2, config.visual_width, encoders, sources)


def learned_tokens(batch: Batch) -> int:
    """How many tokens of a batch are learned."""
    return int((batch.inputs["labels"][:, 1:] != IGNORED).sum()) if "labels" in batch.inputs else 0


def refuse_no_image(batch: Batch, cost: StepCost, ranks: Ranks) -> None:
    """Several processes must go through the same layers: raises EarthGPTError where one would leave out encoders that
    are trained and so divided among them, because its part of the batch shows nothing."""
    if ranks.count > 1 and cost.vision_trained and "pixel_values" not in batch.inputs:
        raise EarthGPTError(
            "A part of a batch has no image, and several processes train the encoders: leave out sources without "
            "images, freeze the encoders, or use larger parts."
        )


@contextmanager
def out_of_memory_told(recipe: Recipe) -> Iterator[None]:
    """Turns what torch raises when memory is short into an EarthGPTError with the way out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        if not short:
            raise
        ways = [f"accumulate = {2 * recipe.accumulate}"]
        ways += [] if recipe.checkpointing else ["checkpointing = true"]
        raise EarthGPTError(
            f"Out of memory. Set {' and '.join(ways)}, a smaller batch_size or image_size, or take more processes; "
            f"what was kept last is gone on from. `earthgpt doctor` says what fits."
        ) from error


class Meter:
    """How fast a run is, over the last 20 steps of all its processes together."""

    def __init__(self, ranks: Ranks, rate: float):
        self.ranks, self.rate = ranks, rate  # floating-point operations a second that one process could do
        self.window: deque[torch.Tensor] = deque(maxlen=20)
        self.restart()

    def restart(self) -> None:
        """The next step begins now."""
        self.began, self.waited, self.images, self.tokens, self.flops = time.perf_counter(), 0.0, 0, 0, 0.0

    def fetch(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; the time it takes is waiting. Raises the EarthGPTError of a process that prepares batches."""
        began = time.perf_counter()
        try:
            batch = next(batches)
        except EarthGPTError as error:  # torch puts the whole traceback of the other process into its text
            raise EarthGPTError(str(error).strip().rpartition("EarthGPTError: ")[2]) from error
        self.waited += time.perf_counter() - began
        return batch

    def add(self, batch: Batch, cost: StepCost) -> None:
        """A batch that was learned from."""
        self.images += batch.images
        self.tokens += batch.inputs["input_ids"].numel() if "input_ids" in batch.inputs else 0
        self.flops += cost.flops(batch.inputs, len(batch.encoded))

    def figures(self) -> dict[str, float]:
        """Called at the end of a step. images_per_s and tokens_per_s of all processes; mfu: operations that the model
        asks for over those that the machine could do in the time (``machine.matrix_rate``); waited: part of the time
        spent waiting for data; memory_gb: most that this process has held."""
        took = time.perf_counter() - self.began
        mine = torch.tensor([self.images, self.tokens, self.flops, took, self.waited], device=self.ranks.device)
        self.window.append(self.ranks.sum(mine))
        self.restart()
        images, tokens, flops, seconds, waited = torch.stack(list(self.window)).sum(0).tolist()
        each = seconds / self.ranks.count
        return {
            "images_per_s": images / each,
            "tokens_per_s": tokens / each,
            "mfu": flops / (seconds * self.rate),
            "waited": waited / seconds,
            "memory_gb": peak_memory(self.ranks.device) / 2**30,
        }


def check_validation(recipe: Recipe) -> None:
    """Raises EarthGPTError for a validation data set that is not there, and for a task that it states nothing for."""
    for source in recipe.validation:
        card = lookup.find("datasets", source.dataset)
        for task in source.tasks:
            if not can_be_asked(lookup.find("tasks", task), card.read(source.root, source.split, part=source.part)):
                raise EarthGPTError(f"No image of {source.dataset} ({source.split}) states anything for {task}.")


def score_validation(recipe: Recipe, model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor) -> tuple:
    """Figures by ``dataset/task/metric``, and by task three questions with what was true and what was said."""
    assistant = EarthGPT(model.eval(), processor)
    figures: dict[str, float] = {}
    answers: dict[str, list[dict[str, str]]] = {}
    for source in recipe.validation:
        for task in source.tasks or lookup.find("datasets", source.dataset).tasks:
            report = evaluate(
                assistant, source.dataset, task, source.root, source.split, source.part,
                limit=recipe.validation_questions, rounds=0,
            )  # fmt: skip
            name = f"{source.dataset}/{task}"
            figures |= {f"{name}/{metric}": value for metric, value in report.metrics.items()}
            answers[name] = [
                {"image": one["image"], "question": one["question"], "true": one["truth"], "said": one["prediction"]}
                for one in report.answers[:3]
            ]
    return figures, answers


def calibrate_saved(folder: Path, recipe: Recipe, tell: Callable[[str], None]) -> None:
    """Calibrates the dense heads of a model in its folder (``calibration.calibrate``) on the validation data sets."""
    model, processor = load(folder)
    sets = [held_out(source, recipe.calibrate) for source in recipe.validation]
    calibrate(model, processor, sets, tell)
    save_model(folder, model, processor, Ranks(0, 1, torch.device("cpu")))


def held_out(source: Source, share: float) -> list[Sample]:
    """A share of the samples of a data set, drawn with a fixed seed."""
    card = lookup.find("datasets", source.dataset)
    samples = [one for one in card.read(source.root, source.split, part=source.part) if at_hand(one)]
    return random.Random(0).sample(samples, round(share * len(samples)))


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
def asked_to_stop() -> Iterator[Callable[[], int]]:
    """Which of SIGTERM and SIGINT came last, 0 for none; a second SIGINT stops at once."""
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen
        yield lambda: 0
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: came[-1] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def schedule(step: int, recipe: Recipe) -> float:
    """Part of the peak learning rate: linear warm-up, then a cosine to 0."""
    warmup = max(1, round(recipe.warmup * recipe.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, recipe.steps - warmup)))

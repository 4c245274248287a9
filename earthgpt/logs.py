"""What a run says while it goes on: a line of figures for each step, to the terminal, a file and the usual viewers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from earthgpt.files import named
from earthgpt.types import EarthGPTError

EVERY, SECONDS = 100, 30  # steps and seconds between lines where there is no terminal


class RunLog:
    """Figures of a run: ``log.jsonl`` (a line for each step, from 1), TensorBoard events in ``tensorboard/`` when
    tensorboard is installed, Weights & Biases when a project is named, and a bar on the terminal; elsewhere a line
    after the first step, every hundred, and every half minute.

    Only the first of several processes says anything. Raises EarthGPTError when wandb is asked for and not installed.
    """

    def __init__(self, output: Path, steps: int, start: int, console: Console, speaks: bool, wandb: str = ""):
        self.console, self.steps, self.speaks = console, steps, speaks
        self.told = -math.inf  # when a line was printed
        self.file = (output / "log.jsonl").open("a", buffering=1) if speaks else None
        self.tensorboard = _tensorboard(output / "tensorboard") if speaks else None
        self.wandb = _wandb(wandb, output) if speaks and wandb else None
        self.bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=steps, completed=start, figures="")

    def __enter__(self) -> RunLog:
        self.bar.start()
        return self

    def __exit__(self, *failure) -> None:
        self.bar.stop()
        if self.file:
            self.file.close()
        if self.tensorboard:
            self.tensorboard.close()
        if self.wandb:
            self.wandb.finish(exit_code=int(failure[0] is not None))

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures of the step of training that is the ``step``-th, from 1."""
        self._keep(step, figures)
        line = f"loss {figures['loss']:.3f}, {figures['images_per_s']:.1f} images/s"
        if "mfu" in figures:
            line += f", MFU {figures['mfu']:.0%}"
        self.bar.update(self.task, completed=step, figures=line)
        due = step % EVERY == 0 or step == self.steps or time.monotonic() - self.told > SECONDS
        if not self.console.is_terminal and due:
            self.told = time.monotonic()
            self.console.print(f"step {step} of {self.steps}: {line}")

    def validation(self, step: int, figures: Mapping[str, float], answers: Mapping[str, list[dict[str, Any]]]) -> None:
        """Figures on validation data after so many steps, and by task some questions with what was said to them."""
        self._keep(step, figures)
        for name, value in figures.items():
            self.console.print(f"step {step}: {name} {value:.3f}", highlight=False)
        for task, rows in answers.items():
            text = "\n\n".join(f"{row['question']}\n**true** {row['true']}\n**said** {row['said']}" for row in rows)
            if self.tensorboard:
                self.tensorboard.add_text(f"answers/{task}", text, step)
            self._write({"step": step, "task": task, "answers": rows})

    def was_validated(self, step: int) -> bool:
        """Whether the log has what was said to validation data after so many steps; only the first process knows."""
        if not self.file:
            return False
        with Path(self.file.name).open(encoding="utf-8") as lines:
            return any(line.startswith(f'{{"step": {step}, "task": ') for line in lines)

    def _write(self, row: Mapping[str, Any]) -> None:
        if self.file:
            with named(Path(self.file.name)):
                self.file.write(json.dumps(row) + "\n")

    def _keep(self, step: int, figures: Mapping[str, float]) -> None:
        known = {name: value if math.isfinite(value) else None for name, value in figures.items()}  # JSON has no NaN
        self._write({"step": step, **known})
        if self.tensorboard:
            for name, value in figures.items():
                self.tensorboard.add_scalar(name, value, step)
        if self.wandb:
            self.wandb.log(dict(figures), step=step)


def _tensorboard(folder: Path):
    """A TensorBoard writer, or None where tensorboard is not installed (extra "train")."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder)


def _wandb(project: str, output: Path):
    try:
        import wandb
    except ImportError:
        raise EarthGPTError("wandb is not installed: pip install wandb, or leave wandb out of the recipe.") from None
    return wandb.init(project=project, name=output.name, dir=output, resume="allow", id=output.name)

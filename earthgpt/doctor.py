"""What this machine can do: its hardware and libraries, and which model and micro batch can be trained on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from earthgpt.cards import versions
from earthgpt.machine import Device, devices, matrix_rate
from earthgpt.model.costs import TrainingMemory, training_memory
from earthgpt.model.presets import PRESETS, configuration, on_meta
from earthgpt.preparation import choose_trainable

# What each recipe of the same name trains (tests compare them).
STAGES: dict[str, dict[str, Any]] = {
    "align": {
        "trainable": (
            "mm_projector.*", "image_start", "image_end", "language_model.*.self_attn.*",
            "language_model.*norm*.weight",
        )
    },
    "instruct": {"bias_tuning": True, "trainable": ("language_model.*.alpha", "language_model.*.beta")},
    "lora": {"lora": {"rank": 16, "alpha": 32.0}, "trainable": ("language_model.*.lora_*",)},
    "full": {"trainable": ("mm_projector.*", "image_start", "image_end", "language_model.*")},
}  # fmt: skip
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "rasterio", "peft", "tensorboard")
TEXT, LABELLED = 110, 30  # tokens beside an image in MMRS-1M on average, and those of them that are learned
SPARE = 0.9  # of the memory; the rest is for what torch and its libraries keep to themselves


@dataclass(frozen=True)
class Fit:
    """How a model is trained in a stage on one device of some memory.

    needed: bytes for an image at a time. images: the largest micro batch; 0 when none fits. checkpointing: whether
    activations must be computed again for that; without it where eight images fit anyway.
    """

    model: str
    stage: str
    needed: int
    images: int
    checkpointing: bool


@dataclass(frozen=True)
class Examined:
    """What was found. rate: floating-point operations a second of a bfloat16 product on the first device."""

    versions: dict[str, str | None]
    devices: tuple[Device, ...]
    rate: float
    memory: int
    processes: int
    image_size: int
    fits: tuple[Fit, ...]


def examine(memory: int | None = None, processes: int | None = None, image_size: int = 224) -> Examined:
    """Looks at this machine, or at ``processes`` devices of ``memory`` bytes each where they are given.

    Raises EarthGPTError for an image size that no preset takes.
    """
    found = tuple(devices())
    memory = memory or min(device.memory for device in found)
    processes = processes or len(found)
    return Examined(
        versions=versions(LIBRARIES),
        devices=found,
        rate=matrix_rate(found[0].device, torch.bfloat16),
        memory=memory,
        processes=processes,
        image_size=image_size,
        fits=tuple(fit for name in PRESETS for fit in fits(name, memory, processes, image_size)),
    )


def fits(name: str, memory: int, processes: int = 1, image_size: int = 224) -> Iterator[Fit]:
    """How each stage of a preset or model would fit; LoRA only where peft is installed."""
    room = int(SPARE * memory)
    for stage in STAGES:
        if stage == "lora" and versions(("peft",))["peft"] is None:
            continue
        found = cost(name, stage, image_size, checkpointing=False)
        checkpointing = found.images(room, processes) < 8
        if checkpointing:
            found = cost(name, stage, image_size, checkpointing=True)
        yield Fit(name, stage, found.total(1, processes), found.images(room, processes), checkpointing)


def cost(name: str, stage: str, image_size: int, checkpointing: bool) -> TrainingMemory:
    """Memory of a stage of a preset or model, from shapes alone."""
    model = on_meta(configuration(name, image_size))
    if STAGES[stage].get("bias_tuning"):
        model.add_bias_tuning()
    if "lora" in STAGES[stage]:
        model.add_lora(**STAGES[stage]["lora"])
    choose_trainable(model, STAGES[stage]["trainable"])
    return training_memory(model, TEXT, LABELLED, checkpointing)

"""CLIP ConvNeXts as open_clip releases them: timm's names on disk, the names of transformers in memory."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import ConvNextConfig, ConvNextModel
from transformers.utils import cached_file

from earthgpt.model.presets import CLIP_MEAN, CLIP_STD
from earthgpt.types import EarthGPTError

CONFIGURATION = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TRUNK = "visual.trunk."  # the ConvNeXt; beside it stand the text encoder and the projections to CLIP's common space

# timm's names (timm/models/convnext.py) -> those of ConvNextModel; applied in order, each to what the last one left.
RENAMED = (
    (r"^head\.norm\.", "layernorm."),
    (r"^stem\.0\.", "embeddings.patch_embeddings."),
    (r"^stem\.1\.", "embeddings.layernorm."),
    (r"^stages\.(\d+)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
    (r"^stages\.(\d+)\.blocks\.", r"encoder.stages.\1.layers."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.norm\.", ".layernorm."),
    (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
    (r"\.gamma$", ".layer_scale_parameter"),
)


@dataclass(frozen=True, slots=True)
class Release:
    """A ConvNeXt of open_clip: its configuration, its weights by the names of ConvNextModel, and its pixels."""

    config: ConvNextConfig
    weights: dict[str, torch.Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def model(self, dtype: torch.dtype) -> ConvNextModel:
        """The encoder, its weights in ``dtype``."""
        with torch.device("meta"):
            model = ConvNextModel(self.config)
        model.load_state_dict({name: value.to(dtype) for name, value in self.weights.items()}, assign=True)
        return model


def read_release(place: str) -> Release | None:
    """The ConvNeXt in a folder or hub repository of open_clip's form; None when it is not of that form.

    Raises EarthGPTError when weights are missing, left over or of another shape, and OSError when the hub cannot be
    reached.
    """
    found = _file(place, CONFIGURATION)
    description = json.loads(found.read_text()) if found else {}
    name = str(description.get("model_cfg", {}).get("vision_cfg", {}).get("timm_model_name", ""))
    if not name.startswith("convnext"):
        return None
    if name.startswith("convnext_xxlarge"):  # norm_eps=1e-5 in timm; in ConvNextModel 1e-6 is written into the code
        raise EarthGPTError(f"{place} is a {name}, whose norms transformers cannot compute; take another ConvNeXt.")
    file = next(filter(None, (_file(place, one) for one in WEIGHTS)), None)
    if file is None:
        raise EarthGPTError(f"{place} has no weights: there is no {' or '.join(WEIGHTS)}.")
    state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    weights = {renamed(key.removeprefix(TRUNK)): value for key, value in state.items() if key.startswith(TRUNK)}
    config = _configuration(weights, place)
    _check(weights, config, place)
    pixels = description.get("preprocess_cfg", {})
    return Release(config, weights, tuple(pixels.get("mean", CLIP_MEAN)), tuple(pixels.get("std", CLIP_STD)))


def renamed(name: str) -> str:
    """A name within timm's ConvNeXt as ConvNextModel has it."""
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _configuration(weights: dict[str, torch.Tensor], place: str) -> ConvNextConfig:
    """Widths and depths, read off the weights: a block has one depth-wise convolution [width, 1, 7, 7]."""
    depths, widths = Counter(), {}
    for name, value in weights.items():
        if block := re.fullmatch(r"encoder\.stages\.(\d+)\.layers\.\d+\.dwconv\.weight", name):
            depths[int(block[1])] += 1
            widths[int(block[1])] = value.shape[0]
    if not depths:
        raise EarthGPTError(f"{place} has no ConvNeXt: none of its weights is named like {TRUNK}stages.0.blocks.0 ...")
    stages = sorted(depths)
    return ConvNextConfig(
        num_stages=len(stages),
        depths=[depths[stage] for stage in stages],
        hidden_sizes=[widths[stage] for stage in stages],
        layer_norm_eps=1e-6,
    )


def _check(weights: dict[str, torch.Tensor], config: ConvNextConfig, place: str) -> None:
    with torch.device("meta"):
        expected = {name: value.shape for name, value in ConvNextModel(config).state_dict().items()}
    problems = {
        "missing": sorted(expected.keys() - weights.keys()),
        "left over": sorted(weights.keys() - expected.keys()),
        "of another shape": sorted(n for n in expected.keys() & weights.keys() if weights[n].shape != expected[n]),
    }
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in problems.items() if names)
        raise EarthGPTError(f"The weights in {place} are not those of a plain ConvNeXt. {told}.")


def listed(names: list[str], most: int = 5) -> str:
    """Names in a row; of many, the first."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def _file(place: str, name: str) -> Path | None:
    found = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None

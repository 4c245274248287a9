"""The paper's model in three sizes: which public parts it is made of, and how large they and any model are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from earthgpt.lookup import hint
from earthgpt.model.configuration import EarthGPTConfig
from earthgpt.model.loading import locate, reason_of
from earthgpt.model.modeling import EarthGPTForConditionalGeneration
from earthgpt.types import EarthGPTError

# Mean and deviation of pixels, as OpenAI's CLIP has them (open_clip, src/open_clip/constants.py).
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGE_SIZES = (224, 336, 448)  # sides in pixels that the presets are made for; other multiples of the patch work too

DINOV2_L = {
    "model_type": "dinov2", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "patch_size": 14, "image_size": 518,
}  # fmt: skip
CONVNEXT_L = {
    "model_type": "convnext", "hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3], "layer_norm_eps": 1e-6,
}  # fmt: skip
LLAMA = {"model_type": "llama", "vocab_size": 32000, "rms_norm_eps": 1e-5}


@dataclass(frozen=True, slots=True)
class Preset:
    """The hub ids of three parts, and the configuration of the language model; the encoders are those of the paper."""

    text: str
    text_config: dict[str, Any]
    vit: str = "facebook/dinov2-large"
    cnn: str = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"

    def configuration(self) -> EarthGPTConfig:
        """What a model of these parts is configured as; nothing is downloaded."""
        return EarthGPTConfig(DINOV2_L, CONVNEXT_L, self.text_config, cnn_mean=CLIP_MEAN, cnn_std=CLIP_STD)


PRESETS = {
    "earthgpt-1b": Preset(
        "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
        LLAMA | {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
                 "num_key_value_heads": 4, "max_position_embeddings": 2048},
    ),
    "earthgpt-7b": Preset(
        "meta-llama/Llama-2-7b-hf",
        LLAMA | {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
                 "max_position_embeddings": 4096},
    ),
    "earthgpt-13b": Preset(
        "meta-llama/Llama-2-13b-hf",
        LLAMA | {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
                 "max_position_embeddings": 4096},
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How large a model is.

    parameters: of its vit, cnn, projector (with image start and end), language_model, dense_heads where it has them,
    and their total.
    image_size: side of the square in pixels. grid: visual tokens along a side. tokens_per_image: places in the
    sequence. visual_width: channels of the fused features that the projector takes.
    """

    parameters: dict[str, int]
    image_size: int
    grid: int
    tokens_per_image: int
    visual_width: int


def preset(name: str) -> Preset:
    """The preset of that name. Raises EarthGPTError when there is none."""
    if name not in PRESETS:
        raise EarthGPTError(f"No preset {name!r}.{hint(name, PRESETS)} Name one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def configuration(name: str | Path, image_size: int | None = None) -> EarthGPTConfig:
    """The configuration of a preset, or of a model (``loading.locate``); nothing else of it is read.

    image_size: None keeps the model's; a preset's is 448. Raises EarthGPTError when there is no such model.
    """
    if name in PRESETS:
        config, image_size = PRESETS[name].configuration(), image_size or IMAGE_SIZES[-1]
    else:
        try:
            place = locate(name)
        except EarthGPTError as error:
            raise EarthGPTError(f"{error} Presets: {', '.join(PRESETS)}.") from error
        try:
            config = AutoConfig.from_pretrained(place)
        except (OSError, ValueError) as error:
            raise EarthGPTError(f"Cannot read the configuration of {str(name)!r}: {reason_of(error)}") from error
        if not isinstance(config, EarthGPTConfig):
            raise EarthGPTError(f"{str(name)!r} is a {config.model_type}, not an EarthGPT.")
    config.image_size = image_size or config.image_size
    check_image_size(config)
    return config


def check_image_size(config: EarthGPTConfig, side: int | None = None) -> None:
    """Raises EarthGPTError when a side, or that of the model's square, is no multiple of the ViT's patch."""
    side, patch = side or config.image_size, config.vit_config.patch_size
    if side < patch or side % patch:
        lower = max(1, side // patch) * patch
        raise EarthGPTError(f"{side} px are no multiple of the ViT's {patch} px; take {lower} or {lower + patch}.")


def on_meta(config: EarthGPTConfig) -> EarthGPTForConditionalGeneration:
    """A model that has shapes but no weights: made in a moment, whatever its size."""
    with torch.device("meta"):
        return EarthGPTForConditionalGeneration(config).eval()


def size_of(model: EarthGPTForConditionalGeneration) -> ModelSize:
    """How large a model is; one on the meta device will do."""
    encoder, config = model.vision_encoder, model.config
    parts = {"vit": encoder.vit, "cnn": encoder.cnn, "language_model": model.language_model}
    parts |= {"dense_heads": model.dense_heads} if model.dense_heads is not None else {}
    count = {name: sum(one.numel() for one in part.parameters()) for name, part in parts.items()}
    total = sum(one.numel() for one in model.parameters())
    first = {"vit": count.pop("vit"), "cnn": count.pop("cnn")}
    parameters = {**first, "projector": total - sum(first.values()) - sum(count.values()), **count, "total": total}
    return ModelSize(parameters, config.image_size, config.grid, config.tokens_per_image, config.visual_width)

"""The shape of an EarthGPT: two vision encoders, one projector, one language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, PretrainedConfig

import earthgpt.model.efficientnet  # noqa: F401, so that transformers knows it by name

IGNORED = -100  # the label that cross entropy leaves out
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EarthGPTConfig(PretrainedConfig):
    """Configuration of ``EarthGPTForConditionalGeneration``; the parts keep their own configurations.

    vit_config, cnn_config, text_config: any transformers configuration (or dict with ``model_type``) of a vision
        transformer, of a convolutional network with stages (ConvNeXt, ResNet, ...) and of a causal language model.
    image_size: side in pixels of the square that both encoders see.
    vit_layers: layers (1-based) whose features are concatenated on channels; None means four, evenly spaced, as in
        DINOv2's own dense heads (6, 12, 18, 24 of 24).
    cnn_stages: stages (1-based) whose maps are resampled to the ViT's grid and concatenated; None means all.
    vit_mean, vit_std, cnn_mean, cnn_std: of the pixels that each encoder was trained on, a value for each of red, green
        and blue in [0, 1]. Pixels come with those of the ViT; the CNN gets them as it knows them.
    image_token_id: the token that stands where image start, visual tokens and image end are put.
    bias_tuning: whether the language model's linear layers carry alpha and beta (``earthgpt.model.bias_tuning``).
    lora: rank, alpha, dropout and targets of the language model's LoRA (``earthgpt.model.lora``); None without one.
    dense: names of ``scenes`` and ``objects`` that dense heads on the visual tokens tell apart, and of ``sensors`` with
        the objects that their images may show (``earthgpt.model.dense``); None without them.
    runs: the training runs that the weights come from, in order, as ``training.run_of`` tells each.
    """

    model_type = "earthgpt"
    sub_configs = {"vit_config": AutoConfig, "cnn_config": AutoConfig, "text_config": AutoConfig}

    def __init__(
        self,
        vit_config=None,
        cnn_config=None,
        text_config=None,
        image_size: int = 224,
        vit_layers: list[int] | None = None,
        cnn_stages: list[int] | None = None,
        vit_mean: Sequence[float] = IMAGENET_MEAN,
        vit_std: Sequence[float] = IMAGENET_STD,
        cnn_mean: Sequence[float] = IMAGENET_MEAN,
        cnn_std: Sequence[float] = IMAGENET_STD,
        image_token_id: int = 0,
        bias_tuning: bool = False,
        lora: dict[str, Any] | None = None,
        dense: dict[str, Sequence[str]] | None = None,
        runs: Sequence[dict[str, Any]] = (),
        initializer_range: float = 0.02,
        **kwargs,
    ):
        self.vit_config = _configuration(vit_config, "dinov2")
        self.cnn_config = _configuration(cnn_config, "convnext")
        self.text_config = _configuration(text_config, "llama")
        depth = self.vit_config.num_hidden_layers
        self.image_size = image_size
        self.vit_layers = vit_layers or sorted({max(1, round(depth * part / 4)) for part in (1, 2, 3, 4)})
        self.cnn_stages = cnn_stages or list(range(1, len(self.cnn_config.depths) + 1))
        self.vit_mean, self.vit_std = list(vit_mean), list(vit_std)
        self.cnn_mean, self.cnn_std = list(cnn_mean), list(cnn_std)
        self.image_token_id = image_token_id
        self.bias_tuning = bias_tuning
        self.lora = lora
        self.dense = dense
        self.runs = list(runs)
        self.initializer_range = initializer_range
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            kwargs.setdefault(name, getattr(self.text_config, name, None))
        kwargs.setdefault("tie_word_embeddings", self.text_config.tie_word_embeddings)
        super().__init__(**kwargs)

    @property
    def grid(self) -> int:
        """Visual tokens along a side of the square."""
        return self.image_size // self.vit_config.patch_size

    @property
    def tokens_per_image(self) -> int:
        """Places in the sequence that an image takes: its grid, an image start and an image end."""
        return self.grid**2 + 2

    @property
    def visual_width(self) -> int:
        """Channels of the fused visual features, before the projector."""
        widths = self.cnn_config.hidden_sizes
        return len(self.vit_layers) * self.vit_config.hidden_size + sum(widths[i - 1] for i in self.cnn_stages)

    @property
    def details(self) -> list[list[int]]:
        """The CNN's stages that each level of the dense heads sees: the two finest, then the finest."""
        finest = sorted(self.cnn_stages)[:2]
        return [finest, finest[:1]]

    @property
    def detail_widths(self) -> list[int]:
        """Channels of the CNN's maps for each level of the dense heads."""
        return [sum(self.cnn_config.hidden_sizes[stage - 1] for stage in stages) for stages in self.details]


def _configuration(value, default: str) -> PretrainedConfig:
    if value is None:
        return AutoConfig.for_model(default)
    if isinstance(value, dict):
        return AutoConfig.for_model(**{"model_type": default, **value})
    return value

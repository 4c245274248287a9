"""Two encoders, one grid: multi-layer features of a ViT and multi-scale features of a CNN, side by side on channels."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel

# Images whose maps the CNN makes together on a processor: those of more do not stay in its caches.
_TOGETHER = 4
_FINAL_NORMS = ("layernorm", "post_layernorm", "norm", "layer_norm")


class VisionEncoder(nn.Module):
    """Pixels to the visual features of the paper, ``Concat(Va, Vb)``, before its projection (EarthGPT, section III)."""

    def __init__(self, config, **options):
        super().__init__()
        self.vit_layers, self.cnn_stages, self.details = config.vit_layers, config.cnn_stages, config.details
        self.vit = without_pooling(AutoModel.from_config(config.vit_config, **options))
        self.cnn = AutoModel.from_config(config.cnn_config)
        # Some encoders refuse images of another size than their own unless told to interpolate their positions.
        known = inspect.signature(self.vit.forward).parameters
        self.vit_options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}
        self.norm_name = next((name for name in _FINAL_NORMS if hasattr(self.vit, name)), None)
        # Convolutions are fastest with channels last, on processors and graphics cards alike. But there oneDNN writes
        # past its memory in training where a strided 1 x 1 convolution has fewer than 16 channels (its issue 6035).
        narrowest = min(getattr(config.cnn_config, "embedding_size", 16), *config.cnn_config.hidden_sizes)
        self.memory_format = torch.channels_last if narrowest >= 16 else torch.contiguous_format
        self.vit_pixels, self.cnn_pixels = (config.vit_mean, config.vit_std), (config.cnn_mean, config.cnn_std)

    def forward(
        self, pixel_values: torch.Tensor, details: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
        """[n, 3, S, S] pixels, normalised for the ViT, to [n, h * w, C] features, row by row from the top left.

        details: also gives the CNN's finest maps (``EarthGPTConfig.details``), for each level of the dense heads on a
        grid twice as fine as for the one before, the first [n, F, 2 h, 2 w].
        """
        side = pixel_values.shape[-1] // self.vit.config.patch_size
        pixels = pixel_values.to(self.vit.dtype)
        states = self.vit(pixels, output_hidden_states=True, **self.vit_options).hidden_states  # embeddings, each layer
        norm = getattr(self.vit, self.norm_name) if self.norm_name else nn.Identity()
        # Class and register tokens come first; the grid is the rest.
        features = [norm(states[layer])[:, -side * side :] for layer in self.vit_layers]  # [n, h*w, D] each
        pixels = self.pixels_for_cnn(pixel_values).to(self.cnn.dtype, memory_format=self.memory_format)
        alone = pixels.device.type != "cpu" or torch.is_grad_enabled()
        parts = [pixels] if alone else pixels.split(_TOGETHER)
        found = zip(*(self._maps(part, side, details) for part in parts), strict=True)
        maps, *finer = (torch.cat(every) if len(parts) > 1 else every[0] for every in found)
        features = torch.cat([*features, maps.flatten(2).transpose(1, 2)], dim=-1)
        return (features, finer) if details else features

    def _maps(self, pixels: torch.Tensor, side: int, details: bool) -> list[torch.Tensor]:
        """The CNN's maps side by side, on the grid, and with ``details`` on each finer one."""
        stages = self.cnn(pixels, output_hidden_states=True).hidden_states  # stem, then each stage
        levels = [self.cnn_stages, *(self.details if details else ())]
        return [
            torch.cat([_resample(stages[stage], 2**level * side) for stage in seen], dim=1)
            for level, seen in enumerate(levels)
        ]

    def pixels_for_cnn(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[n, 3, S, S] pixels normalised for the ViT, with the mean and deviation that the CNN was trained on."""
        if self.vit_pixels == self.cnn_pixels:
            return pixel_values
        vit_mean, vit_std, cnn_mean, cnn_std = (
            pixel_values.new_tensor(one)[:, None, None] for one in (*self.vit_pixels, *self.cnn_pixels)
        )
        return (pixel_values * vit_std + vit_mean - cnn_mean) / cnn_std


def without_pooling(vit: nn.Module) -> nn.Module:
    """The encoder without the layers that make one vector of its grid: they are not used here, and often missing."""
    if getattr(vit, "pooler", None) is not None:  # ViT, DeiT
        vit.pooler = None
    if getattr(vit, "use_head", False):  # SigLIP
        vit.use_head = False
        del vit.head
    return vit


@torch.no_grad()
def start_positions(vit: nn.Module) -> bool:
    """Sets learned position embeddings to sines and cosines of column and row (MAE, He et al., 2021, appendix A.1).

    Their usual random start is so faint beside the pixels that a model from scratch hardly learns where things are.
    Returns whether the encoder has such embeddings, [1, 1 + g * g, D] with D divisible by 4, for a square grid.
    """
    table = getattr(getattr(vit, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Parameter) or table.shape[-1] % 4:
        return False
    side, quarter = round((table.shape[1] - 1) ** 0.5), table.shape[-1] // 4
    frequencies = 10_000.0 ** (-torch.arange(quarter) / quarter)  # [D/4]
    angles = torch.arange(side)[:, None] * frequencies  # [g, D/4]
    line = torch.cat([angles.sin(), angles.cos()], dim=-1)  # [g, D/2]
    columns, rows = line.expand(side, side, -1), line[:, None].expand(side, side, -1)
    table[0, 1:] = torch.cat([columns, rows], dim=-1).flatten(0, 1)  # row by row
    return True


def _resample(stage: torch.Tensor, side: int) -> torch.Tensor:
    """A feature map [n, D, h, w] on a grid of side x side: means when it is finer, bilinear when it is coarser."""
    if stage.shape[-1] > side:
        return functional.adaptive_avg_pool2d(stage, side)
    if stage.shape[-1] < side:
        return functional.interpolate(stage, size=(side, side), mode="bilinear", align_corners=False)
    return stage


class Projector(nn.Module):
    """The paper's one learnable projection to the width of the language model: Linear, then LayerNorm."""

    def __init__(self, visual_width: int, text_width: int):
        super().__init__()
        self.linear = nn.Linear(visual_width, text_width)
        self.norm = nn.LayerNorm(text_width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[n, N, C] visual features to [n, N, D] tokens."""
        return self.norm(self.linear(features))

"""Bias tuning: every linear layer of the language model gets a scale and a shift, and only these are trained.

``y = alpha * (W x + beta)`` (EarthGPT, eq. 15; first in LLaMA-Adapter V2). The paper draws alpha from N(mu, sigma^2)
and states neither; here alpha starts at exactly 1 and beta at 0, so the model is at first the one before, bit for bit.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class BiasTunedLinear(nn.Linear):
    """A Linear with a trainable scale alpha and shift beta of its outputs, both [out_features]."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device=None, dtype=None):
        super().__init__(in_features, out_features, bias, device, dtype)
        self.alpha = nn.Parameter(torch.ones(out_features, device=device, dtype=dtype))
        self.beta = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in_features] to [..., out_features], in the precision of the product (that of ``autocast``)."""
        y = functional.linear(x, self.weight, self.bias)
        return self.alpha.to(y.dtype) * (y + self.beta.to(y.dtype))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain Linear that computes the same: ``W' = diag(alpha) W``, ``b' = alpha * (b + beta)``."""
        linear = nn.Linear(self.in_features, self.out_features, device="meta", dtype=self.weight.dtype)
        bias = self.beta if self.bias is None else self.bias + self.beta
        linear.weight = nn.Parameter(self.alpha[:, None] * self.weight)
        linear.bias = nn.Parameter(self.alpha * bias)
        return linear


def add_bias_tuning(language_model: nn.Module) -> list[str]:
    """Gives every linear layer of the decoder an alpha and a beta, keeping its weights; names the layers changed.

    The output layer (``lm_head``) is left as it is: it may share its weight with the embeddings, and a merged scale
    would break that. Layers that have them already are kept.
    """
    head = language_model.get_output_embeddings()
    changed = []
    for name, linear in list(language_model.named_modules()):
        if type(linear) is not nn.Linear or linear is head:
            continue
        tuned = BiasTunedLinear(
            linear.in_features, linear.out_features, linear.bias is not None, device="meta", dtype=linear.weight.dtype
        )
        tuned.weight, tuned.bias = linear.weight, linear.bias
        options = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        tuned.alpha = nn.Parameter(torch.ones(linear.out_features, **options))
        tuned.beta = nn.Parameter(torch.zeros(linear.out_features, **options))
        language_model.set_submodule(name, tuned)
        changed.append(name)
    return changed


def merge_bias_tuning(language_model: nn.Module) -> list[str]:
    """Folds alpha and beta into plain Linear layers, in place; names the layers changed."""
    tuned = [(name, module) for name, module in language_model.named_modules() if isinstance(module, BiasTunedLinear)]
    for name, module in tuned:
        language_model.set_submodule(name, module.merged())
    return [name for name, _ in tuned]

"""LoRA: a small product of two matrices beside linear layers of the language model, through the library peft.

``y = W x + (alpha / rank) B A x`` with A [rank, in] random and B [out, rank] zero (Hu et al., 2022), so the model is at
first the one before. The layers are put inside the model, not around it: it is saved and loaded as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from earthgpt.types import EarthGPTError


def add_lora(
    language_model: nn.Module, rank: int, alpha: float, dropout: float = 0.0, targets: Sequence[str] = ()
) -> list[str]:
    """Gives linear layers of the decoder a LoRA, keeping their weights; names the layers changed.

    targets: last parts of layer names (``q_proj``); empty means every linear layer but the output layer.
    Raises EarthGPTError where peft is not installed, and for a target that no layer is named like.
    """
    peft = _peft()
    head = language_model.get_output_embeddings()
    linear = [
        name
        for name, module in language_model.named_modules()
        if type(module) is nn.Linear and module is not head and not name.endswith((".default", ".base_layer"))
    ]
    for target in targets:
        if not any(name.rpartition(".")[2] == target for name in linear):
            found = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise EarthGPTError(f"lora: no linear layer is named {target!r}; there are {found}.")
    chosen = [name for name in linear if not targets or name.rpartition(".")[2] in targets]
    if chosen:
        options = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen)
        peft.inject_adapter_in_model(options, language_model)
    return chosen


@torch.no_grad()
def merge_lora(language_model: nn.Module) -> list[str]:
    """Adds each product to its weight and leaves plain Linear layers, in place; names the layers changed."""
    tuners = _peft().tuners.tuners_utils
    found = [(name, one) for name, one in language_model.named_modules() if isinstance(one, tuners.BaseTunerLayer)]
    for name, layer in found:
        layer.merge(safe_merge=True)
        language_model.set_submodule(name, layer.get_base_layer())
    return [name for name, _ in found]


def _peft():
    try:
        import peft
    except ImportError:
        raise EarthGPTError("LoRA needs the library peft: pip install 'earthgpt[train]'.") from None
    return peft

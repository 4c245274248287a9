"""The model that a recipe starts from, made ready to be trained."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from earthgpt.config import NewModel, Recipe
from earthgpt.files import whole_file, whole_folder
from earthgpt.mixture import FromDataset, Mixture, Part
from earthgpt.model import EarthGPTConfig, EarthGPTForConditionalGeneration, EarthGPTProcessor, efficientnet
from earthgpt.model.dense import Vocabulary
from earthgpt.model.loading import load, reason_of
from earthgpt.model.presets import check_image_size
from earthgpt.model.tokenization import train_tokenizer
from earthgpt.model.vision import start_positions
from earthgpt.types import EarthGPTError


def prepare(
    recipe: Recipe, parts: list[Part], tell: Callable[[str], None] = lambda text: None
) -> tuple[EarthGPTForConditionalGeneration, EarthGPTProcessor]:
    """The model that a recipe starts from, and its processor. ``tell`` hears what is left out of it."""
    if isinstance(recipe.model, NewModel):
        model, processor = new_model(recipe, parts)
    else:
        model, processor = load(recipe.model, dtype="auto")
    for side in (recipe.image_size, *recipe.image_sizes):
        check_image_size(model.config, side)
    if recipe.image_size:
        model.config.image_size = processor.image_size = recipe.image_size
    if recipe.bias_tuning:
        model.add_bias_tuning()
    if recipe.lora:
        model.add_lora(**recipe.lora.model_dump())
    if recipe.dense:
        had = None if model.dense_heads is None else model.dense_heads.vocabulary
        vocabulary = vocabulary_of(recipe, parts, had)
        model.add_dense_heads(vocabulary)
        if had is not None and vocabulary != had:
            new = sorted({*vocabulary.scenes, *vocabulary.objects} - {*had.scenes, *had.objects})
            tell(
                f"The dense heads start anew, as those of the model do not know {', '.join(new[:5]) or 'these classes'}"
                f"{', ...' if len(new) > 5 else ''} (classes.json in a folder of your own gives classes other names)."
            )
    elif model.dense_heads is not None and any(_reads(model, pattern) for pattern in recipe.trainable):
        model.drop_dense_heads()
        tell("The dense heads are left out, as what they read from is trained: give dense a weight to train them too.")
    return model, processor


def _reads(model: EarthGPTForConditionalGeneration, pattern: str) -> bool:
    """Whether the parameters of a pattern are of what the dense heads read from."""
    names = (name for name, _ in model.named_parameters() if name.startswith(("vision_encoder.", "mm_projector.")))
    return any(fnmatch.fnmatch(name, pattern) for name in names)


def new_model(recipe: Recipe, parts: list[Part]) -> tuple[EarthGPTForConditionalGeneration, EarthGPTProcessor]:
    """A model with random weights, and a tokenizer learned from the text of the mixture."""
    new = recipe.model
    kept = Path(recipe.output) / "tokenizer"
    if not kept.is_dir():  # a run that goes on keeps the words it began with, whatever became of the data
        with whole_folder(kept) as fresh:
            train_tokenizer(Mixture(recipe, parts, None).texts(), new.vocabulary).save_pretrained(fresh)
    tokenizer = AutoTokenizer.from_pretrained(kept)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    vit = _configuration(new.vit)
    image_size = recipe.image_size or getattr(vit, "image_size", None)
    if not image_size:
        raise EarthGPTError(f"A vit of model_type {vit.model_type} says no image_size: give the recipe one.")
    config = EarthGPTConfig(
        vit_config=vit,
        cnn_config=_configuration(new.cnn),
        text_config=_configuration({**new.text, "vocab_size": len(tokenizer), **ids}),
        image_size=image_size,
        vit_layers=new.vit_layers and list(new.vit_layers),
        cnn_stages=new.cnn_stages and list(new.cnn_stages),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        **({"cnn_mean": efficientnet.MEAN, "cnn_std": efficientnet.STD} if new.cnn_weights else {}),
    )
    processor = EarthGPTProcessor(
        tokenizer,
        image_size=config.image_size,
        patch_size=vit.patch_size,
        user="<|user|>",
        assistant="<|assistant|>",
    )
    model = EarthGPTForConditionalGeneration(config)
    start_positions(model.vision_encoder.vit)
    if new.cnn_weights:
        if not isinstance(model.vision_encoder.cnn, efficientnet.EfficientNetLiteModel):
            raise EarthGPTError(
                "cnn_weights are those of an EfficientNet-Lite; name it: model_type = efficientnet_lite."
            )
        efficientnet.load_published(model.vision_encoder.cnn, new.cnn_weights)
    return model, processor


def _configuration(part: Mapping[str, Any]) -> PreTrainedConfig:
    """Raises EarthGPTError for a kind of model that transformers does not know."""
    if "model_type" not in part:
        raise EarthGPTError("Each part of a new model names its model_type.")
    try:
        return AutoConfig.for_model(**part)
    except ValueError as error:
        raise EarthGPTError(reason_of(error)) from None


def vocabulary_of(recipe: Recipe, parts: list[Part], had: Vocabulary | None = None) -> Vocabulary:
    """The classes that dense heads learn: those that the model ``had``, where it had all of the sources; a run that
    goes on keeps those it began with. Raises EarthGPTError where no source states a class."""
    kept = Path(recipe.output) / "classes.json"
    if not kept.is_file():
        found = Vocabulary.of(sample for part in parts if isinstance(part, FromDataset) for sample in part.samples)
        if not (found.scenes or found.objects):
            raise EarthGPTError("dense: no source states classes of objects or scenes: there is nothing to learn.")
        found = had if had is not None and had.holds(found) else found
        with whole_file(kept) as fresh:
            fresh.write_text(json.dumps(found.to_dict(), indent=2))
    return Vocabulary.from_dict(json.loads(kept.read_text()))


def choose_trainable(model: torch.nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Freezes all parameters but those whose names match a pattern; returns the names that do.

    Raises EarthGPTError for a pattern that matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            tops = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names))
            raise EarthGPTError(f"trainable: no parameter of the model is named like {pattern!r}; there are {tops}.")
    chosen = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return sorted(chosen)


def keep_precision(model: torch.nn.Module, precision: str) -> None:
    """Trained weights in float32; frozen ones in the precision of the arithmetic, with what their layers keep."""
    frozen = getattr(torch, precision)
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        for parameter in own:
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else frozen)
        trained = any(parameter.requires_grad for parameter in own)
        for buffer in module.buffers(recurse=False) if own else ():  # means and variances of batch norms
            if buffer.is_floating_point():
                buffer.data = buffer.data.to(torch.float32 if trained else frozen)


def compile_parts(model: EarthGPTForConditionalGeneration) -> None:
    """Lets torch compile what has few shapes: the encoders, and the feed-forward layers for rows of any length."""
    model.vision_encoder.vit.compile()
    model.vision_encoder.cnn.compile()
    for layer in model.language_model.modules():
        if hasattr(layer, "mlp"):
            layer.mlp.compile(dynamic=True)


def train_mode(model: torch.nn.Module) -> None:
    """Training mode where something is trained; frozen parts stay as in use (batch statistics, dropout)."""
    model.eval()
    for module in model.modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            module.training = True

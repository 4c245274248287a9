"""An untrained EarthGPT from public parts: a ViT, a CNN and a language model, each as its owners release it.

The parts keep their weights; only the projector between them is new. Training (``recipes/align.toml``) goes on from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from tokenizers import AddedToken
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils import logging

from earthgpt.files import whole_folder
from earthgpt.model.configuration import IMAGENET_MEAN, IMAGENET_STD, EarthGPTConfig
from earthgpt.model.loading import load, reason_of
from earthgpt.model.modeling import EarthGPTForConditionalGeneration
from earthgpt.model.open_clip import Release, listed, read_release
from earthgpt.model.presets import CLIP_MEAN, CLIP_STD, ModelSize, check_image_size, on_meta, size_of
from earthgpt.model.processing import EarthGPTProcessor
from earthgpt.model.vision import without_pooling
from earthgpt.types import EarthGPTError

DTYPES = ("bfloat16", "float16", "float32")
SHARD = "4GB"  # size of a file of weights at most
IMAGE_TOKEN = "<image>"
# What stands before a question and an answer. Plain words: a language model knows them, and no tokenizer has them as
# special tokens, which would need training that the paper's stages do not give (embeddings are frozen). The line ends
# there, because most tokenizers put the space of a word into the word.
USER, ASSISTANT = "Human: ", "\nAssistant:\n"
# Mean and deviation of pixels by kind of encoder, where a part comes without its image processor.
PIXELS = {
    "clip_vision_model": (CLIP_MEAN, CLIP_STD),
    "siglip_vision_model": ((0.5,) * 3, (0.5,) * 3),
    "vit": ((0.5,) * 3, (0.5,) * 3),
}
# What the readers of transformers, safetensors and torch raise for files that are missing, damaged, of another kind, or
# that need a library which is not installed.
UNREADABLE = (
    OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError, ImportError, SafetensorError, UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Assembled:
    """A model that was written: its folder, how large it is, and what else there is to know."""

    folder: Path
    size: ModelSize
    notes: tuple[str, ...]


def assemble(
    folder: str | Path,
    vit: str,
    cnn: str,
    text: str,
    image_size: int = 448,
    dtype: str = "bfloat16",
    seed: int = 0,
    shard: str = SHARD,
) -> Assembled:
    """Writes a model of three parts, each a folder or a hub id, and its processor, complete or not at all.

    vit: a vision transformer, or a whole CLIP or SigLIP. cnn: a network with stages, or a ConvNeXt in the form of
    open_clip. text: a causal language model with its tokenizer. seed: of the projector's random start.
    The weights are held once: each part is read in ``dtype`` and put in its place.
    Raises EarthGPTError when the folder exists, and when parts are missing, of the wrong kind, damaged, or do not fit.
    """
    folder = Path(folder)
    if dtype not in DTYPES:
        raise EarthGPTError(f"The dtype is one of {', '.join(DTYPES)}; not {dtype!r}.")
    _refuse(folder)
    logging.disable_progress_bar()
    notes: list[str] = []
    vit, cnn, text = _place("ViT", vit), _place("CNN", cnn), _place("language model", text)

    # First all that is small, so that a mistake is told before any weights are read.
    vit_config = _vision_config("ViT", vit)
    release = _release(cnn)
    cnn_config = release.config if release else _vision_config("CNN", cnn)
    text_config, tokenizer = _text_config(text), _tokenizer(text)
    vit_mean, vit_std = _pixels("ViT", vit, vit_config, notes)
    cnn_mean, cnn_std = (release.mean, release.std) if release else _pixels("CNN", cnn, cnn_config, notes)
    config = EarthGPTConfig(
        vit_config, cnn_config, text_config, image_size,
        vit_mean=vit_mean, vit_std=vit_std, cnn_mean=cnn_mean, cnn_std=cnn_std,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = _fitted(config, vit, cnn)

    kind = getattr(torch, dtype)
    model.vision_encoder.vit = without_pooling(_read(AutoModel, "ViT", vit, vit_config, kind))
    model.vision_encoder.cnn = release.model(kind) if release else _read(AutoModel, "CNN", cnn, cnn_config, kind)
    del release
    model.language_model = _read(AutoModelForCausalLM, "language model", text, text_config, kind, notes)
    make_room(model.language_model, len(tokenizer))
    config.text_config = model.language_model.config
    start_projector(model, kind, seed)
    processor = EarthGPTProcessor(
        tokenizer, config.image_size, vit_config.patch_size, vit_mean, vit_std, IMAGE_TOKEN, USER, ASSISTANT
    )
    _write(folder, model, processor, shard)
    return Assembled(folder, size_of(model), tuple(notes))


def merge(name: str | Path, folder: str | Path) -> int:
    """Writes a model with its bias tuning or LoRA folded into plain layers; returns how many layers were changed.

    Raises EarthGPTError when the folder exists, there is neither, or the language model cannot hold biases.
    """
    folder = Path(folder)
    _refuse(folder)
    model, processor = load(name, dtype="auto")
    if not (model.config.bias_tuning or model.config.lora):
        raise EarthGPTError(f"{name} has no bias tuning and no LoRA: there is nothing to merge.")
    changed = model.merge_bias_tuning() if model.config.bias_tuning else model.merge_lora()
    _write(folder, model, processor, SHARD)
    return len(changed)


# --- parts -------------------------------------------------------------------------------------------------------


def _place(part: str, name: str) -> str:
    """A folder as it is, or a hub id; raises EarthGPTError when it can be neither."""
    name = str(name)
    if Path(name).is_dir():
        return name
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).exists():
        return name
    raise EarthGPTError(f"There is no folder {name} for the {part}; give a folder, or a hub id owner/name.")


@contextmanager
def _reading(part: str, place: str) -> Iterator[None]:
    """Turns what is raised for unreadable files into one EarthGPTError."""
    try:
        yield
    except UNREADABLE as error:
        advice = "" if Path(place).is_dir() else " Without a network, give a folder that holds it."
        raise EarthGPTError(f"Cannot read the {part} {place}: {reason_of(error)}{advice}") from error


def _vision_config(part: str, place: str) -> PreTrainedConfig:
    """The configuration of an encoder; of a model with several parts (CLIP, SigLIP), that of its vision part."""
    with _reading(part, place):
        config = AutoConfig.from_pretrained(place)
    config = getattr(config, "vision_config", config)
    wanted = ("patch_size", "num_hidden_layers") if part == "ViT" else ("hidden_sizes", "depths")
    if hasattr(config, "vocab_size") or not all(hasattr(config, name) for name in wanted):
        meant = "a vision transformer" if part == "ViT" else "a convolutional network with stages"
        raise EarthGPTError(f"The {part} {place} is a {config.model_type}; give {meant}.")
    return config


def _release(place: str) -> Release | None:
    with _reading("CNN", place):
        return read_release(place)


def _text_config(place: str) -> PreTrainedConfig:
    with _reading("language model", place):
        config = AutoConfig.from_pretrained(place)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or hasattr(config, "vision_config"):
        raise EarthGPTError(f"The language model {place} is a {config.model_type}; give a causal language model.")
    return config


def _tokenizer(place: str):
    """The tokenizer, with the image token, and with padding where it had none: padding is masked, so any token does."""
    with _reading("tokenizer of", place):
        tokenizer = AutoTokenizer.from_pretrained(place)
    if tokenizer.eos_token is None:
        raise EarthGPTError(f"The tokenizer of {place} has no end token (eos_token), which ends every answer.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True)
    return tokenizer


def _pixels(part: str, place: str, config: PreTrainedConfig, notes: list[str]) -> tuple[tuple, tuple]:
    """Mean and deviation of the pixels that an encoder was trained on, as its image processor states them."""
    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(place)
    except OSError:
        found = {}
    if "image_mean" in found and "image_std" in found:
        return tuple(found["image_mean"]), tuple(found["image_std"])
    mean, std = PIXELS.get(config.model_type, (IMAGENET_MEAN, IMAGENET_STD))
    notes.append(f"The {part} says nothing of its pixels; taken are a mean of {mean} and a deviation of {std}.")
    return mean, std


def _fitted(config: EarthGPTConfig, vit: str, cnn: str) -> EarthGPTForConditionalGeneration:
    """The model without weights, after a pass of an image without pixels: shapes tell whether the parts fit."""
    check_image_size(config)
    room = getattr(config.text_config, "max_position_embeddings", None)
    if room and room <= config.tokens_per_image:
        raise EarthGPTError(
            f"An image of {config.image_size} px takes {config.tokens_per_image} places, but the language model has "
            f"{room}; take a smaller image size."
        )
    try:
        model = on_meta(config)
        pixels = torch.empty(1, 3, config.image_size, config.image_size, device="meta")
        with torch.no_grad():
            found = tuple(model.vision_encoder(pixels).shape)
    except (*UNREADABLE, AttributeError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EarthGPTError(f"{vit} and {cnn} cannot be the encoders of {config.image_size} px: {reason}") from error
    if found != (expected := (1, config.grid**2, config.visual_width)):
        raise EarthGPTError(f"{vit} and {cnn} give features {list(found)} of an image; expected {list(expected)}.")
    return model


def _read(auto, part: str, place: str, config, dtype: torch.dtype, notes: list[str] | None = None) -> nn.Module:
    """A part with its weights. Raises EarthGPTError when weights are missing or of another shape than configured.

    notes: weights that have no place are told there; without it they are other parts of the release, as of CLIP.
    """
    with _reading(part, place):
        model, found = auto.from_pretrained(
            place, config=config, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    pooling = ("pooler.", "head.")  # heads of the ViT that are left out (``without_pooling``)
    if missing := sorted(name for name in found["missing_keys"] if not name.startswith(pooling)):
        raise EarthGPTError(f"The {part} {place} lacks {len(missing)} weights of its configuration: {listed(missing)}.")
    if other := sorted(f"{name} {list(has)}, not {list(wants)}" for name, has, wants in found["mismatched_keys"]):
        raise EarthGPTError(f"The {part} {place} is not of the shape that its configuration says: {listed(other)}.")
    if notes is not None and (left := sorted(found["unexpected_keys"])):
        notes.append(f"{len(left)} weights of the {part} have no place and were left out: {listed(left)}.")
    return model.eval()


# --- what is new -------------------------------------------------------------------------------------------------


@torch.no_grad()
def make_room(language_model: nn.Module, tokens: int) -> None:
    """Gives embeddings and output layer rows for new tokens, where there are fewer; the old rows stay as they are.

    A new row is the mean of the old ones, so a new token is never likelier than the average of the others
    (J. Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021).
    The number of rows is a multiple of 64, as graphics cards like it.
    """
    rows = language_model.get_input_embeddings().weight.shape[0]
    if tokens <= rows:
        return
    language_model.resize_token_embeddings(tokens, pad_to_multiple_of=64, mean_resizing=False)
    for layer in (language_model.get_input_embeddings(), language_model.get_output_embeddings()):
        layer.weight[rows:] = layer.weight[:rows].mean(0, dtype=torch.float32).to(layer.weight.dtype)


@torch.no_grad()
def start_projector(model: EarthGPTForConditionalGeneration, dtype: torch.dtype, seed: int) -> None:
    """Gives the projector, image start and image end, so far without weights, the random start of a new model."""
    width = model.config.text_config.hidden_size
    model.mm_projector.to_empty(device="cpu")
    model.image_start, model.image_end = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model._init_weights(model.mm_projector)
        model._init_weights(model)
    model.mm_projector.to(dtype)
    model.image_start.data, model.image_end.data = model.image_start.to(dtype), model.image_end.to(dtype)


# --- files -------------------------------------------------------------------------------------------------------


def _refuse(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise EarthGPTError(f"{folder} exists; give another folder, or remove it first.")


def _write(folder: Path, model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor, shard: str) -> None:
    """A new folder with the model and its processor, whole or not at all."""
    logging.disable_progress_bar()
    try:
        with whole_folder(folder) as fresh:
            model.save_pretrained(fresh, max_shard_size=shard)
            processor.save_pretrained(fresh)
    except (OSError, SafetensorError) as error:
        raise EarthGPTError(f"Cannot write {folder}: {error}") from error

"""Recipes: what a training run is, as data. TOML in, a frozen tree out; a word that nobody knows is an error."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from earthgpt.types import EarthGPTError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Tree(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Tree):
    """A data set in a mixture.

    root: its folder; empty for a set that needs none. part: "train" or "val" of a split that its owners did not
    divide (``datasets.part_of``); None for the whole split. tasks: names; empty means all that the set supports.
    repeat: how often each image comes in an epoch; may be a fraction.
    """

    dataset: str
    root: str = ""
    split: str = "train"
    part: Literal["train", "val"] | None = None
    tasks: tuple[str, ...] = ()
    repeat: Annotated[float, Field(gt=0)] = 1.0


class NewModel(_Tree):
    """A model from scratch: configurations of its parts as transformers takes them, with ``model_type``.

    vocabulary: tokens of the tokenizer that is learned from the text of the mixture.
    """

    vit: dict[str, Any]
    cnn: dict[str, Any]
    text: dict[str, Any]
    vit_layers: tuple[int, ...] | None = None
    cnn_stages: tuple[int, ...] | None = None
    vocabulary: Positive = 2048


class Recipe(_Tree):
    """A training run.

    output: folder for checkpoints, logs and the trained model.
    model: the model to start from: a name, a folder, a hub id, or the parts of a new one.
    trainable: patterns of parameter names (``fnmatch``); all others stay as they are.
    bias_tuning: gives the language model alpha and beta before training (``model.bias_tuning``).
    image_size: side of the padded square in pixels; None keeps the model's.
    steps, batch_size: optimiser steps and images in each.
    learning_rate: peak of a cosine that starts after a linear ``warmup`` (share of the steps) and ends at 0.
    text_tokens: most text tokens for an image; turns are drawn at random until they are full.
    dialogue: share of the images whose turns follow each other in one dialogue; in the others every turn stands on
        its own behind the image (``segment_ids`` in ``modeling``).
    decimals: of the coordinates. augment: turn, mirror, crop and re-light the images, with their facts.
    precision: of the arithmetic; the weights are kept in float32.
    save_every: steps between checkpoints. workers: processes that prepare batches; 0 prepares them in this one.
    """

    output: str
    model: str | NewModel
    sources: tuple[Source, ...] = Field(min_length=1)
    trainable: tuple[str, ...] = ("*",)
    bias_tuning: bool = False
    image_size: Positive | None = None
    seed: int = 0
    steps: Positive
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: Share = 0.03
    clip: Annotated[float, Field(gt=0)] = 8.0
    text_tokens: Positive = 512
    dialogue: Share = 1.0
    decimals: Literal[2, 3] = 3
    augment: bool = False
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    save_every: Positive = 500
    workers: Annotated[int, Field(ge=0)] = 2


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a TOML file; ``overrides`` are ``key=value`` with dots for what lies deeper
    (``sources.0.root=..``).

    A value is read as TOML and, where that fails, taken as a string. Raises EarthGPTError for a missing or broken
    file, an unknown key, and a value of the wrong kind.
    """
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text())
    except OSError as error:
        raise EarthGPTError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EarthGPTError(f"{path} is not valid TOML: {error}.") from None
    for override in overrides:
        _set(tree, override)
    try:
        return Recipe(**tree)
    except ValidationError as error:
        raise EarthGPTError(f"{path}: {_first(error)}") from None


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Writes the recipe as JSON, every value spelled out."""
    path.write_text(json.dumps(recipe.model_dump(), indent=2) + "\n")


def _set(tree: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise EarthGPTError(f"An override is key=value, not {override!r}.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = key.split(".")
    try:
        for word in path:
            tree = tree[int(word)] if isinstance(tree, list) else tree.setdefault(word, {})
        tree[int(last) if isinstance(tree, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise EarthGPTError(f"There is nothing to override at {key!r}.") from None


def _first(error: ValidationError) -> str:
    """The first thing wrong, in one line."""
    # A misspelt key is also a missing one, and what is wrong inside a table is also no string: the cause comes first.
    order = {"extra_forbidden": 0, "missing": 1, "string_type": 3}
    found = min(error.errors(), key=lambda one: order.get(one["type"], 2))
    where = ".".join(str(word) for word in found["loc"] if word not in ("str", "NewModel"))
    if found["type"] == "extra_forbidden":
        known = {*Recipe.model_fields, *Source.model_fields, *NewModel.model_fields}
        close = difflib.get_close_matches(str(found["loc"][-1]), known, 1)
        return f"unknown key {where!r}" + (f"; did you mean {close[0]!r}?" if close else ".")
    return f"{where}: {found['msg']}."

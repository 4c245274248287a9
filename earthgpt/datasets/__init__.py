"""A data set is a value: what its owners state about it, and a reader of its official files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from earthgpt.types import EarthGPTError, Sample, Sensor

# The tasks that boxes with classes answer.
DETECTION = ("object_detection", "visual_grounding", "visual_question_answering", "region_captioning")


@dataclass(frozen=True)
class Paper:
    """How MMRS-1M used a data set (Table I of the paper, and what could be recomputed of it).

    splits: the parts it took. turns: the question-answer pairs that Table I counts; None for sets it only evaluates on.
    tasks: what it asked; the first task of the set when empty. share: of each class, ``int(share * n)`` images, where
    the paper took a part; which ones is not known. keep: the samples it took, where splits do not say it all.
    per_class: whether objects were asked for class by class after all together. oriented: whether they were asked for
    with oriented boxes too. oriented_set: the data set that states these, where they come in files of their own.
    tiled: whether images were cut into tiles first.
    """

    splits: tuple[str, ...]
    turns: int | None = None
    tasks: tuple[str, ...] = ()
    share: float | None = None
    keep: Callable[[Sample], bool] | None = None
    per_class: bool = True
    oriented: bool = False
    oriented_set: str = ""
    tiled: bool = False


@dataclass(frozen=True)
class Dataset:
    """One data set. It is downloaded by hand from ``homepage``; ``root`` is the folder it unpacks to.

    ``tasks`` are the names of the tasks that its facts answer, what it is about first. ``splits`` are the official
    ones, or ("all",).
    ``counts`` is how many images each split of the full release has, ``objects`` how many objects (captions of a
    caption set, questions of a question set, expressions of a grounding set), where known; "total" is of all splits,
    where their own numbers are not known.
    ``unnamed`` are labels of objects that nobody could name. ``paper`` is how MMRS-1M used it; None when it did not.
    ``reader`` takes (root, split, defects). ``identity`` takes the name of an image to the one that it has in all sets
    that hold it ("aid/airport_1"), None where it is of no other set; as a whole None where no image is.
    ``downloaded`` is whether there are files of it, in a ``root``: scenes that are made as they are read have none.
    """

    title: str
    sensors: tuple[Sensor, ...]
    tasks: tuple[str, ...]
    licence: str
    homepage: str
    citation: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    reader: Callable[[Path, str, Counter], Iterator[Sample]]
    objects: Mapping[str, int] = field(default_factory=dict)
    unnamed: tuple[str, ...] = ()
    paper: Paper | None = None
    identity: Callable[[str], str | None] | None = None
    downloaded: bool = True

    def read(
        self,
        root: Path | str | None,
        split: str,
        defects: Counter | None = None,
        unnamed: bool = False,
        part: str | None = None,
    ) -> Iterator[Sample]:
        """The samples of a split, in a fixed order. Whatever is left out or mended is counted in ``defects`` by kind,
        and with the first split where it belongs to none.

        Objects that nobody could name are left out, with a count, unless ``unnamed``. part: "train" or "val" of a split
        that its owners did not divide (``part_of``); None means all of it.

        A sample whose image is missing has the size that its annotation states, or (0, 0) where only words are said.

        Raises EarthGPTError when the data set has no such split, or ``root`` does not hold its files.
        """
        root = Path(root or ".").absolute()
        if split not in self.splits:
            hint = ""
            if self.splits == ("all",):
                hint = ' Take "all", or its part "val", a tenth that is held out: --split all --part val.'
            raise EarthGPTError(f"{self.title} has splits {', '.join(self.splits)}; not {split!r}.{hint}")
        if not root.is_dir():
            raise EarthGPTError(f"No folder {root}: {self.title} would be read from it.")
        defects = Counter() if defects is None else defects
        if part not in (None, "train", "val"):
            raise EarthGPTError(f'A part of a split is "train" or "val", not {part!r}.')
        samples = self._chosen_from(self.reader(root, split, defects), defects)
        if part is not None:
            samples = (sample for sample in samples if part_of(sample.name) == part)
        return samples if unnamed or not self.unnamed else self._named(samples, defects)

    def _chosen_from(self, samples: Iterator[Sample], defects: Counter) -> Iterator[Sample]:
        for sample in samples:
            if sample.label is not None and sample.choices and sample.label not in sample.choices:
                defects["labels that are not among the choices"] += 1
            yield sample

    def _named(self, samples: Iterator[Sample], defects: Counter) -> Iterator[Sample]:
        for sample in samples:
            kept = tuple(region for region in sample.regions if region.label not in self.unnamed)
            lost = len(sample.regions) - len(kept)
            defects["objects that nobody could name"] += lost
            yield replace(sample, regions=kept, complete=sample.complete and not lost) if lost else sample


def images_of(dataset: str) -> Callable[[str], str]:
    """The ``identity`` of images that lie in other folders under the file names they have in ``dataset``."""
    return partial(_named, dataset)


def _named(dataset: str, name: str) -> str:
    return f"{dataset}/{PurePosixPath(name).stem.lower()}"


def at_hand(sample: Sample) -> bool:
    """Whether its pixels are there, as far as its head tells: what is said of an image is read, and counted, without it
    too. A size of (0, 0) is that of an image that is missing or broken."""
    return callable(sample.image) or (min(sample.size) > 0 and sample.image.is_file())


def part_of(name: str) -> str:
    """ "train" or "val" (one sample in ten) for a sample of a set that its owners did not divide.

    It depends on the sample's name alone, so it is the same everywhere and stays when a set grows.
    """
    return "val" if hashlib.sha1(name.encode()).digest()[0] < 26 else "train"

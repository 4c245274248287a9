"""What is taken of a data set for an instruction set: as the paper took it, or clean."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from earthgpt import lookup
from earthgpt.config import BuildSource
from earthgpt.datasets import Dataset, Paper
from earthgpt.folders import MissingFilesError
from earthgpt.tasks import Task, Turn
from earthgpt.types import Sample


@dataclass(frozen=True)
class Plan:
    """What is taken of a data set: ``datasets.Paper`` says what the fields mean.

    part: "train" of a split that its owners did not divide. unnamed: with objects that nobody could name. empty:
    whether images without objects are asked about.
    """

    splits: tuple[str, ...]
    tasks: tuple[str, ...]
    part: str | None = None
    share: float | None = None
    keep: Callable[[Sample], bool] | None = None
    per_class: bool = True
    oriented: bool = True
    oriented_set: str = ""
    tiled: bool = False
    unnamed: bool = False
    empty: bool = True

    def only(self, split: str) -> Plan:
        """The same of one split."""
        return replace(self, splits=(split,))


def plan(card: Dataset, policy: str, source: BuildSource | None = None) -> Plan:
    """What a policy, "paper" or "clean", takes of a data set; what ``source`` says comes first.

    A set that the paper did not use is taken as in a clean build: all but its tests, and of an undivided set the part
    "train" (``datasets.part_of``). Of a folder of one's own, which is read as a whole and in parts, that is "train".
    """
    paper = card.paper
    if policy == "paper" and paper:
        found = Plan(
            paper.splits, paper.tasks or card.tasks[:1], None, paper.share, paper.keep, paper.per_class,
            paper.oriented, paper.oriented_set, paper.tiled, unnamed=True, empty=False,
        )  # fmt: skip
    else:
        paper = paper or Paper(())
        divided = tuple(split for split in card.splits if split != "all" and not split.startswith("test"))
        if "all" in card.splits and "train" in divided:  # its "val" may be the tenth that is held out
            divided = ("train",)
        found = Plan(
            divided or card.splits,
            card.tasks,
            None if divided else "train",
            oriented_set=paper.oriented_set,
            tiled=paper.tiled,
        )
    if source is None:
        return found
    given = {"splits": source.splits, "tasks": source.tasks, "share": source.share, "tiled": source.tile}
    found = replace(found, **{name: value for name, value in given.items() if value not in ((), None)})
    return replace(found, part=None) if source.splits else found


def take(card: Dataset, root: str | Path, taken: Plan, seed: int, defects: Counter) -> Iterator[tuple[Sample, Sample]]:
    """The samples of a plan in a fixed order, each with itself again or with its oriented boxes, where a set of their
    own states these. Images that this has no boxes for are counted in ``defects``.
    """
    other = lookup.find("datasets", taken.oriented_set) if taken.oriented_set else None
    for split in taken.splits:
        turned = _by_image(other, root, split, taken, defects) if other else {}
        samples = card.read(root, split, defects, taken.unnamed, taken.part)
        samples = (sample for sample in samples if taken.keep is None or taken.keep(sample))
        for sample in samples if taken.share is None else _part(samples, taken.share, seed):
            oriented = turned.get(Path(sample.name).stem) if other else sample
            defects["images without their oriented boxes"] += oriented is None
            yield sample, oriented or sample


def _by_image(card: Dataset, root: str | Path, split: str, taken: Plan, defects: Counter) -> dict[str, Sample]:
    """The samples of the set with the oriented boxes; none where its files are not there."""
    own = Counter()
    try:
        found = {Path(sample.name).stem: sample for sample in card.read(root, split, own, taken.unnamed)}
    except MissingFilesError:
        return {}  # every image is counted by who asks for it
    own.pop("missing images", None)  # they are those of the upright set, and counted there
    defects.update({f"{kind} (oriented)": count for kind, count in own.items()})
    return found


def _part(samples: Iterable[Sample], share: float, seed: int) -> list[Sample]:
    """``int(share * n)`` samples of each class, which ones by ``seed``, in the order they came."""
    samples = list(samples)
    classes: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        label = sample.label or next((region.label for region in sample.regions), "")
        classes.setdefault(label, []).append(i)
    chosen = {
        i
        for label, places in classes.items()
        for i in random.Random(f"{seed}/{label}").sample(places, int(share * len(places)))
    }
    return [sample for i, sample in enumerate(samples) if i in chosen]


def asked(
    sample: Sample, oriented: Sample, taken: Plan, rng: random.Random, decimals: int = 2, tagged: bool = False
) -> Iterator[tuple[Task, list[Turn]]]:
    """For each task of a plan what is asked about a sample; tasks without anything to ask are left out.

    Objects are asked for all together and then class by class, with upright boxes and then with oriented ones.
    """
    for name in taken.tasks:
        task = replace(lookup.find("tasks", name), decimals=decimals)
        if name == "object_detection":
            task = replace(task, tagged=tagged)
            turns = _detection(task, sample, oriented, taken, rng)
        else:
            turns = task.turns(sample, rng)
        if turns:
            yield task, turns


def _detection(task: Task, sample: Sample, oriented: Sample, taken: Plan, rng: random.Random) -> list[Turn]:
    if not (sample.regions or taken.empty):
        return []
    turns = [turn for turn in task.turns(sample, rng) if turn.kind == "hbb"]
    turned = []
    if taken.oriented or oriented is not sample:
        turned = [turn for turn in task.turns(oriented, rng) if turn.kind == "obb"]
    return turns + turned if taken.per_class else turns[:1] + turned[:1]

"""A download against its card: what was found beside what was expected, and every defect with what is done about it."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthgpt import lookup
from earthgpt.datasets import Dataset
from earthgpt.policies import asked, plan, take
from earthgpt.types import EarthGPTError, Sample

# What of a Sample answers a task; None is its class.
_FACTS = {
    "scene_classification": None,
    "image_captioning": "captions",
    "visual_question_answering": "questions",
    "visual_grounding": "expressions",
    "object_detection": "regions",
}
WHOLE = "all"  # the split that holds all others, where a set has it
# What readers do about each kind of defect, by a pattern of its name; the first that fits counts.
ACTIONS = {
    r".*, left out": "left out",
    r"missing images|unreadable images": "not trained on; facts are read that need no size",
    r"wrong sizes in annotations": "the size of the image file is taken",
    r"boxes cut at the edge": "cut at the edge of the image",
    r"boxes (without area|outside the image|that are not numbers)|objects without a box": "the object is left out",
    r"(objects stated|files listed) twice": "kept once",
    r"objects of unknown class .*": "left out; absence is not asked about in that image",
    r".* regions|objects that nobody could name": "left out as its owners say; the paper asks for DontCare of HIT-UAV",
    r"crowds|shapes without area|objects cut by tiling": "left out; absence is not asked about in that image",
    r"unreadable lines": "the line is left out",
    r"annotation files of no kind that is known": "left out, and so is the image; see the first lines of the file",
    r"tables without image and caption": "left out",
    r"labels that are not among the choices": "kept as they are: a model that chooses from the list cannot be right",
    r"scores of boxes": "what a model wrote is taken as it is, without its scores",
    r"empty captions|questions without an answer": "left out",
    r"annotations of unlisted images|annotations without an image": "left out",
    r"missing annotations|images without annotations": "the image is left out",
    r"missing (class folders|question files)|HRRSD images without their split lists": "the rest is read",
    r"images without their oriented boxes": "asked about with upright boxes only",
    r"images of (another sensor|no part|no class)|images outside class folders|folders of no class": "left out",
    r"lines without an image of the folder": "the line is left out",
    r"captions of another part than their image": "they go with the part of its first caption",
    r"names that stand twice": "read each time; the reader has to give each image a name of its own",
    r"further annotations of an image": "the first kind of annotation counts",
}


@dataclass(frozen=True)
class SplitCount:
    """Images and objects of a split, found and expected. ``problem`` says why it could not be read, None if it was.

    Objects are captions, questions or expressions where these are what the set states; None where it states classes
    of whole images. None as expected: not known.
    """

    images: int
    objects: int | None
    images_expected: int | None
    objects_expected: int | None
    problem: str | None = None


@dataclass(frozen=True)
class Checked:
    """A download beside its card. ``images`` are those of all splits, each once, though it may be in several. ``turns``
    are those that ``policy`` gives, of images that it cuts into tiles before they are cut; ``turns_expected`` those of
    Table I.
    """

    name: str
    title: str
    root: str
    policy: str
    splits: dict[str, SplitCount]
    images: int
    turns: int
    turns_expected: int | None
    defects: dict[str, int]

    @property
    def unit(self) -> str:
        """What its objects are: "captions", "questions", "expressions" or "objects"."""
        fact = _fact(lookup.find("datasets", self.name))
        return "objects" if fact in (None, "regions") else fact

    @property
    def found(self) -> dict[str, int | None]:
        """Images, objects and turns that are there, of all splits together."""
        splits = [self.splits[WHOLE]] if WHOLE in self.splits else self.splits.values()
        objects = [split.objects for split in splits if split.objects is not None]
        return {"images": self.images, "objects": sum(objects) if objects else None, "turns": self.turns}

    @property
    def expected(self) -> dict[str, int | None]:
        """Images, objects and turns that the card states of all splits together; None: not known."""
        card = lookup.find("datasets", self.name)
        return {
            "images": _whole(card, card.counts),
            "objects": _whole(card, card.objects),
            "turns": self.turns_expected,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "root": self.root,
            "policy": self.policy,
            "found": self.found,
            "expected": self.expected,
            "matches": {what: self.found[what] == self.expected[what] for what in self.found if self.expected[what]},
            "splits": {
                split: {
                    "images": {"found": count.images, "expected": count.images_expected},
                    "objects": {"found": count.objects, "expected": count.objects_expected},
                    "problem": count.problem,
                }
                for split, count in self.splits.items()
            },
            "defects": [
                {"kind": kind, "count": count, "action": what_is_done(kind)} for kind, count in self.defects.items()
            ],
        }


def _whole(card: Dataset, counts: Any) -> int | None:
    """The number of all splits together, where it is known."""
    if "total" in counts:
        return counts["total"]
    return sum(counts[split] for split in card.splits) if set(card.splits) <= set(counts) else None


def what_is_done(kind: str) -> str:
    """What readers do about a kind of defect."""
    kind = kind.removesuffix(" (oriented)")
    return next(action for pattern, action in {**ACTIONS, ".*": "counted"}.items() if re.fullmatch(pattern, kind))


def check(
    name: str, root: str | Path, policy: str = "paper", progress: Callable[[str, int], None] = lambda split, done: None
) -> Checked:
    """Reads all splits of a data set and counts. Images need not be there: annotations alone are counted too.

    ``progress`` is told how many images of a split were read. Raises EarthGPTError when nothing of the set is in
    ``root``: what was looked for and what is there.
    """
    card = lookup.find("datasets", name)
    splits, problems, names = {}, [], set()
    of_splits, of_whole = Counter(), Counter()
    for split in card.splits:
        own = Counter()
        images, objects, problem, here = 0, None, None, set()
        try:
            for sample in card.read(root, split, own, unnamed=True):
                images += 1
                own["names that stand twice"] += sample.name in here
                here.add(sample.name)
                count = stated(card, sample)
                objects = objects if count is None else (objects or 0) + count
                if images % 500 == 0:
                    progress(split, images)
        except EarthGPTError as error:
            problem = str(error)
            problems.append(error)
        names |= here
        (of_whole if split == WHOLE else of_splits).update(own)
        splits[split] = SplitCount(images, objects, card.counts.get(split), card.objects.get(split), problem)
    if len(problems) == len(card.splits):
        raise problems[0]
    defects = of_splits | of_whole  # the larger of both: what the whole counts is counted in its splits once more
    turns, of_plan = 0, Counter()
    taken = plan(card, policy)
    for split in taken.splits:
        if splits[split].problem is None:
            for sample, oriented in take(card, root, taken.only(split), 0, of_plan):
                turns += sum(len(turns) for _, turns in asked(sample, oriented, taken, random.Random(sample.name)))
    for kind, count in of_plan.items():
        if kind == "images without their oriented boxes" or kind.endswith(" (oriented)"):
            defects[kind] = count
    expected = card.paper.turns if policy == "paper" and card.paper else None
    found = dict(sorted((+defects).items(), key=lambda pair: (-pair[1], pair[0])))
    return Checked(name, card.title, str(root), policy, splits, len(names), turns, expected, found)


def stated(card: Dataset, sample: Sample) -> int | None:
    """How many objects, captions, questions or expressions a sample states; None where a set is about whole images."""
    fact = _fact(card)
    return None if fact is None else len(getattr(sample, fact))


def _fact(card: Dataset) -> str | None:
    """What a set states of its images besides their class, by the first of its tasks that tells; None for nothing."""
    return next((_FACTS[task] for task in card.tasks if task in _FACTS), None)

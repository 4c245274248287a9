"""What a model sees in an image as facts, and the answers that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property

import numpy as np
import torch

from earthgpt import lookup
from earthgpt.coordinates import padded_square
from earthgpt.generation import Answer
from earthgpt.geo.raster import Raster
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.tasks import Deduced, Task
from earthgpt.tasks.wording import classes_meant
from earthgpt.types import Conversation, OrientedBox, Region, Size

SIZES = (1.0, 2.0, 2.85)  # that objects are looked for in, as multiples of what the language model sees
LEAST = 0.05  # the score of an object that is perceived at all


class Seen:
    """The facts (``tasks.Facts``) that the dense heads of a model find in an image, once they are asked for.

    Images that are seen ``together`` are looked at in one pass. Only a model with dense heads can be asked.
    """

    def __init__(
        self,
        model: EarthGPTForConditionalGeneration,
        processor: EarthGPTProcessor,
        raster: Raster,
        least: float = LEAST,
    ):
        """``least``: the score that an object has at least."""
        self.model, self.processor, self.raster, self.least = model, processor, raster, least
        self.vocabulary, self.size = model.dense_heads.vocabulary, raster.size
        self.classes = self.vocabulary.seen_by(raster.sensor)
        self.group: Sequence[Seen] = (self,)

    @classmethod
    def together(
        cls, model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor, rasters: Iterable[Raster]
    ) -> list[Seen]:
        """What is seen in some images: where one is looked at, so are all others."""
        group = [cls(model, processor, raster) for raster in rasters]
        for one in group:
            one.group = group
        return group

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the squares that objects are looked for in: several sizes of the image, none larger than itself."""
        usual, patch = self.processor.image_size, self.processor.patch_size
        sides = (round(size * usual / patch) * patch for size in SIZES)
        return tuple(side for side in sides if side <= max(usual, *self.raster.pixels.shape[:2]))

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The objects of ``classes``, best first."""
        alike = [one for one in self.group if (one.sides, one.classes) == (self.sides, self.classes)]
        for part in self._parts([one for one in alike if "regions" not in vars(one)], self.sides[-1]):
            with torch.inference_mode():
                views = (self._view(part, side) for side in self.sides)
                found = self.model.find(views, self.classes, self.least)
            for one, objects in zip(part, found, strict=True):
                vars(one)["regions"] = tuple(one._regions(*objects))
        return vars(self)["regions"]

    @cached_property
    def scenes(self) -> dict[str, float]:
        """How likely each class of the scene is."""
        side = self.processor.image_size
        for part in self._parts([one for one in self.group if "scenes" not in vars(one)], side):
            with torch.inference_mode():
                likely = self.model.scene(self._view(part, side)).tolist()
            for one, row in zip(part, likely, strict=True):
                vars(one)["scenes"] = dict(zip(self.vocabulary.scenes, row, strict=True))
        return vars(self)["scenes"]

    def choose(self, choices: Sequence[str]) -> list[float] | None:
        """How likely each class of a closed list is, relative to the others: in [0, 1], summing to 1. None where the
        heads do not know all of them."""
        meant = classes_meant(choices, self.vocabulary.scenes)
        if meant is None:
            return None
        total = sum(self.scenes[name] for name in meant)
        return [self.scenes[name] / total for name in meant] if total else None

    def _parts(self, group: Sequence[Seen], side: int) -> list[Sequence[Seen]]:
        """Images that one pass looks at, in squares of such a side: as many as take the memory of 16 of the usual."""
        count = max(1, int(16 * (self.processor.image_size / side) ** 2))
        return [group[start : start + count] for start in range(0, len(group), count)]

    def _view(self, group: Sequence[Seen], side: int) -> torch.Tensor:
        squares = [self.processor.square(one.raster.pixels, one.raster.sensor, side) for one in group]
        return self.processor.normalise(squares).to(self.model.device, self.model.dtype)

    def _regions(self, corners: np.ndarray, kinds: np.ndarray, scores: np.ndarray) -> Iterator[Region]:
        frame = padded_square(self.size)
        for points, kind, score in zip(corners.tolist(), kinds.tolist(), scores.tolist(), strict=True):
            box = OrientedBox(tuple(map(frame.fractions, points)))
            if box.bounds.area:  # else it lies in the padding
                yield Region(box, self.vocabulary.objects[kind], score)


def known_scenes(model: EarthGPTForConditionalGeneration) -> Sequence[str]:
    """The classes of scenes that a model's dense heads were trained on; none without heads."""
    return () if model.dense_heads is None else model.dense_heads.vocabulary.scenes


def deduce(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    conversations: Sequence[Conversation],
    look: Callable[[Raster], Seen] | None = None,
    tasks: Sequence[Task] = (),
) -> list[Answer | None]:
    """The next message of each conversation about an open image, where it follows from what the dense heads find there;
    None where the language model is to answer.

    The tokens of such an answer are its boxes, with their scores as probabilities, and what is written between them,
    with the probability of the rest (``tasks.Deduced``). look: what is seen in an image, where that is kept from turn
    to turn; None looks at each image once for this call. tasks: of one's own, asked before those of the package.
    """
    if model.dense_heads is None:
        return [None] * len(conversations)
    if look is None:
        shown = {id(one.images[0]): one.images[0] for one in conversations if len(one.images) == 1}
        seen = dict(zip(shown, Seen.together(model, processor, shown.values()), strict=True))

        def look(raster: Raster) -> Seen:
            return seen[id(raster)]

    tasks = (*tasks, *_of_the_package())
    return [_deduce(talk, look(talk.images[0]), tasks) if len(talk.images) == 1 else None for talk in conversations]


@cache
def _of_the_package() -> tuple[Task, ...]:
    return tuple(lookup.find("tasks", name) for name in lookup.names("tasks"))


def _deduce(conversation: Conversation, seen: Seen, tasks: Sequence[Task]) -> Answer | None:
    for task in tasks:
        found = task.deduce(conversation.messages[-1].text, seen)
        if found is not None:
            return _answer(task, found, seen.size)
    return None


def _answer(task: Task, found: Deduced, size: Size) -> Answer:
    spans, probabilities, place = [], [], 0
    stated = [span for _, span in task.spans(found.text, size)] if found.regions else []
    for (start, end), region in zip(stated, found.regions, strict=True):
        spans += [(place, start), (start, end)]
        probabilities += [found.probability, region.score]
        place = end
    return Answer(found.text, (*spans, (place, len(found.text))), (*probabilities, found.probability), True)

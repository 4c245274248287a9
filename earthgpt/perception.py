"""What a model sees in an image as facts, and the answers that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch

from earthgpt.coordinates import padded_square
from earthgpt.generation import Answer
from earthgpt.geo.raster import Raster
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.tasks import (
    Deduced,
    Task,
    object_detection,
    region_captioning,
    scene_classification,
    visual_grounding,
    visual_question_answering,
)
from earthgpt.types import Conversation, OrientedBox, Region, Size

SIZES = (1.0, 1.5, 2.0, 2.85)  # that objects are looked for in, as multiples of what the language model sees
LEAST = 0.05  # the score of an object that is perceived at all
_TASKS = (
    object_detection.TASK,
    visual_grounding.TASK,
    region_captioning.TASK,
    visual_question_answering.TASK,
    scene_classification.TASK,
)


class Seen:
    """The facts (``tasks.Facts``) that the dense heads of a model find in an image, once they are asked for."""

    def __init__(
        self,
        model: EarthGPTForConditionalGeneration,
        processor: EarthGPTProcessor,
        raster: Raster,
        least: float = LEAST,
    ):
        """``least``: the score of an object."""
        self.model, self.processor, self.raster, self.least = model, processor, raster, least
        self.vocabulary, self.size = model.dense_heads.vocabulary, raster.size
        self.classes = self.vocabulary.sensors.get(str(raster.sensor), self.vocabulary.objects)

    def _view(self, side: int) -> torch.Tensor:
        square = self.processor.square(self.raster.pixels, self.raster.sensor, side)
        return self.processor.normalise([square]).to(self.model.device, self.model.dtype)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The objects of ``classes``, best first; looked for in several sizes of the image, none larger than itself."""
        usual, patch = self.processor.image_size, self.processor.patch_size
        sides = [round(size * usual / patch) * patch for size in SIZES]
        views = [self._view(side) for side in sides if side <= max(usual, *self.raster.pixels.shape[:2])]
        with torch.inference_mode():
            corners, kinds, scores = self.model.find(views, self.classes, self.least)
        frame, regions = padded_square(self.size), []
        for points, kind, score in zip(corners.tolist(), kinds.tolist(), scores.tolist(), strict=True):
            box = OrientedBox(tuple(map(frame.fractions, points)))
            if box.bounds.area:  # else it lies in the padding
                regions.append(Region(box, self.vocabulary.objects[kind], score))
        return tuple(regions)

    @cached_property
    def scenes(self) -> dict[str, float]:
        """How likely each class of the scene is."""
        with torch.inference_mode():
            likely = self.model.scene(self._view(self.processor.image_size))[0].tolist()
        return dict(zip(self.vocabulary.scenes, likely, strict=True))


def deduce(
    model: EarthGPTForConditionalGeneration,
    processor: EarthGPTProcessor,
    conversations: Sequence[Conversation],
    look: Callable[[Raster], Seen] | None = None,
) -> list[Answer | None]:
    """The next message of each conversation about an open image, where it follows from what the dense heads find there;
    None where the language model is to answer.

    The tokens of such an answer are its boxes, with their scores as probabilities, and what is written between them,
    with the probability of the rest (``tasks.Deduced``). look: what is seen in an image, where that is kept from turn
    to turn; None looks at each image once for this call.
    """
    if model.dense_heads is None:
        return [None] * len(conversations)
    look = look or remembered(model, processor)
    return [_deduce(talk, look(talk.images[0])) if len(talk.images) == 1 else None for talk in conversations]


def remembered(model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor) -> Callable[[Raster], Seen]:
    """What is seen in each image, looked for once as long as this function is there."""
    kept: dict[int, Seen] = {}  # they hold the images, so that no other gets the same id
    return lambda raster: kept.setdefault(id(raster), Seen(model, processor, raster))


def _deduce(conversation: Conversation, seen: Seen) -> Answer | None:
    for task in _TASKS:
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


def choose(
    model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor, raster: Raster, choices: Sequence[str]
) -> list[float] | None:
    """How likely the dense heads find each class of a closed list, relative to the others: in [0, 1], summing to 1.
    None where they do not know all of them."""
    if model.dense_heads is None or not set(choices) <= set(model.dense_heads.vocabulary.scenes):
        return None
    scenes = Seen(model, processor, raster).scenes
    total = sum(scenes[name] for name in choices)
    return [scenes[name] / total for name in choices] if total else None

"""What a model sees in an image as facts, and the answers that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch

from earthgpt.coordinates import padded_square
from earthgpt.generation import Answer
from earthgpt.geo.raster import Raster
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.tasks import Task, object_detection, region_captioning, visual_grounding, visual_question_answering
from earthgpt.types import Conversation, OrientedBox, Region, Sample, Size

SIZES = (1.0, 1.5, 2.0, 2.5)  # that an image is looked at in, as multiples of what the language model sees
LEAST = 0.05  # the score of an object that is perceived at all
_TASKS = (object_detection.TASK, visual_grounding.TASK, region_captioning.TASK, visual_question_answering.TASK)


def perceive(
    model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor, raster: Raster, least: float = LEAST
) -> Sample:
    """The objects that the model's dense heads find in an image, with a score of at least ``least``, best first;
    ``classes`` are all that they look for in images of its sensor.

    The image is looked at in several sizes, none larger than itself.
    """
    vocabulary = model.dense_heads.vocabulary
    classes = vocabulary.sensors.get(str(raster.sensor), vocabulary.objects)
    sides = [round(size * processor.image_size / processor.patch_size) * processor.patch_size for size in SIZES]
    sides = [side for side in sides if side <= max(processor.image_size, *raster.pixels.shape[:2])]
    with torch.inference_mode():
        squares = (processor.square(raster.pixels, raster.sensor, side) for side in sides)
        views = [processor.normalise([square]).to(model.device, model.dtype) for square in squares]
        corners, kinds, scores = model.find(views, classes, least)
    frame, regions = padded_square(raster.size), []
    for points, kind, score in zip(corners.tolist(), kinds.tolist(), scores.tolist(), strict=True):
        box = OrientedBox(tuple(map(frame.fractions, points)))
        if box.bounds.area:  # else it lies in the padding
            regions.append(Region(box, vocabulary.objects[kind], score))
    return Sample(raster, raster.name, raster.size, raster.sensor, regions=tuple(regions), classes=classes)


def deduce(
    model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor, conversations: Sequence[Conversation]
) -> list[Answer | None]:
    """The next message of each conversation about an open image, where it follows from what the dense heads find there;
    None where the language model is to answer.

    The tokens of such an answer are its boxes, with their scores as probabilities, and what is written between them.
    """
    if model.dense_heads is None:
        return [None] * len(conversations)
    seen = {id(raster): cache(lambda raster=raster: perceive(model, processor, raster))
            for one in conversations for raster in one.images}  # fmt: skip
    return [_deduce(one, seen[id(one.images[0])]) if len(one.images) == 1 else None for one in conversations]


def _deduce(conversation: Conversation, facts: Callable[[], Sample]) -> Answer | None:
    for task in _TASKS:
        found = task.deduce(conversation.messages[-1].text, facts)
        if found is not None:
            return _answer(task, *found, conversation.images[0].size)
    return None


def _answer(task: Task, text: str, regions: Sequence[Region], size: Size) -> Answer:
    spans, probabilities, place = [], [], 0
    stated = [span for _, span in task.spans(text, size)] if regions else []
    for (start, end), region in zip(stated, regions, strict=True):
        spans += [(place, start), (start, end)]
        probabilities += [1.0, region.score]
        place = end
    return Answer(text, (*spans, (place, len(text))), (*probabilities, 1.0), True)

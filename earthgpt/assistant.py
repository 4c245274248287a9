"""EarthGPT as people use it: images and words in, values out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from earthgpt.generation import Answer, Reading, choice_probabilities, generate
from earthgpt.geo.raster import Raster, open_raster
from earthgpt.geo.scene import Scene
from earthgpt.geo.tiles import tile_side
from earthgpt.grammar import Grammar
from earthgpt.model import EarthGPTForConditionalGeneration, EarthGPTProcessor
from earthgpt.model.loading import DEFAULT
from earthgpt.model.loading import load as load_model
from earthgpt.perception import Seen, deduce, known_scenes
from earthgpt.tasks import (
    Task,
    image_captioning,
    object_detection,
    region_captioning,
    scene_classification,
    visual_grounding,
    visual_question_answering,
)
from earthgpt.tasks.wording import class_meant, class_name, class_names
from earthgpt.types import Box, Conversation, EarthGPTError, Message, OrientedBox, Region, Sensor

_log = logging.getLogger("earthgpt")


@dataclass(frozen=True)
class Classification:
    """The class of a scene, and how likely each class of the list is: they sum to 1. Without a list there is only what
    was said, with its score."""

    label: str
    probabilities: dict[str, float]


class EarthGPT:
    """A model and its processor, asked in the words of the tasks.

    An image is a Raster, a file name, an array or a PIL image; ``sensor`` says what took it (``earthgpt.open``).
    ``constrained``: what follows from the facts that the model's dense heads find is answered by them
    (``perception.deduce``), and other answers with boxes are of the form of their task, so that none is possible that
    cannot be read (``generation.generate``); without it all are as the language model gives them.
    ``tasks``: of one's own, whose ``deduce`` is asked too.
    Every method raises EarthGPTError for an image that cannot be read and for an empty question.
    """

    def __init__(self, model: EarthGPTForConditionalGeneration, processor: EarthGPTProcessor, constrained: bool = True):
        self.model, self.processor, self.constrained = model, processor, constrained
        self.tasks: tuple[Task, ...] = ()

    def __repr__(self) -> str:
        parameters = sum(one.numel() for one in self.model.parameters())
        return f"<EarthGPT of {parameters / 1e6:,.1f} million parameters on {self.model.device}>"

    def say(
        self,
        conversation: Conversation,
        sensor: Sensor | str | None = None,
        grammar: Grammar | None = None,
        memory: Memory | None = None,
    ) -> Answer:
        """The next message of a conversation, with the probability of each of its tokens; one of a grammar, if any.

        memory: of the turns before; what was seen and read there is not looked at again.
        """
        if not isinstance(conversation, Conversation):
            raise EarthGPTError(
                f"A Conversation is gone on with, not a {type(conversation).__name__}; see ask and chat."
            )
        conversation = replace(conversation, images=tuple(open_raster(one, sensor) for one in conversation.images))
        memory = memory or Memory(self)
        if self.constrained:
            (found,) = deduce(self.model, self.processor, [conversation], memory.look, self.tasks)
            if found:
                return found
        squares = [memory.square(raster) for raster in conversation.images]
        options = {"grammars": [grammar if self.constrained else None], "reading": memory.reading}
        return generate(self.model, self.processor, [conversation], squares, **options)[0]

    def ask(self, image: Any, question: str, sensor: Sensor | str | None = None) -> str:
        """A short answer to a question in words."""
        question = visual_question_answering.TASK.question(_words(question, "question"))
        raster = open_raster(image, sensor)
        if visual_question_answering.TASK.objects_in(question):
            self._tell_of_size(raster)
        return self._say(raster, question).text.strip()

    def caption(self, image: Any, sensor: Sensor | str | None = None) -> str:
        """One sentence about the image."""
        return self._say(open_raster(image, sensor), image_captioning.TASK.question()).text.strip()

    def classify(
        self, image: Any, classes: str | Sequence[str] | None = None, sensor: Sensor | str | None = None
    ) -> Classification:
        """The class of the scene: the most likely of ``classes`` (names, or text with commas between them), or in the
        model's own words when None."""
        raster, classes = open_raster(image, sensor), class_names(classes)
        if classes is None:
            answer = self._say(raster, scene_classification.TASK.question())
            label = scene_classification.TASK.parse(answer.text, raster.size) or ""
            return Classification(label, {label: answer.probability()})
        likely = self._likely(raster, classes)
        probabilities = dict(sorted(zip(classes, likely, strict=True), key=lambda pair: -pair[1]))
        return Classification(next(iter(probabilities)), probabilities)

    def _likely(self, raster: Raster, classes: Sequence[str]) -> list[float]:
        heads = self.constrained and self.model.dense_heads is not None
        if heads and (found := Seen(self.model, self.processor, raster).choose(classes)):
            return found
        classes = scene_classification.TASK.listed(classes, known_scenes(self.model))
        conversation = Conversation.of((raster,), scene_classification.TASK.question(classes))
        return choice_probabilities(self.model, self.processor, conversation, [self._square(raster)], classes)

    def describe(self, image: Any, box: Box | OrientedBox | Region, sensor: Sensor | str | None = None) -> str:
        """A phrase for a region of the image."""
        raster = open_raster(image, sensor)
        box = box.box if isinstance(box, Region) else box
        if not isinstance(box, Box | OrientedBox):
            raise EarthGPTError(
                f"A region is a Box, OrientedBox or Region, not a {type(box).__name__}; of pixels: "
                "Box.from_pixels(left, top, right, bottom, size)."
            )
        return self._say(raster, region_captioning.TASK.question(box.bounds, raster.size)).text.strip()

    def ground(
        self, image: Any, phrase: str, oriented: bool = False, sensor: Sensor | str | None = None
    ) -> Region | None:
        """The region that a phrase describes, with a score; None when the model names none.

        A score is how likely a box that the dense heads found overlaps the object by half, as far as they are
        calibrated; of a box that the language model wrote, the geometric mean of the probabilities of its tokens.
        """
        raster = open_raster(image, sensor)
        phrase = _words(phrase, "phrase")
        self._tell_of_size(raster)
        grammar = visual_grounding.TASK.grammar(oriented)
        answer = self._say(raster, visual_grounding.TASK.question(phrase, oriented), grammar)
        found = next(visual_grounding.TASK.spans(answer.text, raster.size), None)
        return Region(found[0], phrase, answer.probability(*found[1])) if found else None

    def detect(
        self,
        image: Any,
        classes: str | Sequence[str] | None = None,
        oriented: bool = False,
        sensor: Sensor | str | None = None,
        steps: Sequence[str] | str | None = (),
        min_score: float = 0.0,
    ) -> list[Region]:
        """The objects of ``classes`` (names, or text with commas between them), one class after the other, or of all
        when None, with upright or oriented boxes and scores (of ``ground``).

        Those with a score below ``min_score``, in [0, 1], are left out. ``steps`` are asked first, in the same
        dialogue: "count", "horizontal" (``ObjectDetection.steps``).
        """
        if not (isinstance(min_score, int | float | np.number) and 0 <= min_score <= 1):
            raise EarthGPTError(f"min_score is a number from 0 to 1, not {min_score!r}.")
        raster, classes, found = open_raster(image, sensor), class_names(classes), []
        self._tell_of_size(raster)
        memory = Memory(self)  # the image is looked at once for all classes
        for label in (None,) if classes is None else classes:
            label = None if label is None else _words(label, "class")
            chat = Chat(self, (raster,), memory)
            for question in object_detection.TASK.steps(steps, label, oriented):
                chat.ask(question)
            grammar = object_detection.TASK.grammar(label, oriented)
            answer = chat.say(object_detection.TASK.question(label, oriented), grammar)
            spans = object_detection.TASK.spans(answer.text, raster.size)
            found += [replace(region, score=answer.probability(*span)) for region, span in spans]
        return [region for region in found if region.score >= min_score]

    def unknown(self, classes: str | Iterable[str], sensor: Sensor | str) -> list[str]:
        """Those of some classes of objects (as of ``detect``) that the dense heads were not trained to find in images
        of a sensor: the language model guesses where they are and whether. Empty for a model without dense heads, which
        says nothing of it."""
        heads = self.model.dense_heads if self.constrained else None
        known = heads.vocabulary.seen_by(sensor) if heads is not None else ()
        names = class_names(classes) if known and classes else ()
        return [one for one in names if class_meant(one, known) is None]

    def labels(self, classes: str | Iterable[str] | None = None) -> list[str]:
        """What ``detect`` calls the objects of some classes, in their order: what files number classes by, the same for
        every image of every sensor. With None all classes that the dense heads find by any sensor; none without dense
        heads."""
        heads = self.model.dense_heads if self.constrained else None
        known = () if heads is None else heads.vocabulary.objects
        if not classes:
            return list(known)
        return list(dict.fromkeys(class_meant(one, known) or class_name(one) for one in class_names(classes)))

    def seen_whole(self, raster: Raster | Scene) -> str:
        """What is lost where objects are looked for in an image as a whole: a sentence, "" where the image is no larger
        than one of the tiles that ``scenes.scan`` would go through."""
        (width, height), tile = raster.size, tile_side(self.processor.image_size)
        if max(width, height) <= tile:
            return ""
        return (
            f"{width:,} x {height:,} pixels are looked at as a whole, and small objects are missed: tiles of {tile} "
            "find them (the command detect, ask --tile, earthgpt.scenes.scan, or a job of the server)."
        )

    def _tell_of_size(self, raster: Raster) -> None:
        if said := self.seen_whole(raster):
            _log.warning("%s: %s", raster.name, said)

    def chat(self, image: Any = None, sensor: Sensor | str | None = None) -> Chat:
        """A dialogue of several turns about an image, or about none."""
        return Chat(self, () if image is None else (open_raster(image, sensor),))

    def _say(self, raster: Raster, question: str, grammar: Grammar | None = None) -> Answer:
        return self.say(Conversation.of((raster,), question), grammar=grammar)

    def _square(self, raster: Raster) -> np.ndarray:
        return self.processor.square(raster.pixels, raster.sensor)


class Memory:
    """What a model saw in the images of a dialogue and read of its words, from turn to turn."""

    def __init__(self, assistant: EarthGPT):
        self.assistant, self.reading = assistant, Reading()
        self._seen: dict[int, Seen] = {}  # they hold the images, so that no other gets the same id
        self._squares: dict[int, tuple[Raster, np.ndarray]] = {}

    def look(self, raster: Raster) -> Seen:
        """What the dense heads find in an image."""
        return self._seen.setdefault(id(raster), Seen(self.assistant.model, self.assistant.processor, raster))

    def square(self, raster: Raster) -> np.ndarray:
        """What the language model sees of an image."""
        if id(raster) not in self._squares:
            self._squares[id(raster)] = raster, self.assistant._square(raster)
        return self._squares[id(raster)][1]


class Chat:
    """A dialogue: what was said before is part of what is asked next, and is not read again."""

    def __init__(self, assistant: EarthGPT, images: tuple[Raster, ...], memory: Memory | None = None):
        """memory: of another dialogue about the same images, which goes on to be its own."""
        self.assistant = assistant
        self._memory = memory or Memory(assistant)
        self.conversation = Conversation(images)

    def __repr__(self) -> str:
        said = "".join(f"\n{message.role}: {message.text}" for message in self.conversation.messages)
        return f"<Chat about {len(self.conversation.images)} image(s)>{said}"

    def ask(self, text: str) -> str:
        """The answer; question and answer are kept. A question that fails is not."""
        return self.say(text).text.strip()

    def say(self, text: str, grammar: Grammar | None = None) -> Answer:
        """What ``ask`` answers, with the probability of each token; one of a grammar, if any."""
        asked = Message("user", _words(text, "question"))
        longer = replace(self.conversation, messages=(*self.conversation.messages, asked))
        answer = self.assistant.say(longer, grammar=grammar, memory=self._memory)
        self.conversation = replace(longer, messages=(*longer.messages, Message("assistant", answer.text.strip())))
        return answer


def load(
    name: str | Path = DEFAULT,
    device: str | None = None,
    constrained: bool = True,
    dtype: str | None = None,
    compiled: bool | None = False,
) -> EarthGPT:
    """The default model, or one by folder or hub id, on a device ("cpu", "cuda", ...; None: a GPU where there is one).

    constrained: as of ``EarthGPT``. dtype: of the weights; "auto" takes them as they were saved, and so does None on a
    GPU, while on a processor it is "float32". compiled: answers are decoded by a program that is compiled now for this
    processor, in a few seconds, or on a CUDA GPU by graphs of its passes: faster, with the same answers to rounding.
    None: on a processor, where that can be; where not, a warning is logged.
    Raises EarthGPTError when there is no such model, device or type of weights, and where ``compiled`` cannot be: on
    another GPU, and on a processor without a compiler.
    """
    place = _device(device)
    model, processor = load_model(name, dtype or ("float32" if place.type == "cpu" else "auto"))
    model = model.to(place)
    if compiled or (compiled is None and model.device.type == "cpu"):
        try:
            model.compile_decoding()
        except EarthGPTError as error:
            if compiled:
                raise
            _log.warning("Decoding is not compiled. %s", error)
    return EarthGPT(model, processor, constrained)


def _device(name: str | torch.device | None) -> torch.device:
    try:
        found = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=found)  # a name may be right where there is no such device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        reason = "" if reason.startswith("Expected one of") else f" ({reason})"  # a list of all that torch ever knew
        raise EarthGPTError(f'There is no device {name!r} here{reason}: "cpu" is, and "cuda" with a GPU.') from None
    return found


def _words(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise EarthGPTError(f"A {what} is one text, not a {type(text).__name__}.")
    text = text.encode(errors="replace").decode().strip()  # half a surrogate, as of another encoding, is no text
    if not text:
        raise EarthGPTError(f"The {what} is empty.")
    return text

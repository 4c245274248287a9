"""A task turns the facts of a sample into questions with true answers, and the text of an answer back into a value."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Protocol

from earthgpt import lookup
from earthgpt.coordinates import Frame, padded_square
from earthgpt.metrics.accuracy import AnswerScores, ConfusionMatrix
from earthgpt.metrics.statistics import Figures
from earthgpt.types import Conversation, EarthGPTError, Message, Region, Sample, Size


@dataclass(frozen=True, slots=True)
class Turn:
    """One question about an image and its true answer, a value of the task.

    ``references`` are all true answers where there are several (captions). ``kind`` groups questions in reports.
    """

    question: str
    answer: Any
    references: tuple[Any, ...] = ()
    kind: str = ""


class Facts(Protocol):
    """What is known of an image.

    size: (width, height) in pixels. classes: of objects that were looked for. regions: all that were found, with scores
    where they are not certain, best first. scenes: how likely each class of the scene is, in relation to the others.
    """

    size: Size
    classes: Sequence[str]
    regions: Sequence[Region]
    scenes: Mapping[str, float]


class Deduced(NamedTuple):
    """An answer that follows from facts.

    regions: those whose boxes the text states, in their order there. probability: that the rest of it is right, in
    [0, 1], as far as the scores of the facts are probabilities that do not depend on each other.
    """

    text: str
    regions: tuple[Region, ...] = ()
    probability: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """What a task finds when predictions are compared with true answers.

    ``figures`` is a function of weights: how often each question counts, None for once. It returns metrics by name,
    fractions in [0, 1] except those of captions, which are times 100, and errors of counts. ``each`` says of every
    question how good its answer is: a ``score`` in [0, 1], and ``right``, a bool, where an answer is right or wrong.
    ``by_class`` are figures of single classes, ``confusion`` says what is taken for what, where there are classes.
    ``left_out`` says of each metric that is missing why.
    """

    figures: Figures
    each: Sequence[Mapping[str, Any]]
    by_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: ConfusionMatrix | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task(ABC):
    """Wording, answer text, parser and metric of one kind of question.

    ``parse`` and ``format`` are inverses to printed precision. ``decimals`` is how many digits of a coordinate are
    printed: 2 as in the MMRS-1M release, 3 by default. ``varied`` asks in several ways and about more things, for
    training; without it the wording is that of the paper. ``frame`` gives the frame that boxes are written in for an
    image of a (width, height); it is the padded square, unless another model is asked. Templates are fields, so
    ``dataclasses.replace`` changes the wording.
    """

    decimals: int = 3
    varied: bool = False
    frame: Callable[[Size], Frame] = padded_square

    @abstractmethod
    def turns(self, sample: Sample, rng: random.Random) -> list[Turn]:
        """What can be asked about the sample, with true answers; empty when it states nothing for this task."""

    def format(self, answer: Any, size: Size) -> str:
        """The answer as text: as it is, where it is words. ``size`` is the (width, height) of the image, for boxes."""
        return answer

    def parse(self, text: str, size: Size) -> Any | None:
        """The answer in a text; None when it cannot be read. Of words: the text without white space and full stop
        around it, None when nothing is left."""
        return text.strip().rstrip(".").strip() or None

    @abstractmethod
    def compare(self, predictions: Sequence[Any | None], answers: Sequence[Any]) -> Comparison:
        """Compares the predictions with the answers. A prediction of None counts as wrong."""

    def deduce(self, question: str, facts: Facts) -> Deduced | None:
        """The answer that follows from the facts of an image to a question in one of the task's own wordings.

        None where the facts do not tell; they are looked at only for a question that they may answer.
        """
        return None

    def objects_in(self, question: str) -> tuple[str, ...]:
        """The classes of objects that a question in one of the task's own wordings names, as it writes them; none where
        it names none, and for other wordings."""
        return ()

    def spans(self, text: str, size: Size) -> Iterable[tuple[Any, tuple[int, int]]]:
        """The boxes in a text, each with the characters (start, end) that state its numbers; an answer of boxes takes
        their scores from there. Empty for a task whose answers are words."""
        return ()

    def figures(self, predictions: Sequence[Any | None], answers: Sequence[Any]) -> Figures:
        """The ``figures`` of ``compare``."""
        return self.compare(predictions, answers).figures

    def score(self, predictions: Sequence[Any | None], answers: Sequence[Any]) -> dict[str, float]:
        """The ``figures`` of all questions."""
        return dict(self.figures(predictions, answers)(None))

    def wording(self, template: str, variants: Sequence[str], rng: random.Random) -> str:
        """The template; for training, two times in five, one of its variants instead."""
        return rng.choice(variants) if self.varied and variants and rng.random() < 0.4 else template

    def for_training(self) -> Task:
        """The same task with varied questions."""
        return replace(self, varied=True)


def right_or_wrong(scores: AnswerScores) -> list[dict[str, Any]]:
    """``Comparison.each`` of answers in words: right by the lenient policy, and by the strict one."""
    pairs = zip(scores.lenient.tolist(), scores.strict.tolist(), strict=True)
    return [{"score": float(right), "right": right, "right_strict": strict} for right, strict in pairs]


def can_be_asked(task: Task, samples: Iterable[Sample]) -> bool:
    """Whether any of the samples states something for a task."""
    return any(task.turns(sample, random.Random(sample.name)) for sample in samples)


def converse(image: Any, size: Size, turns: Iterable[tuple[Task, Turn]]) -> Conversation:
    """A conversation about one image from turns and their tasks. ``size`` is the image's (width, height)."""
    messages = []
    for task, turn in turns:
        messages += [Message("user", turn.question), Message("assistant", task.format(turn.answer, size))]
    return Conversation((image,), tuple(messages))


def task_of(name: str, options: Mapping[str, Any]) -> Task:
    """The task with some of its fields changed. Raises EarthGPTError for a task, field or value there is none of."""
    task = lookup.find("tasks", name)
    known = {one.name: one for one in fields(task)}
    for key, value in options.items():
        old = getattr(task, key, None)
        if key not in known or not isinstance(old, str | bool | int):
            plain_fields = [key for key in known if isinstance(getattr(task, key), str | bool | int)]
            raise EarthGPTError(f"{name} has no option {key!r}; it has {', '.join(plain_fields)}.")
        if type(value) is not type(old):
            raise EarthGPTError(f"The option {key} of {name} is a {type(old).__name__}; not {value!r}.")
    changed = replace(task, **options)
    try:
        changed.compare([], [])
    except ValueError as error:  # a value that there is none of, such as another protocol
        raise EarthGPTError(str(error)) from None
    return changed

"""How well a model answers a task on a data set, beside what chance gives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from earthgpt import lookup
from earthgpt.assistant import EarthGPT
from earthgpt.datasets import at_hand, part_of
from earthgpt.generation import Answer, generate
from earthgpt.geo.raster import open_raster
from earthgpt.metrics import statistics
from earthgpt.tasks import Task, Turn
from earthgpt.types import Box, Conversation, EarthGPTError, OrientedBox, Sample


@dataclass(frozen=True)
class Report:
    """The result of one evaluation.

    examples: questions asked. unparsed: answers that could not be read; they count as wrong. metrics: of the task.
    baselines: the same metrics for answers that never saw the image: those of other images ("shuffled answers"),
    for answers in words the most common one, for one box the mean of all ("constant box"). defects: what the reader
    left out or mended. settings: how it was asked. answers: (image, question, true answer, text) of each.
    """

    examples: int
    unparsed: int
    metrics: dict[str, float]
    baselines: dict[str, dict[str, float]]
    defects: dict[str, int]
    settings: dict[str, Any]
    answers: tuple[tuple[str, str, str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def evaluate(
    assistant: EarthGPT,
    dataset: str,
    task: str,
    root: str = "",
    split: str = "val",
    part: str | None = None,
    kind: str | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    max_new_tokens: int = 512,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Asks every question of a task about every image of a split, in the wording of the paper, and scores the answers.

    part: "train" or "val" of a split that its owners did not divide. kind: only questions of that kind ("hbb",
    "count", ...). limit: that many questions, drawn with a fixed seed; None asks all. An image with several true
    captions is asked once. ``progress`` is told how many of how many questions were answered.
    Raises EarthGPTError when the data set has no question of the task.
    """
    source, asked = lookup.find("datasets", dataset), lookup.find("tasks", task)
    if task not in source.tasks and dataset != "synthetic":
        raise EarthGPTError(f"{source.title} has no facts for {task}; it has {', '.join(source.tasks)}.")
    defects: Counter = Counter()
    questions = [
        (sample, turn)
        for sample in source.read(root, split, defects)
        if part in (None, part_of(sample.name)) and at_hand(sample)
        for turn in once(asked.turns(sample, random.Random(sample.name)))
        if kind in (None, turn.kind)
    ]
    if not questions:
        raise EarthGPTError(f"{source.title} ({split}) has no questions for {task}.")
    if limit is not None and limit < len(questions):
        questions = random.Random(0).sample(questions, limit)
    # Long questions together: a batch is as slow as its longest row.
    questions.sort(key=lambda pair: len(pair[1].question))

    texts: list[str] = []
    predictions: list[Any] = []
    for start in range(0, len(questions), batch_size):
        batch = questions[start : start + batch_size]
        for (sample, _), answer in zip(batch, _answers(assistant, batch, max_new_tokens), strict=True):
            texts.append(answer.text)
            predictions.append(_value(asked, answer, sample))
        progress(len(texts), len(questions))
    truth = [turn.references or turn.answer for _, turn in questions]
    return Report(
        examples=len(questions),
        unparsed=sum(value is None for value in predictions),
        metrics=asked.score(predictions, truth),
        baselines=chance(asked, truth),
        defects=dict(defects),
        settings={
            "dataset": dataset,
            "task": task,
            "split": split,
            "part": part,
            "kind": kind,
            "limit": limit,
            "decimals": asked.decimals,
            "image_size": assistant.processor.image_size,
        },
        answers=tuple(
            (sample.name, turn.question, asked.format(turn.answer, sample.size), text)
            for (sample, turn), text in zip(questions, texts, strict=True)
        ),
    )


def once(turns: Sequence[Turn]) -> Iterator[Turn]:
    """The turns without those that ask the same again (a caption for each reference)."""
    return iter({turn.question: turn for turn in reversed(turns)}.values())


def chance(task: Task, truth: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Scores of answers that do not depend on the image."""
    single = [
        value[0] if isinstance(value, tuple) and value and isinstance(value[0], str) else value for value in truth
    ]
    found = {"shuffled answers": task.score(statistics.shuffled(single), truth)}
    if all(isinstance(value, str) for value in single):
        found["most common answer"] = task.score([statistics.most_common(single)] * len(truth), truth)
    if all(isinstance(value, Box | OrientedBox) for value in single):
        found["constant box"] = task.score([statistics.mean_box(single)] * len(truth), truth)
    return found


def _answers(assistant: EarthGPT, batch: list[tuple[Sample, Turn]], max_new_tokens: int) -> list[Answer]:
    rasters = [open_raster(sample.image, sample.sensor) for sample, _ in batch]
    squares = [assistant.processor.square(raster.pixels, raster.sensor) for raster in rasters]
    conversations = [
        Conversation.of((raster,), turn.question) for raster, (_, turn) in zip(rasters, batch, strict=True)
    ]
    return generate(assistant.model, assistant.processor, conversations, squares, max_new_tokens)


def _value(task: Task, answer: Answer, sample: Sample) -> Any:
    """The answer as a value of the task; detections with the scores of their tokens."""
    value = task.parse(answer.text, sample.size)
    if value and hasattr(task, "spans") and isinstance(value, tuple):
        spans = task.spans(answer.text, sample.size)
        return tuple(replace(region, score=answer.probability(*span)) for region, span in spans)
    return value

"""How well a model answers a task on a data set: it is asked every question, and what it says is kept and scored."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from earthgpt import lookup
from earthgpt.assistant import EarthGPT
from earthgpt.boxes import box_of, says_nothing, written_boxes
from earthgpt.coordinates import FRAMES, Frame, padded_square
from earthgpt.datasets import Dataset, at_hand
from earthgpt.endpoints import Endpoint
from earthgpt.files import named
from earthgpt.generation import Answer, generate
from earthgpt.geo.raster import LARGEST_SIDE, Raster, open_raster
from earthgpt.parallel import whole
from earthgpt.perception import deduce
from earthgpt.reports import Report, Scored, digest_of, report
from earthgpt.tasks import Task, Turn, task_of
from earthgpt.tasks.object_detection import ObjectDetection
from earthgpt.tasks.visual_grounding import VisualGrounding
from earthgpt.types import Box, Conversation, EarthGPTError, OrientedBox, Region, Sample, Size

# What another pass over the questions shows in place of the image, and the name of that baseline in a report.
BLIND = {"text-only": "text only", "blank": "blank image", "shuffled-images": "shuffled images"}
# How other models are told to write a box; ours knows.
_BOX = "Write a box as [xmin,ymin,xmax,ymax] in {unit} from its top left corner; an oriented one as its four corners."
_UNITS = {
    "image": "fractions of the width and height of the image,",
    "0-100": "whole numbers from 0 to 100 over the width and height of the image,",
    "0-1000": "whole numbers from 0 to 1000 over the width and height of the image,",
    "pixels": "pixels of the image",
}
_LIST = (
    " Name what you find like this: There are two ships [box;box] in the image. There is one harbor [box] in the image."
)

Progress = Callable[[int, int], None]


class NoQuestionsError(EarthGPTError):
    """A data set has no question of a task, or none whose image is there."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said to a question.

    scores: of the regions that the text states, in [0, 1]; None where the task has none or the model does not tell.
    unreadable: why the image could not be read, so that nothing was asked; None when it could.
    """

    text: str
    scores: tuple[float, ...] | None = None
    unreadable: str | None = None


def evaluate(
    model: EarthGPT | Endpoint,
    dataset: str,
    task: str,
    root: str = "",
    split: str = "val",
    part: str | None = None,
    kind: str | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    max_new_tokens: int = 512,
    progress: Progress = lambda done, total: None,
    *,
    name: str = "",
    output: Path | None = None,
    blind: Sequence[str] = (),
    frame: str = "square",
    instruction: str | None = None,
    options: Mapping[str, Any] | None = None,
    keep: Callable[[Sample, Turn], bool] = lambda sample, turn: True,
    rounds: int = 1000,
) -> Report:
    """Asks every question of a task about every image of a split, in the wording of the paper, and scores the answers.

    split: "all" is every split of the set. part: "train" or "val" of a split that its owners did not divide. kind: only
    questions of that kind ("hbb", "count", ...), or of several ("presence,comparison"). limit: that many questions,
    drawn with a fixed seed; None asks all. An image with several true captions is asked once. ``progress`` is told how
    many of how many questions were answered.

    name: of the model, for the report. output: where the report is written; answers are kept beside it as they come
    (``OUTPUT.partial.jsonl``), so that a run that was stopped goes on, and a finished one is not asked again. Both only
    where settings, weights and annotations are the same. blind: other passes, of ``BLIND``, over the same questions:
    without the image, with a grey one of its size, and with that of another question. frame: of ``coordinates.FRAMES``,
    what boxes are written in. instruction: a sentence behind every question; None tells a model how to write boxes
    where the frame is not ours. options: fields of the task. keep: which questions are asked at all.
    rounds: resamples behind the intervals of the report.

    An image that is there but cannot be read is counted, named, and its answer wrong. A question without an image file
    is left out, and counted.

    Raises NoQuestionsError when there is nothing to ask, or it cannot be read, and EarthGPTError for a task that the
    data set has no facts for or whose answers no report can keep, when ``output`` is of another run or cannot be
    written, and where the model cannot be asked.
    """
    if not isinstance(model, EarthGPT | Endpoint):
        raise EarthGPTError(
            f"What is evaluated is a model as earthgpt.load gives it, or an Endpoint; not {model!r:.60}."
        )
    card, asked = lookup.find("datasets", dataset), _task(task, frame, options or {})
    if unknown := [one for one in blind if one not in BLIND]:
        raise EarthGPTError(f"A baseline is one of {', '.join(BLIND)}; not {unknown[0]!r}.")
    if "." not in task and task not in card.tasks:
        raise EarthGPTError(f"{card.title} has no facts for {task}; it has {', '.join(card.tasks)}.")
    defects: Counter[str] = Counter()
    try:
        pairs = list(_questions(card, asked, root, split, part, kind, keep, defects))
    except EarthGPTError as error:
        raise NoQuestionsError(str(error)) from error
    if not pairs:
        why = ", ".join(f"{count:,} {kind}" for kind, count in (+defects).items())
        raise NoQuestionsError(f"{card.title} ({split}) has no questions for {task}{why and f' ({why})'}.")
    if limit is not None and limit < len(pairs):
        pairs = random.Random(0).sample(pairs, limit)
    questions, samples = [question for question, _ in pairs], [sample for _, sample in pairs]
    instruction = _instruction(task, frame) if instruction is None else instruction
    batch_size = 1 if isinstance(model, Endpoint) else batch_size
    settings = {
        "model": name, **_model_settings(model), "dataset": dataset, "task": task, "split": split, "part": part,
        "kind": kind, "limit": limit, "batch_size": batch_size, "max_new_tokens": max_new_tokens, "decoding": "greedy",
        "frame": frame, "decimals": asked.decimals, "instruction": instruction, "options": dict(options or {}),
        "blind": list(blind), "rounds": rounds, "example": _worded(questions[0], instruction),
    }  # fmt: skip
    begun = {"settings": json.loads(json.dumps(settings)), "digest": digest_of(questions)}
    if output is not None and output.is_file():
        finished = Report.read(output)
        _same(
            output,
            {"settings": finished.settings, "digest": finished.data.get("digest", finished.data.get("fingerprint"))},
            begun,
        )
        return finished

    # Questions about an image together, for it is read once for all in a batch; and images with long questions
    # together, for a batch is as slow as its longest row. Batches are the same in a run that goes on, for the last
    # digits of a probability depend on what a question is asked with.
    longest: Counter = Counter()
    for one in questions:
        longest[one.image] = max(longest[one.image], len(one.question))
    order = sorted(range(len(questions)), key=lambda i: (longest[questions[i].image], questions[i].image, i))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    passes = ("image", *blind)
    with Journal(output and output.with_name(f"{output.name}.partial.jsonl"), begun) as journal:
        progress(journal.count, len(questions) * len(passes))
        for which in passes:
            left = [batch for batch in batches if batch[0] not in journal.said[which]]
            shown = _show(which, samples)
            for answers in _answers(model, asked, questions, left, shown, instruction, max_new_tokens):
                journal.add(which, answers)
                progress(journal.count, len(questions) * len(passes))
    found = _report(asked, task, questions, journal.said, begun["settings"], defects, rounds)
    if output is not None:
        found.write(output)
        journal.remove()
    return found


def once(turns: Sequence[Turn]) -> Iterator[Turn]:
    """The turns without those that ask for the same again: a caption for each of the references. Two objects that one
    phrase is said of are two questions."""
    seen = []
    for turn in turns:
        asked = turn.question, turn.references or turn.answer
        if asked not in seen:
            seen.append(asked)
            yield turn


class Journal:
    """Answers on disk as they come: a line that says what was begun, and then a line for each batch.

    said: what was said to each question, by pass and number. count: how many answers that are.
    Raises EarthGPTError when the file is of another run. Without a path nothing is written.
    """

    def __init__(self, path: Path | None, begun: dict[str, Any]):
        self.path, self.count = path, 0
        self.said: dict[str, dict[int, Said]] = {one: {} for one in ("image", *BLIND)}
        self._file = None
        whole = 0  # bytes up to the end of the last whole line: a killed run may have written half a line
        if path is not None and path.is_file():
            whole = self._read(path, begun)
        if path is not None:
            try:
                self._file = path.open("r+b" if whole else "wb")
            except OSError as error:
                raise EarthGPTError(f"Cannot write {path}: {error.strerror}.") from None
            self._file.seek(whole)
            self._file.truncate()
            if not whole:
                self._write(begun)

    def _read(self, path: Path, begun: dict[str, Any]) -> int:
        whole = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                    if number == 1:
                        _same(path, row, begun)
                    else:
                        self._keep(row["pass"], {one: _said(*said) for one, said in row["answers"]})
                except (AttributeError, KeyError, TypeError, ValueError):
                    raise EarthGPTError(f"{path} is damaged in line {number}; delete it to begin anew.") from None
                whole += len(line)
        return whole

    def add(self, which: str, answers: dict[int, Said]) -> None:
        """Keeps the answers of one batch of a pass, by number."""
        self._keep(which, answers)
        rows = [[number, [said.text, said.scores, said.unreadable]] for number, said in answers.items()]
        self._write({"pass": which, "answers": rows})

    def _keep(self, which: str, answers: dict[int, Said]) -> None:
        self.said[which] |= answers
        self.count += len(answers)

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            with named(self.path):
                self._file.write(json.dumps(row).encode() + b"\n")
                self._file.flush()

    def remove(self) -> None:
        """Takes the file away: the report holds what it held."""
        if self.path is not None:
            self.path.unlink()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._file is not None:
            with named(self.path):
                self._file.close()


def _said(text: str, scores: list[float] | None, unreadable: str | None) -> Said:
    return Said(text, None if scores is None else tuple(scores), unreadable)


# --- what is asked -----------------------------------------------------------------------------------------------


def _task(name: str, frame: str, options: Mapping[str, Any]) -> Task:
    if frame not in FRAMES:
        raise EarthGPTError(f"A frame is one of {', '.join(FRAMES)}; not {frame!r}.")
    whole = {} if frame in ("square", "image") else {"decimals": 0}
    return replace(task_of(name, {**whole, **options}), frame=_sent_pixels if frame == "pixels" else FRAMES[frame])


def _sent_pixels(size: Size) -> Frame:
    """Pixels of an image as a model is shown it: reduced where it is large."""
    part = min(1.0, LARGEST_SIDE / max(*size, 1))
    return Frame(size, (0, 0), (1 / part, 1 / part))


def _instruction(task: str, frame: str) -> str:
    if frame == "square" or task not in ("visual_grounding", "object_detection"):
        return ""
    return _BOX.format(unit=_UNITS[frame]) + (_LIST if task == "object_detection" else "")


def _questions(
    card: Dataset,
    task: Task,
    root: str,
    split: str,
    part: str | None,
    kind: str | None,
    keep: Callable[[Sample, Turn], bool],
    defects: Counter[str],
) -> Iterator[tuple[Scored, Sample]]:
    kinds, seen = None if kind is None else kind.split(","), Counter[str]()
    texts: dict[str, str] = {}  # a question that is asked of every image is one string
    for one in card.splits if split == "all" and "all" not in card.splits else (split,):
        for sample in card.read(root, one, defects, part=part):
            there = at_hand(sample)
            for number, turn in enumerate(once(task.turns(sample, random.Random(sample.name)))):
                seen[turn.kind] += 1
                if (kinds is not None and turn.kind not in kinds) or not keep(sample, turn):
                    continue
                if not _is_answer(turn.answer):
                    raise EarthGPTError(
                        "An answer is a text, a Box, an OrientedBox or a tuple of Region; not "
                        f"{turn.answer!r:.80}, as the task gives for {sample.name}."
                    )
                text = texts.setdefault(turn.question, turn.question)
                truth = turn.references or turn.answer
                if there:
                    name = f"{sample.name}#{number}"  # whichever questions are asked
                    yield Scored(name, sample.name, text, truth, None, None, turn.kind, sample.size), sample
                defects["questions left out: no image file"] += not there
    if seen and kinds and not any(one in seen for one in kinds):
        known = ", ".join(sorted(filter(None, seen)))
        there = f"are of the kinds {known}" if known else "have no kinds"
        raise EarthGPTError(f"The questions of {card.title} for this task {there}; not {kind!r}.")


def _is_answer(value: Any) -> bool:
    """Whether a report can keep an answer: what else a task of one's own gives would fail when all has been asked."""
    if isinstance(value, tuple):
        return all(isinstance(one, Region) for one in value)
    return value is None or isinstance(value, str | Box | OrientedBox)


def _worded(question: Scored, instruction: str) -> str:
    return f"{question.question} {instruction}".strip()


def _model_settings(model: EarthGPT | Endpoint) -> dict[str, Any]:
    """What a report says of the model itself."""
    if isinstance(model, Endpoint):
        return {"endpoint": model.url, "endpoint_model": model.name, "fields": dict(model.fields)}
    parameters = model.model.state_dict()
    found = hashlib.sha256()
    for key in sorted(parameters):
        value = whole(parameters[key])
        value = getattr(value, "qdata", value).flatten()  # what torchao quantised is not cut, but its numbers are
        # A few values of each tensor tell one training from another.
        few = value[:: max(1, len(value) // 16)][:16].float().cpu().numpy()
        found.update(f"{key}{tuple(parameters[key].shape)}".encode() + few.tobytes())
    first = next(iter(parameters.values()), None)
    return {
        "weights": found.hexdigest()[:16],
        "dtype": str(getattr(first, "dtype", "")).removeprefix("torch."),
        "device": str(getattr(first, "device", "")),
        "image_size": model.processor.image_size,
        "deduced": model.constrained and model.model.dense_heads is not None,
    }


def _same(path: Path, old: Any, new: dict[str, Any]) -> None:
    """Raises EarthGPTError when a file was begun with other settings, or on other annotations, than now."""
    again = "name another file, or delete it to begin anew"
    for key, value in new["settings"].items():
        if (was := old["settings"].get(key)) != value:
            raise EarthGPTError(f"{path} was begun with {key} = {was!r}, not {value!r}: {again}.")
    if old.get("digest", old.get("fingerprint")) != new["digest"]:  # as it was once called
        raise EarthGPTError(f"{path} was begun on other images, questions or true answers: {again}.")


# --- asking ------------------------------------------------------------------------------------------------------


def _show(which: str, samples: Sequence[Sample]) -> Callable[[int], Raster | None]:
    """What is shown with each question in a pass; raises EarthGPTError for an image that cannot be read."""
    if which == "text-only":
        return lambda number: None
    if which == "blank":
        return lambda number: _grey(samples[number])
    images = {sample.name: sample for sample in samples}
    shown = images
    if which == "shuffled-images":
        names = list(images)
        random.Random(0).shuffle(names)
        # That of the one before: never its own, unless it is the only one.
        shown = {name: images[names[i - 1]] for i, name in enumerate(names)}

    @lru_cache(maxsize=1)  # questions about an image follow each other
    def opened(name: str) -> Raster:
        return open_raster(shown[name].image, shown[name].sensor)

    return lambda number: opened(samples[number].name)


def _grey(sample: Sample) -> Raster:
    width, height = sample.size
    part = min(1.0, LARGEST_SIDE / max(*sample.size, 1))
    shape = max(1, round(height * part)), max(1, round(width * part)), 3
    return Raster(np.full(shape, 128, np.uint8), sample.size, sample.sensor, "grey")


def _answers(
    model: EarthGPT | Endpoint,
    task: Task,
    questions: Sequence[Scored],
    batches: Iterable[list[int]],
    show: Callable[[int], Raster | None],
    instruction: str,
    max_new_tokens: int,
) -> Iterator[dict[int, Said]]:
    """What is said to each question, a batch at a time, by number."""
    unreadable: dict[int, Said] = {}

    def put(batch: list[int]) -> Iterator[tuple[int, Conversation]]:
        for number in batch:
            try:
                raster = show(number)
            except EarthGPTError as error:
                unreadable[number] = Said("", None, str(error))
            else:
                images = () if raster is None else (raster,)
                yield number, Conversation.of(images, _worded(questions[number], instruction))

    def said(number: int, answer: Answer) -> Said:
        return Said(answer.text, _scores(task, answer, questions[number].size))

    if isinstance(model, Endpoint):
        asked = ((number, conversation) for batch in batches for number, conversation in put(batch))
        for number, answer in model.ask_all(asked, max_new_tokens):
            yield {number: said(number, answer), **unreadable}
            unreadable.clear()
    else:
        for batch in batches:
            asked = dict(put(batch))
            answers = ask(model, list(asked.values()), max_new_tokens, [task]) if asked else []
            found = {number: said(number, answer) for number, answer in zip(asked, answers, strict=True)}
            yield {**found, **unreadable}
            unreadable.clear()
    if unreadable:
        yield dict(unreadable)


def ask(
    assistant: EarthGPT, conversations: Sequence[Conversation], max_new_tokens: int, tasks: Sequence[Task] = ()
) -> list[Answer]:
    """The next message of each conversation about open images; those that the language model gives in one batch.

    tasks: of one's own, beside those of the assistant.
    """
    tasks = (*tasks, *assistant.tasks)
    found = deduce(assistant.model, assistant.processor, conversations, tasks=tasks) if assistant.constrained else []
    if any(found):
        left = [one for one, known in zip(conversations, found, strict=True) if known is None]
        others = iter(_generate(assistant, left, max_new_tokens) if left else ())
        return [known or next(others) for known in found]
    return _generate(assistant, conversations, max_new_tokens)


def _generate(assistant: EarthGPT, conversations: Sequence[Conversation], max_new_tokens: int) -> list[Answer]:
    shown = [raster for one in conversations for raster in one.images]
    made: dict[int, np.ndarray] = {}  # questions about an image show the same one
    for raster in shown:
        if id(raster) not in made:
            made[id(raster)] = assistant.processor.square(raster.pixels, raster.sensor)
    squares = [made[id(raster)] for raster in shown]
    return generate(assistant.model, assistant.processor, conversations, squares, max_new_tokens)


def _scores(task: Task, answer: Answer, size: Size) -> tuple[float, ...] | None:
    """The scores of the regions in an answer, of their tokens; None where there are none to tell."""
    if not answer.probabilities or not isinstance(task.parse(answer.text, size), tuple):
        return None
    return tuple(answer.probability(*span) for _, span in task.spans(answer.text, size))


def value_of(task: Task, said: Said, size: Size) -> Any | None:
    """What was said as a value of the task, regions with their scores; None when it cannot be read.

    In a frame that is not ours, boxes are read in whatever form other models write them (``boxes``).
    """
    if said.unreadable:
        return None
    value = task.parse(said.text, size)
    if value is None and isinstance(task, VisualGrounding | ObjectDetection) and task.frame is not padded_square:
        frame = task.frame(size)
        found = [(box_of(one, frame, size)[0], one) for one in written_boxes(said.text)]
        if isinstance(task, VisualGrounding):
            return next((box for box, _ in found if box is not None), None)
        regions = tuple(Region(box, one.label or "", one.score) for box, one in found if box is not None)
        named = any(region.label for region in regions)  # a box without a name beside others is of no class, and wrong
        return regions if named else () if says_nothing(said.text) else None
    if said.scores and isinstance(value, tuple):
        return tuple(replace(region, score=score) for region, score in zip(value, said.scores, strict=True))
    return value


def _report(
    task: Task,
    name: str,
    questions: Sequence[Scored],
    said: Mapping[str, Mapping[int, Said]],
    settings: dict[str, Any],
    defects: Counter[str],
    rounds: int,
) -> Report:
    values = {
        which: [value_of(task, answers[i], question.size) for i, question in enumerate(questions)]
        for which, answers in said.items()
        if answers
    }
    own = [said["image"][i] for i in range(len(questions))]
    defects["questions whose image cannot be read"] = sum(one.unreadable is not None for one in own)
    unreadable = {one.image: was.unreadable for one, was in zip(questions, own, strict=True) if was.unreadable}
    scored = [
        replace(one, prediction=value, text=None if was.unreadable else was.text)
        for one, value, was in zip(questions, values.pop("image"), own, strict=True)
    ]
    return report(
        task,
        name,
        scored,
        settings=settings,
        data={"defects": {kind: count for kind, count in defects.items() if count}, "unreadable": unreadable},
        blind={BLIND[which]: predictions for which, predictions in values.items()},
        libraries=("pillow", "torch", "transformers"),
        rounds=rounds,
    )

"""What a scored run is: figures with intervals, beside answers that never saw an image, and every answer."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from earthgpt import lookup
from earthgpt.cards import versions
from earthgpt.files import whole_file
from earthgpt.metrics import statistics
from earthgpt.rows import printable
from earthgpt.tasks import Task, task_of
from earthgpt.tasks.image_captioning import ImageCaptioning
from earthgpt.tasks.object_detection import ObjectDetection
from earthgpt.tasks.region_captioning import RegionCaptioning
from earthgpt.tasks.scene_classification import SceneClassification
from earthgpt.tasks.visual_grounding import VisualGrounding
from earthgpt.tasks.visual_question_answering import VisualQuestionAnswering
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region, Size

# JSON knows no NaN: a figure that there is none of is null.
Figure = Annotated[int | float, BeforeValidator(lambda value: math.nan if value is None else value)]
NamedFigures = dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Scored:
    """One question, its true answer, and what was said.

    ``truth`` and ``prediction`` are values of the task; ``truth`` a tuple of texts where several are true (captions),
    ``prediction`` None when there is none or it cannot be read. ``text`` is what was said word for word, None when
    nothing was. ``kind`` groups questions. ``size`` is the (width, height) of the image.
    """

    id: str
    image: str
    question: str
    truth: Any
    prediction: Any | None
    text: str | None
    kind: str = ""
    size: Size | None = None


@dataclass(frozen=True)
class Report:
    """What was measured.

    examples: questions asked. unparsed: answers that are missing or could not be read; they count as wrong.
    metrics: the headline figures, fractions in [0, 1] except those of captions, which are times 100, and errors of
    counts; NaN where there is none. intervals: where 95 % of resamples of the images lie. baselines: the same figures
    of answers that never saw the image. by_kind, by_class: figures of the questions of one kind, of one class.
    confusion: ``classes``, and ``counts``, how often class i was answered with class j, last no class; None where
    answers are no classes. left_out: of each metric that is missing why. settings: how it was asked. data: what was
    asked (``digest``, ``images``, 0 where they have no names, ``defects``). versions: of the libraries.
    answers: of each question ``id``, ``image``, ``question``, ``kind``, ``size``, ``truth`` and ``read`` (values, boxes
    in fractions of the image), ``prediction`` (what was said), ``score`` in [0, 1], and ``right`` where an answer is
    right or wrong.
    """

    task: str
    examples: int
    unparsed: int
    metrics: NamedFigures
    intervals: dict[str, tuple[Figure, Figure]] = field(default_factory=dict)
    baselines: dict[str, NamedFigures] = field(default_factory=dict)
    by_kind: dict[str, NamedFigures] = field(default_factory=dict)
    by_class: dict[str, NamedFigures] = field(default_factory=dict)
    confusion: dict[str, Any] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    answers: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN is None."""
        return without_nan(asdict(self))

    def write(self, path: str | Path) -> None:
        """As JSON, complete or not at all. Raises EarthGPTError when it cannot be written."""
        write_text(path, json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Report:
        """What ``write`` wrote. Raises EarthGPTError for what is no report."""
        try:
            value = printable(json.loads(Path(path).read_bytes()))
            return TypeAdapter(cls).validate_python(value)
        except OSError as error:
            raise EarthGPTError(f"Cannot read the report {path}: {error.strerror}.") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise EarthGPTError(f"{path} is no report of earthgpt: {where}: {first['msg']}.") from None
        except (ValueError, RecursionError):
            raise EarthGPTError(f"{path} is no report of earthgpt: it is not JSON.") from None


def report(
    task: Task,
    name: str,
    questions: Sequence[Scored],
    *,
    settings: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    blind: Mapping[str, Sequence[Any | None]] | None = None,
    libraries: Iterable[str] = (),
    rounds: int = 1000,
    seed: int = 0,
) -> Report:
    """Scores questions that were answered: everything a report says follows from the values given here.

    ``name`` is that of the task. ``blind`` are measured baselines: predictions of another run for the same questions,
    such as "text only". ``rounds`` resamples of the images give the intervals; 0 leaves them out. ``libraries`` are
    those whose versions matter besides numpy. ``data`` is added to what is known of the questions.
    Raises EarthGPTError when there are no questions.
    """
    if not questions:
        raise EarthGPTError("There are no questions to score.")
    predictions, truth = [one.prediction for one in questions], [one.truth for one in questions]
    found = task.compare(predictions, truth)
    images = clusters(questions)
    drawn = statistics.intervals(found.figures, len(questions), images, rounds, seed=seed)
    baselines = chance(task, truth, [one.kind for one in questions], seed)
    baselines |= {what: task.score(values, truth) for what, values in (blind or {}).items()}
    counts = Counter(one.kind for one in questions)
    by_kind = {}
    for kind, count in counts.items() if set(counts) != {""} else ():
        figures = found.figures(np.array([one.kind == kind for one in questions], int))
        by_kind[kind] = {"examples": count, **figures}
    confusion = found.confusion and {
        "classes": list(found.confusion.classes),
        "counts": found.confusion.counts.tolist(),
    }
    return Report(
        task=name,
        examples=len(questions),
        unparsed=sum(value is None for value in predictions),
        metrics=dict(found.figures(None)),
        intervals={metric: (one.low, one.high) for metric, one in drawn.items()},
        baselines=baselines,
        by_kind=by_kind,
        by_class={label: dict(figures) for label, figures in found.by_class.items()},
        confusion=confusion,
        left_out=dict(found.left_out),
        settings=dict(settings or {}),
        data={
            "digest": digest_of(questions),
            "images": len({one.image for one in questions if one.image}),
            **(data or {}),
        },
        versions=versions(("numpy", *libraries)),
        answers=tuple(_answer(one, each) for one, each in zip(questions, found.each, strict=True)),
    )


def clusters(questions: Sequence[Scored]) -> list[Any]:
    """The image of each question, for resampling; where an image has no name the question stands for itself."""
    return [one.image or i for i, one in enumerate(questions)]


def chance(
    task: Task, truth: Sequence[Any], kinds: Sequence[str] | None = None, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Scores of answers that do not depend on the image, by name.

    "shuffled answers" are those of other questions; "most common answer" is given to all questions (and "of its kind"
    to those of each kind, where there are several) where answers are texts; "constant box" is the mean of all boxes.
    """
    single = [value[0] if _is_references(value) else value for value in truth]
    found = {"shuffled answers": task.score(statistics.shuffled(single, seed), truth)}
    if all(isinstance(value, str) for value in single):
        found["most common answer"] = task.score([statistics.most_common(single)] * len(truth), truth)
        if kinds is not None and len(set(kinds)) > 1:
            groups: dict[str, list[str]] = {}
            for kind, value in zip(kinds, single, strict=True):
                groups.setdefault(kind, []).append(value)
            common = {kind: statistics.most_common(values) for kind, values in groups.items()}
            found["most common of its kind"] = task.score([common[kind] for kind in kinds], truth)
    if all(isinstance(value, Box | OrientedBox) for value in single):
        found["constant box"] = task.score([statistics.mean_box(single)] * len(truth), truth)
    return found


def digest_of(questions: Sequence[Scored]) -> str:
    """A hash of what is asked, whatever was answered: images, questions and true answers in their order."""
    found = hashlib.sha256()
    for one in questions:
        found.update(json.dumps([one.image, one.question, one.kind, plain(one.truth)]).encode())
    return found.hexdigest()


# --- values as JSON ----------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value of a task for JSON: texts as they are, a box as its four edges, an oriented one as four corners, a region
    as ``label``, ``box`` and ``score``, all in fractions of the image; None is null.
    """
    if isinstance(value, Box):
        return [value.left, value.top, value.right, value.bottom]
    if isinstance(value, OrientedBox):
        return [list(corner) for corner in value.corners]
    if isinstance(value, Region):
        score = {} if value.score is None else {"score": value.score}
        return {"label": value.label, "box": plain(value.box), **score}
    return [plain(one) for one in value] if isinstance(value, tuple) else value


def from_plain(value: Any) -> Any:
    """What ``plain`` made plain. Raises ValueError for anything else."""
    try:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, dict):
            label, score, box = value["label"], value.get("score"), from_plain(value["box"])
            if not (isinstance(label, str) and _is_box(box) and (score is None or math.isfinite(score))):
                raise TypeError
            return Region(box, label, score)
        if value and isinstance(value[0], list):
            return OrientedBox(tuple((x, y) for x, y in value))
        return Box(*value) if value and isinstance(value[0], float | int) else tuple(map(from_plain, value))
    except (KeyError, TypeError, OverflowError, RecursionError):
        raise ValueError(f"{value!r:.80} is no answer of a task.") from None


def questions_of(report: Report, path: str | Path = "the report") -> Iterator[Scored]:
    """The questions of a report. Raises EarthGPTError where an answer is damaged."""
    task = lookup.find("tasks", report.task)
    for number, answer in enumerate(report.answers, 1):
        try:
            truth, read = from_plain(answer["truth"]), from_plain(answer["read"])
            if not (_fits(task, truth) and (read is None or _fits(task, read))):
                raise TypeError
            if isinstance(task, ImageCaptioning) and _is_references(read):
                raise TypeError  # several texts may be true, but only one was said
            size, said = answer.get("size"), answer["prediction"]
            texts = {name: answer[name] for name in ("id", "image", "question", "kind")}
            if not all(isinstance(text, str) for text in (*texts.values(), said or "")):
                raise TypeError
            yield Scored(**texts, truth=truth, prediction=read, text=said, size=tuple(size) if size else None)
        except (KeyError, TypeError, ValueError):
            raise EarthGPTError(f"{path} is damaged: answer {number} cannot be read.") from None


def _fits(task: Task, value: Any) -> bool:
    """Whether a value is of the kind that the task compares; that of a task of others may be anything."""
    if isinstance(task, VisualGrounding):
        return _is_box(value)
    if isinstance(task, ObjectDetection):
        return isinstance(value, tuple) and all(isinstance(one, Region) for one in value)
    if isinstance(task, ImageCaptioning):
        return isinstance(value, str) or _is_references(value)
    return isinstance(value, str) or not isinstance(
        task, SceneClassification | VisualQuestionAnswering | RegionCaptioning
    )


def _is_box(value: Any) -> bool:
    return isinstance(value, Box | OrientedBox)


def _is_references(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(one, str) for one in value)


def _answer(one: Scored, each: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": one.id,
        "image": one.image,
        "question": one.question,
        "kind": one.kind,
        "size": one.size and list(one.size),
        "truth": plain(one.truth),
        "prediction": one.text,
        "read": plain(one.prediction),
        **each,
    }


def without_nan(value: Any) -> Any:
    """A value for JSON, which knows neither NaN nor infinity: they are None."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: str | Path, text: str) -> None:
    """Writes a file, complete or not at all. Raises EarthGPTError when it cannot be written."""
    path = Path(path)
    try:
        with whole_file(path) as fresh:
            fresh.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror}.") from None


# --- comparing ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """Two runs on the same questions.

    examples: how many. left_out: questions of the one and of the other that are not compared. one, other: figures.
    differences: one minus other, with its interval and how likely so large a difference is by chance (paired
    bootstrap over images). right: by policy how many the one alone and the other alone got right, and McNemar's
    probability, where answers are right or wrong. by_kind: the figures of each kind, of one and other.
    """

    task: str
    examples: int
    left_out: tuple[int, int]
    one: NamedFigures
    other: NamedFigures
    differences: dict[str, statistics.Difference]
    right: dict[str, tuple[int, int, float]]
    by_kind: dict[str, tuple[NamedFigures, NamedFigures]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN is None."""
        return without_nan(asdict(self))


def compare(
    one: Report,
    other: Report,
    common: bool = False,
    rounds: int = 1000,
    seed: int = 0,
    names: tuple[str, str] = ("the first report", "the second report"),
) -> Compared:
    """Two reports of one task: what they answered to the same questions, tested in pairs.

    Questions are the same when image, question, kind and true answer are; the id tells them apart only where a file
    knows neither image nor question. ``common`` compares those that both have, and leaves out the others.
    ``names`` are what errors call the two.
    Raises EarthGPTError for reports of two tasks, scored with other options, or without answers; without ``common``
    also where their questions differ.
    """
    if one.task != other.task:
        raise EarthGPTError(f"The reports are of two tasks, {one.task} and {other.task}.")
    options = one.settings.get("options") or {}
    if options != (other.settings.get("options") or {}):
        raise EarthGPTError("The reports were scored with other options of the task; score both in one way.")
    task = task_of(one.task, options)
    first, second = (_by_question(run, name) for run, name in zip((one, other), names, strict=True))
    shared = [key for key in first if key in second]
    left_out = len(first) - len(shared), len(second) - len(shared)
    if not shared:
        raise EarthGPTError(
            "The reports have no question in common: image, question, kind or true answer differ. Predictions of "
            "others are put to the questions of a report by `earthgpt score ... --truth REPORT.json`."
        )
    if any(left_out) and not common:
        raise EarthGPTError(
            f"The reports are of other questions: {len(shared)} are the same, {left_out[0]} are only in the first and "
            f"{left_out[1]} only in the second. Pass --common to compare those that are the same."
        )
    asked = [first[key] for key in shared]
    truth, images = [question.truth for question in asked], clusters(asked)
    found, rest = (task.compare([run[key].prediction for key in shared], truth) for run in (first, second))
    right = {}
    for policy, name in (("right", "right"), ("right_strict", "right (strict)")):
        if policy in found.each[0]:
            hits, others = (np.array([each[policy] for each in run.each], bool) for run in (found, rest))
            only = int((hits & ~others).sum()), int((~hits & others).sum())
            right[name] = (*only, statistics.mcnemar(hits, others))
    by_kind = {}
    for kind in dict.fromkeys(question.kind for question in asked):
        weights = np.array([question.kind == kind for question in asked], int)
        by_kind[kind] = dict(found.figures(weights)), dict(rest.figures(weights))
    return Compared(
        task=one.task,
        examples=len(shared),
        left_out=left_out,
        one=dict(found.figures(None)),
        other=dict(rest.figures(None)),
        differences=statistics.paired_test(found.figures, rest.figures, len(shared), images, rounds, seed=seed),
        right=right,
        by_kind=by_kind if len(by_kind) > 1 else {},
    )


def _by_question(report: Report, name: str) -> dict[tuple[Any, ...], Scored]:
    """The questions by what makes them the same, those that are asked again numbered."""
    found: dict[tuple[Any, ...], Scored] = {}
    times: Counter[tuple[str, ...]] = Counter()
    for one in questions_of(report, name):
        own = () if one.image or one.question else (one.id,)
        key = (*own, one.image, one.question, one.kind, json.dumps(_rounded(plain(one.truth))))
        found[(*key, times[key])] = one
        times[key] += 1
    if not found:
        raise EarthGPTError(f"{name} holds no answers; only whole reports can be compared.")
    return found


def _rounded(value: Any) -> Any:
    """A plain value with numbers to a millionth of the image: true boxes in fractions and in pixels are the same."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value

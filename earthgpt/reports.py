"""What a scored run is: figures with intervals, beside answers that never saw an image, and every answer; as tables."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from earthgpt.metrics import statistics
from earthgpt.tasks import Task
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region, Size

# JSON knows no NaN: a figure that there is none of is null.
Figure = Annotated[int | float, BeforeValidator(lambda value: math.nan if value is None else value)]
Figures = dict[str, Figure]


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
    asked (``fingerprint``, ``images``, 0 where they have no names, ``defects``). versions: of the libraries.
    answers: of each question ``id``, ``image``, ``question``, ``kind``, ``size``, ``truth`` and ``read`` (values, boxes
    in fractions of the image), ``prediction`` (what was said), ``score`` in [0, 1], and ``right`` where an answer is
    right or wrong.
    """

    task: str
    examples: int
    unparsed: int
    metrics: Figures
    intervals: dict[str, tuple[Figure, Figure]] = field(default_factory=dict)
    baselines: dict[str, Figures] = field(default_factory=dict)
    by_kind: dict[str, Figures] = field(default_factory=dict)
    by_class: dict[str, Figures] = field(default_factory=dict)
    confusion: dict[str, Any] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    answers: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN is None."""
        return _without_nan(asdict(self))

    def write(self, path: str | Path) -> None:
        """As JSON, complete or not at all. Raises EarthGPTError when it cannot be written."""
        write_text(path, json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Report:
        """What ``write`` wrote. Raises EarthGPTError for what is no report."""
        try:
            value = json.loads(Path(path).read_bytes())
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
    drawn = statistics.intervals(found.figures, len(questions), images, rounds, seed=seed) if rounds else {}
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
            "fingerprint": fingerprint(questions),
            "images": len({one.image for one in questions if one.image}),
            **(data or {}),
        },
        versions=versions(libraries),
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


def fingerprint(questions: Sequence[Scored]) -> str:
    """A hash of what is asked, whatever was answered: images, questions and true answers in their order."""
    found = hashlib.sha256()
    for one in questions:
        found.update(json.dumps([one.image, one.question, one.kind, plain(one.truth)]).encode())
    return found.hexdigest()


def versions(libraries: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python, earthgpt, numpy and the libraries named. Raises PackageNotFoundError for one not there."""
    names = dict.fromkeys(("earthgpt", "numpy", *libraries))
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


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
            return Region(from_plain(value["box"]), value["label"], value.get("score"))
        if value and isinstance(value[0], list):
            return OrientedBox(tuple((x, y) for x, y in value))
        return Box(*value) if value and isinstance(value[0], float | int) else tuple(map(from_plain, value))
    except (KeyError, TypeError, RecursionError):
        raise ValueError(f"{value!r:.80} is no answer of a task.") from None


def questions_of(report: Report, path: str | Path = "the report") -> Iterator[Scored]:
    """The questions of a report. Raises EarthGPTError where an answer is damaged."""
    for number, answer in enumerate(report.answers, 1):
        try:
            values = from_plain(answer["truth"]), from_plain(answer["read"])
            size = answer.get("size")
            texts = (answer[name] for name in ("id", "image", "question"))
            yield Scored(*texts, *values, answer["prediction"], answer["kind"], tuple(size) if size else None)
        except (KeyError, TypeError, ValueError):
            raise EarthGPTError(f"{path} is damaged: answer {number} cannot be read.") from None


def _is_references(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], str)


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


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: str | Path, text: str) -> None:
    """Writes a file, complete or not at all. Raises EarthGPTError when it cannot be written."""
    path = Path(path)
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
        os.replace(fresh, path)
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror}.") from None

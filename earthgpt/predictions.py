"""Anybody's file of predictions as questions with true answers; what is wrong in it is counted and named by its line.

A row is one question: what was predicted, and the true answer, in the same row or in a file of its own. Rows are JSON
lines, a JSON array (or an object that holds one), CSV or TSV, or one of our reports. Names of fields differ between
projects, and so does the frame of boxes; both are guessed from the whole file where they are not given.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from earthgpt.boxes import Written, box_of, frames_of, number_of, says_nothing, written_boxes
from earthgpt.coordinates import FRAMES
from earthgpt.reports import Report, Scored, plain, questions_of, report
from earthgpt.rows import NAMES, Defects, Row, by_files, of_results, plain_name, read_rows
from earthgpt.tasks import Task, task_of
from earthgpt.tasks.image_captioning import ImageCaptioning
from earthgpt.tasks.object_detection import ObjectDetection
from earthgpt.tasks.visual_grounding import VisualGrounding
from earthgpt.types import EarthGPTError, OrientedBox, Region, Size

# Several true captions in fields of their own, as EarthDial has them.
_CAPTION = re.compile(r"caption_?\d+")
_WORDS = ("label", "class", "answer", "text", "caption", "name")  # what an object has its words in
_OBJECT = "object"  # the label of a box that nobody gave one


@dataclass(frozen=True)
class Predictions:
    """What is in a file. ``fields`` and ``frames`` say how it was read; ``defects`` name the lines (or numbers of the
    items of an array) of each kind of defect; ``lines`` is how many rows there were. ``report`` is the file where it is
    one of our reports.
    """

    questions: tuple[Scored, ...]
    fields: dict[str, str]
    frames: dict[str, str]
    defects: dict[str, tuple[int, ...]] = field(default_factory=dict)
    lines: int = 0
    report: Report | None = None


def read_predictions(
    path: str | Path,
    task: Task,
    *,
    truth: str | Path | None = None,
    kind: str | None = None,
    fields: Mapping[str, str] | None = None,
    frame: str | None = None,
    truth_frame: str | None = None,
    clockwise: bool = False,
    allow_missing: bool = False,
) -> Predictions:
    """The questions of a file with their true answers and predictions, as values of the task.

    truth: a second file with the true answers, or a report with them; rows belong together by id, else by image and
    question, else by their place. Where none do so, by the image alone, or the name of its file without folders.
    kind: one of ``FORMATS``; told by the content without it. fields: the name of the field of each role of ``NAMES``.
    frame, truth_frame: names of ``coordinates.FRAMES``, what boxes are written in. A fifth number of a box
    is an angle in degrees by which it is turned about its middle, against the clock on the screen, as GeoChat draws it
    and EarthDial scores it, unless ``clockwise``. allow_missing: what is in ``MISMATCHES`` is counted, and left
    out; a missing prediction is wrong.

    Raises EarthGPTError where the file cannot be read, for a field or frame there is none of, for mismatches, for files
    that belong together by place where a row cannot be read, and for a report of which anything else is said.
    """
    defects = Defects(Path(path).name)
    rows, found = read_rows(path, kind, defects)
    if found == "report":
        said = {
            "--truth": truth, "--field": fields, "--frame": frame, "--truth-frame": truth_frame,
            "--clockwise": clockwise, "--allow-missing": allow_missing,
        }  # fmt: skip
        if given := [name for name, value in said.items() if value]:
            raise EarthGPTError(f"{path} is a report, which states answers as they are: leave out {', '.join(given)}.")
        return _of_report(path)
    if not rows:
        raise EarthGPTError(f"{path} has no row that can be read{defects.told()}.")
    if found == "results" and fields:
        found = "json"
    if found == "coco":
        raise EarthGPTError(
            f"{path} holds annotations: name it with --truth, and give the predictions. Those of earthgpt detect are "
            "read as it prints them: --json > FILE."
        )
    if found == "results" and truth is None:
        raise EarthGPTError(f"{path} holds results in COCO's form: name their annotations with --truth instances.json.")
    names = {} if found == "results" else _fields(rows, fields or {}, truth is not None, path)
    pairs = [(row, row) for row in rows]
    truth_names = names
    if truth is not None:
        rest = Defects(Path(truth).name)
        true_rows, form = read_rows(truth, None, rest)
        if form == "report":
            true_rows = _rows_of_report(truth)
        truth_frame = _frame_of(form, truth, truth_frame)
        if found == "results":
            if form != "coco":
                raise EarthGPTError(
                    f"{path} holds results in COCO's form, whose categories are numbers, and {truth} does not name "
                    "them: it is no COCO annotations file."
                )
            rows, frame = of_results(rows, Path(truth), defects), _frame_of("coco", path, frame)
            names = _fields(rows, {}, True, path)
        elif form == "coco" and "image" in names:
            rows = by_files(rows, names["image"], Path(truth))
        truth_names = _truth_fields(true_rows, fields or {}, truth)
        roles = [role for role in ("id", "image", "question") if role in names and role in truth_names]
        if not roles and "map" in (found, form):
            one, other = (path, truth) if found == "map" else (truth, path)
            raise EarthGPTError(
                f"{one} says whose answers it has, and {other} does not: --field image=NAME, or id=NAME."
            )
        if broken := [one for one in (defects, rest) if one.found and not roles]:
            raise EarthGPTError(
                f"{path} and {truth} belong together by place, and rows cannot be read: mend them, or give both an id. "
                + ", ".join(f"{one.name}{one.told()}" for one in broken)
                + "."
            )
        pairs = _joined(rows, names, true_rows, truth_names, ["id"] if "id" in roles else roles, defects)
        defects.found |= {f"{what} (true answers)": lines for what, lines in rest.found.items()}
    read = [_question(row, true, names, truth_names, defects) for row, true in pairs]
    asked = _without_repeats([one for one in read if one is not None], defects)
    frames: dict[str, str] = {}
    boxed = isinstance(task, VisualGrounding | ObjectDetection)
    if boxed:
        said, true = ([(getattr(one, role), one.size) for one in asked] for role in ("prediction", "truth"))
        frames = dict(zip(("prediction", "truth"), frames_of(said, true, frame, truth_frame), strict=True))
    values = (_Boxes(task, frames, asked, clockwise) if boxed else _Words(task)) if asked else None
    questions = [one for one in (values.scored(one, defects) for one in asked) if one is not None] if values else []
    if not allow_missing:
        defects.refuse()
    if not questions:
        raise EarthGPTError(f"{path} has no question that can be scored{defects.told()}.")
    return Predictions(tuple(questions), names, frames, defects.lines(), len(rows))


def _frame_of(form: str, path: str | Path, given: str | None) -> str | None:
    """What boxes are written in: as is given, but in files that say it."""
    known = {"coco": "pixels", "report": "image"}.get(form)
    if known and given not in (None, known):
        raise EarthGPTError(f"{path} has its boxes in {known}, as its form says: leave out the frame that is given.")
    return known or given


def score(
    task: str,
    path: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    rounds: int = 1000,
    seed: int = 0,
    **reading: Any,
) -> tuple[Report, Predictions]:
    """Scores a file of predictions: the report, and how the file was read.

    ``options`` are fields of the task, such as ``protocol``; ``reading`` are those of ``read_predictions``.
    Raises EarthGPTError as that does, and for a task or an option there is none of.
    """
    asked = task_of(task, options or {})
    found = read_predictions(path, asked, **reading)
    if found.report is not None:
        return _again(found.report, found, asked, task, options or {}, rounds, seed), found
    settings = {
        "predictions": Path(path).name,
        "options": dict(options or {}),
        "rounds": rounds,
        "fields": found.fields,
        "frames": found.frames,
        "clockwise": bool(reading.get("clockwise")),
    }
    defects = {what: len(lines) for what, lines in found.defects.items()}
    lines = {what: list(lines[:10]) for what, lines in found.defects.items()}
    data = {"rows": found.lines, "defects": defects, "lines": lines}
    made = report(asked, task, found.questions, settings=settings, data=data, rounds=rounds, seed=seed)
    return made, found


def _again(
    old: Report, found: Predictions, task: Task, name: str, options: Mapping[str, Any], rounds: int, seed: int
) -> Report:
    """One of our reports scored anew; how it was asked, its versions, and baselines of the same options stay."""
    if old.task != name:
        raise EarthGPTError(f"The report is on {old.task}, not {name}.")
    settings = {**old.settings, "options": dict(options), "rounds": rounds}
    made = report(task, name, found.questions, settings=settings, data=old.data, rounds=rounds, seed=seed)
    same = (old.settings.get("options") or {}) == dict(options)
    baselines = {**(old.baselines if same else {}), **made.baselines}
    return replace(made, baselines=baselines, versions={**made.versions, **old.versions})


# --- fields ------------------------------------------------------------------------------------------------------


def _named(
    rows: Sequence[Row], given: Mapping[str, str], path: str | Path, without: Sequence[str] = ()
) -> tuple[dict[str, str], dict[str, str]]:
    """Fields by role, but for "answer" and the roles ``without``, and all names of fields by their plain form."""
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    plain = {plain_name(name): name for name in reversed(names)}
    if wrong := [role for role in given if role not in NAMES]:
        raise EarthGPTError(f"The role of a field is one of {', '.join(NAMES)}; not {wrong[0]!r}.")
    for role, name in given.items():
        if name not in names:
            raise EarthGPTError(f"{path} has no field {name!r} for the {role}; it has {', '.join(names) or 'none'}.")
    found = dict(given)
    for role, known in NAMES.items():
        match = next((plain[name] for name in known if name in plain and plain[name] not in found.values()), None)
        if role not in found and match is not None and role not in without:
            found[role] = match
    captions = [name for name in names if _CAPTION.fullmatch(plain_name(name))]
    if "truth" not in found and captions and "truth" not in without:
        found["truth"] = ", ".join(captions)
    return found, plain


def _fields(rows: Sequence[Row], given: Mapping[str, str], apart: bool, path: str | Path) -> dict[str, str]:
    if apart:  # the true answers are in another file, where these fields are looked for
        given = {role: name for role, name in given.items() if role != "truth"}
    found, plain = _named(rows, given, path, without=("truth",) if apart else ())
    if "answer" in plain and not (apart and "prediction" in found):
        free = "prediction" if "prediction" not in found else "truth"
        found.setdefault(free, plain["answer"])
    needed = ("prediction",) if apart else ("prediction", "truth")
    if missing := [role for role in needed if role not in found]:
        names = ", ".join(dict.fromkeys(name for _, row in rows for name in row)) or "none"
        hint = "" if missing != ["truth"] else ", or name the file of the true answers with --truth"
        raise EarthGPTError(
            f"{path} has no field that is called like a {' or a '.join(missing)}; it has {names[:300]}. "
            f"Name it with --field {missing[0]}=NAME{hint}."
        )
    return found


def _truth_fields(rows: Sequence[Row], given: Mapping[str, str], path: str | Path) -> dict[str, str]:
    names = {name for _, row in rows for name in row}
    chosen = {role: name for role, name in given.items() if role == "truth" or (role != "prediction" and name in names)}
    found, plain = _named(rows, chosen, path)
    if "truth" not in found and "answer" in plain:
        found["truth"] = plain["answer"]
    if "truth" not in found:
        raise EarthGPTError(f"{path} has no field that is called like a truth; name it with --field truth=NAME.")
    return found


@dataclass(frozen=True)
class _Asked:
    """A question as the file states it: values as they are."""

    line: int
    id: str
    image: str
    question: str
    kind: str
    size: Size | None
    prediction: Any
    truth: Any
    scores: Any = None
    labels: Any = None


def _question(
    row: Row | None, true: Row | None, names: Mapping[str, str], truth_names: Mapping[str, str], defects: Defects
) -> _Asked | None:
    """None where there is no true answer."""
    line = (row or true)[0]
    said, stated = (row or (0, {}))[1], (true or (0, {}))[1]

    def text(role: str) -> str:
        value = stated.get(truth_names[role]) if role in truth_names else None  # as the true answers have it
        if value is None and role in names:
            value = said.get(names[role])
        return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    captions = truth_names["truth"].split(", ") if truth_names["truth"] not in stated else [truth_names["truth"]]
    answers = [stated.get(name) for name in captions]
    answers = [answer for answer in answers if answer is not None and answer != ""]
    if not answers:
        defects.add("no true answer", line)
        return None
    prediction = said.get(names["prediction"])
    if prediction is None:
        defects.add("no prediction", line)
    size = _size(said, names) or _size(stated, truth_names)
    truth = answers[0] if len(captions) == 1 else answers
    beside = [said.get(names[role]) if role in names else None for role in ("scores", "labels")]
    return _Asked(line, text("id"), text("image"), text("question"), text("kind"), size, prediction, truth, *beside)


def _size(row: Mapping[str, Any], names: Mapping[str, str]) -> Size | None:
    """The (width, height) that a row states; None when it states none."""
    if "width" in names and "height" in names:
        values = [row.get(names["width"]), row.get(names["height"])]
    else:
        values = _several(row.get(names["size"])) if "size" in names else None
        if isinstance(values, list) and plain_name(names["size"]) == "hw":
            values = values[::-1]
    if not isinstance(values, list) or len(values) != 2:
        return None
    numbers = [number_of(value) for value in values]
    good = all(number is not None and 1 <= number < 1e9 for number in numbers)
    return (int(numbers[0]), int(numbers[1])) if good else None


def _several(value: Any) -> list[Any] | None:
    """Numbers that a row states, as a list: of one number that alone, of text what it holds (a cell of a table has
    "[800, 600]", "800x600" or "0.9"); None of nothing."""
    if isinstance(value, str):
        value = re.findall(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan", value, re.IGNORECASE)
    if value is None or value == []:
        return None
    return value if isinstance(value, list) else [value]


def _names(value: Any) -> list[Any] | None:
    """Words that a row states, as a list: of one that alone, of a cell of a table its JSON; None of nothing."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value] if value.strip() else None
    return value if value is None or isinstance(value, list) else [value]


def _joined(
    rows: Sequence[Row],
    names: Mapping[str, str],
    true: Sequence[Row],
    truth_names: Mapping[str, str],
    roles: Sequence[str],
    defects: Defects,
) -> list[tuple[Row | None, Row | None]]:
    """The rows of two files that belong together by some roles, without any by place; in the order of the true ones."""

    def keys(rows: Sequence[Row], fields: Mapping[str, str], roles: Sequence[str], short: bool) -> list[tuple]:
        """What tells rows apart; ``short``: the image by the name of its file, whatever its folder."""
        if not roles:
            return [(place,) for place in range(len(rows))]
        found = [[str(row.get(fields[role])) for role in roles] for _, row in rows]
        return [tuple(re.split(r"[/\\]", one)[-1] if short else one for one in parts) for parts in found]

    ways = [(roles, False)]
    if "image" in roles:
        ways += [(["image"], False), (roles, True), (["image"], True)]
    for chosen in ways:
        given, wanted = keys(rows, names, *chosen), keys(true, truth_names, *chosen)
        if not set(given).isdisjoint(wanted):
            break
    said: dict[tuple, Row] = {}
    for one, row in zip(given, rows, strict=True):
        if one in said:
            defects.add("id that was there before", row[0])
        said.setdefault(one, row)
    pairs: list[tuple[Row | None, Row | None]] = [
        (said.pop(one, None), row) for one, row in zip(wanted, true, strict=True)
    ]
    for line, _ in said.values():
        defects.add("prediction without a question", line)
    return pairs


def _without_repeats(asked: Sequence[_Asked], defects: Defects) -> list[_Asked]:
    """The first question of each id; without ids all."""
    found: dict[Any, _Asked] = {}
    for number, one in enumerate(asked):
        key = (one.id, one.image, one.question) if one.id else number
        if key in found:
            defects.add("id that was there before", one.line)
        found.setdefault(key, one)
    return list(found.values())


# --- words -------------------------------------------------------------------------------------------------------


class _Words:
    """Answers in words."""

    def __init__(self, task: Task):
        self.task = task
        self.several = isinstance(task, ImageCaptioning)

    def scored(self, one: _Asked, defects: Defects) -> Scored | None:
        truths = one.truth if isinstance(one.truth, list) else [one.truth]
        texts = [text for text in (_text(truth) for truth in truths) if text.strip()]
        if not texts:
            defects.add("true answer that cannot be read", one.line)
            return None
        size = one.size or (1, 1)
        said = None if one.prediction is None else _text(one.prediction)
        value = None if said is None else self.task.parse(said, size)
        if len(texts) > 1 and not self.several:
            defects.add("several true answers: the first counts", one.line)
        truth = tuple(texts) if len(texts) > 1 and self.several else texts[0]
        return Scored(one.id, one.image, one.question, truth, value, said, one.kind, one.size)


def _text(value: Any) -> str:
    """A value as text: of a list with one item that item (lmms-eval), of an object its words, of true yes, and of 3.0,
    which pandas makes of a count, 3."""
    for _ in range(3):
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict):  # {"label": "forest", "p": 0.9}
            value = next((value[key] for key in _WORDS if isinstance(value.get(key), str)), value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- boxes -------------------------------------------------------------------------------------------------------


class _Boxes:
    """Answers that are a box, or regions with labels."""

    def __init__(self, task: Task, frames: Mapping[str, str], asked: Sequence[_Asked], clockwise: bool):
        self.task, self.frames, self.clockwise = task, frames, clockwise
        # Without the sizes of images pixels are fractions of the largest number: overlaps are the same.
        self.side = 1
        if "pixels" in frames.values():
            parts = [value for one in asked if one.size is None for value in (one.truth, one.prediction)]
            numbers = [number for value in parts for box in written_boxes(value) for number in box.coordinates]
            self.side = max(1, math.ceil(max(filter(math.isfinite, numbers), default=1.0)))
        self.labelled = any(box.label is not None for one in asked for box in self._written(one.truth))

    def scored(self, one: _Asked, defects: Defects) -> Scored | None:
        truth = self._read(one, one.truth, "truth", defects)
        said = None if one.prediction is None else _text(one.prediction)
        if truth is None:
            defects.add("true answer that cannot be read", one.line)
            return None
        prediction = None if one.prediction is None else self._read(one, one.prediction, "prediction", defects)
        if isinstance(self.task, VisualGrounding):
            if len(truth) != 1:
                defects.add("question left out: its true answer is not one box (see object_detection)", one.line)
                return None
            if prediction is not None and len(prediction) > 1:
                defects.add("prediction of several boxes: the first counts", one.line)
            value = prediction[0].box if prediction else None
            return Scored(one.id, one.image, one.question, truth[0].box, value, said, one.kind, one.size)
        if prediction is not None:
            prediction = self._fit(prediction, truth)
        return Scored(one.id, one.image, one.question, truth, prediction, said, one.kind, one.size)

    def _fit(self, prediction: tuple[Region, ...], truth: tuple[Region, ...]) -> tuple[Region, ...]:
        """Labels as the truth has them: none where it has none, its own where a prediction has none."""
        if not self.labelled:
            return tuple(replace(region, label=_OBJECT) for region in prediction)
        labels = {region.label for region in truth}
        only = labels.pop() if len(labels) == 1 else _OBJECT
        return tuple(replace(region, label=only) if region.label == "" else region for region in prediction)

    def _written(self, value: Any) -> list[Written]:
        found = written_boxes(value)
        text = value if isinstance(value, str) else ""
        if isinstance(self.task, ObjectDetection) and text and all(box.label is None for box in found):
            # "There are two ships [..;..] in the image.": parsed in fractions, to learn the labels alone.
            spans = replace(self.task, frame=FRAMES["image"]).spans(text, (1, 1))
            if len(spans) == len(found):
                return [replace(box, label=region.label) for box, (region, _) in zip(found, spans, strict=True)]
        return found

    def _read(self, one: _Asked, value: Any, role: str, defects: Defects) -> tuple[Region, ...] | None:
        """The regions; None where nothing can be read, and in the truth also where one of them is wrong."""
        written = self._written(value)
        if not written:
            nothing = says_nothing(value) or (isinstance(value, str) and self.task.parse(value, (1, 1)) == ())
            return () if nothing and isinstance(self.task, ObjectDetection) else None
        size = one.size or (self.side, self.side)
        frame = FRAMES[self.frames[role]](size)
        scores = _several(one.scores) if role == "prediction" else None
        scores = [None] * len(written) if scores is None else scores
        if len(scores) != len(written):
            defects.add("scores that are not as many as the boxes: left out", one.line)
            scores = [None] * len(written)
        labels = _names(one.labels) if role == "prediction" else None
        labels = [None] * len(written) if labels is None else labels
        if len(labels) != len(written):
            defects.add("labels that are not as many as the boxes: left out", one.line)
            labels = [None] * len(written)
        written = [
            replace(box, label=str(label)) if box.label is None and label is not None else box
            for box, label in zip(written, labels, strict=True)
        ]
        regions = []
        for box, score in zip(written, scores, strict=True):
            read, wrong = box_of(box, frame, size, self.clockwise)
            if wrong:
                defects.add(f"{wrong} ({'true answer' if role == 'truth' else role})", one.line)
            if read is not None:
                known = number_of(score) if score is not None else box.score
                known = known if known is None or math.isfinite(known) else None
                label = box.label if box.label is not None else _OBJECT if role == "truth" else ""
                regions.append(Region(read, label, known if role == "prediction" else None))
        if len(regions) < len(written) and role == "truth":
            return None
        return tuple(regions) or None


def _rows_of_report(path: str | Path) -> list[Row]:
    """The questions of one of our reports with their true answers, boxes in fractions of the image."""

    def written(value: Any) -> Any:
        if isinstance(value, Region):
            return {"label": value.label, "box": written(value.box)}
        if isinstance(value, OrientedBox):
            return [number for corner in value.corners for number in corner]
        return [written(one) for one in value] if isinstance(value, tuple) else plain(value)

    rows = []
    for number, one in enumerate(questions_of(Report.read(path), path), 1):
        row = {"question": one.question, "kind": one.kind, "truth": written(one.truth)}
        row |= {"image": one.image} if one.image else {"id": one.id}  # ids are our own where images have names
        rows.append((number, row | ({"size": list(one.size)} if one.size else {})))
    return rows


def _of_report(path: str | Path) -> Predictions:
    """The questions of one of our reports, which states values."""
    found = Report.read(path)
    questions = tuple(questions_of(found, path))
    if not questions:
        raise EarthGPTError(f"{path} holds no answers.")
    return Predictions(questions, {"prediction": "read", "truth": "truth"}, {}, {}, len(questions), found)

"""Files of anybody's answers as rows: JSON lines, arrays and maps, CSV and TSV, and COCO's annotations and results."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from earthgpt import formats
from earthgpt.outlines import floats
from earthgpt.types import EarthGPTError

FORMATS = ("jsonl", "json", "csv", "tsv", "report")
# What fields are called, the surest names first; case, spaces and hyphens do not matter. "answer" is the prediction
# beside a field of the truth (GeoChat, EarthDial, InternVL) and the truth beside one of the prediction (VLMEvalKit).
NAMES: Mapping[str, tuple[str, ...]] = {
    "prediction": (
        "prediction", "predictions", "predicted", "pred", "predict", "prediction_text", "output", "outputs", "response",
        "model_output", "model_answer", "pred_answer", "generated", "filtered_resps", "resps", "text", "caption",
        "y_pred", "predicted_label", "pred_label", "regions", "detections", "class",
    ),
    "truth": (
        "ground_truth", "groundtruth", "truth", "gt", "gt_answer", "gt_bbox", "gt_boxes", "annotation", "annotations",
        "target", "references", "reference", "captions", "answers", "label", "labels", "y_true", "true_label",
        "gt_label",
    ),
    "id": ("id", "question_id", "qid", "sample_id", "index", "doc_id"),
    "image": ("image", "image_id", "image_name", "image_path", "img", "img_id", "img_path", "file_name", "filename"),
    "question": ("question", "prompt", "query", "instruction", "input"),
    "kind": ("kind", "type", "vqa_type", "question_type", "category", "task_type"),
    "size": ("size", "image_size", "hw"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
    "scores": ("scores", "score", "confidence", "confidences"),
    "labels": ("labels", "pred_labels", "pred_classes"),
}  # fmt: skip
# What makes a file no answer to its questions; the others make an answer wrong, or are mended.
MISMATCHES = (
    "row that cannot be read",
    "no prediction",
    "prediction without a question",
    "no true answer",
    "true answer that cannot be read",
    "id that was there before",
)

_DECIMAL = re.compile(r"\s*[-+]?\d+,\d+\s*")  # as spreadsheets write it where columns end in semicolons
_RESULT = {"image_id", "category_id", "bbox"}  # of an object, in COCO's form
Row = tuple[int, dict[str, Any]]


def printable(value: Any) -> Any:
    """A value of JSON without halves of UTF-16 characters, which cannot be printed or written."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {printable(key): printable(one) for key, one in value.items()}
    return [printable(one) for one in value] if isinstance(value, list) else value


def plain_name(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


class Defects:
    """What is wrong, by kind and line."""

    def __init__(self, name: str):
        self.name = name
        self.found: dict[str, list[int]] = {}

    def add(self, what: str, line: int) -> None:
        self.found.setdefault(what, []).append(line)

    def lines(self) -> dict[str, tuple[int, ...]]:
        return {what: tuple(lines) for what, lines in self.found.items()}

    def told(self) -> str:
        parts = (f"{len(lines)} {what} (line {_few(lines)})" for what, lines in self.found.items())
        return ": " + "; ".join(parts) if self.found else ""

    def refuse(self) -> None:
        """Raises EarthGPTError for what makes predictions and true answers not fit together."""
        wrong = {what: lines for what, lines in self.found.items() if what.startswith(MISMATCHES)}
        if wrong:
            parts = "; ".join(f"{len(lines)} {what} (line {_few(lines)})" for what, lines in wrong.items())
            raise EarthGPTError(
                f"{self.name} does not fit: {parts}. Mend it, or pass --allow-missing: then what cannot be scored is "
                "left out and counted, and a missing prediction is wrong."
            )


def _few(lines: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, lines[:most])) + (", ..." if len(lines) > most else "")


# --- rows --------------------------------------------------------------------------------------------------------


def read_rows(path: str | Path, kind: str | None, defects: Defects) -> tuple[list[Row], str]:
    """The rows of a file with their lines, and its format: one of ``FORMATS``, or "coco" for annotations, of which a
    row is an image, "results" for what is found in their images (``of_results``), and "map" for an object. An empty
    file is refused."""
    path = Path(path)
    if kind not in (None, *FORMATS):
        raise EarthGPTError(f"The format is one of {', '.join(FORMATS)}; not {kind!r}.")
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise EarthGPTError(f"Cannot read {path}: {error.strerror}.") from None
    start = content.lstrip()[:1]
    if not start:
        raise EarthGPTError(f"{path} is empty.")
    if kind is None and path.suffix.lower() in (".csv", ".tsv"):
        kind = path.suffix.lower()[1:]
    if kind in ("csv", "tsv"):
        first = content.partition(b"\n")[0]
        comma = ";" if first.count(b";") > first.count(b",") else ","  # as spreadsheets write where 0,5 is a half
        return list(_table(content, comma if kind == "csv" else "\t", path, defects)), kind
    if kind in (None, "json", "report") and start in (b"[", b"{"):
        value = _json(content)
        if isinstance(value, dict) and {"task", "metrics", "answers"} <= set(value):
            return [], "report"
        if isinstance(value, dict) and {"images", "annotations"} <= set(value):
            return list(_objects(enumerate(_annotated(path, value, defects), 1), defects)), "coco"
        listed, form = _listed(value)
        if form:
            rows = list(_objects(enumerate(listed, 1), defects))
            true = {name for _, row in rows for name in map(plain_name, row)} & {*NAMES["truth"]}
            results = bool(rows) and not true and all(row.keys() >= _RESULT for _, row in rows)
            return rows, "results" if results else form
        if kind == "json" or (start == b"[" and b"\n" not in content.strip()):
            raise EarthGPTError(f"{path} is no list of answers in JSON{_why(content)}.")
    if kind == "report":
        raise EarthGPTError(f"{path} is no report of earthgpt.")
    if start == b"[" and _json(content.lstrip().split(b"\n", 1)[0]) is _BROKEN:  # an array over several lines
        raise EarthGPTError(f"{path} is no list of answers in JSON{_why(content)}.")
    lines = ((number, _json(line)) for number, line in enumerate(content.split(b"\n"), 1) if line.strip())
    return list(_objects(lines, defects)), "jsonl"


_BROKEN = object()


def _json(content: bytes) -> Any:
    """A value of JSON; ``_BROKEN`` for what is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # what is no UTF-8 is a ValueError too
        return _BROKEN


def _why(content: bytes) -> str:
    try:
        json.loads(content)
    except json.JSONDecodeError as error:
        return f": {error.msg} in line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        return ""
    return ""


def _listed(value: Any) -> tuple[list[Any], str]:
    """The rows in a value, and its form: "json" of a list, or of an object that holds one of objects; "map" of an
    object by id or image, of objects or of answers; "" of another value."""
    if isinstance(value, list):
        return value, "json"
    if not isinstance(value, dict):
        return [], ""
    lists = [one for one in value.values() if isinstance(one, list) and one and isinstance(one[0], dict)]
    if len(lists) == 1 and (_looks_like_a_row(lists[0][0]) or not _looks_like_a_row(value)):
        return lists[0], "json"
    if len(value) > 1 and all(isinstance(one, dict) for one in value.values()):
        return [{"id": key, **one} for key, one in value.items()], "map"
    if _looks_like_a_row(value):
        return [], ""
    names = len(value) > 1 and all(re.search(r"[\d.]", key) for key in value)  # of images, and not of fields
    if names and not any(isinstance(one, dict) for one in value.values()):
        return [{"image": key, "answer": one} for key, one in value.items()], "map"
    return [], ""


def _looks_like_a_row(value: Mapping[str, Any]) -> bool:
    known = (*NAMES["prediction"], "answer", *NAMES["id"], *NAMES["image"])
    return not {plain_name(name) for name in value}.isdisjoint(known)


def _objects(values: Any, defects: Defects) -> Iterator[Row]:
    for line, value in values:
        if not isinstance(value, dict):
            defects.add("row that cannot be read", line)
            continue
        if isinstance(value.get("doc"), dict):  # lmms-eval keeps the question and its type in there
            value = {**value["doc"], **value}
        yield line, printable(value)


def _table(content: bytes, delimiter: str, path: Path, defects: Defects) -> Iterator[Row]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise EarthGPTError(f"{path} is no UTF-8 in line {line}; save it as UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = next(reader)
        for cells in reader:
            if delimiter == ";":
                cells = [re.sub(r"(?<=\d),(?=\d)", ".", one) if _DECIMAL.fullmatch(one) else one for one in cells]
            if len(cells) == len(header):
                yield reader.line_num, dict(zip(header, cells, strict=True))
            elif cells:
                defects.add("row that cannot be read", reader.line_num)
    except csv.Error as error:
        raise EarthGPTError(f"{path}, line {reader.line_num}: {error}.") from None


# --- COCO --------------------------------------------------------------------------------------------------------


def _annotated(path: Path, content: Mapping[str, Any], defects: Defects) -> list[dict[str, Any]]:
    """The images of a COCO file of objects, or of captions, with what is true of them; boxes in pixels."""
    if not content.get("categories"):
        names, captions = _files(path, content), {}
        with formats.shaped(path, "COCO file of captions"):
            for one in content["annotations"]:
                number = formats.identity_of(one["image_id"])
                captions.setdefault(names.get(number, number), []).append(formats.string(one["caption"]))
        return [{"image": name, "captions": said} for name, said in captions.items()]
    found: Counter[str] = Counter()
    rows = []
    for line, image in enumerate(formats.coco(path, found), 1):
        for what in image.defects:
            defects.add(f"image with {what}, which are left out", line)
        boxes = [(one.label, *one.bbox) for one in image.annotations if len(one.bbox) == 4]
        for _ in range(len(image.annotations) - len(boxes)):
            defects.add("object without a box, left out", line)
        width, height = image.size
        objects = [{"label": label, "box": [x, y, x + w, y + h]} for label, x, y, w, h in boxes]
        size = {"width": width, "height": height} if width and height else {}
        rows.append({"image": image.file, **size, "truth": objects})
    for what, count in found.items():
        for _ in range(count):
            defects.add(what, 1)
    return rows


def of_results(rows: Sequence[Row], annotations: Path, defects: Defects) -> list[Row]:
    """Results in COCO's form, of which each is a box, as a row for each image of the annotations that they belong to.

    An image is known by its number or the name of its file, with or without its folder and ending, and without a result
    nothing was found in it. Results of images and categories that are not listed are counted.
    """
    content = formats.load_json(annotations)
    with formats.shaped(annotations, "COCO file"):
        labels = {formats.identity_of(one["id"]): formats.string(one["name"]) for one in content["categories"]}
    files = _files(annotations, content)
    known = _known(files)
    found: dict[str, list[dict[str, Any]]] = {file: [] for file in files.values()}
    for line, row in rows:
        try:
            file, label = (
                where.get(formats.identity_of(row[key]))
                for where, key in ((known, "image_id"), (labels, "category_id"))
            )
        except ValueError:
            defects.add("row that cannot be read", line)
            continue
        box = floats(row["bbox"]) if isinstance(row["bbox"], list) else None
        if file is None:
            defects.add("prediction without a question", line)
        elif label is None:
            defects.add("result of a category that is not listed: left out", line)
        elif box is None or len(box) != 4:
            defects.add("row that cannot be read", line)
        else:
            x, y, width, height = box
            found[file].append({"label": label, "box": [x, y, x + width, y + height], "score": row.get("score")})
    return [(line, {"image": file, "prediction": objects}) for line, (file, objects) in enumerate(found.items(), 1)]


def by_files(rows: Sequence[Row], name: str, annotations: Path) -> list[Row]:
    """Rows that may name their images, in the field ``name``, by numbers of COCO's annotations: by their files. Text is
    the name of a file, if it is one, unless the field is called an id."""
    files = _files(annotations, formats.load_json(annotations))
    numbered = _known(files)
    named = numbered if plain_name(name).endswith("id") else numbered | _known({file: file for file in files.values()})

    def file_of(value: Any) -> Any:
        return (named if isinstance(value, str) else numbered).get(str(value), value)

    return [(line, {**row, name: file_of(row.get(name))}) for line, row in rows]


def _files(annotations: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """The names of COCO's images by their numbers: of their files, or the number where none is stated; of captions also
    where several images have one name, as they are told apart by their numbers alone."""
    with formats.shaped(annotations, "COCO file"):
        stated = {formats.identity_of(one["id"]): one.get("file_name") for one in content["images"] if "id" in one}
    names = {number: name if isinstance(name, str) and name else number for number, name in stated.items()}
    times = Counter(() if content.get("categories") else names.values())
    return {number: name if times[name] < 2 else number for number, name in names.items()}


def _known(files: Mapping[str, str]) -> dict[str, str]:
    """The images by all that one is called: its number, and the name of its file with or without its folder and ending,
    as far as no other image is called so."""
    known: dict[str, str] = {}
    ways = (lambda number, file: number, lambda _, file: file, lambda _, file: Path(file).name)
    for way in (*ways, lambda _, file: Path(file).stem):  # a number is no name of another file
        meant: dict[str, set[str]] = {}
        for number, file in files.items():
            meant.setdefault(way(number, file), set()).add(file)
        for name, those in meant.items():
            if len(those) == 1:
                known.setdefault(name, *those)
    return known

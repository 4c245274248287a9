"""Boxes as other models write them: numbers in lists, objects and words, in whatever frame, become boxes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from earthgpt.coordinates import FRAMES, Frame
from earthgpt.outlines import rotated_rectangle
from earthgpt.types import Box, EarthGPTError, OrientedBox, Point, Size

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d{1,3})?|\.\d+|nan|inf(?:inity)?)"
_NUMBERS = re.compile(_NUMBER, re.IGNORECASE)
# GeoChat: {<10><20><30><40>|<45>}; and whatever stands in the innermost brackets or parentheses.
_GROUP = re.compile(r"\{((?:<[^<>{}]*>)+)(?:\|<([^<>{}]*)>)?\}|[\[(]([^\[\](){}]*)[\])]")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_BOX_KEYS = ("box", "bbox", "bbox_2d", "obb", "polygon", "poly", "corners")
_EDGE_KEYS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_LABEL_KEYS = ("label", "class", "category", "name")
_NOT_FINITE = "box with a number that is not finite"


@dataclass(frozen=True)
class Written:
    """A box as it is written: 4 numbers, 5 with an angle, or 8; and what is said of it. A score is finite."""

    numbers: tuple[float, ...]
    label: str | None = None
    score: float | None = None

    @property
    def coordinates(self) -> tuple[float, ...]:
        """Its 4 or 8 numbers without the angle: x and y of two corners, or of four."""
        return self.numbers[:4] if len(self.numbers) == 5 else self.numbers


def says_nothing(value: Any) -> bool:
    """Whether a value of JSON, or a text that is one, is an empty list: no box."""
    return value == [] or (isinstance(value, str) and re.fullmatch(r"\[\s*\]", _inner(value)) is not None)


def _inner(text: str) -> str:
    """What a text has between the fences of Markdown; without any, the text."""
    fenced = _FENCE.search(text)
    return (fenced[1] if fenced else text).strip()


def written_boxes(value: Any) -> list[Written]:
    """Every box in a value of JSON or a text, in its own numbers, in order."""
    if isinstance(value, str):
        inner = _inner(value)
        found = _in_json(inner) if inner[:1] in ("[", "{") else None
        return _in_text(value) if found is None else found
    return _structured(value) or []


def _in_json(text: str) -> list[Written] | None:
    """Boxes in a text that is JSON; None where it is none, or nothing like a box."""
    try:
        return _structured(json.loads(text.encode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None


def _structured(value: Any, depth: int = 0) -> list[Written] | None:
    """Boxes in lists and objects; None where there is nothing like a box."""
    if depth > 5:
        return None
    if isinstance(value, dict):
        key = next((key for key in _BOX_KEYS if key in value), None)
        numbers = {name for name, one in value.items() if number_of(one) is not None}
        edges = next((edges for edges in _EDGE_KEYS if numbers >= set(edges)), None)
        if key is None and edges and "x3" not in value:
            key, value = "box", {**value, "box": [value[edge] for edge in edges]}
        if key is None:
            parts = [_structured(one, depth + 1) for one in value.values() if isinstance(one, list | dict)]
            found = [box for part in parts for box in part or ()]
            return found or None
        label = next((value[name] for name in _LABEL_KEYS if isinstance(value.get(name), str)), None)
        score = number_of(value.get("score", value.get("confidence")))
        score = score if score is not None and math.isfinite(score) else None
        return [replace(box, label=label, score=score) for box in _structured(value[key], depth + 1) or ()]
    if not isinstance(value, list):
        return None
    numbers = [number_of(one) for one in value]
    if value and None not in numbers:
        return [Written(tuple(numbers))] if len(numbers) in (4, 5, 8) else None
    pairs = [one for one in value if isinstance(one, list) and len(one) == 2 and None not in map(number_of, one)]
    if len(pairs) == len(value) in (2, 4):
        return [Written(tuple(number_of(number) for pair in pairs for number in pair))]
    parts = [written_boxes(one) if isinstance(one, str) else _structured(one, depth + 1) for one in value]
    found = [box for part in parts for box in part or ()]
    return found if found or not value else None


def _in_text(text: str) -> list[Written]:
    """Boxes in words: groups of 4, 5 or 8 numbers in brackets, two points (x,y),(x,y), or nothing but numbers."""
    found: list[Written] = []
    pairs: list[float] = []
    for group in _GROUP.finditer(text):
        if group[1] is not None:
            numbers = [float(number) for number in _NUMBERS.findall(group[1] + "|" + (group[2] or ""))]
            found += [Written(tuple(numbers))] if len(numbers) in (4, 5, 8) else []
            continue
        for part in group[3].split(";"):
            numbers = [float(number) for number in _NUMBERS.findall(part)] if _only_numbers(part) else []
            if len(numbers) == 2:
                pairs += numbers
                if len(pairs) == 4:
                    found.append(Written(tuple(pairs)))
                    pairs = []
            elif len(numbers) in (4, 5, 8):
                found.append(Written(tuple(numbers)))
    if not found and _only_numbers(text):
        numbers = [float(number) for number in _NUMBERS.findall(text)]
        found = [Written(tuple(numbers))] if len(numbers) in (4, 5, 8) else []
    return found


def _only_numbers(text: str) -> bool:
    return not re.sub(r"[\s,]+", "", _NUMBERS.sub("", text))


def number_of(value: Any) -> float | None:
    """The number that a value states, which may be NaN; None when it states none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def box_of(written: Written, frame: Frame, size: Size, clockwise: bool = False) -> tuple[Box | OrientedBox | None, str]:
    """The box in fractions of the image, cut to it, None where it is none; and what is wrong with it, "" for nothing.

    size: (width, height) of the image in pixels. A fifth number is an angle in degrees by which the box is turned about
    its middle, against the clock on the screen unless ``clockwise``.
    """
    if not all(map(math.isfinite, written.numbers)):
        return None, _NOT_FINITE
    points = [_pixels(frame, pair) for pair in zip(written.coordinates[::2], written.coordinates[1::2], strict=True)]
    if len(points) == 2 and (points[0][0] > points[1][0] or points[0][1] > points[1][1]):
        return None, "box with edges in the wrong order (or is it left, top, width, height?)"
    outside = any(not -0.01 <= part <= 1.01 for x, y in points for part in (x / size[0], y / size[1]))
    wrong = "box that reaches outside the image: cut" if outside else ""
    if len(points) == 2 and (len(written.numbers) == 4 or written.numbers[4] % 360 == 0):
        (left, top), (right, bottom) = points
        return Box.from_pixels(left, top, right, bottom, size), wrong
    if len(points) == 2:
        (left, top), (right, bottom) = points
        angle = math.radians(written.numbers[4] if clockwise else -written.numbers[4])
        points = rotated_rectangle((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, angle)
    if not all(math.isfinite(part) for point in points for part in point):  # too large to be turned
        return None, _NOT_FINITE
    return OrientedBox.from_pixels(tuple(points), size), wrong


def _pixels(frame: Frame, numbers: Point) -> Point:
    """Numbers of a frame as pixels of the image, not cut."""
    return tuple(numbers[i] * frame.unit[i] - frame.offset[i] for i in (0, 1))


# --- frames ------------------------------------------------------------------------------------------------------


def frames_of(
    predictions: Iterable[tuple[Any, Size | None]],
    truths: Iterable[tuple[Any, Size | None]],
    frame: str | None = None,
    truth_frame: str | None = None,
) -> tuple[str, str]:
    """The frames, names of ``coordinates.FRAMES``, that predictions and true answers are written in: those given, the
    others guessed from all numbers. Each value comes with the (width, height) of its image, None where not known.

    Raises EarthGPTError for a frame there is none of.
    """
    for name in (frame, truth_frame):
        if name not in (None, *FRAMES):
            raise EarthGPTError(f"A frame is one of {', '.join(FRAMES)}; not {name!r}.")
    said, true = _numbers(predictions), _numbers(truths)
    truth_frame = truth_frame or _frame_of(true) or frame or "image"
    if frame is None:
        limit = {"square": 1.0, "image": 1.0, "0-100": 100.0, "0-1000": 1000.0}.get(truth_frame)
        largest = float(np.quantile(said[:, 0], 0.99)) if len(said) else math.nan
        # Few boxes may lie far from the right and the bottom: the frame of the truth is kept where it is possible.
        if not len(said) or (limit is not None and limit / 8 < largest <= 1.05 * limit):
            frame = truth_frame
        elif limit is None:
            frame = _frame_beside_pixels(said, true)
        else:
            frame = _frame_of(said) or truth_frame
    return frame, truth_frame


def _numbers(values: Iterable[tuple[Any, Size | None]]) -> np.ndarray:
    """All coordinates and the side of the image they run along (NaN where it is not known), [N, 2]."""
    found = []
    for value, size in values:
        for box in written_boxes(value):
            sides = size or (math.nan, math.nan)
            found += [(number, sides[i % 2]) for i, number in enumerate(box.coordinates) if math.isfinite(number)]
    return np.array(found, float).reshape(-1, 2)


def _frame_of(numbers: np.ndarray) -> str | None:
    """The frame that coordinates look like; None without any. Where 0-1000 and pixels are both possible they are
    pixels if the sizes of the images are known; else it makes no difference to the overlap of two boxes.
    """
    if not len(numbers):
        return None
    largest = float(np.quantile(numbers[:, 0], 0.99))
    if largest <= 1.05:
        return "image"
    if largest <= 105:
        return "0-100"
    sized = ~np.isnan(numbers[:, 1])
    if sized.any() and (numbers[sized, 0] <= 1.01 * numbers[sized, 1]).mean() >= 0.99:
        return "pixels"
    return "0-1000" if largest <= 1050 else "pixels"


def _frame_beside_pixels(said: np.ndarray, true: np.ndarray) -> str:
    """The frame of predictions whose true answers are in pixels: of those that are possible the one in which both lie
    at the same places of the images on average. Pixels where sizes are not known, and where that tells little.
    """
    largest = float(np.quantile(said[:, 0], 0.99))
    if largest <= 1.05:
        return "image"
    if not len(true):
        return "pixels"
    middle, of_sides = (float(np.median(one[:, 0] / one[:, 1])) for one in (true, said))  # NaN where a size is missing
    if not (middle > 0 and of_sides > 0) or largest > 1050:
        return "pixels"
    limits = {"0-100": 100.0, "0-1000": 1000.0} if largest <= 105 else {"0-1000": 1000.0}
    apart = {name: abs(math.log(float(np.median(said[:, 0])) / limit / middle)) for name, limit in limits.items()}
    best = min(apart, key=apart.__getitem__)
    beyond = (said[:, 0] > 1.01 * said[:, 1]).mean() > 0.01
    # Few boxes of a weak model may lie anywhere: what else than pixels they are must be plain.
    margin = 0.2 if len(said) >= 400 else 1.0
    return best if beyond or abs(math.log(of_sides / middle)) > apart[best] + margin else "pixels"

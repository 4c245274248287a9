"""The values that everything else speaks in: sensors, boxes, regions, samples and conversations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

Point = tuple[float, float]
Size = tuple[int, int]

# Numbers read back from text may overshoot the image by rounding; anything further out was never in [0, 1].
TOLERANCE = 1e-6


class EarthGPTError(Exception):
    """Something a user can act on. The message says what is wrong, where, and what to do."""


class StoppedError(EarthGPTError):
    """Work that a signal stopped, with all kept that it takes to go on. number: of the signal."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


_MEANT = {"thermal": "infrared", "ir": "infrared", "rgb": "optical", "eo": "optical", "radar": "sar"}


class Sensor(StrEnum):
    """What took the image; it decides how raw values become pixels (``earthgpt.geo.sensors``)."""

    OPTICAL = "optical"
    SAR = "sar"
    INFRARED = "infrared"

    @classmethod
    def of(cls, name: Sensor | str) -> Sensor:
        """The sensor of a name, in whatever capitals. Raises EarthGPTError where there is none."""
        try:
            return cls(name.lower())
        except (AttributeError, ValueError):
            meant = _MEANT.get(str(name).lower(), "")
            hint = f" Did you mean {meant}?" if meant else ""
            raise EarthGPTError(f"The sensor is one of {', '.join(cls)}; not {name!r}.{hint}") from None


def _sides(size: Size) -> tuple[float, float]:
    try:
        width, height = size
        if width > 0 and height > 0:
            return width, height
    except (TypeError, ValueError):
        pass
    raise ValueError(f"A size is (width, height) in pixels, both above 0; not {size!r}.")


def _refuse_pixels(values: tuple[float, ...], kind: str) -> None:
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{kind} corners must be finite numbers, not {values}.")
    if min(values) < -TOLERANCE or max(values) > 1 + TOLERANCE:
        raise ValueError(f"{kind} corners are fractions of the image in [0, 1], not {values}; use from_pixels.")


@dataclass(frozen=True, slots=True)
class Box:
    """An upright box in fractions of the image itself: origin top left, x to the right, y down, all in [0, 1].

    Edges are continuous: the whole image is ``Box(0, 0, 1, 1)`` and width is ``right - left`` without any "+1".
    A box without area is allowed (two printed decimals make some) and has an IoU of 0 with everything.
    Raises ValueError for numbers outside [0, 1], NaN, or edges in the wrong order.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        _refuse_pixels((self.left, self.top, self.right, self.bottom), "Box")
        if self.left > self.right or self.top > self.bottom:
            raise ValueError(f"Box edges are (left, top, right, bottom), not {self}.")

    @classmethod
    def from_pixels(cls, left: float, top: float, right: float, bottom: float, size: Size) -> Box:
        """A box from pixel edges; ``size`` is (width, height). What lies outside the image is cut off."""
        width, height = _sides(size)
        xs = [min(max(x / width, 0.0), 1.0) for x in (left, right)]
        ys = [min(max(y / height, 0.0), 1.0) for y in (top, bottom)]
        return cls(xs[0], ys[0], xs[1], ys[1])

    @classmethod
    def read(cls, text: str, size: Size) -> Box:
        """The box that people write as ``left,top,right,bottom`` in pixels of an image of ``size`` (width, height).

        Raises EarthGPTError for another text, and for a box that is smaller than a pixel or not inside the image.
        """
        (width, height), text = size, str(text)
        try:
            left, top, right, bottom = (float(value) for value in text.strip("()[]").split(","))
            inside = 0 <= left < right <= width and 0 <= top < bottom <= height
        except ValueError:
            inside = False
        if not inside:
            raise EarthGPTError(
                f"A box is left,top,right,bottom in pixels inside the image ({width} x {height}); not {text[:80]!r}."
            )
        if right - left < 1 or bottom - top < 1:
            raise EarthGPTError(f"The box {text[:80]!r} is smaller than a pixel; it is in pixels, not in fractions.")
        return cls.from_pixels(left, top, right, bottom, size)

    def to_pixels(self, size: Size) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in pixels of an image of ``size`` (width, height)."""
        width, height = size
        return self.left * width, self.top * height, self.right * width, self.bottom * height

    @property
    def corners(self) -> tuple[Point, ...]:
        """The four corners, clockwise on the screen from the top left one."""
        return (
            (self.left, self.top),
            (self.right, self.top),
            (self.right, self.bottom),
            (self.left, self.bottom),
        )

    @property
    def bounds(self) -> Box:
        """The box itself; an OrientedBox has its upright hull here."""
        return self

    @property
    def center(self) -> Point:
        """The middle, in fractions of the image."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def area(self) -> float:
        """Part of the image that is covered, in [0, 1]."""
        return (self.right - self.left) * (self.bottom - self.top)

    def iou(self, other: Box | OrientedBox) -> float:
        """Intersection over union in [0, 1]; boxes that only touch have 0."""
        if isinstance(other, OrientedBox):
            return other.iou(self)
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return _over_union(max(width, 0.0) * max(height, 0.0), self.area, other.area)


@dataclass(frozen=True, slots=True)
class OrientedBox:
    """A box at any angle: the convex hull of four corners in fractions of the image, each in [0, 1].

    Corners are kept in the order of the MMRS-1M release, whatever order they are given in: first the one nearest
    the origin, then the others by ascending angle about it (clockwise on the screen).
    Raises ValueError for numbers outside [0, 1] or NaN, and for anything but four corners.
    """

    corners: tuple[Point, Point, Point, Point]

    def __post_init__(self) -> None:
        try:
            corners = tuple((float(x), float(y)) for x, y in self.corners)
        except (TypeError, ValueError):
            raise ValueError(f"An OrientedBox has four corners (x, y), not {self.corners!r}.") from None
        if len(corners) != 4:
            raise ValueError(f"An OrientedBox has four corners, not {len(corners)}.")
        _refuse_pixels(tuple(value for corner in corners for value in corner), "OrientedBox")
        object.__setattr__(self, "corners", release_order(corners))

    @classmethod
    def from_pixels(cls, corners: tuple[Point, ...], size: Size) -> OrientedBox:
        """An oriented box from four corners in pixels; ``size`` is (width, height).

        A corner outside the image is moved to the nearest point of its edge, so a box that is cut off becomes
        a quadrilateral.
        """
        width, height = _sides(size)
        return cls(tuple((min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)) for x, y in corners))

    def to_pixels(self, size: Size) -> tuple[Point, ...]:
        """The corners in pixels of an image of ``size`` (width, height)."""
        width, height = size
        return tuple((x * width, y * height) for x, y in self.corners)

    @property
    def bounds(self) -> Box:
        """The upright hull."""
        xs, ys = zip(*self.corners, strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))

    @property
    def center(self) -> Point:
        """The mean of the corners, in fractions of the image."""
        return sum(x for x, _ in self.corners) / 4, sum(y for _, y in self.corners) / 4

    @property
    def area(self) -> float:
        """Part of the image that is covered, in [0, 1]."""
        return polygon_area(convex_hull(self.corners))

    def iou(self, other: Box | OrientedBox) -> float:
        """Exact polygon intersection over union in [0, 1].

        Scaling an axis scales all areas alike, so the value is the same in pixels.
        """
        overlap = polygon_area(_clip(convex_hull(self.corners), convex_hull(other.corners)))
        return _over_union(overlap, self.area, other.area)


def release_order(corners: tuple[Point, ...]) -> tuple[Point, ...]:
    """Corners in the order of MMRS-1M: the one nearest the origin, then the rest by ascending angle about it.

    Ties (the paper is silent): smaller y first, then smaller x.
    """
    first = min(corners, key=lambda p: (math.hypot(p[0], p[1]), p[1], p[0]))
    rest = list(corners)
    rest.remove(first)

    def angle(point: Point) -> tuple[float, float]:
        dx, dy = point[0] - first[0], point[1] - first[1]
        return math.atan2(dy, dx), math.hypot(dx, dy)

    return (first, *sorted(rest, key=angle))


def _over_union(overlap: float, area: float, other: float) -> float:
    return min(overlap / (area + other - overlap), 1.0) if area > 0 and other > 0 else 0.0


def _cross(start: Point, one: Point, other: Point) -> float:
    return (one[0] - start[0]) * (other[1] - start[1]) - (one[1] - start[1]) * (other[0] - start[0])


def polygon_area(polygon: Sequence[Point]) -> float:
    """The area of a polygon whose corners go clockwise on the screen; 0.0 for fewer than three."""
    return sum(_cross(polygon[0], one, other) for one, other in pairwise(polygon)) / 2


def convex_hull(points: Iterable[Point]) -> list[Point]:
    """The corners of the convex hull, each once, clockwise on the screen (Andrew's monotone chain, 1979).

    Points may coincide, lie on one line, or fold in, as corners do that were rounded to a few decimals.
    """
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered
    hull: list[Point] = []
    for sweep in (ordered, ordered[::-1]):
        chain: list[Point] = []
        for point in sweep:
            while len(chain) > 1 and _cross(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        hull += chain[:-1]
    return hull


def _clip(subject: list[Point], window: list[Point]) -> list[Point]:
    """The part of a convex polygon inside another (Sutherland and Hodgman, 1974); both clockwise on the screen."""
    for start, end in zip(window, window[1:] + window[:1], strict=True):
        if not subject:
            break
        sides = [_cross(start, end, point) for point in subject]
        kept: list[Point] = []
        for i, (point, side) in enumerate(zip(subject, sides, strict=True)):
            before, before_side = subject[i - 1], sides[i - 1]
            if (side >= 0) != (before_side >= 0):
                part = before_side / (before_side - side)
                kept.append((before[0] + part * (point[0] - before[0]), before[1] + part * (point[1] - before[1])))
            if side >= 0:
                kept.append(point)
        subject = kept
    return subject


@dataclass(frozen=True, slots=True)
class Region:
    """A box and what is said of it: a class, a referring phrase, or a caption.

    ``score`` in [0, 1] is how sure a model was; None for an annotation.
    """

    box: Box | OrientedBox
    label: str
    score: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.box, Box | OrientedBox):
            raise ValueError(
                f"The box of a Region is a Box or an OrientedBox (see from_pixels), not a {type(self.box).__name__}."
            )


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a data set asks about an image, its answer, and its kind (presence, count, ...)."""

    text: str
    answer: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One annotated image as its data set states it: facts, no prompts.

    ``image`` is a file, or a function that renders the pixels (uint8, [H, W] or [H, W, 3]).
    ``name`` is unique within the data set and the same on every machine (a relative path).
    ``label`` is the class of the whole scene; ``choices`` the closed list it comes from.
    ``captions`` describe the whole scene. ``regions`` are its objects by class; ``complete`` says that every object
    of ``classes`` is in the list, so that absence and counts may be asked for. ``cut`` are objects that are only seen
    in part, where all others are stated: such a sample is not complete.
    ``expressions`` are regions with a referring phrase that fits no other place in the image.
    ``questions`` are asked by the data set itself.
    """

    image: Path | Callable[[], Any]
    name: str
    size: Size
    sensor: Sensor
    label: str | None = None
    choices: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    classes: tuple[str, ...] = ()
    complete: bool = False
    expressions: tuple[Region, ...] = ()
    questions: tuple[Question, ...] = ()
    cut: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.image, Path) or callable(self.image)):
            raise EarthGPTError(f"The image of a Sample is a Path, or a function that renders it, not {self.image!r}.")


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said. ``role`` is "user" or "assistant"."""

    role: str
    text: str

    def __post_init__(self) -> None:
        if self.role not in ("user", "assistant"):
            raise ValueError(f"A message comes from 'user' or 'assistant', not {self.role!r}.")
        if not isinstance(self.text, str):
            raise ValueError(f"What is said is text, not {self.text!r}.")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A talk about some images: what a model is trained on and asked.

    ``images`` are files or anything that ``earthgpt.open`` takes; messages alternate and start with the user.
    """

    images: tuple[Any, ...] = ()
    messages: tuple[Message, ...] = field(default=())

    def __post_init__(self) -> None:
        if not isinstance(self.images, tuple | list):
            raise ValueError(
                f"The images of a conversation are a tuple, (image,) of one; not a {type(self.images).__name__}."
            )
        for i, message in enumerate(self.messages):
            if message.role != ("user", "assistant")[i % 2]:
                raise ValueError(f"Messages alternate and start with the user; message {i} is from {message.role}.")

    @classmethod
    def of(cls, images: tuple[Any, ...], *texts: str) -> Conversation:
        """A conversation from plain texts: user, assistant, user, ..."""
        roles = ("user", "assistant")
        return cls(images, tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)))

"""Procedural scenes of all three sensors with exact truth; nothing is downloaded and nothing is stored.

A scene is a function of its seed and sensor. Optical scenes have textures, shadows and colours; SAR scenes have
gamma-distributed speckle over dark water and bright point scatterers (intensity of L looks is Gamma(L, 1/L): Goodman,
1976); infrared scenes have hot engines and people over ground that keeps the day's warmth, blurred by the optics.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, TiffImagePlugin

from earthgpt.datasets import Dataset
from earthgpt.types import Box, OrientedBox, Point, Region, Sample, Sensor, Size

# What can be seen by each sensor, by kind of scene: its objects, and what the scene is called in a caption.
KINDS: dict[Sensor, dict[str, tuple[tuple[str, ...], str]]] = {
    Sensor.OPTICAL: {
        "harbor": (("ship",), "a harbor"),
        "airport": (("airplane",), "an airport apron"),
        "parking lot": (("vehicle",), "a parking lot"),
        "storage tanks": (("storage tank",), "a tank farm"),
        "residential": (("building", "vehicle"), "a residential area"),
        "river": (("bridge", "ship"), "a river"),
        "sports field": (("tennis court", "vehicle"), "a sports ground"),
        "farmland": (("vehicle",), "farmland"),
        "forest": ((), "a dense forest"),
    },
    Sensor.SAR: {
        "open sea": (("ship",), "the open sea"),
        "harbor": (("ship",), "a harbor"),
        "airport": (("airplane",), "an airport apron"),
        "storage tanks": (("storage tank",), "a tank farm"),
    },
    Sensor.INFRARED: {
        "road": (("car",), "a road"),
        "parking lot": (("car", "person"), "a parking lot"),
        "square": (("person",), "an open square"),
        "open sea": (("ship",), "the open sea"),
    },
}
CLASSES = {
    sensor: tuple(sorted({label for labels, _ in kinds.values() for label in labels}))
    for sensor, kinds in KINDS.items()
}
PLURALS = {"person": "people"}
SIDES = (192, 256, 320)
SUPERSAMPLING = 2  # drawn at twice the size and reduced, so that edges are smooth


@dataclass(frozen=True, slots=True)
class Thing:
    """An object on the ground: middle, length and width in pixels, heading in degrees clockwise from the right."""

    label: str
    x: float
    y: float
    length: float
    width: float
    heading_deg: float
    colour: tuple[int, int, int] = (255, 255, 255)
    moving: bool = False

    def at(self, along: float, across: float) -> Point:
        """A point of the object in pixels; (-0.5, -0.5) .. (0.5, 0.5) is stern to bow, left to right."""
        angle = math.radians(self.heading_deg)
        u, v = along * self.length, across * self.width
        return self.x + u * math.cos(angle) - v * math.sin(angle), self.y + u * math.sin(angle) + v * math.cos(angle)

    def outline(self, *points: Point) -> list[Point]:
        """Points of the object in pixels."""
        return [self.at(*point) for point in points]

    @property
    def corners(self) -> list[Point]:
        """The four corners of its rectangle in pixels."""
        return self.outline((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))


@dataclass(slots=True)
class Layout:
    """Where everything stands before it is drawn. ``shapes`` is the ground: (material, polygon in pixels)."""

    kind: str
    ground: str
    size: Size
    shapes: list[tuple[str, list[Point]]] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    sun: Point = (1.0, 1.0)

    def place(self, thing: Thing, gap: float = 2.0) -> bool:
        """Adds an object unless it leaves the image or comes nearer than ``gap`` pixels to another one."""
        width, height = self.size
        if any(not (1 <= x <= width - 1 and 1 <= y <= height - 1) for x, y in thing.corners):
            return False
        for other in self.things:
            if _separated(thing.corners, other.corners, gap) is False:
                return False
        self.things.append(thing)
        return True


def _separated(ours: list[Point], theirs: list[Point], gap: float) -> bool:
    """Whether two rectangles are at least ``gap`` apart along one of their axes (separating axis theorem)."""
    for corners in (ours, theirs):
        for (ax, ay), (bx, by) in ((corners[0], corners[1]), (corners[1], corners[2])):
            norm = math.hypot(bx - ax, by - ay) or 1.0
            dx, dy = (bx - ax) / norm, (by - ay) / norm
            a = [x * dx + y * dy for x, y in ours]
            b = [x * dx + y * dy for x, y in theirs]
            if max(a) + gap < min(b) or max(b) + gap < min(a):
                return True
    return False


# --- layouts -----------------------------------------------------------------------------------------------------

VEHICLE_COLOURS = ((225, 225, 225), (245, 245, 245), (40, 42, 46), (120, 122, 128), (165, 30, 30), (35, 70, 150))
ROOFS = ((150, 75, 60), (125, 90, 75), (110, 110, 115), (170, 160, 150), (95, 70, 65))
HULLS = ((150, 50, 45), (60, 65, 75), (200, 200, 205), (45, 70, 110), (90, 90, 90))


def _band(x: float, y: float, heading_deg: float, width: float, reach: float) -> list[Point]:
    """A strip through a point: a road, a runway, a river."""
    return Thing("", x, y, 2 * reach, width, heading_deg).corners


def _scatter(layout: Layout, rng: random.Random, count: int, make, gap: float = 3.0) -> None:
    for _ in range(count):
        for _ in range(12):
            if layout.place(make(), gap):
                break


def _ship(rng: random.Random, x: float, y: float, heading: float, scale: float) -> Thing:
    length = scale * rng.uniform(0.10, 0.30)
    return Thing("ship", x, y, length, length * rng.uniform(0.18, 0.3), heading, rng.choice(HULLS))


def _harbor(layout: Layout, rng: random.Random, side: float) -> None:
    """Water, a quay along one edge, and piers with ships alongside; further ships on the water."""
    edge = rng.choice((0, 90, 180, 270))
    depth = rng.uniform(0.15, 0.35)
    cx = cy = side / 2

    def turn(points: list[Point]) -> list[Point]:
        angle = math.radians(edge)
        c, s = math.cos(angle), math.sin(angle)
        return [(cx + (x - cx) * c - (y - cy) * s, cy + (x - cx) * s + (y - cy) * c) for x, y in points]

    shore = side * depth
    layout.shapes.append(("concrete", turn([(-side, -side), (2 * side, -side), (2 * side, shore), (-side, shore)])))
    layout.shapes.append(
        ("grass", turn([(-side, -side), (2 * side, -side), (2 * side, shore * 0.45), (-side, shore * 0.45)]))
    )
    position = rng.uniform(0.1, 0.3) * side
    while position < side * 0.9:
        width, reach = side * rng.uniform(0.02, 0.045), side * rng.uniform(0.2, 0.5)
        pier = [
            (position, shore - 2),
            (position + width, shore - 2),
            (position + width, shore + reach),
            (position, shore + reach),
        ]
        layout.shapes.append(("concrete", turn(pier)))
        for outer in (False, True):
            along = shore + side * 0.03
            while along < shore + reach - side * 0.05 and rng.random() < 0.75:
                ship = _ship(rng, 0, 0, 90 + edge, side)
                x = position + width + ship.width / 2 + 2 if outer else position - ship.width / 2 - 2
                ((px, py),) = turn([(x, along + ship.length / 2)])
                layout.place(replace(ship, x=px, y=py), 1.5)
                along += ship.length + side * 0.02
        position += side * rng.uniform(0.25, 0.45)

    def sailing() -> Thing:
        ((x, y),) = turn([(rng.uniform(0, side), rng.uniform(shore + side * 0.1, side))])
        return replace(_ship(rng, x, y, rng.uniform(0, 360), side * 0.8), moving=True)

    free = [shape for material, shape in layout.shapes if material == "concrete"]
    for _ in range(rng.randint(0, 3)):
        ship = sailing()
        if all(_separated(ship.corners, pier, 4) for pier in free):
            layout.place(ship, 4)


def _open_sea(layout: Layout, rng: random.Random, side: float) -> None:
    _scatter(
        layout,
        rng,
        rng.randint(1, 7),
        lambda: _ship(rng, rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0, 360), side),
        6,
    )


def _airport(layout: Layout, rng: random.Random, side: float) -> None:
    """A runway and an apron with airplanes in a row or scattered."""
    heading = rng.choice((0, 90)) + rng.uniform(-12, 12)
    layout.shapes.append(("concrete", _band(side / 2, side / 2, heading, side * rng.uniform(0.45, 0.8), side)))
    angle = math.radians(heading + 90)
    shift = side * rng.uniform(0.38, 0.5)
    layout.shapes.append(
        (
            "runway",
            _band(side / 2 + shift * math.cos(angle), side / 2 + shift * math.sin(angle), heading, side * 0.09, side),
        )
    )
    length = side * rng.uniform(0.10, 0.24)
    facing, spread = heading + rng.choice((90, -90, 0)), rng.choice((4, 4, 180))

    def plane() -> Thing:
        size = length * rng.uniform(0.75, 1.15)
        return Thing(
            "airplane",
            rng.uniform(0, side),
            rng.uniform(0, side),
            size,
            size * rng.uniform(0.85, 1.0),
            facing + rng.uniform(-spread, spread),
            (235, 236, 240),
        )

    _scatter(layout, rng, rng.randint(1, 7), plane, 3)


def _parking(layout: Layout, rng: random.Random, side: float, label: str) -> None:
    """Rows of bays, some of them taken."""
    heading = rng.choice((0, 90)) + rng.uniform(-20, 20)
    length = side * rng.uniform(0.05, 0.085)
    lot = Thing("", side / 2, side / 2, side * rng.uniform(0.75, 1.3), side * rng.uniform(0.7, 1.2), heading)
    layout.shapes.append(("asphalt", lot.corners))
    bay, row = length * 0.62 / lot.length, length * 2.1 / lot.width
    taken = rng.uniform(0.08, 0.45)
    limit = rng.randint(2, 16)
    across = -0.44
    while across < 0.46:
        for i in range(int(0.9 / bay)):
            if rng.random() < taken and len(layout.things) < limit:
                x, y = lot.at(-0.45 + i * bay, across + rng.uniform(-0.004, 0.004))
                size = length * rng.uniform(0.9, 1.1)
                layout.place(Thing(label, x, y, size, size * 0.45, heading + 90, rng.choice(VEHICLE_COLOURS)), 0.5)
        layout.shapes.append(("line", _band(*lot.at(0, across + row / 2.1 * 0.55), heading, 1.2, lot.length * 0.45)))
        across += row * rng.choice((1.0, 1.0, 1.6))


def _tanks(layout: Layout, rng: random.Random, side: float) -> None:
    diameter = side * rng.uniform(0.09, 0.22)
    pitch = diameter * rng.uniform(1.25, 1.6)
    layout.shapes.append(
        ("concrete", Thing("", side / 2, side / 2, side * 0.95, side * 0.95, rng.uniform(-8, 8)).corners)
    )
    x0, y0 = rng.uniform(0.55, 0.9) * diameter, rng.uniform(0.55, 0.9) * diameter
    filled = rng.uniform(0.25, 0.8)
    for column in range(int(side / pitch) + 1):
        for line in range(int(side / pitch) + 1):
            if rng.random() < filled and len(layout.things) < 14:
                size = diameter * rng.choice((1, 1, 0.8, 0.6))
                shade = rng.randint(175, 245)
                layout.place(
                    Thing(
                        "storage tank", x0 + column * pitch, y0 + line * pitch, size, size, 0, (shade, shade, shade - 6)
                    ),
                    2,
                )


def _residential(layout: Layout, rng: random.Random, side: float) -> None:
    heading = rng.choice((0, 90)) + rng.uniform(-15, 15)
    road = Thing(
        "",
        side / 2 + rng.uniform(-0.15, 0.15) * side,
        side / 2 + rng.uniform(-0.15, 0.15) * side,
        3 * side,
        side * rng.uniform(0.06, 0.1),
        heading,
    )
    layout.shapes.append(("asphalt", road.corners))
    for _ in range(rng.randint(0, 3)):
        x, y = road.at(rng.uniform(-0.15, 0.15), rng.choice((-0.24, 0.24)))
        length = side * rng.uniform(0.05, 0.07)
        layout.place(Thing("vehicle", x, y, length, length * 0.46, heading, rng.choice(VEHICLE_COLOURS)))

    def house() -> Thing:
        length = side * rng.uniform(0.1, 0.2)
        return Thing(
            "building",
            rng.uniform(0, side),
            rng.uniform(0, side),
            length,
            length * rng.uniform(0.5, 0.9),
            heading + rng.choice((0, 90)),
            rng.choice(ROOFS),
        )

    for _ in range(rng.randint(2, 9)):
        for _ in range(12):
            one = house()
            if _separated(one.corners, road.corners, 3) and layout.place(one, 5):
                break
    _trees(layout, rng, side, rng.randint(5, 20))


def _trees(layout: Layout, rng: random.Random, side: float, count: int, bare: Sequence[list[Point]] = ()) -> None:
    """Trees that stand neither on an object nor on the rectangles of ``bare``."""
    taken = [*bare, *(thing.corners for thing in layout.things)]
    for _ in range(count):
        x, y, radius = rng.uniform(0, side), rng.uniform(0, side), side * rng.uniform(0.012, 0.03)
        tree = Thing("", x, y, 2 * radius, 2 * radius, 0)
        if all(_separated(tree.corners, corners, 1) for corners in taken):
            layout.shapes.append(("tree", tree.corners))


def _river(layout: Layout, rng: random.Random, side: float) -> None:
    """A river over which roads lead; the water is drawn after the roads and before the bridges."""
    heading = rng.uniform(0, 180)
    shift = [rng.uniform(-0.1, 0.1) * side for _ in range(2)]
    water = Thing("", side / 2 + shift[0], side / 2 + shift[1], 3 * side, side * rng.uniform(0.2, 0.38), heading)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        x, y = water.at(rng.uniform(-0.13, 0.13), 0)
        width = side * rng.uniform(0.04, 0.08)
        across = heading + 90 + rng.uniform(-8, 8)
        if layout.place(Thing("bridge", x, y, water.width * 1.15, width, across, (150, 148, 145)), 10):
            layout.shapes.append(("asphalt", _band(x, y, across, width * 0.7, 2 * side)))
    layout.shapes.append(("water", water.corners))
    for _ in range(rng.randint(0, 3)):
        x, y = water.at(rng.uniform(-0.14, 0.14), rng.uniform(-0.28, 0.28))
        layout.place(_ship(rng, x, y, heading + rng.choice((0, 180)), side * 0.6), 5)
    _trees(layout, rng, side, rng.randint(4, 16), [water.corners])


def _sports(layout: Layout, rng: random.Random, side: float) -> None:
    heading = rng.choice((0, 90)) + rng.uniform(-15, 15)
    length = side * rng.uniform(0.2, 0.32)
    colour = rng.choice(((60, 120, 90), (55, 95, 150), (165, 85, 65)))

    def court() -> Thing:
        return Thing("tennis court", rng.uniform(0, side), rng.uniform(0, side), length, length * 0.5, heading, colour)

    _scatter(layout, rng, rng.randint(1, 6), court, 4)
    for _ in range(rng.randint(0, 3)):
        size = side * rng.uniform(0.05, 0.07)
        layout.place(
            Thing(
                "vehicle",
                rng.uniform(0, side),
                rng.uniform(0, side),
                size,
                size * 0.46,
                rng.uniform(0, 360),
                rng.choice(VEHICLE_COLOURS),
            )
        )
    _trees(layout, rng, side, rng.randint(3, 14))


def _farmland(layout: Layout, rng: random.Random, side: float) -> None:
    heading = rng.uniform(-25, 25)
    whole = Thing("", side / 2, side / 2, 1.6 * side, 1.6 * side, heading)
    columns, lines = rng.randint(2, 4), rng.randint(2, 5)
    for i in range(columns):
        for j in range(lines):
            a, b, c, d = i / columns - 0.5, j / lines - 0.5, (i + 0.97) / columns - 0.5, (j + 0.97) / lines - 0.5
            layout.shapes.append(
                (rng.choice(("crop", "crop", "soil", "wheat")), whole.outline((a, b), (c, b), (c, d), (a, d)))
            )
    for _ in range(rng.randint(0, 2)):
        size = side * rng.uniform(0.04, 0.06)
        layout.place(
            Thing(
                "vehicle",
                rng.uniform(0, side),
                rng.uniform(0, side),
                size,
                size * 0.5,
                rng.uniform(0, 360),
                rng.choice(VEHICLE_COLOURS),
            )
        )


def _forest(layout: Layout, rng: random.Random, side: float) -> None:
    _trees(layout, rng, side, rng.randint(120, 220))


def _road(layout: Layout, rng: random.Random, side: float) -> None:
    heading = rng.uniform(0, 180)
    road = Thing("", side / 2, side / 2, 3 * side, side * rng.uniform(0.16, 0.3), heading)
    layout.shapes += [("asphalt", road.corners), ("line", _band(side / 2, side / 2, heading, 1.5, 2 * side))]
    for _ in range(rng.randint(1, 9)):
        x, y = road.at(rng.uniform(-0.2, 0.2), rng.choice((-0.36, -0.15, 0.15, 0.36)))
        length = side * rng.uniform(0.055, 0.085)
        layout.place(Thing("car", x, y, length, length * 0.45, heading), 2)
    _trees(layout, rng, side, rng.randint(0, 8))


def _people(layout: Layout, rng: random.Random, side: float, most: int) -> None:
    groups = [(rng.uniform(0, side), rng.uniform(0, side)) for _ in range(3)]

    def person() -> Thing:
        x, y = rng.choice(groups)
        size = side * rng.uniform(0.022, 0.034)
        return Thing(
            "person", rng.gauss(x, side * 0.12), rng.gauss(y, side * 0.12), size, size * 0.8, rng.uniform(0, 360)
        )

    _scatter(layout, rng, rng.randint(1, most), person, 2)


def _layout(seed: int, sensor: Sensor, size: Size | None) -> Layout:
    rng = random.Random(f"{seed}/{sensor}")
    kind = rng.choice(list(KINDS[sensor]))
    side = rng.choice(SIDES)
    size = size or (side, side)
    ground = {"harbor": "water", "open sea": "water", "forest": "wood", "square": "concrete"}.get(kind, "grass")
    layout = Layout(kind, ground, size)
    angle = rng.uniform(0, 2 * math.pi)
    layout.sun = (math.cos(angle), math.sin(angle))
    side = min(size)
    label = "car" if sensor is Sensor.INFRARED else "vehicle"
    match kind:
        case "parking lot":
            _parking(layout, rng, side, label)
        case "square":
            _people(layout, rng, side, 12)
        case _:
            draw = {
                "harbor": _harbor, "open sea": _open_sea, "airport": _airport, "storage tanks": _tanks,
                "residential": _residential, "river": _river, "sports field": _sports, "farmland": _farmland,
                "forest": _forest, "road": _road,
            }[kind]  # fmt: skip
            draw(layout, rng, side)
    if sensor is Sensor.INFRARED and kind == "parking lot":
        _people(layout, rng, side, 4)
    if kind != "river" and rng.random() < 0.45:  # as many nearly empty places as busy ones
        layout.things = rng.sample(layout.things, min(rng.choice((1, 1, 2, 3)), len(layout.things)))
    return layout


# --- pictures ----------------------------------------------------------------------------------------------------


def _noise(noise: np.random.Generator, size: Size, cell: int, octaves: int = 3) -> np.ndarray:
    """Fractal value noise in [0, 1], [H, W]: random grids enlarged and added, each twice as fine and half as strong."""
    width, height = size
    total = np.zeros((height, width), np.float32)
    weight = 0.0
    for octave in range(octaves):
        step = max(cell >> octave, 1)
        grid = noise.random((height // step + 2, width // step + 2), np.float32)
        total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)) * 0.5**octave
        weight += 0.5**octave
    return np.clip(total / weight, 0, 1)


class _Canvas:
    """Draws in pixels of the scene on a picture that is SUPERSAMPLING times as large."""

    def __init__(self, mode: str, size: Size, fill):
        self.image = Image.new(mode, (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), fill)
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, points: list[Point], fill) -> None:
        if len(points) > 2:
            self.draw.polygon([(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points], fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill) -> None:
        s = SUPERSAMPLING
        self.draw.ellipse([(x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s], fill=fill)

    def pixels(self) -> np.ndarray:
        return np.asarray(self.image.reduce(SUPERSAMPLING), np.float32)


def _shaded(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    return tuple(max(0, min(255, round(value * factor))) for value in colour)


HULL = (
    (-0.5, -0.36),
    (-0.46, -0.46),
    (0.22, -0.5),
    (0.42, -0.26),
    (0.5, 0.0),
    (0.42, 0.26),
    (0.22, 0.5),
    (-0.46, 0.46),
    (-0.5, 0.36),
)
WINGS = ((0.14, 0.0), (-0.1, -0.5), (-0.19, -0.5), (-0.08, 0.0), (-0.19, 0.5), (-0.1, 0.5))
TAIL = ((-0.36, 0.0), (-0.45, -0.19), (-0.5, -0.19), (-0.46, 0.0), (-0.5, 0.19), (-0.45, 0.19))
FUSELAGE = ((0.5, 0.0), (0.44, -0.05), (-0.3, -0.055), (-0.5, -0.015), (-0.5, 0.015), (-0.3, 0.055), (0.44, 0.05))


def _silhouette(canvas: _Canvas, thing: Thing, fill, shift: Point = (0.0, 0.0)) -> None:
    """The outline of an object in one colour; ``shift`` in pixels, for shadows."""

    def moved(points: tuple[Point, ...]) -> list[Point]:
        return [(x + shift[0], y + shift[1]) for x, y in thing.outline(*points)]

    match thing.label:
        case "ship":
            canvas.polygon(moved(HULL), fill)
        case "airplane":
            for part in (WINGS, TAIL, FUSELAGE):
                canvas.polygon(moved(part), fill)
        case "storage tank" | "person":
            canvas.ellipse(thing.x + shift[0], thing.y + shift[1], thing.length / 2, thing.length / 2, fill)
        case _:
            canvas.polygon(moved(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))), fill)


HEIGHTS = {"building": 0.22, "storage tank": 0.18, "airplane": 0.07, "vehicle": 0.16, "ship": 0.05, "bridge": 0.03}


def _paint(canvas: _Canvas, thing: Thing, sun: Point) -> None:
    """An object in colour, lit from one side."""
    _silhouette(canvas, thing, thing.colour)
    match thing.label:
        case "ship":
            canvas.polygon(
                thing.outline((-0.42, -0.34), (0.2, -0.36), (0.38, 0.0), (0.2, 0.36), (-0.42, 0.34)),
                _shaded(thing.colour, 1.25),
            )
            canvas.polygon(thing.outline((-0.4, -0.26), (-0.22, -0.26), (-0.22, 0.26), (-0.4, 0.26)), (238, 238, 236))
            for along in (-0.1, 0.05, 0.2):
                canvas.polygon(
                    thing.outline((along, -0.2), (along + 0.09, -0.2), (along + 0.09, 0.2), (along, 0.2)),
                    _shaded(thing.colour, 0.75),
                )
        case "airplane":
            for side in (-0.24, 0.24):
                canvas.polygon(
                    thing.outline(
                        (0.06, side - 0.025), (0.06, side + 0.025), (-0.06, side + 0.025), (-0.06, side - 0.025)
                    ),
                    (150, 152, 158),
                )
            canvas.polygon(thing.outline((0.46, -0.02), (0.42, -0.035), (0.42, 0.035), (0.46, 0.02)), (70, 80, 95))
        case "storage tank":
            canvas.ellipse(
                thing.x - sun[0] * thing.length * 0.04,
                thing.y - sun[1] * thing.length * 0.04,
                thing.length * 0.43,
                thing.length * 0.43,
                _shaded(thing.colour, 1.08),
            )
            canvas.ellipse(thing.x, thing.y, thing.length * 0.05, thing.length * 0.05, _shaded(thing.colour, 0.7))
        case "vehicle":
            canvas.polygon(thing.outline((0.12, -0.4), (0.28, -0.36), (0.28, 0.36), (0.12, 0.4)), (35, 40, 48))
            canvas.polygon(thing.outline((-0.36, -0.36), (-0.26, -0.38), (-0.26, 0.38), (-0.36, 0.36)), (45, 50, 58))
        case "building":
            lit = thing.outline((-0.5, -0.5), (0.5, -0.5), (0.5, 0.0), (-0.5, 0.0))
            angle = math.radians(thing.heading_deg - 90)
            bright = math.cos(angle) * sun[0] + math.sin(angle) * sun[1]
            canvas.polygon(lit, _shaded(thing.colour, 1.0 - 0.22 * bright))
        case "tennis court":
            white, w = (232, 236, 232), 0.012
            inner = thing.outline((-0.36, -0.36), (0.36, -0.36), (0.36, 0.36), (-0.36, 0.36))
            canvas.polygon(inner, _shaded(thing.colour, 1.22))
            for a, b in (
                ((-0.36, -0.36), (0.36, -0.36)),
                ((-0.36, 0.36), (0.36, 0.36)),
                ((-0.36, -0.27), (0.36, -0.27)),
                ((-0.36, 0.27), (0.36, 0.27)),
                ((-0.18, 0), (0.18, 0)),
            ):
                canvas.polygon(
                    thing.outline((a[0], a[1] - w), (b[0], b[1] - w), (b[0], b[1] + w), (a[0], a[1] + w)), white
                )
            for along in (-0.36, -0.18, 0.0, 0.18, 0.36):
                reach = 0.36 if abs(along) != 0.18 else 0.27
                canvas.polygon(
                    thing.outline(
                        (along - w / 2, -reach), (along + w / 2, -reach), (along + w / 2, reach), (along - w / 2, reach)
                    ),
                    white,
                )
        case "bridge":
            for across in (-0.46, 0.0, 0.46):
                canvas.polygon(
                    thing.outline(
                        (-0.5, across - 0.03), (0.5, across - 0.03), (0.5, across + 0.03), (-0.5, across + 0.03)
                    ),
                    (205, 203, 198),
                )


MATERIALS = {
    "grass": (96, 116, 70), "water": (38, 66, 84), "wood": (46, 68, 42), "concrete": (158, 155, 148),
    "asphalt": (88, 88, 90), "runway": (72, 72, 76), "line": (214, 214, 208), "tree": (48, 76, 42),
    "crop": (104, 132, 66), "soil": (140, 112, 84), "wheat": (186, 166, 108),
}  # fmt: skip


def _optical(layout: Layout, rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    tint = [rng.uniform(0.95, 1.05) for _ in range(3)]

    def colour(material: str) -> tuple[int, int, int]:
        light = rng.uniform(0.88, 1.12)
        shades = (value * tint[i] * light * rng.uniform(0.96, 1.04) for i, value in enumerate(MATERIALS[material]))
        return tuple(max(0, min(255, round(shade))) for shade in shades)

    canvas = _Canvas("RGB", layout.size, colour(layout.ground))
    for material, polygon in layout.shapes:
        if material == "tree":
            (x0, y0), _, (x1, y1), _ = polygon
            x, y, radius = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2
            canvas.ellipse(
                x + layout.sun[0] * radius * 0.8, y + layout.sun[1] * radius * 0.8, radius, radius, (30, 42, 30)
            )
            leaf = colour("tree")
            canvas.ellipse(x, y, radius, radius, leaf)
            canvas.ellipse(
                x - layout.sun[0] * radius * 0.3,
                y - layout.sun[1] * radius * 0.3,
                radius * 0.6,
                radius * 0.6,
                _shaded(leaf, 1.2),
            )
        else:
            canvas.polygon(polygon, colour(material))
    for thing in layout.things:
        height = HEIGHTS.get(thing.label, 0) * min(thing.length, thing.width * 2)
        if height:
            _silhouette(canvas, thing, (28, 32, 34), (layout.sun[0] * height, layout.sun[1] * height))
    for thing in layout.things:
        if thing.moving:  # the wake
            canvas.polygon(thing.outline((-0.45, -0.3), (-0.45, 0.3), (-1.2, 0.7), (-1.2, -0.7)), (84, 110, 122))
    for thing in layout.things:
        _paint(canvas, thing, layout.sun)
    pixels = canvas.pixels()
    width, height = layout.size
    broad = _noise(noise, layout.size, width // 3)[..., None] - 0.5
    fine = _noise(noise, layout.size, 6, 2)[..., None] - 0.5
    pixels = pixels * (1 + 0.35 * broad + 0.22 * fine)
    pixels += noise.standard_normal((height, width, 1), np.float32) * rng.uniform(1, 5)
    contrast, haze = rng.uniform(0.75, 1.15), rng.uniform(-8, 28)
    return (pixels - 110) * contrast + 110 + haze


# Mean backscatter in decibels of what radar sees, and of the body of an object below its point scatterers.
BACKSCATTER_DB = {
    "water": -22, "grass": -11, "wood": -8, "concrete": -15, "asphalt": -18, "runway": -20, "line": -15, "tree": -6,
    "crop": -10, "soil": -13, "wheat": -11, "ship": -3, "airplane": -4, "storage tank": -9,
}  # fmt: skip


def _sar(layout: Layout, rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    sea = rng.uniform(-4, 5)

    def level(material: str) -> int:
        return round((BACKSCATTER_DB[material] + (sea if material == "water" else 0) + 40) * 5)

    canvas = _Canvas("L", layout.size, level(layout.ground))
    for material, polygon in layout.shapes:
        canvas.polygon(polygon, level(material))
    for thing in layout.things:
        _silhouette(canvas, thing, level(thing.label))
        if thing.label == "storage tank":  # the wall facing the radar and the roof's rim shine
            canvas.draw.arc(
                [(value * SUPERSAMPLING) for value in (*thing.corners[0], *thing.corners[2])],
                150,
                230,
                fill=230,
                width=4,
            )
    intensity = 10 ** ((canvas.pixels() / 5 - 40) / 10)
    texture = 0.5 + _noise(noise, layout.size, max(layout.size[0] // 4, 8), 4)
    intensity *= texture
    scatterers = np.zeros_like(intensity)
    height, width = intensity.shape
    for thing in layout.things:
        lines = ((-0.45, 0.45, 0.25),) if thing.label == "ship" else ((-0.45, 0.45, 0.05), (-0.15, 0.1, 0.45))
        for _ in range(max(4, int(thing.length * (0.4 if thing.label == "ship" else 0.25)))):
            start, end, across = rng.choice(lines)
            if thing.label == "storage tank":
                angle = rng.uniform(2.6, 4.0)
                x, y = thing.x + math.cos(angle) * thing.length * 0.45, thing.y + math.sin(angle) * thing.length * 0.45
            else:
                x, y = thing.at(rng.uniform(start, end), rng.uniform(-across, across))
            if 0 <= int(x) < width and 0 <= int(y) < height:
                scatterers[int(y), int(x)] += rng.expovariate(1 / 12)
    looks = rng.choice((1, 2, 3, 4))
    speckled = intensity * noise.gamma(looks, 1 / looks, intensity.shape)
    # The point spread function: a Gaussian, and along both axes the faint side lobes that make bright points crosses.
    spread = _blur(scatterers, 0.8) * 3 + 0.04 * (_streak(scatterers, 5, 0) + _streak(scatterers, 5, 1))
    amplitude = np.sqrt(_blur(speckled, 0.5) + spread)
    return amplitude * (rng.uniform(70, 105) / np.sqrt(0.12))


def _blur(values: np.ndarray, radius: float) -> np.ndarray:
    """A Gaussian by separable convolution, [H, W]."""
    reach = max(1, math.ceil(2.5 * radius))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis)
        values = windows @ kernel
    return values


def _streak(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    return sum(np.roll(values, step, axis) / abs(step) for step in range(-reach, reach + 1) if step)


# Grey levels by warmth, before polarity and gain.
WARMTH = {
    "water": 60, "grass": 78, "wood": 70, "concrete": 128, "asphalt": 120, "runway": 126, "line": 112, "tree": 62,
    "crop": 74, "soil": 96, "wheat": 90,
}  # fmt: skip


def _infrared(layout: Layout, rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    canvas = _Canvas("L", layout.size, WARMTH[layout.ground])
    for material, polygon in layout.shapes:
        canvas.polygon(polygon, WARMTH[material] + rng.randint(-8, 8))
    for thing in layout.things:
        running = rng.random() < 0.6
        body = {"car": 165 if running else 92, "person": 225, "ship": 150}[thing.label] + rng.randint(-10, 10)
        _silhouette(canvas, thing, body)
        match thing.label:
            case "car":
                canvas.polygon(thing.outline((-0.2, -0.36), (0.12, -0.36), (0.12, 0.36), (-0.2, 0.36)), body - 35)
                if running:
                    canvas.polygon(thing.outline((0.2, -0.4), (0.46, -0.4), (0.46, 0.4), (0.2, 0.4)), 235)
            case "ship":
                canvas.polygon(thing.outline((-0.4, -0.28), (-0.2, -0.28), (-0.2, 0.28), (-0.4, 0.28)), 235)
    pixels = canvas.pixels()
    pixels *= 1 + 0.25 * (_noise(noise, layout.size, layout.size[0] // 3, 4) - 0.5)
    pixels = _blur(pixels, rng.uniform(0.6, 1.0))
    height, width = pixels.shape
    pixels += noise.standard_normal((height, width), np.float32) * rng.uniform(1, 4)
    pixels += noise.standard_normal((1, width), np.float32) * rng.uniform(0, 1.2)  # columns of the detector differ
    pixels = (pixels - 110) * rng.uniform(0.7, 1.3) + rng.uniform(80, 125)
    return 255 - pixels if rng.random() < 0.15 else pixels  # black-hot


@dataclass(frozen=True, slots=True)
class Rendering:
    """The pixels of a scene when called: uint8, [H, W, 3] for optical, [H, W] for SAR and infrared."""

    seed: int
    sensor: Sensor
    size: Size | None = None

    def __call__(self) -> np.ndarray:
        layout = _layout(self.seed, self.sensor, self.size)
        rng = random.Random(f"{self.seed}/{self.sensor}/picture")
        noise = np.random.Generator(np.random.SFC64(rng.getrandbits(64)))
        paint = {Sensor.OPTICAL: _optical, Sensor.SAR: _sar, Sensor.INFRARED: _infrared}[self.sensor]
        return np.clip(paint(layout, rng, noise) + 0.5, 0, 255).astype(np.uint8)


# --- facts -------------------------------------------------------------------------------------------------------

COUNTS = ("no", "a", "two", "three", "four", "five", "six")


def _phrase(label: str, count: int) -> str:
    """``two ships``, ``an airplane``, ``many cars``."""
    if count == 1:
        return ("an " if label[0] in "aeiou" else "a ") + label
    return f"{COUNTS[count] if count < len(COUNTS) else 'many'} {PLURALS.get(label, label + 's')}"


def _captions(layout: Layout, sensor: Sensor, rng: random.Random) -> tuple[str, ...]:
    _, where = KINDS[sensor][layout.kind]
    counts = Counter(thing.label for thing in layout.things)
    objects = " and ".join(_phrase(label, count) for label, count in sorted(counts.items()))
    view = {Sensor.OPTICAL: "an aerial image", Sensor.SAR: "a radar image", Sensor.INFRARED: "a thermal image"}[sensor]
    if not objects:
        return (
            f"{view.capitalize()} of {where}.",
            f"There is nothing but {where.removeprefix('a ').removeprefix('an ')} in the image.",
        )
    verb = "is" if sum(counts.values()) == 1 else "are"
    preposition = {"open sea": "on", "road": "on", "square": "on", "parking lot": "in", "farmland": "in"}.get(
        layout.kind, "in"
    )
    objects_first = f"{objects[0].upper()}{objects[1:]} {verb} {preposition} {where}."
    return objects_first, f"{view.capitalize()} of {where} with {objects}."


def scene(seed: int, sensor: Sensor, size: Size | None = None) -> Sample:
    """One scene: a Sample whose ``image`` renders the pixels when it is called.

    The same seed, sensor and size give the same scene on every machine. ``size`` is (width, height) in pixels, at
    least 64 each; None lets the seed choose. Raises ValueError for a smaller size.
    """
    sensor = Sensor(sensor)
    if size is not None and min(size) < 64:
        raise ValueError(f"A scene is at least 64 pixels wide and high, not {size}.")
    layout = _layout(seed, sensor, size)
    regions = tuple(
        Region(_box(thing, layout.size), thing.label)
        for thing in sorted(layout.things, key=lambda thing: (thing.label, thing.x, thing.y))
    )
    return Sample(
        image=Rendering(seed, sensor, size),
        name=f"{sensor}/{seed}",
        size=layout.size,
        sensor=sensor,
        label=layout.kind,
        choices=tuple(KINDS[sensor]),
        captions=_captions(layout, sensor, random.Random(f"{seed}/{sensor}/captions")),
        regions=regions,
        classes=CLASSES[sensor],
        complete=True,
    )


def _box(thing: Thing, size: Size) -> Box | OrientedBox:
    return OrientedBox.from_pixels(tuple(thing.corners), size)


SPLITS = {"val": range(0, 300), "test": range(300, 600), "train": range(600, 30_600)}


def read(root: Path | None, split: str, defects: Counter) -> Iterator[Sample]:
    """Every seed of the split in all three sensors, one after the other."""
    for seed in SPLITS[split]:
        yield scene(seed, list(KINDS)[seed % len(KINDS)])


DATASET = Dataset(
    title="Synthetic scenes",
    sensors=tuple(KINDS),
    tasks=(
        "scene_classification",
        "image_captioning",
        "region_captioning",
        "visual_question_answering",
        "visual_grounding",
        "object_detection",
    ),
    licence="Apache-2.0",
    homepage="",
    citation="Made by this package.",
    splits=("train", "val", "test"),
    classes=tuple(sorted({label for labels in CLASSES.values() for label in labels})),
    counts={split: len(seeds) for split, seeds in SPLITS.items()},
    reader=read,
)


# --- GeoTIFF -----------------------------------------------------------------------------------------------------


def write_geotiff(path: Path, pixels: np.ndarray, west: float, north: float, resolution: float, epsg: int) -> None:
    """Pixels as a georeferenced, north-up TIFF: uint8 [H, W, 3], or uint8, uint16 or float32 [H, W].

    ``west`` and ``north`` are the outer corner of the top left pixel and ``resolution`` the side of a pixel, in the
    units of a projected system given by its EPSG code (GeoTIFF 1.1, OGC 19-008: tags 33550, 33922, 34735).
    """
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[33550] = (resolution, resolution, 0.0)
    tags[33922] = (0.0, 0.0, 0.0, west, north, 0.0)
    # Version 1.1.0, three keys: model type projected, raster pixel is area, projected system.
    tags[34735] = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg)
    tags.tagtype[33550] = tags.tagtype[33922] = 12  # DOUBLE
    tags.tagtype[34735] = 3  # SHORT
    Image.fromarray(pixels).save(path, format="TIFF", tiffinfo=tags, compression="tiff_adobe_deflate")

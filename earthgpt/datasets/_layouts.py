"""Where everything stands in a procedural scene, before it is drawn."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from earthgpt.types import Point, Sensor, Size

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
SIDES = (192, 256, 320)
VEHICLE_COLOURS = ((225, 225, 225), (245, 245, 245), (40, 42, 46), (120, 122, 128), (165, 30, 30), (35, 70, 150))
ROOFS = ((150, 75, 60), (125, 90, 75), (110, 110, 115), (170, 160, 150), (95, 70, 65))
HULLS = ((150, 50, 45), (60, 65, 75), (200, 200, 205), (45, 70, 110), (90, 90, 90))


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
            if not _separated(thing.corners, other.corners, gap):
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


def _band(x: float, y: float, heading_deg: float, width: float, reach: float) -> list[Point]:
    """A strip through a point: a road, a runway, a river."""
    return Thing("", x, y, 2 * reach, width, heading_deg).corners


def _scatter(layout: Layout, count: int, make: Callable[[], Thing], gap: float = 3.0) -> None:
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

    _scatter(layout, rng.randint(1, 7), plane, 3)


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


def _stray_vehicle(layout: Layout, rng: random.Random, side: float, length: float, width: float) -> None:
    x, y = rng.uniform(0, side), rng.uniform(0, side)
    layout.place(Thing("vehicle", x, y, length, width, rng.uniform(0, 360), rng.choice(VEHICLE_COLOURS)))


def _sports(layout: Layout, rng: random.Random, side: float) -> None:
    heading = rng.choice((0, 90)) + rng.uniform(-15, 15)
    length = side * rng.uniform(0.2, 0.32)
    colour = rng.choice(((60, 120, 90), (55, 95, 150), (165, 85, 65)))

    def court() -> Thing:
        return Thing("tennis court", rng.uniform(0, side), rng.uniform(0, side), length, length * 0.5, heading, colour)

    _scatter(layout, rng.randint(1, 6), court, 4)
    for _ in range(rng.randint(0, 3)):
        size = side * rng.uniform(0.05, 0.07)
        _stray_vehicle(layout, rng, side, size, size * 0.46)
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
        _stray_vehicle(layout, rng, side, size, size * 0.5)


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

    _scatter(layout, rng.randint(1, most), person, 2)


def layout_of(seed: int, sensor: Sensor, size: Size | None) -> Layout:
    """The layout of a scene, which is (width, height) = ``size`` pixels large; None lets the seed choose."""
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

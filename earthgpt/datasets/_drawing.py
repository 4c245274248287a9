"""Layouts of procedural scenes as the pictures of their sensors.

Optical pictures have textures, shadows and colours; SAR has gamma-distributed speckle over dark water and bright point
scatterers (intensity of L looks is Gamma(L, 1/L): Goodman, 1976); infrared has hot engines and people over ground that
keeps the day's warmth, blurred by the optics.
"""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw

from earthgpt.datasets._layouts import Layout, Thing
from earthgpt.types import Point, Sensor, Size

SUPERSAMPLING = 2  # drawn at twice the size and reduced, so that edges are smooth


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


def picture(layout: Layout, seed: int, sensor: Sensor) -> np.ndarray:
    """The pixels of a layout: uint8, [H, W, 3] for optical, [H, W] for SAR and infrared."""
    rng = random.Random(f"{seed}/{sensor}/picture")
    noise = np.random.Generator(np.random.SFC64(rng.getrandbits(64)))
    paint = {Sensor.OPTICAL: _optical, Sensor.SAR: _sar, Sensor.INFRARED: _infrared}[sensor]
    return np.clip(paint(layout, rng, noise) + 0.5, 0, 255).astype(np.uint8)

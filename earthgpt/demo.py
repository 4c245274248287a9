"""The tour: example scenes of every sensor, every task, a picture and a map layer of each."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape

from earthgpt.assistant import EarthGPT
from earthgpt.datasets.synthetic import CLASSES, KINDS, scene
from earthgpt.geo.geotiff import write_geotiff
from earthgpt.geo.pictures import write_picture
from earthgpt.geo.raster import open_raster
from earthgpt.geo.vectors import write
from earthgpt.tasks.wording import plural
from earthgpt.types import Region, Sample, Sensor

# Scenes of the test split, which no recipe trains on, and where the tour puts them (UTM, metres).
SCENES = {Sensor.OPTICAL: 300, Sensor.SAR: 301, Sensor.INFRARED: 302}
PLACES = {
    Sensor.OPTICAL: (598_000.0, 5_920_000.0, 0.8, 32631),
    Sensor.SAR: (372_000.0, 142_000.0, 3.0, 32648),
    Sensor.INFRARED: (505_000.0, 4_420_000.0, 0.25, 32650),
}
SIZE = (256, 256)


def write_scene(path: Path, sensor: Sensor) -> Sample:
    """The scene of a sensor as a GeoTIFF at its place, and what is true of it."""
    sample = scene(SCENES[sensor], sensor, SIZE)
    pixels = sample.image()
    if sensor is Sensor.SAR:
        pixels = pixels.astype(np.uint16) * 40  # amplitude, as radar products come
    write_geotiff(path, pixels, *PLACES[sensor])
    return sample


def run(assistant: EarthGPT, folder: Path, console: Console) -> None:
    """Writes scenes as GeoTIFF, asks about each, and writes a picture and a GeoJSON of what was found."""
    folder.mkdir(parents=True, exist_ok=True)
    console.print("Synthetic example scenes; the truth is in parentheses.", style="dim")
    for sensor in SCENES:
        path = folder / f"{sensor}.tif"
        sample = write_scene(path, sensor)
        raster = open_raster(path, sensor)

        label = max(sorted(CLASSES[sensor]), key=lambda name: sum(r.label == name for r in sample.regions))
        count = sum(region.label == label for region in sample.regions)
        phrase, target = _phrase(label, [region for region in sample.regions if region.label == label])
        question = f"How many {plural(label)} are there in the image?"

        console.rule(f"[bold]{sensor.upper() if sensor is Sensor.SAR else sensor.capitalize()}[/]  {path}")
        classes = assistant.classify(raster, list(KINDS[sensor]))
        likely = next(iter(classes.probabilities.values()))
        _line(console, "class", f"{classes.label} ({likely:.0%})", sample.label)
        _line(console, "caption", assistant.caption(raster), sample.captions[0])
        _line(console, question, assistant.ask(raster, question), str(count))
        found = assistant.ground(raster, phrase)
        _line(console, phrase, _overlap(found, target) if found else "nothing found")
        regions = assistant.detect(raster)
        hits = sum(any(_same(region, truth) for region in regions) for truth in sample.regions)
        _line(
            console, "detect all", f"{len(regions)} objects", f"{len(sample.regions)}, of which {hits} found at IoU 0.5"
        )
        talk = assistant.chat(raster)
        for asked in ("What is this?", f"Is there a {label} in the image?", question):
            _line(console, f"chat: {asked}", talk.ask(asked))

        shown = [*regions, *([Region(found.box, phrase, found.score)] if found else [])]
        write_picture(folder / f"{sensor}.png", shown, raster)
        write(folder / f"{sensor}.geojson", shown, raster, overwrite=True)
    side_by_side([folder / f"{sensor}.png" for sensor in SCENES]).save(folder / "overview.jpg", quality=90)
    console.rule()
    console.print(f"Pictures and map layers (GeoJSON, for QGIS and others) are in {folder}/", highlight=False)
    program = "earthgpt" if shutil.which("earthgpt") else sys.argv[0]  # the environment need not be active
    console.print(f'Your own image:  {program} ask IMAGE "Is there a ship in the image?"', highlight=False)


def side_by_side(paths: list[Path]) -> Image.Image:
    """Pictures of one height in a row."""
    pictures = [Image.open(path) for path in paths]
    row = Image.new("RGB", (sum(one.width for one in pictures) + 8 * (len(pictures) - 1), pictures[0].height), "white")
    left = 0
    for one in pictures:
        row.paste(one, (left, 0))
        left += one.width + 8
    return row


def _phrase(label: str, regions: list[Region]) -> tuple[str, Region]:
    """A phrase that fits one object, and that object."""
    if len(regions) == 1:
        return f"the {label}", regions[0]
    return f"the leftmost {label}", min(regions, key=lambda region: region.box.center[0])


def _same(region: Region, truth: Region) -> bool:
    return region.label == truth.label and region.box.bounds.iou(truth.box.bounds) >= 0.5


def _overlap(found: Region, truth: Region) -> str:
    box = found.box.bounds
    edges = ", ".join(f"{value:.2f}" for value in (box.left, box.top, box.right, box.bottom))
    return f"[{edges}] (score {found.score:.2f}, IoU with the truth {box.iou(truth.box.bounds):.2f})"


def _line(console: Console, name: str, answer: str, truth: str | None = None) -> None:
    told = f"  [dim]({escape(truth)})[/]" if truth else ""
    console.print(f"  [cyan]{escape(name)}[/]  {escape(answer)}{told}", highlight=False)

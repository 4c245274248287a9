"""The command line: read words, call one function, print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from earthgpt.types import Box, EarthGPTError, Region

app = typer.Typer(
    help="Ask optical, SAR and infrared images: class, caption, answers, grounded phrases, detections, dialogue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
datasets_app = typer.Typer(help="The data sets that can be read.", no_args_is_help=True)
tasks_app = typer.Typer(help="The tasks that can be asked, trained and scored.", no_args_is_help=True)
models_app = typer.Typer(help="The models that come with the package.", no_args_is_help=True)
app.add_typer(datasets_app, name="datasets")
app.add_typer(tasks_app, name="tasks")
app.add_typer(models_app, name="models")
out = Console()
err = Console(stderr=True)

Image = Annotated[Path, typer.Argument(help="A PNG, JPEG or TIFF file.", metavar="IMAGE")]
ModelName = Annotated[str, typer.Option("--model", "-m", help="A model's name, folder or hub id.")]
SensorName = Annotated[str | None, typer.Option("--sensor", "-s", help="optical, sar or infrared.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Also write here; the ending is the format: .gpkg, .geojson, .html, .png, ..."),
]
Preview = Annotated[
    Path | None, typer.Option("--preview", help="Draw it here with a legend, .png or .jpg; or as a map, .html.")
]
Images = Annotated[
    list[str], typer.Argument(help="Images: files, folders, patterns or STAC items.", metavar="IMAGE...")
]
Tile = Annotated[int | None, typer.Option(min=0, help="Side of a tile in pixels of the image; 0 is the whole image.")]
Overlap = Annotated[int | None, typer.Option(min=0, help="Pixels that neighbouring tiles share; a quarter without it.")]
Metres = Annotated[float | None, typer.Option("--gsd", min=1e-4, help="Metres of a pixel that the model sees.")]
Part = Annotated[str | None, typer.Option("--window", help="left,top,width,height in pixels: only this part.")]
BoundingBox = Annotated[str | None, typer.Option("--bbox", help="west,south,east,north in degrees: only this part.")]
Places = Annotated[Path | None, typer.Option("--aoi", help="GeoJSON with polygons: only what lies in them.")]
Bands = Annotated[
    str | None, typer.Option(help='One or three by number, name, colour or wavelength: "4,3,2", "red", "665nm".')
]
Stretch = Annotated[str | None, typer.Option(help="Black and white: 0:3000, 2%:98%, minmax, 10C:45C, none.")]
Units = Annotated[str | None, typer.Option(help="Of values: reflectance; amplitude, decibels; kelvin, celsius, ...")]
Remote = Annotated[bool, typer.Option("--remote", help="Allow URLs, and files that point elsewhere.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there, and begin anew.")]
Engine = Annotated[str, typer.Option(help="local, or ray: Ray Data, on this machine or a cluster.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes of the engine ray.")]
Batch = Annotated[int, typer.Option("--batch-size", min=1, help="Tiles that the model looks at together.")]
Oriented = Annotated[bool, typer.Option("--oriented", help="Ask for oriented boxes.")]
DEFAULT = "earthgpt-tiny"


def _ready(model: str, image: Path, sensor: str | None) -> tuple[Any, Any]:
    """The image first, so that a wrong file name is told at once; then the model."""
    from earthgpt.geo.raster import open_raster

    raster = open_raster(image, sensor)
    return _load(model), raster


def _load(model: str) -> Any:
    _be_quiet()
    from earthgpt.assistant import load

    with err.status("Loading the model ...") if err.is_terminal else _Nothing():
        return load(model)


def _be_quiet() -> None:
    """Libraries keep their notes to themselves; errors still come through."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class _Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return None


def _print(value: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(value) if as_json else text)


def _region(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """A region as plain values: pixel corners of the image."""
    corners = [[round(x * size[0], 1), round(y * size[1], 1)] for x, y in region.box.corners]
    value: dict[str, Any] = {"label": region.label, "corners": corners}
    return value if region.score is None else {**value, "score": round(region.score, 4)}


def _line(region: Region, size: tuple[int, int]) -> str:
    box = region.box
    values = box.to_pixels(size) if isinstance(box, Box) else [v for point in box.to_pixels(size) for v in point]
    numbers = ", ".join(f"{value:.0f}" for value in values)
    return f"{region.label}  [{numbers}] px" + ("" if region.score is None else f"  score {region.score:.2f}")


@app.command()
def ask(
    images: Images,
    question: Annotated[str, typer.Argument(help="A question in words.")],
    output: Output = None,
    preview: Preview = None,
    tile: Tile = None,
    window: Part = None,
    bbox: BoundingBox = None,
    aoi: Places = None,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    workers: Workers = 2,
    batch_size: Batch = 16,
    model: ModelName = DEFAULT,
    sensor: SensorName = None,
    bands: Bands = None,
    stretch: Stretch = None,
    units: Units = None,
    remote: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Answer a question; with --tile for each tile of a large scene, as a map.

    Example: earthgpt ask harbor.png "How many ships are there in the image?"
    Example: earthgpt ask city.tif "How many cars are there?" --tile 512 -o cars.gpkg
    """
    paths, reading = _expand(images), _reading(bands, stretch, units, remote)
    if len(paths) == 1 and not (tile or output or preview or window or bbox or aoi or reading):
        assistant, raster = _ready(model, paths[0], sensor)
        answer = assistant.ask(raster, question)
        _print({"image": str(paths[0]), "question": question, "answer": answer}, as_json, answer)
        return
    job = {"task": "ask", "question": question, "tile": tile, "window": window, "preview": preview}
    _survey(paths, {**job, "reading": reading}, output, overwrite, engine, workers, batch_size, model, sensor, as_json)


@app.command()
def caption(
    images: Images,
    output: Output = None,
    preview: Preview = None,
    tile: Tile = None,
    window: Part = None,
    bbox: BoundingBox = None,
    aoi: Places = None,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    workers: Workers = 2,
    batch_size: Batch = 16,
    model: ModelName = DEFAULT,
    sensor: SensorName = None,
    bands: Bands = None,
    stretch: Stretch = None,
    units: Units = None,
    remote: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Describe images in one sentence each; with --tile each tile of a large scene.

    Example: earthgpt caption harbor.png
    Example: earthgpt caption photos/ -o captions.csv
    """
    paths, reading = _expand(images), _reading(bands, stretch, units, remote)
    if len(paths) == 1 and not (tile or output or preview or window or bbox or aoi or reading):
        assistant, raster = _ready(model, paths[0], sensor)
        text = assistant.caption(raster)
        _print({"image": str(paths[0]), "caption": text}, as_json, text)
        return
    job = {"task": "caption", "tile": tile, "window": window, "preview": preview}
    _survey(paths, {**job, "reading": reading}, output, overwrite, engine, workers, batch_size, model, sensor, as_json)


@app.command()
def classify(
    images: Images,
    classes: Annotated[
        list[str] | None, typer.Option("--classes", "-c", help="Names to choose from: repeated, or with commas.")
    ] = None,
    output: Output = None,
    preview: Preview = None,
    tile: Tile = None,
    window: Part = None,
    bbox: BoundingBox = None,
    aoi: Places = None,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    workers: Workers = 2,
    batch_size: Batch = 16,
    model: ModelName = DEFAULT,
    sensor: SensorName = None,
    bands: Bands = None,
    stretch: Stretch = None,
    units: Units = None,
    remote: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Name the class of the scene, with a probability for each class of a list; with --tile a map of classes.

    Example: earthgpt classify scene.tif --classes "harbor,airport,forest"
    Example: earthgpt classify region.tif -c forest -c farmland --tile 256 -o landuse.gpkg
    """
    names = _names(classes)
    paths, reading = _expand(images), _reading(bands, stretch, units, remote)
    if len(paths) == 1 and not (tile or output or preview or window or bbox or aoi or reading):
        assistant, raster = _ready(model, paths[0], sensor)
        found = assistant.classify(raster, names)
        lines = [f"{probability:6.1%}  {name}" for name, probability in found.probabilities.items()]
        value = {"image": str(paths[0]), "class": found.label, "probabilities": found.probabilities}
        _print(value, as_json, "\n".join(lines))
        return
    job = {"task": "classify", "classes": tuple(names or ()), "tile": tile, "window": window, "preview": preview}
    _survey(paths, {**job, "reading": reading}, output, overwrite, engine, workers, batch_size, model, sensor, as_json)


@app.command()
def describe(
    image: Image,
    box: Annotated[str | None, typer.Argument(help="left,top,right,bottom in pixels of the image.")] = None,
    places: Annotated[Path | None, typer.Option("--places", help="GeoJSON: describe each of its features.")] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    model: ModelName = DEFAULT,
    sensor: SensorName = None,
    as_json: AsJson = False,
) -> None:
    """Say what a region of the image shows, or each place of a GeoJSON file.

    Example: earthgpt describe harbor.png 40,52,131,90
    Example: earthgpt describe city.tif --places parcels.geojson -o described.gpkg
    """
    from earthgpt.geo.raster import open_raster

    if (box is None) == (places is None):
        raise EarthGPTError("Give a box in pixels, or --places with a GeoJSON file.")
    if places is not None:
        _describe_places(image, places, output, overwrite, model, sensor, as_json)
        return
    raster = open_raster(image, sensor)
    region = _box(box, raster.size)
    text = _load(model).describe(raster, region)
    _print({"image": str(image), "box": box, "description": text}, as_json, text)


def _describe_places(
    image: Path, places: Path, output: Path | None, overwrite: bool, model: str, sensor: str | None, as_json: bool
) -> None:
    from earthgpt.geo.areas import read_areas
    from earthgpt.geo.scene import open_scene
    from earthgpt.scenes import describe

    if output:
        _check_output(output, overwrite)
    areas, scene = read_areas(places), open_scene(image, sensor)
    found = describe(_load(model), scene, areas)
    value = {"image": str(image), "regions": [_region(feature.region, scene.size) for feature in found]}
    _print(value, as_json, "\n".join(_line(feature.region, scene.size) for feature in found))
    if output:
        _write_features(output, found, scene, {"model": model}, overwrite)


def _box(text: str, size: tuple[int, int]) -> Box:
    try:
        left, top, right, bottom = (float(value) for value in text.split(","))
        inside = 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    except ValueError:
        inside = False
    if not inside:
        raise EarthGPTError(
            f"A box is left,top,right,bottom in pixels inside the image ({size[0]} x {size[1]}); not {text!r}."
        )
    return Box.from_pixels(left, top, right, bottom, size)


@app.command()
def ground(
    image: Image,
    phrase: Annotated[str, typer.Argument(help="What to find: one thing.")],
    oriented: Oriented = False,
    output: Output = None,
    overwrite: Overwrite = False,
    model: ModelName = DEFAULT,
    sensor: SensorName = None,
    as_json: AsJson = False,
) -> None:
    """Find the one thing that a phrase describes.

    Example: earthgpt ground harbor.png "the leftmost ship" -o ship.png
    """
    if output:
        _check_output(output, overwrite)
    assistant, raster = _ready(model, image, sensor)
    region = assistant.ground(raster, phrase, oriented)
    value = {"image": str(image), "phrase": phrase, "region": _region(region, raster.size) if region else None}
    _print(value, as_json, _line(region, raster.size) if region else "nothing found")
    if output:
        from earthgpt.geo.vectors import write

        write(output, [region] if region else [], raster, overwrite=overwrite)
        err.print(f"Wrote {output}", highlight=False)


@app.command()
def detect(
    images: Images,
    classes: Annotated[
        list[str] | None, typer.Option("--class", "-c", help="A class, in the singular; repeated for several.")
    ] = None,
    oriented: Oriented = False,
    output: Output = None,
    preview: Preview = None,
    tile: Tile = None,
    overlap: Overlap = None,
    scales: Annotated[str, typer.Option(help="Sides of tiles as multiples of --tile, with commas.")] = "1",
    gsd: Metres = None,
    window: Part = None,
    bbox: BoundingBox = None,
    aoi: Places = None,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    workers: Workers = 2,
    batch_size: Batch = 16,
    model: ModelName = DEFAULT,
    sensor: SensorName = None,
    bands: Bands = None,
    stretch: Stretch = None,
    units: Units = None,
    remote: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Find the objects of some classes, or all; images larger than a tile are gone through in overlapping tiles.

    Example: earthgpt detect harbor.tif -c ship --oriented -o ships.gpkg
    Example: earthgpt detect scenes/ -c ship -c "storage tank" -o "found/{name}.geojson"
    """
    job = {
        "task": "detect", "classes": tuple(_names(classes) or ()), "oriented": oriented, "tile": tile,
        "overlap": overlap, "gsd": gsd, "window": window, "bbox": bbox, "aoi": aoi, "scales": _scales(scales),
        "preview": preview,
    }  # fmt: skip
    job["reading"] = _reading(bands, stretch, units, remote)
    _survey(_expand(images), job, output, overwrite, engine, workers, batch_size, model, sensor, as_json)


def _reading(bands: str | None, stretch: str | None, units: str | None, remote: bool) -> dict[str, Any]:
    """Options of ``open_scene`` that were given."""
    given = {"bands": bands, "stretch": stretch, "units": units, "remote": remote or None}
    return {name: value for name, value in given.items() if value is not None}


def _expand(images: Sequence[str]) -> list[Path | str]:
    from earthgpt.geo.inputs import expand

    return expand(images)


def _names(given: Sequence[str] | None) -> list[str] | None:
    """Names that were repeated or written with commas; None where none was given."""
    if given is None:
        return None
    names = [name.strip() for one in given for name in one.split(",") if name.strip()]
    if not names:
        raise EarthGPTError("The list of classes is empty; give at least one, or none at all.")
    return list(dict.fromkeys(names))


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(value) for value in text.split(","))
    except ValueError:
        scales = ()
    if not scales or min(scales) <= 0:
        raise EarthGPTError(f"--scales are positive numbers with commas between them, not {text!r}.")
    return scales


def _survey(
    paths: Sequence[Path], wanted: dict[str, Any], output: Path | None, overwrite: bool, engine: str, workers: int,
    batch_size: int, model: str, sensor: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Goes through images one after the other. One that fails is named, and the others are done.

    Exit code 1 when all failed, 3 when some did.
    """
    if engine not in ("local", "ray"):
        raise EarthGPTError(f"The engine is local or ray, not {engine!r}.")
    names, reading = [Path(path).stem for path in paths], wanted["reading"]
    maps = wanted["task"] == "detect" or wanted["tile"] or wanted["preview"]
    if output and output.suffix.lower() == ".csv" and not maps:
        _table(paths, wanted, output, overwrite, model, sensor)
        return
    outputs, previews = _for_each(output, names), _for_each(wanted["preview"], names)
    for one in filter(None, (*outputs, *previews)):
        _check_output(one, overwrite)
    assistant, failed = None, 0
    for path, place, preview in zip(paths, outputs, previews, strict=True):
        try:
            from earthgpt.geo.scene import open_scene

            scene = open_scene(path, sensor, **reading)
            assistant = assistant or _load(model)
            one = {**wanted, "preview": preview}
            _survey_one(scene, one, place, overwrite, engine, workers, batch_size, model, assistant, as_json)
        except EarthGPTError as error:
            if len(paths) == 1:
                raise
            failed += 1
            err.print(f"{path}: {error}", highlight=False, markup=False, soft_wrap=True)
    if failed:
        err.print(f"{failed} of {len(paths)} images failed.", highlight=False)
        raise typer.Exit(1 if failed == len(paths) else 3)


def _for_each(path: Path | None, names: Sequence[str]) -> list[Path | None]:
    """Where what is said of each image is written: the path, with its name in place of {name}."""
    many = path is not None and len(names) > 1
    if many and "{name}" not in path.name:
        raise EarthGPTError(f"There are {len(names)} images: put {{name}} into it, as in {{name}}{path.suffix}.")
    if many and len(set(names)) < len(names):
        raise EarthGPTError("Several images have the same name, and so would their outputs.")
    return [path and path.with_name(path.name.replace("{name}", name)) for name in names]


def _check_output(path: Path, overwrite: bool) -> None:
    """What would be found out too late, after the work."""
    from earthgpt.geo.vectors import FORMATS

    if not path.name.lower().endswith(tuple(FORMATS)):
        raise EarthGPTError(f"Results are written as {', '.join(FORMATS)}; not {path.suffix!r}.")
    if path.exists() and not overwrite:
        raise EarthGPTError(f"{path} is there already; choose another name, or say --overwrite.")
    if not path.parent.is_dir():
        raise EarthGPTError(f"Cannot write {path}: there is no folder {path.parent}.")


def _table(
    paths: Sequence[Path], wanted: dict[str, Any], output: Path, overwrite: bool, model: str, sensor: str | None
) -> None:
    """A line of CSV for each image: what was said, its score, and what went wrong. Lines that are there stay."""
    import csv

    from rich.progress import track

    from earthgpt.geo.scene import open_scene
    from earthgpt.scenes import Job, scan

    header, done = ["image", wanted["task"], "score", "error"], set()
    if output.exists() and not overwrite:
        with output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if not rows or rows[0] != header:
            raise EarthGPTError(f"{output} is there already and has other columns; say --overwrite, or another name.")
        done = {row[0] for row in rows[1:]}
    assistant, failed = _load(model), 0
    with output.open("a" if done else "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        if not done:
            lines.writerow(header)
        left = [path for path in paths if str(path) not in done]
        for path in track(left, "images", console=err, transient=True, disable=not err.is_terminal):
            try:
                scene = open_scene(path, sensor, **wanted["reading"])
                job = Job(
                    wanted["task"], max(16, *scene.size), 0, wanted.get("classes", ()), wanted.get("question", "")
                )
                found = scan(assistant, scene, job).features
                row = (
                    [found[0].region.label, f"{found[0].region.score:.4f}", ""] if found else ["", "", "no valid pixel"]
                )
            except EarthGPTError as error:
                row = ["", "", str(error)]
            failed += bool(row[2])
            lines.writerow([path, *row])
            file.flush()
    err.print(f"Wrote {output}: {len(paths):,} images, {failed:,} of them failed.", highlight=False)
    if failed:
        raise typer.Exit(1 if failed == len(paths) else 3)


def _survey_one(
    scene: Any, wanted: dict[str, Any], output: Path | None, overwrite: bool, engine: str, workers: int,
    batch_size: int, model: str, assistant: Any, as_json: bool,
) -> None:  # fmt: skip
    import time
    from dataclasses import asdict

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from earthgpt.cards import write_run_card
    from earthgpt.scenes import Job, plan, scan, scan_on_ray, tile_for

    wanted = {key: value for key, value in wanted.items() if key != "reading"}
    tile, gsd, overlap = wanted.pop("tile", None), wanted.pop("gsd", None), wanted.pop("overlap", None)
    detects = wanted["task"] == "detect"
    area, outlines = _part(scene, wanted.pop("window", None), wanted.pop("bbox", None), wanted.pop("aoi", None))
    preview = wanted.pop("preview", None)
    if tile is None:
        tile = tile_for(scene, assistant.processor.image_size, gsd) if detects else 0
    tile = tile or max(area[2:] if area else scene.size)
    overlap = (tile // 4 if overlap is None else overlap) if detects else 0
    job = Job(tile=max(16, tile), overlap=overlap, area=area, outlines=outlines, model=model, **wanted)
    record = output and output.with_name(f"{output.name}.tiles.jsonl")
    if record and overwrite:
        record.unlink(missing_ok=True)
    total = sum(1 for _ in plan(job, scene.size))
    for note in scene.notes if output else ():
        err.print(f"{scene.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    if total > 1:
        size = f"{scene.size[0]:,} x {scene.size[1]:,} pixels"
        err.print(f"{scene.name}: {size} in {total:,} tiles of {tile}", highlight=False, markup=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal or total == 1) as progress:
        bar = progress.add_task("tiles", total=total)

        def told(done: int, total: int) -> None:
            progress.update(bar, completed=done)

        if engine == "ray":
            found = scan_on_ray(model, scene, job, record, batch_size, told, workers)
        else:
            found = scan(assistant, scene, job, record, batch_size, told)
    regions = [feature.region for feature in found.features]
    value = {"image": str(scene.name), "regions": [_region(region, scene.size) for region in regions]}
    if total > 1:
        value |= {
            "counts": dict(found.counts), "tiles": found.tiles, "empty_tiles": found.empty, "total": found.total,
            "area_km2": found.area_km2, "per_km2": found.density,
        }  # fmt: skip
    lines = [_line(region, scene.size) for region in regions[:20]]
    lines += [f"... {len(regions) - 20:,} more"] if len(regions) > 20 else []
    if total > 1:
        lines += [f"{count:,} {label}" for label, count in found.counts.most_common()]
        lines += [f"sum of the answers: {found.total:,.0f}"] if found.total is not None else []
    _print(value, as_json, "\n".join(lines) or "nothing found")
    common = {"model": model, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    for path in filter(None, (output, preview)):
        _write_features(path, found.features, scene, common, overwrite)
    if output:
        record.unlink(missing_ok=True)
        write_run_card(
            output,
            command=[Path(sys.argv[0]).name, *sys.argv[1:]],
            settings={**asdict(job), "engine": engine, "batch_size": batch_size},
            data={"name": str(scene.name), "size": scene.size, "crs": scene.crs, "sensor": scene.sensor}
            | {"tiles": found.tiles, "empty_tiles": found.empty},
            counts=found.counts,
            notes=scene.notes,
            seconds=round(found.seconds, 1),
            **common,
        )


def _part(scene: Any, window: str | None, bbox: str | None, aoi: Path | None) -> tuple[Any, tuple]:
    """The window of a scene that is asked about, None for all, and the outlines in it."""
    from earthgpt.geo.areas import bounding_box, outlines_of, read_areas, window_of

    if sum(one is not None for one in (window, bbox, aoi)) > 1:
        raise EarthGPTError("Give one of --window, --bbox and --aoi.")
    if bbox is not None:
        return bounding_box(scene, bbox), ()
    if aoi is not None:
        import numpy as np

        outlines = outlines_of(scene, read_areas(aoi))
        return window_of(scene, np.array([point for ring in outlines for point in ring])), outlines
    return _window(window, scene.size), ()


def _window(text: str | None, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        left, top, width, height = (int(value) for value in text.split(","))
        inside = left >= 0 and top >= 0 and width > 0 and height > 0
        inside = inside and left + width <= size[0] and top + height <= size[1]
    except ValueError:
        inside = False
    if not inside:
        raise EarthGPTError(
            f"A window is left,top,width,height in pixels inside the image ({size[0]} x {size[1]}); not {text!r}."
        )
    return left, top, width, height


def _write_features(path: Path, features: Sequence[Any], scene: Any, common: dict[str, Any], overwrite: bool) -> None:
    from earthgpt.geo.vectors import open_writer

    with open_writer(path, scene, properties=common, overwrite=overwrite) as writer:
        writer.add(features)
    err.print(f"Wrote {path}", highlight=False)


@app.command()
def chat(image: Image, model: ModelName = DEFAULT, sensor: SensorName = None, as_json: AsJson = False) -> None:
    """Talk about an image, a line for each turn; an empty line or the end of the input ends it.

    Example: earthgpt chat harbor.png
    """
    assistant, raster = _ready(model, image, sensor)
    talk = assistant.chat(raster)
    asking = sys.stdin.isatty()
    while True:
        if asking:
            typer.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line.strip():
            return
        answer = talk.ask(line)
        _print({"question": line.strip(), "answer": answer}, as_json, answer)


@app.command()
def info(
    files: Annotated[list[str], typer.Argument(help="A raster, a product's folder, or a file for each band.")],
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Write the 8-bit view that a model sees here (.png or .jpg).")
    ] = None,
    side: Annotated[int, typer.Option(min=1, help="The longer side of the preview in pixels.")] = 1024,
    sensor: SensorName = None,
    bands: Annotated[
        str | None, typer.Option(help='One or three by number, name, colour or wavelength: "4,3,2", "red", "665nm".')
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option(help="Black and white: 0:3000, 2%:98%, minmax, 10C:45C, or none for 8 bits as they are."),
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="Of values: reflectance; amplitude, intensity, decibels; kelvin, celsius, ...")
    ] = None,
    looks: Annotated[int, typer.Option(help="SAR: average over so many pixels a side.")] = 1,
    speckle: Annotated[str | None, typer.Option(help="SAR: the filter lee.")] = None,
    black_hot: Annotated[bool, typer.Option("--black-hot", help="Infrared: heat is dark.")] = False,
    nodata: Annotated[float | None, typer.Option(help="The value of no data, where the file does not say so.")] = None,
    crs: Annotated[str | None, typer.Option(help="Where the file has none, as EPSG:32633.")] = None,
    remote: Annotated[bool, typer.Option("--remote", help="Allow URLs, and files that point elsewhere.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is understood of a raster: place, bands, sensor, stretch; with --preview, what a model sees of it.

    Example: earthgpt info scene.tif --preview scene.png
    Example: earthgpt info B4.tif B3.tif B2.tif --stretch 0:3000
    """
    from earthgpt.geo.pictures import file_format, save_picture
    from earthgpt.geo.scene import open_scene

    if preview is not None:
        file_format(preview)
    options = {"looks": looks, "speckle": speckle, "black_hot": black_hot, "nodata": nodata, "crs": crs}
    scene = open_scene(files[0] if len(files) == 1 else files, sensor, bands, stretch, units, remote=remote, **options)
    if preview is not None:
        from PIL import Image as Picture

        save_picture(Picture.fromarray(scene.preview(side)[0]), preview)
    found = scene.understood()
    _print(found, as_json, "\n".join(_understood(found)))
    if preview is not None:
        err.print(f"Wrote {preview}", highlight=False, soft_wrap=True)


def _understood(found: dict[str, Any]) -> list[str]:
    """Lines of what was understood of a scene."""
    width, height = found["size"]
    column, row = found["blocks"]
    nodata = "none" if found["nodata"] is None else f"{found['nodata']:g}"
    bands = [
        f"{band['number']} {band['name']}".replace(f"{band['number']} {band['number']}", str(band["number"]))
        + (f" ({band['wavelength_nm']:g} nm)" if band["wavelength_nm"] else "")
        for band in found["bands"]
    ]
    stretch = ", ".join(f"{low:.6g} to {high:.6g}" for low, high in found["stretch"])
    scale = " dB" if found["sensor"] == "sar" and stretch else ""
    gsd, centre = found["gsd_m"], found["centre"]
    place = (found["crs"] or "none: coordinates are pixels").splitlines()[0]
    lines = {
        "file": f"{found['name']} ({found['format']})",
        "size": f"{width:,} x {height:,} pixels, {found['dtype']}, blocks of {column:,} x {row:,}",
        "overviews": ", ".join(map(str, found["overviews"])) or "none",
        "bands": ", ".join(bands),
        "shown": ", ".join(found["shown"]),
        "nodata": f"{nodata}; {found['valid']:.0%} is data",
        "CRS": place if len(place) < 60 else place[:57] + "...",
        "pixel": "size not known" if gsd is None else f"{gsd:,.2f} m on the ground",
        "centre": "not known" if centre is None else f"{centre[0]:.5f}, {centre[1]:.5f} (longitude, latitude)",
        "sensor": f"{found['sensor']} ({found['sensor_reason']}); {found['units']}",
        "stretch": f"{stretch}{scale}" if stretch else "none: 8 bits as they are",
    }
    return [*(f"{key:10}{text}" for key, text in lines.items()), *(f"{'note':10}{note}" for note in found["notes"])]


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where pictures and map features go.")] = Path("outputs/demo"),
    model: ModelName = DEFAULT,
) -> None:
    """Ask the default model about example scenes of all three sensors.

    Example: earthgpt demo
    """
    _be_quiet()
    from earthgpt.demo import run

    run(_load(model), folder, out)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file.", metavar="RECIPE")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value ...", metavar="KEY=VALUE")] = None,
) -> None:
    """Train as a recipe says; goes on where it stopped.

    Example: earthgpt train recipes/debug.toml steps=20 output=runs/first
    """
    _be_quiet()
    from earthgpt.config import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    from earthgpt.training import train as run

    run(loaded)


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(help="A TOML file.", metavar="RECIPE")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value ...", metavar="KEY=VALUE")] = None,
    as_json: AsJson = False,
) -> None:
    """Build an instruction set in the form of MMRS-1M; goes on where it stopped.

    Example: earthgpt build recipes/build_mmrs.toml policy=clean output=data/mmrs-clean
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from earthgpt.building import build as run
    from earthgpt.config import BuildRecipe, load_recipe

    loaded = load_recipe(recipe, overrides or (), BuildRecipe)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def told(name: str, done: int, total: int | None) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=done, total=total)

        built = run(loaded, told)
    if as_json:
        typer.echo(json.dumps(built.manifest))
    else:
        _print_manifest(built.manifest, built.folder)
    if built.failed:
        raise EarthGPTError(f"{len(built.failed)} data set(s) failed; the others are in {built.folder}.")


def _print_manifest(manifest: dict[str, Any], folder: Path) -> None:
    table = Table("data set", "images", "records", "turns", "Table I", "left out or mended", "leaks")
    for report in manifest["sets"]:
        paper = report["turns_of_the_paper"]
        defects, leaks = ("; ".join(f"{kind}: {count:,}" for kind, count in report[what].items())
                          for what in ("defects", "leaks"))  # fmt: skip
        numbers = (f"{report[what]:,}" for what in ("images", "records", "turns"))
        table.add_row(report["dataset"], *numbers, f"{paper:,}" if paper else "", defects, leaks)
    table.add_section()
    table.add_row("all", *(f"{manifest['totals'][what]:,}" for what in ("images", "records", "turns")))
    out.print(table)
    reasons: dict[str, list[str]] = {}
    for name, why in manifest["left_out"].items():
        reasons.setdefault("no folder" if why.startswith("no folder") else why, []).append(name)
    for why, names in reasons.items():
        out.print(f"Left out ({why}): {', '.join(names)}", highlight=False, soft_wrap=True)
    for name, why in manifest["failed"].items():
        out.print(f"Failed: {name}: {why}", highlight=False, soft_wrap=True)
    if manifest["evaluation_sets_not_there"]:
        names = ", ".join(manifest["evaluation_sets_not_there"])
        out.print(f"Not there, so not compared with: {names}", highlight=False, soft_wrap=True)
    out.print(f"Wrote {folder / 'mmrs.json'}, mmrs.jsonl and manifest.json", highlight=False)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="Conversations in a .json or .jsonl file.", metavar="FILE")],
    images: Annotated[
        Path | None, typer.Option(help="The folder that the images' paths start from; looks whether they are there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go through an instruction set and list what is wrong in it.

    Example: earthgpt validate MMRS-1M/data/json/total.json --images MMRS-1M
    """
    from dataclasses import asdict

    from earthgpt.conversations import validate as run

    with err.status(f"Reading {file} ...") if err.is_terminal else _Nothing():
        found = run(file, images)
    lines = [f"{found.records:,} records, {found.turns:,} turns, {found.images:,} images"]
    for kind, times in found.defects.items():
        lines.append(f"{times:,} {kind} (records {', '.join(map(str, found.first[kind]))} ...)")
    _print(asdict(found), as_json, "\n".join(lines))
    if found.defects:
        raise EarthGPTError(f"{file} has defects of {len(found.defects)} kind(s).")


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name, folder or hub id, or http://HOST:PORT/v1#NAME.")],
    dataset: Annotated[str, typer.Argument(help="See: earthgpt datasets list. With --suite, the folder of all.")] = "",
    task: Annotated[str, typer.Argument(help="See: earthgpt tasks list")] = "",
    root: Annotated[str, typer.Argument(help="The folder of the data set; none for synthetic.")] = "",
    suite: Annotated[str | None, typer.Option(help="Run a protocol on the sets in a folder: paper.")] = None,
    split: Annotated[str, typer.Option(help='The split; "all" for every one.')] = "val",
    part: Annotated[str | None, typer.Option(help='"train" or "val" of the split "all".')] = None,
    kind: Annotated[str | None, typer.Option(help="Only questions of these kinds: hbb, presence,count, ...")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="That many questions, drawn with a fixed seed.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions asked at a time.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 512,
    baselines: Annotated[
        str, typer.Option(help="Other passes: text-only,blank,shuffled-images. Each takes as long as the first.")
    ] = "",
    frame: Annotated[
        str, typer.Option(help="How a model writes boxes: square (ours), image, 0-100, 0-1000 or pixels.")
    ] = "square",
    instruction: Annotated[
        str | None, typer.Option(help="A sentence behind every question; by default it tells of the frame.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="The server of MODEL: http://HOST:PORT/v1")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to a server in flight.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a server may take for an answer.")] = 120.0,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Ask a server for those of tokens: scores of detections.")
    ] = False,
    fields: Annotated[
        str, typer.Option(help='Fields of the request to a server, as JSON; null leaves out: {"max_tokens": null}')
    ] = "{}",
    words: Annotated[
        list[str] | None, typer.Option("--option", help="NAME=VALUE of the task, such as protocol=voc07, meteor=true.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Resamples of the images for intervals.")] = 1000,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Also write here: .json, .md, .tex, .csv or .html; with --suite, a folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on a task of a data set, beside chance. With -o REPORT.json a run that was stopped goes on.

    A server speaks OpenAI's chat API; its key is taken from OPENAI_API_KEY.

    Example: earthgpt eval earthgpt-tiny synthetic object_detection --limit 100 -o report.json
    """
    _be_quiet()
    if suite is None and not (dataset and task):
        raise EarthGPTError("Name a data set and a task, or a --suite and the folder of its sets.")
    if suite is not None and (not dataset or task or part or kind or words or split != "val"):
        raise EarthGPTError("A --suite needs the folder of its sets, and says itself what is asked of them.")
    if suite is not None and len(output or ()) > 1:
        raise EarthGPTError("A --suite writes into one folder.")
    for path in (output or ()) if suite is None else ():
        _writable(path)
    asked = _asked(f"{endpoint}#{model}" if endpoint else model, concurrency, timeout, probabilities, fields)
    options = {
        "limit": limit, "batch_size": batch_size, "max_new_tokens": max_new_tokens, "name": model, "frame": frame,
        "blind": [one.strip() for one in baselines.split(",") if one.strip()], "instruction": instruction,
        "rounds": rounds,
    }  # fmt: skip
    kept = Path("outputs", suite) if suite else None
    kept = next((path for path in output or () if suite or path.suffix == ".json"), kept)
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def told(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=done, total=total)

        try:
            if suite is not None:
                from earthgpt.suites import hold

                found = hold(suite, asked, Path(dataset), kept, told, **options)
            else:
                from earthgpt.evaluation import evaluate as run

                found = run(
                    asked, dataset, task, root, split, part, kind, output=kept, options=_options(words), **options,
                    progress=lambda done, total: told("asking", done, total),
                )  # fmt: skip
        except KeyboardInterrupt:
            if kept:
                err.print("What was answered is kept: the same command goes on.", highlight=False)
            raise
    if suite is not None:
        tables = found.tables
        err.print(f"Reports and tables (.md, .tex, .csv, .html) are in {kept}", highlight=False, soft_wrap=True)
        value = {"missing": found.missing, "tables": [{"title": one.title, "rows": _rows(one)} for one in tables]}
    else:
        from earthgpt.reports import images_in, save
        from earthgpt.reports import tables as tables_of

        short = model.rstrip("/").rpartition("/")[2]
        for path in output or ():
            if path != kept:
                save(path, {short: found}, images_in(root) if root else None)
            err.print(f"Wrote {path}", highlight=False, markup=False)
        tables = tables_of({short: found})
        value = {key: one for key, one in found.to_dict().items() if key != "answers"}
        unreadable = list(found.data["unreadable"].values())
        for why in unreadable[:5]:
            err.print(why, highlight=False, soft_wrap=True, markup=False)
        if len(unreadable) > 5:
            err.print(f"... and {len(unreadable) - 5:,} more images that cannot be read", highlight=False)
    if as_json:
        typer.echo(json.dumps(value))
    else:
        _print_tables(tables)


def _rows(table: Any) -> list[dict[str, str]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def _asked(model: str, concurrency: int, timeout: float, probabilities: bool, fields: str) -> Any:
    """The model to evaluate: one behind an address, or one that is loaded."""
    from earthgpt.endpoints import endpoint_of

    try:
        given = json.loads(fields)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise EarthGPTError(f'--fields is a JSON object, such as {{"max_tokens": null}}; not {fields!r}.')
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    options = {"concurrency": concurrency, "timeout_s": timeout, "probabilities": probabilities, "fields": given}
    return endpoint_of(model, key=key, **options) or _load(model)


def _print_wide(table: Table) -> None:
    """A table that is not squeezed: a terminal that is too narrow breaks its lines."""
    for column in table.columns:
        column.no_wrap = True
    Console(width=max(out.width, 160)).print(table)


Outputs = Annotated[
    list[Path] | None, typer.Option("--output", "-o", help="Also write here: .json, .md, .tex, .csv or .html.")
]
Rounds = Annotated[int, typer.Option(min=0, help="Resamples of the images for intervals and tests.")]


@app.command()
def score(
    task: Annotated[str, typer.Argument(help="See: earthgpt tasks list")],
    predictions: Annotated[Path, typer.Argument(help="JSON lines, a JSON array, CSV, TSV, or a report.")],
    truth: Annotated[Path | None, typer.Option(help="The true answers, where they are in a file of their own.")] = None,
    kind: Annotated[str | None, typer.Option("--format", help="jsonl, json, csv, tsv or report.")] = None,
    fields: Annotated[
        list[str] | None, typer.Option("--field", help="ROLE=NAME of a field: prediction, truth, id, image, ...")
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="What boxes are written in: image, square, 0-100, 0-1000 or pixels.")
    ] = None,
    truth_frame: Annotated[str | None, typer.Option(help="The same of the true boxes.")] = None,
    clockwise: Annotated[
        bool, typer.Option("--clockwise", help="A fifth number of a box turns it that way, not against it.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count what does not fit together, and score the rest.")
    ] = False,
    options: Annotated[
        list[str] | None, typer.Option("--option", help="NAME=VALUE of the task, such as protocol=voc07, meteor=true.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of the images, for the pictures of .html.")] = None,
    output: Outputs = None,
    rounds: Rounds = 1000,
    as_json: AsJson = False,
) -> None:
    """Score anybody's predictions. Names of fields and the frame of boxes are guessed, and told, unless given.

    Example: earthgpt score visual_grounding answers.jsonl --frame 0-100 -o report.json -o report.html
    """
    from earthgpt.predictions import score as run
    from earthgpt.reports import images_in, save, tables

    for path in output or ():
        _writable(path)
    with err.status("Scoring ...") if err.is_terminal else _Nothing():
        report, read = run(
            task, predictions, truth=truth, kind=kind, fields=_pairs(fields, "--field prediction=answer"), frame=frame,
            truth_frame=truth_frame, clockwise=clockwise, allow_missing=allow_missing,
            options=_options(options), rounds=rounds,
        )  # fmt: skip
    told = [f"{role}: {name}" for role, name in read.fields.items()]
    told += [f"boxes of the {role}: {name}" for role, name in read.frames.items()]
    err.print(f"Read {read.lines:,} rows as {', '.join(told)}", highlight=False, soft_wrap=True, markup=False)
    for path in output or ():
        save(path, {predictions.stem: report}, images and images_in(images))
        err.print(f"Wrote {path}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps({key: value for key, value in report.to_dict().items() if key != "answers"}))
    else:
        _print_tables(tables({predictions.stem: report}))


@app.command()
def compare(
    one: Annotated[Path, typer.Argument(help="A report.", metavar="REPORT")],
    other: Annotated[Path, typer.Argument(help="A report on the same questions.", metavar="REPORT")],
    common: Annotated[
        bool, typer.Option("--common", help="Compare the questions that both have, and leave out the others.")
    ] = False,
    output: Outputs = None,
    rounds: Rounds = 1000,
    as_json: AsJson = False,
) -> None:
    """Compare two reports on the same questions: differences, and whether they may be chance.

    Example: earthgpt compare first.json second.json -o table.md
    """
    from earthgpt.reports import Report, compared_tables, save_compared
    from earthgpt.reports import compare as run

    for path in output or ():
        _writable(path)
    with err.status("Comparing ...") if err.is_terminal else _Nothing():
        found = run(Report.read(one), Report.read(other), common, rounds)
    names = (one.stem, other.stem) if one.stem != other.stem else (str(one), str(other))
    for path in output or ():
        save_compared(path, found, names)
        err.print(f"Wrote {path}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        _print_tables(compared_tables(found, names))


def _writable(path: Path) -> None:
    """Told before the work: a report that could not be written after it."""
    from earthgpt.reports import ending_of

    ending_of(path)
    if not path.absolute().parent.is_dir():
        raise EarthGPTError(f"There is no folder {path.parent} for {path.name}.")


def _pairs(words: Sequence[str] | None, example: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in words or ()]
    if wrong := [word for word, sign, value in pairs if not (word and sign and value)]:
        raise EarthGPTError(f"Write NAME=VALUE, as in {example}; not {wrong[0]!r}.")
    return {name: value for name, _, value in pairs}


def _options(words: Sequence[str] | None) -> dict[str, Any]:
    """Values of options: true, false and whole numbers are what they look like."""
    found = _pairs(words, "--option protocol=voc07")
    known = {"true": True, "false": False}
    return {name: known.get(value, int(value) if value.isdecimal() else value) for name, value in found.items()}


def _print_tables(tables: Sequence[Any]) -> None:
    from rich.text import Text

    for one in tables:
        table = Table(title=Text(one.title), title_justify="left", box=None, pad_edge=False)
        for i, name in enumerate(one.header):
            table.add_column(Text(name), justify="right" if i else "left")
        for row in one.rows:
            table.add_row(*map(Text, row))
        _print_wide(table)
        out.print(f"{one.note}\n" if one.note else "", highlight=False, soft_wrap=True, markup=False)


@datasets_app.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """List the data sets.

    Example: earthgpt datasets list
    """
    from earthgpt import lookup

    cards = {name: lookup.find("datasets", name) for name in lookup.names("datasets")}
    if as_json:
        typer.echo(json.dumps({name: _card(card) for name, card in cards.items()}))
        return
    table = Table("name", "sensor", "main task", "images", "turns in Table I", "licence", box=None, pad_edge=False)
    for name, card in cards.items():
        images = card.counts.get("total") or sum(card.counts.values())
        turns = card.paper.turns if card.paper and card.paper.turns else None
        numbers = (f"{number:,}" if number else "" for number in (images, turns))
        table.add_row(name, ", ".join(card.sensors), card.tasks[0].replace("_", " "), *numbers, card.licence)
    out.print(table)


Name = Annotated[str, typer.Argument(help="See: earthgpt datasets list", metavar="NAME")]


@datasets_app.command("check")
def check_dataset(
    name: Name,
    root: Annotated[Path, typer.Argument(help="The folder its download unpacks to.", metavar="ROOT")],
    policy: Annotated[str, typer.Option(help="Count turns as the paper took the set, or for a clean build.")] = "paper",
    as_json: AsJson = False,
) -> None:
    """Compare a download with what its owners and the paper state, and list every defect. Images may be missing.

    Example: earthgpt datasets check hit_uav data/HIT-UAV
    """
    from earthgpt.checking import check, what_is_done

    if policy not in ("paper", "clean"):
        raise EarthGPTError(f"The policy is paper or clean; not {policy!r}.")
    with err.status(f"Reading {root} ...") if err.is_terminal else _Nothing():
        found = check(name, root, policy)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    table = Table("", "found", "expected", "", title=f"{found.title} in {root}")
    for split, count in found.splits.items():
        table.add_row(f"images, {split}", *_compared(count.images, count.images_expected))
        if count.objects is not None or count.objects_expected is not None:
            table.add_row(f"{found.unit}, {split}", *_compared(count.objects or 0, count.objects_expected))
    table.add_section()
    for what, number in found.found.items():
        if number is not None or found.expected[what] is not None:
            name = found.unit if what == "objects" else what
            table.add_row(name, *_compared(number or 0, found.expected[what]))
    out.print(table)
    if found.defects:
        defects = Table("defect", "times", "what is done about it")
        for kind, times in found.defects.items():
            defects.add_row(kind, f"{times:,}", what_is_done(kind))
        out.print(defects)
    for split, count in found.splits.items():
        if count.problem:
            out.print(f"{split}: {count.problem}", highlight=False)


def _compared(found: int, expected: int | None) -> tuple[str, str, str]:
    if expected is None:
        return f"{found:,}", "not known", ""
    return f"{found:,}", f"{expected:,}", "yes" if found == expected else f"{found - expected:+,}"


@datasets_app.command("show")
def show_dataset(
    name: Name,
    root: Annotated[Path | None, typer.Argument(help="Its folder, for a picture.", metavar="ROOT")] = None,
    preview: Annotated[Path | None, typer.Option(help="Draw samples with their boxes and answers here (.png).")] = None,
    split: Annotated[str | None, typer.Option(help="The split to draw; the first without it.")] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many samples are drawn.")] = 12,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show the card of a data set, and what is in it as a picture.

    Example: earthgpt datasets show nwpu_vhr10 "data/NWPU VHR-10 dataset" --preview vhr10.png
    """
    from earthgpt import lookup

    card = lookup.find("datasets", name)
    if preview is None:
        value = _card(card)
        _print(value, as_json, "\n".join(f"{key:10} {_plain(one)}" for key, one in value.items()))
        return
    from earthgpt.previews import preview as draw

    draw(name, root or "", split or card.splits[0], preview, count, seed)
    err.print(f"Wrote {preview}", highlight=False)


def _card(card: Any) -> dict[str, Any]:
    value = {
        "title": card.title, "sensors": list(card.sensors), "tasks": list(card.tasks), "splits": list(card.splits),
        "licence": card.licence, "homepage": card.homepage, "citation": card.citation, "classes": list(card.classes),
        "images": dict(card.counts), "objects": dict(card.objects),
    }  # fmt: skip
    if card.paper:
        paper = {"splits": list(card.paper.splits), "turns": card.paper.turns, "share": card.paper.share}
        value["paper"] = {key: one for key, one in paper.items() if one is not None}
    return value


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


@tasks_app.command("list")
def list_tasks(as_json: AsJson = False) -> None:
    """List the tasks.

    Example: earthgpt tasks list
    """
    from earthgpt import lookup

    modules = {name: sys.modules[type(lookup.find("tasks", name)).__module__] for name in lookup.names("tasks")}
    found = {name: module.__doc__.split("\n")[0] for name, module in modules.items()}
    _print(found, as_json, "\n".join(f"{name:26}{text}" for name, text in found.items()))


@models_app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that come with the package, and the presets that are made of public parts.

    Example: earthgpt models list
    """
    _be_quiet()
    from earthgpt.model.loading import names
    from earthgpt.model.presets import PRESETS

    rows = [{"name": name, "kind": "ready"} for name in names()]
    rows += [
        {"name": name, "kind": "preset", "vit": one.vit, "cnn": one.cnn, "text": one.text}
        for name, one in PRESETS.items()
    ]
    parts = (", ".join(row[part] for part in ("vit", "cnn", "text") if part in row) for row in rows)
    lines = (f"{row['name']:16}{row['kind']:10}{one}".rstrip() for row, one in zip(rows, parts, strict=True))
    _print(rows, as_json, "\n".join(lines))


ImageSize = Annotated[int | None, typer.Option(min=1, help="Side of the square in pixels: 224, 336, 448, ...")]


@models_app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="A preset, or a model's name, folder or hub id.", metavar="NAME")],
    image_size: ImageSize = None,
    as_json: AsJson = False,
) -> None:
    """Show how large a model is, part by part; a preset needs no download.

    Example: earthgpt models show earthgpt-7b --image-size 336
    """
    _be_quiet()
    from dataclasses import asdict

    from earthgpt.model.presets import configuration, on_meta, size_of

    size = size_of(on_meta(configuration(name, image_size)))
    if as_json:
        typer.echo(json.dumps({"name": name, **asdict(size)}))
    else:
        _print_size(name, size)


def _print_size(title: str, size: Any) -> None:
    table = Table("part", title=title)
    table.add_column("parameters", justify="right")
    for part, count in size.parameters.items():
        if part == "total":
            table.add_section()
        table.add_row(part.replace("_", " "), f"{count:,}")
    out.print(table)
    out.print(
        f"An image of {size.image_size} px takes {size.tokens_per_image:,} places: {size.grid} x {size.grid} visual "
        f"tokens of {size.visual_width:,} channels, a start and an end.",
        highlight=False,
        soft_wrap=True,
    )


@models_app.command("assemble")
def assemble_model(
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder of the model.")],
    preset: Annotated[str | None, typer.Option(help="Takes the parts of a preset that are not named.")] = None,
    vit: Annotated[str | None, typer.Option(help="Folder or hub id of the vision transformer.")] = None,
    cnn: Annotated[str | None, typer.Option(help="Folder or hub id of the convolutional network.")] = None,
    text: Annotated[str | None, typer.Option(help="Folder or hub id of the language model.")] = None,
    image_size: ImageSize = 448,
    dtype: Annotated[str, typer.Option(help="Of the weights: bfloat16, float16 or float32.")] = "bfloat16",
    seed: Annotated[int, typer.Option(help="Of the random start of the projector.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make an untrained model of public parts, for training. Parts keep their weights; the projector is new.

    Example: earthgpt models assemble --preset earthgpt-7b --text ~/Llama-2-7b-hf --image-size 448 -o models/7b
    """
    _be_quiet()
    from dataclasses import asdict

    from earthgpt.model.presets import preset as find

    parts = {"vit": vit, "cnn": cnn, "text": text}
    if preset:
        parts = {part: given or getattr(find(preset), part) for part, given in parts.items()}
    if missing := [f"--{part}" for part, given in parts.items() if not given]:
        raise EarthGPTError(f"Name {', '.join(missing)}, or a --preset, whose parts are then taken.")
    from earthgpt.model.assemble import assemble as run

    with err.status("Assembling the model ...") if err.is_terminal else _Nothing():
        made = run(output, **parts, image_size=image_size, dtype=dtype, seed=seed)
    if as_json:
        value = {"folder": str(made.folder), "parts": parts, "dtype": dtype}
        typer.echo(json.dumps({**value, **asdict(made.size), "notes": list(made.notes)}))
        return
    _print_size(str(output), made.size)
    for part, place in parts.items():
        out.print(f"{part}: {place}", highlight=False, soft_wrap=True)
    for note in made.notes:
        out.print(note, highlight=False, soft_wrap=True)
    out.print(f"Wrote {output} in {dtype}. It is untrained: see recipes/align.toml", highlight=False, soft_wrap=True)


@models_app.command("export")
def export_model(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.", metavar="RUN")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder of the model.")],
    as_json: AsJson = False,
) -> None:
    """Write the model of a run that is not finished, as its latest checkpoint has it, in plain safetensors.

    Example: earthgpt models export runs/instruct -o models/halfway
    """
    _be_quiet()
    from earthgpt.training import export

    step = export(run, output)
    _print({"folder": str(output), "step": step}, as_json, f"Wrote the model after step {step} to {output}")


@models_app.command("merge")
def merge_model(
    model: Annotated[str, typer.Argument(help="A model's name, folder or hub id.", metavar="MODEL")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder of the merged model.")],
    as_json: AsJson = False,
) -> None:
    """Fold bias tuning or LoRA into plain layers: the same answers from a language model of the usual form.

    Example: earthgpt models merge runs/instruct/model -o models/merged
    """
    _be_quiet()
    from earthgpt.model.assemble import merge as run

    with err.status("Merging ...") if err.is_terminal else _Nothing():
        changed = run(model, output)
    _print({"folder": str(output), "layers": changed}, as_json, f"Merged {changed} layers into {output}")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at; others than this machine need 0.0.0.0.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    model: ModelName = DEFAULT,
    name: Annotated[str | None, typer.Option(help="The model's name for clients; its own without it.")] = None,
    api_key: Annotated[
        list[str] | None, typer.Option("--api-key", envvar="EARTHGPT_API_KEY", help="Keys of which one is needed.")
    ] = None,
    rate: Annotated[int, typer.Option(min=0, help="Requests a minute of one key or address; 0 is any number.")] = 0,
    jobs: Annotated[Path | None, typer.Option(help="The folder for large scenes; none are taken without it.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Answers that are decoded together.")] = 16,
    most_waiting: Annotated[int, typer.Option(min=1, help="Requests that may wait for that.")] = 256,
    cache_mb: Annotated[int, typer.Option(min=0, help="Memory for what images were turned into.")] = 512,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Of one image.")] = 64,
    max_scene_mb: Annotated[int, typer.Option(min=1, help="Of a large scene.")] = 4096,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of one image.")] = 100_000_000,
    max_images: Annotated[int, typer.Option(min=1, help="Of one conversation.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one answer.")] = 1024,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that an answer may take.")] = 120,
    remote: Annotated[bool, typer.Option("--remote", help="Read images from public addresses, too.")] = False,
) -> None:
    """Answer over HTTP: OpenAI's chat API, the tasks, and large scenes (docs/serving.md).

    Example: earthgpt serve --port 8000 --jobs jobs
    """
    try:
        from earthgpt.serve.app import Settings, run
    except ImportError as error:
        raise EarthGPTError(f"The server needs its libraries ({error.name}): pip install 'earthgpt[serve]'.") from None
    from earthgpt.serve.guard import Limits

    limits = Limits(max_upload_mb * 2**20, max_pixels, max_images, max_tokens, timeout, remote)
    settings = Settings(
        name=name or Path(model).name, api_keys=tuple(api_key or ()), limits=limits, rate=rate, jobs=jobs,
        batch_size=batch_size, most_waiting=most_waiting, cache_bytes=cache_mb * 2**20,
        scene_bytes=max_scene_mb * 2**20, local=host in ("127.0.0.1", "::1", "localhost"),
    )  # fmt: skip
    run(settings, _load(model), host, port)


@app.command()
def doctor(
    memory: Annotated[
        float | None, typer.Option("--memory", min=0.1, help="GB of each device; this machine's without it.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--devices", min=1, help="How many devices share a model; this machine's without it.")
    ] = None,
    image_size: ImageSize = 224,
    as_json: AsJson = False,
) -> None:
    """Say what this machine is and what can be trained on it; or on another, of so much memory.

    Example: earthgpt doctor --memory 24
    """
    _be_quiet()
    from dataclasses import asdict

    from earthgpt.doctor import LABELLED, TEXT, examine

    with err.status("Looking ...") if err.is_terminal else _Nothing():
        found = examine(memory and int(memory * 2**30), processes, image_size)
    if as_json:
        devices = [{**asdict(device), "device": str(device.device)} for device in found.devices]
        typer.echo(json.dumps({**asdict(found), "devices": devices}))
        return
    there = (f"{name} {version}" for name, version in found.versions.items() if version)
    out.print(", ".join(there), highlight=False, soft_wrap=True)
    missing = [name for name, version in found.versions.items() if not version]
    if missing:
        out.print(f"not installed: {', '.join(missing)}", highlight=False)
    for device in found.devices:
        memory_of = f"{device.memory / 2**30:.1f} GB of memory, {device.free / 2**30:.1f} GB of it free"
        out.print(f"{device.device}: {device.name}, {memory_of}", highlight=False, soft_wrap=True)
    out.print(f"a bfloat16 product runs at {found.rate / 1e12:.2f} TFLOP/s", highlight=False)
    size, many = f"{found.memory / 2**30:.1f} GB", f"{found.processes} device{'s' * (found.processes > 1)}"
    table = Table("model", "stage (recipe)", title=f"Training at {image_size} px on {many} of {size}")
    for column in ("GB needed for 1 image", "images at a time", "checkpointing"):
        table.add_column(column, justify="right")
    for fit in found.fits:
        table.add_row(
            fit.model, fit.stage, f"{fit.needed / 2**30:.1f}", f"{fit.images:,}" if fit.images else "none fits",
            "yes" if fit.checkpointing else "no",
        )  # fmt: skip
    out.print(table)
    out.print(
        f"An image comes with {TEXT} tokens of text, {LABELLED} of them learned. Set accumulate so that batch_size / "
        f"(devices x accumulate) is no more than the images at a time.",
        highlight=False,
        soft_wrap=True,
    )


def main() -> None:
    """The program: a user's error is one line and exit code 1; Ctrl-C is exit code 130."""
    try:
        code = app(standalone_mode=False)
    except EarthGPTError as error:
        typer.echo(f"earthgpt: {error}", err=True)
        code = 1
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:  # a wrong option or command; anything else is a bug and keeps its traceback
        if not (hasattr(error, "format_message") and hasattr(error, "exit_code")):
            raise
        message = error.format_message()  # without a command, the help
        typer.echo(message if message.startswith("Usage:") else f"earthgpt: {message}", err=True)
        code = 1
    if code == 130:
        typer.echo("Stopped.", err=True)
    sys.exit(code or 0)

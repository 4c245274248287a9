"""Commands that ask a model about images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from earthgpt.cards import made_with
from earthgpt.cli.console import be_quiet, err, load_model, note, out, ready, region_line, region_value, say
from earthgpt.cli.options import (
    CRS,
    DEFAULT,
    AsJson,
    Bands,
    BlackHot,
    Classes,
    Free,
    Image,
    Images,
    Look,
    Looks,
    Made,
    Metres,
    MinScore,
    ModelName,
    NoData,
    Oriented,
    Output,
    Overlap,
    Overwrite,
    Remote,
    Scales,
    SensorName,
    Speckle,
    Steps,
    Stretch,
    Survey,
    Units,
    grouped,
)
from earthgpt.cli.surveys import objects_of, say_what_is_guessed, survey, write_features
from earthgpt.types import Box, EarthGPTError, Region


@grouped
def ask(
    images: Images,
    question: Annotated[str, typer.Argument(help="A question in words.", metavar="QUESTION")],
    *,
    made: Made,
    how: Survey,
) -> None:
    """Answer a question about images. With --tile each tile of a large scene is asked, and the answers are a map.

    \b
    Example: earthgpt ask harbor.png "How many ships are there in the image?"
    Example: earthgpt ask city.tif "How many cars are there?" --tile 512 -o cars.gpkg
    """

    def plainly(assistant: Any, raster: Any) -> tuple[dict[str, Any], str]:
        answer = assistant.ask(raster, question)
        return {"question": question, "answer": answer}, answer

    _plainly_or_survey(images, plainly, {"task": "ask", "question": question}, made, how)


@grouped
def caption(images: Images, *, made: Made, how: Survey) -> None:
    """Describe each image in a sentence. With --tile each tile of a large scene is described.

    \b
    Example: earthgpt caption harbor.png
    Example: earthgpt caption photos/ -o captions.csv
    """

    def plainly(assistant: Any, raster: Any) -> tuple[dict[str, Any], str]:
        text = assistant.caption(raster)
        return {"caption": text}, text

    _plainly_or_survey(images, plainly, {"task": "caption"}, made, how)


@grouped
def classify(images: Images, classes: Classes = None, *, made: Made, how: Survey) -> None:
    """Name the class of a scene. Of a list each class gets a probability; with --tile the classes are a map.

    \b
    Example: earthgpt classify scene.tif --classes "harbor,airport,forest"
    Example: earthgpt classify region.tif -c forest -c farmland --tile 256 -o landuse.gpkg
    """
    names = _classes(classes)

    def plainly(assistant: Any, raster: Any) -> tuple[dict[str, Any], str]:
        found = assistant.classify(raster, names)
        lines = [f"{probability:6.1%}  {name}" for name, probability in found.probabilities.items()]
        return {"class": found.label, "probabilities": found.probabilities}, "\n".join(lines)

    _plainly_or_survey(images, plainly, {"task": "classify", "classes": names or ()}, made, how)


def _plainly_or_survey(
    images: Sequence[str],
    plainly: Callable[[Any, Any], tuple[dict[str, Any], str]],
    wanted: dict[str, Any],
    made: Made,
    how: Survey,
) -> None:
    """One image of which all is asked and nothing made is answered at once; others are surveyed."""
    paths = _expand(images)
    surveyed = made.output, made.preview, made.tile, how.window, how.bbox, how.aoi, how.engine != "local"
    if len(paths) > 1 or any(surveyed):
        survey(paths, wanted, made, how)
        return
    assistant, raster = ready(paths[0], how)
    say_what_is_guessed(assistant, objects_of(wanted), raster.sensor, raster.name)
    value, text = plainly(assistant, raster)
    say({"image": str(paths[0]), **value}, how.as_json, text)


def _expand(images: Sequence[str]) -> list[Path | str]:
    import glob

    from earthgpt.geo.inputs import expand

    for one in map(str, images):
        word = not any(mark in one for mark in "/\\:") and (
            not Path(one).suffix or " " in one
        )  # ":" as in NETCDF:a.nc:t
        if word and not Path(one).exists() and not (glob.has_magic(one) and any(glob.iglob(one))):  # noqa: PTH207
            raise EarthGPTError(
                f"There is no image {one!r}. A question is one argument in quotes, behind the images, and a class is "
                "named by -c."
            )
    return expand(images)


@grouped
def describe(
    image: Image,
    box: Annotated[
        str | None, typer.Argument(help="left,top,right,bottom in pixels of the image.", metavar="BOX")
    ] = None,
    places: Annotated[Path | None, typer.Option("--places", help="GeoJSON: describe each of its features.")] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    *,
    how: Look,
) -> None:
    """Say what a region of an image shows. With --places each place of a GeoJSON file is described.

    \b
    Example: earthgpt describe harbor.png 40,52,131,90
    Example: earthgpt describe city.tif --places parcels.geojson -o described.gpkg
    """
    if (box is None) == (places is None):
        raise EarthGPTError("Give a box in pixels, or --places with a GeoJSON file.")
    if places is not None:
        _describe_places(image, places, output, overwrite, how)
        return
    from earthgpt.geo.raster import open_raster
    from earthgpt.geo.vectors import check_output

    if output:
        check_output(output, overwrite, [image])
    raster = open_raster(image, how.sensor, **how.reading)
    region = Box.read(box, raster.size)
    text = load_model(how.model).describe(raster, region)
    say({"image": image, "box": box, "description": text}, how.as_json, text)
    if output:
        write_features(output, [Region(region, text)], raster, made_with(how.model), overwrite)


def _describe_places(image: str, places: Path, output: Path | None, overwrite: bool, how: Look) -> None:
    from earthgpt.geo.areas import columns_of, read_areas, those_in
    from earthgpt.geo.scene import open_scene
    from earthgpt.geo.vectors import check_output
    from earthgpt.scenes import describe

    if output:
        check_output(output, overwrite, [image, places])
    scene = open_scene(image, how.sensor, **how.reading)
    areas, others = those_in(scene, read_areas(places))
    if not areas:
        raise EarthGPTError(f"No feature of {places} lies in {scene.name}.")
    if others:
        some = ", ".join(map(str, others[:5])) + (", ..." if len(others) > 5 else "")
        note(f"{places}: {len(others)} features do not lie in {scene.name} and are left out (number {some})")
    found = describe(load_model(how.model), scene, areas)
    value = {"image": image, "regions": [region_value(feature.region, scene.size) for feature in found]}
    say(value, how.as_json, "\n".join(region_line(feature.region, scene.size) for feature in found))
    if output:
        columns, rows = columns_of(areas)
        found = [replace(one, properties={**one.properties, **row}) for one, row in zip(found, rows, strict=True)]
        write_features(output, found, scene, made_with(how.model), overwrite, columns)


@grouped
def ground(
    image: Image,
    phrase: Annotated[str, typer.Argument(help="What to find: one thing.", metavar="PHRASE")],
    oriented: Oriented = False,
    free: Free = False,
    output: Output = None,
    overwrite: Overwrite = False,
    *,
    how: Look,
) -> None:
    """Find the one thing that a phrase describes.

    Example: earthgpt ground harbor.png "the leftmost ship" -o ship.png
    """
    from earthgpt.geo.vectors import check_output
    from earthgpt.tasks.visual_grounding import TASK

    if output:
        check_output(output, overwrite, [image])
    assistant, raster = ready(image, how)
    assistant.constrained = not free
    say_what_is_guessed(assistant, TASK.objects_in(TASK.question(phrase)), raster.sensor, raster.name)
    region = assistant.ground(raster, phrase, oriented)
    value = {"image": image, "phrase": phrase, "region": region_value(region, raster.size) if region else None}
    say(value, how.as_json, region_line(region, raster.size) if region else "nothing found")
    if output:
        write_features(output, [region] if region else [], raster, made_with(how.model), overwrite)


@grouped
def detect(
    images: Images,
    classes: Classes = None,
    oriented: Oriented = False,
    min_score: MinScore = 0.0,
    steps: Steps = "",
    free: Free = False,
    *,
    made: Made,
    overlap: Overlap = None,
    scales: Scales = "1",
    gsd: Metres = None,
    how: Survey,
) -> None:
    """Find the objects of some classes, or all. Large images are gone through in overlapping tiles.

    \b
    Example: earthgpt detect harbor.tif -c ship --oriented -o ships.gpkg
    Example: earthgpt detect scenes/ -c ship -c "storage tank" -o "found/{name}.geojson"
    Example: earthgpt detect harbor.tif -c ship --min-score 0.5 -o sure.geojson
    """
    wanted = {
        "task": "detect", "classes": _classes(classes) or (), "oriented": oriented, "overlap": overlap,
        "scales": _scales(scales), "gsd": gsd, "constrained": not free,
        "min_score": min_score,
        "steps": tuple(one.strip() for one in steps.split(",") if one.strip()),
    }  # fmt: skip
    survey(_expand(images), wanted, made, how)


def _classes(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """What an option says that was repeated, or given with commas; None where it was not given."""
    from earthgpt.tasks.wording import class_names

    return class_names(None if given is None else ",".join(given))


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(value) for value in text.split(","))
    except ValueError:
        scales = ()
    if not scales or min(scales) <= 0:
        raise EarthGPTError(f"--scales are positive numbers with commas between them, not {text!r}.")
    return scales


@grouped
def chat(image: Image, *, how: Look) -> None:
    """Talk about an image. Each line is a question; an empty line or the end of the input ends the talk.

    Example: earthgpt chat harbor.png
    """
    assistant, raster = ready(image, how)
    talk = assistant.chat(raster)
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if at_terminal:
        import readline  # noqa: F401 (input() then has a history, and arrow keys that move)

        err.print("Ask about the image; an empty line ends the talk.", highlight=False)
    while line := (_line_of_a_person() if at_terminal else sys.stdin.readline()).strip():
        answer = talk.ask(line)
        say({"question": line, "answer": answer}, how.as_json, answer)


def _line_of_a_person() -> str:
    try:
        return input("> ")
    except EOFError:  # Ctrl-D
        typer.echo(err=True)
        return ""


def info(
    files: Annotated[
        list[str], typer.Argument(help="A raster, a product's folder, or a file for each band.", metavar="FILE")
    ],
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Write the 8-bit view that a model sees here (.png or .jpg).")
    ] = None,
    side: Annotated[int, typer.Option(min=1, help="The longer side of the preview in pixels.")] = 1024,
    sensor: SensorName = None,
    bands: Bands = None,
    stretch: Stretch = None,
    units: Units = None,
    looks: Looks = 1,
    speckle: Speckle = None,
    black_hot: BlackHot = False,
    nodata: NoData = None,
    crs: CRS = None,
    remote: Remote = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show what is understood of a raster. It is place, bands, sensor and stretch; --preview is what a model sees.

    \b
    Example: earthgpt info scene.tif --preview scene.png
    Example: earthgpt info B4.tif B3.tif B2.tif --stretch 0:3000
    """
    from earthgpt.geo.pictures import file_format, save_picture
    from earthgpt.geo.scene import open_scene
    from earthgpt.geo.vectors import check_output

    if preview is not None:
        file_format(preview)
        check_output(preview, overwrite, files)
    options = {"looks": looks, "speckle": speckle, "black_hot": black_hot, "nodata": nodata, "crs": crs}
    scene = open_scene(files[0] if len(files) == 1 else files, sensor, bands, stretch, units, remote=remote, **options)
    if preview is not None:
        from PIL import Image as Picture

        save_picture(Picture.fromarray(scene.preview(side)[0]), preview)
    found = scene.understood()
    say(found, as_json, "\n".join(_understood(found)))
    if preview is not None:
        note(f"Wrote {preview}")


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


def demo(
    folder: Annotated[Path, typer.Argument(help="Where pictures and map features go.")] = Path("outputs/demo"),
    model: ModelName = DEFAULT,
) -> None:
    """Ask the default model about example scenes of every sensor.

    Example: earthgpt demo
    """
    be_quiet()
    from earthgpt.demo import run

    run(load_model(model), folder, out)

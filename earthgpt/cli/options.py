"""Options that several commands have, each said once; and groups of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from earthgpt.types import Sensor

DEFAULT = "earthgpt-tiny"

# Images and what is asked of them.
Image = Annotated[str, typer.Argument(help="An image or a raster, or the folder of a product.", metavar="IMAGE")]
Images = Annotated[list[str], typer.Argument(help="Images: files, folders, patterns or STAC items.", metavar="IMAGE")]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", "--classes", "-c", help="A class, in the singular; repeated, or several with commas."),
]
ModelName = Annotated[str, typer.Option("--model", "-m", help="A model's name, folder or hub id.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"] | None,
    typer.Option(help="Of the weights: auto is as saved, the default on a GPU; float32 is that on a processor."),
]
SensorName = Annotated[str | None, typer.Option("--sensor", "-s", help=f"What took the image: {', '.join(Sensor)}.")]
Oriented = Annotated[bool, typer.Option("--oriented", help="Ask for oriented boxes.")]
Free = Annotated[
    bool, typer.Option("--free", help="Take answers as the language model gives them, whatever their form.")
]
MinScore = Annotated[float, typer.Option(min=0, max=1, help="Leave out objects with a lower score.")]
Steps = Annotated[
    str,
    typer.Option(help="Asked first, with commas: count (how many there are), horizontal (before oriented boxes)."),
]

# Rasters: which part, how it is cut, how its values are read.
Tile = Annotated[int | None, typer.Option(min=0, help="Side of a tile in pixels of the image; 0 is the whole image.")]
Overlap = Annotated[int | None, typer.Option(min=0, help="Pixels that neighbouring tiles share; a quarter without it.")]
Scales = Annotated[str, typer.Option(help="Sides of tiles as multiples of --tile, with commas.")]
Metres = Annotated[float | None, typer.Option("--gsd", min=1e-4, help="Metres of a pixel that the model sees.")]
Part = Annotated[str | None, typer.Option("--window", help="left,top,width,height in pixels: only this part.")]
BoundingBox = Annotated[str | None, typer.Option("--bbox", help="west,south,east,north in degrees: only this part.")]
Places = Annotated[Path | None, typer.Option("--aoi", help="GeoJSON with polygons: only what lies in them.")]
Bands = Annotated[
    str | None, typer.Option(help='One or three by number, name, colour or wavelength: "4,3,2", "red", "665nm".')
]
Stretch = Annotated[
    str | None, typer.Option(help="Black and white: 0:3000, 2%:98%, minmax, 10C:45C; none for 8 bits as they are.")
]
Units = Annotated[
    str | None, typer.Option(help="Of values: reflectance; amplitude, intensity, decibels; kelvin, celsius, ...")
]
Looks = Annotated[int, typer.Option(help="SAR: average over so many pixels a side.")]
Speckle = Annotated[str | None, typer.Option(help="SAR: the filter lee.")]
BlackHot = Annotated[bool, typer.Option("--black-hot", help="Infrared: heat is dark.")]
NoData = Annotated[float | None, typer.Option(help="The value of no data, where the file does not say so.")]
CRS = Annotated[str | None, typer.Option(help="Where the file has none, as EPSG:32633.")]
Remote = Annotated[bool, typer.Option("--remote", help="Allow URLs, and files that point elsewhere.")]

# Where and how it is worked.
Engine = Annotated[Literal["local", "ray"], typer.Option(help="local, or ray: Ray Data, on this machine or a cluster.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes of the engine ray.")]
Batch = Annotated[int, typer.Option("--batch-size", min=1, help="Tiles that the model looks at together.")]

# What comes out.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Also write here; the ending is the format: .gpkg, .geojson, .html, .png, ..."),
]
Preview = Annotated[
    Path | None, typer.Option("--preview", help="Draw it here with a legend, .png or .jpg; or as a map, .html.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there, and begin anew.")]
Reports = Annotated[
    list[Path] | None, typer.Option("--output", "-o", help="Also write here: .json, .md, .tex, .csv or .html.")
]

# Recipes, tasks, models.
Recipe = Annotated[Path, typer.Argument(help="A TOML file, or the name of a recipe of the package.", metavar="RECIPE")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value ...", metavar="KEY=VALUE")]
TaskOptions = Annotated[
    list[str] | None, typer.Option("--option", help="NAME=VALUE of the task, such as protocol=voc07, meteor=true.")
]
ImageSize = Annotated[int | None, typer.Option(min=1, help="Side of the square in pixels: 224, 336, 448, ...")]


@dataclass(frozen=True, slots=True)
class Made:
    """What is made of images: files, and tiles before that."""

    output: Output = None
    preview: Preview = None
    tile: Tile = None


@dataclass(frozen=True, slots=True)
class Look:
    """Which model looks at images, and how they are read."""

    model: ModelName = DEFAULT
    sensor: SensorName = None
    bands: Bands = None
    stretch: Stretch = None
    units: Units = None
    looks: Looks = 1
    speckle: Speckle = None
    black_hot: BlackHot = False
    nodata: NoData = None
    crs: CRS = None
    remote: Remote = False
    as_json: AsJson = False

    @property
    def reading(self) -> dict[str, Any]:
        """Options of ``open_scene`` that were given."""
        names = ("bands", "stretch", "units", "looks", "speckle", "black_hot", "nodata", "crs", "remote")
        usual = {"looks": 1, "black_hot": False, "remote": False}
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value != usual.get(name)}


@dataclass(frozen=True, slots=True)
class Survey(Look):
    """Which part of images is asked about too, and how the work is done."""

    window: Part = None
    bbox: BoundingBox = None
    aoi: Places = None
    overwrite: Overwrite = False
    engine: Engine = "local"
    workers: Workers = 2
    batch_size: Batch = 16


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field in place of each parameter that is a group of options."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        kinds = get_type_hints(groups[name], include_extras=True)
        parameters += [
            inspect.Parameter(one.name, parameter.KEYWORD_ONLY, default=one.default, annotation=kinds[one.name])
            for one in fields(groups[name])
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = {name: kind(**{one.name: given.pop(one.name) for one in fields(kind)}) for name, kind in groups.items()}
        command(**given, **made)

    run.__signature__ = inspect.Signature(parameters)
    return run

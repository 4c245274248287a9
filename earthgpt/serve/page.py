"""The page for people: one file without anything from outside, what it shows of an image, and example scenes."""

from __future__ import annotations

import base64
import hashlib
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from earthgpt.demo import SCENES, write_scene
from earthgpt.geo.pictures import pixels_of
from earthgpt.geo.placing import Layer
from earthgpt.geo.raster import Raster, open_raster
from earthgpt.geo.scene import open_scene
from earthgpt.geo.webmap import facts_of, jpeg
from earthgpt.serve.guard import Reader, RefusedError, examine, save_upload, sensor_named, unnamed
from earthgpt.serve.requests import BusyError
from earthgpt.serve.tasks import Taken, Upload
from earthgpt.types import Sensor

_SIDE = 2048  # of the picture that the page shows, in pixels at most
_FOLDER = Path(__file__).parent


class Preview(BaseModel):
    """An image as a browser can show it.

    picture: a data URL, of the whole image. large: whether it has more pixels than a request may have; it can be
    submitted as a job. facts: size, colours, and where on Earth it is, as the HTML maps of results have them.
    """

    picture: str
    sensor: Sensor
    large: bool
    facts: dict[str, Any]


class Example(BaseModel):
    """An example scene. address: where its GeoTIFF is. picture: a data URL."""

    name: str
    sensor: Sensor
    kind: str
    address: str
    picture: str


def router(reader: Reader, scene_pixels: int, scene_bytes: int) -> APIRouter:
    """The page at ``/``, and the endpoints that only it needs. scene_pixels, scene_bytes: of the largest scene that is
    shown."""
    routes = APIRouter()
    scenes = threading.Semaphore(1)  # a large one takes long, and images do not wait for it

    @routes.get("/", include_in_schema=False)
    def index() -> HTMLResponse:
        content, policy = page()
        return HTMLResponse(content, headers={"Content-Security-Policy": policy})

    @routes.post("/v1/preview", tags=["page"])
    def preview(image: Upload, sensor: Taken = None) -> Preview:
        """The image as a browser can show it, and where it is on Earth."""
        with tempfile.TemporaryDirectory(prefix="earthgpt-") as folder:
            path, sensor = save_upload(image.file, Path(folder), scene_bytes), sensor_named(image.filename, sensor)
            try:
                return _seen(reader.of_saved(path, sensor), False)
            except RefusedError as error:
                if error.status != 413 or path.suffix != ".tif":
                    raise
            examine(path, scene_pixels)
            if not scenes.acquire(timeout=reader.limits.seconds):
                raise BusyError("Large scenes of others are being read.", 5.0)
            try:
                with unnamed(path, "The scene"):
                    return _seen(open_scene(path, sensor), True)
            finally:
                scenes.release()

    @routes.get("/v1/examples", tags=["page"])
    def examples() -> list[Example]:
        """Synthetic scenes, one for each sensor."""
        return [_example(sensor)[0] for sensor in SCENES]

    @routes.get("/v1/examples/{sensor}", tags=["page"], response_class=Response)
    def example(sensor: Sensor) -> Response:
        """An example scene as a GeoTIFF."""
        return Response(_example(sensor)[1], media_type="image/tiff")

    return routes


@cache
def page() -> tuple[str, str]:
    """The page with its style and script in it, and the Content-Security-Policy that allows just these."""
    style, script, content = (
        (_FOLDER / f"page.{ending}").read_text(encoding="utf-8") for ending in ("css", "js", "html")
    )
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return content.replace("{{style}}", style).replace("{{script}}", script), policy


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _seen(raster: Any, large: bool) -> Preview:
    facts = facts_of(Layer(raster), "")
    picture = f"data:image/jpeg;base64,{jpeg(pixels_of(raster, _SIDE))}"
    return Preview(picture=picture, sensor=raster.sensor, large=large, facts={**facts, "gsd_m": Layer(raster).gsd_m})


@cache
def _example(sensor: Sensor) -> tuple[Example, bytes]:
    with tempfile.TemporaryDirectory(prefix="earthgpt-") as folder:
        path = Path(folder) / "scene.tif"
        sample = write_scene(path, sensor)
        raster: Raster = open_raster(path, sensor)
        content = path.read_bytes()
    told = Example(
        name=f"{sensor}.tif",
        sensor=sensor,
        kind=sample.label or "",
        address=f"/v1/examples/{sensor}",
        picture=f"data:image/jpeg;base64,{jpeg(raster.pixels)}",
    )
    return told, content

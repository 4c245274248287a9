"""The tasks over HTTP: an image is uploaded, and values or map features come back."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Header, Request, Response, UploadFile
from pydantic import BaseModel

from earthgpt.assistant import EarthGPT
from earthgpt.geo.raster import Raster, open_raster
from earthgpt.geo.vectors import Feature, features
from earthgpt.perception import known_scenes
from earthgpt.serve.engine import Engine
from earthgpt.serve.guard import Reader, RefusedError, sensor_named
from earthgpt.serve.requests import Decoding
from earthgpt.tasks import scene_classification
from earthgpt.tasks.visual_grounding import TASK as GROUNDING
from earthgpt.tasks.visual_question_answering import TASK as VQA
from earthgpt.tasks.wording import class_names
from earthgpt.types import Box, Conversation, Region, Sensor

GEOJSON = "application/geo+json"
_WHOLE = Box(0, 0, 1, 1)
_CLASSES = 1000
_DETECTED = 20  # classes that are looked for at once, each with an answer of its own


class BatchedEarthGPT(EarthGPT):
    """``EarthGPT`` whose questions are decoded together with those of others. Raises as ``Engine.ask`` does, too."""

    def __init__(self, engine: Engine, timeout_s: float):
        super().__init__(engine.model, engine.processor)
        self.engine, self.timeout_s, self.tasks = engine, timeout_s, engine.tasks

    def say(self, conversation, sensor=None, grammar=None, memory=None):  # the engine keeps its own
        conversation = replace(conversation, images=tuple(open_raster(one, sensor) for one in conversation.images))
        ends = time.monotonic() + self.timeout_s
        if found := self.engine.deduce(conversation, self.timeout_s):
            return found
        squares = [self._square(raster) for raster in conversation.images]
        return self.engine.ask(conversation, squares, Decoding(), ends - time.monotonic(), grammar)

    def _square(self, raster):
        return self.engine.square(raster)

    def _tell_of_size(self, raster):
        """Nothing: the answer says it."""

    def _likely(self, raster, classes):
        ends, heads = time.monotonic() + self.timeout_s, self.model.dense_heads is not None
        if heads and (found := self.engine.run(lambda: self.engine.seen(raster).choose(classes), self.timeout_s)):
            return found
        classes = scene_classification.TASK.listed(classes, known_scenes(self.model))
        conversation = Conversation.of((raster,), scene_classification.TASK.question(classes))
        return self.engine.choices(conversation, self._square(raster), classes, ends - time.monotonic())


class Picture(BaseModel):
    """The image as it was understood: size in pixels, what took it, and its coordinate reference system, if any."""

    width: int
    height: int
    sensor: Sensor
    crs: str | None


class Found(BaseModel):
    """A region: what it is, its four corners in pixels of the image, and how sure the model is, in [0, 1]."""

    label: str
    corners: list[tuple[float, float]]
    oriented: bool
    score: float | None


class Objects(BaseModel):
    """The objects that were found. guessed: classes that the detector was not trained to find. note: what is lost as
    the image is large (``EarthGPT.seen_whole``); empty where nothing is."""

    image: Picture
    regions: list[Found]
    guessed: list[str]
    note: str


class Grounding(BaseModel):
    """The region that a phrase describes; null when the model names none. guessed: what the phrase names, where the
    detector was not trained to find it. note: as of ``Objects``."""

    image: Picture
    phrase: str
    region: Found | None
    guessed: list[str]
    note: str


class Label(BaseModel):
    """The class of the scene, and how likely each is."""

    image: Picture
    label: str
    probabilities: dict[str, float]


class Caption(BaseModel):
    """A sentence about the image."""

    image: Picture
    caption: str


class Description(BaseModel):
    """A phrase for a region, which is given back in pixels: left, top, right, bottom."""

    image: Picture
    box: tuple[float, float, float, float]
    description: str


class Reply(BaseModel):
    """A short answer. guessed: objects that the question names and the detector was not trained to find. note: as of
    ``Objects``, where it is about objects."""

    image: Picture
    question: str
    answer: str
    guessed: list[str]
    note: str


Upload = Annotated[UploadFile, File(description="A PNG, JPEG, TIFF, GeoTIFF, WebP, GIF or BMP image.")]
Taken = Annotated[Sensor | None, Form(description="What took the image; found out where it is not given.")]
Form_ = Annotated[Literal["json", "geojson"] | None, Form(alias="format", description="json, or map features.")]
Words = Annotated[str, Form(min_length=1, max_length=2000)]
Accept = Annotated[str | None, Header()]
_EITHER: dict[int | str, dict[str, Any]] = {200: {"content": {GEOJSON: {"schema": {"type": "object"}}}}}


async def no_other_fields(request: Request) -> None:
    """Raises RefusedError for what would be passed over: a field of the form that the endpoint has not, one that comes
    twice, and parameters of the address."""
    known = [field.alias for field in request.scope["route"].dependant.body_params]
    given = Counter(name for name, _ in (await request.form()).multi_items())
    if unknown := [name for name in given if name not in known]:
        raise RefusedError(f"There is no field {unknown[0][:100]!r} here; there are {', '.join(known)}.")
    if twice := [name for name, count in given.items() if count > 1]:
        more = "; several classes have commas between them" if twice[0] == "classes" else ""
        raise RefusedError(f"The field {twice[0]} is there twice{more}.")
    if request.query_params:
        name = next(iter(request.query_params))[:100]
        raise RefusedError(f"Parameters are fields of the form, and not of the address: {name}.")


def router(assistant: Callable[[], BatchedEarthGPT], reader: Reader) -> APIRouter:
    """The endpoints of the tasks; ``assistant`` is asked for when a request comes."""
    routes = APIRouter(prefix="/v1", tags=["tasks"], dependencies=[Depends(no_other_fields)])

    def opened(upload: UploadFile, sensor: Sensor | None) -> Raster:
        return reader.of_file(upload.file, sensor_named(upload.filename, sensor))

    @routes.post("/detect", response_model=Objects, responses=_EITHER)
    def detect(
        image: Upload,
        classes: Annotated[str | None, Form(max_length=2000, description="Names with commas; all without.")] = None,
        oriented: Annotated[bool, Form()] = False,
        min_score: Annotated[float, Form(ge=0, le=1, description="Objects with a lower score are left out.")] = 0.0,
        sensor: Taken = None,
        format: Form_ = None,
        accept: Accept = None,
    ) -> Any:
        """The objects of some classes, or of all. Large scenes are better submitted as jobs, which look at tiles."""
        ends, regions = time.monotonic() + reader.limits.seconds, []
        names, raster = names_of(classes, _DETECTED), opened(image, sensor)
        for name in (None,) if names is None else names:
            if time.monotonic() > ends:
                raise TimeoutError("The answers took too long.")
            regions += assistant().detect(raster, name, oriented, min_score=min_score)
        found, guessed = [_found(one, raster) for one in regions], assistant().unknown(names or (), raster.sensor)
        about = {"guessed": guessed, "note": assistant().seen_whole(raster)}
        value = Objects(image=_picture(raster), regions=found, **about)
        return _answered(value, regions, raster, format, accept, **about)

    @routes.post("/ground", response_model=Grounding, responses=_EITHER)
    def ground(
        image: Upload,
        phrase: Words,
        oriented: Annotated[bool, Form()] = False,
        sensor: Taken = None,
        format: Form_ = None,
        accept: Accept = None,
    ) -> Any:
        """The one region that a phrase describes."""
        raster = opened(image, sensor)
        phrase = cleaned(phrase)
        region = assistant().ground(raster, phrase, oriented)
        guessed = assistant().unknown(GROUNDING.objects_in(GROUNDING.question(phrase)), raster.sensor)
        about = {"guessed": guessed, "note": assistant().seen_whole(raster)}
        value = Grounding(image=_picture(raster), phrase=phrase, region=region and _found(region, raster), **about)
        return _answered(value, [region] if region else [], raster, format, accept, **about)

    @routes.post("/classify", response_model=Label, responses=_EITHER)
    def classify(
        image: Upload,
        classes: Annotated[str | None, Form(max_length=20_000, description="Names with commas; none: free.")] = None,
        sensor: Taken = None,
        format: Form_ = None,
        accept: Accept = None,
    ) -> Any:
        """The class of the scene."""
        raster = opened(image, sensor)
        found = assistant().classify(raster, names_of(classes))
        value = Label(image=_picture(raster), label=found.label, probabilities=found.probabilities)
        region = Region(_WHOLE, found.label, found.probabilities[found.label])
        return _answered(value, [region], raster, format, accept)

    @routes.post("/caption", response_model=Caption, responses=_EITHER)
    def caption(image: Upload, sensor: Taken = None, format: Form_ = None, accept: Accept = None) -> Any:
        """One sentence about the image."""
        raster = opened(image, sensor)
        text = assistant().caption(raster)
        value = Caption(image=_picture(raster), caption=text)
        return _answered(value, [Region(_WHOLE, text)], raster, format, accept)

    @routes.post("/describe", response_model=Description, responses=_EITHER)
    def describe(
        image: Upload,
        box: Annotated[str, Form(max_length=200, description="left,top,right,bottom in pixels of the image.")],
        sensor: Taken = None,
        format: Form_ = None,
        accept: Accept = None,
    ) -> Any:
        """A phrase for a region of the image."""
        raster = opened(image, sensor)
        where = Box.read(box, raster.size)
        text = assistant().describe(raster, where)
        value = Description(image=_picture(raster), box=where.to_pixels(raster.size), description=text)
        return _answered(value, [Region(where, text)], raster, format, accept)

    @routes.post("/ask", response_model=Reply, responses=_EITHER)
    def ask(image: Upload, question: Words, sensor: Taken = None, format: Form_ = None, accept: Accept = None) -> Any:
        """A short answer to a question."""
        raster = opened(image, sensor)
        question = cleaned(question)
        text = assistant().ask(raster, question)
        feature = Feature(Region(_WHOLE, text), {"prompt": question})
        objects = VQA.objects_in(question)
        guessed = assistant().unknown(objects, raster.sensor)
        about = {"guessed": guessed, "note": assistant().seen_whole(raster) if objects else ""}
        value = Reply(image=_picture(raster), question=question, answer=text, **about)
        return _answered(value, [feature], raster, format, accept, **about)

    return routes


def cleaned(text: str | None) -> str | None:
    """Text that can be written anywhere; None stays None. Raises RefusedError where nothing is left."""
    if text is None:
        return None
    text = text.encode(errors="replace").decode().replace("\0", "").strip()
    if not text:
        raise RefusedError("The text is empty.")
    return text


def names_of(text: str | None, most: int = _CLASSES) -> tuple[str, ...] | None:
    """Names with commas between them; None stays None. Raises EarthGPTError for none, and for too many."""
    names = class_names(cleaned(text))
    if names and len(names) > most:
        raise RefusedError(f"Give 1 to {most} classes, with commas between them.")
    return names


def _picture(raster: Raster) -> Picture:
    return Picture(width=raster.size[0], height=raster.size[1], sensor=raster.sensor, crs=raster.crs)


def _found(region: Region, raster: Raster) -> Found:
    width, height = raster.size
    corners = [(round(x * width, 2), round(y * height, 2)) for x, y in region.box.corners]
    return Found(
        label=region.label, corners=corners, oriented=not isinstance(region.box, Box), score=_score(region.score)
    )


def _score(score: float | None) -> float | None:
    return None if score is None else round(score, 4)


def _answered(
    value: BaseModel,
    regions: Sequence[Region | Feature],
    raster: Raster,
    form: str | None,
    accept: str | None,
    **members: Any,
) -> Any:
    if form == "json" or (form is None and GEOJSON not in (accept or "")):
        return value
    content = json.dumps({**features(regions, raster), **members}, ensure_ascii=False, allow_nan=False)
    return Response(content.encode(errors="replace"), media_type=GEOJSON)

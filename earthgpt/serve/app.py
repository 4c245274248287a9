"""The application: everything that the server offers, and how it starts and stops."""

from __future__ import annotations

import asyncio
import html
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import Depends, FastAPI, File, Form, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException as AnyHTTPException

import earthgpt
from earthgpt.assistant import EarthGPT
from earthgpt.serve import chat, page
from earthgpt.serve.engine import Engine
from earthgpt.serve.guard import Fetch, Limits, Reader, RefusedError, examine, media_type, save_upload, sensor_named
from earthgpt.serve.jobs import FORMATS, Jobs, Ticket, make_folder
from earthgpt.serve.requests import BusyError, TooLongError
from earthgpt.serve.shield import Metrics, Shield
from earthgpt.serve.tasks import BatchedEarthGPT, Taken, cleaned, names_of, no_other_fields, router
from earthgpt.types import EarthGPTError

_SCENE_PIXELS = 2 * 10**10


@dataclass(frozen=True)
class Settings:
    """How a server is.

    name: the model's, for clients. api_keys: of which requests need one; none without any. limits: of each request.
    rate: requests a minute of one key (of one address without keys); 0 is any number. batch_size: answers that are
    decoded together. most_waiting: requests that wait for that; more are told to come back. cache_bytes: for what
    images became. jobs: the folder for large scenes; None takes no jobs. most_jobs: that are kept. scene_bytes: of
    the upload of a job. local: whether only this machine reaches the server. fetch: how addresses are read, where
    they are allowed.
    """

    name: str = "earthgpt"
    api_keys: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    rate: int = 0
    batch_size: int = 32
    most_waiting: int = 256
    cache_bytes: int = 2**29
    jobs: Path | None = None
    most_jobs: int = 100
    scene_bytes: int = 4 * 2**30
    local: bool = True
    fetch: Fetch = field(default_factory=Fetch)

    def __post_init__(self) -> None:
        if not all(key.strip() for key in self.api_keys):
            raise EarthGPTError("An --api-key is empty; set the variable it comes from.")


class JobStatus(BaseModel):
    """A large scene as it is gone through.

    title: the name of the file that was sent. done, total: tiles. message: what went wrong, or has to be known.
    """

    id: str
    title: str
    task: str
    classes: list[str]
    question: str
    sensor: str | None
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int
    total: int
    message: str
    counts: dict[str, int]
    created: float
    results: dict[str, str]


class JobList(BaseModel):
    """The jobs of one's key, the newest first."""

    data: list[JobStatus]


class Model(BaseModel):
    """A model, as OpenAI lists it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "earthgpt"


class ModelList(BaseModel):
    """The models: one."""

    object: Literal["list"] = "list"
    data: list[Model]


def create_app(settings: Settings, assistant: EarthGPT) -> FastAPI:
    """The application around a model.

    Its state has ``engine`` and ``jobs`` while it runs. Raises EarthGPTError where jobs cannot be kept, and so does
    starting it.
    """
    metrics = Metrics()
    kept = settings.cache_bytes // 8
    reader = Reader(settings.limits, settings.fetch, jobs=settings.jobs is not None, cache_bytes=kept)
    if settings.jobs is not None:
        make_folder(settings.jobs).close()  # before anything is started

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        # A thread for every request that is open: most of them wait for the model.
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.most_waiting + settings.batch_size + 8
        engine = Engine(
            assistant.model,
            assistant.processor,
            settings.batch_size,
            most_waiting=settings.most_waiting,
            cache_bytes=settings.cache_bytes - kept,
            tasks=assistant.tasks,
        )
        jobs = None
        try:
            if settings.jobs is not None:
                jobs = Jobs(settings.jobs, engine, assistant, settings.most_jobs)
            metrics.watch(engine, reader, jobs)
            app.state.engine, app.state.jobs = engine, jobs
            app.state.assistant = BatchedEarthGPT(engine, settings.limits.seconds)
            yield
        finally:
            if jobs is not None:
                await anyio.to_thread.run_sync(jobs.close)
            await anyio.to_thread.run_sync(engine.close)

    app = FastAPI(
        title="EarthGPT", version=earthgpt.__version__, lifespan=life, docs_url=None, redoc_url=None,
        description="Ask optical, SAR and infrared images over HTTP.",
    )  # fmt: skip
    app.state.engine = app.state.jobs = None
    _errors(app)
    _pages(app, metrics)
    _chat(app, settings, reader)
    app.include_router(router(lambda: app.state.assistant, reader))
    # Without jobs nothing can be done with a scene that is larger than an image.
    scene_bytes = settings.limits.bytes if settings.jobs is None else settings.scene_bytes
    scene_pixels = settings.limits.pixels if settings.jobs is None else _SCENE_PIXELS
    app.include_router(page.router(reader, scene_pixels, scene_bytes))
    if settings.jobs is not None:
        _jobs(app, settings)
    else:

        @app.api_route("/v1/jobs{rest:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
        def no_jobs(rest: str) -> None:
            raise RefusedError("This server takes no large scenes; it would with: earthgpt serve --jobs FOLDER", 404)

    app.add_middleware(
        Shield,
        metrics=metrics,
        keys=settings.api_keys,
        rate=settings.rate,
        most_bytes=settings.limits.bytes + 2**20,
        larger={
            "/v1/jobs": settings.scene_bytes + 2**20,
            "/v1/preview": scene_bytes + 2**20,
            "/v1/chat/completions": settings.limits.bytes * 2 + 2**20,  # base64 is longer, and images are several
        },
        most_open=2 * settings.most_waiting,
        local=settings.local,
    )
    return app


def check_address(host: str, port: int) -> None:
    """Raises EarthGPTError where nothing can listen, before a model is loaded."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EarthGPTError(f"Cannot listen at {host}:{port}: {reason}. Name another --port or --host.") from None


def run(settings: Settings, assistant: EarthGPT, host: str, port: int) -> None:
    """Serves until it is told to stop; what is under way is then finished, in the time of an answer.

    Raises EarthGPTError where it cannot start.
    """
    import uvicorn

    config = uvicorn.Config(
        create_app(settings, assistant), host=host, port=port, server_header=False, log_level="info",
        timeout_graceful_shutdown=int(settings.limits.seconds) + 1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that it could not start; its log has the reason
        raise EarthGPTError(f"The server could not start at {host}:{port}.") from None


def _errors(app: FastAPI) -> None:
    """What is raised, as OpenAI's errors."""

    def told(status: int, message: str, kind: str, code: str | None = None, param: str | None = None, wait: float = 0):
        headers = {"Retry-After": str(max(1, round(wait)))} if wait else None
        return JSONResponse(chat.error_body(message, kind, code, param), status, headers)

    @app.exception_handler(EarthGPTError)
    async def ours(request: Request, error: EarthGPTError) -> Response:
        code = "context_length_exceeded" if isinstance(error, TooLongError) else None
        return told(getattr(error, "status", 400), str(error), "invalid_request_error", code)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        return told(503, str(error), "server_error", "overloaded", wait=error.wait_s)

    @app.exception_handler(TimeoutError)
    async def late(request: Request, error: TimeoutError) -> Response:
        return told(504, "The answer took too long.", "server_error", "timeout")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = max(error.errors(), key=lambda one: len(one["loc"]))  # of what may be one thing or another: the nearest
        if first["type"] == "json_invalid":
            reason = first.get("ctx", {}).get("error", "it cannot be read")
            return told(400, f"The body is no JSON: {reason} (character {first['loc'][-1]}).", "invalid_request_error")
        # Without what pydantic calls the kinds that a value may be of.
        param = ".".join(str(part) for part in first["loc"][1:] if "[" not in str(part))
        if "UploadFile" in first["msg"]:
            return told(
                400, f"{param} is a file, and text came: curl -F {param}=@FILE.", "invalid_request_error", param=param
            )
        return told(400, f"{param or 'body'}: {first['msg']}", "invalid_request_error", param=param or None)

    @app.exception_handler(AnyHTTPException)
    async def other(request: Request, error: AnyHTTPException) -> Response:
        reply = told(error.status_code, str(error.detail), "invalid_request_error")
        reply.headers.update(error.headers or {})
        return reply


def _pages(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return _page("EarthGPT: the API", _described(app.openapi()))

    @app.get("/health", tags=["server"])
    async def health() -> dict[str, str]:
        """Whether the server runs."""
        return {"status": "ok"}

    @app.get("/ready", tags=["server"], responses={503: {"description": "Not yet, or no more."}})
    async def ready() -> Response:
        """Whether it takes questions: the model is loaded, and its threads and that of the jobs live."""
        engine, jobs = app.state.engine, app.state.jobs
        alive = engine is not None and engine.alive and (jobs is None or jobs.alive)
        return JSONResponse({"status": "ready" if alive else "not ready"}, 200 if alive else 503)

    @app.get("/metrics", tags=["server"], response_class=Response)
    def told() -> Response:
        """What Prometheus reads."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _chat(app: FastAPI, settings: Settings, reader: Reader) -> None:
    model = Model(id=settings.name, created=int(time.time()))

    @app.get("/v1/models", tags=["chat"])
    async def models() -> ModelList:
        """The model that answers."""
        return ModelList(data=[model])

    @app.get("/v1/models/{name:path}", tags=["chat"])
    async def one(name: str) -> Model:
        """The model by its name."""
        _named(name)
        return model

    @app.post("/v1/chat/completions", tags=["chat"])
    async def completions(asked: chat.ChatRequest, http: Request) -> Any:
        """The next message of a conversation about images, as OpenAI's API has it."""
        _named(asked.model)
        answering = chat.Answering()
        request = await anyio.to_thread.run_sync(chat.begin, app.state.engine, asked, reader, answering)
        if asked.stream:
            return StreamingResponse(chat.streamed(request, answering, asked), media_type="text/event-stream")
        gone = asyncio.create_task(_gone(http, request))
        try:
            return await chat.whole(request, answering, asked)
        finally:
            gone.cancel()

    def _named(name: str) -> None:
        if name != settings.name:
            raise RefusedError(f"There is no model {name[:200]!r} here, but {settings.name!r}.", 404)


async def _gone(http: Request, request: Any) -> None:
    """Ends the answer of a client that leaves."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
    request.cancelled = True


def _jobs(app: FastAPI, settings: Settings) -> None:
    def of(ticket: Ticket) -> JobStatus:
        results = {kind: f"/v1/jobs/{ticket.id}/result?format={kind}" for kind in FORMATS}
        told = {
            name: getattr(ticket, name)
            for name in ("id", "title", "sensor", "state", "done", "total", "message", "counts", "created")
        }
        asked = {name: ticket.job[name] for name in ("task", "classes", "question")}
        return JobStatus(results=results if ticket.state == "done" else {}, **asked, **told)

    def mine(request: Request, name: str) -> Ticket:
        ticket = app.state.jobs.find(name, request.scope.get("owner", ""))
        if ticket is None:
            raise RefusedError("There is no such job.", 404)
        return ticket

    @app.post("/v1/jobs", status_code=202, tags=["jobs"], dependencies=[Depends(no_other_fields)])
    def submit(
        request: Request,
        scene: Annotated[UploadFile, File(description="A GeoTIFF, or another image, of any size.")],
        task: Annotated[Literal["detect", "classify", "caption", "ask"], Form()] = "detect",
        classes: Annotated[str | None, Form(max_length=20_000, description="Names with commas; all without.")] = None,
        question: Annotated[str | None, Form(max_length=2000, description="For the task ask.")] = None,
        oriented: Annotated[bool, Form()] = False,
        tile: Annotated[int | None, Form(ge=64, le=8192, description="Side of a tile in pixels.")] = None,
        sensor: Taken = None,
    ) -> JobStatus:
        """Goes through a large scene in tiles; the reply says under which name."""
        if (task == "ask") != (question is not None):
            raise RefusedError("The task ask has a question, and no other has.")
        if classes is not None and task not in ("detect", "classify"):
            raise RefusedError(f"The task {task} has no classes.")
        if oriented and task != "detect":
            raise RefusedError(f"The task {task} has no boxes: leave out oriented.")
        wanted = {
            "task": task, "classes": names_of(classes) or (), "question": cleaned(question) or "",
            "oriented": oriented, "model": settings.name,
        }  # fmt: skip

        def save(folder: Path) -> Path:
            path = save_upload(scene.file, folder, settings.scene_bytes)
            examine(path, _SCENE_PIXELS if path.suffix == ".tif" else settings.limits.pixels)
            return path

        title = "".join(one for one in (scene.filename or "").rpartition("/")[2][:100] if one.isprintable())
        sensor = sensor_named(scene.filename, sensor)
        return of(app.state.jobs.submit(save, wanted, sensor, tile, request.scope.get("owner", ""), title))

    @app.get("/v1/jobs", tags=["jobs"])
    def jobs(request: Request) -> JobList:
        """The jobs of one's key."""
        return JobList(data=[of(one) for one in app.state.jobs.all(request.scope.get("owner", ""))])

    @app.get("/v1/jobs/{name}", tags=["jobs"])
    def job(request: Request, name: str) -> JobStatus:
        """How far a job is."""
        return of(mine(request, name))

    @app.post("/v1/jobs/{name}/cancel", tags=["jobs"])
    def cancel(request: Request, name: str) -> JobStatus:
        """Ends a job; one that has ended stays as it is."""
        return of(app.state.jobs.cancel(mine(request, name)))

    @app.delete("/v1/jobs/{name}", status_code=204, tags=["jobs"])
    def delete(request: Request, name: str) -> None:
        """Ends a job and removes its scene and results."""
        app.state.jobs.delete(mine(request, name))

    @app.get("/v1/jobs/{name}/scene", tags=["jobs"], response_class=FileResponse)
    def sent(request: Request, name: str) -> FileResponse:
        """The scene that was sent."""
        path = app.state.jobs.scene(mine(request, name))
        return FileResponse(path, media_type=media_type(path))

    @app.get("/v1/jobs/{name}/result", tags=["jobs"], response_class=FileResponse)
    def result(
        request: Request, name: str, format: Annotated[Literal["geojson", "gpkg", "csv", "kml"], Query()] = "geojson"
    ) -> FileResponse:
        """What was found, as map features."""
        ticket = mine(request, name)
        if ticket.state != "done":
            raise RefusedError(f"The job is {ticket.state}; it has no result.", 409)
        kind, ending = FORMATS[format]
        return FileResponse(app.state.jobs.result(ticket, format), media_type=kind, filename=f"{name}{ending}")


def _page(title: str, body: str) -> HTMLResponse:
    style = (
        ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;"
        "padding:0 1rem}code,td:first-child{font-family:monospace}td{padding:.1rem .8rem .1rem 0;vertical-align:top}"
    )
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>"
    )


def _described(schema: dict[str, Any]) -> str:
    """The schema as a page without scripts: every endpoint with its fields."""
    parts = ['<p>The whole <a href="openapi.json">schema</a> is in the form of OpenAPI.</p>']
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(told.get('description', ''))}</p>")
            rows = "".join(_row(*field) for field in _fields(told, schema))
            parts.append(f"<table>{rows}</table>" if rows else "")
    return "".join(parts)


def _fields(told: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, bool, dict[str, Any]]]:
    fields = [(one["name"], one.get("required", False), one["schema"]) for one in told.get("parameters", ())]
    for content in told.get("requestBody", {}).get("content", {}).values():
        body = _resolved(content["schema"], schema)
        fields += [(name, name in body.get("required", ()), one) for name, one in body.get("properties", {}).items()]
    return fields


def _resolved(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    return schema["components"]["schemas"][value["$ref"].rpartition("/")[2]]


def _row(name: str, required: bool, value: dict[str, Any]) -> str:
    kinds = [one.get("type") or one.get("$ref", "").rpartition("/")[2] for one in value.get("anyOf", [value])]
    said = [" or ".join(filter(None, kinds)), value.get("description", ""), "required" if required else ""]
    return f"<tr><td>{html.escape(name)}</td><td>{html.escape('; '.join(filter(None, said)))}</td></tr>"

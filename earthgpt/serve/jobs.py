"""Large scenes: a folder for each job, gone through one after the other; what is done survives a killed server."""

from __future__ import annotations

import fcntl
import inspect
import json
import logging
import math
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from earthgpt import scenes
from earthgpt.assistant import EarthGPT
from earthgpt.cards import made_with
from earthgpt.files import whole_file
from earthgpt.geo.place import Place
from earthgpt.geo.placing import Feature
from earthgpt.geo.scene import open_scene
from earthgpt.geo.vectors import open_writer
from earthgpt.model.compiled import Compiled
from earthgpt.serve.engine import Engine
from earthgpt.serve.guard import unnamed, without_place
from earthgpt.serve.requests import BusyError
from earthgpt.types import EarthGPTError

FORMATS = {
    "geojson": ("application/geo+json", ".geojson"),
    "gpkg": ("application/geopackage+sqlite3", ".gpkg"),
    "csv": ("text/csv", ".csv"),
    "kml": ("application/vnd.google-earth.kml+xml", ".kml"),
}
_IDENTITY = re.compile(r"[0-9a-f]{32}")
_MOST_TILES = 250_000
_BATCH = 4  # tiles that the model looks at before it turns to other requests
_log = logging.getLogger("earthgpt.serve")


@dataclass(frozen=True)
class Ticket:
    """A job as it stands.

    state: "queued", "running", "done", "failed" or "cancelled". done, total: tiles. message: what went wrong, or what a
    reader of the result has to know. counts: how many of each class or answer, once it is done. owner: a digest of the
    key that sent it. created: seconds since 1970. scene: the name of the file in the folder of the job. title: what
    the sender calls the scene, words and no path.
    """

    id: str
    job: dict[str, Any]
    scene: str
    state: str = "queued"
    done: int = 0
    total: int = 0
    message: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    sensor: str | None = None
    owner: str = ""
    created: float = 0.0
    title: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class _StoppedError(Exception):
    """The job goes on no further now."""


def make_folder(folder: Path) -> TextIO:
    """Makes the folder of jobs, and locks it until what it returns is closed. Raises EarthGPTError where that cannot
    be, and where another server has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise EarthGPTError(f"Cannot write the jobs to {folder}: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise EarthGPTError(f"Another server has the jobs of {folder}; give this one its own --jobs.") from None
    except OSError as error:
        lock.close()
        raise EarthGPTError(f"Cannot lock the jobs in {folder}: {error.strerror}.") from None
    return lock


class Jobs:
    """The jobs in a folder, and the thread that goes through them; tiles are looked at in the model's thread, a few at
    a time between the steps of other requests.

    Raises EarthGPTError where another server has the folder, or it cannot be written.
    """

    def __init__(self, folder: Path, engine: Engine, assistant: EarthGPT, most: int = 100) -> None:
        self.folder, self.engine, self.assistant, self.most = folder, engine, assistant, most
        self._lock = make_folder(folder)
        self._changed = threading.Condition()
        self._closing = False
        self._tickets: dict[str, Ticket] = {}
        for one in sorted(folder.iterdir()):
            if one.name.startswith(".new-"):
                shutil.rmtree(one)  # an upload that never became a job, or a job that was being deleted
            elif _IDENTITY.fullmatch(one.name):
                self._tickets[one.name] = self._read(one)
        self._thread = threading.Thread(target=self._loop, name="jobs", daemon=True)
        self._thread.start()

    def _read(self, folder: Path) -> Ticket:
        try:
            ticket = Ticket(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise EarthGPTError(f"{folder} is no job of this version ({error}): remove it, or move it away.") from None
        # What was running when the server died waits again; its record says which tiles are done.
        return replace(ticket, state="queued") if ticket.state == "running" else ticket

    def submit(
        self,
        save: Callable[[Path], Path],
        wanted: dict[str, Any],
        sensor: str | None,
        tile: int | None,
        owner: str,
        title: str = "",
    ) -> Ticket:
        """A new job. ``save`` puts the scene into a folder and returns its path; ``wanted`` is for ``scenes.Job``.

        Raises BusyError where there are too many jobs, and EarthGPTError for a scene that cannot be opened.
        """
        with self._changed:
            self._refuse_more()
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            path = save(fresh)
            with unnamed(path, "The scene"):
                scene = open_scene(path, sensor)
                side = tile or scenes.tile_for(scene, self.assistant.processor.image_size)
            job = scenes.Job(tile=max(scenes.LEAST_TILE, min(side, max(scene.size))), **wanted)
            if job.task == "detect":
                job = replace(job, overlap=job.tile // 4)
            if math.prod(math.ceil(length / (job.tile - job.overlap)) for length in scene.size) > _MOST_TILES:
                raise EarthGPTError(f"Tiles of {job.tile} pixels are too many here; make them larger.")
            name = secrets.token_hex(16)
            total = sum(1 for _ in scenes.plan(job, scene.size))
            ticket = Ticket(
                name, asdict(job), path.name, total=total, sensor=sensor, owner=owner,
                created=round(time.time(), 3), title=title,
            )  # fmt: skip
            _write(fresh / "job.json", ticket)
            with self._changed:
                self._refuse_more()
                fresh.rename(self.folder / name)
                self._tickets[name] = ticket
                self._changed.notify_all()
            return ticket
        finally:
            shutil.rmtree(fresh, ignore_errors=True)  # gone already where it became a job

    def _refuse_more(self) -> None:
        """Raises BusyError where there are too many jobs, and where the server stops."""
        if self._closing:
            raise BusyError("The server is shutting down.", 5.0)
        if len(self._tickets) >= self.most:
            raise BusyError(f"There are {self.most} jobs here; delete some that are done.", 60.0)

    @property
    def alive(self) -> bool:
        """Whether jobs are gone through."""
        return self._thread.is_alive() and not self._closing

    @property
    def waiting(self) -> int:
        """How many jobs have not begun."""
        return sum(1 for one in list(self._tickets.values()) if one.state == "queued")

    def all(self, owner: str) -> list[Ticket]:
        """Those of an owner, the newest first."""
        mine = [one for one in list(self._tickets.values()) if one.owner == owner]
        return sorted(mine, key=lambda one: one.created, reverse=True)

    def find(self, name: str, owner: str) -> Ticket | None:
        """None where the owner has no such job."""
        ticket = self._tickets.get(name)
        return ticket if ticket and ticket.owner == owner else None

    def cancel(self, ticket: Ticket) -> Ticket:
        """Ends a job that has not ended; what is done of it stays until it is deleted."""
        with self._changed:
            found = self._tickets.get(ticket.id)
            if found is None:
                return replace(ticket, state="cancelled")  # deleted meanwhile
            return found if found.ended else self._set(replace(found, state="cancelled"))

    def delete(self, ticket: Ticket) -> None:
        """Ends a job and removes all of it."""
        gone = self.folder / f".new-{ticket.id}"  # whole or not there, where the server is killed or the job runs
        with self._changed:
            if self._tickets.pop(ticket.id, None):
                os.replace(self.folder / ticket.id, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def result(self, ticket: Ticket, kind: str) -> Path:
        """The file of what was found. Raises EarthGPTError where the format cannot hold it."""
        path = self.folder / ticket.id / f"result{FORMATS[kind][1]}"
        if not path.exists():
            refused = json.loads((self.folder / ticket.id / "refused.json").read_text(encoding="utf-8"))
            raise EarthGPTError(f"This job has no result as {kind}: {refused.get(kind, 'not written')}")
        return path

    def scene(self, ticket: Ticket) -> Path:
        """The file that was sent."""
        return self.folder / ticket.id / ticket.scene

    def close(self) -> None:
        """Stops after the batch of tiles that is looked at; jobs that are left go on with the next server."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._lock.close()

    def _set(self, ticket: Ticket) -> Ticket:
        _write(self.folder / ticket.id / "job.json", ticket)
        self._tickets[ticket.id] = ticket
        return ticket

    def _loop(self) -> None:
        while True:
            with self._changed:
                waiting = [one for one in self._tickets.values() if one.state == "queued"]
                if self._closing:
                    return
                if not waiting:
                    self._changed.wait()
                    continue
                ticket = replace(min(waiting, key=lambda one: one.created), state="running")
                self._tickets[ticket.id] = ticket
            try:
                self._go_through(self._update(ticket.id))
            except (_StoppedError, BusyError):
                continue  # cancelled, deleted, or for the next server
            except Exception as error:
                with suppress(_StoppedError):
                    self._fail(ticket, error)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """Says of a job what went wrong. Raises as ``_update`` does."""
        told = f"{type(error).__name__}: a fault of ours."
        if isinstance(error, EarthGPTError):
            told = without_place(str(error), self.scene(ticket), "The scene")
        with self._changed:
            try:
                self._update(ticket.id, state="failed", message=told)
            except OSError:  # it cannot be written: the next server tries the job again
                self._tickets[ticket.id] = replace(self._tickets[ticket.id], state="failed", message=told)
        if not isinstance(error, EarthGPTError):
            _log.error("A job failed.", exc_info=error)

    def _update(self, name: str, **changes: Any) -> Ticket:
        """Raises _StoppedError for a job that was cancelled or deleted meanwhile, and when the server stops."""
        with self._changed:
            ticket = self._tickets.get(name)
            if ticket is None or ticket.state != "running" or self._closing:
                raise _StoppedError
            return self._set(replace(ticket, **changes))

    def _go_through(self, ticket: Ticket) -> None:
        folder = self.folder / ticket.id
        job = scenes.Job(**{name: _tuples(value) for name, value in ticket.job.items()})
        scene = open_scene(folder / ticket.scene, ticket.sensor)

        def told(done: int, total: int) -> None:
            self._update(ticket.id, done=done, total=total)

        assistant = _Shared(self.assistant, self.engine)
        found = scenes.scan(assistant, scene, job, folder / "tiles.jsonl", _BATCH, told)
        refused = _write_all(folder, found.features, scene, made_with(job.model))
        (folder / "refused.json").write_text(json.dumps(refused), encoding="utf-8")
        notes = " ".join(without_place(note, folder / ticket.scene, "The scene") for note in scene.notes)
        if job.task == "detect" and (guessed := self.assistant.unknown(job.classes, scene.sensor)):
            notes = f"The detector was not trained to find {', '.join(guessed)}: these are guesses. {notes}".strip()
        counts = dict(found.counts.most_common(1000))
        self._update(ticket.id, state="done", message=notes, counts=counts)


class _Shared:
    """An assistant whose model answers in the thread that it shares with all requests."""

    def __init__(self, assistant: EarthGPT, engine: Engine) -> None:
        self.processor, self.tasks = assistant.processor, assistant.tasks
        self.model = _Model(assistant.model, engine)


class _Model:
    """A model, or its compiled passes, that is called in the engine's thread. It goes without captured passes, of
    which a part would be in another thread."""

    captured = False

    def __init__(self, model: Any, engine: Engine) -> None:
        self._model, self._engine = model, engine

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if isinstance(found, Compiled):
            return _Model(found, self._engine)
        if not inspect.isroutine(found):
            return found
        return lambda *inputs, **options: self._engine.run(lambda: found(*inputs, **options))

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self._engine.run(lambda: self._model(*inputs, **options))


def _write_all(folder: Path, features: list[Feature], scene: Any, common: dict[str, str]) -> dict[str, str]:
    """Writes every format; returns those that cannot hold these features, and why."""
    refused = {}
    place: Place = scene.place
    for kind, (_, ending) in FORMATS.items():
        if kind == "kml" and not (place.crs and place.on_earth):
            refused[kind] = "the scene has no place on Earth."
            continue
        with open_writer(folder / f"result{ending}", scene, properties=common, overwrite=True, style=False) as writer:
            writer.add(features)
    return refused


def _write(path: Path, ticket: Ticket) -> None:
    """Complete or not at all, and on the disk when it returns."""
    with whole_file(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        json.dump(asdict(ticket), file)
        file.flush()
        os.fsync(file.fileno())


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

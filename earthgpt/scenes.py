"""Large scenes: any task over tiles of a raster of any size, resumed where it was, and put together as map features."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from earthgpt.assistant import EarthGPT, load
from earthgpt.files import named
from earthgpt.generation import Answer, choice_probabilities, generate
from earthgpt.geo.areas import Area, Outlines, to_pixels, window_of
from earthgpt.geo.merging import Detections, detections, merge
from earthgpt.geo.placing import Feature, Layer
from earthgpt.geo.raster import Raster
from earthgpt.geo.scene import Scene
from earthgpt.geo.tiles import Window, tile_side, windows
from earthgpt.grammar import Grammar
from earthgpt.metrics.accuracy import number
from earthgpt.perception import Seen, deduce, known_scenes
from earthgpt.tasks import (
    image_captioning,
    object_detection,
    region_captioning,
    scene_classification,
    visual_question_answering,
)
from earthgpt.types import Box, Conversation, EarthGPTError, OrientedBox, Point, Region, Size

LEAST_TILE = 16  # pixels a side
MOST_ROWS = 64  # questions that are answered together
VALID = 0.1  # a detection of which less than this lies on valid pixels is dropped


TaskName = Literal["detect", "classify", "caption", "ask"]


@dataclass(frozen=True)
class Job:
    """What is asked about every tile of a scene.

    task: detections, or a class, a caption or an answer for each tile. classes: that are looked for, or chosen from;
    empty means all that the model knows. question: of "ask". oriented: boxes with an angle. min_score: objects with a
    lower score are left out. steps: what is asked before boxes are (``ObjectDetection.steps``). constrained: as of
    ``EarthGPT``.
    tile: side in pixels of the scene; the model sees a tile as it sees an image. overlap: pixels that neighbours share;
        0 for what is said of each tile. scales: tile sides as multiples of ``tile``, each gone through (detections).
    area: the window of the scene that is looked at, (left, top, width, height); None means all. outlines: rings in
        pixels; tiles that touch none are left out, and so are objects with their middle outside. model: its name.
    """

    task: TaskName
    tile: int
    overlap: int = 0
    classes: tuple[str, ...] = ()
    question: str = ""
    oriented: bool = False
    min_score: float = 0.0
    steps: tuple[str, ...] = ()
    scales: tuple[float, ...] = (1.0,)
    area: Window | None = None
    outlines: tuple[tuple[Point, ...], ...] = ()
    model: str = ""
    constrained: bool = True

    def __post_init__(self) -> None:
        if self.task not in get_args(TaskName):
            raise EarthGPTError(f"A task of a scene is one of {', '.join(get_args(TaskName))}, not {self.task!r}.")
        if isinstance(self.classes, str):
            raise EarthGPTError(f"Classes are a tuple of names, not one text: ({self.classes!r},).")
        if self.tile < LEAST_TILE:
            raise EarthGPTError(f"A tile has at least {LEAST_TILE} pixels a side, not {self.tile}.")
        if not 0 <= self.overlap < self.tile:
            raise EarthGPTError(f"The overlap of tiles of {self.tile} pixels is less than that, not {self.overlap}.")
        if self.task != "detect" and (self.overlap or self.scales != (1.0,)):
            raise EarthGPTError("Only detections are merged: other tasks go without overlap and scales.")
        if not 0 <= self.min_score <= 1:
            raise EarthGPTError(f"A score is from 0 to 1, not {self.min_score}.")
        object_detection.TASK.steps(self.steps, None, self.oriented)  # raises for what is no step


@dataclass(frozen=True)
class Tile:
    """A window of the scene, and the cell of the map that what is said of it stands for: cells do not overlap."""

    window: Window
    cell: Window


def plan(job: Job, size: Size) -> Iterator[Tile]:
    """The tiles of a scene of ``size`` (width, height), scale by scale and row by row; they cover all of the area."""
    left, top, width, height = job.area or (0, 0, *size)
    outlines = Outlines(job.outlines) if job.outlines else None
    for scale in job.scales:
        tile, overlap = max(LEAST_TILE, round(scale * job.tile)), round(scale * job.overlap)
        for x, y, w, h in windows((width, height), tile, overlap):
            (cell_x, cell_w), (cell_y, cell_h) = (
                _cell_of(start, side, length, tile - overlap) for start, side, length in ((x, w, width), (y, h, height))
            )
            tile_here = Tile((left + x, top + y, w, h), (left + cell_x, top + cell_y, cell_w, cell_h))
            if outlines is None or outlines.touch(tile_here.cell):
                yield tile_here


def _cell_of(start: int, side: int, length: int, step: int) -> tuple[int, int]:
    """Where the cell of a window begins along one axis, and how long it is: up to where the next one begins."""
    begins = math.ceil(start / step) * step  # the last window of a row moves inwards, its cell does not
    ends = length if start + side == length else begins + step
    return begins, ends - begins


@dataclass
class Findings:
    """What was found in a scene.

    features: detections, or the cell of each tile with what was said of it. counts: of each class, or each answer.
    tiles: looked at. empty: left out because no pixel of them is valid. total: the sum of answers that are numbers,
    None without any. area_km2: of the valid pixels, None where the scene has no place on Earth. seconds: of this run.
    """

    features: list[Feature]
    counts: Counter
    tiles: int
    empty: int
    total: float | None
    area_km2: float | None
    seconds: float

    @property
    def density(self) -> dict[str, float]:
        """Objects for each square kilometre, by class; empty where the area is not known."""
        return {label: count / self.area_km2 for label, count in self.counts.items()} if self.area_km2 else {}


def scan(
    assistant: EarthGPT,
    scene: Scene,
    job: Job,
    record: str | Path | None = None,
    batch_size: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Findings:
    """Goes through the tiles of a scene, and puts together what was said.

    record: a file that keeps the answer of each tile as it comes; a run that was stopped goes on from there, and no
    tile is asked twice. None keeps them in memory. ``progress`` is told how many of how many tiles are done.
    Memory holds a batch of tiles and what was found, however large the scene.
    Raises EarthGPTError when the record is of another job.
    """
    return collect(scene, job, _through(assistant, scene, job, record, batch_size, progress))


def _through(assistant, scene, job, record, batch_size, progress) -> Record:
    kept = Record(record, scene, job)
    tiles = {tile.window: tile for tile in plan(job, scene.size)}
    left = map(tiles.get, scene.in_reading_order([window for window in tiles if window not in kept.done]))
    total = len(tiles)
    progress(len(kept.done), total)
    with kept, ThreadPoolExecutor(1) as reader:  # the next tiles are read while the model looks at these
        batches = iter(lambda: list(islice(left, batch_size)), [])
        for batch, shown in _ahead(reader, batches, lambda batch: [_shown(assistant, scene, one) for one in batch]):
            kept.add(look(assistant, job, batch, shown))
            progress(len(kept.done), total)
    return kept


def each(
    assistant: EarthGPT,
    job: Job,
    sources: Iterable[Any],
    opened: Callable[[Any], Raster | tuple[Scene, Window | None]],
    batch_size: int = 16,
) -> Iterator[tuple[Any, str, float | None, str]]:
    """Each image, or its window, seen whole: the source, what was said, its score, and what went wrong; in order.

    job: what is asked, of ``classify``, ``caption`` and ``ask``; its tiles do not count. opened: the raster of a
    source, or its scene and a window of it. What it raises as EarthGPTError is told of that image alone. The next
    images are read while the model looks at these.
    """

    def read(batch: list) -> list[tuple[Tile, Shown] | EarthGPTError]:
        found: list[tuple[Tile, Shown] | EarthGPTError] = []
        for source in batch:
            try:
                one = opened(source)
                if isinstance(one, Raster):
                    window = (0, 0, *one.size)
                    square = assistant.processor.square(one.pixels, one.sensor)
                    shown = Shown(one, square, one.size[0] * one.size[1], None)
                else:
                    scene, window = one
                    window = window or (0, 0, *scene.size)
                    shown = replace(_shown(assistant, scene, Tile(window, window)), valid=None)
                found.append((Tile(window, window), shown))
            except EarthGPTError as error:
                found.append(error)
        return found

    left = iter(sources)
    batches = iter(lambda: list(islice(left, batch_size)), [])
    with ThreadPoolExecutor(1) as reader:
        for batch, found in _ahead(reader, batches, read):
            there = [one for one in found if isinstance(one, tuple)]
            rows = iter(look(assistant, job, *zip(*there, strict=True)) if there else ())
            for source, one in zip(batch, found, strict=True):
                row = next(rows) if isinstance(one, tuple) else {}
                if "said" in row:
                    yield source, row["said"], row["score"], ""
                else:
                    yield source, "", None, "no valid pixel" if row else str(one)


def scan_on_ray(
    model: str,
    scene: Scene,
    job: Job,
    record: str | Path | None = None,
    batch_size: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 2,
) -> Findings:
    """``scan`` by ``workers`` processes of Ray Data, on this machine or on the cluster that Ray is connected to.

    model: a name, folder or hub id, which every worker loads; it and the raster are found under the same path on every
    machine. A worker that is lost is replaced, and its tiles are asked again: the record takes each once.
    Raises EarthGPTError where Ray is not installed, and as ``scan`` does.
    """
    try:
        import ray
    except ImportError:
        raise EarthGPTError("This engine needs Ray: pip install 'earthgpt[ray]'.") from None
    kept = Record(record, scene, job)
    tiles = {tile.window: tile for tile in plan(job, scene.size)}
    progress(len(kept.done), len(tiles))
    left = [
        {"window": list(window), "cell": list(one.cell)} for window, one in tiles.items() if window not in kept.done
    ]
    with kept:
        if left:
            asked = ray.data.from_items(left, override_num_blocks=max(1, math.ceil(len(left) / batch_size)))
            found = asked.map_batches(
                _Worker,
                fn_constructor_args=(model, scene, job),
                batch_size=batch_size,
                compute=ray.data.ActorPoolStrategy(size=workers),
            )
            for row in found.iter_rows():
                kept.add([json.loads(row["row"])])
                progress(len(kept.done), len(tiles))
    return collect(scene, job, kept)


class _Worker:
    """One process of Ray Data: windows in, rows of the record out."""

    def __init__(self, model: str, scene: Scene, job: Job):
        self.assistant, self.scene, self.job = load(model), scene, job

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        pairs = zip(batch["window"], batch["cell"], strict=True)
        tiles = [Tile(tuple(map(int, window)), tuple(map(int, cell))) for window, cell in pairs]
        shown = [_shown(self.assistant, self.scene, tile) for tile in tiles]
        return {"row": [json.dumps(row) for row in look(self.assistant, self.job, tiles, shown)]}


def _ahead(reader: ThreadPoolExecutor, batches: Iterable[list], read: Callable[[list], Any]) -> Iterator[tuple]:
    """Each batch with what is read for it, one batch ahead."""
    waiting = None
    for batch in batches:
        following = batch, reader.submit(read, batch)
        if waiting:
            yield waiting[0], waiting[1].result()
        waiting = following
    if waiting:
        yield waiting[0], waiting[1].result()


@dataclass
class Record:
    """The answers of tiles, in memory or as lines of a file that grows; the first line says of which job they are."""

    path: str | Path | None
    scene: Scene
    job: Job
    rows: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.path = Path(self.path) if self.path else None
        self.file = None
        scene, place = self.scene, Path(self.scene.name)
        about = {
            "scene": place.name,
            "size": list(scene.size),
            "modified": place.stat().st_mtime if place.exists() else None,
            "sensor": scene.sensor,
            "bands": [[band.name, band.number] for band in scene.shown],
            "stretch": repr(scene.stretches),
            "reading": scene.reading,
            "job": asdict(self.job),
        }
        about = json.loads(json.dumps(about))
        windows: set[tuple[int, ...]] = set()
        if self.path and self.path.exists():
            lines = self.path.read_bytes().split(b"\n")
            torn = lines.pop()  # empty, or what a killed run had begun to write
            if torn:
                with self.path.open("r+b") as file:
                    file.truncate(self.path.stat().st_size - len(torn))
            try:
                first, *self.rows = map(json.loads, lines) if lines else [about]
                windows = {tuple(row["window"]) for row in self.rows}
            except (ValueError, KeyError, TypeError):
                raise EarthGPTError(f"{self.path} is damaged: remove it, and all tiles are asked again.") from None
            if first != about:
                raise EarthGPTError(
                    f"{self.path} is of another job, or the scene was changed or is read another way; remove it, or "
                    f"choose another output."
                )
        self.done = windows
        if self.path:
            try:
                self.file = self.path.open("a", encoding="utf-8")
            except OSError as error:
                raise EarthGPTError(f"Cannot write {self.path}: {error.strerror}.") from None
            if self.path.stat().st_size == 0:
                self.file.write(json.dumps(about) + "\n")

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *failure) -> None:
        if self.file:
            with named(self.path):
                self.file.close()

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Keeps answers; what is in the file when this returns survives a killed process."""
        with named(self.path):
            for row in rows:
                window = tuple(row["window"])
                if window in self.done:  # a worker that came back says the same again
                    continue
                self.rows.append(row)
                self.done.add(window)
                if self.file:
                    self.file.write(json.dumps(row) + "\n")
            if self.file:
                self.file.flush()


# --- one batch of tiles ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A tile, and the square that the language model sees, uint8 [S, S, 3]; how many of its pixels are valid, and
    which, bool [h, w], None where all are."""

    raster: Raster
    square: np.ndarray
    count: int
    valid: np.ndarray | None


def _shown(assistant: EarthGPT, scene: Scene, tile: Tile) -> Shown:
    pixels, valid = scene.window(*tile.window)
    square = assistant.processor.square(pixels, scene.sensor)
    raster, count = Raster(pixels, tile.window[2:], scene.sensor, scene.name), int(np.count_nonzero(valid))
    return Shown(raster, square, count, None if count == valid.size else valid)


def look(assistant: EarthGPT, job: Job, tiles: Sequence[Tile], shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """What the model says of tiles, as rows of the record; nothing of those without a valid pixel."""
    rows = [
        {"window": list(tile.window), "cell": list(tile.cell), "valid": one.count}
        for tile, one in zip(tiles, shown, strict=True)
    ]
    asked = [i for i, row in enumerate(rows) if row["valid"]]
    if not asked:
        return rows
    answer = {"detect": _detect, "classify": _classify, "caption": _say, "ask": _say}[job.task]
    found = answer(assistant, job, [tiles[i] for i in asked], [shown[i] for i in asked])
    for i, said in zip(asked, found, strict=True):
        rows[i] |= said
        if "objects" in said and shown[i].valid is not None:
            rows[i]["objects"] = [one for one in said["objects"] if _on_valid(one["corners"], shown[i].valid)]
    return rows


def _ask(
    assistant: EarthGPT,
    dialogues: Sequence[Sequence[str]],
    shown: Sequence[Shown],
    constrained: bool,
    grammars: Sequence[Grammar] | None = None,
) -> list[Answer]:
    """The answers to the last question of each dialogue about a tile; all have as many. constrained: where they follow
    from what is seen, they are that; the others are of ``grammars``, if any (``EarthGPT``)."""
    answers: list[Answer | None] = [None] * len(dialogues)
    if constrained:
        talks = [Conversation.of((one.raster,), texts[-1]) for one, texts in zip(shown, dialogues, strict=True)]
        answers = deduce(assistant.model, assistant.processor, talks, tasks=assistant.tasks)
    left = [i for i, answer in enumerate(answers) if answer is None]
    told: list[list[str]] = [[] for _ in left]
    said: list[Answer] = []
    for turn in range(len(dialogues[0]) if left else 0):
        for texts, i in zip(told, left, strict=True):
            texts.append(dialogues[i][turn])
        conversations = [Conversation.of((i,), *texts) for i, texts in zip(left, told, strict=True)]
        last = turn == len(dialogues[0]) - 1
        wanted = [grammars[i] for i in left] if grammars and constrained and last else None
        squares = [shown[i].square for i in left]
        said = generate(assistant.model, assistant.processor, conversations, squares, grammars=wanted)
        for texts, answer in zip(told, said, strict=True):
            texts.append(answer.text.strip())
    rest = iter(said)
    return [answer or next(rest) for answer in answers]


def _detect(assistant: EarthGPT, job: Job, tiles: Sequence[Tile], shown: Sequence[Shown]) -> list[dict]:
    task = object_detection.TASK
    found: list[dict] = [{"objects": []} for _ in tiles]
    pairs = [(i, label) for i in range(len(tiles)) for label in job.classes or (None,)]  # a tile is read once for all
    for start in range(0, len(pairs), MOST_ROWS):
        part = pairs[start : start + MOST_ROWS]
        dialogues = [
            [*task.steps(job.steps, label, job.oriented), task.question(label, job.oriented)] for _, label in part
        ]
        grammars = [task.grammar(label, job.oriented) for _, label in part]
        answers = _ask(assistant, dialogues, [shown[i] for i, _ in part], job.constrained, grammars)
        for (i, _), answer in zip(part, answers, strict=True):
            size = tiles[i].window[2:]
            for region, span in task.spans(answer.text, size):
                corners = [[round(x * size[0], 2), round(y * size[1], 2)] for x, y in region.box.corners]
                upright, score = isinstance(region.box, Box), round(answer.probability(*span), 4)
                if score < job.min_score:
                    continue
                found[i]["objects"].append(
                    {"label": region.label, "corners": corners, "upright": upright, "score": score}
                )
    return found


def _classify(assistant: EarthGPT, job: Job, tiles: Sequence[Tile], shown: Sequence[Shown]) -> list[dict]:
    task = scene_classification.TASK
    if not job.classes:
        answers = _ask(assistant, [[task.question()]] * len(tiles), shown, job.constrained)
        return [{"said": answer.text.strip(), "score": round(answer.probability(), 4)} for answer in answers]
    model, processor, found = assistant.model, assistant.processor, []
    heads = job.constrained and model.dense_heads is not None
    seen = Seen.together(model, processor, [one.raster for one in shown]) if heads else [None] * len(shown)
    asked = task.listed(job.classes, known_scenes(model))
    conversation = Conversation.of((0,), task.question(asked))
    for one, facts in zip(shown, seen, strict=True):
        likely = facts and facts.choose(job.classes)
        likely = likely or choice_probabilities(model, processor, conversation, [one.square], asked)
        best = int(np.argmax(likely))
        found.append({"said": job.classes[best], "score": round(likely[best], 4)})
    return found


def _say(assistant: EarthGPT, job: Job, tiles: Sequence[Tile], shown: Sequence[Shown]) -> list[dict]:
    asks = job.task == "ask"
    question = visual_question_answering.TASK.question(job.question) if asks else image_captioning.TASK.question()
    answers = _ask(assistant, [[question]] * len(tiles), shown, job.constrained)
    return [{"said": answer.text.strip(), "score": round(answer.probability(), 4)} for answer in answers]


def _on_valid(corners: Sequence[Sequence[float]], valid: np.ndarray) -> bool:
    """Whether enough of an object's hull lies on valid pixels of its tile."""
    (left, top), (right, bottom) = np.floor(np.min(corners, axis=0)), np.ceil(np.max(corners, axis=0))
    part = valid[max(0, int(top)) : max(1, int(bottom)), max(0, int(left)) : max(1, int(right))]
    return bool(part.size) and part.mean() >= VALID


# --- all tiles ---------------------------------------------------------------------------------------------------


def collect(scene: Scene, job: Job, record: Record) -> Findings:
    """Puts the answers of all tiles together: detections merged across seams, or the cells of a map."""
    order = {tile.window: i for i, tile in enumerate(plan(job, scene.size))}
    rows = sorted(record.rows, key=lambda row: order[tuple(row["window"])])
    asked = [row for row in rows if row["valid"]]
    if job.task == "detect":
        features = _features(merge(_detections(asked, scene.size)), scene.size)
    else:
        features = [_cell(row, scene.size) for row in asked]
    outlines = Outlines(job.outlines) if job.outlines and job.task == "detect" else None
    if outlines:
        width, height = scene.size
        middles = [feature.region.box.center for feature in features]
        inside = [outlines.hold((x * width, y * height)) for x, y in middles]
        features = [feature for feature, fine in zip(features, inside, strict=True) if fine]
    numbers = [value for row in asked if job.task == "ask" and (value := number(row["said"])) is not None]
    first = {tile.window for tile in plan(replace(job, scales=job.scales[:1]), scene.size)}  # it sees each pixel
    return Findings(
        features=features,
        counts=Counter(feature.region.label for feature in features),
        tiles=len(rows),
        empty=len(rows) - len(asked),
        total=sum(numbers) if numbers else None,
        area_km2=_area_km2(scene, [row for row in asked if tuple(row["window"]) in first], outlines),
        seconds=time.perf_counter() - record.began,
    )


def _area_km2(scene: Scene, rows: Sequence[dict[str, Any]], outlines: Outlines | None) -> float | None:
    """The area of the valid pixels of some tiles, each counted in its cell, as far as it lies in outlines where there
    are some; None where the scene has no metres. Cells that are too large to be measured, or reach beyond the Earth,
    have the pixels of the middle of the scene.
    """
    if not scene.gsd_m:
        return None
    boxes = [Box.from_pixels(x, y, x + w, y + h, scene.size) for x, y, w, h in (row["cell"] for row in rows)]
    areas = [one.values["area_m2"] for one in Layer(scene).of([Region(box, "") for box in boxes])]
    square_m = 0.0
    for row, area in zip(rows, areas, strict=True):
        area = math.prod(row["cell"][2:]) * scene.gsd_m**2 if area is None else area
        inside = 1.0 if outlines is None else outlines.share(tuple(row["cell"]))
        square_m += area * inside * row["valid"] / math.prod(row["window"][2:])
    return square_m / 1e6


def _detections(rows: Sequence[dict[str, Any]], size: Size) -> Detections:
    """The objects of all tiles, in pixels of the scene."""
    found = [(one, tuple(row["window"])) for row in rows for one in row["objects"]]
    windows = np.array([window for _, window in found], float).reshape(-1, 1, 4)
    corners = np.array([one["corners"] for one, _ in found], float).reshape(-1, 4, 2)
    corners = windows[..., :2] + corners.clip(0, windows[..., 2:])  # what lies outside the tile is cut off
    values = ([one[name] for one, _ in found] for name in ("label", "score", "upright"))
    return detections(corners, *values, [window for _, window in found], size)


def _features(found: Detections, size: Size) -> list[Feature]:
    edges = (found.bounds / (*size, *size)).clip(0, 1).tolist()
    boxes = [Box(*edge) if upright else OrientedBox.from_pixels(corners, size)
             for edge, upright, corners in zip(edges, found.upright.tolist(), found.corners, strict=True)]  # fmt: skip
    tiles = (" ".join(",".join(map(str, tile)) for tile in tiles) for tiles in found.tiles)
    regions = map(Region, boxes, found.labels, found.scores.tolist())
    return [Feature(region, {"tile": tile}) for region, tile in zip(regions, tiles, strict=True)]


def _cell(row: dict[str, Any], size: Size) -> Feature:
    left, top, width, height = row["cell"]
    box = Box.from_pixels(left, top, left + width, top + height, size)
    return Feature(Region(box, row["said"], row["score"]), {"tile": ",".join(map(str, row["window"]))})


def describe(assistant: EarthGPT, scene: Scene, areas: Sequence[Area], batch_size: int = 16) -> list[Feature]:
    """What the model says of each place: a Feature with its box in the scene, in the order of ``areas``.

    The model sees a window round the place, of twice its size and no less than a usual tile. A point is a place of an
    eighth of a tile. Raises EarthGPTError for places outside the scene, with the number of the first.
    """
    tile, task = tile_for(scene, assistant.processor.image_size), region_captioning.TASK
    boxes, questions, frames = [], [], []
    for place, area in enumerate(areas, 1):
        pixels = to_pixels(scene, [point for ring in area.rings for point in ring])
        if len(pixels) == 1:
            pixels = pixels + np.array([[-1, -1], [1, 1]]) * tile / 16
        try:
            left, top, width, height = window_of(scene, pixels)
        except EarthGPTError as error:
            raise EarthGPTError(f"Place {place}: {error}") from None
        window = around((left, top, width, height), max(tile, 2 * width, 2 * height), scene.size)
        x, y, *size = window
        seen = Box.from_pixels(left - x, top - y, left + width - x, top + height - y, tuple(size))
        boxes.append(Box.from_pixels(left, top, left + width, top + height, scene.size))
        questions.append(task.question(seen, tuple(size)))
        frames.append(window)
    found = []
    for start in range(0, len(areas), batch_size):
        part = slice(start, start + batch_size)
        shown = [_shown(assistant, scene, Tile(window, window)) for window in frames[part]]
        answers = _ask(assistant, [[question] for question in questions[part]], shown, assistant.constrained)
        found += [
            Feature(Region(box, answer.text.strip(), answer.probability()), {"tile": ",".join(map(str, window))})
            for box, window, answer in zip(boxes[part], frames[part], answers, strict=True)
        ]
    return found


def around(window: Window, side: int, size: Size) -> Window:
    """A window of ``side`` pixels with another in its middle, moved into the scene and cut by it."""
    (left, top, width, height), (most_x, most_y) = window, (min(side, size[0]), min(side, size[1]))
    x = min(max(0, left + width // 2 - most_x // 2), size[0] - most_x)
    y = min(max(0, top + height // 2 - most_y // 2), size[1] - most_y)
    return x, y, most_x, most_y


def tile_for(scene: Scene, seen: int, gsd_m: float | None = None) -> int:
    """The side of a tile in pixels of the scene, for a model that sees ``seen`` pixels a side.

    gsd_m: metres that a pixel of what the model sees shall have; without it the side is ``tile_side``.
    Raises EarthGPTError where the scene's own is not known.
    """
    if gsd_m is None:
        return tile_side(seen)
    if not scene.gsd_m:
        raise EarthGPTError(f"{scene.name} does not say how many metres a pixel has: give --tile in pixels.")
    return max(LEAST_TILE, round(seen * gsd_m / scene.gsd_m))

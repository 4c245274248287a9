"""One instruction set from many data sets: facts become conversations in the form of MMRS-1M, with a manifest."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from earthgpt import conversations, lookup
from earthgpt.config import BuildRecipe, BuildSource, Evaluation, load_recipe
from earthgpt.datasets import Dataset, at_hand
from earthgpt.files import whole_file
from earthgpt.geo.raster import read_pixels
from earthgpt.geo.tiles import cut, fragment, parse_fragment, windows
from earthgpt.image_files import NO_SIZE, UNREADABLE
from earthgpt.leaks import Fingerprint, Index, Leak, fingerprint
from earthgpt.policies import Plan, asked, plan, take
from earthgpt.tasks import converse
from earthgpt.types import Conversation, EarthGPTError, Sample, Sensor

# Licences under which an image may be used for gain; what is not clearly one of them is taken not to be.
COMMERCIAL = re.compile(r"(CC0|CC BY|CC BY-SA|MIT|Apache-2\.0|GPL-3\.0|Mulan PSL|CDLA-Permissive)\b(?!-)")
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Built:
    """An instruction set: its folder, its manifest, and the message of each data set that failed, by name."""

    folder: Path
    manifest: dict[str, Any]
    failed: dict[str, str]


# --- one data set ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One data set to be built, in a process of its own. ``name`` is that of its part of the output."""

    name: str
    source: BuildSource
    recipe: BuildRecipe
    key: str
    index: Path | None


@dataclass
class _Tally:
    """What was counted on the way: ``leaks`` by where the image also is and how that is known, with some examples, and
    of ``near`` copies too."""

    images: int = 0
    records: int = 0
    turns: int = 0
    sensors: set[Sensor] = field(default_factory=set)
    defects: Counter = field(default_factory=Counter)
    leaks: Counter = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def _build_part(job: _Job, progress: Any) -> dict[str, Any]:
    """Writes a data set's records, and then its report; returns that."""
    recipe, source = job.recipe, job.source
    card = lookup.find("datasets", source.dataset)
    tally = _Tally()
    parts = Path(recipe.output) / "parts"
    path = parts / f"{job.name}.jsonl"

    def told(records: Iterator[Conversation]) -> Iterator[Conversation]:
        for record in records:
            tally.records += 1
            tally.turns += len(record.messages) // 2
            if progress and tally.records % 50 == 0:
                progress.put((job.name, tally.images))
            yield record

    try:
        conversations.write(path, told(_records(card, job, tally)))
        lost = len(tally.broken) + tally.defects[NO_SIZE]
        if lost and recipe.broken == "stop":
            named = f" ({', '.join(tally.broken[:3])} ...)" if tally.broken else ""
            raise EarthGPTError(
                f"{lost:,} images of {card.title} are missing or broken{named}. Complete the download, or build "
                'without them: broken="left_out".'
            )
        _refuse(card, job, tally)
        if not tally.records:
            path.unlink()
            counted = (+(tally.defects + tally.leaks)).items()
            why = "; ".join(f"{count:,} {kind}" for kind, count in counted) or "it holds nothing"
            raise EarthGPTError(f"{card.title} in {source.root or 'its source'} gave no record ({why}).")
        report = _report(card, job, tally, path)
        _write_json(parts / f"{job.name}.report.json", {"key": job.key, "report": report})
    except OSError as error:
        raise EarthGPTError(f"Cannot write {path}: {error.strerror or error}.") from None
    return report


def _records(card: Dataset, job: _Job, tally: _Tally) -> Iterator[Conversation]:
    recipe, source = job.recipe, job.source
    root = Path(source.root or ".").absolute()
    taken = plan(card, recipe.policy, source)
    for sample, oriented in take(card, root, taken, recipe.seed, tally.defects):
        if not _usable(sample, job, tally):
            continue
        tally.images += 1
        tally.sensors.add(sample.sensor)
        for shown, turned in _tiles(sample, oriented, taken, recipe, tally):
            rng = random.Random(f"{recipe.seed}/{source.dataset}/{shown.name}")
            turns = list(asked(shown, turned, taken, rng, recipe.decimals, recipe.tagged))
            if not turns:
                tally.defects["images or tiles with nothing to ask"] += 1
                continue
            image = _place(shown, root, source.dataset, recipe)
            for task, questions in turns:
                yield converse(image, shown.size, [(task, turn) for turn in questions])


def _usable(sample: Sample, job: _Job, tally: _Tally) -> bool:
    """Whether the pixels are there, decode where that is asked, and are not those of an evaluation set."""
    recipe = job.recipe
    unseen = recipe.images == "none" or callable(sample.image)
    try:
        good = unseen or at_hand(sample)
        if recipe.verify and good and not unseen:
            read_pixels(sample.image, None, sample.sensor)
        if good:
            return not _leaks(sample, job, tally, recipe.compare)
    except (EarthGPTError, *UNREADABLE):
        if unseen:  # what is broken may be mended where the images are: its name is compared
            tally.defects["broken images, compared by their names"] += 1
            return not _leaks(sample, job, tally, "names")
    tally.broken.append(sample.name)
    tally.defects["missing or broken images, left out"] += 1
    return False


def _leaks(sample: Sample, job: _Job, tally: _Tally, compare: Literal["names", "bytes", "looks"]) -> bool:
    """Whether the image must not be trained on, because an evaluation set has it; counted either way.

    Raises OSError, SyntaxError or ValueError for a file that is no image.
    """
    if job.index is None:
        return False
    leak = _index(job.index).find(fingerprint(job.source.dataset, sample, compare), job.source.dataset)
    if leak is None:
        return False
    near = _near(leak, job.source.dataset)
    tally.leaks[f"{leak.origin}, {'near copies' if near else f'by {leak.how}'}"] += 1
    examples = tally.near if near else tally.examples
    if len(examples) < 5:
        examples.append(f"{sample.name} is {leak.other} of {leak.origin} (by {leak.how})")
    return not near and action(job.recipe) != "report"


def _near(leak: Leak, dataset: str) -> bool:
    """Whether images only look alike within one set, as neighbouring frames of HIT-UAV do: reported, not refused."""
    return leak.how == "looks" and leak.origin.split()[0] == dataset


def action(recipe: BuildRecipe) -> str:
    """What is done about images that an evaluation set has: "refuse", "leave_out" or "report"."""
    return recipe.leaks or ("refuse" if recipe.policy == "clean" else "report")


def _refuse(card: Dataset, job: _Job, tally: _Tally) -> None:
    known = {how: count for how, count in tally.leaks.items() if not how.endswith("near copies")}
    if known and action(job.recipe) == "refuse":
        said = "; ".join(f"{count:,} of {how}" for how, count in sorted(known.items()))
        raise EarthGPTError(
            f"{card.title} has images that are evaluated on: {said}. {tally.examples[0]}. Leave them out with "
            'leaks="leave_out", or train on them knowingly with leaks="report".'
        )


@lru_cache(1)
def _index(path: Path) -> Index:
    return pickle.loads(path.read_bytes())


def _tiles(
    sample: Sample, oriented: Sample, taken: Plan, recipe: BuildRecipe, tally: _Tally
) -> Iterator[tuple[Sample, Sample]]:
    """The image whole, or cut where it is large and the plan says so."""
    if not taken.tiled or max(sample.size) <= recipe.tile:
        yield sample, oriented
        return
    for window in windows(sample.size, recipe.tile, recipe.overlap):
        shown, lost = cut(sample, window, recipe.visible)
        turned = shown if oriented is sample else cut(oriented, window, recipe.visible)[0]
        tally.defects["objects cut off by the edge of a tile"] += lost
        if not (shown.regions or shown.expressions):
            tally.defects["tiles without objects"] += 1
            continue
        name = fragment(sample.name, window)
        yield replace(shown, name=name), replace(turned, name=name)


def _place(sample: Sample, root: Path, dataset: str, recipe: BuildRecipe) -> str:
    """The path of the image in its record, relative to the output; puts the image there where that is needed."""
    name, window = parse_fragment(sample.name)
    output = Path(recipe.output)
    if callable(sample.image):
        path = Path("data", dataset, f"{name}.png")
        if recipe.images != "none":
            _save(np.asarray(sample.image()), output / path)
        return path.as_posix()
    inside = sample.image.is_relative_to(root)
    path = Path("data", dataset, sample.image.relative_to(root)) if inside else Path("data", f"{dataset}_more", name)
    if window and recipe.tiles == "files":
        path = Path("data", f"{dataset}_tiles", f"{name}_{'_'.join(map(str, window))}.png")
        if recipe.images != "none":
            _save(read_pixels(sample.image, window, sample.sensor), output / path)
        return path.as_posix()
    if recipe.images == "copy" and not (output / path).exists():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(output / path, several=True) as fresh:
            shutil.copyfile(sample.image, fresh)
    elif recipe.images == "link" and not inside:
        _link(sample.image, output / path)
    return fragment(path.as_posix(), window) if window else path.as_posix()


def _save(pixels: np.ndarray, path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, several=True) as fresh:
            Image.fromarray(pixels).save(fresh, format="PNG")


def _link(target: Path, link: Path) -> None:
    """A symbolic link; one that is there already must lead to the same place."""
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(target)
    except FileExistsError:
        if link.resolve() != target.resolve():
            raise EarthGPTError(f"{link} is there already and does not lead to {target}: remove it.") from None
    except OSError as error:
        raise EarthGPTError(f'Cannot link {link} ({error.strerror}); copy the images: images="copy".') from None


def _report(card: Dataset, job: _Job, tally: _Tally, path: Path) -> dict[str, Any]:
    taken = plan(card, job.recipe.policy, job.source)
    expected = card.paper.turns if job.recipe.policy == "paper" and card.paper else None
    return {
        "dataset": job.source.dataset,
        "title": card.title,
        "sensors": [sensor for sensor in Sensor if sensor in tally.sensors],
        "licence": card.licence,
        "homepage": card.homepage,
        "citation": card.citation,
        "splits": list(taken.splits),
        "part": taken.part,
        "tasks": list(taken.tasks),
        "share": taken.share,
        "tiled": taken.tiled,
        "weight": job.source.weight,
        "images": tally.images,
        "records": tally.records,
        "turns": tally.turns,
        "turns_of_the_paper": expected,
        "defects": dict(sorted((+tally.defects).items())),
        "leaks": dict(sorted(tally.leaks.items())),
        "leak_examples": [*tally.examples, *tally.near][:5],
        "bytes": path.stat().st_size,
        "sha256": _digest(path),
    }


def _refuse_two_roots(recipe: BuildRecipe) -> None:
    roots: dict[str, str | None] = {}
    if twice := [one.dataset for i, one in enumerate(recipe.sources) if one in recipe.sources[:i]]:
        raise EarthGPTError(f"{twice[0]} is named twice, in the same words; to draw it more often there is weight.")
    for source in recipe.sources:
        if roots.setdefault(source.dataset, source.root) != source.root:
            raise EarthGPTError(
                f"{source.dataset} is taken from {roots[source.dataset]} and from {source.root}, and images of both "
                "would have one name in the output: put them into one folder, or build them apart."
            )


# --- all of them -------------------------------------------------------------------------------------------------


def build(recipe: BuildRecipe | str | Path, progress: Progress = lambda name, done, total: None) -> Built:
    """Builds an instruction set as a recipe says: ``mmrs.json`` (as released), ``mmrs.jsonl`` (the same records, one a
    line), ``manifest.json`` and the images in ``data/``, all below ``output``.

    The same recipe and data give the same bytes, with any number of processes. A build that was stopped goes on with
    the sets it had not finished. ``progress`` is told, for each set, how many of how many images are done (None: not
    known). A script calls it below ``if __name__ == "__main__":``, as multiprocessing asks.
    Raises EarthGPTError when a set fails, unless ``go_on``, and when none is left; the output is then not there, and
    finished sets are kept for the next try.
    """
    recipe = recipe if isinstance(recipe, BuildRecipe) else load_recipe(recipe, kind=BuildRecipe)
    output = Path(recipe.output)
    parts = output / "parts"
    _same_recipe(recipe, output)
    _refuse_two_roots(recipe)
    parts.mkdir(parents=True, exist_ok=True)
    _write_json(output / "recipe.json", recipe.model_dump())
    failed, left_out = {}, {}
    sources = []
    for source in recipe.sources:
        card = lookup.find("datasets", source.dataset)
        if recipe.purpose == "commercial" and not COMMERCIAL.match(card.licence):
            left_out[source.dataset] = f"licence: {card.licence}"
        elif recipe.go_on and source.root and not Path(source.root).is_dir():
            left_out[source.dataset] = f"no folder {source.root}"
        else:
            sources.append(source)
    context = multiprocessing.get_context("spawn")  # the parent has threads, which do not survive a fork
    pool = ProcessPoolExecutor(recipe.workers, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))
    with pool, context.Manager() as manager:
        try:
            queue = manager.Queue()
            index, unread = _evaluation_index(recipe, sources, parts, pool)
            jobs = [_job(i, source, recipe, index) for i, source in enumerate(sources)]
            waiting: dict[Future, _Job] = {}
            reports: dict[str, dict] = {}
            for job in jobs:
                done = _finished(parts, job)
                if done:
                    reports[job.name] = done
                    progress(job.name, done["images"], done["images"])
                else:
                    waiting[pool.submit(_build_part, job, queue)] = job
            totals = {job.name: _total(job, recipe) for job in jobs}
            while waiting:
                ready, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                while not queue.empty():
                    name, count = queue.get()
                    progress(name, count, totals[name])
                for future in ready:
                    job = waiting.pop(future)
                    try:
                        reports[job.name] = future.result()
                        progress(job.name, reports[job.name]["images"], reports[job.name]["images"])
                    except EarthGPTError as error:
                        failed[job.source.dataset] = str(error)
                        if not recipe.go_on:
                            raise
        except BrokenProcessPool:
            raise EarthGPTError(
                "A process was killed, perhaps for want of memory. Finished sets are kept: run the same command again, "
                "with fewer workers if need be."
            ) from None
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children() if isinstance(error, KeyboardInterrupt) else ():
                child.terminate()  # other errors wait for the sets that are being built: they are kept
            raise
    chosen = [(job, reports[job.name]) for job in jobs if job.name in reports]
    if not chosen:
        why = "; ".join(f"{name}: {reason}" for name, reason in {**failed, **left_out}.items())
        raise EarthGPTError(f"No data set was built. {why}")
    manifest = _assemble(recipe, chosen, failed, left_out, unread)
    return Built(output, manifest, failed)


def _same_recipe(recipe: BuildRecipe, output: Path) -> None:
    path = output / "recipe.json"
    if (output / "checkpoints").exists() or (output / "log.jsonl").exists():
        raise EarthGPTError(f"{output} holds a training run: give the instruction set another output folder.")
    if not path.is_file():
        return
    try:
        old, new = json.loads(path.read_text()), json.loads(json.dumps(recipe.model_dump()))
    except ValueError:
        raise EarthGPTError(f"{path} is damaged: delete it, or give another output folder.") from None
    changed = sorted(key for key in new if key not in ("workers", "output", "go_on") and old.get(key) != new[key])
    if changed and (output / "manifest.json").exists():
        raise EarthGPTError(
            f"{output} holds an instruction set of another recipe ({', '.join(changed)} changed); give another output."
        )


def _job(i: int, source: BuildSource, recipe: BuildRecipe, index: Path | None) -> _Job:
    shared = recipe.model_dump(exclude={"output", "workers", "go_on", "sources", "evaluation"})
    seen = hashlib.sha256(index.read_bytes()).hexdigest() if index else ""
    key = hashlib.sha256(json.dumps([version("earthgpt"), shared, source.model_dump(), seen], sort_keys=True).encode())
    return _Job(f"{i:02d}_{source.dataset}", source, recipe, key.hexdigest(), index)


def _finished(parts: Path, job: _Job) -> dict[str, Any] | None:
    """The report of a set that an earlier run finished from the same recipe."""
    try:
        done = json.loads((parts / f"{job.name}.report.json").read_text())
        same = done["key"] == job.key and (parts / f"{job.name}.jsonl").stat().st_size == done["report"]["bytes"]
    except (OSError, ValueError, KeyError):
        return None
    return done["report"] if same else None


def _total(job: _Job, recipe: BuildRecipe) -> int | None:
    card = lookup.find("datasets", job.source.dataset)
    taken = plan(card, recipe.policy, job.source)
    if taken.share or taken.keep or taken.part or not set(taken.splits) <= set(card.counts):
        return None
    return sum(card.counts[split] for split in taken.splits)


def _evaluation_index(
    recipe: BuildRecipe, sources: list[BuildSource], parts: Path, pool: ProcessPoolExecutor
) -> tuple[Path | None, list[str]]:
    """The images of all evaluation sets, pickled; and the sets among them that are not there.

    Besides those of the recipe these are the tests of every source.
    """
    wanted = list(recipe.evaluation)
    named = {(one.dataset, Path(one.root).resolve(), split) for one in wanted for split in _evaluated(one)}
    for source in sources:
        tests = (split for split in lookup.find("datasets", source.dataset).splits if split.startswith("test"))
        rest = [split for split in tests if (source.dataset, Path(source.root).resolve(), split) not in named]
        wanted += [Evaluation(dataset=source.dataset, root=source.root, splits=(split,)) for split in rest]
    asked_for = len(recipe.evaluation)
    futures = [pool.submit(_fingerprints, one, recipe.compare) for one in wanted]
    index, unread = Index(), []
    for i, (one, future) in enumerate(zip(wanted, futures, strict=True)):
        try:
            for origin, prints in future.result().items():
                index.add(origin, prints)
        except EarthGPTError:
            if i < asked_for:
                raise  # what a recipe names must be there
            unread.append(f"{one.dataset} {one.splits[0]}")
    if not index.names:
        return None, unread
    path = parts / "evaluation.pickle"
    with whole_file(path, several=True) as fresh:
        fresh.write_bytes(pickle.dumps(index))
    return path, unread


def _evaluated(one: Evaluation) -> tuple[str, ...]:
    """The splits that are meant: those it names, else those that the paper evaluates on, the tests, or all."""
    card = lookup.find("datasets", one.dataset)
    paper = card.paper.splits if card.paper and card.paper.turns is None else ()
    tests = tuple(split for split in card.splits if split.startswith("test"))
    return tuple(one.splits) or paper or tests or card.splits


def _fingerprints(one: Evaluation, compare: str) -> dict[str, list[Fingerprint]]:
    card = lookup.find("datasets", one.dataset)
    found: dict[str, list[Fingerprint]] = {}
    for split in _evaluated(one):
        prints = found.setdefault(f"{one.dataset} {split}", [])
        for sample in card.read(one.root, split):
            try:
                prints.append(fingerprint(one.dataset, sample, compare))
            except (EarthGPTError, *UNREADABLE):  # a broken image still has its name
                prints.append(fingerprint(one.dataset, sample, "names"))
    return found


def _assemble(recipe: BuildRecipe, chosen: list, failed: dict, left_out: dict, unread: list) -> dict[str, Any]:
    """Puts the parts together, each file whole or not at all, and the manifest last."""
    output = Path(recipe.output)
    parts = output / "parts"
    try:
        if recipe.images == "link":
            for job, _ in chosen:
                if job.source.root:
                    _link(Path(job.source.root).absolute(), output / "data" / job.source.dataset)
        names = {"mmrs.jsonl": ("", "\n", "\n"), "mmrs.json": ("[\n", ",\n", "\n]\n")}
        files = {}
        with ExitStack() as written:  # they get their names when both are whole
            for name, (start, between, end) in names.items():
                fresh = written.enter_context(whole_file(output / name))
                with fresh.open("wb") as file:
                    file.write(start.encode())
                    for i, line in enumerate(_lines(parts / f"{job.name}.jsonl" for job, _ in chosen)):
                        file.write((between.encode() if i else b"") + line)
                    file.write(end.encode())
                files[name] = {"bytes": fresh.stat().st_size, "sha256": _digest(fresh)}
        sets = [report for _, report in chosen]
        manifest = {
            "made_with": f"earthgpt {version('earthgpt')}",
            "policy": recipe.policy,
            "options": recipe.model_dump(
                exclude={"output", "sources", "evaluation", "workers", "policy", "go_on"}, mode="json"
            ),
            "totals": {what: sum(report[what] for report in sets) for what in ("images", "records", "turns")},
            "sets": sets,
            "left_out": left_out,
            "failed": failed,
            "evaluation_sets_not_there": unread,
            "files": files,
        }
        _write_json(output / "manifest.json", manifest)
    except OSError as error:
        raise EarthGPTError(f"Cannot write to {output}: {error.strerror or error}.") from None
    shutil.rmtree(parts)
    return manifest


def _lines(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                yield line.rstrip(b"\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    with whole_file(path, several=True) as fresh:
        fresh.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")

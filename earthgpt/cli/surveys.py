"""One image after the other, large ones in tiles, with files of what is found."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from earthgpt.cli.console import err, load_model, note, region_line, region_value, say
from earthgpt.cli.options import Made, Survey
from earthgpt.types import EarthGPTError

SAID = {"ask": "answer", "caption": "caption", "classify": "class"}  # what the answer of a task is called


def survey(paths: Sequence[Path | str], wanted: dict[str, Any], made: Made, how: Survey) -> None:
    """Goes through images one after the other. One that fails is named, and the others are done.

    wanted: the task and what belongs to it, as ``scenes.Job`` has it. Exit code 1 when all failed, 3 when some did.
    """
    from earthgpt.geo.scene import open_scene
    from earthgpt.geo.vectors import check_output

    names, inputs = [Path(path).stem for path in paths], [*paths, *([how.aoi] if how.aoi else [])]
    maps = wanted["task"] == "detect" or made.tile or made.preview
    if made.output and "{name}" in made.output.name:
        if made.output.suffix.lower() == ".csv" and not maps:
            raise EarthGPTError(f"A table is of all images: {made.output.name} without {{name}}.")
        made.output.parent.mkdir(parents=True, exist_ok=True)
    if made.output:
        check_output(made.output, True, inputs)  # its format and folder; a table that is there goes on
    if made.output and made.output.suffix.lower() == ".csv" and not maps:
        _table(paths, wanted, made.output, how)
        return
    if made.output and len(paths) > 1 and not maps and "{name}" not in made.output.name:
        raise EarthGPTError(f"There are {len(paths)} images: one table of all is .csv, not {made.output.suffix}.")
    outputs, previews = _for_each(made.output, names), _for_each(made.preview, names)
    for one in filter(None, (*outputs, *previews)):
        check_output(one, how.overwrite, inputs)
    assistant, failed = None, 0
    for path, output, preview in zip(paths, outputs, previews, strict=True):
        try:
            scene = open_scene(path, how.sensor, **how.reading)
            for one in filter(None, (output, preview)):
                check_output(one, how.overwrite, inputs, scene)
            assistant = assistant or load_model(how.model)
            one = replace(made, output=output, preview=preview)
            _survey_one(assistant, scene, wanted, one, how, f"{path}: " if len(paths) > 1 else "")
        except EarthGPTError as error:
            if len(paths) == 1:
                raise
            failed += 1
            note(_of(path, str(error)))
    if failed:
        err.print(f"{failed} of {len(paths)} images failed.", highlight=False)
        raise typer.Exit(1 if failed == len(paths) else 3)


def _of(path: Path | str, error: str) -> str:
    """What is wrong with an image, with its name in front."""
    return error if error.startswith(str(path)) else f"{path}: {error}"


def _for_each(path: Path | None, names: Sequence[str]) -> list[Path | None]:
    """Where what is said of each image is written: the path, with its name in place of {name}."""
    from earthgpt.geo.vectors import ending_of

    many = path is not None and len(names) > 1
    if many and "{name}" not in path.name:
        raise EarthGPTError(f"There are {len(names)} images: put {{name}} into it, as in {{name}}{ending_of(path)}.")
    if many and (same := [name for name, count in Counter(names).items() if count > 1]):
        some = ", ".join(same[:3]) + (", ..." if len(same) > 3 else "")
        raise EarthGPTError(
            f"Several images are called {some}, and so would their outputs: name each folder by itself."
        )
    return [path and path.with_name(path.name.replace("{name}", name)) for name in names]


def _table(paths: Sequence[Path | str], wanted: dict[str, Any], output: Path, how: Survey) -> None:
    """An ``AnswerTable`` of all images. Those that it has an answer for are not asked again; those that failed are."""
    if how.engine != "local":
        raise EarthGPTError("A table of images is made by this process (--engine local); ray shares the tiles of maps.")
    if how.as_json:
        raise EarthGPTError(f"A table of images ({output}) is written and not printed: leave out --json, or -o.")
    from rich.progress import track

    from earthgpt.answer_table import AnswerTable
    from earthgpt.geo.raster import Raster, is_picture, open_raster
    from earthgpt.geo.scene import open_scene
    from earthgpt.geo.tiles import tile_side
    from earthgpt.scenes import LEAST_TILE, Job, each

    whole = all(one is None for one in (how.window, how.bbox, how.aoi))

    sensors, large = set(), Counter[bool]()  # of the images that were opened

    def opened(path: Path | str) -> Any:
        if whole and not how.reading and is_picture(path):
            found, part = open_raster(path, how.sensor), None
        else:
            found = open_scene(path, how.sensor, **how.reading)
            part = _part(found, how)[0]
        sensors.add(found.sensor)
        large[whole and bool(assistant.seen_whole(found))] += 1
        return found if isinstance(found, Raster) else (found, part)

    options = {"sensor": how.sensor, **how.reading, "window": how.window, "bbox": how.bbox, "aoi": how.aoi}
    reading = " ".join(f"{name}={value}" for name, value in options.items() if value is not None)
    prompt = wanted.get("question") or ", ".join(wanted.get("classes", ()))
    table = AnswerTable(output, SAID[wanted["task"]], prompt, str(how.model), reading, how.overwrite)
    done = {Path(one).absolute() for one in table.done}  # a folder may be named in two ways
    left, failed = [path for path in paths if Path(path).absolute() not in done], 0
    assistant = load_model(how.model)
    with table:
        answers = each(assistant, Job(tile=LEAST_TILE, **wanted), left, opened, how.batch_size)
        for path, said, score, error in track(
            answers, "images", len(left), console=err, transient=True, disable=not err.is_terminal
        ):
            if error:
                failed += 1
                note(_of(path, str(error)))
            table.add(path, said, score, error)
    for sensor in sorted(sensors) if (asked := objects_of(wanted)) else ():
        say_what_is_guessed(assistant, asked, sensor, str(output))
    if asked and large[True]:
        tile = tile_side(assistant.processor.image_size)
        note(
            f"{output}: {large[True]:,} images have more than {tile} pixels a side and were looked at as a whole, so "
            "that small objects are missed: ask about them with --tile."
        )
    before = f", {len(paths) - len(left):,} of them were there before" if len(left) < len(paths) else ""
    note(f"Wrote {output}: {len(paths):,} images{before}, {failed:,} of them failed.")
    if failed:
        raise typer.Exit(1 if failed == len(paths) else 3)


def _survey_one(assistant: Any, scene: Any, wanted: dict[str, Any], made: Made, how: Survey, name: str) -> None:
    """One image; ``name`` stands before what is printed of it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from earthgpt.scenes import LEAST_TILE, Job, plan, scan, scan_on_ray, tile_for

    wanted = dict(wanted)
    gsd, overlap = wanted.pop("gsd", None), wanted.pop("overlap", None)
    detects, output, tile = wanted["task"] == "detect", made.output, made.tile
    area, outlines = _part(scene, how)
    if tile is None:
        tile = tile_for(scene, assistant.processor.image_size, gsd) if detects else 0
    tile = tile or max(LEAST_TILE, *(area[2:] if area else scene.size))
    overlap = (tile // 4 if overlap is None else overlap) if detects else 0
    job = Job(tile=tile, overlap=overlap, area=area, outlines=outlines, model=how.model, **wanted)
    record = output and _record(output)
    if record and how.overwrite:
        record.unlink(missing_ok=True)
    total = sum(1 for _ in plan(job, scene.size))
    noted = scene.notes
    for one in noted if output and output.suffix.lower() not in (".png", ".jpg", ".jpeg") else ():
        note(f"{scene.name}: {one}")
    if total > 1:
        note(f"{scene.name}: {scene.size[0]:,} x {scene.size[1]:,} pixels in {total:,} tiles of {tile}")
    asked = objects_of(wanted)
    if job.constrained:
        say_what_is_guessed(assistant, asked, scene.sensor, scene.name)
    if asked and not detects and total == 1 and (said := assistant.seen_whole(scene)):
        note(f"{scene.name}: {said}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal or total == 1) as progress:
        bar = progress.add_task("tiles", total=total)

        def told(done: int, total: int) -> None:
            progress.update(bar, completed=done)

        try:
            if how.engine == "ray":
                found = scan_on_ray(how.model, scene, job, record, how.batch_size, told, how.workers)
            else:
                found = scan(assistant, scene, job, record, how.batch_size, told)
        except KeyboardInterrupt:
            if record:
                note("What was answered is kept: the same command goes on.")
            raise
    for one in scene.notes if scene.damaged else ():
        if one not in noted:
            note(f"{scene.name}: {one}")
    if found.empty == found.tiles:
        note(f"{scene.name}: no valid pixel, so nothing was asked")
    regions = [feature.region for feature in found.features]
    if not detects and not made.tile and regions:
        said = {"question": job.question} if job.task == "ask" else {}
        said |= {SAID[job.task]: regions[0].label, "score": round(regions[0].score, 4)}
        say({"image": str(scene.name), **said}, how.as_json, f"{name}{regions[0].label}")
        _write(assistant, scene, job, found, made, how)
        return
    value = {"image": str(scene.name), "regions": [region_value(region, scene.size) for region in regions]}
    if total > 1:
        value |= {
            "counts": dict(found.counts), "tiles": found.tiles, "empty_tiles": found.empty, "total": found.total,
            "area_km2": found.area_km2, "per_km2": found.density,
        }  # fmt: skip
    lines = [region_line(region, scene.size) for region in regions[:20]]
    lines += [f"... {len(regions) - 20:,} more"] if len(regions) > 20 else []
    if total > 1:
        lines += [f"{count:,} {label}" for label, count in found.counts.most_common()]
        lines += [f"sum of the answers: {found.total:,.0f}"] if found.total is not None else []
    lines = lines or ["nothing found"]
    say(value, how.as_json, "\n".join(f"{name}{line}" for line in lines))
    _write(assistant, scene, job, found, made, how)


def objects_of(wanted: dict[str, Any]) -> Sequence[str]:
    """The classes of objects that a task asks about."""
    from earthgpt.tasks.visual_question_answering import TASK

    if wanted["task"] == "ask":
        return TASK.objects_in(wanted["question"])
    return wanted["classes"] if wanted["task"] == "detect" else ()


def say_what_is_guessed(assistant: Any, classes: Sequence[str], sensor: str, name: str) -> None:
    """Of classes that the detector never learned: the language model answers then, and it guesses."""
    import difflib

    for one in assistant.unknown(classes, sensor):
        known = assistant.model.dense_heads.vocabulary.seen_by(sensor)
        close = difflib.get_close_matches(one, known, 1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        note(
            f"{name}: the model's detector does not know {one!r} in {sensor} images "
            f"({', '.join(known)}), so what is said of it is guessed{meant}"
        )


def _write(assistant: Any, scene: Any, job: Any, found: Any, made: Made, how: Survey) -> None:
    """The files of one image, and what they were made with."""
    from dataclasses import asdict

    from earthgpt.cards import made_with, write_run_card
    from earthgpt.geo.vectors import FORMATS, ending_of

    output = made.output
    common = made_with(how.model)
    for path in filter(None, (output, made.preview)):
        classes = job.classes if job.task == "classify" else ()
        # Of all classes only files that number them have those that were not found: a legend is better without.
        if job.task == "detect" and (job.classes or FORMATS[ending_of(path)].numbered):
            classes = assistant.labels(job.classes)
        write_features(path, found.features, scene, common, how.overwrite, classes=classes)
    if output:
        _record(output).unlink(missing_ok=True)
        write_run_card(
            output,
            command=[Path(sys.argv[0]).name, *sys.argv[1:]],
            settings={**asdict(job), "engine": how.engine, "batch_size": how.batch_size},
            data={"name": str(scene.name), "size": scene.size, "crs": scene.crs, "sensor": scene.sensor}
            | {"tiles": found.tiles, "empty_tiles": found.empty},
            counts=found.counts,
            notes=scene.notes,
            seconds=round(found.seconds, 1),
            **common,
        )


def _record(output: Path) -> Path:
    """Where what is said of each tile is kept until the output is written."""
    return output.with_name(f"{output.name}.tiles.jsonl")


def _part(scene: Any, how: Survey) -> tuple[Any, tuple]:
    """The window of a scene that is asked about, None for all, and the outlines in it."""
    from earthgpt.geo.areas import bounding_box, outlines_of, read_areas, window_of
    from earthgpt.geo.tiles import inside

    if sum(one is not None for one in (how.window, how.bbox, how.aoi)) > 1:
        raise EarthGPTError("Give one of --window, --bbox and --aoi.")
    if how.bbox is not None:
        return bounding_box(scene, how.bbox), ()
    if how.aoi is not None:
        import numpy as np

        outlines = outlines_of(scene, read_areas(how.aoi))
        return window_of(scene, np.array([point for ring in outlines for point in ring])), outlines
    return None if how.window is None else inside(_window(how.window), scene.size, scene.name), ()


def _window(text: str) -> tuple[int, int, int, int]:
    try:
        left, top, width, height = (int(value) for value in text.split(","))
    except ValueError:
        raise EarthGPTError(f"A window is left,top,width,height in whole pixels; not {text!r}.") from None
    return left, top, width, height


def write_features(
    path: Path,
    features: Sequence[Any],
    scene: Any,
    common: dict[str, Any],
    overwrite: bool,
    columns: dict[str, type] | None = None,
    classes: Sequence[str] = (),
) -> None:
    from earthgpt.geo.vectors import open_writer

    options = {"properties": common, "columns": columns, "classes": classes, "overwrite": overwrite}
    with open_writer(path, scene, **options) as writer:
        writer.add(features)
    note(f"Wrote {path}")

"""One image after the other, large ones in tiles, with files of what is found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from earthgpt.cli.console import err, load_model, region_line, region_value, say
from earthgpt.cli.options import Made, Survey
from earthgpt.types import EarthGPTError


def survey(paths: Sequence[Path | str], wanted: dict[str, Any], made: Made, how: Survey) -> None:
    """Goes through images one after the other. One that fails is named, and the others are done.

    wanted: the task and what belongs to it, as ``scenes.Job`` has it. Exit code 1 when all failed, 3 when some did.
    """
    if how.engine not in ("local", "ray"):
        raise EarthGPTError(f"The engine is local or ray, not {how.engine!r}.")
    names = [Path(path).stem for path in paths]
    maps = wanted["task"] == "detect" or made.tile or made.preview
    if made.output and made.output.suffix.lower() == ".csv" and not maps:
        _table(paths, wanted, made.output, how)
        return
    outputs, previews = _for_each(made.output, names), _for_each(made.preview, names)
    for one in filter(None, (*outputs, *previews)):
        check_output(one, how.overwrite)
    assistant, failed = None, 0
    for path, output, preview in zip(paths, outputs, previews, strict=True):
        try:
            from earthgpt.geo.scene import open_scene

            scene = open_scene(path, how.sensor, **how.reading)
            assistant = assistant or load_model(how.model)
            _survey_one(assistant, scene, wanted, replace(made, output=output, preview=preview), how)
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


def check_output(path: Path, overwrite: bool) -> None:
    """What would be found out too late, after the work."""
    from earthgpt.geo.vectors import FORMATS

    if not path.name.lower().endswith(tuple(FORMATS)):
        raise EarthGPTError(f"Results are written as {', '.join(FORMATS)}; not {path.suffix!r}.")
    if path.exists() and not overwrite:
        raise EarthGPTError(f"{path} is there already; choose another name, or say --overwrite.")
    if not path.parent.is_dir():
        raise EarthGPTError(f"Cannot write {path}: there is no folder {path.parent}.")


def _table(paths: Sequence[Path | str], wanted: dict[str, Any], output: Path, how: Survey) -> None:
    """A line of CSV for each image: what was said, its score, and what went wrong. Lines that are there stay."""
    import csv

    from rich.progress import track

    from earthgpt.geo.scene import open_scene
    from earthgpt.scenes import Job, scan

    header, done = ["image", wanted["task"], "score", "error"], set()
    if output.exists() and not how.overwrite:
        with output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if not rows or rows[0] != header:
            raise EarthGPTError(f"{output} is there already and has other columns; say --overwrite, or another name.")
        done = {row[0] for row in rows[1:]}
    assistant, failed = load_model(how.model), 0
    with output.open("a" if done else "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        if not done:
            lines.writerow(header)
        left = [path for path in paths if str(path) not in done]
        for path in track(left, "images", console=err, transient=True, disable=not err.is_terminal):
            try:
                scene = open_scene(path, how.sensor, **how.reading)
                area, outlines = _part(scene, how)
                tile = max(16, *(area[2:] if area else scene.size))
                found = scan(assistant, scene, Job(tile=tile, area=area, outlines=outlines, **wanted)).features
                row = (
                    [found[0].region.label, f"{found[0].region.score:.4f}", ""] if found else ["", "", "no valid pixel"]
                )
            except EarthGPTError as error:
                row = ["", "", str(error)]
            failed += bool(row[2])
            lines.writerow([path, *row])
            file.flush()
    err.print(
        f"Wrote {output}: {len(paths):,} images, {failed:,} of them failed.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if failed:
        raise typer.Exit(1 if failed == len(paths) else 3)


def _survey_one(assistant: Any, scene: Any, wanted: dict[str, Any], made: Made, how: Survey) -> None:
    import time
    from dataclasses import asdict

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from earthgpt.cards import write_run_card
    from earthgpt.scenes import Job, plan, scan, scan_on_ray, tile_for

    wanted = dict(wanted)
    gsd, overlap = wanted.pop("gsd", None), wanted.pop("overlap", None)
    detects, output, tile = wanted["task"] == "detect", made.output, made.tile
    area, outlines = _part(scene, how)
    if tile is None:
        tile = tile_for(scene, assistant.processor.image_size, gsd) if detects else 0
    tile = tile or max(area[2:] if area else scene.size)
    overlap = (tile // 4 if overlap is None else overlap) if detects else 0
    job = Job(tile=max(16, tile), overlap=overlap, area=area, outlines=outlines, model=how.model, **wanted)
    record = output and output.with_name(f"{output.name}.tiles.jsonl")
    if record and how.overwrite:
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

        if how.engine == "ray":
            found = scan_on_ray(how.model, scene, job, record, how.batch_size, told, how.workers)
        else:
            found = scan(assistant, scene, job, record, how.batch_size, told)
    regions = [feature.region for feature in found.features]
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
    say(value, how.as_json, "\n".join(lines) or "nothing found")
    common = {"model": how.model, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    for path in filter(None, (output, made.preview)):
        write_features(path, found.features, scene, common, how.overwrite)
    if output:
        record.unlink(missing_ok=True)
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


def _part(scene: Any, how: Survey) -> tuple[Any, tuple]:
    """The window of a scene that is asked about, None for all, and the outlines in it."""
    from earthgpt.geo.areas import bounding_box, outlines_of, read_areas, window_of

    if sum(one is not None for one in (how.window, how.bbox, how.aoi)) > 1:
        raise EarthGPTError("Give one of --window, --bbox and --aoi.")
    if how.bbox is not None:
        return bounding_box(scene, how.bbox), ()
    if how.aoi is not None:
        import numpy as np

        outlines = outlines_of(scene, read_areas(how.aoi))
        return window_of(scene, np.array([point for ring in outlines for point in ring])), outlines
    return _window(how.window, scene.size), ()


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


def write_features(path: Path, features: Sequence[Any], scene: Any, common: dict[str, Any], overwrite: bool) -> None:
    from earthgpt.geo.vectors import open_writer

    with open_writer(path, scene, properties=common, overwrite=overwrite) as writer:
        writer.add(features)
    err.print(f"Wrote {path}", highlight=False, markup=False, soft_wrap=True)

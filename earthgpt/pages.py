"""Reports for people: tables of one, of several and of two that are compared, and a page with pictures of answers."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Mapping
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from earthgpt.geo.pictures import mark
from earthgpt.geo.raster import Raster, open_raster
from earthgpt.reports import Compared, Report, from_plain, without_nan, write_text
from earthgpt.tables import Table, comma_separated, html, latex, markdown
from earthgpt.types import Box, EarthGPTError, OrientedBox, Region

Images = Callable[[str], Raster | None]
WRITERS = {".md": markdown, ".tex": latex, ".csv": comma_separated}
SIDE = 360  # of the pictures of a page, in pixels
_COLOURS = {"true": "#009E73", "said": "#E69F00"}
_STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}th,td{padding:.2em .7em;border-bottom:1px solid #ccc;text-align:right}"
    "th:first-child,td:first-child{text-align:left}pre{white-space:pre-wrap;overflow-wrap:anywhere}"
    ".cases{display:grid;grid-template-columns:repeat(auto-fill,minmax(20em,1fr));gap:1em}"
    "figure{margin:0;border:1px solid #ccc;padding:.5em}img{max-width:100%}dt{color:#777;font-size:.85em}"
    "dd{margin:0 0 .3em;overflow-wrap:anywhere}"
)


def tables(reports: Mapping[str, Report]) -> list[Table]:
    """One report by name, or several side by side: figures with intervals and chance, then kinds, classes, mistakes."""
    found = [_figures(reports)]
    for title, part in (("by kind", "by_kind"), ("by class", "by_class")):
        for name, report in reports.items():
            if figures := getattr(report, part):
                found.append(_grouped(f"{name}: {report.task} {title}", figures))
    for name, report in reports.items():
        if mistakes := _mistakes(report, name):
            found.append(Table(f"{name}: most frequent mistakes", ("truth", "answer", "times"), mistakes))
        if notes := _notes(report):
            found.append(Table(f"{name}: notes", ("what", "how many or why"), notes))
    return found


def compared_tables(compared: Compared, names: tuple[str, str]) -> list[Table]:
    """The tables of a comparison."""
    rows = []
    for metric, value in compared.one.items():
        told = compared.differences.get(metric)
        difference = shown(value - compared.other.get(metric, math.nan), sign=True)
        test = ("", "") if told is None else (_interval((told.low, told.high)), _probability(told.probability))
        rows.append((metric, shown(value), shown(compared.other.get(metric, math.nan)), difference, *test))
    note = f"{compared.examples:,} questions{'; the paired bootstrap draws images' if compared.differences else ''}."
    if any(compared.left_out):
        note += f" Not compared: {compared.left_out[0]:,} of the first, {compared.left_out[1]:,} of the second."
    header = ("metric", *names, "difference", "95 % interval", "p")
    found = [Table(f"{compared.task}: {names[0]} and {names[1]}", header, tuple(rows), note)]
    if compared.right:
        header = ("right or wrong", f"only {names[0]} right", f"only {names[1]} right", "p (McNemar)")
        rows = [(name, f"{one:,}", f"{other:,}", _probability(p)) for name, (one, other, p) in compared.right.items()]
        found.append(Table("Answers that differ", header, tuple(rows)))
    if compared.by_kind:
        rows = [
            (f"{kind}: {metric}", shown(value), shown(other[metric]), shown(value - other[metric], sign=True))
            for kind, (one, other) in compared.by_kind.items()
            for metric, value in one.items()
        ]
        found.append(Table("By kind", ("metric", *names, "difference"), tuple(rows)))
    return found


def page(report: Report, name: str, images: Images | None = None, cases: int = 12) -> str:
    """One self-contained HTML page: tables, and the best and worst answers with their pictures.

    ``images`` gives the image of a name, None where it is not at hand; it may raise EarthGPTError, which is shown.
    Boxes of the truth are drawn in one colour, those of the prediction in another.
    """
    order = sorted(range(len(report.answers)), key=lambda i: _score(report.answers[i]))
    worst = order[:cases]
    best = [i for i in reversed(order) if i not in worst][:cases]
    parts = [html(tables({name: report}))]
    for title, numbers in (("Worst answers", worst), ("Best answers", best)):
        if numbers:
            shown_cases = "\n".join(_case(report.answers[i], images) for i in numbers)
            parts.append(f'<h2>{title}</h2>\n<div class="cases">\n{shown_cases}\n</div>')
    settings = json.dumps(without_nan(report.settings) | {"versions": report.versions}, indent=1, ensure_ascii=False)
    parts.append(f"<h2>Settings</h2>\n<pre>{escape(settings)}</pre>")
    return whole_page(f"{name}: {report.task}", "\n".join(parts))


def whole_page(title: str, body: str) -> str:
    """A page that stands alone; ``title`` is text, ``body`` HTML."""
    title = escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{body}\n</body></html>\n"
    )


def save(path: str | Path, reports: Mapping[str, Report], images: Images | None = None) -> None:
    """Writes what the ending of the name says: .json (one report), .md, .tex, .csv or .html (one report).

    Raises EarthGPTError for another ending, and where it cannot be written.
    """
    ending = ending_of(path)
    if ending in (".json", ".html") and len(reports) != 1:
        raise EarthGPTError(f"{ending} takes one report, not {len(reports)}; write .md, .tex or .csv.")
    name, report = next(iter(reports.items()))
    if ending == ".json":
        report.write(path)
    elif ending == ".html":
        write_text(path, page(report, name, images))
    else:
        write_text(path, WRITERS[ending](tables(reports)))


def save_compared(path: str | Path, compared: Compared, names: tuple[str, str]) -> None:
    """Writes a comparison as the ending of the name says: .json, .md, .tex, .csv or .html. Raises as ``save``."""
    ending, found = ending_of(path), compared_tables(compared, names)
    if ending == ".json":
        write_text(path, json.dumps(compared.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    elif ending == ".html":
        write_text(path, whole_page(" and ".join(names), html(found)))
    else:
        write_text(path, WRITERS[ending](found))


def ending_of(path: str | Path) -> str:
    """The ending of a name that tables can be written under. Raises EarthGPTError for another."""
    ending = Path(path).suffix.lower()
    if ending not in (".json", ".html", *WRITERS):
        raise EarthGPTError(f"Reports are written as .json, .md, .tex, .csv or .html; not {ending or str(path)!r}.")
    return ending


def images_in(folder: str | Path) -> Images:
    """Finds images by their names in a folder and nowhere else; names without ending are tried with the usual ones, and
    names with folders also as if the folder were one of these. Raises EarthGPTError where there is no such folder."""
    root = Path(folder).resolve()
    if not root.is_dir():
        raise EarthGPTError(f"There is no folder {folder} of images.")

    def find(name: str) -> Raster | None:
        parts = [name] if ".." in name else name.split("/")
        shorter = ["/".join(parts[start:]) for start in range(len(parts))]
        for one, ending in product(shorter, ("", ".png", ".jpg", ".jpeg", ".tif")):
            path = root / f"{one}{ending}"
            try:
                there = bool(name) and path.resolve().is_relative_to(root) and path.is_file()
            except (OSError, ValueError):  # a name that no file can have
                return None
            if there:
                return open_raster(path)
        return None

    return find


def shown(value: float, sign: bool = False) -> str:
    """A figure with four decimals, a whole number as it is, nothing for NaN."""
    if isinstance(value, int):
        return f"{value:,}"
    return "" if not math.isfinite(value) else f"{value:+.4f}" if sign else f"{value:.4f}"


def _probability(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _interval(ends: tuple[float, float]) -> str:
    low, high = map(shown, ends)
    return f"{low} to {high}" if low else ""


def _figures(reports: Mapping[str, Report]) -> Table:
    header, columns = ["metric"], []
    for name, report in reports.items():
        header += [name, "95 % interval"]
        columns += [report.metrics, {metric: _interval(ends) for metric, ends in report.intervals.items()}]
        for baseline, figures in report.baselines.items():
            header.append(baseline if len(reports) == 1 else f"{name}: {baseline}")
            columns.append(figures)
    metrics = dict.fromkeys(metric for report in reports.values() for metric in report.metrics)
    rows = []
    for metric in metrics:
        cells = (column.get(metric, "") for column in columns)
        rows.append((metric, *(cell if isinstance(cell, str) else shown(cell) for cell in cells)))
    counts = "; ".join(
        f"{name}: {report.examples:,} questions, {report.unparsed:,} unread" for name, report in reports.items()
    )
    task = ", ".join(dict.fromkeys(report.task for report in reports.values()))
    return Table(task, tuple(header), tuple(rows), f"{counts}.")


def _grouped(title: str, groups: Mapping[str, Mapping[str, float]]) -> Table:
    metrics = tuple(dict.fromkeys(metric for figures in groups.values() for metric in figures))
    rows = (
        (group or "(no kind)", *(shown(figures.get(metric, math.nan)) for metric in metrics))
        for group, figures in groups.items()
    )
    return Table(title, ("", *metrics), tuple(rows))


def _mistakes(report: Report, name: str, most: int = 15) -> tuple[tuple[str, ...], ...]:
    """What is most often taken for what."""
    if not report.confusion:
        return ()
    try:
        classes = [*report.confusion["classes"], "(no class)"]
        counts = np.array(report.confusion["counts"], int).reshape(len(classes) - 1, len(classes))
    except (KeyError, TypeError, ValueError):
        raise EarthGPTError(f"{name} is damaged: its confusion matrix cannot be read.") from None
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    places = ((int(place) // len(classes), int(place) % len(classes)) for place in order)
    return tuple((str(classes[i]), str(classes[j]), f"{counts[i, j]:,}") for i, j in places if counts[i, j])


def _notes(report: Report) -> tuple[tuple[str, str], ...]:
    notes = [(f"left out: {metric}", str(why)) for metric, why in report.left_out.items()]
    defects = report.data.get("defects")
    lines = report.data.get("lines")
    for what, count in defects.items() if isinstance(defects, dict) else ():
        where = lines.get(what) if isinstance(lines, dict) else None
        more = ["..."] if where and count > len(where) else []
        notes.append((str(what), f"{count}" + (f" (line {', '.join(map(str, [*where, *more]))})" if where else "")))
    return tuple(notes)


def _score(answer: Mapping[str, Any]) -> float:
    score = answer.get("score")
    return float(score) if isinstance(score, float | int) else 0.0


def _case(answer: Mapping[str, Any], images: Images | None) -> str:
    score = answer.get("score")
    lines = [
        ("image", answer.get("image")),
        ("question", answer.get("question")),
        ("truth", _told(answer.get("truth"))),
        ("answer", answer.get("prediction")),
        ("score", f"{score:.4f}" if isinstance(score, float) else score),
    ]
    text = "".join(
        f"<dt>{name}</dt><dd>{escape(_short(value))}</dd>" for name, value in lines if value not in ("", None)
    )
    return f"<figure>{_picture(answer, images)}<dl>{text}</dl></figure>"


def _picture(answer: Mapping[str, Any], images: Images | None) -> str:
    if images is None:
        return ""
    try:
        raster = images(str(answer.get("image") or ""))
        if raster is None:
            return ""
        regions = [*_marked(answer.get("truth"), "true"), *_marked(answer.get("read"), "said")]
    except EarthGPTError as error:
        return f"<p>{escape(str(error))}</p>"
    except ValueError:
        return "<p>Its boxes cannot be drawn.</p>"
    picture = Image.fromarray(raster.pixels).convert("RGB")
    scale = SIDE / max(picture.size)
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.BICUBIC)
    colours = {region.label: _COLOURS[region.label.split(" ", 1)[0]] for region in regions}
    mark(picture, regions, colours)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}">'


def _marked(value: Any, word: str) -> list[Region]:
    """The boxes of a plain value, labelled with who said them; labels in letters that every font has."""
    found = from_plain(value)
    if isinstance(found, Box | OrientedBox):
        return [Region(found, word)]
    regions = [one for one in found if isinstance(one, Region)] if isinstance(found, tuple) else []
    labels = (" ".join(str(region.label).encode("ascii", "replace").decode().split())[:24] for region in regions)
    return [Region(one.box, f"{word} {label}", one.score) for one, label in zip(regions, labels, strict=True)]


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any, most: int = 400) -> str:
    text = str(value)
    return text if len(text) <= most else text[:most] + " ..."

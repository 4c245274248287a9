"""Tables of text, written as Markdown, LaTeX, CSV and HTML; whatever stands in a cell is text and nothing else."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_MARKDOWN = re.compile(r"([\\`*\[\]|<>!])")
_NUMBER = re.compile(r"[-+]?[\d.,]+ ?%?")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a header, with a title and a note, which may be empty."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def markdown(tables: Sequence[Table]) -> str:
    """Tables of GitHub's Markdown, each under a heading."""
    return "\n".join(_markdown(table) for table in tables)


def latex(tables: Sequence[Table]) -> str:
    """``table`` environments with plain ``tabular`` and ``\\hline``: no package is needed."""
    return "\n".join(_latex(table) for table in tables)


def comma_separated(tables: Sequence[Table]) -> str:
    """CSV: title, header and rows of each table, an empty line between two. No cell is read as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, table in enumerate(tables):
        rows = ([] if i == 0 else [()]) + [(table.title,), table.header, *table.rows]
        writer.writerows([no_formula(cell) for cell in row] for row in rows)
    return text.getvalue()


def html(tables: Sequence[Table]) -> str:
    """``<table>`` elements with headings, for the body of a page."""
    return "\n".join(_html(table) for table in tables)


def _markdown(table: Table) -> str:
    def text(value: str) -> str:
        return _MARKDOWN.sub(r"\\\1", _line(value))

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(text, cells)) + " |"

    rule = "|" + "|".join("---" if i == 0 else "---:" for i in range(len(table.header))) + "|"
    note = f"\n{text(table.note)}\n" if table.note else ""
    return "\n".join([f"### {text(table.title)}", "", row(table.header), rule, *map(row, table.rows), note])


def _latex(table: Table) -> str:
    def text(value: str) -> str:
        return "".join(_LATEX.get(mark, mark) for mark in _line(value))

    rows = [" & ".join(map(text, cells)) + r" \\" for cells in (table.header, *table.rows)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{text(table.title)}{'. ' + text(table.note) if table.note else ''}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\hline",
            rows[0],
            r"\hline",
            *rows[1:],
            r"\hline",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _html(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    rows = "\n".join(row(cells, "td") for cells in table.rows)
    note = f"<p>{escape(table.note)}</p>\n" if table.note else ""
    return f"<h2>{escape(table.title)}</h2>\n<table>\n{row(table.header, 'th')}\n{rows}\n</table>\n{note}"


def _line(text: str) -> str:
    return " ".join(text.split())


def no_formula(cell: str) -> str:
    """A cell of a CSV; one that a spreadsheet would run gets an apostrophe in front."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not _NUMBER.fullmatch(cell) else cell

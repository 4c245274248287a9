"""Renews what is measured in the card of a model: its runs, its figures, how sure and how honest it is.

    python benchmarks/card.py earthgpt-tiny data earthgpt/pretrained/earthgpt-tiny/README.md

Tables stand in the card between the lines `<!-- runs -->` and `<!-- end -->`, and so for `figures` and `honesty`;
what is written around them is left as it is. Takes as long as figures.py --blind and honesty.py together; --only
renews some, and --blind-limit asks fewer questions in the three of four passes that are without their images.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import figures
import honesty

from earthgpt import lookup
from earthgpt.assistant import load


def run_rows(runs: list[dict]) -> str:
    """A table of the runs that a model comes from, and one of their data."""
    rows = ["| learned | pixels | steps | images seen |\n|---|---:|---:|---:|"]
    for run in runs:
        what = [f"text, up to {run['text_tokens']} tokens an image"] if run["text_tokens"] else []
        what += [f"dense heads ({run['dense']:g})"] if run["dense"] else []
        seen = run["steps"] * run["batch_size"]
        sizes = sorted({*(run.get("image_sizes") or [run["image_size"]])})
        rows.append(f"| {', '.join(what)} | {', '.join(map(str, sizes))} | {run['steps']:,} | {seen:,} |")
    total = sum(run["steps"] * run["batch_size"] for run in runs)
    rows += [f"| all | | | {total:,} |", "\n| data set | part | licence |\n|---|---|---|"]
    parts = {
        (one["dataset"], one.get("split", "train"), one.get("part")): None for run in runs for one in run["sources"]
    }
    for name, split, part in parts:
        card = lookup.find("datasets", name)
        rows.append(f"| {card.title} | {split}{f', part {part}' if part else ''} | {card.licence} |")
    return "\n".join(rows)


def renewed(text: str, name: str, table: str) -> str:
    """A card with another table at one of its places. Raises SystemExit where it has no such place."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"The card has no lines <!-- {name} --> and <!-- end -->.")
    return pattern.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", text, count=1)


def told(lines: Iterable[str]) -> Iterator[str]:
    """Lines, as they are found also on the terminal: all of them take long."""
    for line in lines:
        print(line, flush=True)
        yield line


def main() -> None:
    """Renews the card, table by table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("card", type=Path)
    parser.add_argument("--limit", type=int, default=400, help="questions of each row of the figures")
    parser.add_argument("--blind-limit", type=int, help="of them without their images; default: as --limit")
    parser.add_argument("--images", type=int, default=100, help="images of each set for how sure it is")
    parser.add_argument("--only", nargs="+", choices=("runs", "figures", "honesty"), help="some of the tables")
    arguments = parser.parse_args()
    asked = arguments.limit, arguments.blind_limit or arguments.limit
    assistant = load(arguments.model)
    tables = {
        "runs": lambda: run_rows(assistant.model.config.runs),
        "figures": lambda: "\n".join([figures.header(*asked), *told(figures.lines(assistant, arguments.data, *asked))]),
        "honesty": lambda: honesty.tables(assistant, arguments.data, arguments.images),
    }
    for name in arguments.only or tables:
        table = tables[name]()
        text = renewed(arguments.card.read_text(encoding="utf-8"), name, table)
        arguments.card.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""All benchmarks in one table: each row is a ratio beside a named rival, on the same work, in the same run.

    make bench
    make bench ARGS="asking startup --quick"
    python benchmarks/run.py --quick --check benchmarks/expected.json

Every benchmark runs in a process of its own; those of what commands do, with the commands' settings of threads. "ratio"
is how many times better ours is; "floor" is what operations and bytes allow this machine, and "from it" how many times
that ours is; "the same" what was checked to be equal, or there is no row; "clean" says how many samples nobody
disturbed. Rivals that are not installed are left out: `pip install sahi datasets` brings two more. expected.json has
the ratios of --quick, of two processors the lower one (a Xeon with AMX, an EPYC without); not in --quick some rows have
another name, and those that it expects were not measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from table import Row, table

from earthgpt.cli.console import be_quiet

NAMES = (
    "startup", "answers", "asking", "decoding", "boxes", "choices", "evaluating", "folder", "scenes", "reading",
    "pixels", "serving", "training", "records", "building", "parsing", "metrics", "quantised",
)  # fmt: skip
COMMANDS = ("answers", "folder", "scenes", "serving")  # measured as the command line sets its threads
MARGIN = 0.8  # of a ratio that was expected; below is a failure


def main(words: list[str] | None = None) -> int:
    """Prints the table; the exit code is 1 where a benchmark failed or a ratio fell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all where none is given")
    parser.add_argument("--quick", action="store_true", help="less work, and fewer rounds")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the ratios in a JSON file; others there stay")
    fails = f"fail below {MARGIN} of a ratio of such a file, and where one of a benchmark that ran was not measured"
    parser.add_argument("--check", type=Path, metavar="FILE", help=fails)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if arguments.one:
        measure(arguments.names[0], arguments.quick, arguments.one)
        return 0
    print(table([]))
    rows, ran, notes, failed = [], set(), [], False
    for name in arguments.names or NAMES:
        found, note, broken = of(name, arguments.quick)
        rows += found
        if note:
            notes.append(f"{name}: {note}")
        else:
            ran.add(name)
        failed |= broken
        for line in table(found).splitlines()[2:]:
            print(line, flush=True)
    if arguments.check:
        fallen = below(rows, ran, json.loads(arguments.check.read_text(encoding="utf-8")))
        notes, failed = notes + fallen, failed or bool(fallen)
    if arguments.write:
        kept = json.loads(arguments.write.read_text(encoding="utf-8")) if arguments.write.exists() else {}
        kept |= {row.key: float(f"{row.ratio:.3g}") for row in rows}
        arguments.write.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for note in notes:
        print(f"\n{note}")
    return int(failed)


def of(name: str, quick: bool) -> tuple[list[Row], str, bool]:
    """The rows of a benchmark; why there are none; and whether that is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, __file__, name, "--one", str(file), *(["--quick"] if quick else [])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return [], f"failed\n{done.stderr[-2000:]}", True
        found = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(found, str):
        return [], f"left out: {found}", False
    return [Row(**one) for one in found], "", False


def measure(name: str, quick: bool, file: Path) -> None:
    """Writes the rows of a benchmark, or what it needs and there is not."""
    if name in COMMANDS:
        be_quiet()
    try:
        found: str | list = [asdict(row) for row in importlib.import_module(name).rows(quick)]
    except (ImportError, FileNotFoundError) as error:
        found = str(error)
    file.write_text(json.dumps(found), encoding="utf-8")


def below(rows: list[Row], ran: Collection[str], expected: dict[str, float]) -> list[str]:
    """What to say of ratios that fell, and of those that were not measured although their benchmark ran."""
    found = {row.key: row.ratio for row in rows}
    said = []
    for key, ratio in expected.items():
        if key in found and found[key] < MARGIN * ratio:
            said.append(f"{key}: {found[key]:.3g} times, but {ratio:.3g} were expected")
        elif key not in found and key.split(":")[0] in ran:
            said.append(f"{key}: not measured, but {ratio:.3g} times were expected")
    return said


if __name__ == "__main__":
    sys.exit(main())

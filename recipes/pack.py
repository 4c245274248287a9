"""Packs the data sets of a recipe, and of the stages before it, into tar files of a size that can be moved, for a
machine that has a graphics card and no data.

    python recipes/pack.py recipes/tiny.toml parts --most 60
    ls parts                                                   # part1.tar, part2.tar ...
    for part in parts/*.tar; do tar xf $part; done             # there, in the folder that the recipe is run from

Files are taken as they are, so that a part holds at most --most MB of them (10^6 bytes), and together.
"""

from __future__ import annotations

import argparse
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from earthgpt.config import load_recipe
from earthgpt.types import EarthGPTError


def folders(recipe: Path) -> dict[str, None]:
    """The folders of all data sets of a recipe and of the stages before it, once each."""
    found, stage = {}, load_recipe(recipe)
    while True:
        found |= {source.root: None for source in (*stage.sources, *stage.validation) if source.root}
        if not stage.after:
            return found
        stage = load_recipe(stage.after)


def parts(files: list[Path], most: int) -> Iterator[list[Path]]:
    """The files in groups of at most ``most`` bytes, as they take in a tar file. Raises EarthGPTError for one that is
    larger alone."""
    group, size = [], 0
    for file in files:
        takes = 512 + -(-file.stat().st_size // 512) * 512  # a header, and whole blocks
        takes += 2048 if len(os.fsencode(file)) > 90 else 0  # a long name has blocks of its own
        if takes > most:
            raise EarthGPTError(f"{file} alone takes {takes:,} bytes, more than a part of {most:,}; raise --most.")
        if size + takes > most:
            yield group
            group, size = [], 0
        group.append(file)
        size += takes
    if group:
        yield group


def pack(recipe: Path, output: Path, most: int) -> list[Path]:
    """Writes the parts; returns them. Raises EarthGPTError for a data set that is not there."""
    files = []
    for root in folders(recipe):
        found = sorted(path for path in Path(root).rglob("*") if path.is_file())
        if not found:
            raise EarthGPTError(f"{root}, which {recipe} names, holds no files; run this where the data sets lie.")
        files += found
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for number, group in enumerate(parts(files, most - 10_240), 1):  # a tar file ends in whole records
        written.append(output / f"part{number}.tar")
        with tarfile.open(written[-1], "w", format=tarfile.GNU_FORMAT, dereference=True) as tar:
            for file in group:
                tar.add(file)
    return written


def main() -> None:
    """Packs, and says what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--most", type=float, default=60, help="MB of a part")
    arguments = parser.parse_args()
    try:
        written = pack(arguments.recipe, arguments.output, int(arguments.most * 1e6))
    except EarthGPTError as error:
        raise SystemExit(str(error)) from None
    for path in written:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

"""Where the files of a data set lie: found below its folder, however it was unpacked."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from earthgpt.types import EarthGPTError

IMAGES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp"}


class MissingFilesError(EarthGPTError):
    """A data set, or a part of one, is not there."""


def layout(root: Path, *candidates: str) -> Path:
    """What ``search`` finds; MissingFilesError with what was looked for and what there is when it finds nothing."""
    found = search(root, *candidates)
    if found is None:
        raise MissingFilesError(f"No file or folder {' or '.join(candidates)} in {root}; it holds {content_of(root)}.")
    return found


def search(root: Path, *candidates: str) -> Path | None:
    """The first of some files or folders (patterns below ``root``) that is there, up to two folders further down too:
    archives are unpacked into folders of any name, and of the same name twice.

    ``root`` may itself be the folder that a candidate starts with.
    """
    within = [candidate.removeprefix(f"{root.name}/") for candidate in candidates if candidate != root.name]
    for wrapping, patterns in (("", candidates), ("", within), ("*/", candidates), ("*/*/", candidates)):
        for pattern in patterns:
            found = sorted(path for path in root.glob(wrapping + pattern) if visible(path, root))
            if found:
                return found[0]
        if patterns is within and root.name in candidates:
            return root
    return None


def content_of(root: Path) -> str:
    """The names of what lies in a folder, of the first eight, for a message."""
    there = sorted(path.name for path in root.iterdir())
    return ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else "nothing"


def visible(path: Path, root: Path) -> bool:
    """Whether no part of a path below ``root`` is hidden or made by macOS (``._a.xml``, ``__MACOSX``)."""
    return not any(part[0] == "." or part == "__MACOSX" for part in path.relative_to(root).parts)


def either(folder: Path, *names: str) -> Path:
    """The first of some files or folders in ``folder`` that is there; else the first.

    Of a folder that lies in another of its name, as archives are unpacked, it is the inner one.
    """
    return inner(next((folder / name for name in names if (folder / name).exists()), folder / names[0]))


def inner(folder: Path) -> Path:
    """The folder of its own name that lies in a folder, as archives are unpacked; itself without one."""
    return folder / folder.name if (folder / folder.name).is_dir() else folder


def above(found: Path, root: Path, *names: str) -> Path:
    """The folder that holds the first folder of one of some names on the way down from ``root`` to ``found``."""
    return next(path for path in reversed(found.parents) if path.is_relative_to(root) and path.name in names).parent


def images_below(*folders: Path) -> dict[str, Path]:
    """Image files at any depth, by name without suffix."""
    found = [path for folder in folders for path in files(folder, "**/*") if path.suffix.lower() in IMAGES]
    return {path.stem: path for path in reversed(found)}


def paired(
    annotations: Sequence[Path], images: Mapping[str, Path], folder: Path, suffix: str, defects: Counter
) -> Iterator[tuple[Path, Path]]:
    """Each annotation file with the image of its name, or else with where that is missing: in ``folder``.

    Images without an annotation are counted in ``defects``.
    """
    defects["images without annotations"] += len(images.keys() - {path.stem for path in annotations})
    for path in annotations:
        yield path, images.get(path.stem, folder / f"{path.stem}{suffix}")


def files(folder: Path, pattern: str, mangled: bool = False) -> list[Path]:
    """The files of a pattern, folder by folder in natural order; hidden ones (``._a.xml`` of macOS) are left out.

    Raises EarthGPTError for a name that is not UTF-8, unless ``mangled`` ones are understood.
    """
    found = [path for path in folder.glob(pattern) if visible(path, folder) and path.is_file()]
    found = found if mangled else list(map(writable, found))
    return sorted(found, key=lambda path: (path.parent.as_posix(), natural(path)))


def writable(path: Path) -> Path:
    """The path, as it is. Raises EarthGPTError for a name that is not UTF-8, which no table and no record can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="replace")
        raise EarthGPTError(f"The name of {shown} is not UTF-8: rename it (convmv -f latin1 -t utf8).") from None
    return path


def natural(path: Path) -> list:
    """A sort key that puts ``a_2`` before ``a_10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]

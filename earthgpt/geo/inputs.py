"""What a user names as input: files, folders, patterns and STAC items, as a list of images."""

from __future__ import annotations

import glob
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from earthgpt.folders import writable
from earthgpt.geo.sources import SUFFIXES, is_product
from earthgpt.types import EarthGPTError

_log = logging.getLogger("earthgpt")
_ROLES = ("visual", "data", "overview")  # of a STAC asset, the one that is shown first


def expand(inputs: Iterable[str | Path]) -> list[Path | str]:
    """The images that inputs stand for, each once, in order.

    The folder of a Sentinel-1, Sentinel-2 or Landsat product is one image, another is all images below it, by name and
    without hidden ones; an address (``https://...``) stays as it is; a pattern (``*.tif``) what it matches; a ``.json``
    file a STAC item, or a collection of items, of whose assets the first of the roles visual, data and overview is
    taken (STAC 1.0). Other files are taken as they are. Raises EarthGPTError for what is not there, what holds no
    image, and names that are not UTF-8.
    """
    found: dict[Path | str, None] = {}
    for one in map(str, inputs):
        meant = {path if isinstance(path, str) else writable(path): None for path in _expand(one)}
        found |= meant
        if not meant and not Path(one).is_file() and not _elsewhere(one):
            raise EarthGPTError(f"{one} holds no image ({', '.join(sorted(SUFFIXES))}).")
    return list(found)


def _elsewhere(one: str) -> bool:
    return "://" in one or one.startswith("/vsi")


def _expand(one: str) -> Iterator[Path | str]:
    path = Path(one)
    if _elsewhere(one):
        yield one
    elif is_product(path):
        yield path
    elif path.is_dir():
        below = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        below = [file for file in below if not any(one[0] == "." for one in file.relative_to(path).parts)]
        if dangling := [file for file in below if file.is_symlink() and not file.exists()]:
            _log.warning("%s: %d links lead nowhere and are left out (%s)", path, len(dangling), min(dangling))
        yield from sorted(file for file in below if file.is_file())
    elif path.suffix.lower() == ".json" and path.is_file():
        yield from _assets(path)
    elif path.exists() or not glob.has_magic(one):
        yield path
    else:
        yield from (Path(name) for name in sorted(glob.iglob(one, recursive=True)))  # noqa: PTH207


def _assets(path: Path) -> Iterator[Path]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        items = value["features"] if value.get("type") == "FeatureCollection" else [value]
        chosen = [_asset(item) for item in items]
    except (ValueError, KeyError, AttributeError, TypeError, OSError):
        raise EarthGPTError(f"{path} is no STAC item and no collection of items.") from None
    for href in chosen:
        if href is None:
            raise EarthGPTError(f"{path} has no asset that is an image.")
        if "://" in href:
            raise EarthGPTError(f"{path} names {href}, which is not on this machine: download it first.")
        yield path.parent / href


def _asset(item: dict[str, Any]) -> str | None:
    """Where the asset that shows an item is, None where none is an image."""
    assets = list(item["assets"].values())
    for role in _ROLES:
        for asset in assets:
            if role in (asset.get("roles") or ()):
                return str(asset["href"])
    return next((str(asset["href"]) for asset in assets if "image/" in (asset.get("type") or "image/")), None)

"""Files and folders that are there whole or not at all: written beside their place, and then put into it."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def named(path: Path | None) -> Iterator[None]:
    """Gives the name of what is written to the error of a full disk, which has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(path)
        raise


@contextmanager
def whole_file(path: Path, several: bool = False) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its place at the end; after an error what was there stays.

    A process that is killed leaves ``.<name>.new``, which the next one begins anew. several: for what more than one
    process may write at a time; each has a path of its own then, and what was put in place last stays.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4) if several else 'new'}")
    try:
        with named(path):
            yield fresh
        os.replace(fresh, path)
    finally:
        with suppress(OSError):  # gone already, or never there; what went wrong is told by what was raised
            fresh.unlink()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` to fill, ``<name>.new``, which takes its place at the end; after an error what
    was there stays.

    A process that is killed between the two steps of the exchange leaves what was there as ``<name>.old``.
    """
    fresh, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        with named(folder):
            yield fresh
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)

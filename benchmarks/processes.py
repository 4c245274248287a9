"""Processes that are measured: what a command prints, and the memory of the process that asks."""

from __future__ import annotations

import subprocess
from pathlib import Path


def output(command: list[str]) -> str:
    """What a command prints. Raises CalledProcessError where it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def peak_kib() -> int:
    """Most KiB of memory that this process has had (ru_maxrss begins with that of its parent)."""
    return _kib("status", "VmHWM:")


def resident_kib() -> int:
    """KiB of memory that this process has now, counted page by page."""
    return _kib("smaps_rollup", "Rss:")


def _kib(file: str, field: str) -> int:
    lines = (Path("/proc/self") / file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

"""Timing on a machine that others use too: ways take turns in one process, and samples count that nobody disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DISTURBED = 0.06  # of the machine, that others took during a sample
_LEAST_S = 0.2  # a sample lasts as long, by repeating what is short: the kernel counts in hundredths of a second
_LONG_S = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Timing:
    """What a way took.

    seconds: of the best sample that was not disturbed; of the best of all where none was. clean, dirty: how many
    samples were not disturbed, and how many were. result: what the way returned last.
    """

    seconds: float
    clean: int
    dirty: int
    result: Any

    @property
    def samples(self) -> str:
        """How many were clean, of how many."""
        return f"{self.clean} of {self.clean + self.dirty}"


def in_turn(
    ways: Mapping[str, Callable[[], Any]],
    rounds: int = 3,
    patience_s: float = 30.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """The timing of each way. They go one after the other, A B A B, until each has so many clean samples, or so many
    rounds and no patience left.

    clock: ``time.process_time`` for what runs in one thread, which a busy machine changes less.
    """
    results: dict[str, Any] = {}
    repeats = dict.fromkeys(ways, 1)
    taken: dict[str, list[tuple[bool, float]]] = {name: [] for name in ways}

    def sample(name: str) -> float:
        before, start, wall = others(), clock(), time.perf_counter()
        for _ in range(repeats[name]):
            results[name] = ways[name]()
        seconds, wall = (clock() - start) / repeats[name], time.perf_counter() - wall
        taken[name].append(((others() - before) / (wall * (os.cpu_count() or 1)) >= DISTURBED, seconds))
        return wall

    for name in ways:  # the first call pays for much, which counts where it is long; it tells how often to repeat
        if (wall := sample(name)) < _LONG_S:
            taken[name].clear()
        repeats[name] = max(1, round(_LEAST_S / max(wall, 1e-9)))
    until = time.perf_counter() + patience_s
    while True:
        enough = [sum(not dirty for dirty, _ in samples) >= rounds for samples in taken.values()]
        most = min(map(len, taken.values()))
        if all(enough) or (most >= rounds and time.perf_counter() > until):
            return {name: _timing(samples, results[name]) for name, samples in taken.items()}
        for name in ways:
            sample(name)


def others() -> float:
    """Processor seconds that all but this process, and its children that have ended, have used so far."""
    values = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    busy = sum(values[i] for i in (0, 1, 2, 5, 6, 7)) / _TICKS  # user, nice, system, interrupts, stolen
    times = os.times()
    return busy - (times.user + times.system + times.children_user + times.children_system)


def _timing(samples: list[tuple[bool, float]], result: Any) -> Timing:
    clean = [seconds for dirty, seconds in samples if not dirty]
    best = min(clean or [seconds for _, seconds in samples])
    return Timing(best, len(clean), len(samples) - len(clean), result)

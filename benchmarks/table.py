"""What a benchmark found, as a row of one table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

HEADER = ("benchmark", "ours", "rival", "its", "ratio", "goal", "floor", "from it", "the same", "clean")


@dataclass(frozen=True)
class Row:
    """One comparison.

    name: of the benchmark. what: is measured. ours, theirs: in ``unit``; less is better, unless it is a rate ("/s").
    rival: what it is compared with, and its version; a limit that was set is one too. goal: of the ratio.
    floor: in ``unit``, what operations and bytes allow this machine. same: what was checked to be equal in the same
    run. clean: how many samples nobody disturbed, of how many.
    """

    name: str
    what: str
    unit: str
    ours: float
    theirs: float
    rival: str
    goal: float | None = None
    floor: float | None = None
    same: str = ""
    clean: str = ""

    @property
    def key(self) -> str:
        """How the row is known from one run to the next."""
        return f"{self.name}: {self.what} / {re.sub(r' [0-9][^,]*', '', self.rival)}"  # without its version

    @property
    def ratio(self) -> float:
        """How many times better ours is; 1 is as good as the rival."""
        return self.ours / self.theirs if self.unit.endswith("/s") else self.theirs / self.ours

    @property
    def distance(self) -> float | None:
        """How many times the floor ours is from it."""
        if not self.floor:
            return None
        return self.floor / self.ours if self.unit.endswith("/s") else self.ours / self.floor

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of ``HEADER``."""
        mark = "" if self.goal is None or self.ratio >= self.goal else " (missed)"
        return (
            f"{self.name}: {self.what}, {self.unit}",
            _number(self.ours),
            self.rival,
            _number(self.theirs),
            f"{_number(self.ratio)}{mark}",
            _number(self.goal),
            _number(self.floor),
            _number(self.distance),
            self.same,
            self.clean,
        )


def table(rows: Iterable[Row]) -> str:
    """As Markdown."""
    lines = [HEADER, ["---" if name in ("benchmark", "rival", "the same") else "---:" for name in HEADER]]
    lines += [row.cells() for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@cache
def operations(kind: str = "float32") -> float:
    """Operations a second of a large product in the threads that torch has: the floor of what multiplies."""
    import torch

    from earthgpt.machine import matrix_rate

    return matrix_rate(torch.device("cpu"), getattr(torch, kind), seconds=1.0)


@cache
def bytes_read() -> float:
    """Bytes a second that a sum over much more than the caches reads, in the threads that torch has."""
    import torch
    from guard import in_turn

    values = torch.ones(2**27)  # 512 MiB
    return values.nbytes / in_turn({"sum": values.sum}, patience_s=3)["sum"].seconds

"""What this machine is."""

import os

import pytest

from earthgpt.machine import spare_cores


@pytest.mark.parametrize(("cores", "processes", "spare"), [(1, 1, 1), (2, 1, 1), (16, 1, 15), (16, 4, 3), (64, 1, 16)])
def test_cores_are_spared_for_each_process(monkeypatch, cores, processes, spare):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert spare_cores(processes) == spare
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert spare_cores(processes) == spare

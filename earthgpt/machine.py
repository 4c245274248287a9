"""What this machine is: its processors, its memory, how fast they multiply."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True)
class Device:
    """Where a model runs. memory: bytes in all, and free now."""

    name: str
    device: torch.device
    memory: int
    free: int


def devices() -> list[Device]:
    """The graphics cards that torch can use, or else the processor."""
    found = []
    for number in range(torch.cuda.device_count()):
        free, memory = torch.cuda.mem_get_info(number)
        found.append(Device(torch.cuda.get_device_name(number), torch.device("cuda", number), memory, free))
    if not found:
        memory = psutil.virtual_memory()
        name = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        found.append(Device(name, torch.device("cpu"), memory.total, memory.available))
    return found


def spare_cores(processes: int = 1) -> int:
    """How many cores each of some processes on this machine may take besides its own, from 1 to 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, max(1, cores // processes - 1))


def matrix_rate(device: torch.device, dtype: torch.dtype = torch.bfloat16, seconds: float = 0.3) -> float:
    """Floating-point operations a second of a large product of two square matrices, the best of several."""
    side = 8192 if device.type == "cuda" else 1024
    one = torch.randn(side, side, device=device, dtype=dtype)
    one @ one  # the first loads what the others need
    _wait(device)
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until or not best:
        _wait(device)
        began = time.perf_counter()
        one @ one
        _wait(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held: on a graphics card what torch held there, else of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Features of frozen encoders, kept on disk: an image is read and encoded once, and then only looked up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from earthgpt.files import whole_file
from earthgpt.types import EarthGPTError


class FeatureCache:
    """Visual features [h * w, C] in bfloat16 of up to ``count`` images, by number, in one memory-mapped file.

    Any number of processes on a machine may read and write: a row is written whole before it is marked, and those who
    write the same row write the same. A file that was interrupted is used again where encoders, shapes and ``sources``
    (what says which image has which number) are the same. It survives a killed process, not a loss of power.
    Raises EarthGPTError when the folder holds features of others.
    """

    def __init__(self, folder: Path, count: int, places: int, width: int, encoders: str, sources: str):
        self.shape = (count, places, width)
        is_about = {"images": count, "places": places, "width": width, "encoders": encoders, "sources": sources}
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / "features.json"
        if note.exists() and json.loads(note.read_text()) != is_about:
            raise EarthGPTError(f"{folder} holds features of other encoders or images: remove it.")
        with whole_file(note, several=True) as fresh:
            fresh.write_text(json.dumps(is_about))
        self.paths = folder / "features.bfloat16", folder / "known.bool"
        for path, size in zip(self.paths, (count * places * width * 2, count), strict=True):
            with path.open("ab") as file:  # a sparse file: only what is written takes space
                file.truncate(size)
        self._open()

    def _open(self) -> None:
        self.rows = np.memmap(self.paths[0], np.int16, "r+", shape=self.shape)
        self.known = np.memmap(self.paths[1], np.bool_, "r+", shape=self.shape[:1])

    def __getstate__(self):
        return {"shape": self.shape, "paths": self.paths}

    def __setstate__(self, state) -> None:
        self.__dict__.update(state)
        self._open()

    def get(self, number: int) -> torch.Tensor | None:
        """The features of an image [h * w, C], or None when they are not known yet."""
        return torch.from_numpy(self.rows[number].copy()).view(torch.bfloat16) if self.known[number] else None

    def put(self, numbers: Sequence[int], features: torch.Tensor) -> None:
        """Keeps features [n, h * w, C] of images."""
        rows = features.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy()
        for number, row in zip(numbers, rows, strict=True):
            self.rows[number] = row
            self.known[number] = True


def digest_of(encoder: nn.Module, settings: Mapping[str, Any]) -> str:
    """Tells encoders with other weights or ``settings`` apart, such as which layers are taken."""
    digest = blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

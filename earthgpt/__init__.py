"""EarthGPT: ask optical, SAR and infrared images; get words, boxes and map features.

The names below are imported when they are first used: nothing loads torch until a model is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module, and the name there where it differs (`open` would hide the builtin inside a module).
_PUBLIC = {
    "load": ("earthgpt.assistant", "load"),
    "EarthGPT": ("earthgpt.assistant", "EarthGPT"),
    "open": ("earthgpt.geo.raster", "open_raster"),
    "Raster": ("earthgpt.geo.raster", "Raster"),
    **{name: ("earthgpt.geo.vectors", name) for name in ("Feature", "open_writer", "write")},
    "draw": ("earthgpt.geo.pictures", "draw"),
    "build": ("earthgpt.building", "build"),
    "train": ("earthgpt.training", "train"),
    "evaluate": ("earthgpt.evaluation", "evaluate"),
    **{
        name: ("earthgpt.types", name)
        for name in ("Box", "Conversation", "EarthGPTError", "Message", "OrientedBox", "Region", "Sample", "Sensor")
    },
    **{
        name: ("earthgpt.model", name)
        for name in ("EarthGPTConfig", "EarthGPTForConditionalGeneration", "EarthGPTProcessor")
    },
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'earthgpt' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})

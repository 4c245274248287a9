"""Raw values of any sensor and type as 8-bit pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from earthgpt.types import EarthGPTError, Sensor

# The part of the values that a stretch maps to black and to white, in percent. Two is the custom of GIS software
# (QGIS "cumulative count cut"); SAR keeps its few brightest scatterers.
STRETCH = {Sensor.OPTICAL: (2.0, 98.0), Sensor.SAR: (1.0, 99.5), Sensor.INFRARED: (1.0, 99.5)}


@dataclass(frozen=True, slots=True)
class Stretch:
    """How the values of a band become 8 bits: ``low`` is black, ``high`` is white.

    ``floor`` is added to intensities of SAR before their logarithm is taken; None where values stay as they are.
    """

    low: float
    high: float
    floor: float | None = None

    def __call__(self, band: np.ndarray) -> np.ndarray:
        """uint8 of the shape of ``band``; NaN is black."""
        band = band.astype(np.float32)
        if self.floor is not None:
            band = _decibels(band, self.floor)
        finite = np.nan_to_num(band, nan=self.low, posinf=self.high, neginf=self.low)
        scaled = (finite - self.low) / max(self.high - self.low, 1e-12)
        return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_rgb8(values: np.ndarray, sensor: Sensor = Sensor.OPTICAL, valid: np.ndarray | None = None) -> np.ndarray:
    """``to_8bit`` with one band repeated: uint8 [H, W, 3]."""
    pixels = to_8bit(values, sensor, valid)
    grey = pixels if pixels.ndim == 3 else pixels[..., None]
    return np.ascontiguousarray(np.broadcast_to(grey, (*pixels.shape[:2], 3)))


def to_8bit(
    values: np.ndarray,
    sensor: Sensor = Sensor.OPTICAL,
    valid: np.ndarray | None = None,
    stretches: Sequence[Stretch] | None = None,
) -> np.ndarray:
    """Pixels of any kind as uint8, [H, W] for one band and [H, W, 3] for three.

    ``values`` is [H, W] or [H, W, C]; of two or more than three bands the first one or three are taken (bands in the
    order of the file; a fourth is often alpha). uint8 stays as it is. Other types are stretched, by ``stretches`` where
    these are given (of a larger image that the values are part of). ``valid`` [H, W] masks nodata, which becomes black.
    Raises EarthGPTError for an array of another shape or without pixels.
    """
    values = _bands(values)
    if values.dtype != np.uint8:
        if stretches is None:
            stretches = stretches_of(values, sensor, valid)
        values = np.stack([stretch(values[..., band]) for band, stretch in enumerate(stretches)], axis=-1)
    if valid is not None:
        values = np.where(valid[..., None], values, np.uint8(0))
    return values if values.shape[2] == 3 else values[..., 0]


def stretches_of(
    values: np.ndarray, sensor: Sensor = Sensor.OPTICAL, valid: np.ndarray | None = None
) -> tuple[Stretch, ...]:
    """The stretch of each band that ``to_8bit`` takes: between percentiles of its valid, finite values; intensities of
    SAR with a long tail by their logarithm.
    """
    values = _bands(values)
    return tuple(_stretch(values[..., band].astype(np.float32), sensor, valid) for band in range(values.shape[2]))


def _bands(values: np.ndarray) -> np.ndarray:
    """One or three bands of real numbers, [H, W, 1 or 3]."""
    values = np.asarray(values)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or 0 in values.shape:
        raise EarthGPTError(f"An image is an array [height, width] or [height, width, bands], not {values.shape}.")
    values = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    return np.abs(values) if np.iscomplexobj(values) else values


def _stretch(band: np.ndarray, sensor: Sensor, valid: np.ndarray | None) -> Stretch:
    chosen = band[np.isfinite(band) if valid is None else np.isfinite(band) & valid]
    if not chosen.size:
        return Stretch(0.0, float(np.finfo(np.float32).max))  # black
    floor = None
    if sensor is Sensor.SAR and chosen.min() >= 0 and chosen.mean() > 2 * np.median(chosen):
        floor = float(chosen.mean()) * 1e-3
        chosen = _decibels(chosen, floor)
    low, high = np.percentile(chosen, STRETCH[sensor])
    if high <= low:
        low, high = chosen.min(), chosen.max()
    return Stretch(float(low), float(high), floor)


def _decibels(band: np.ndarray, floor: float) -> np.ndarray:
    return 10 * np.log10(np.maximum(band, np.finfo(np.float32).tiny) + floor)

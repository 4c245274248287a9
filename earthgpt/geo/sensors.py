"""Raw values of any sensor and type as 8-bit pixels."""

from __future__ import annotations

import numpy as np

from earthgpt.types import EarthGPTError, Sensor

# The part of the values that a stretch maps to black and to white, in percent. Two is the custom of GIS software
# (QGIS "cumulative count cut"); SAR keeps its few brightest scatterers.
STRETCH = {Sensor.OPTICAL: (2.0, 98.0), Sensor.SAR: (1.0, 99.5), Sensor.INFRARED: (1.0, 99.5)}


def to_rgb8(values: np.ndarray, sensor: Sensor = Sensor.OPTICAL, valid: np.ndarray | None = None) -> np.ndarray:
    """Pixels of any kind as uint8 [H, W, 3].

    ``values`` is [H, W] or [H, W, C]: one band is repeated, of two or more than three the first one or three are
    taken (bands in the order of the file; a fourth is often alpha). uint8 stays as it is. Other types are stretched
    between percentiles of the valid, finite values, all three bands of an image alike for one band, each on its own
    for colour; intensities of SAR with a long tail are taken by their logarithm first. ``valid`` [H, W] masks nodata,
    which becomes black. Raises EarthGPTError for an array of another shape or without pixels.
    """
    values = np.asarray(values)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or 0 in values.shape:
        raise EarthGPTError(f"An image is an array [height, width] or [height, width, bands], not {values.shape}.")
    values = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if np.iscomplexobj(values):
        values = np.abs(values)
    if values.dtype != np.uint8:
        bands = [_stretch(values[..., band].astype(np.float32), sensor, valid) for band in range(values.shape[2])]
        values = np.stack(bands, axis=-1)
    if valid is not None:
        values = np.where(valid[..., None], values, np.uint8(0))
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def _stretch(band: np.ndarray, sensor: Sensor, valid: np.ndarray | None) -> np.ndarray:
    usable = np.isfinite(band) if valid is None else np.isfinite(band) & valid
    if not usable.any():
        return np.zeros(band.shape, np.uint8)
    chosen = band[usable]
    if sensor is Sensor.SAR and chosen.min() >= 0 and chosen.mean() > 2 * np.median(chosen):
        band = 10 * np.log10(np.maximum(band, np.finfo(np.float32).tiny) + chosen.mean() * 1e-3)
        chosen = band[usable]
    low, high = np.percentile(chosen, STRETCH[sensor])
    if high <= low:
        low, high = float(chosen.min()), float(chosen.max())
    scaled = (np.nan_to_num(band, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)

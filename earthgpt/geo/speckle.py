"""Speckle of SAR: averages of neighbours (multi-looking) and the filter of Lee."""

from __future__ import annotations

import numpy as np

LEE_SIDE = 7  # pixels: the window of Lee's filter


def box_mean(values: np.ndarray, valid: np.ndarray, side: int) -> np.ndarray:
    """The mean of the valid values in a square of ``side`` pixels about every pixel, float32 [h, w]; 0 without any.

    Squares are cut off at the edge. Of an even side the square reaches one pixel further up and to the left.
    """
    counted = _box_sum(valid.astype(np.float64), side)
    summed = _box_sum(np.where(valid, values, 0).astype(np.float64), side)
    return (summed / np.maximum(counted, 1)).astype(np.float32)


def _box_sum(values: np.ndarray, side: int) -> np.ndarray:
    # Neighbour by neighbour: a running sum would lose dim pixels beside bright ones, by rounding.
    before, after = side // 2, (side - 1) // 2
    height, width = values.shape
    padded = np.pad(values, ((before, after), (before, after)))
    down = sum(padded[start : start + height] for start in range(1, side)) + padded[:height]
    return sum(down[:, start : start + width] for start in range(1, side)) + down[:, :width]


def equivalent_looks(intensity: np.ndarray, valid: np.ndarray, side: int = LEE_SIDE) -> float:
    """The equivalent number of looks of intensities [h, w]: mean squared over variance, of areas without structure.

    These are taken to be the tenth of the squares in which it is highest (Oliver and Quegan, Understanding SAR Images,
    2004, 4.3, define it; to look for the smoothest part is common). At least 1, and 1 where nothing is valid.
    """
    mean = box_mean(intensity, valid, side)
    variance = box_mean(intensity.astype(np.float64) ** 2, valid, side) - mean.astype(np.float64) ** 2
    whole = (_box_sum(valid.astype(np.float64), side) == side * side) & (mean > 0) & (variance > 0)
    if not whole.any():
        return 1.0
    return float(max(1.0, np.percentile(mean[whole].astype(np.float64) ** 2 / variance[whole], 90)))


def lee(intensity: np.ndarray, valid: np.ndarray, looks: float, side: int = LEE_SIDE) -> np.ndarray:
    """Intensities [h, w] filtered: local mean + weight x (value - local mean), float32 (Lee, Digital image enhancement
    and noise filtering by use of local statistics, IEEE TPAMI 2, 1980).

    The weight is the variance of the scene over that of the image, with speckle multiplicative of variance 1 / looks:
    0 where the image varies no more than speckle, near 1 at edges and bright points.
    """
    mean = box_mean(intensity, valid, side).astype(np.float64)
    variance = np.maximum(box_mean(intensity.astype(np.float64) ** 2, valid, side) - mean**2, 0)
    speckle = 1 / looks
    scene = np.maximum((variance - mean**2 * speckle) / (1 + speckle), 0)
    weight = scene / np.maximum(scene + mean**2 * speckle, np.finfo(np.float64).tiny)
    return (mean + weight * (intensity - mean)).astype(np.float32)

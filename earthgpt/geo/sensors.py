"""Raw values of any sensor, unit and type as 8-bit pixels: docs/rasters.md has the sources and a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from earthgpt.types import EarthGPTError, Sensor

# The part of the values that a stretch maps to black and to white, in percent. Two is the custom of GIS software
# (QGIS "cumulative count cut"); SAR keeps its few brightest scatterers.
STRETCH = {Sensor.OPTICAL: (2.0, 98.0), Sensor.SAR: (1.0, 99.5), Sensor.INFRARED: (1.0, 99.5)}
MOST_DECIBELS = 300  # above and below 0: what a stretch of SAR may say
# What values may stand for. "values" is anything: counts, radiances. SAR is shown in decibels whatever it comes in, so
# one scene in any of its units is one picture.
UNITS = {
    Sensor.OPTICAL: ("values", "reflectance"),
    Sensor.SAR: ("amplitude", "intensity", "decibels"),
    Sensor.INFRARED: ("values", "kelvin", "celsius", "centikelvin"),
}
ZERO_CELSIUS_K = 273.15
# What names and tags tell of a sensor, as whole words.
WORDS = {
    Sensor.SAR: (
        r"s1[a-d]|sentinel-?1[a-d]?|sar|slc|grd|vv|vh|hh|hv|terrasar-?x|tsx|tdx|radarsat\d?|rs2|iceye|capella|umbra|"
        r"alos2?|palsar\d?|cosmo|csk|envisat|asar|gaofen-?3|gf-?3|sigma0|gamma0|beta0|backscatter"
    ),
    Sensor.INFRARED: r"thermal|lwir|mwir|tir|infrared|flir|temperature|lst",
}
_LIMIT = re.compile(r"(-?\d+(?:\.\d+)?(?:[eE]-?\d+)?)\s*([%CK]?)")


@dataclass(frozen=True, slots=True)
class Stretch:
    """How the values of a band become 8 bits: ``low`` is black, ``high`` is white; the other way round if ``inverted``.

    ``units`` are those of a SAR band, which is shown in decibels: ``low`` and ``high`` are decibels too, and ``floor``
    is added to intensities before their logarithm is taken. None where values stay as they are.
    """

    low: float
    high: float
    units: str | None = None
    floor: float = 0.0
    inverted: bool = False

    def __call__(self, band: np.ndarray) -> np.ndarray:
        """uint8 of the shape of ``band``; NaN is black."""
        if band.dtype in (np.uint8, np.uint16):
            return _table(self, band.dtype.str)[band]
        return self._map(band)

    def _map(self, band: np.ndarray) -> np.ndarray:
        band = decibels(band, self.units, self.floor) if self.units else band.astype(np.float32)
        width = self.high - self.low
        scale = np.float32(255 / (width if width > 0 else 1e-12))
        with np.errstate(invalid="ignore", over="ignore"):
            band = (band - np.float32(self.low)) * scale
        band = np.nan_to_num(np.clip(band, 0, 255, out=band), copy=False, nan=255.0 if self.inverted else 0.0)
        band = 255 - band if self.inverted else band
        return (band + np.float32(0.5)).astype(np.uint8)


@lru_cache(maxsize=64)
def _table(stretch: Stretch, kind: str) -> np.ndarray:
    """What a stretch makes of every value of a small type."""
    return stretch._map(np.arange(np.iinfo(kind).max + 1).astype(np.float32))


def decibels(band: np.ndarray, units: str, floor: float = 0.0) -> np.ndarray:
    """SAR values in one of their units as decibels of intensity, float32: 20 log10 of an amplitude, 10 log10 of an
    intensity. ``floor`` is added to the intensity.
    """
    return 10 * np.log10(np.maximum(intensity(band, units), np.finfo(np.float32).tiny) + np.float32(floor))


def intensity(band: np.ndarray, units: str) -> np.ndarray:
    """SAR values in one of their units as intensity (power), float32: the only scale on which they may be averaged."""
    band = np.abs(band).astype(np.float32) if np.iscomplexobj(band) else band.astype(np.float32)
    if units == "decibels":
        return np.power(np.float32(10), band / 10)
    return band * band if units == "amplitude" else band


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
    if stretches is None:
        stretches = () if values.dtype == np.uint8 else stretches_of(values, sensor, valid)
    if stretches:
        shown = np.empty(values.shape, np.uint8)
        for band, stretch in enumerate(stretches):
            shown[..., band] = stretch(values[..., band])
        values = shown
    if valid is not None and not valid.all():
        values = np.where(valid[..., None], values, np.uint8(0))
    return values if values.shape[2] == 3 else values[..., 0]


def stretches_of(
    values: np.ndarray,
    sensor: Sensor = Sensor.OPTICAL,
    valid: np.ndarray | None = None,
    limits: str | Sequence[float] | None = None,
    units: str | None = None,
    inverted: bool = False,
) -> tuple[Stretch, ...]:
    """The stretch of each band of an image or a fair sample of it, [H, W] or [H, W, C].

    ``valid`` [H, W] or [H, W, C] tells nodata, which never counts. ``limits`` are black and white: two numbers in the
    units of the values (decibels for SAR), or text: "0:3000", "2%:98%" of the values, "10C:45C" of temperatures; None
    for percentiles by sensor, ``STRETCH``. ``units`` is one of ``UNITS`` of the sensor; None for ``units_of``.
    Raises EarthGPTError for limits and units that are none of these.
    """
    values = _bands(values)
    units = units or units_of(values, sensor, valid)
    if units not in UNITS[sensor]:
        raise EarthGPTError(f"{sensor.value} values are in {', '.join(UNITS[sensor])}; not {units!r}.")
    found = []
    for band in range(values.shape[2]):
        mask = valid if valid is None or valid.ndim == 2 else valid[..., min(band, valid.shape[2] - 1)]
        stretch = _stretch(_chosen(values[..., band], mask), sensor, units, limits)
        found.append(replace(stretch, inverted=inverted))
    return tuple(found)


def units_of(values: np.ndarray, sensor: Sensor, valid: np.ndarray | None = None) -> str:
    """What the values of a band or image stand for, one of ``UNITS``, by their range; the first where no rule is known.

    SAR: some are negative: decibels; a long tail (the mean is more than twice the median; of fully developed speckle it
    is 1.44 times for intensities and 1.06 for amplitudes) and float: intensity; else amplitude. Infrared: the middle
    between 150 and 400: kelvin; integers between 20,000 and 40,000: hundredths of a kelvin, as FLIR's linear mode
    writes them; float between -90 and 150: celsius.
    """
    if sensor not in (Sensor.SAR, Sensor.INFRARED):
        return UNITS[sensor][0]
    values = np.asarray(values)
    chosen = _chosen(
        values, valid if valid is None or valid.ndim == values.ndim else valid[..., None] & np.isfinite(values)
    )
    if not chosen.size or values.dtype == np.uint8:
        return UNITS[sensor][0]
    middle = float(np.median(chosen))
    if sensor is Sensor.SAR:
        if np.iscomplexobj(values) or chosen.min() >= 0:
            return "intensity" if chosen.mean() > 2 * middle and values.dtype.kind == "f" else "amplitude"
        return "decibels"
    if 150 <= middle <= 400:
        return "kelvin"
    if values.dtype.kind in "ui":
        return "centikelvin" if 20_000 <= middle <= 40_000 else "values"
    return "celsius" if -90 <= middle <= 150 else "values"


def refuse_bands_first(shape: Sequence[int]) -> None:
    """Raises EarthGPTError for an array [bands, height, width], as rasterio and torch have them."""
    few = len(shape) == 3 and shape[2] > 4 and shape[0] <= 16 and 4 * shape[0] <= min(shape[1:])
    if few or (len(shape) == 3 and shape[2] > 500):  # more bands than any sensor has
        raise EarthGPTError(
            f"An array of {tuple(shape)} has its bands first: give [height, width, bands], array.transpose(1, 2, 0)."
        )


def _bands(values: np.ndarray) -> np.ndarray:
    """One or three bands of real numbers, [H, W, 1 or 3]."""
    values = np.asarray(values)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or 0 in values.shape:
        raise EarthGPTError(f"An image is an array [height, width] or [height, width, bands], not {values.shape}.")
    refuse_bands_first(values.shape)
    values = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    return np.abs(values) if np.iscomplexobj(values) else values


def _chosen(band: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Valid, finite values, float32 [N]."""
    band = np.abs(band) if np.iscomplexobj(band) else band
    band = band.astype(np.float32)
    return band[np.isfinite(band) if valid is None else np.isfinite(band) & valid]


def _stretch(chosen: np.ndarray, sensor: Sensor, units: str, limits: str | Sequence[float] | None) -> Stretch:
    percent = STRETCH[sensor]
    if limits is not None:
        kind, low, high = parse_limits(limits)
        if kind in "CK" and kind:
            low, high = (_temperature(value, kind, units) for value in (low, high))
        if kind != "%":
            if sensor is Sensor.SAR and max(abs(low), abs(high)) > MOST_DECIBELS:
                raise EarthGPTError(f"The stretch of SAR is in decibels, from {-MOST_DECIBELS} to {MOST_DECIBELS}.")
            floor = 10 ** (low / 10) * 1e-3 if sensor is Sensor.SAR else 0.0
            return Stretch(low, high, units if sensor is Sensor.SAR else None, floor)
        percent = low, high
    if sensor is Sensor.SAR and units != "decibels":
        chosen = chosen[chosen > 0]  # a zero has no logarithm; it is the border of most products
    if not chosen.size:
        return Stretch(0.0, float(np.finfo(np.float32).max))  # black
    floor = 0.0
    if sensor is Sensor.SAR:
        floor = float(intensity(chosen, units).mean(dtype=np.float64)) * 1e-3
        chosen = decibels(chosen, units, floor)
    low, high = np.percentile(chosen, percent)
    if high <= low:
        low, high = chosen.min(), chosen.max()
    return Stretch(float(low), float(high), units if sensor is Sensor.SAR else None, floor)


def parse_limits(limits: str | Sequence[float]) -> tuple[str, float, float]:
    """Black and white of a stretch and what they are: "" for values, "%", "C" or "K".

    Raises EarthGPTError for what is no pair, or black not below white.
    """
    told = f"A stretch is black:white, like 0:3000, 2%:98% or 10C:45C; not {limits!r}."
    if limits == "minmax":
        limits = "0%:100%"
    if isinstance(limits, str):
        found = [_LIMIT.fullmatch(part.strip()) for part in limits.split(":")]
        if len(found) != 2 or not all(found) or found[0][2] != found[1][2]:
            raise EarthGPTError(told)
        kind, low, high = found[0][2], float(found[0][1]), float(found[1][1])
    else:
        try:
            low, high = map(float, limits)
        except (TypeError, ValueError):
            raise EarthGPTError(told) from None
        kind = ""
    if not low < high or (kind == "%" and not 0 <= low < high <= 100):
        raise EarthGPTError(told)
    return kind, low, high


def _temperature(value: float, kind: str, units: str) -> float:
    """Degrees Celsius or kelvin in the units of the values."""
    kelvin = value + ZERO_CELSIUS_K if kind == "C" else value
    if units not in ("kelvin", "celsius", "centikelvin"):
        raise EarthGPTError(
            f"The values are in {units}, so {value:g}{kind} is not known; name their units, or give numbers."
        )
    return {"kelvin": kelvin, "celsius": kelvin - ZERO_CELSIUS_K, "centikelvin": kelvin * 100}[units]


def named_sensor(texts: Sequence[str]) -> tuple[Sensor | None, str]:
    """The sensor that a name or a tag tells, and which one."""
    for text in texts:
        for sensor, words in WORDS.items():
            if found := re.search(rf"(?<![a-z0-9])({words})(?![a-z0-9])", text.lower()):
                return sensor, f"{found[1]!r} in {text if len(text) < 80 else text[:77] + '...'!r}"
    return None, ""

"""Values of any type become 8-bit pixels, and only what is a value counts."""

import numpy as np
import pytest

from earthgpt.geo.sensors import stretches_of, to_rgb8
from earthgpt.types import EarthGPTError, Sensor

RAMP = np.arange(101, dtype=np.float32).reshape(1, 101)  # percentiles are the values themselves


def test_bytes_stay_as_they_are():
    pixels = np.array([[[3, 5, 7], [250, 251, 252]]], np.uint8)
    assert np.array_equal(to_rgb8(pixels), pixels)
    assert to_rgb8(np.array([[9]], np.uint8)).tolist() == [[[9, 9, 9]]]


def test_an_optical_stretch_leaves_two_percent_at_both_ends():
    grey = to_rgb8(RAMP)[0, :, 0]
    assert (grey[:3] == 0).all() and (grey[98:] == 255).all()
    assert grey[50] == 128  # (50 - 2) / 96 of 255 is 127.5
    assert grey[26] == 64  # a quarter: 63.75


def test_sar_keeps_its_brightest_scatterers_and_infrared_too():
    for sensor in (Sensor.SAR, Sensor.INFRARED):
        grey = to_rgb8(RAMP + 1, sensor)[0, :, 0]  # a zero of SAR is its border
        assert grey[1] == 0 and grey[2] > 0
        assert grey[98] < 255 and grey[100] == 255


def test_sar_intensities_with_a_long_tail_are_taken_by_their_logarithm():
    draw = np.random.default_rng(0)
    intensity = (10 ** draw.normal(-2, 0.5, (40, 40))).astype(np.float32)
    intensity[0, :5] = 100.0  # ships
    sar, optical = (to_rgb8(intensity, sensor)[..., 0] for sensor in (Sensor.SAR, Sensor.OPTICAL))
    assert 60 < np.median(sar) < 195, "the sea has shades"
    assert (sar[0, :5] == 255).all()
    assert np.median(optical) < 60


def test_decibels_are_not_taken_by_their_logarithm_again():
    decibels = np.linspace(-30, 0, 101, dtype=np.float32).reshape(1, 101)
    grey = to_rgb8(decibels, Sensor.SAR)[0, :, 0].astype(int)
    assert set(np.diff(grey[2:98])) == {2, 3}, "a straight line stays one"


def test_every_colour_is_stretched_on_its_own():
    values = np.stack([RAMP, 10 * RAMP + 500, np.zeros_like(RAMP)], axis=-1)
    pixels = to_rgb8(values)
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert not pixels[..., 2].any()


@pytest.mark.parametrize(
    ("bands", "taken"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (4, [0, 1, 2]), (10, [0, 1, 2])]
)
def test_one_or_three_bands_are_taken(bands, taken):
    values = np.arange(bands, dtype=np.uint8).reshape(1, 1, bands)
    assert to_rgb8(values).tolist() == [[taken]]


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32, np.float64, np.complex64])
def test_values_of_every_type_are_read(kind):
    grey = to_rgb8(RAMP.astype(kind))[0, :, 0]
    assert grey.dtype == np.uint8 and grey[0] == 0 and grey[-1] == 255


def test_true_is_white():
    assert to_rgb8(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]


def test_one_value_everywhere_is_black_and_no_error():
    assert not to_rgb8(np.full((3, 3), 7.5)).any()
    assert not to_rgb8(np.full((3, 3), np.nan)).any()


def test_what_is_masked_is_black_and_does_not_count():
    values, valid = RAMP.copy(), np.ones(RAMP.shape, bool)
    values[0, :20], valid[0, :20] = 1e9, False
    grey = to_rgb8(values, valid=valid)[0, :, 0]
    assert not grey[:20].any()
    assert grey[20] == 0 and grey[100] == 255
    assert grey[60] == pytest.approx(255 * (40 / 80 - 0.02) / 0.96, abs=1)


def test_infinities_are_the_ends_and_nan_is_black():
    values = RAMP.copy()
    values[0, 40:43] = np.inf, -np.inf, np.nan
    grey = to_rgb8(values)[0, :, 0]
    assert grey[40:43].tolist() == [255, 0, 0]
    assert grey[50] == pytest.approx(128, abs=2)


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0, 3), (2, 2, 0), (1, 2, 3, 4), ()])
def test_an_array_of_another_shape_is_told(shape):
    with pytest.raises(EarthGPTError, match=r"An image is an array \[height, width\]"):
        to_rgb8(np.zeros(shape))


def test_the_values_that_are_given_are_not_changed():
    values, before = RAMP.copy(), RAMP.copy()
    to_rgb8(values, Sensor.SAR, np.ones(RAMP.shape, bool))
    assert np.array_equal(values, before)


def test_the_stretch_of_sar_is_in_decibels():
    values = np.linspace(1, 9000, 64, dtype=np.float32).reshape(8, 8, 1)
    with pytest.raises(EarthGPTError, match="in decibels, from -300 to 300"):
        stretches_of(values, Sensor.SAR, None, "4000:9000")

"""``log_snr`` passes through 0 where there is as much noise as data: all its digits are right there, too."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

import fastgen_rf as rf

mp = mpmath.mp.clone()
mp.dps = 40
DISTANCES = np.array([2.0**-53, 2.0**-52, 1e-12, 1e-8, 1e-4, 0.03, 0.1249, 0.125, 0.1251, 0.2])
HALF = np.concatenate([0.5 + DISTANCES, 0.5 - DISTANCES, [math.nextafter(0.5, 0)]])
LEVELS = {  # and log_snr by definition
    "rf": (HALF, lambda t: 2 * mp.log((1 - t) / t)),
    "sigma": (2 * HALF, lambda sigma: -2 * mp.log(sigma)),
    "alpha_bar": (HALF, lambda alpha_bar: mp.log(alpha_bar / (1 - alpha_bar))),
}
every_source = pytest.mark.parametrize("source", LEVELS)


def assert_right(got, source):
    levels, definition = LEVELS[source]
    for value, level in zip(got, levels.tolist(), strict=True):
        wanted = definition(mp.mpf(level))
        assert abs(value - wanted) <= abs(wanted) * 2.0**-51, level


@every_source
@pytest.mark.needs("float64")
def test_log_snr_is_right_to_a_few_units_of_its_last_place(xp, source):
    levels, _ = LEVELS[source]
    got = xp.numpy(rf.convert_time(xp.array(levels, "float64"), source=source, target="log_snr"))
    assert_right(got.tolist(), source)


@every_source
def test_log_snr_of_a_float_is_right_to_a_few_units_of_its_last_place(source):
    levels, _ = LEVELS[source]
    assert_right([rf.convert_time(level, source=source, target="log_snr") for level in levels.tolist()], source)


@every_source
@pytest.mark.needs("float64")
def test_log_snr_of_the_middle_is_a_positive_zero(xp, source):
    middle = xp.array(np.array([1.0 if source == "sigma" else 0.5]))
    got = xp.numpy(rf.convert_time(middle, source=source, target="log_snr"))
    assert str(float(got[0])) == "0.0"


@pytest.mark.needs("float64")
def test_log_snr_of_an_angle_has_an_absolute_error(xp):
    """``pi / 4`` is rounded, and with it every angle near it."""
    angles = np.concatenate([math.pi / 4 + DISTANCES, math.pi / 4 - DISTANCES])
    got = xp.numpy(rf.convert_time(xp.array(angles, "float64"), source="angle", target="log_snr"))
    for value, angle in zip(got.tolist(), angles.tolist(), strict=True):
        assert abs(value + 2 * mp.log(mp.tan(mp.mpf(angle)))) <= 2.0**-51


@pytest.mark.backends("numpy", "array_api_strict")
@pytest.mark.needs("float64")
def test_a_sigma_beyond_float64_is_no_cause_for_a_warning(xp):
    with np.errstate(over="raise", divide="raise"):
        assert xp.numpy(rf.convert_time(xp.array([-2000.0], "float64"), source="log_snr", target="sigma")) == np.inf
    assert rf.convert_time(-2000.0, source="log_snr", target="sigma") == np.inf

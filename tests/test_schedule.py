"""shift_timesteps, resolution_shift and make_t_list against their definitions, at the ends, for numbers of any type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests import exact

TIMES = [0.0, 1e-6, 1 / 3, 0.5, 1 - 1e-9, 1.0]
SHIFTS = [1e-6, 1 / 7, 1.0, 3, 1e12]


# shift_timesteps


def test_a_shifted_float_is_a_float_right_to_its_last_digits() -> None:
    for shift in SHIFTS:
        for t in [*TIMES, 0, 1, np.float64(0.3), np.float16(0.5)]:
            got = rf.shift_timesteps(t, shift)
            assert type(got) is float
            wanted = exact.shift(exact.mp.mpf(float(t)), exact.mp.mpf(shift))
            assert got == pytest.approx(float(wanted), rel=5e-16)


@pytest.mark.needs("float64")
@pytest.mark.backends("numpy", "torch")
def test_a_shift_from_1_up_is_the_written_formula_bit_for_bit(xp: Any) -> None:
    t = np.random.default_rng(0).random(200)
    for shift in (1.0, 1.1, 5.0):
        got = xp.numpy(rf.shift_timesteps(xp.array(t, "float64"), shift))
        assert np.array_equal(got, shift * t / (1 + (shift - 1) * t))


def test_0_and_1_stay_in_place_whatever_the_shift(xp: Any) -> None:
    for shift in (1e-20, 1e-12, 0.1, 1.0, 5.0, 1e12):
        assert [rf.shift_timesteps(t, shift) for t in (0.0, 1.0)] == [0.0, 1.0]
        assert xp.numpy(rf.shift_timesteps(xp.array(np.array([0.0, 1.0])), shift)).tolist() == [0.0, 1.0]


# resolution_shift


def test_resolution_shift_is_flux_s() -> None:
    for tokens, mu in ((256, 0.5), (4096, 1.15), (1024, 0.63), (16384, 3.23)):
        assert rf.resolution_shift(tokens) == pytest.approx(math.exp(mu), rel=1e-12)


def test_tokens_of_a_narrow_numpy_type_do_not_overflow() -> None:
    assert rf.resolution_shift(np.uint8(100)) == rf.resolution_shift(np.float16(100)) == rf.resolution_shift(100)


def test_resolution_shift_reaches_e_to_the_700() -> None:
    points = {"base_tokens": 0, "max_tokens": 2, "base_shift": 699.5, "max_shift": 700.5}
    assert rf.resolution_shift(1, **points) == math.exp(700)
    with pytest.raises(ValueError, match="float64"):
        rf.resolution_shift(2, **points)


# make_t_list


@pytest.mark.parametrize("shift", [1e-3, 1, 5.0])
def test_a_t_list_is_the_shifted_times_scaled_to_begin_at_max_t(shift: float) -> None:
    for steps, max_t in ((steps, max_t) for steps in (1, np.int64(50), 1000) for max_t in (0.25, 0.999, 1)):
        t_list = rf.make_t_list(steps, shift=shift, max_t=max_t)
        evenly = [exact.mp.mpf(max_t) * (1 - exact.mp.mpf(i) / int(steps)) for i in range(steps + 1)]
        points = [exact.shift(t, exact.mp.mpf(shift)) for t in evenly]
        assert t_list == pytest.approx([float(max_t * point / points[0]) for point in points], rel=1e-14)
        assert {type(t) for t in t_list} == {float}
        assert (t_list[0], t_list[-1]) == (max_t, 0)


@pytest.mark.parametrize("shift", [1e300, 1e-300, 5e14])  # times coincide in float64, and by the last in float32 alone
def test_times_that_coincide_are_a_value_error(shift: float) -> None:
    with pytest.raises(ValueError, match=r"timesteps coincide in float32 for .*; use a shift closer to 1 or fewer"):
        rf.make_t_list(4, shift=shift, max_t=1.0)
    assert len(rf.make_t_list(4, shift=shift**0.01, max_t=1.0)) == 5

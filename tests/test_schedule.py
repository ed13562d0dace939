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
        for factor in (shift, xp.array(np.full(200, shift), "float64")):
            got = xp.numpy(rf.shift_timesteps(xp.array(t, "float64"), factor))
            assert np.array_equal(got, shift * t / (1 + (shift - 1) * t))


def test_0_and_1_stay_in_place_whatever_the_shift(xp: Any) -> None:
    for shift in (1e-20, 1e-12, 0.1, 1.0, 5.0, 1e12):
        assert [rf.shift_timesteps(t, shift) for t in (0.0, 1.0)] == [0.0, 1.0]
        for factor in (shift, xp.array(np.full(2, shift))):
            assert xp.numpy(rf.shift_timesteps(xp.array(np.array([0.0, 1.0])), factor)).tolist() == [0.0, 1.0]


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


def test_terminal_stretches_the_times_so_that_it_is_the_last_before_0() -> None:
    for steps, shift, terminal in ((2, 1.0, 0.02), (4, 7.77, 0.1), (50, 0.3, 0.999), (1000, 2.0, 1e-9)):
        t_list = rf.make_t_list(steps, shift=shift, max_t=1.0, terminal=terminal)
        times = [exact.shift(1 - exact.mp.mpf(i) / steps, exact.mp.mpf(shift)) for i in range(steps)]
        scale = (1 - times[-1]) / (1 - exact.mp.mpf(terminal))
        assert t_list == pytest.approx([*(float(1 - (1 - t) / scale) for t in times), 0.0], rel=1e-13)
        assert (t_list[0], t_list[-2], len(t_list)) == (1.0, terminal, steps + 1)


def test_the_clamped_grid_is_fastgen_s_and_modelopt_s() -> None:
    """The recipe of the docstring, and nvidia-modelopt's reference for its ``make_shifted_flow_grid``."""
    for steps, shift, max_t in ((4, 5.0, 0.999), (128, 5.0, 0.98), (3, 1.0, 0.5)):
        unshifted = np.linspace(max_t, 0.0, steps + 1)
        wanted = np.minimum(shift * unshifted / (1 + (shift - 1) * unshifted), max_t)
        got = [min(rf.shift_timesteps(t, shift), max_t) for t in rf.make_t_list(steps, max_t=max_t)]
        assert got == pytest.approx(wanted.tolist(), rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("shift", [1e300, 1e-300, 5e14])  # times coincide in float64, and by the last in float32 alone
def test_times_that_coincide_are_a_value_error(shift: float) -> None:
    with pytest.raises(ValueError, match=r"timesteps coincide in float32 for .*; use a shift closer to 1 or fewer"):
        rf.make_t_list(4, shift=shift, max_t=1.0)
    assert len(rf.make_t_list(4, shift=shift**0.01, max_t=1.0)) == 5

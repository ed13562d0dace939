"""Shifts, the resolution rule and t_lists: against exact arithmetic and lists that few-step recipes publish."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import fastgen_rf as rf

TIMES = [0.0, 1e-6, 0.001, 0.25, 1 / 3, 0.5, 0.875, 0.999, 1.0]
every_shift = pytest.mark.parametrize("shift", [1 / 7, 0.5, 1.0, 3, 5.0, 17.0])


def exact(t, shift):
    t, shift = Fraction(t), Fraction(shift)
    return shift * t / (1 + (shift - 1) * t)


def as_fractions(xp, array):
    return [Fraction(value) for value in np.asarray(xp.numpy(array), np.float64).ravel().tolist()]


# shift_timesteps


@every_shift
@pytest.mark.dtypes()
def test_a_shifted_array_is_the_exact_value_rounded_once(xp, dtype, shift):
    t = xp.array(np.array(TIMES), dtype)
    got = rf.shift_timesteps(t, shift)
    assert type(got) is type(t)
    assert got.dtype == t.dtype
    half_ulp = {"float64": 2.0**-51, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    for value, time in zip(as_fractions(xp, got), as_fractions(xp, t), strict=True):
        wanted = exact(time, shift)
        assert abs(value - wanted) <= wanted * Fraction(half_ulp) * Fraction(1001, 1000) + Fraction(2) ** -25


@every_shift
@pytest.mark.parametrize("t", [*TIMES, 0, 1, np.float64(0.3)])
def test_a_shifted_float_is_a_float(t, shift):
    got = rf.shift_timesteps(t, shift)
    assert type(got) is float
    assert got == pytest.approx(float(exact(t, shift)), rel=4e-16)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 1, 4)], ids=str)
def test_shifting_keeps_shape_and_device(xp, shape):
    t = xp.array(np.full(shape, 0.5))
    got = rf.shift_timesteps(t, 3.0)
    assert tuple(got.shape) == shape
    assert xp.device_of(got) == xp.device


@pytest.mark.needs("float64")
@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("shift", [1.0, 1.1, 1.7, 2.3, 5.0])
def test_a_shift_from_1_up_is_the_written_formula_bit_for_bit(xp, shift):
    t = np.random.default_rng(0).random(200)
    got = xp.numpy(rf.shift_timesteps(xp.array(t, "float64"), shift)).tolist()

    def double(value):
        return Fraction(float(value))

    def written(t):
        s = Fraction(shift)
        return double(double(s * t) / double(1 + double(double(s - 1) * t)))

    wanted = [float(written(Fraction(value))) for value in t.tolist()]
    assert got == wanted
    assert [rf.shift_timesteps(value, shift) for value in t.tolist()] == wanted


@pytest.mark.needs("float64")
def test_shifts_compose_and_undo_one_another(xp):
    t = xp.array(np.random.default_rng(0).random(100), "float64")
    twice = rf.shift_timesteps(rf.shift_timesteps(t, 3.0), 2.5)
    assert xp.numpy(twice) == pytest.approx(xp.numpy(rf.shift_timesteps(t, 7.5)), rel=1e-14)
    assert xp.numpy(rf.shift_timesteps(rf.shift_timesteps(t, 5.0), 0.2)) == pytest.approx(xp.numpy(t), rel=1e-14)


@pytest.mark.parametrize("shift", [1e-20, 1e-12, 0.1, 0.5, 1.0, 5.0, 1e12])
def test_0_and_1_stay_in_place(xp, shift):
    assert [rf.shift_timesteps(t, shift) for t in (0.0, 1.0)] == [0.0, 1.0]
    ends = rf.shift_timesteps(xp.array(np.array([0.0, 1.0])), shift)
    assert xp.numpy(ends).tolist() == [0.0, 1.0]


def test_a_large_shift_is_undone_near_1():
    assert rf.shift_timesteps(1 - 1e-9, 1e-6) == pytest.approx(float(exact(1 - 1e-9, 1e-6)), rel=1e-14)
    assert rf.make_t_list(4, shift=1e-3, max_t=1.0)[0] == 1.0


@pytest.mark.needs("special", "float64")
def test_the_shifted_law_is_the_shift_of_the_uniform_law(xp):
    u = xp.array(np.linspace(0.01, 0.9, 50), "float64")
    uniform, shifted = (
        rf.timestep_quantile(u, rf.SampleTimestepConfig(law, max_t=1.0, shift=5.0)) for law in ("uniform", "shifted")
    )
    assert xp.numpy(rf.shift_timesteps(uniform, 5.0)) == pytest.approx(xp.numpy(shifted), rel=1e-15)


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, 0.0])
def test_a_shift_that_is_not_positive_is_a_value_error(bad):
    with pytest.raises(ValueError, match=r"shift must be (positive|finite), got"):
        rf.shift_timesteps(0.5, bad)


@pytest.mark.parametrize("bad", ["3", None, True, np.array([3.0])], ids=repr)
def test_a_shift_that_is_no_number_is_a_type_error(bad):
    with pytest.raises(TypeError, match="shift must be a real number, got"):
        rf.shift_timesteps(0.5, bad)


def test_t_is_checked_as_everywhere(xp):
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\], got 1.5"):
        rf.shift_timesteps(1.5, 3.0)
    with pytest.raises(TypeError, match="divide integer timesteps"):
        rf.shift_timesteps(500, 3.0)
    with pytest.raises(TypeError, match=r"t must be a real floating array, .*divide integer timesteps"):
        rf.shift_timesteps(np.arange(3), 3.0)
    with pytest.raises(TypeError, match="t must be a float or an array"):
        rf.shift_timesteps([0.5], 3.0)


# resolution_shift


@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.5), (4096, 1.15), (1024, 0.63), (2176, 0.825), (16384, 3.23)])
def test_resolution_shift_is_exp_of_fluxs_line(tokens, mu):
    assert rf.resolution_shift(tokens) == pytest.approx(math.exp(mu), rel=1e-12)


def test_resolution_shift_goes_up_to_e_to_the_700():
    points = {"base_tokens": 1, "max_tokens": 2, "base_shift": 700.0, "max_shift": 700.5}
    assert rf.resolution_shift(1, **points) == math.exp(700)
    with pytest.raises(ValueError, match=r"shift overflows float64 .* for tokens=2"):
        rf.resolution_shift(2, **points)


def test_resolution_shift_through_other_points():
    """SD3's rule of equal signal-to-noise ratio is a shift of sqrt(tokens / base_tokens): the points of such a line."""
    got = rf.resolution_shift(500, base_tokens=100, max_tokens=900, base_shift=0.0, max_shift=math.log(3))
    assert got == pytest.approx(math.sqrt(3))


def test_shifting_by_the_resolution_is_what_flux_does_to_its_sigmas():
    mu, sigma = 1.15, 0.4  # its time_shift with sigma = 1
    flux = math.exp(mu) / (math.exp(mu) + (1 / sigma - 1))
    assert rf.shift_timesteps(sigma, rf.resolution_shift(4096)) == pytest.approx(flux, rel=1e-14)


@pytest.mark.parametrize("name", ["tokens", "base_tokens", "max_tokens"])
@pytest.mark.parametrize(("bad", "error"), [(-4, ValueError), (math.nan, ValueError), ("4", TypeError)])
def test_token_counts_are_numbers_and_not_negative(name, bad, error):
    with pytest.raises(error, match=f"{name} must be"):
        rf.resolution_shift(**({"tokens": 100} | {name: bad}))


@pytest.mark.parametrize("name", ["base_shift", "max_shift"])
def test_shifts_of_the_line_are_finite(name):
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        rf.resolution_shift(100, **{name: math.inf})


def test_a_shift_beyond_float64_is_a_value_error():
    with pytest.raises(ValueError, match=r"shift overflows float64 .* for tokens=5000000"):
        rf.resolution_shift(5_000_000)


def test_a_point_of_the_line_may_be_at_no_tokens():
    assert rf.resolution_shift(1024, base_tokens=0) == pytest.approx(math.exp(0.5 + 0.65 / 4096 * 1024), rel=1e-15)
    with pytest.raises(ValueError, match="tokens must be positive, got 0"):
        rf.resolution_shift(0, base_tokens=0)


def test_two_points_make_the_line():
    with pytest.raises(ValueError, match="base_tokens and max_tokens must differ, got 9 twice"):
        rf.resolution_shift(100, base_tokens=9, max_tokens=9)


# make_t_list

RECIPES = {  # as published, most of them in thousandths
    "FastGen, Wan, 4 steps": ({"steps": 4, "shift": 5.0}, [0.999, 0.937, 0.833, 0.624, 0.0], 1e-3),
    "Self-Forcing, 4 steps warped by 5": (
        {"steps": 4, "shift": 5.0, "max_t": 1.0},
        [1.0, 0.9375, 0.83333, 0.625, 0.0],
        1e-5,
    ),
    "Flux schnell, 4 steps": ({"steps": 4, "max_t": 1.0}, [1.0, 0.75, 0.5, 0.25, 0.0], 0),
    "DMD2, SDXL, 4 steps": ({"steps": 4}, [0.999, 0.749, 0.499, 0.249, 0.0], 1e-3),
}


@pytest.mark.parametrize(("how", "published", "tolerance"), RECIPES.values(), ids=list(RECIPES))
def test_published_lists_are_reproduced(how, published, tolerance):
    assert rf.make_t_list(**how) == pytest.approx(tuple(published), abs=tolerance)


@pytest.mark.parametrize("steps", [1, 2, 7, np.int64(50)])
@pytest.mark.parametrize("shift", [0.2, 1, 5.0, 100.0])
@pytest.mark.parametrize("max_t", [0.25, 0.999, 1, 1.0])
def test_a_t_list_is_the_shifted_times_scaled_to_begin_at_max_t(steps, shift, max_t):
    t_list = rf.make_t_list(steps, shift=shift, max_t=max_t)
    points = [exact(Fraction(max_t) * (1 - Fraction(i, int(steps))), shift) for i in range(steps + 1)]
    assert t_list == pytest.approx([float(Fraction(max_t) * point / points[0]) for point in points], rel=1e-14)
    assert {type(t) for t in t_list} == {float}
    assert t_list[0] == max_t
    assert t_list[-1] == 0


def test_a_t_list_feeds_what_takes_one(xp):
    t_list = rf.make_t_list(4, shift=5.0)
    t = rf.sample_from_t_list(50, t_list, rng=xp.rng(0), **xp.draw_args)
    assert set(xp.numpy(t).tolist()) <= set(np.float32(t_list[:-1]).tolist())
    assert rf.SampleTimestepConfig(t_list=t_list).t_list == t_list


@pytest.mark.parametrize("bad", [0, -1])
def test_steps_are_at_least_1(bad):
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {bad}"):
        rf.make_t_list(bad)


@pytest.mark.parametrize("bad", [4.0, "4", None, True], ids=repr)
def test_steps_are_an_integer(bad):
    with pytest.raises(TypeError, match="steps must be an integer, got"):
        rf.make_t_list(bad)


@pytest.mark.parametrize(("name", "bad"), [("shift", 0), ("shift", math.nan), ("max_t", 0.0), ("max_t", 1.5)])
def test_shift_and_max_t_are_checked(name, bad):
    with pytest.raises(ValueError, match=f"{name} must"):
        rf.make_t_list(4, **{name: bad})


@pytest.mark.parametrize("shift", [1e300, 5e14])  # in float64 and, by the second, in float32 alone
def test_times_that_coincide_are_a_value_error(shift):
    with pytest.raises(ValueError, match="timesteps coincide in float32"):
        rf.make_t_list(4, shift=shift)

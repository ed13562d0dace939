"""flow_step against exact rational arithmetic, and what both steps promise of the state that they return.

What else is promised of ode_step is in test_predictions.py.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest

import fastgen_rf as rf

STARTS = [0.0, 1e-9, 0.25, 1 / 3, 0.5, 0.75, 0.999, 1.0]
ENDS = [0.3, 0.0, 0.1, 1 / 3, 0.875, 0.7, 0.998, 0.0]  # above the start, below it, and the same
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}


def fractions(xp, array):
    return [Fraction(value) for value in np.asarray(xp.numpy(array), np.float64).ravel().tolist()]


def arrays(xp, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [xp.array(rng.standard_normal((len(STARTS), 5)), dtype) for _ in range(2)]


@pytest.mark.dtypes()
def test_a_step_along_the_flow_is_the_exact_point_rounded_once(xp, dtype):
    flow, x_t = arrays(xp, dtype)
    t, t_next = (xp.array(np.array(times), dtype) for times in (STARTS, ENDS))
    got = rf.flow_step(flow, x_t, t, t_next)
    inside = Fraction(4, 2**53) if xp.has_float64 else Fraction(30, 2**48)
    times = [pair for pair in zip(fractions(xp, t), fractions(xp, t_next), strict=True) for _ in range(5)]
    for value, v, x, (start, stop) in zip(
        fractions(xp, got), fractions(xp, flow), fractions(xp, x_t), times, strict=True
    ):
        exact = x + (stop - start) * v
        unit = max(abs(exact), Fraction(2) ** -14 if dtype == "float16" else 0)
        bound = unit * Fraction(UNIT_ROUNDOFF[dtype]) * Fraction(4097, 4096) + inside * (abs(x) + abs(v))
        assert abs(value - exact) <= bound


@pytest.mark.backends("numpy", "torch", "array_api_strict", "dask")
@pytest.mark.needs("float64")
@pytest.mark.parametrize("size", [7, 200_000], ids=["small", "large"])
@pytest.mark.parametrize("times", [(0.3, 0.1), (np.float32(0.7), 0.9), (0.6, np.float32(0.2))], ids=str)
def test_a_step_along_the_flow_rounds_each_operation_in_float64_from_left_to_right(xp, size, times):
    rng = np.random.default_rng(4)
    flow, x_t = rng.standard_normal((2, 3, size)).astype(np.float32)
    native = [time if isinstance(time, float) else xp.array(np.full(3, time)) for time in times]
    got = xp.numpy(rf.flow_step(xp.array(flow), xp.array(x_t), *native))
    start, stop = (Fraction(float(time)) for time in times)
    difference = Fraction(float(stop - start))  # a Fraction becomes the nearest float
    for v, x, value in zip(flow[1, :50].tolist(), x_t[1, :50].tolist(), got[1, :50].tolist(), strict=True):
        product = Fraction(float(difference * Fraction(v)))
        assert value == float(np.float32(float(Fraction(x) + product)))


@pytest.mark.dtypes()
@pytest.mark.parametrize("t", [0.0, 1e-9, 0.3, 1.0])
def test_no_step_is_exactly_the_state(xp, dtype, t):
    flow, x_t = arrays(xp, dtype)
    wide = "float64" if xp.has_float64 else "float32"
    as_array = xp.array(np.full(len(STARTS), t), wide)
    mixed = [(t, as_array), (as_array, t)] if wide == "float64" or float(np.float32(t)) == t else []
    for times in [(t, t), (as_array, as_array), *mixed]:
        assert np.array_equal(xp.numpy(rf.flow_step(flow, x_t, *times)), xp.numpy(x_t))


@pytest.mark.dtypes()
@pytest.mark.parametrize("step", ["flow_step", "ode_step"])
def test_a_step_keeps_the_state_s_dtype_whatever_the_prediction_s(xp, dtype, step):
    pred, _ = arrays(xp, dtype)
    for state in {"float32", *(["float64"] if xp.has_float64 else []), dtype}:
        x_t = arrays(xp, state, seed=1)[1]
        assert getattr(rf, step)(pred, x_t, 0.75, 0.5).dtype == xp.dtype(state)
        times = (xp.array(np.full(len(STARTS), time), "float32") for time in (0.75, 0.5))
        assert getattr(rf, step)(pred, x_t, *times).dtype == xp.dtype(state)


@pytest.mark.dtypes("bfloat16", "float16")
@pytest.mark.parametrize("step", ["flow_step", "ode_step"])
def test_a_narrow_prediction_does_not_round_the_state(xp, dtype, step):
    """In bfloat16 a state of 1 moves in steps of 2^-7 alone."""
    x_t = xp.array(np.full((1, 4), 1 + 2.0**-20))
    still = {"flow_step": np.zeros((1, 4)), "ode_step": np.ones((1, 4))}[step]
    got = xp.numpy(getattr(rf, step)(xp.array(still, dtype), x_t, 0.5, 0.25))
    assert got.tolist() == [[1 + (2.0**-20 if step == "flow_step" else 2.0**-21)] * 4]


def test_floats_and_arrays_of_any_fitting_shape_mix(xp):
    rng = np.random.default_rng(0)
    flow, x_t = rng.standard_normal((2, 2, 3, 4)).astype(np.float32)
    t, t_next = np.array([[0.5, 0.75, 1.0], [0.9, 0.8, 0.7]], np.float32), np.array([0.25, 0.5], np.float32)
    for start, stop in product([0.75, t[:, 0].copy(), t, t[:, :, None]], [0.25, t_next, t_next.reshape(2, 1)]):
        native = (s if isinstance(s, float) else xp.array(s) for s in (start, stop))
        got = rf.flow_step(xp.array(flow), xp.array(x_t), *native)
        a, b = (np.reshape(s, np.shape(s) + (1,) * (3 - np.ndim(s))).astype(np.float64) for s in (start, stop))
        assert xp.numpy(got) == pytest.approx(x_t.astype(np.float64) + (b - a) * flow, abs=1e-6)


@pytest.mark.needs("float64")
def test_along_a_straight_path_both_steps_agree_and_inversion_undoes_them(xp):
    x0, eps = arrays(xp, "float64")
    flow = eps - x0
    rungs = rf.make_t_list(8, shift=3.0)
    start = x = rf.add_noise(x0, eps, rungs[0])
    for t, t_next in pairwise(rungs):
        by_data = xp.numpy(rf.ode_step(x0, x, t, t_next))
        x = rf.flow_step(flow, x, t, t_next)
        assert xp.numpy(x) == pytest.approx(by_data, abs=1e-14)
    assert xp.numpy(x) == pytest.approx(xp.numpy(x0), abs=1e-14)
    for t, t_next in pairwise(reversed(rungs)):
        x = rf.flow_step(flow, x, t, t_next)
    assert xp.numpy(x) == pytest.approx(xp.numpy(start), abs=1e-14)


@pytest.mark.backends("numpy", "torch")
@pytest.mark.dtypes("float32", "bfloat16")
def test_large_arrays_give_the_bits_of_small_ones(xp, dtype):
    rng = np.random.default_rng(1)
    flow, x_t = (xp.array(rng.standard_normal((2, 600_000)), dtype) for _ in range(2))
    t, t_next = xp.array(np.array([0.3, 0.9])), xp.array(np.array([0.7, 0.1]))
    whole = rf.flow_step(flow, x_t, t, t_next)
    part = rf.flow_step(flow[:, 1000:2000], x_t[:, 1000:2000], t, t_next)
    assert np.array_equal(xp.numpy(whole)[:, 1000:2000], xp.numpy(part))


def test_arguments_are_checked_as_everywhere(xp):
    flow, x_t = arrays(xp, "float32")
    for name, times in (("t", (1.5, 0.5)), ("t_next", (0.5, -0.1)), ("t_next", (0.5, math.nan))):
        with pytest.raises(ValueError, match=rf"^{name} must lie in \[0, 1\]"):
            rf.flow_step(flow, x_t, *times)
    with pytest.raises(TypeError, match=r"t_next must be .*divide integer timesteps"):
        rf.flow_step(flow, x_t, 0.5, 250)
    with pytest.raises(ValueError, match="t_next must have a leading part of flow's shape"):
        rf.flow_step(flow, x_t, 0.5, xp.array(np.ones(3)))
    with pytest.raises(TypeError, match="t_next must be a float or an array"):
        rf.flow_step(flow, x_t, 0.5, [0.5])
    with pytest.raises(TypeError, match="flow must be an array"):
        rf.flow_step([1.0], x_t, 0.5, 0.25)
    with pytest.raises(ValueError, match="flow and x_t must have the same shape"):
        rf.flow_step(flow, x_t[:2, :], 0.5, 0.25)

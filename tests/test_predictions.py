"""convert_prediction, ode_step, flow_step, renoise and convert_state: the ends of time, and calls that compute nothing.

The catalogue drives the tests of values, bits, features and errors; the order of a step's operations is tested in
test_flow_matching.py.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.exact import PREDICTIONS, SCALES, mp

T = np.array([0.0, 1e-9, 0.25, 1 / 3, 0.5, 0.75, 0.999, 1.0])


def arrays(xp: Any, dtype: str = "float32") -> list[Any]:
    rng = np.random.default_rng(0)
    return [xp.array(rng.standard_normal((len(T), 5)), dtype) for _ in range(2)]


@pytest.mark.parametrize("t", [0.0, 1e-9, 1 - 1e-9, 1.0])
def test_divisors_are_at_least_1e_6_at_both_ends(xp: Any, t: float) -> None:
    """At t = 0, x0 does not determine eps; at t = 1, eps does not determine x0. A score divides by t."""
    pred, x_t = arrays(xp)
    a, b = (np.asarray(xp.numpy(array), np.float64) for array in (pred, x_t))
    results = {
        pair: xp.numpy(rf.convert_prediction(pred, x_t, t, source=pair[0], target=pair[1])).astype(np.float64)
        for pair in permutations(PREDICTIONS, 2)
    }
    assert all(np.isfinite(result).all() for result in results.values())
    divided = {  # a source that does not determine the others, and its numerators
        True: {"eps": b - (1 - t) * a, "flow": b - a, "v": b - a, "v_vp": b - a},
        False: {"x0": b - t * a, "flow": a - b, "v": a - b, "v_vp": a - b},
    }[t < 0.5]
    source = "x0" if t < 0.5 else "eps"
    for target, numerator in divided.items():
        assert results[source, target] == pytest.approx(numerator / 1e-6, rel=1e-5, abs=1e-2)
    if t < 0.5:
        assert results["eps", "score"] == pytest.approx(-a / 1e-6, rel=1e-6)


def test_a_sample_without_data_stays_finite(xp: Any) -> None:
    x = xp.array(np.array([[2.0, -3.0]]))
    factors = {("rf", "ve"): 1e6, ("vp", "ve"): 1e6, ("ve", "rf"): 0.0, ("ve", "vp"): 0.0}
    for source, target in permutations(SCALES, 2):
        got = xp.numpy(rf.convert_state(x, 1.0, source=source, target=target))
        assert got == pytest.approx(np.array([[2.0, -3.0]]) * factors.get((source, target), 1.0), rel=1e-6)


def test_equal_source_and_target_return_the_argument_itself(xp: Any) -> None:
    x, x_t = xp.array(np.full(3, 0.5)), xp.array(np.ones(3))
    assert rf.convert_prediction(x, x_t, 0.5, source="v", target="v") is x
    assert rf.convert_state(x, 0.5, source="ve", target="ve") is x
    assert rf.convert_time(x, source="sigma", target="sigma") is x


def test_an_array_that_a_conversion_ignores_may_hold_nan(xp: Any) -> None:
    pred, x_t = arrays(xp)
    broken = xp.array(np.full((len(T), 5), np.nan))
    for source, target in (("eps", "score"), ("score", "eps"), ("v", "v_vp")):
        got, wanted = (rf.convert_prediction(pred, other, 0.5, source=source, target=target) for other in (broken, x_t))
        assert np.array_equal(xp.numpy(got), xp.numpy(wanted))


@pytest.mark.dtypes()
def test_a_step_to_the_same_time_returns_exactly_x_t_and_ode_step_to_0_exactly_x0(xp: Any, dtype: str) -> None:
    pred, x_t = arrays(xp, dtype)
    t, late = xp.array(T, dtype), xp.array(np.maximum(T, 1e-3), dtype)
    for step, times, wanted in (
        *((rf.flow_step, times, x_t) for times in ((0.3, 0.3), (t, t), (1e-9, 1e-9))),
        *((rf.ode_step, times, x_t) for times in ((0.3, 0.3), (late, late), (1e-6, 1e-6))),
        *((rf.ode_step, times, pred) for times in ((0.3, 0.0), (t, 0.0), (1e-9, 0.0), (t, xp.array(0 * T, dtype)))),
    ):
        assert np.array_equal(xp.numpy(step(pred, x_t, *times)), xp.numpy(wanted))


# renoise

BEFORE_1 = np.array([0.0, 1e-9, 0.1, 1 / 3, 0.5, 0.9, 0.999, 1 - 2e-6])


@pytest.mark.dtypes()
def test_renoise_is_add_noise_from_data_x_t_at_the_same_time_and_eps_at_1(xp: Any, dtype: str) -> None:
    x_t, eps = arrays(xp, dtype)
    t, zero, one = (xp.array(times) for times in (BEFORE_1, 0 * BEFORE_1, 0 * BEFORE_1 + 1))
    for times, wanted in (
        ((zero, t), rf.add_noise(x_t, eps, t)),
        ((0.0, 0.3), rf.add_noise(x_t, eps, 0.3)),
        *((times, x_t) for times in ((t, t), (0.3, 0.3), (1 - 1e-6, 1 - 1e-6))),
        *((times, eps) for times in ((t, one), (0.3, 1.0), (1 - 1e-6, 1.0))),
    ):
        assert np.array_equal(xp.numpy(rf.renoise(x_t, eps, *times)), xp.numpy(wanted)), times


@pytest.mark.needs("float64 taken away")
def test_renoise_is_exact_without_float64(xp: Any) -> None:
    x_t, eps = arrays(xp)
    t, one = xp.array(BEFORE_1), xp.array(0 * BEFORE_1 + 1)
    for times, wanted in (((t, t), x_t), ((t, one), eps)):
        got = xp.no_float64(rf.renoise, [x_t, eps, *times])
        assert np.array_equal(xp.numpy(got), xp.numpy(wanted))


def test_the_floor_of_renoise_shrinks_the_result_near_1_to_0_at_1(xp: Any) -> None:
    x_t, eps = arrays(xp)
    assert xp.numpy(rf.renoise(x_t, eps, 1 - 5e-7, 1 - 5e-7)) == pytest.approx(xp.numpy(x_t) / 2, rel=1e-6)
    assert not xp.numpy(rf.renoise(x_t, eps, 1.0, 1.0)).any()


def test_neighboring_times_of_renoise_do_not_cancel(xp: Any) -> None:
    """``t_next^2 - (a t)^2`` loses up to 29 % here in float32."""
    t = np.array([1e-6, 0.001, 0.1, 0.5, 0.9, 0.999], np.float32)
    t_next = np.nextafter(t, np.float32(1))
    zeros, ones = xp.array(0 * t), xp.array(0 * t + 1)
    got = xp.numpy(rf.renoise(zeros, ones, xp.array(t), xp.array(t_next)))
    pairs = [(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in zip(t, t_next, strict=True)]
    wanted = [float(mp.sqrt(b**2 - ((1 - b) / (1 - a) * a) ** 2)) for a, b in pairs]
    assert got == pytest.approx(wanted, rel=2e-7)


@pytest.mark.backends("numpy", "torch", "jax")
def test_times_out_of_order_are_nan_in_arrays_without_a_warning(xp: Any) -> None:
    x_t, eps = arrays(xp)
    t, early = np.float32(BEFORE_1), np.float32(np.where(np.arange(len(BEFORE_1)) % 2, BEFORE_1, BEFORE_1 / 2))
    got = xp.numpy(rf.renoise(x_t, eps, xp.array(t), xp.array(early)))
    assert np.array_equal(np.isnan(got).all(1), early < t)
    assert not np.isnan(got[early == t]).any()


def test_floats_out_of_order_are_an_error_beyond_1e_12(xp: Any) -> None:
    x_t, eps = arrays(xp)
    assert np.array_equal(xp.numpy(rf.renoise(x_t, eps, 0.5, 0.5 - 9e-13)), xp.numpy(x_t))
    for t_next in (0.4, 0.5 - 2e-12):
        with pytest.raises(ValueError, match=rf"t_next must not be below t, got t=0\.5 and t_next={t_next}"):
            rf.renoise(x_t, eps, 0.5, t_next)


@pytest.mark.backends("torch", "jax")
def test_gradients_in_x_t_and_eps_are_finite_at_t_next_t(xp: Any) -> None:
    x_t, eps = arrays(xp)
    t = xp.array(BEFORE_1)
    to_x_t, to_eps = xp.reverse(lambda x, e: rf.renoise(x, e, t, t), [x_t, eps], xp.array(np.ones((len(BEFORE_1), 5))))
    assert (xp.numpy(to_x_t) == 1).all()
    assert not xp.numpy(to_eps).any()

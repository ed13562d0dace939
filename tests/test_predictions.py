"""convert_prediction, ode_step and flow_step, and convert_state: the ends of time, and calls that compute nothing.

The catalogue drives the tests of values, bits, features and errors; the order of a step's operations is tested in
test_flow_matching.py.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.exact import PREDICTIONS, SCALES

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
    x = xp.array(np.full(3, 0.5))
    assert rf.convert_prediction(x, x, 0.5, source="v", target="v") is x
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

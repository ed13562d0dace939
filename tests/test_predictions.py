"""convert_prediction, convert_state, ode_step and flow_step: facts that the exact values of the catalogue do not cover.

Values, bits and features of every conversion are in test_exact_values.py, test_same_bits.py and test_features.py.
"""

from __future__ import annotations

from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.exact import PREDICTIONS, SCALES

PAIRS = list(permutations(PREDICTIONS, 2))
T = np.array([0.0, 1e-9, 0.25, 1 / 3, 0.5, 0.75, 0.999, 1.0])
every_prediction = pytest.mark.parametrize("name", list(PREDICTIONS))


def arrays(xp: Any, dtype: str = "float32", seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [xp.array(rng.standard_normal((len(T), 5)), dtype) for _ in range(2)]


# Conversions of predictions


@pytest.mark.needs("float64")
def test_a_conversion_and_its_reverse_give_the_prediction_back(xp: Any) -> None:
    pred, x_t = arrays(xp, "float64")
    t = xp.array(np.linspace(0.1, 0.9, len(T)), "float64")
    for source, target in PAIRS:
        there = rf.convert_prediction(pred, x_t, t, source=source, target=target)
        back = rf.convert_prediction(there, x_t, t, source=target, target=source)
        assert xp.numpy(back) == pytest.approx(xp.numpy(pred), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("function", "source", "target"),
    [
        ("pred_noise_to_pred_x0", "eps", "x0"),
        ("pred_x0_from_flow", "flow", "x0"),
        ("x0_to_eps", "x0", "eps"),
        ("x0_to_flow", "x0", "flow"),
    ],
)
def test_four_conversions_are_the_functions_of_flow_matching(xp: Any, function: str, source: str, target: str) -> None:
    pred, x_t = arrays(xp)
    t = xp.array(T)
    ours = rf.convert_prediction(pred, x_t, t, source=source, target=target)
    assert np.array_equal(xp.numpy(ours), xp.numpy(getattr(rf, function)(pred, x_t, t)))


@pytest.mark.parametrize("t", [0.0, 1e-9, 1 - 1e-9, 1.0])
def test_divisors_are_at_least_1e_6_at_both_ends(xp: Any, t: float) -> None:
    """At t = 0, x0 does not determine eps; at t = 1, eps does not determine x0. A score divides by t."""
    pred, x_t = arrays(xp)
    a, b = (np.asarray(xp.numpy(array), np.float64) for array in (pred, x_t))
    results = {
        pair: xp.numpy(rf.convert_prediction(pred, x_t, t, source=pair[0], target=pair[1])).astype(np.float64)
        for pair in PAIRS
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


@every_prediction
def test_equal_source_and_target_return_the_prediction_itself(xp: Any, name: str) -> None:
    pred, x_t = arrays(xp)
    assert rf.convert_prediction(pred, x_t, 0.5, source=name, target=name) is pred


@pytest.mark.parametrize("bad", ["X0", "epsilon", "", None, 3], ids=repr)
def test_an_unknown_prediction_type_is_a_value_error(xp: Any, bad: Any) -> None:
    pred, x_t = arrays(xp)
    for name in ("source", "target"):
        options = {"source": "x0", "target": "x0", name: bad}
        with pytest.raises(ValueError, match=f"^{name} must be one of x0, eps, flow, v, score, v_vp, got"):
            rf.convert_prediction(pred, x_t, 0.5, **options)


def test_arguments_are_checked_even_if_nothing_is_converted(xp: Any) -> None:
    pred, x_t = arrays(xp)
    with pytest.raises(ValueError, match="pred and x_t must have the same shape"):
        rf.convert_prediction(pred, x_t[:2, :], 0.5, source="x0", target="x0")
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        rf.convert_state(pred, 1.5, source="vp", target="vp")


def test_an_array_that_a_conversion_ignores_may_hold_nan(xp: Any) -> None:
    pred, x_t = arrays(xp)
    broken = xp.array(np.full((len(T), 5), np.nan))
    for source, target in (("eps", "score"), ("score", "eps"), ("v", "v_vp")):
        got, wanted = (rf.convert_prediction(pred, other, 0.5, source=source, target=target) for other in (broken, x_t))
        assert np.array_equal(xp.numpy(got), xp.numpy(wanted))


# Noisy samples of other paths


def test_a_sample_without_data_stays_finite(xp: Any) -> None:
    x = xp.array(np.array([[2.0, -3.0]]))
    factors = {("rf", "ve"): 1e6, ("vp", "ve"): 1e6, ("ve", "rf"): 0.0, ("ve", "vp"): 0.0}
    for source, target in permutations(SCALES, 2):
        got = xp.numpy(rf.convert_state(x, 1.0, source=source, target=target))
        assert got == pytest.approx(np.array([[2.0, -3.0]]) * factors.get((source, target), 1.0), rel=1e-6)


def test_equal_source_and_target_return_the_sample_itself(xp: Any) -> None:
    x = xp.array(np.ones((2, 3)))
    for name in SCALES:
        assert rf.convert_state(x, 0.5, source=name, target=name) is x


@pytest.mark.needs("float64")
def test_v_vp_is_the_velocity_of_the_vp_sample_along_the_angle(xp: Any) -> None:
    """d/d angle (cos(angle) x_0 + sin(angle) eps), by differences: TrigFlow's velocity."""
    x0, eps = np.random.default_rng(2).standard_normal((2, 4, 6))
    angle, step = np.array([0.1, 0.5, 1.0, 1.5]), 1e-5

    def vp_sample(angle: Any) -> Any:
        return np.cos(angle)[:, None] * x0 + np.sin(angle)[:, None] * eps

    t = rf.convert_time(xp.array(angle, "float64"), source="angle", target="rf")
    x_t = rf.convert_state(xp.array(vp_sample(angle), "float64"), t, source="vp", target="rf")
    slope = (vp_sample(angle + step) - vp_sample(angle - step)) / (2 * step)
    for source, pred in (("x0", x0), ("eps", eps), ("flow", eps - x0)):
        v_vp = rf.convert_prediction(xp.array(pred, "float64"), x_t, t, source=source, target="v_vp")
        assert xp.numpy(v_vp) == pytest.approx(slope, abs=1e-9)


# Steps


@pytest.mark.dtypes()
def test_flow_step_to_the_same_time_returns_exactly_x_t(xp: Any, dtype: str) -> None:
    flow, x_t = arrays(xp, dtype)
    t = xp.array(T, dtype)
    for times in ((0.3, 0.3), (t, t), (1e-9, 1e-9)):
        assert np.array_equal(xp.numpy(rf.flow_step(flow, x_t, *times)), xp.numpy(x_t))


@pytest.mark.dtypes()
def test_ode_step_ends_in_exactly_x0_and_without_a_step_in_x_t(xp: Any, dtype: str) -> None:
    x0, x_t = arrays(xp, dtype)
    t = xp.array(T, dtype)
    for times in ((0.3, 0.0), (1e-9, 0.0), (t, xp.array(np.zeros(len(T)), dtype)), (t, 0.0)):
        assert np.array_equal(xp.numpy(rf.ode_step(x0, x_t, *times)), xp.numpy(x0))
    late = xp.array(np.maximum(T, 1e-3), dtype)
    for times in ((0.3, 0.3), (1e-6, 1e-6), (late, late)):
        assert np.array_equal(xp.numpy(rf.ode_step(x0, x_t, *times)), xp.numpy(x_t))


@pytest.mark.dtypes()
@pytest.mark.parametrize("step", [rf.flow_step, rf.ode_step], ids=["flow_step", "ode_step"])
def test_a_step_keeps_the_dtype_and_the_precision_of_x_t(xp: Any, dtype: str, step: Any) -> None:
    """A bfloat16 prediction next to a float32 sample: in bfloat16 a sample of 1 would move in steps of 2**-7."""
    pred, _ = arrays(xp, dtype)
    still = xp.array(np.zeros((len(T), 5)) if step is rf.flow_step else np.ones((len(T), 5)), dtype)
    x_t = xp.array(np.full((len(T), 5), 1 + 2.0**-20))
    assert step(pred, x_t, 0.75, 0.5).dtype == xp.dtype("float32")
    moved = xp.numpy(step(still, x_t, 0.75, 0.5))
    wanted = 1 + 2.0**-20 if step is rf.flow_step else 1 + 2.0**-20 * 2 / 3
    assert moved == pytest.approx(np.full((len(T), 5), wanted), abs=2.0**-23)


def test_float_and_array_times_of_any_fitting_shape_mix(xp: Any) -> None:
    rng = np.random.default_rng(0)
    x0, x_t = rng.standard_normal((2, 2, 3, 4)).astype(np.float32)
    t, t_next = np.array([[0.5, 0.75, 1.0], [0.9, 0.8, 0.7]], np.float32), np.array([0.25, 0.5], np.float32)
    for start, stop in product([0.75, t[:, 0].copy(), t, t[:, :, None]], [0.25, t_next, t_next.reshape(2, 1)]):
        times = (s if isinstance(s, float) else xp.array(s) for s in (start, stop))
        got = rf.ode_step(xp.array(x0), xp.array(x_t), *times)
        a, b = (np.reshape(s, np.shape(s) + (1,) * (3 - np.ndim(s))).astype(np.float64) for s in (start, stop))
        assert xp.numpy(got) == pytest.approx(x0 + (x_t.astype(np.float64) - x0) * (b / a), abs=1e-6)


@pytest.mark.needs("float64")
def test_steps_along_a_straight_path_stay_on_it_and_end_in_x0(xp: Any) -> None:
    x0, eps = arrays(xp, "float64")
    t_list = rf.make_t_list(8, shift=3.0)
    by_x0 = by_flow = rf.add_noise(x0, eps, t_list[0])
    flow = rf.x0_to_flow(x0, by_x0, t_list[0])
    for t, t_next in pairwise(t_list):
        on_path = xp.numpy(rf.add_noise(x0, eps, t))
        assert xp.numpy(by_x0) == pytest.approx(on_path, abs=1e-14)
        assert xp.numpy(by_flow) == pytest.approx(on_path, abs=1e-13)
        by_x0 = rf.ode_step(x0, by_x0, t, t_next)
        by_flow = rf.flow_step(flow, by_flow, t, t_next)
    assert np.array_equal(xp.numpy(by_x0), xp.numpy(x0))


@pytest.mark.backends("numpy", "torch", "array_api_strict", "dask")
@pytest.mark.needs("float64")
@pytest.mark.parametrize("size", [7, 200_000], ids=["small", "large"])
def test_each_operation_of_a_step_rounds_in_float64_from_left_to_right(xp: Any, size: int) -> None:
    flow, x_t = np.random.default_rng(4).standard_normal((2, 3, size)).astype(np.float32)
    wide_flow, wide_x_t = flow.astype(np.float64), x_t.astype(np.float64)
    for times in ((0.3, 0.1), (0.7, np.full(3, 0.9, np.float32)), (np.full(3, 0.6, np.float32), 0.2)):
        native = [t if isinstance(t, float) else xp.array(t) for t in times]
        start, stop = (np.asarray(t, np.float64).reshape(-1, 1) for t in times)
        wanted = (wide_x_t + (stop - start) * wide_flow).astype(np.float32)
        assert np.array_equal(xp.numpy(rf.flow_step(xp.array(flow), xp.array(x_t), *native)), wanted)
        r = stop / np.maximum(start, 1e-6)
        wanted = (wide_flow * (1 - r) + wide_x_t * r).astype(np.float32)
        assert np.array_equal(xp.numpy(rf.ode_step(xp.array(flow), xp.array(x_t), *native)), wanted)

"""Every conversion between predictions, and the student's step: against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases.names import KINDS, every_pair

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy's casts to float16
FLOOR = Fraction(1e-6)
TIMES = [1e-5, 0.001, 0.125, 1 / 3, 0.5, 0.8, 0.999, 1 - 2.0**-16]
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}


def norm(t):
    """The root of (1 - t)^2 + t^2 to 200 bits, as a Fraction."""
    return Fraction(math.isqrt(math.floor(((1 - t) ** 2 + t**2) * 4**200)), 2**200)


def to_x0_and_eps(kind, t):
    """Coefficients of pred and x_t in x_0 and in eps: the definition of ``kind`` solved with that of x_t."""
    if kind == "x0":
        return (1, 0), (-(1 - t) / t, 1 / t)
    if kind in ("eps", "score"):
        scale = 1 if kind == "eps" else -t
        return (-scale * t / (1 - t), 1 / (1 - t)), (scale, 0)
    if kind == "flow":  # eps - x_0
        return (-t, 1), (1 - t, 1)
    det = (1 - t) ** 2 + t**2  # (1 - t) eps - t x_0
    scale = norm(t) if kind == "v_vp" else 1  # v_vp is v / norm
    return (-t * scale / det, (1 - t) / det), ((1 - t) * scale / det, t / det)


def exact_coefficients(source, target, t):
    """Coefficients of pred and x_t in the wanted kind, as Fractions."""
    x0, eps = to_x0_and_eps(source, t)
    weights = {  # of x_0 and eps in the target
        "x0": (1, 0),
        "eps": (0, 1),
        "flow": (-1, 1),
        "v": (-t, 1 - t),
        "score": (0, -1 / t),
        "v_vp": (-t / norm(t), (1 - t) / norm(t)),
    }[target]
    return tuple(weights[0] * a + weights[1] * b for a, b in zip(x0, eps, strict=True))


def fractions(xp, array):
    return [Fraction(value) for value in np.asarray(xp.numpy(array), np.float64).ravel().tolist()]


def arrays(xp, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [xp.array(rng.standard_normal((len(TIMES), 5)), dtype) for _ in range(2)]


@every_pair
@pytest.mark.dtypes()
def test_every_pair_is_the_exact_value_rounded_once(xp, dtype, source, target):
    pred, x_t = arrays(xp, dtype)
    times = [time for time in TIMES if dtype in ("float64", "float32") or 0.001 <= time <= 0.8]
    times = times + [0.5] * (len(TIMES) - len(times))
    t = xp.array(np.array(times), dtype)
    result = rf.convert_prediction(pred, x_t, t, source=source, target=target)
    assert result.dtype == pred.dtype
    spread = [time for time in fractions(xp, t) for _ in range(5)]
    inside = Fraction(16, 2**53)
    largest = 65504 if dtype == "float16" else math.inf
    checked = 0
    for value, a, b, time in zip(
        np.asarray(xp.numpy(result), np.float64).ravel().tolist(),
        fractions(xp, pred),
        fractions(xp, x_t),
        spread,
        strict=True,
    ):
        of_pred, of_x_t = exact_coefficients(source, target, time)
        exact = of_pred * a + of_x_t * b
        if abs(exact) > largest or (dtype == "float16" and abs(exact) < 2.0**-14):
            continue
        size = abs(of_pred * a) + abs(of_x_t * b)
        bound = abs(exact) * Fraction(UNIT_ROUNDOFF[dtype]) * Fraction(4097, 4096) + inside * size
        assert abs(Fraction(value) - exact) <= bound
        checked += 1
    assert checked > 20


@every_pair
@pytest.mark.dtypes("float32", "float64")
def test_a_float_t_gives_what_an_array_gives(xp, dtype, source, target):
    pred, x_t = arrays(xp, dtype)
    time = 0.375  # exact in every dtype
    from_float = rf.convert_prediction(pred, x_t, time, source=source, target=target)
    from_array = rf.convert_prediction(pred, x_t, xp.array(np.full(len(TIMES), time)), source=source, target=target)
    assert xp.numpy(from_float) == pytest.approx(xp.numpy(from_array), rel=0 if not xp.contracts else 1e-6)


@every_pair
@pytest.mark.needs("float64")
def test_a_pair_and_its_reverse_give_the_prediction_back(xp, source, target):
    pred, x_t = arrays(xp, "float64")
    t = xp.array(np.linspace(0.1, 0.9, len(TIMES)), "float64")
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
@pytest.mark.dtypes()
def test_four_pairs_are_the_functions_of_flow_matching(xp, dtype, function, source, target):
    pred, x_t = arrays(xp, dtype)
    t = xp.array(np.array([0.0, 1.0, *TIMES[2:]]), "float32")
    ours = rf.convert_prediction(pred, x_t, t, source=source, target=target)
    assert np.array_equal(xp.numpy(ours), xp.numpy(getattr(rf, function)(pred, x_t, t)), equal_nan=True)


@every_pair
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_denominators_are_clamped_at_both_ends(xp, source, target, t):
    pred, x_t = arrays(xp, "float32")
    result = xp.numpy(rf.convert_prediction(pred, x_t, t, source=source, target=target))
    assert np.all(np.isfinite(result))
    a, b = (np.asarray(xp.numpy(array), np.float64) for array in (pred, x_t))
    divided_by = {(0.0, "x0"): ("eps", "flow", "v", "v_vp"), (1.0, "eps"): ("x0", "flow", "v", "v_vp")}.get(
        (t, source), ()
    )
    if target in divided_by:  # at t = 0 from x_0, at t = 1 from eps
        numerator = {0.0: b - a, 1.0: {"x0": b - a, "flow": a - b, "v": a - b, "v_vp": a - b}.get(target, 0)}[t]
        assert result == pytest.approx(numerator / 1e-6, rel=1e-6)
    if t == 0.0 and (source, target) == ("eps", "score"):
        assert result == pytest.approx(-a / 1e-6, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_kind_is_the_prediction_itself(xp, kind):
    pred, x_t = arrays(xp, "float32")
    assert rf.convert_prediction(pred, x_t, 0.5, source=kind, target=kind) is pred


@pytest.mark.parametrize("bad", ["X0", "epsilon", "", None, 3], ids=repr)
def test_an_unknown_kind_is_a_value_error(xp, bad):
    pred, x_t = arrays(xp, "float32")
    with pytest.raises(ValueError, match="source must be one of x0, eps, flow, v, score, v_vp, got"):
        rf.convert_prediction(pred, x_t, 0.5, source=bad, target="x0")
    with pytest.raises(ValueError, match="target must be one of x0, eps, flow, v, score, v_vp, got"):
        rf.convert_prediction(pred, x_t, 0.5, source="x0", target=bad)


@pytest.mark.parametrize("target", ["x0", "eps"])
def test_arguments_are_checked_as_everywhere(xp, target):
    pred, x_t = arrays(xp, "float32")
    how = {"source": "x0", "target": target}
    with pytest.raises(TypeError, match="pred must be an array"):
        rf.convert_prediction([1.0], x_t, 0.5, **how)
    with pytest.raises(ValueError, match="pred and x_t must have the same shape"):
        rf.convert_prediction(pred, x_t[:2, :], 0.5, **how)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        rf.convert_prediction(pred, x_t, 1.5, **how)
    with pytest.raises(ValueError, match="t must have a leading part of pred's shape"):
        rf.convert_prediction(pred, x_t, xp.array(np.ones(3)), **how)


def test_an_ignored_input_does_not_spoil_the_result(xp):
    pred, x_t = arrays(xp, "float32")
    broken = xp.array(np.full((len(TIMES), 5), math.nan))
    for source, target in (("eps", "score"), ("score", "eps")):
        got = rf.convert_prediction(pred, broken, 0.5, source=source, target=target)
        assert np.array_equal(
            xp.numpy(got), xp.numpy(rf.convert_prediction(pred, x_t, 0.5, source=source, target=target))
        )


@every_pair
@pytest.mark.backends("numpy", "torch")
@pytest.mark.dtypes("float32", "bfloat16")
def test_large_arrays_give_the_bits_of_small_ones(xp, dtype, source, target):
    """One pass over memory in blocks, and the plain expression."""
    rng = np.random.default_rng(1)
    pred, x_t = (xp.array(rng.standard_normal((2, 300_000)), dtype) for _ in range(2))
    t = xp.array(np.array([0.3, 0.9]))
    whole = rf.convert_prediction(pred, x_t, t, source=source, target=target)
    part = rf.convert_prediction(pred[:, 1000:2000], x_t[:, 1000:2000], t, source=source, target=target)
    assert np.array_equal(xp.numpy(whole)[:, 1000:2000], xp.numpy(part))


# ode_step


@pytest.mark.dtypes()
def test_a_step_is_the_point_of_the_line_rounded_once(xp, dtype):
    x0, x_t = arrays(xp, dtype)
    t = xp.array(np.array([0.25, 0.5, 0.75, 1.0, 0.9, 0.999, 0.3, 0.001]), dtype)
    t_next = xp.array(np.array([0.0, 0.25, 0.75, 0.5, 0.1, 0.998, 0.2999, 0.0005]), dtype)
    got = rf.ode_step(x0, x_t, t, t_next)
    assert got.dtype == x_t.dtype
    inside = Fraction(8, 2**53)
    times = [(a, b) for a, b in zip(fractions(xp, t), fractions(xp, t_next), strict=True) for _ in range(5)]
    for value, a, b, (start, stop) in zip(
        fractions(xp, got), fractions(xp, x0), fractions(xp, x_t), times, strict=True
    ):
        exact = a + (b - a) * stop / start
        unit = max(abs(exact), Fraction(2) ** -14 if dtype == "float16" else 0)
        bound = unit * Fraction(UNIT_ROUNDOFF[dtype]) * Fraction(4097, 4096) + inside * (abs(a) + abs(b))
        assert abs(value - exact) <= bound


@pytest.mark.dtypes()
@pytest.mark.parametrize("t", [0.0, 1e-9, 0.3, 1.0])
def test_the_last_step_is_exactly_x0_and_no_step_exactly_x_t(xp, dtype, t):
    x0, x_t = arrays(xp, dtype)
    for time, zero in ((t, 0.0), (xp.array(np.full(len(TIMES), t), dtype), xp.array(np.zeros(len(TIMES)), dtype))):
        assert np.array_equal(xp.numpy(rf.ode_step(x0, x_t, time, zero)), xp.numpy(x0))
        if t > 1e-6:
            assert np.array_equal(xp.numpy(rf.ode_step(x0, x_t, time, time)), xp.numpy(x_t))


def test_floats_and_arrays_of_any_fitting_shape_mix(xp):
    rng = np.random.default_rng(0)
    x0, x_t = rng.standard_normal((2, 2, 3, 4)).astype(np.float32)
    t, t_next = np.array([[0.5, 0.75, 1.0], [0.9, 0.8, 0.7]], np.float32), np.array([0.25, 0.5], np.float32)
    for start, stop in product([0.75, t[:, 0].copy(), t, t[:, :, None]], [0.25, t_next, t_next.reshape(2, 1)]):
        got = rf.ode_step(
            xp.array(x0), xp.array(x_t), *(s if isinstance(s, float) else xp.array(s) for s in (start, stop))
        )
        a, b = (np.reshape(s, np.shape(s) + (1,) * (3 - np.ndim(s))).astype(np.float64) for s in (start, stop))
        assert xp.numpy(got) == pytest.approx(x0 + (x_t.astype(np.float64) - x0) * (b / a), abs=1e-6)


@pytest.mark.needs("float64")
def test_a_rollout_along_a_straight_path_ends_in_x0(xp):
    x0, eps = arrays(xp, "float64")
    rungs = rf.make_t_list(8, shift=3.0)
    x = rf.add_noise(x0, eps, rungs[0])
    for t, t_next in pairwise(rungs):
        assert xp.numpy(x) == pytest.approx(xp.numpy(rf.add_noise(x0, eps, t)), abs=1e-14)
        x = rf.ode_step(x0, x, t, t_next)
    assert np.array_equal(xp.numpy(x), xp.numpy(x0))


@pytest.mark.needs("float64")
def test_a_step_is_an_euler_step_along_the_flow(xp):
    x0, x_t = arrays(xp, "float64")
    t, t_next = 0.8, 0.55
    flow = xp.numpy(rf.x0_to_flow(x0, x_t, t))
    assert xp.numpy(rf.ode_step(x0, x_t, t, t_next)) == pytest.approx(xp.numpy(x_t) + (t_next - t) * flow, abs=1e-14)


def test_both_times_are_checked(xp):
    x0, x_t = arrays(xp, "float32")
    for name, times in (("t", (1.5, 0.5)), ("t_next", (0.5, -0.1)), ("t_next", (0.5, math.nan))):
        with pytest.raises(ValueError, match=rf"^{name} must lie in \[0, 1\]"):
            rf.ode_step(x0, x_t, *times)
    with pytest.raises(TypeError, match=r"t_next must be .*divide integer timesteps"):
        rf.ode_step(x0, x_t, 0.5, 250)
    with pytest.raises(ValueError, match="t_next must have a leading part of x0's shape"):
        rf.ode_step(x0, x_t, 0.5, xp.array(np.ones(3)))
    with pytest.raises(TypeError, match="t_next must be a float or an array"):
        rf.ode_step(x0, x_t, 0.5, [0.5])

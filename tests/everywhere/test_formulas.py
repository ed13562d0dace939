"""The five formulas and the two coefficients, against exact rational arithmetic.

Shapes and layouts are in test_shapes.py, bad input in test_errors.py, devices without float64 in ``devices``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import fastgen_rf as rf
from tests.cases.as_written import FORMULAS

FLOOR = Fraction(1e-6)
EXACT = {  # numerator's terms and denominator, from the definition x_t = (1 - t) x_0 + t eps, v = eps - x_0
    "add_noise": lambda x0, eps, t: ([(1 - t) * x0, t * eps], Fraction(1)),
    "pred_noise_to_pred_x0": lambda eps, x_t, t: ([x_t, -t * eps], max(1 - t, FLOOR)),
    "pred_x0_from_flow": lambda v, x_t, t: ([x_t, -t * v], Fraction(1)),
    "x0_to_eps": lambda x0, x_t, t: ([x_t, -(1 - t) * x0], max(t, FLOOR)),
    "x0_to_flow": lambda x0, x_t, t: ([x_t, -x0], max(t, FLOOR)),
}
PRECISION = {  # bits of significand, least exponent, largest exponent
    "float64": (53, -1022, 1023),
    "float32": (24, -126, 127),
    "bfloat16": (8, -126, 127),
    "float16": (11, -14, 15),
}
TIMES = [0.0, 1e-7, 1e-6, 0.001, 0.1, 0.25, 0.5, 2 / 3, 0.875, 0.999, 1 - 2.0**-21, 1.0]

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy's casts to float16
every_formula = pytest.mark.parametrize("formula", sorted(EXACT))


def spacing(value: Fraction, dtype: str) -> Fraction:
    """Distance between the numbers of ``dtype`` around ``value``."""
    bits, least, _ = PRECISION[dtype]
    exponent = least
    if value:
        exponent = max(abs(value).numerator.bit_length() - value.denominator.bit_length(), least)
        if exponent > least and Fraction(2) ** exponent > abs(value):
            exponent -= 1
    return Fraction(2) ** (max(exponent, least) - bits + 1)


def rounded(value: Fraction, dtype: str) -> float:
    """``value`` rounded to nearest, ties to even, as a Python float."""
    step = spacing(value, dtype)
    nearest = round(value / step) * step
    largest = Fraction(2) ** PRECISION[dtype][2] * (2 - Fraction(2) ** (1 - PRECISION[dtype][0]))
    return math.copysign(math.inf, nearest) if abs(nearest) > largest else float(nearest)


def double(value: Fraction) -> Fraction:
    """``value`` rounded to float64."""
    return Fraction(float(value))


def left_to_right(formula: str, first: Fraction, second: Fraction, t: Fraction) -> Fraction:
    """The formula in IEEE float64, each operation rounded, in the order that DESIGN writes."""
    one_minus_t = double(1 - t)
    if formula == "add_noise":
        return double(double(first * one_minus_t) + double(second * t))
    if formula == "pred_noise_to_pred_x0":
        return double(double(second - double(t * first)) / max(one_minus_t, FLOOR))
    if formula == "pred_x0_from_flow":
        return double(second - double(t * first))
    if formula == "x0_to_eps":
        return double(double(second - double(one_minus_t * first)) / max(t, FLOOR))
    return double(double(second - first) / max(t, FLOOR))


def contracted(formula: str, first: Fraction, second: Fraction, t: Fraction) -> list[Fraction]:
    """What a compiler may make of it: one product keeps its exact value into the sum."""
    one_minus_t = double(1 - t)
    if formula == "add_noise":
        return [
            double(first * one_minus_t + double(second * t)),
            double(double(first * one_minus_t) + second * t),
        ]
    if formula == "pred_noise_to_pred_x0":
        return [double(double(second - t * first) / max(one_minus_t, FLOOR))]
    if formula == "pred_x0_from_flow":
        return [double(second - t * first)]
    if formula == "x0_to_eps":
        return [double(double(second - one_minus_t * first) / max(t, FLOOR))]
    return []


def casts(value: Fraction, dtype: str) -> set[float]:
    """One cast to ``dtype``: NumPy and XLA for CUDA round once, torch and XLA for the CPU go through float32."""
    through_single = rounded(value, "float32") if dtype in ("bfloat16", "float16") else float(value)
    twice = rounded(Fraction(through_single), dtype) if math.isfinite(through_single) else through_single
    return {rounded(value, dtype), twice}


def inputs(xp, dtype, t_dtype=None):
    """Two arrays of shape (12, 6), one t per row, and their values, exact in float64."""
    rng = np.random.default_rng(20)
    scale = np.array([1.0, 1.0, 30.0, 1e-3, 1.0, 1.0])
    first = xp.array(rng.standard_normal((12, 6)) * scale, dtype)
    second = xp.array(rng.standard_normal((12, 6)) * scale, dtype)
    t = xp.array(np.array(TIMES), t_dtype or dtype)
    return first, second, t


def values(xp, array):
    return [Fraction(value) for value in np.asarray(xp.numpy(array), dtype=np.float64).ravel().tolist()]


def elements(xp, first, second, t):
    """``(first, second, t)`` of each element as Fractions, t spread over the rows."""
    spread = [time for time in values(xp, t) for _ in range(6)]
    return list(zip(values(xp, first), values(xp, second), spread, strict=True))


@every_formula
@pytest.mark.dtypes()
def test_result_is_the_exact_value_rounded_once(xp, dtype, formula):
    first, second, t = inputs(xp, dtype)
    result = getattr(rf, formula)(first, second, t)
    got = np.asarray(xp.numpy(result), dtype=np.float64).ravel().tolist()
    inside = Fraction(4, 2**53)  # four roundings at most in float64
    for value, element in zip(got, elements(xp, first, second, t), strict=True):
        terms, denominator = EXACT[formula](*element)
        exact = sum(terms) / denominator
        slack = inside * sum(map(abs, terms)) / denominator
        if math.isinf(value):
            largest = Fraction(2) ** (PRECISION[dtype][2] + 1)
            assert abs(exact) + slack >= largest - spacing(largest / 2, dtype) / 2
            assert (value > 0) == (exact > 0)
        else:
            # a cast that passes through float32 may round twice
            half = spacing(exact, dtype) * Fraction(1, 2) * (1 + Fraction(1, 2**12))
            assert abs(Fraction(value) - exact) <= half + slack


@every_formula
@pytest.mark.needs("float64")
@pytest.mark.dtypes()
def test_result_is_float64_left_to_right_then_one_cast_bit_for_bit(xp, dtype, formula):
    first, second, t = inputs(xp, dtype)
    got = np.asarray(xp.numpy(getattr(rf, formula)(first, second, t)), dtype=np.float64).ravel().tolist()
    allowed = []
    for element in elements(xp, first, second, t):
        wide = [left_to_right(formula, *element)] + (contracted(formula, *element) if xp.contracts else [])
        allowed.append(set.union(*(casts(value, dtype) for value in wide)))
    assert [value in options for value, options in zip(got, allowed, strict=True)] == [True] * 72


@every_formula
@pytest.mark.needs("float64")
@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("t", [0, 1, 0.0, 1.0, 0.3, 1e-9, 0.999, np.float64(0.7)])
def test_python_number_t_is_taken_as_float64(xp, dtype, formula, t):
    first, second, _ = inputs(xp, dtype)
    got = np.asarray(xp.numpy(getattr(rf, formula)(first, second, t)), dtype=np.float64).ravel().tolist()
    allowed = []
    for element in zip(values(xp, first), values(xp, second), strict=True):
        wide = [left_to_right(formula, *element, Fraction(t))]
        wide += contracted(formula, *element, Fraction(t)) if xp.contracts else []
        allowed.append(set.union(*(casts(value, dtype) for value in wide)))
    assert [value in options for value, options in zip(got, allowed, strict=True)] == [True] * 72


@pytest.mark.dtypes()
@pytest.mark.parametrize("t", [0, 0.0])
def test_t_0_is_data(xp, dtype, t):
    x0, eps, _ = inputs(xp, dtype)
    assert np.array_equal(xp.numpy(rf.add_noise(x0, eps, t)), xp.numpy(x0))


@pytest.mark.dtypes()
@pytest.mark.parametrize("t", [1, 1.0])
def test_t_1_is_noise(xp, dtype, t):
    x0, eps, _ = inputs(xp, dtype)
    assert np.array_equal(xp.numpy(rf.add_noise(x0, eps, t)), xp.numpy(eps))


# Dtypes


@every_formula
@pytest.mark.needs("float64")
@pytest.mark.parametrize("dtypes", list(product(("float32", "float64"), repeat=3)))
def test_result_has_the_named_arrays_dtype(xp, formula, dtypes):
    check_mixed(xp, formula, dtypes)


@every_formula
@pytest.mark.needs("bfloat16", "float16")
@pytest.mark.parametrize(
    "dtypes",
    [
        ("bfloat16", "float32", "float32"),
        ("float32", "bfloat16", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("bfloat16", "bfloat16", "float64"),
        ("float32", "float32", "bfloat16"),
        ("float16", "bfloat16", "float64"),
        ("bfloat16", "float16", "float32"),
        ("float64", "float16", "bfloat16"),
    ],
    ids="-".join,
)
def test_result_has_the_named_arrays_dtype_low_precision(xp, formula, dtypes):
    check_mixed(xp, formula, dtypes)


def check_mixed(xp, formula, dtypes):
    values = np.array([[0.5, -1.25], [3.0, 0.75]])  # exact in every dtype, and so are the results
    first, second = xp.array(values, dtypes[0]), xp.array(values[::-1].copy(), dtypes[1])
    result = getattr(rf, formula)(first, second, xp.array(np.array([0.5, 0.5]), dtypes[2]))
    same = getattr(rf, formula)(values, values[::-1].copy(), np.array([0.5, 0.5]))
    expected = dtypes[FORMULAS[formula].like]
    assert result.dtype == xp.dtype(expected)
    exact = np.asarray(xp.numpy(result), np.float64)
    assert exact.ravel().tolist() == [rounded(Fraction(v), expected) for v in same.ravel().tolist()]


@pytest.mark.backends("numpy")
@pytest.mark.parametrize("n", [3, 2**20])
def test_numpy_rounds_float64_to_float16_once(xp, n):
    x_t, v = np.ones(n, np.float16), np.full(n, -(2.0**-11) - 2.0**-40)  # in float32 the sum is a tie, and then 1
    assert (rf.pred_x0_from_flow(v, x_t, 1.0) == 1 + 2.0**-10).all()


# One set of numbers on every backend


@every_formula
@pytest.mark.needs("float64")
@pytest.mark.dtypes("float32", "bfloat16")
@pytest.mark.backends("torch", "jax", "cupy", "array_api_strict", "dask")
def test_every_backend_gives_numpys_numbers(xp, dtype, formula):
    rng = np.random.default_rng(3)
    first, second = (xp.array(rng.standard_normal((64, 128)), dtype) for _ in range(2))
    t = xp.array(rng.uniform(0.001, 0.999, 64), "float32")
    result = xp.numpy(getattr(rf, formula)(first, second, t))
    like = getattr(rf, formula)(*(np.asarray(xp.numpy(array), np.float64) for array in (first, second, t)))
    if dtype == "float32" or xp.rounds_by_way_of_float32:
        like = like.astype(np.float32)
    expected = [[rounded(Fraction(v), dtype) for v in row] for row in like.tolist()]
    assert np.array_equal(result, np.array(expected, np.float32))


# Coefficients


@pytest.mark.dtypes()
def test_alpha_is_1_minus_t_rounded_once_in_ts_dtype(xp, dtype):
    t = xp.array(np.array(TIMES), dtype)
    alpha = rf.rf_alpha(t)
    assert alpha.dtype == t.dtype
    expected = [rounded(1 - time, dtype) for time in values(xp, t)]
    assert np.asarray(xp.numpy(alpha), np.float64).tolist() == expected


@pytest.mark.dtypes()
def test_sigma_is_t_itself(xp, dtype):
    t = xp.array(np.array(TIMES), dtype)
    assert rf.rf_sigma(t) is t


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_coefficients_keep_ts_shape_and_device(xp, dtype, shape):
    t = xp.array(np.full(shape, 0.25), dtype)
    for coefficient in (rf.rf_alpha(t), rf.rf_sigma(t)):
        assert type(coefficient) is type(t)
        assert tuple(coefficient.shape) == shape
        assert xp.device_of(coefficient) == xp.device


@pytest.mark.parametrize(
    ("t", "alpha"), [(0, 1.0), (1, 0.0), (0.0, 1.0), (1.0, 0.0), (0.25, 0.75), (np.float64(0.5), 0.5)]
)
def test_coefficients_of_a_python_number_are_python_floats(t, alpha):
    assert type(rf.rf_alpha(t)) is float
    assert type(rf.rf_sigma(t)) is float
    assert rf.rf_alpha(t) == alpha
    assert rf.rf_sigma(t) == t


# Infinities and NaN

inf, nan = math.inf, math.nan


@pytest.mark.parametrize("t_kind", ["float", "array"])
@pytest.mark.parametrize(
    ("formula", "first", "second", "t", "expected"),
    [
        ("add_noise", inf, 1.0, 0.5, inf),
        ("add_noise", 1.0, -inf, 0.5, -inf),
        ("add_noise", inf, -inf, 0.5, nan),
        ("add_noise", inf, 1.0, 1.0, nan),  # 0 times inf
        ("pred_noise_to_pred_x0", 1.0, -inf, 0.5, -inf),
        ("pred_noise_to_pred_x0", inf, 1.0, 0.5, -inf),
        ("pred_noise_to_pred_x0", inf, inf, 0.5, nan),
        ("pred_x0_from_flow", inf, 1.0, 0.5, -inf),
        ("pred_x0_from_flow", 1.0, inf, 0.5, inf),
        ("x0_to_eps", inf, 1.0, 0.5, -inf),
        ("x0_to_eps", 1.0, inf, 0.5, inf),
        ("x0_to_flow", inf, 1.0, 0.5, -inf),
        ("x0_to_flow", 1.0, inf, 0.5, inf),
        ("x0_to_flow", inf, inf, 0.5, nan),
    ],
)
def test_infinities_propagate_as_in_ieee_arithmetic(xp, formula, first, second, t, expected, t_kind):
    time = t if t_kind == "float" else xp.array(np.array([t]))
    with np.errstate(invalid="ignore"):  # dask computes within
        result = getattr(rf, formula)(xp.array(np.array([first])), xp.array(np.array([second])), time)
        assert np.array_equal(xp.numpy(result), [expected], equal_nan=True)


@every_formula
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_in_any_argument_makes_its_element_nan_and_no_other(xp, formula, place):
    arguments = [np.full(2, 0.5, np.float32) for _ in range(3)]
    arguments[place][1] = nan
    with np.errstate(invalid="ignore"):
        result = xp.numpy(getattr(rf, formula)(*(xp.array(argument) for argument in arguments)))
    assert np.isnan(result).tolist() == [False, True]


# Round trips

moderate = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
pair = st.tuples(*(arrays_of.arrays(np.float32, (2, 3), elements=moderate) for _ in range(2)))
interior = arrays_of.arrays(np.float32, 2, elements=st.floats(2.0**-7, 1 - 2.0**-7, width=32))
quick = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def close(xp, got, wanted, x0, eps, divisor):
    """Within what rounding x_t to float32 loses: its half ulp over the divisor, and a last rounding."""
    size = np.abs(x0.astype(np.float64)) + np.abs(eps)
    bound = 2.0**-23 * size / np.asarray(divisor, np.float64).reshape(-1, 1) + 1e-37
    return bool(np.all(np.abs(np.asarray(xp.numpy(got), np.float64) - wanted) <= bound))


@quick
@given(arrays=pair, t=interior)
def test_x0_to_eps_recovers_the_noise(xp, arrays, t):
    x0, eps = arrays
    x_t = rf.add_noise(xp.array(x0), xp.array(eps), xp.array(t))
    assert close(xp, rf.x0_to_eps(xp.array(x0), x_t, xp.array(t)), eps, x0, eps, t)


@quick
@given(arrays=pair, t=interior)
def test_pred_noise_to_pred_x0_recovers_the_data(xp, arrays, t):
    x0, eps = arrays
    x_t = rf.add_noise(xp.array(x0), xp.array(eps), xp.array(t))
    assert close(xp, rf.pred_noise_to_pred_x0(xp.array(eps), x_t, xp.array(t)), x0, x0, eps, 1 - t)


@quick
@given(arrays=pair, t=interior)
def test_x0_to_flow_recovers_eps_minus_x0(xp, arrays, t):
    x0, eps = arrays
    x_t = rf.add_noise(xp.array(x0), xp.array(eps), xp.array(t))
    assert close(xp, rf.x0_to_flow(xp.array(x0), x_t, xp.array(t)), eps - x0.astype(np.float64), x0, eps, t)


@quick
@given(arrays=pair, t=interior)
def test_pred_x0_from_flow_undoes_x0_to_flow(xp, arrays, t):
    x0, x_t = arrays
    flow = rf.x0_to_flow(xp.array(x0), xp.array(x_t), xp.array(t))
    assert close(xp, rf.pred_x0_from_flow(flow, xp.array(x_t), xp.array(t)), x0, x0, x_t, np.ones(2))


@every_formula
@pytest.mark.dtypes()
def test_inputs_are_left_as_they_were(xp, dtype, formula):
    first, second, t = inputs(xp, dtype)
    before = [xp.numpy(array).copy() for array in (first, second, t)]
    getattr(rf, formula)(first, second, t)
    after = [xp.numpy(array) for array in (first, second, t)]
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True] * 3

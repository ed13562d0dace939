"""Devices without float64: double-word arithmetic, and results equal to float64's rounding.

The formulas' float64 results are NumPy's, which test_formulas.py holds against exact arithmetic bit for bit.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

import fastgen_rf as rf
from fastgen_rf._doubleword import DoubleWord, maximum
from fastgen_rf.timesteps import quantile

FORMULAS = ["add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow"]
UNIT = Fraction(1, 2**24)  # half an ulp of float32, relative
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")


@pytest.fixture(params=["no_float64", "no_x64"])
def lesser(request):
    """A device of array_api_strict that has no float64; collected with that backend alone."""
    import array_api_strict

    return array_api_strict, array_api_strict.Device(request.param)


def doublewords(seed, count=400):
    """Pairs of float32 whose sum has some 48 bits, and their exact values."""
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal(count) * 10.0 ** rng.uniform(-6, 6, count)
    hi = exact.astype(np.float32)
    lo = (exact - hi).astype(np.float32)
    return DoubleWord(hi, lo, np), fractions(hi, lo)


def fractions(hi, lo):
    return [Fraction(float(a)) + Fraction(float(b)) for a, b in zip(hi, lo, strict=True)]


@pytest.mark.parametrize(
    ("operate", "bound"),  # Joldes, Muller and Popescu 2017: with u = 2**-24, 3 u**2, 5 u**2 (7 there) and 10 u**2
    [
        (lambda a, b: a + b, 3.01),
        (lambda a, b: a - b, 3.01),
        (lambda a, b: a * b, 7),
        (lambda a, b: a / b, 15),
    ],
    ids=["sum", "difference", "product", "quotient"],
)
def test_doubleword_operation_is_within_its_proven_relative_error(operate, bound):
    (a, exact_a), (b, exact_b) = doublewords(0), doublewords(1)
    result = operate(a, b)
    errors = [
        abs(got - operate(x, y)) / abs(operate(x, y)) / UNIT**2
        for got, x, y in zip(fractions(result.hi, result.lo), exact_a, exact_b, strict=True)
    ]
    assert max(errors) <= bound


@pytest.mark.parametrize(
    "operate",
    [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b],
    ids=["sum", "difference", "product", "quotient"],
)
def test_doubleword_operation_leaves_hi_the_rounded_sum(operate):
    result = operate(doublewords(2)[0], doublewords(3)[0])
    assert np.array_equal(result.hi, result.hi + result.lo)
    assert result.hi.dtype == result.lo.dtype == np.float32


@pytest.mark.parametrize(
    ("operate", "bound"),
    [
        (lambda a: 1 - a, 3.01),
        (lambda a: a + 0.3, 3.01),
        (lambda a: 0.3 * a, 7),
        (lambda a: a - 0.3, 3.01),
        (lambda a: a / 0.3, 15),
    ],
    ids=["1 - a", "a + 0.3", "0.3 a", "a - 0.3", "a / 0.3"],
)
def test_doubleword_takes_python_floats_at_48_bits(operate, bound):
    a, exact = doublewords(4)
    result = operate(a)
    fraction = lambda x: operate(Tracked(x)).value  # noqa: E731
    errors = [
        abs(got - fraction(x)) / abs(fraction(x)) / UNIT**2
        for got, x in zip(fractions(result.hi, result.lo), exact, strict=True)
    ]
    assert max(errors) <= bound + 2  # and the float's own last bits, half of u**2 of it


class Tracked:
    """A Fraction that takes Python floats at their exact value."""

    def __init__(self, value):
        self.value = Fraction(value)

    def __add__(self, other):
        return Tracked(self.value + Fraction(other))

    def __sub__(self, other):
        return Tracked(self.value - Fraction(other))

    def __rsub__(self, other):
        return Tracked(Fraction(other) - self.value)

    def __truediv__(self, other):
        return Tracked(self.value / Fraction(other))

    def __rmul__(self, other):
        return Tracked(Fraction(other) * self.value)


def test_doubleword_maximum_compares_the_whole_value():
    single = np.float32(1e-6)
    rest = np.float32(1e-6 - float(single))
    step = np.float32(2.0**-40) * single
    pair = DoubleWord(np.full(3, single), np.array([rest - step, rest, rest + step], np.float32), np)
    largest = maximum(pair, 1e-6)
    assert largest.lo.tolist() == [rest, rest, np.float32(rest + step)]
    assert np.isnan(maximum(DoubleWord(np.array([np.nan]), np.array([0.0]), np), 1e-6).hi).tolist() == [True]


def test_doubleword_infinity_stands_alone():
    infinite = DoubleWord(np.array([np.inf, -np.inf], np.float32), np.zeros(2, np.float32), np)
    assert (infinite * DoubleWord(np.full(2, 2.0, np.float32), np.zeros(2, np.float32), np)).hi.tolist() == [
        np.inf,
        -np.inf,
    ]
    assert (infinite + 1.0).hi.tolist() == [np.inf, -np.inf]


# The formulas


def ulps_apart(got, wanted):
    """Distance in float32 steps, element by element."""
    order = [np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) for bits in map(as_integers, (got, wanted))]
    return np.abs(order[0] - order[1])


def as_integers(array):
    return np.ascontiguousarray(array, np.float32).view(np.int32).astype(np.int64)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("t", ["per sample", 0.0, 2.0**-20, 0.25, 1 - 2.0**-24, 1.0])
@pytest.mark.backends("array_api_strict")
def test_without_float64_at_most_1_in_100_000_is_off_by_one_ulp(xp, formula, scale, t):
    if xp.has_float64:
        pytest.fail("this test is for devices without float64")

"""Float64's arithmetic on float32 words, held against exact arithmetic and float64 itself."""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from fastgen_rf import _formulas
from fastgen_rf.arithmetic import Float32
from fastgen_rf.arithmetic._words import (
    FUNCTIONS,
    Words,
    _halves,
    _ordered_sum,
    _product_of_halves,
    _two_sum,
    leading_bits,
    plus,
)
from tests.cases.without_float64 import HALVED, check_halves

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
NUMPY = Float32(np, plus, plus, leading_bits)
every_operation = pytest.mark.parametrize("operate", OPERATIONS.values(), ids=OPERATIONS)
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")


def words(values):
    """Float64 values as three words each, exactly."""
    rest = np.asarray(values, np.float64)
    parts = []
    for _ in range(3):
        parts.append(rest.astype(np.float32))
        rest = rest - parts[-1]
    assert not rest.any()
    return Words(tuple(parts), parts[0], NUMPY)


def value(result):
    return sum(part.astype(np.float64) for part in reversed(result.rounded()))


def samples(seed, count=20_000):
    """Float64 of 1 to 53 bits and of 12 decades: the short ones meet ties, neighbours cancel."""
    rng = np.random.default_rng(seed)
    full = rng.standard_normal(count) * 10.0 ** rng.uniform(-6, 6, count)
    mantissa, exponent = np.frexp(full)
    bits = rng.integers(1, 54, count)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


@every_operation
def test_an_operation_is_rounded_as_float64_rounds(operate):
    a, b = samples(0), samples(1)
    assert np.count_nonzero(value(operate(words(a), words(b))) != operate(a, b)) <= len(a) // 5000


@every_operation
@pytest.mark.parametrize("number", [0.3, 1 / 3, 1.0, 1e-6, 0.75, 0.999])
def test_a_python_float_counts_with_all_its_bits_on_either_side(operate, number):
    a = samples(2)
    assert np.count_nonzero(value(operate(words(a), number)) != operate(a, number)) <= len(a) // 5000
    assert np.count_nonzero(value(operate(number, words(a))) != operate(number, a)) <= len(a) // 5000


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_that_cancels_is_exact(sign):
    a = samples(3)
    b = -a * (1 + sign * 2.0 ** -np.random.default_rng(4).integers(1, 53, len(a)))
    assert np.array_equal(value(words(a) + words(b)), a + b)


def test_a_product_on_a_tie_goes_to_even():
    one = np.arange(2**26 + 1, 2**26 + 4001, 2, dtype=np.float64)
    two = np.arange(2**27 - 1, 2**27 - 4001, -2, dtype=np.float64)  # products of 54 bits, the last of them 1
    assert all(int(x) * int(y) % 2 and int(x) * int(y) >= 2**53 for x, y in zip(one, two, strict=True))
    assert np.array_equal(value(words(one) * words(two)), one * two)


def test_a_product_beside_a_power_of_two_is_rounded_on_the_finer_grid_below_it():
    a = samples(8) * 2.0 ** np.random.default_rng(9).integers(-3, 4, 20_000)
    inverse = np.concatenate([1 / a, -1 / a])
    assert np.array_equal(value(words(np.tile(a, 2)) * words(inverse)), np.tile(a, 2) * inverse)


def test_what_was_taken_from_one_number_is_taken_from_another_anew():
    a = samples(10)
    of_a = words(a)
    for number in (1.0, 2.5, 1.0):
        assert np.count_nonzero(value(number - of_a) != number - a) <= len(a) // 5000


@pytest.mark.parametrize("floor", [1e-6, 0.75])
def test_the_larger_of_words_and_a_number_is_found_to_the_last_bit(floor):
    apart = floor * 2.0 ** -np.arange(1, 53)
    a = np.concatenate([[floor, 0.0], floor + apart, floor - apart, floor * samples(11)])
    assert np.array_equal(value(FUNCTIONS.maximum(words(a), floor)), np.maximum(a, floor))
    of_one = np.array([floor, 2 * floor], np.float32)
    assert np.array_equal(
        value(FUNCTIONS.maximum(Words.of(of_one, NUMPY), floor)), np.maximum(of_one, np.float64(floor))
    )


def test_the_larger_of_words_that_are_not_finite_and_a_number():
    a = np.array([math.inf, -math.inf, math.nan, -1.0, 1.0], np.float32)
    for of_a in (Words.of(a, NUMPY), Words.of(a, NUMPY) * 1.0):
        np.testing.assert_array_equal(FUNCTIONS.maximum(of_a, 0.5).float32(), np.maximum(a, np.float32(0.5)))


def test_a_sum_on_a_tie_of_float32_goes_where_float64_goes():
    half = 1 + np.arange(1, 400, 2) * 2.0**-24
    for power in range(-60, -44):
        for small in (2.0**power, -(2.0**power), 1.5 * 2.0**power):
            tiny = np.full(len(half), small)
            assert np.array_equal((words(half) + words(tiny)).float32(), (half + tiny).astype(np.float32))


BOUNDS = {operator.add: 4, operator.sub: 4, operator.mul: 8, operator.truediv: 30}
"""Largest error that the module states, in 2**-72 of the larger operand of a sum and of any other result."""


def hard(seed):
    """Pairs of float64: random, next to each other or to a quotient of 1, and with products of 54 bits."""
    a, b = samples(seed, 2000), samples(seed + 1, 2000)
    near = a * (1 + np.tile([1.0, -1.0], 1000) * 2.0 ** -np.random.default_rng(seed).integers(1, 53, 2000))
    odd, other = 2.0**26 + np.arange(1, 2001, 2), 2.0**27 - np.arange(1, 2001, 2)
    return np.concatenate([a, a, -a, odd]), np.concatenate([b, near, 1 / near, other])


@every_operation
def test_the_exact_result_is_met_within_the_stated_error(operate):
    a, b = hard(5)
    check_error(operate, operate(words(a), words(b)).parts, a, b)


def check_error(operate, parts, a, b):
    for i, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        exact = operate(Fraction(x), Fraction(y))
        size = max(abs(x), abs(y)) if operate in (operator.add, operator.sub) else abs(exact)
        assert abs(total(parts, i) - exact) <= BOUNDS[operate] * Fraction(size) / 2**72


def total(parts, i):
    return sum(Fraction(float(part[i])) for part in parts)


def test_a_square_root_is_met_within_the_stated_error():
    a = np.abs(np.concatenate([samples(15, 2000), samples(16, 1000) ** 2, 1 + samples(17, 1000) * 2.0**-40]))
    parts = FUNCTIONS.sqrt(words(a)).parts
    for i, x in enumerate(a.tolist()):
        assert abs(total(parts, i) ** 2 - Fraction(x)) <= 2 * 20 * Fraction(x) / 2**72


def test_products_of_halves_and_sums_of_two_are_exact():
    a, b = (values.astype(np.float32) for values in hard(18))
    product = _product_of_halves(_halves(a, NUMPY), _halves(b, NUMPY), NUMPY)
    pair = _two_sum(a, b)
    large, small = np.where(np.abs(a) >= np.abs(b), (a, b), (b, a))
    ordered = _ordered_sum(large, small)
    for i, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        assert total(product, i) == Fraction(x) * Fraction(y)
        assert total(pair, i) == total(ordered, i) == Fraction(x) + Fraction(y)


def test_a_square_root_is_rounded_as_float64_rounds():
    a = np.abs(samples(7))
    root = FUNCTIONS.sqrt(words(a))
    assert np.count_nonzero(value(root) != np.sqrt(a)) <= len(a) // 5000
    assert np.array_equal(FUNCTIONS.sqrt(words(np.array([1.0, 2.25, 4.0]))).float32(), [1.0, 1.5, 2.0])


def test_the_larger_is_chosen_by_the_whole_value():
    near = np.array([math.nextafter(1e-6, 0), 1e-6, math.nextafter(1e-6, 1), 2.0, 0.0])
    assert np.array_equal(value(FUNCTIONS.maximum(words(near), 1e-6)), np.maximum(near, 1e-6))
    single = Words.of(np.array([0.0, 1.0, np.nan], np.float32), NUMPY)
    assert FUNCTIONS.maximum(single, 1e-6).float32().tolist() == pytest.approx([1e-6, 1.0, np.nan], nan_ok=True)


def test_halves_have_12_bits():
    check_halves(leading_bits(HALVED))


def test_infinities_and_overflow_are_float32s():
    infinite = Words.of(np.array([np.inf, -np.inf, 3e38], np.float32), NUMPY)
    assert (infinite * 2.0).float32().tolist() == [np.inf, -np.inf, np.inf]
    assert (infinite + 1.0).float32().tolist()[:2] == [np.inf, -np.inf]
    assert np.isnan((infinite - infinite).float32()).tolist() == [True, True, False]
    assert (1.0 / infinite).float32().tolist()[:2] == [0.0, 0.0]


# A compiler that contracts wherever it can


class Contracted:
    """A float32 array whose products enter sums rounded or not, as a coin decides: no compiler is consistent."""

    coin = np.random.default_rng(12)

    def __init__(self, exact):
        self.exact = np.asarray(exact, np.float64)
        self.single = self.exact.astype(np.float32)

    def __add__(self, other):
        return Contracted((_exact(self) + _exact(other)).astype(np.float32))

    def __sub__(self, other):
        return Contracted((_exact(self) - _exact(other)).astype(np.float32))

    def __rsub__(self, other):
        return Contracted((_exact(other) - _exact(self)).astype(np.float32))

    def __neg__(self):
        return Contracted(-self.exact)

    def __mul__(self, other):
        return Contracted(self.single.astype(np.float64) * _single(other))

    def __truediv__(self, other):
        return Contracted(self.single / np.float32(_single(other)))

    def __rtruediv__(self, other):
        return Contracted(np.float32(other) / self.single)

    def __lt__(self, other):
        return self.single < _single(other)

    def __le__(self, other):
        return self.single <= _single(other)

    def __eq__(self, other):
        return self.single == _single(other)

    __radd__ = __add__
    __rmul__ = __mul__
    __hash__ = None


def _exact(value):
    if not isinstance(value, Contracted):
        return value
    return value.exact if Contracted.coin.random() < 0.5 else value.single.astype(np.float64)


def _single(value):
    return value.single if isinstance(value, Contracted) else value


CONTRACTING = Float32(
    SimpleNamespace(
        where=lambda condition, a, b: Contracted(np.where(condition, _single(a), _single(b))),
        copysign=lambda a, b: Contracted(np.copysign(_single(a), _single(b))),
        sqrt=lambda a: Contracted(np.sqrt(_single(a))),
        sign=lambda a: Contracted(np.sign(_single(a))),
        abs=lambda a: Contracted(np.abs(_single(a))),
    ),
    plus,
    plus,
    leading_bits,
)
FORMULAS = {
    "add_noise": _formulas.add_noise,
    "flow_step": _formulas.flow_step,
    **{" to ".join(pair): formula for pair, formula in _formulas.CONVERSIONS.items()},
    **{" state to ".join(pair): formula for pair, formula in _formulas.RESCALINGS.items()},
    "ratio": lambda _, t_next, t, fn: _formulas.ratio(t, t_next, fn),
}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_contraction_changes_nothing(formula):
    rng = np.random.default_rng(10)
    arrays = rng.standard_normal((2, 5000)).astype(np.float32)
    t = rng.uniform(0, 1, 5000).astype(np.float32)
    plain = formula(*(Words.of(a, NUMPY) for a in (*arrays, t)), FUNCTIONS).float32()
    contracted = formula(*(Words.of(Contracted(a), CONTRACTING) for a in (*arrays, t)), FUNCTIONS).float32()
    assert np.array_equal(contracted.single, plain)


@every_operation
def test_a_contracted_operation_is_within_the_stated_error(operate):
    a, b = hard(13)
    one, two = (Words(tuple(map(Contracted, words(x).parts)), None, CONTRACTING) for x in (a, b))
    one.single, two.single = one.parts[0], two.parts[0]
    check_error(operate, [part.single for part in operate(one, two).parts], a, b)


def test_contraction_is_seen_where_it_matters():
    """The twin of the test above: a product that is not exact does not come out the same."""
    a, b = np.random.default_rng(11).standard_normal((2, 5000)).astype(np.float32)
    off = 0
    for _ in range(10):
        product = Contracted(a) * Contracted(b)
        rest = Contracted(a) * Contracted(b) - product
        off += np.count_nonzero(rest.single)
    assert off > 5000

"""Triple-float32 arithmetic against float64 and against exact fractions, and with a compiler that contracts."""

from __future__ import annotations

import itertools
import operator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastgen_rf._formulas import CONVERSIONS, RESCALINGS, add_noise
from fastgen_rf.arithmetic import Float32, Formula
from fastgen_rf.arithmetic import _triple_float32 as module
from fastgen_rf.arithmetic._triple_float32 import TRIPLE_OPS, TripleFloat32, leading_bits, plus

BOUNDS = {operator.add: 4, operator.sub: 4, operator.mul: 8, operator.truediv: 30}
"""Largest error that the module states, in 2**-72 of the larger operand of a sum and of any other result."""
NUMPY = Float32(np, plus, plus, leading_bits)
every_operation = pytest.mark.parametrize("operate", BOUNDS)
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")


class Contracted(np.lib.mixins.NDArrayOperatorsMixin):
    """A float32 array. A product enters a sum rounded or not, at random: no compiler is consistent."""

    coin = np.random.default_rng(12)

    def __init__(self, exact: Any) -> None:
        self.exact = np.asarray(exact, np.float64)
        self.single = self.exact.astype(np.float32)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None) -> Any:
        singles = [x.single if isinstance(x, Contracted) else np.float32(x) for x in inputs]
        if ufunc is np.negative:
            return Contracted(-self.exact)
        if ufunc is np.multiply:
            return Contracted(np.multiply(*singles, dtype=np.float64))
        if ufunc in (np.add, np.subtract):
            pairs = zip(inputs, singles, strict=True)
            terms = [x.exact if isinstance(x, Contracted) and self.coin.random() < 0.5 else y for x, y in pairs]
            return Contracted(ufunc(*terms, dtype=np.float64).astype(np.float32))
        result = ufunc(*singles)
        return result if result.dtype == bool else Contracted(result)


def _where(condition: Any, *options: Any) -> Contracted:
    return Contracted(np.where(condition, *(x.single if isinstance(x, Contracted) else x for x in options)))


XP = SimpleNamespace(where=_where, copysign=np.copysign, sqrt=np.sqrt, sign=np.sign, abs=np.abs)
CONTRACTING = Float32(XP, plus, plus, leading_bits)


def triple(values: Any, f32: Float32 = NUMPY) -> TripleFloat32:
    """Float64 values as three float32 each, exactly."""
    rest, parts = np.asarray(values, np.float64), []
    for _ in range(3):
        parts.append(rest.astype(np.float32))
        rest = rest - parts[-1]
    return TripleFloat32(tuple(parts if f32 is NUMPY else map(Contracted, parts)), f32)


def value(result: TripleFloat32) -> Any:
    parts = [part.astype(np.float64) for part in result.rounded()]
    number = sum(reversed(parts))
    assert not sum([-number, *parts]).any(), "the parts have more than 53 bits"
    return number


def total(parts: Any, i: int) -> Fraction:
    return sum((Fraction(float(getattr(part, "single", part)[i])) for part in parts), Fraction(0))


def samples(seed: int, count: int = 2000) -> Any:
    """Float64 of 1 to 53 bits and of 12 decades: short ones meet ties."""
    rng = np.random.default_rng(seed)
    mantissa, exponent = np.frexp(rng.standard_normal(count) * 10.0 ** rng.uniform(-6, 6, count))
    bits = rng.integers(1, 54, count)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


def hard_pairs(seed: int, count: int = 2000) -> tuple[Any, Any]:
    """Pairs of float64: random, close to each other or to a product of 1, and with products of 54 bits."""
    a, b = samples(seed, count), samples(seed + 1, count)
    near = a * (1 + np.resize([1.0, -1.0], count) * 2.0 ** -np.random.default_rng(seed).integers(1, 53, count))
    odd = np.arange(1, 2 * count, 2)
    return np.concatenate([a, a, -a, a, 2.0**26 + odd]), np.concatenate([b, near, 1 / near, 1 / a, 2.0**27 - odd])


def assert_nearly_all_equal(got: Any, wanted: Any) -> None:
    """All equal except results within 2**-67 of a tie of float64."""
    assert np.count_nonzero(got != wanted) <= len(wanted) // 5000


@every_operation
def test_an_operation_rounds_as_float64_does(operate: Any) -> None:
    a, b = samples(0, 20_000), samples(1, 20_000)
    of_a = triple(a)
    assert_nearly_all_equal(value(operate(of_a, triple(b))), operate(a, b))
    # 1.0 again: a difference is kept for the next call.
    for number in (0.3, 1 / 3, 1.0, 1e-6, 0.75, 0.999, 1.0):
        assert_nearly_all_equal(value(operate(of_a, number)), operate(a, number))
        assert_nearly_all_equal(value(operate(number, of_a)), operate(number, a))


def test_cancellation_ties_and_powers_of_two_leave_no_result_wrong() -> None:
    a, b = hard_pairs(3, 20_000)
    assert np.array_equal(value(triple(a) * triple(b)), a * b)
    assert np.array_equal(value(-(triple(a) * triple(b))), -(a * b))
    near = slice(20_000, 40_000)
    assert np.array_equal(value(triple(a[near]) - triple(b[near])), a[near] - b[near])


def test_a_square_root_rounds_as_float64_does() -> None:
    a, single = np.abs(samples(7, 20_000)), np.arange(10, dtype=np.float32)
    assert_nearly_all_equal(value(TRIPLE_OPS.sqrt(triple(a))), np.sqrt(a))
    assert np.array_equal(TRIPLE_OPS.sqrt(TripleFloat32((single,), NUMPY)).float32(), np.sqrt(single))
    hard = np.abs(np.concatenate([a[:2000], samples(16, 1000) ** 2, 1 + samples(17, 1000) * 2.0**-40]))
    parts = TRIPLE_OPS.sqrt(triple(hard)).parts
    for i, x in enumerate(map(Fraction, hard.tolist())):
        assert abs(total(parts, i) ** 2 - x) <= 2 * 20 * x / 2**72


def test_a_sum_on_a_tie_of_float32_goes_where_float64_goes() -> None:
    tiny = np.outer(2.0 ** -np.arange(45, 61), [1.0, -1.0, 1.5]).ravel()
    half, tiny = (x.ravel() for x in np.meshgrid(1 + np.arange(1, 400, 2) * 2.0**-24, tiny))
    assert np.array_equal((triple(half) + triple(tiny)).float32(), (half + tiny).astype(np.float32))


@pytest.mark.parametrize("floor", [1e-6, 0.75, 0.3])
def test_the_larger_of_a_value_and_a_number_is_found_to_the_last_bit(floor: float) -> None:
    apart = floor * 2.0 ** -np.arange(1, 53)
    a = np.concatenate([[floor, 0.0], floor + apart, floor - apart, floor * samples(11)])
    assert np.array_equal(value(TRIPLE_OPS.maximum(triple(a), floor)), np.maximum(a, floor))
    single = np.array([floor, 2 * floor, 0.0, np.inf, -np.inf, np.nan, -1.0], np.float32)
    of_single, finite = TripleFloat32((single,), NUMPY), single[:3]
    larger = TRIPLE_OPS.maximum(TripleFloat32((finite,), NUMPY), floor)
    assert np.array_equal(value(larger), np.maximum(finite.astype(np.float64), floor))
    for each in (of_single, of_single * 1.0):
        larger = TRIPLE_OPS.maximum(each, floor).float32()
        np.testing.assert_array_equal(larger, np.maximum(single, np.float32(floor)))


def test_infinities_nan_and_overflow_are_float32s() -> None:
    a = np.array([np.inf, -np.inf, 3e38], np.float32)
    infinite = TripleFloat32((a,), NUMPY)
    np.testing.assert_array_equal((infinite * 2.0).float32(), a * 2)
    np.testing.assert_array_equal((infinite + 1.0).float32(), a + 1)
    np.testing.assert_array_equal((infinite - infinite).float32(), a - a)
    np.testing.assert_array_equal((infinite / 0.5).float32(), a * 2)
    np.testing.assert_array_equal((1.0 / infinite).float32()[:2], 0.0)


@every_operation
def test_an_operation_keeps_within_its_stated_error_if_contracted_too(operate: Any) -> None:
    for f32, count in itertools.product((NUMPY, CONTRACTING), (1, 2, 3)):
        a, b = (triple(values, f32).parts[:count] for values in hard_pairs(5, 700))
        parts = operate(TripleFloat32(a, f32), TripleFloat32(b, f32)).parts
        for i in range(5 * 700):
            x, y = total(a, i), total(b, i)
            exact = operate(x, y)
            size = max(abs(x), abs(y)) if operate in (operator.add, operator.sub) else abs(exact)
            assert abs(total(parts, i) - exact) <= BOUNDS[operate] * size / 2**72


def test_products_of_halves_and_sums_of_two_are_exact() -> None:
    a, b = (values.astype(np.float32) for values in hard_pairs(18))
    high = leading_bits(a)
    unit = np.spacing(np.abs(a)) * np.float32(2**12)
    assert np.array_equal(np.round(high / unit) * unit, high) and (np.abs(a - high) <= unit / 2).all()
    product = module._product_of_halves(module._halves(a, NUMPY), module._halves(b, NUMPY), NUMPY)
    pair = module._two_sum(a, b)
    ordered = module._ordered_sum(*np.where(np.abs(a) >= np.abs(b), (a, b), (b, a)))
    for i, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        assert total(product, i) == Fraction(x) * Fraction(y)
        assert total(pair, i) == total(ordered, i) == Fraction(x) + Fraction(y)


FORMULAS = [add_noise, *(CONVERSIONS[pair] for pair in (("x0", "eps"), ("score", "v"), ("v_vp", "eps")))]


@pytest.mark.parametrize("formula", [*FORMULAS, RESCALINGS["vp", "ve"]], ids=lambda formula: formula.name)
def test_a_compiler_that_contracts_changes_no_result(formula: Formula) -> None:
    rng = np.random.default_rng(10)
    arrays = [*rng.standard_normal((len(formula.constants), 20_000)), rng.uniform(0, 1, 20_000)]
    arrays = [x.astype(np.float32) for x in arrays]
    plain = formula.function(*(TripleFloat32((x,), NUMPY) for x in arrays), TRIPLE_OPS)
    contracted = formula.function(*(TripleFloat32((Contracted(x),), CONTRACTING) for x in arrays), TRIPLE_OPS)
    assert np.array_equal(contracted.float32().single, plain.float32())


def test_the_simulated_compiler_contracts() -> None:
    a, b = (Contracted(x) for x in np.random.default_rng(11).standard_normal((2, 5000)))
    assert sum(np.count_nonzero((a * b - a * b).single) for _ in range(20)) > 5000

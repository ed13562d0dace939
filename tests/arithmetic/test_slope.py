"""Slopes: each operator's derivative in exact fractions, those of the functions, and coefficients constant in t."""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

import pytest

from fastgen_rf.arithmetic import FLOATS
from fastgen_rf.arithmetic._slope import Slope, coefficients, functions

A, DA, B, DB = Fraction(3, 7), Fraction(5, 11), Fraction(-13, 17), Fraction(19, 23)


@pytest.mark.parametrize(
    ("operate", "slope"),
    [
        (operator.add, lambda a, da, b, db: da + db),
        (operator.sub, lambda a, da, b, db: da - db),
        (operator.mul, lambda a, da, b, db: da * b + a * db),
        (operator.truediv, lambda a, da, b, db: (da * b - a * db) / (b * b)),
    ],
)
def test_an_operator_carries_value_and_slope_and_takes_a_number_for_a_constant(operate: Any, slope: Any) -> None:
    for a, da, b, db in ((Slope(A, DA), DA, Slope(B, DB), DB), (Slope(A, DA), DA, B, 0), (A, 0, Slope(B, DB), DB)):
        found = operate(a, b)
        assert found.value == operate(A, B)
        assert found.slope == pytest.approx(float(slope(A, da, B, db)), rel=1e-15, abs=0)


def test_the_opposite_has_the_opposite_slope() -> None:
    found = -Slope(A, DA)
    assert (found.value, found.slope) == (-A, -DA)


@pytest.mark.parametrize(("t", "value", "slope"), [(0.5, 0.5, 3.0), (0.25, 0.25, 3.0), (0.125, 0.25, 0.0)])
def test_the_larger_of_two_passes_the_slope_on_where_it_is_t_or_equal(t: float, value: float, slope: float) -> None:
    found = functions(FLOATS).maximum(Slope(t, 3.0), 0.25)
    assert (found.value, found.slope) == (value, slope)


def test_the_slope_of_a_root() -> None:
    found = functions(FLOATS).sqrt(Slope(6.25, 3.0))
    assert (found.value, found.slope) == (2.5, 0.6)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda first, second, t, fn: first * (1 - t) + second * t, (None, None)),
        (lambda first, second, t, fn: first * (t * (1 - t)) + second * 2, (None, 2.0)),  # the same at t and 1 - t
        (lambda first, second, t, fn: first - second / fn.maximum(t, 1e-6), (1.0, None)),
        (lambda first, second, t, fn: second / fn.sqrt(t), (0.0, None)),
        (lambda first, second, t, fn: first * t, (None, 0.0)),
        (lambda first, second, t, fn: second - first, (-1.0, 1.0)),
    ],
)
def test_coefficients_are_numbers_where_t_does_not_change_them(formula: Any, expected: Any) -> None:
    assert coefficients(formula) == expected

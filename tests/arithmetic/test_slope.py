"""Forward-mode derivatives in t, in exact fractions."""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

import pytest

from fastgen_rf.arithmetic import FLOATS
from fastgen_rf.arithmetic._slope import Slope, slope_ops

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
def test_an_operator_gives_value_and_derivative_and_a_number_is_constant(operate: Any, slope: Any) -> None:
    for a, da, b, db in ((Slope(A, DA), DA, Slope(B, DB), DB), (Slope(A, DA), DA, B, 0), (A, 0, Slope(B, DB), DB)):
        found = operate(a, b)
        assert found.value == operate(A, B)
        assert found.slope == pytest.approx(float(slope(A, da, B, db)), rel=1e-15, abs=0)


def test_functions_of_one_argument() -> None:
    negative, root = -Slope(A, DA), slope_ops(FLOATS).sqrt(Slope(6.25, 3.0))
    assert (negative.value, negative.slope, root.value, root.slope) == (-A, -DA, 2.5, 0.6)
    for t, slope in ((0.5, 3.0), (0.25, 3.0), (0.125, 0.0)):
        larger = slope_ops(FLOATS).maximum(Slope(t, 3.0), 0.25)
        assert (larger.value, larger.slope) == (max(t, 0.25), slope)

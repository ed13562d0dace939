"""Derivatives in t, by the same formulas: a :class:`Slope` is a value and its derivative for t.

Its operators carry both (forward-mode differentiation), so a formula evaluated on the Slope of t gives its own
derivative, in plain arithmetic that every transformation of a framework follows. Nothing here knows a framework.
"""

from __future__ import annotations

import functools
from typing import Any

from fastgen_rf._typing import Formula
from fastgen_rf.arithmetic import FLOATS, Functions


class Slope:
    """A value, and its derivative for t; anything else in an expression is constant in t."""

    __slots__ = ("slope", "value")

    def __init__(self, value: Any, slope: Any) -> None:
        self.value, self.slope = value, slope

    def __add__(self, other: Any) -> Slope:
        value, slope = _parts(other)
        return Slope(self.value + value, self.slope + slope)

    def __sub__(self, other: Any) -> Slope:
        value, slope = _parts(other)
        return Slope(self.value - value, self.slope - slope)

    def __rsub__(self, other: Any) -> Slope:
        return Slope(other - self.value, -self.slope)

    def __neg__(self) -> Slope:
        return Slope(-self.value, -self.slope)

    def __mul__(self, other: Any) -> Slope:
        value, slope = _parts(other)
        return Slope(self.value * value, self.slope * value + self.value * slope)

    def __truediv__(self, other: Any) -> Slope:
        value, slope = _parts(other)
        quotient = self.value / value
        return Slope(quotient, (self.slope - quotient * slope) / value)

    def __rtruediv__(self, other: Any) -> Slope:
        return Slope(other, 0.0) / self

    __radd__ = __add__
    __rmul__ = __mul__


def _parts(other: Any) -> tuple[Any, Any]:
    return (other.value, other.slope) if isinstance(other, Slope) else (other, 0.0)


def functions(fn: Functions) -> Functions:
    """Functions of a Slope, made of those of its value; the larger of two passes the slope on where it is the Slope."""

    def maximum(t: Slope, floor: float) -> Slope:
        return Slope(fn.maximum(t.value, floor), t.slope * (t.value >= floor))

    def sqrt(t: Slope) -> Slope:
        root = fn.sqrt(t.value)
        return Slope(root, t.slope / (2 * root))

    return Functions(maximum, sqrt)


@functools.lru_cache
def coefficients(formula: Formula) -> tuple[float | None, float | None]:
    """Coefficients of a formula's two arrays: 0.0 for one that it does not use, None where they change with t."""
    early, late = (
        (formula(1.0, 0.0, t, FLOATS), formula(0.0, 1.0, t, FLOATS)) for t in (0.3, 0.61)
    )  # no symmetric pair
    first, second = (a if a == b else None for a, b in zip(early, late, strict=True))
    return first, second

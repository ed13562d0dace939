"""Derivatives in t, by the same formulas: a :class:`Slope` is a value and its derivative for t.

Its operators carry both (forward-mode differentiation), so a formula evaluated on the Slope of t gives its own
derivative, in plain arithmetic that every transformation of a framework follows. Nothing here knows a framework.
"""

from __future__ import annotations

from typing import Any


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

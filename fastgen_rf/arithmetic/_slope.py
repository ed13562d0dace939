"""Dual numbers: a :class:`Slope` is a value and its derivative in a time.

Its operators compute both (forward-mode differentiation), so a formula evaluated on a Slope gives its derivative. The
derivative is made of plain operators, so every transformation of a framework can trace and differentiate it.
"""

from __future__ import annotations

from typing import Any

from fastgen_rf.arithmetic import Ops


class Slope:
    """A value and its derivative in one time. Every other operand is a constant."""

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


def slope_ops(ops: Ops) -> Ops:
    """Functions of a Slope, made of the functions of its value. At the floor, ``maximum`` keeps the derivative."""

    def maximum(t: Any, floor: float) -> Any:
        if not isinstance(t, Slope):
            return ops.maximum(t, floor)
        return Slope(ops.maximum(t.value, floor), t.slope * (t.value >= floor))

    def sqrt(t: Any) -> Any:
        root = ops.sqrt(t.value)
        return Slope(root, t.slope / (2 * root))

    return Ops(maximum, sqrt)

"""Float64-grade arithmetic on pairs of float32, for devices that have no float64.

A :class:`DoubleWord` is an unevaluated sum ``hi + lo`` of two float32 arrays with ``hi = float32(hi + lo)``:
some 48 bits where float64 has 53. It overloads ``+ - * /``, so the RF formulas run on it as they stand.
The algorithms are those of Joldes, Muller and Popescu, "Tight and rigorous error bounds for basic building
blocks of double-word arithmetic" (ACM TOMS 44, 2017), without fused multiply-add. Nothing here knows a
framework: arrays come with the namespace ``xp`` that serves them; ``where``, ``isfinite`` and ``sqrt`` are used of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgen_rf.arithmetic import Functions

_SPLIT = 2.0**12 + 1  # halves a 24-bit significand (Veltkamp)
_SPLIT_PYTHON = 2.0**41 + 1  # takes the same 12 leading bits off a float32 value held in a Python float


class DoubleWord:
    """The pair ``hi + lo`` of float32 arrays (or of Python floats that float32 holds)."""

    __slots__ = ("hi", "lo", "xp")

    def __init__(self, hi: Any, lo: Any, xp: Any) -> None:
        self.hi, self.lo, self.xp = hi, lo, xp

    def _lift(self, other: Any) -> DoubleWord:
        if isinstance(other, DoubleWord):
            return other
        hi = np.float32(other).item()
        return DoubleWord(hi, np.float32(other - hi).item(), self.xp)

    def _normalised(self, hi: Any, lo: Any) -> DoubleWord:
        """Pair with ``|lo| <= ulp(hi) / 2``, where ``|lo| <= |hi|``.

        Where the exact rounding error of an infinite or huge ``hi`` came out NaN, ``hi`` stands alone.
        """
        total = hi + lo
        usable = self.xp.isfinite(total)
        rest = self.xp.where(usable, lo - (total - hi), 0.0)
        return DoubleWord(self.xp.where(usable, total, hi), rest, self.xp)

    def __neg__(self) -> DoubleWord:
        return DoubleWord(-self.hi, -self.lo, self.xp)

    def __add__(self, other: Any) -> DoubleWord:  # AccurateDWPlusDW, relative error 3 u**2
        other = self._lift(other)
        high, high_rest = _two_sum(self.hi, other.hi)
        low, low_rest = _two_sum(self.lo, other.lo)
        middle = self._normalised(high, high_rest + low)
        return self._normalised(middle.hi, middle.lo + low_rest)

    def __sub__(self, other: Any) -> DoubleWord:
        return self + -self._lift(other)

    def __mul__(self, other: Any) -> DoubleWord:  # DWTimesDW, relative error 5 u**2
        other = self._lift(other)
        product, rest = _two_product(self.hi, other.hi)
        cross = self.hi * other.lo + (self.lo * other.hi + self.lo * other.lo)
        return self._normalised(product, rest + cross)

    def __truediv__(self, other: Any) -> DoubleWord:  # DWDivDW, relative error 10 u**2
        other = self._lift(other)
        quotient = self.hi / other.hi
        rest = self - other * DoubleWord(quotient, 0.0, self.xp)
        return self._normalised(quotient, rest.hi / other.hi)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> DoubleWord:
        return self._lift(other) - self

    def __rtruediv__(self, other: Any) -> DoubleWord:
        return self._lift(other) / self


def _maximum(pair: DoubleWord, floor: float) -> DoubleWord:
    """Larger of ``pair`` and a Python float; NaN stays NaN."""
    least = pair._lift(floor)
    below = (pair.hi < least.hi) | ((pair.hi == least.hi) & (pair.lo < least.lo))
    where = pair.xp.where
    return DoubleWord(where(below, least.hi, pair.hi), where(below, least.lo, pair.lo), pair.xp)


def _sqrt(pair: DoubleWord) -> DoubleWord:
    """Square root of a positive pair: one step of Newton's method from the root of ``hi`` (Karp and Markstein)."""
    root = pair.xp.sqrt(pair.hi)
    rest = pair - DoubleWord(root, 0.0, pair.xp) * DoubleWord(root, 0.0, pair.xp)
    return pair._normalised(root, rest.hi / (root + root))


FUNCTIONS = Functions(_maximum, _sqrt)


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b`` rounded, and its rounding error exactly (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """``a * b`` rounded, and its rounding error exactly (Dekker)."""
    product = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Any) -> tuple[Any, Any]:
    scaled = (_SPLIT_PYTHON if isinstance(a, float) else _SPLIT) * a
    high = scaled - (scaled - a)
    return high, a - high

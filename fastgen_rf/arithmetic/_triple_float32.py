"""Triple-float32 arithmetic: float64 results from float32 operations, for devices without float64.

A :class:`TripleFloat32` is the sum ``high + middle + low`` of up to three float32 numbers. The literature calls this
triple-word arithmetic (Fabiano, Muller and Picot, IEEE Trans. Comput. 68, 2019). This module contains its operators,
its square root and maximum, and the two roundings. It imports no framework: a
:class:`~fastgen_rf.arithmetic.Float32` supplies the float32 operations.

**Guarantee.** A formula on these operands returns the bits that float64 returns after a cast to float32. Each operation
is exact up to a relative error of 2**-67. Before the next operation, the result is rounded to 53 bits, ties to even,
which is the rounding of float64. The two results can differ only if an exact result is within 2**-67 of a tie but not
on it. Then the 53rd bit may differ, and of a cast to float32 one result in 2**28 shows that.

**Limits.**

- A divisor close to a power of two, such as 1 - 2**-40, has quotients within 2**-80 of a tie. About one quotient in a
  hundred then differs in the 53rd bit.
- Numbers below 2**-75 lose bits because their low parts underflow. Results below 2**-126 may be several units of
  2**-149 off.
- The result is that of plain float32 arithmetic for infinities and NaN, if a number is too large for
  :func:`_halves`, and if an intermediate result overflows float32.
- The sign of zero is not kept: -0.0 plus a low part of 0.0 is 0.0.

**Error bounds** are relative, in terms of u = 2**-24, half an ulp of float32. One operation has an error of 30 u**3 or
less, which is below 2**-67. The tests check every bound against exact fractions.

**Compilers** may contract ``a * b + c`` to a fused multiply-add. This changes no result: a product enters a sum only if
the product is exact, if its rounding error is below 2**-70, or in :func:`_signed_ulp`, which tolerates an error of
20 %. Exact products are those of two halves of 12 bits, and those with a power of two or 3/4 of one. XLA also
simplifies ``(a + 1) - 1`` to ``a``, so no sum below has two constants.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fastgen_rf._tracing import evaluated_by_tracer, fixed
from fastgen_rf.arithmetic import FLOATS, Float32, Ops

_NEXT = 1.25 * 2.0**-24
"""Times a float32 number, this is 0.625 to 1.25 ulp of the number."""

# Adding and subtracting 3/2 of a power of two rounds a number to a multiple of the last bit of that power. These
# multiples of an ulp of a number x are 3/2 of a power of two. They leave 12 bits of x, and multiples of 2**-47 |x| and
# 2**-52 |x|, where |x| stands for the largest power of two that is at most |x|.
_TO_12_BITS, _TO_47, _TO_52 = 1.5 * 2.0**35, 0.75, 0.75 * 2.0**-5


class TripleFloat32:
    """A number as a sum of one to three float32 parts, ``high + middle + low``, in decreasing size.

    ``parts`` are float32 arrays, or Python floats that float32 can represent. Operations round their operands, not
    their result, because the last result of a formula is rounded to float32 directly: ``is_rounded`` tells whether the
    sum has at most 53 bits.

    ``fallback`` is the same formula in plain float32. It replaces results that are NaN, because the parts are NaN for
    infinite operands, for the root of 0 and after an overflow, where plain float32 is right.
    """

    __slots__ = ("difference", "f32", "fallback", "is_rounded", "minuend", "parts")

    def __init__(self, parts: tuple[Any, ...], f32: Float32, fallback: Any = None, is_rounded: bool = True) -> None:
        self.parts, self.f32, self.is_rounded = parts, f32, is_rounded
        self.fallback = parts[0] if fallback is None else fallback
        self.minuend: float | None = None
        self.difference: TripleFloat32 | None = None

    def _operand(self, number: Any) -> TripleFloat32:
        return number if isinstance(number, TripleFloat32) else TripleFloat32(split(float(number)), self.f32)

    def rounded(self) -> tuple[Any, ...]:
        """Parts of the number rounded to 53 bits, which replace those that it had."""
        if not self.is_rounded:
            high, middle, low, _ = _round(self.parts, self.f32)
            self.parts = (high, middle + low) if len(self.parts) == 2 else (high, middle, low)
            self.is_rounded = True
        return self.parts

    def float32(self) -> Any:
        """Round to 53 bits and then to 24, as a cast from float64 to float32 does."""
        value = self.parts[0]
        if self.is_rounded and len(self.parts) == 2:
            value = value + self.parts[1]
        elif len(self.parts) > 1:
            value = _round_to_float32(self.parts, self.f32)
        return self.f32.xp.where(value == value, value, self.fallback)

    def __neg__(self) -> TripleFloat32:
        return TripleFloat32(tuple(-part for part in self.parts), self.f32, -self.fallback, self.is_rounded)

    def __add__(self, other: Any) -> TripleFloat32:
        other = self._operand(other)
        parts = _sum(self.rounded(), other.rounded())
        return TripleFloat32(parts, self.f32, self.fallback + other.fallback, is_rounded=False)

    def __sub__(self, other: Any) -> TripleFloat32:
        other = self._operand(other)
        parts = _sum(self.rounded(), tuple(-part for part in other.rounded()))
        return TripleFloat32(parts, self.f32, self.fallback - other.fallback, is_rounded=False)

    def __mul__(self, other: Any) -> TripleFloat32:
        other = self._operand(other)
        a, b = self.rounded(), other.rounded()
        # A product of two float32 numbers has 48 bits.
        is_rounded = len(a) == len(b) == 1
        return TripleFloat32(_product(a, b, self.f32), self.f32, self.fallback * other.fallback, is_rounded)

    def __truediv__(self, other: Any) -> TripleFloat32:
        if isinstance(other, TripleFloat32):
            inverse, fallback = _reciprocal(other.rounded(), self.f32), self.fallback / other.fallback
        else:
            inverse, fallback = _reciprocal_of_float(fixed(other)), self.fallback / other
        return TripleFloat32(_product(self.rounded(), inverse, self.f32), self.f32, fallback, is_rounded=False)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> TripleFloat32:
        # Formulas contain 1 - t up to four times. Keeping it saves 8 to 18 % of a conversion from or to v.
        if self.minuend != other:
            self.minuend, self.difference = other, self._operand(other) - self
        return self.difference

    def __rtruediv__(self, other: Any) -> TripleFloat32:
        return self._operand(other) / self


def _maximum(value: Any, floor: float) -> Any:
    """Larger of ``value`` and a Python float; NaN stays NaN. Exact: parts are compared, the lowest ones first."""
    if isinstance(value, float):
        return FLOATS.maximum(value, floor)
    parts, limits, where = value.rounded(), split(floor), value.f32.xp.where
    count = len(parts)
    limits += (0.0,) * (count - len(limits))
    # The sign of `value - floor` would tell as well, but XLA adds up constants, and `value` may be 1 - t.
    last, limit = parts[-1], limits[count - 1]
    below = last <= limit if sum(limits[count:]) > 0 else last < limit
    for part, limit in reversed(list(zip(parts[:-1], limits, strict=False))):
        below = (part < limit) | ((part == limit) & below)
    # An absent part is an array of zeros, because the standard's `where` takes no two Python floats.
    parts += (parts[0] * 0.0,) * (len(limits) - count)
    larger = tuple(where(below, limit, part) for part, limit in zip(parts, limits, strict=True))
    return TripleFloat32(larger, value.f32, where(value.fallback < floor, limits[0], value.fallback))


def _sqrt(value: Any) -> Any:
    """Square root of a positive number by two steps of Newton's method, with an error of 20 u**3.

    The parts are ``high = sqrt(a[0])``, then ``middle = (a - high**2) / (2 high)``, then the same for the remainder
    ``a - (high + middle)**2``. No root of a float64 is a tie of float64, so the bound is enough for the right rounding
    of most roots (Jeannerod, Louvet, Muller and Panhard, IEEE Trans. Comput. 60, 2011).
    """
    if isinstance(value, float):
        return FLOATS.sqrt(value)
    a, f32 = value.rounded(), value.f32
    high = f32.xp.sqrt(a[0])
    twice = high + high
    halves = _halves(high, f32)
    square, square_error = _product_of_halves(halves, halves, f32)
    remainder, error = _ordered_sum(a[0] - square, -square_error)
    if len(a) > 1:
        remainder, lost = _two_sum(remainder, a[1])
        error += lost
    if len(a) > 2:
        error += a[2]
    middle = (remainder + error) / twice
    product, product_error = _product_of_halves(halves, _halves(middle, f32), f32)
    remainder = f32.plus(remainder, product, 1.0, -2.0) + f32.plus(error, product_error, 1.0, -2.0)
    remainder = f32.add_to(remainder, middle, middle, -1.0)
    root = (*_ordered_sum(high, middle), remainder / twice)
    return TripleFloat32(root, f32, f32.xp.sqrt(value.fallback), is_rounded=False)


TRIPLE_OPS = Ops(_maximum, _sqrt)


# Operations for a Float32 of any framework


def plus(c: Any, a: Any, b: Any, scale: float) -> Any:
    """``c + scale * a * b``."""
    return c + a * (b if scale == 1.0 else b * scale)


def leading_bits(a: Any) -> Any:
    """``a`` rounded to 12 bits without a view of its bits, for numbers up to 2**115.

    Rump, Ogita and Oishi, SIAM J. Sci. Comput. 31, 2008, section 3, extract leading bits in this way.
    """
    large = ((a + a * _NEXT) - a) * _TO_12_BITS
    return (a + large) - large


# Operations on tuples of parts. Their operands have at most 53 bits. Their results are not rounded.


def _sum(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """``a + b`` with an error of 4 u**3 of the larger operand; exact for two float32 numbers.

    The two sums of high parts and of middle parts are exact. Their errors and the low parts, each 2**-48 of the larger
    operand or less, are added in up to four roundings. If the operands cancel, these are exact, too, because no
    operand has bits below 2**-56.
    """
    high, error = _two_sum(a[0], b[0])
    if len(a) == len(b) == 1:
        return high, error
    small = [*a[2:], *b[2:]]
    if len(a) > 1 and len(b) > 1:
        middle, middle_error = _two_sum(a[1], b[1])
        small.append(middle_error)
    else:
        middle = a[1] if len(a) > 1 else b[1]
    middle, low = _two_sum(error, middle)
    for part in small:
        low += part
    middle, low = _ordered_sum(middle, low)
    return (*_ordered_sum(high, middle), low)


def _product(a: tuple[Any, ...], b: tuple[Any, ...], f32: Float32) -> tuple[Any, ...]:
    """``a * b`` with an error of 8 u**3; exact for two float32 numbers.

    The product of the high parts and those of a high and a middle part are exact. Three rounded products and as many
    sums of size u**2 make the low part.
    """
    if isinstance(a[0], float):
        a, b = b, a
    a_halves = [_halves(part, f32) for part in a[:2]]
    b_halves = a_halves if a is b else [_halves(part, f32) for part in b[:2]]
    high, middle = _product_of_halves(a_halves[0], b_halves[0], f32)
    if len(a) == len(b) == 1:
        return high, middle
    cross = [_product_of_halves(a_halves[0], half, f32) for half in b_halves[1:]]
    cross += [_product_of_halves(half, b_halves[0], f32) for half in a_halves[1:]]
    product, low = cross[0]
    if len(cross) == 2:
        product, error = _two_sum(product, cross[1][0])
        low += error
        low += cross[1][1]
    # The order suffices: `middle` is a multiple of ulp(a[0]) ulp(b[0]), and `product` is below 2**24 of these.
    middle, error = _ordered_sum(middle, product)
    low += error
    for i in range(3):
        if i < len(a) and 2 - i < len(b):
            low = f32.add_to(low, a[i], b[2 - i], 1.0)
    return (*_ordered_sum(high, middle), low)


def _product_of_halves(a: tuple[Any, Any], b: tuple[Any, Any], f32: Float32) -> tuple[Any, Any]:
    """Exact product of two numbers given by :func:`_halves`, as a pair.

    The four products and the sum of the two mixed ones are integers of at most 24 bits, in units of the last bits of
    both numbers (Dekker, Numerische Mathematik 18, 1971, section 5).
    """
    mixed = f32.add_to(a[0] * b[1], a[1], b[0], 1.0)
    high = f32.plus(mixed, a[0], b[0], 1.0)
    mixed -= f32.plus(high, a[0], b[0], -1.0)
    return high, f32.add_to(mixed, a[1], b[1], 1.0)


def _reciprocal(a: tuple[Any, ...], f32: Float32) -> tuple[Any, ...]:
    """``1 / a`` with an error of 20 u**3, by two steps of long division; a quotient then has an error of 30 u**3.

    Each step divides the remainder ``1 - a * quotient`` by the high part, with a relative error of 3 u. No quotient of
    two float64 is a tie of float64, so the bound is enough for the right rounding of most quotients (Jeannerod et al.,
    as in :func:`_sqrt`).
    """
    high = 1 / a[0]
    product, *small = _product(a, (high,), f32)
    remainder, error = _ordered_sum(1.0 - product, -small[0])
    for part in small[1:]:
        error -= part
    # A quotient, because a product with `high` could be contracted with the sums that follow.
    middle = (remainder + error) / a[0]
    product, product_error = _product_of_halves(_halves(a[0], f32), _halves(middle, f32), f32)
    remainder = (remainder - product) + (error - product_error)
    if len(a) > 1:
        remainder = f32.add_to(remainder, a[1], middle, -1.0)
    return *_ordered_sum(high, middle), remainder * high


# Rounding


def _round(parts: tuple[Any, ...], f32: Float32) -> tuple[Any, Any, Any, Any]:
    """Round two or three parts to 53 bits, and return high, middle and low, and the signed ulp of high.

    With 1 <= high < 2, middle is rounded to a multiple of 2**-47 and the remainder to one of 2**-52, the last bit of
    float64. Ties go to even, because high and middle are even multiples of this bit. The third part may be up to 2**-37
    of the first.
    """
    high, middle = parts[:2]
    # With the third part the sign is right if the second part is 0.
    beyond = middle + parts[2] if len(parts) == 3 else middle
    ulp = _signed_ulp(high, beyond, f32)
    rounded = _round_to_multiple(beyond, ulp, _TO_47, f32)
    low = middle - rounded
    if len(parts) == 3:
        low += parts[2]
    return high, rounded, _round_to_multiple(low, ulp, _TO_52, f32), ulp


def _round_to_float32(parts: tuple[Any, ...], f32: Float32) -> Any:
    """Round two or three parts to 53 bits, then to 24."""
    high, middle, low, ulp = _round(parts, f32)
    # Where `middle` is half an ulp, a tie, the sign of `low` decides. It moves `middle` off the tie by more than half
    # of 2**-47, so that the sum is rounded to its neighbor, and by less than 3/4, so that no other number gets there.
    middle = f32.add_to(middle, f32.xp.sign(low), f32.xp.abs(ulp), 0.625 * 2.0**-24)
    middle += high
    return middle


def _signed_ulp(high: Any, beyond: Any, f32: Float32) -> Any:
    """Distance from ``high`` to the next float32 number on the side that the sign of ``beyond`` tells.

    Below a power of two it is half as large as above.
    """
    step = f32.plus(high, f32.xp.copysign(high, beyond), 1.0, _NEXT)
    step -= high
    return step


def _round_to_multiple(value: Any, ulp: Any, size: float, f32: Float32) -> Any:
    """``value`` rounded to a multiple of the last bit of ``size * ulp``, which is 3/2 of a power of two."""
    return f32.add_to(f32.plus(value, ulp, 1.0, size), ulp, 1.0, -size)


# Exact operations on two numbers


def _halves(a: Any, f32: Float32) -> tuple[Any, Any]:
    """``a`` as the exact sum of two numbers of 12 bits, so that products of halves are exact."""
    high = _leading_bits_of_float(a, 12) if isinstance(a, float) else f32.leading(a)
    return high, a - high


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b`` rounded, and its rounding error (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B)."""
    # XLA simplifies (b + a) - a to b if a is a constant.
    if isinstance(a, float):
        a, b = b, a
    total = a + b
    shadow = total - a
    error = a - (total - shadow)
    error += b - shadow
    return total, error


def _ordered_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b`` rounded, and its rounding error, if ``|a| >= |b|`` or ``a`` is a multiple of b's last bit.

    Dekker, Numerische Mathematik 18, 1971, section 4.
    """
    total = a + b
    return total, b - (total - a)


# Python floats


def _leading_bits_of_float(a: float, bits: int) -> float:
    """``a`` rounded to its first bits, by Veltkamp's splitting (Dekker, section 5)."""
    scaled = (2.0 ** (53 - bits) + 1) * a
    return scaled - (scaled - a)


def split(a: float) -> tuple[float, ...]:
    """Parts of a Python float, exactly: up to three numbers of 24 bits."""
    parts: list[float] = []
    while a:
        parts.append(_leading_bits_of_float(a, 24))
        a -= parts[-1]
    return tuple(parts) or (0.0,)


# Dynamo cannot trace float() of a Fraction before PyTorch 2.12.
@evaluated_by_tracer
def _reciprocal_of_float(a: float) -> tuple[float, ...]:
    """Three parts of ``1 / a`` for a Python float, with an error of u**3."""
    rest = 1 / Fraction(a)
    parts: list[float] = []
    for _ in range(3):
        parts.append(_leading_bits_of_float(float(rest), 24))
        rest -= Fraction(parts[-1])
    return tuple(parts)

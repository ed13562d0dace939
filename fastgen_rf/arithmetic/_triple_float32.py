"""Triple-float32 arithmetic: float64 results from float32 operations, for devices without float64.

A :class:`TripleFloat32` is the sum ``high + middle + low`` of up to three float32 numbers. The literature calls this
triple-word arithmetic (Fabiano, Muller and Picot, IEEE Trans. Comput. 68, 2019). This module contains its operators,
square root, maximum and two roundings. It imports no framework: a :class:`~fastgen_rf.arithmetic.Float32` supplies the
float32 operations.

**Guarantee.** Up to the limits below, a formula on these operands returns the bits of float64 after a cast to float32.
Each operation has a relative error below 2**-67. Before the next operation its result is rounded to 53 bits, ties to
even, as float64 rounds. So an intermediate result can differ from float64's only if the exact result is within 2**-67
of a tie, but not on it. A different 53rd bit then changes about one float32 result in 2**28. No quotient or square root
of float64 numbers is a tie (Jeannerod, Louvet, Muller and Panhard, IEEE Trans. Comput. 60, 2011).

**Limits.** Quotients by numbers such as 1 - 2**-40, and square roots of such numbers, can be closer to a tie. Of
200,000 quotients by 1 - 2**-40, 1 in 5,000 differed in the 53rd bit, and none after a cast to float32. The low parts of
numbers below 2**-75 underflow. Results below 2**-104 were seen to differ: by 1 ulp of float32 at first, and below
2**-126 by up to 128 units of 2**-149 after a division. Infinities, NaN and numbers that overflow on the way, in
:func:`_halves` for example, give the result of plain float32 arithmetic. The sign of zero is not kept, because -0.0
plus a part of 0.0 is 0.0.

**Error bounds** below are relative, with u = 2**-24, half an ulp of float32. Tests check them with exact fractions.
"Dekker" stands for Numerische Mathematik 18, 1971.

**Compilers** may contract ``a * b + c`` to a fused multiply-add, which rounds once. No result depends on it. A product
enters a sum only if it is exact (of two halves of 12 bits, or of few bits and a power of two), if its rounding error is
below 2**-70 of the result, or where an error of 20 % does no harm. XLA also simplifies ``(a + 1) - 1`` to ``a``, so no
sum has two constants.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fastgen_rf._tracing import evaluated_by_tracer, fixed
from fastgen_rf.arithmetic import FLOATS, Float32, Ops

# A float32 number times this is 0.625 to 1.25 ulp of the number. Added to the number, it is rounded to 1 ulp.
_NEXT = 1.25 * 2.0**-24
# Adding and subtracting 3/2 of a power of two rounds a number to a multiple of the last bit of that power (Rump, Ogita
# and Oishi, SIAM J. Sci. Comput. 31, 2008, section 3). These are such numbers in ulps of a number x. For 1 <= x < 2,
# the first one leaves 12 bits of x. The others leave multiples of 2**-47 and of 2**-52.
_TO_12_BITS, _TO_47, _TO_52 = 1.5 * 2.0**35, 0.75, 0.75 * 2.0**-5


class TripleFloat32:
    """A number as the sum of one to three ``parts``: high, middle and low.

    Parts are float32 arrays, or Python floats that float32 can represent. Middle is at most about half an ulp of high.
    An operation rounds its operands to 53 bits, not its result, because the last result of a formula is rounded to
    float32 directly. ``is_rounded`` tells whether the sum has at most 53 bits already.

    ``fallback`` is the result of the same formula in plain float32. It replaces NaN, because infinite operands, the
    root of 0 and overflows make NaN of the parts, where plain float32 has the right result.
    """

    __slots__ = ("differences", "f32", "fallback", "is_rounded", "parts")

    def __init__(self, parts: tuple[Any, ...], f32: Float32, fallback: Any = None, is_rounded: bool = True) -> None:
        self.parts, self.f32, self.is_rounded = parts, f32, is_rounded
        self.fallback = parts[0] if fallback is None else fallback
        self.differences: dict[Any, TripleFloat32] = {}

    def _operand(self, number: Any) -> TripleFloat32:
        """The other operand; a Python float keeps all of its bits."""
        return number if isinstance(number, TripleFloat32) else TripleFloat32(split(float(number)), self.f32)

    def rounded(self) -> tuple[Any, ...]:
        """Round the number to 53 bits, unless it is rounded already, and return its parts."""
        if not self.is_rounded:
            high, middle, low, _ = _round(self.parts, self.f32)
            # Of two parts, the second one had 24 bits and has no more now, so that this sum is exact.
            self.parts = (high, middle + low) if len(self.parts) == 2 else (high, middle, low)
            self.is_rounded = True
        return self.parts

    def float32(self) -> Any:
        """Round to 53 bits and then to 24, as a cast from float64 to float32 does."""
        value, xp = self.parts[0], self.f32.xp
        if self.is_rounded and len(self.parts) == 2:
            value = value + self.parts[1]
        elif len(self.parts) > 1:
            high, middle, low, ulp = _round(self.parts, self.f32)
            # If middle is half an ulp of high, a tie of float32, the sign of low decides. It moves middle off the tie.
            # For 1 <= high < 2 it adds more than half of 2**-47, or rounding would undo it, and less than 3/4 of that,
            # or a neighbor would be moved onto the tie.
            value = self.f32.add_to(middle, xp.sign(low), xp.abs(ulp), 0.625 * 2.0**-24)
            value += high
        return xp.where(value == value, value, self.fallback)

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
        parts = _product(self.rounded(), other.rounded(), self.f32)
        # Only a product of two float32 numbers has two parts, and at most 48 bits.
        return TripleFloat32(parts, self.f32, self.fallback * other.fallback, is_rounded=len(parts) == 2)

    def __truediv__(self, other: Any) -> TripleFloat32:
        """Product with the reciprocal, with an error of 30 u**3."""
        if isinstance(other, TripleFloat32):
            inverse, fallback = _reciprocal(other.rounded(), self.f32), self.fallback / other.fallback
        else:
            inverse, fallback = _reciprocal_of_float(fixed(other)), self.fallback / other
        return TripleFloat32(_product(self.rounded(), inverse, self.f32), self.f32, fallback, is_rounded=False)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> TripleFloat32:
        # Formulas contain 1 - t up to four times. Keeping it saves 8 to 18 % of a conversion from or to v.
        if other not in self.differences:
            self.differences[other] = self._operand(other) - self
        return self.differences[other]

    def __rtruediv__(self, other: Any) -> TripleFloat32:
        return self._operand(other) / self


def _maximum(value: Any, floor: float) -> Any:
    """Larger of ``value`` and a Python float, exactly; NaN stays NaN. The first parts that differ decide."""
    if isinstance(value, float):
        return FLOATS.maximum(value, floor)
    parts, limits, where = value.rounded(), split(floor), value.f32.xp.where
    count = len(parts)
    limits += (0.0,) * (count - len(limits))
    # The sign of `value - floor` would tell as well, but XLA adds up constants, and `value` may be 1 - t.
    below = parts[-1] <= limits[count - 1] if sum(limits[count:]) > 0 else parts[-1] < limits[count - 1]
    for part, limit in reversed(list(zip(parts[:-1], limits, strict=False))):
        below = (part < limit) | ((part == limit) & below)
    # An absent part is an array of zeros, because the standard's `where` takes no two Python floats.
    parts += (parts[0] * 0.0,) * (len(limits) - count)
    larger = tuple(where(below, limit, part) for part, limit in zip(parts, limits, strict=True))
    return TripleFloat32(larger, value.f32, where(value.fallback < floor, limits[0], value.fallback))


def _sqrt(value: Any) -> Any:
    """Square root of a positive number with an error of 20 u**3, by two steps of Newton's method.

    Each step divides the remainder ``a - root**2`` by ``2 high``: the first one with ``root = high``, the second one
    with ``root = high + middle``.
    """
    f32, (first, second, third) = value.f32, (*value.rounded(), 0.0, 0.0)[:3]
    high = f32.xp.sqrt(first)
    twice = high + high
    halves = _halves(high, f32)
    square, square_error = _product_of_halves(halves, halves, f32)
    remainder, error = _ordered_sum(first - square, -square_error)
    remainder, lost = _two_sum(remainder, second)
    error += lost
    error += third
    middle = (remainder + error) / twice
    product, product_error = _product_of_halves(halves, _halves(middle, f32), f32)
    remainder = f32.plus(remainder, product, 1.0, -2.0) + f32.plus(error, product_error, 1.0, -2.0)
    remainder = f32.add_to(remainder, middle, middle, -1.0)
    root = (*_ordered_sum(high, middle), remainder / twice)
    return TripleFloat32(root, f32, f32.xp.sqrt(value.fallback), is_rounded=False)


TRIPLE_OPS = Ops(_maximum, _sqrt)


def _sum(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """``a + b`` with an error of 4 u**3 of the larger operand; exact for two float32 numbers.

    The sums of the high and of the middle parts are exact pairs. Up to four roundings add the rest: numbers of at most
    2**-48 of the larger operand. If the operands cancel, these sums are exact, too, because no operand has a bit below
    2**-56 of it.
    """
    high, error = _two_sum(a[0], b[0])
    if len(a) == len(b) == 1:
        return high, error
    small = [*a[2:], *b[2:]]
    middle, *other = *a[1:2], *b[1:2]
    if other:
        middle, lost = _two_sum(middle, other[0])
        small.append(lost)
    middle, low = _two_sum(error, middle)
    for part in small:
        low += part
    middle, low = _ordered_sum(middle, low)
    return (*_ordered_sum(high, middle), low)


def _product(a: tuple[Any, ...], b: tuple[Any, ...], f32: Float32) -> tuple[Any, ...]:
    """``a * b`` with an error of 8 u**3; exact for two float32 numbers.

    The products of two high parts, and of a high and a middle part, are exact pairs. The rest is of size u**2: three
    rounded products, and as many rounded sums.
    """
    if isinstance(a[0], float):
        a, b = b, a
    a_halves = [_halves(part, f32) for part in a[:2]]
    # Halving a square's operand once saves 2 to 6 % of a conversion from or to v. Dynamo has no `is` for tuples.
    b_halves = a_halves if a[0] is b[0] else [_halves(part, f32) for part in b[:2]]
    high, middle = _product_of_halves(a_halves[0], b_halves[0], f32)
    if len(a) == len(b) == 1:
        return high, middle
    cross = [_product_of_halves(a_halves[0], half, f32) for half in b_halves[1:]]
    cross += [_product_of_halves(half, b_halves[0], f32) for half in a_halves[1:]]
    product, low = cross[0]
    for other, other_error in cross[1:]:
        product, error = _two_sum(product, other)
        low += error
        low += other_error
    # This is exact: middle is a multiple of ulp(a[0]) ulp(b[0]), and product is less than 2**24 times that unit.
    middle, error = _ordered_sum(middle, product)
    low += error
    for i in range(3):
        if i < len(a) and 2 - i < len(b):
            low = f32.add_to(low, a[i], b[2 - i], 1.0)
    return (*_ordered_sum(high, middle), low)


def _reciprocal(a: tuple[Any, ...], f32: Float32) -> tuple[Any, ...]:
    """``1 / a`` with an error of 20 u**3, by two steps of long division.

    The quotient ``high`` has an error of u. Each step divides the remainder ``1 - a * quotient`` by ``a[0]``, with an
    error of 3 u.
    """
    high = 1 / a[0]
    product, *small = _product(a, (high,), f32)
    remainder, error = _ordered_sum(1.0 - product, -small[0])
    for part in small[1:]:
        error -= part
    # A quotient, because a compiler could contract a product with `high` and the sums that follow.
    middle = (remainder + error) / a[0]
    product, product_error = _product_of_halves(_halves(a[0], f32), _halves(middle, f32), f32)
    remainder = (remainder - product) + (error - product_error)
    if len(a) > 1:
        remainder = f32.add_to(remainder, a[1], middle, -1.0)
    return *_ordered_sum(high, middle), remainder * high


def _round(parts: tuple[Any, ...], f32: Float32) -> tuple[Any, Any, Any, Any]:
    """Round two or three parts to 53 bits. Return high, middle and low, and the ulp of high.

    For 1 <= high < 2, float64 has a last bit of 2**-52. Middle becomes a multiple of 2**-47 and the remainder, low, one
    of 2**-52: in two steps, because no float32 number has both 2**-24 and 2**-52. Ties go to even, because high and
    middle are even multiples of 2**-52. The third part may be up to 2**-37. The ulp has the sign of the lower parts. It
    is half as large below a power of two, and so is the last bit of float64.
    """
    high, middle = parts[:2]
    # If the second part is 0, the third one has the sign.
    lower = middle + parts[2] if len(parts) == 3 else middle
    ulp = f32.plus(high, f32.xp.copysign(high, lower), 1.0, _NEXT)
    ulp -= high
    rounded = f32.add_to(f32.plus(lower, ulp, 1.0, _TO_47), ulp, 1.0, -_TO_47)
    low = middle - rounded
    if len(parts) == 3:
        low += parts[2]
    return high, rounded, f32.add_to(f32.plus(low, ulp, 1.0, _TO_52), ulp, 1.0, -_TO_52), ulp


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
    """The same if ``|a| >= |b|``, or if ``a`` is a multiple of the last bit of ``b`` (Dekker, section 4)."""
    total = a + b
    return total, b - (total - a)


def _halves(a: Any, f32: Float32) -> tuple[Any, Any]:
    """``a`` as the sum of two numbers of 12 bits."""
    high = _leading_bits_of_float(a, 12) if isinstance(a, float) else f32.leading(a)
    return high, a - high


def _product_of_halves(a: tuple[Any, Any], b: tuple[Any, Any], f32: Float32) -> tuple[Any, Any]:
    """Exact product of two numbers given as halves, as a pair (Dekker, section 5).

    A lower half is at most 2**11 of its units. So the four products, and the sum of the two mixed ones, are integers of
    at most 24 bits, and exact.
    """
    mixed = f32.add_to(a[0] * b[1], a[1], b[0], 1.0)
    high = f32.plus(mixed, a[0], b[0], 1.0)
    mixed -= f32.plus(high, a[0], b[0], -1.0)
    return high, f32.add_to(mixed, a[1], b[1], 1.0)


def _leading_bits_of_float(a: float, bits: int) -> float:
    """A Python float rounded to its first bits, by Veltkamp's splitting (Dekker, section 5)."""
    scaled = (2.0 ** (53 - bits) + 1) * a
    return scaled - (scaled - a)


def split(a: float | Fraction) -> tuple[float, ...]:
    """Up to three numbers of 24 bits. Their sum is exact for a float; for a Fraction its error is u**3."""
    parts: list[float] = []
    while a and len(parts) < 3:
        parts.append(_leading_bits_of_float(float(a), 24))
        a -= type(a)(parts[-1])
    return tuple(parts) or (0.0,)


# Dynamo cannot trace float() of a Fraction before PyTorch 2.12.
@evaluated_by_tracer
def _reciprocal_of_float(a: float) -> tuple[float, ...]:
    return split(1 / Fraction(a))


def plus(c: Any, a: Any, b: Any, scale: float) -> Any:
    """``c + scale * a * b`` by operators, for a :class:`~fastgen_rf.arithmetic.Float32` of any framework."""
    return c + a * (b if scale == 1.0 else b * scale)


def leading_bits(a: Any) -> Any:
    """``a`` rounded to 12 bits by operators, for a framework without views of bits; NaN from 2**116 on."""
    large = ((a + a * _NEXT) - a) * _TO_12_BITS
    return (a + large) - large

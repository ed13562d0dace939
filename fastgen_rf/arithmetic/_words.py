"""Float64's numbers without float64: each is a sum of up to three float32, rounded as float64 rounds.

A :class:`Words` is what an operation of ``+ - * /`` gives: the exact result but for a relative 2**-67, and rounded to
float64's 53 bits, ties to even, where a next operation takes it up. So the RF formulas run on it as they stand, and a
rounding can go another way than float64's only where the exact result is within 2**-67 of a tie without being one.
Nothing here knows a framework: arrays come with the namespace ``xp`` that serves them; ``where``, ``copysign`` and
``sqrt`` are used of it.

A compiler may contract ``a b + c`` to one rounding. That changes nothing here, because a product meets a sum only if it
is exact (of two halves of 12 bits, or with a power of two or 3/4 of one), or where its rounding error is below 2**-70,
or, in :func:`_step`, where anything within 20 % does. XLA also adds up constants, ``(a + 1) - 1``: no sum here has two.

With u = 2**-24, half an ulp of float32, relative:

- ``_two_sum``: exact (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B).
- ``_ordered_sum``: exact if the first is the larger or a multiple of the second's last bit (Dekker, Numerische
  Mathematik 18, 1971, section 4).
- ``_halves``: 12 bits each, by adding and subtracting 3/2 of a power of two as Rump, Ogita and Oishi extract leading
  bits (SIAM J. Sci. Comput. 31, 2008, section 3). The lower half is at most 2**11 of its units, so all four products of
  two pairs of halves and the sum of the middle two are integers of 24 bits: the product of two float32 is exact.
- Sum: the errors of Knuth's sums join the rest, 2**-48 of the larger operand or less, in up to four roundings; together
  4 u**3 of the larger operand. Where the operands cancel these are exact, for all bits are above 2**-56.
- Product: exact in the pairs of words down to u, three rounded products and as many sums at u**2; together 8 u**3.
- Reciprocal: two steps of long division, each with a relative error of 3 u, from a quotient of error u: 20 u**3. A
  quotient is a product with it: 30 u**3. No quotient or square root of float64 lies on a tie, so a bound is all they
  need (Jeannerod, Louvet, Muller and Panhard, IEEE Trans. Comput. 60, 2011). A divisor such as 1 - 2**-40, whose
  quotients come as near as 2**-80 to ties, is beyond it: one in a hundred gets another 53rd bit.

Below 2**-75 numbers lose bits to float32's underflow, and a result below 2**-126 may be some units of 2**-149 off.
Where numbers beyond 2**91 cannot be halved, and for infinities and NaN, a result is what float32 makes of it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fastgen_rf.arithmetic import Functions

_SPLIT = 2.0**29 + 1  # leaves the leading 24 bits of a Python float (Veltkamp)
_STEP = 1.25 * 2.0**-24  # 0.625 to 1.25 ulp of what it is multiplied with
_HALVING = 1.5 * 2.0**35  # ulps: 3/2 of a power of two, beside which 12 bits remain of 24
_TO_47, _TO_52 = 0.75, 0.75 * 2.0**-5  # ulps: beside these, what remains are multiples of 2**-47 and 2**-52 of a number
_NUDGE = 0.625 * 2.0**-24  # ulps: more than half of 2**-47, and less than 3/4


class Words:
    """The sum ``high + low + rest`` of float32 arrays or of Python floats that float32 holds; later ones may be absent.

    ``single`` is the same formula in float32 throughout: what counts where the words are NaN. Words that are ``exact``
    have no more than 53 bits.
    """

    __slots__ = ("exact", "parts", "single", "xp")

    def __init__(self, parts: tuple[Any, ...], single: Any, xp: Any, exact: bool = True) -> None:
        self.parts, self.single, self.xp, self.exact = parts, single, xp, exact

    @classmethod
    def of(cls, array: Any, xp: Any) -> Words:
        """A float32 array as it is."""
        return cls((array,), array, xp)

    def _lift(self, other: Any) -> Words:
        if isinstance(other, Words):
            return other
        parts = _words_of_float(float(other))
        return Words(parts, parts[0], self.xp)

    def rounded(self) -> tuple[Any, ...]:
        """Words of the value rounded to 53 bits."""
        return self.parts if self.exact else _round(self.parts, self.xp)

    def float32(self) -> Any:
        """Round to 53 bits and then to 24, as a cast does."""
        value = self.parts[0]
        if self.exact and len(self.parts) == 2:
            value = value + self.parts[1]
        elif len(self.parts) > 1:
            value = _cast(self.parts, self.xp)
        return self.xp.where(value == value, value, self.single)

    def __neg__(self) -> Words:
        return Words(tuple(-part for part in self.parts), -self.single, self.xp, self.exact)

    def __add__(self, other: Any) -> Words:
        other = self._lift(other)
        return Words(_sum(self.rounded(), other.rounded()), self.single + other.single, self.xp, exact=False)

    def __sub__(self, other: Any) -> Words:
        return self + -self._lift(other)

    def __mul__(self, other: Any) -> Words:
        other = self._lift(other)
        one, two = self.rounded(), other.rounded()
        return Words(_product(one, two), self.single * other.single, self.xp, exact=len(one) == len(two) == 1)

    def __truediv__(self, other: Any) -> Words:
        single = self.single / (other.single if isinstance(other, Words) else other)
        inverse = _reciprocal(other.rounded()) if isinstance(other, Words) else _inverse_of_float(other)
        return Words(_product(self.rounded(), inverse), single, self.xp, exact=False)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Words:
        return self._lift(other) + -self

    def __rtruediv__(self, other: Any) -> Words:
        return self._lift(other) / self


def _maximum(value: Words, floor: float) -> Words:
    """Larger of ``value`` and a Python float; NaN stays NaN."""
    words, least = value.rounded(), _words_of_float(floor)
    words += (words[0] * 0.0,) * (3 - len(words))
    least += (0.0,) * (3 - len(least))
    # no sums with the floor's words: XLA adds up constants, those of 1 - t included
    below = (words[0] < least[0]) | (
        (words[0] == least[0]) & ((words[1] < least[1]) | ((words[1] == least[1]) & (words[2] < least[2])))
    )
    where = value.xp.where
    parts = tuple(where(below, b, a) for a, b in zip(words, least, strict=True))
    return Words(parts, where(value.single < floor, least[0], value.single), value.xp)


def _sqrt(value: Words) -> Words:
    """Square root of a positive value: two steps of Newton's method from the root of the first word."""
    words, xp = value.rounded(), value.xp
    root: tuple[Any, ...] = (xp.sqrt(words[0]),)
    for _ in range(2):
        missing = _sum(words, _negated(_product(root, root)))
        root = (*root, _total(missing) / (root[0] + root[0]))
    return Words(_ordered(*root), xp.sqrt(value.single), xp, exact=False)


FUNCTIONS = Functions(_maximum, _sqrt)


# Operations on tuples of words, accurate to 2**-68


def _sum(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    high, error = _two_sum(a[0], b[0])
    if len(a) == len(b) == 1:
        return high, error
    small = [*a[2:], *b[2:]]
    if len(a) > 1 and len(b) > 1:
        low, rest = _two_sum(a[1], b[1])
        small.append(rest)
    else:
        low = [*a[1:2], *b[1:2]][0]
    low, rest = _two_sum(error, low)
    for part in small:
        rest = rest + part
    low, rest = _ordered_sum(low, rest)
    high, low = _ordered_sum(high, low)
    low, rest = _ordered_sum(low, rest)
    return (*_ordered_sum(high, low), rest)


def _product(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    halves = [[_halves(word) for word in words[:2]] for words in (a, b)]
    high, low = _product_of_halves(halves[0][0], halves[1][0])
    if len(a) == len(b) == 1:
        return high, low
    small = [a[i] * b[2 - i] for i in range(3) if i < len(a) and 2 - i < len(b)]
    for i in (0, 1):
        if i < len(a) and 1 - i < len(b):
            product, rest = _product_of_halves(halves[0][i], halves[1][1 - i])
            low, error = _two_sum(low, product)
            small += [rest, error]
    rest = small[0]
    for part in small[1:]:
        rest = rest + part
    return _ordered(high, low, rest)


def _product_of_halves(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """Exact product of two numbers given as halves, in two words."""
    high, error = _ordered_sum(a[0] * b[0], a[0] * b[1] + a[1] * b[0])
    return high, error + a[1] * b[1]


def _reciprocal(a: tuple[Any, ...]) -> tuple[Any, ...]:
    inverse: tuple[Any, ...] = (1 / a[0],)
    for _ in range(2):
        missing = _sum((1.0,), _negated(_product(a, inverse)))
        inverse = (*inverse, _total(missing) * inverse[0])
    return inverse


def _negated(words: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(-word for word in words)


def _total(words: tuple[Any, ...]) -> Any:
    total = words[-1]
    for word in words[-2::-1]:
        total = total + word
    return total


def _ordered(high: Any, low: Any, rest: Any) -> tuple[Any, ...]:
    high, low = _ordered_sum(high, low)
    low, rest = _ordered_sum(low, rest)
    return (*_ordered_sum(high, low), rest)


# Rounding


def _on_grids(parts: tuple[Any, ...], xp: Any) -> tuple[Any, Any, Any, Any]:
    """Words rounded to 53 bits, the second a multiple of 2**-47, the third of 2**-52; and an ulp of the first.

    Ties go to even, for the first two are even multiples of the last bit.
    """
    high, low = parts[0], parts[1]
    ulp = _step(high, low, xp)
    middle = _beside(ulp * _TO_47, low)
    rest = low - middle
    if len(parts) == 3:
        rest = rest + parts[2]
    return high, middle, _beside(ulp * _TO_52, rest), ulp


def _round(parts: tuple[Any, ...], xp: Any) -> tuple[Any, ...]:
    high, middle, last, _ = _on_grids(parts, xp)
    return (high, middle + last) if len(parts) == 2 else (high, middle, last)


def _cast(parts: tuple[Any, ...], xp: Any) -> Any:
    """Round to 53 bits, then to 24, where the third word matters if the second is half an ulp of the first."""
    high, middle, last, ulp = _on_grids(parts, xp)
    nudge = xp.where(last == 0, last, xp.copysign(ulp * _NUDGE, last))
    return high + (middle + nudge)


def _step(high: Any, low: Any, xp: Any) -> Any:
    """Distance from ``high`` to the next float32 on the side of ``low``, signed: half as far below a power of two."""
    return (high + xp.copysign(high * _STEP, low)) - high


def _beside(large: Any, value: Any) -> Any:
    """``value`` rounded to a multiple of the last bit of ``large``, 3/2 of a power of two."""
    return (value + large) - large


def _halves(a: Any) -> tuple[Any, Any]:
    """``a`` as a sum of two numbers of 12 bits."""
    if isinstance(a, float):
        scaled = (2.0**41 + 1) * a  # in float64, where a has 24 bits of 53 and Veltkamp's split leaves 12
        high = scaled - (scaled - a)
        return high, a - high
    high = _beside(((a + a * _STEP) - a) * _HALVING, a)
    return high, a - high


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b`` rounded, and its rounding error."""
    if isinstance(a, float):
        a, b = b, a  # XLA takes (b + a) - a to be b where a is a constant
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _ordered_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b`` rounded, and its rounding error, where ``a`` is the larger or 0."""
    total = a + b
    return total, b - (total - a)


# Python floats


def _words_of_float(a: float) -> tuple[float, ...]:
    words: list[float] = []
    while a:
        scaled = _SPLIT * a
        words.append(scaled - (scaled - a))
        a -= words[-1]
    return tuple(words) or (0.0,)


def _inverse_of_float(a: float) -> tuple[float, ...]:
    rest = 1 / Fraction(a)
    words: list[float] = []
    for _ in range(3):
        words.append(_words_of_float(float(rest))[0])
        rest -= Fraction(words[-1])
    return tuple(words)

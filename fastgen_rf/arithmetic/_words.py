"""Float64's numbers without float64: each is a sum of up to three float32, rounded as float64 rounds.

A :class:`Words` is what an operation of ``+ - * /`` gives: the exact result but for a relative 2**-67, and rounded to
float64's 53 bits, ties to even, where a next operation takes it up. So the RF formulas run on it as they stand, and a
rounding can go another way than float64's only where the exact result is within 2**-67 of a tie without being one.
Nothing here knows a framework: arrays come with a :class:`~fastgen_rf.arithmetic.Float32`, what serves them. What it
can fuse or do in place costs one operation instead of two; an array is changed in place only if it was made here and
is needed no more.

A compiler may contract ``a b + c`` to one rounding. That changes nothing here, because a product meets a sum only if it
is exact (of two halves of 12 bits, or with a power of two or 3/4 of one), or where its rounding error is below 2**-70,
or, in :func:`_step`, where anything within 20 % does. Hence ``Float32.plus``, which may round once or twice. XLA also
adds up constants, ``(a + 1) - 1``: no sum here has two.

With u = 2**-24, half an ulp of float32, relative:

- ``_two_sum``: exact (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B).
- ``_ordered_sum``: exact if the first is the larger or a multiple of the second's last bit (Dekker, Numerische
  Mathematik 18, 1971, section 4).
- ``_halves``: 12 bits each, by rounding the bits of a number, or where nothing gives these by adding and subtracting
  3/2 of a power of two as Rump, Ogita and Oishi extract leading bits (SIAM J. Sci. Comput. 31, 2008, section 3). The
  lower half is at most 2**11 of its units, so all four products of two pairs of halves and the sum of the middle two
  are integers of 24 bits: the product of two float32 is exact.
- Sum: the errors of Knuth's sums join the rest, 2**-48 of the larger operand or less, in up to four roundings; together
  4 u**3 of the larger operand. Where the operands cancel these are exact, for all bits are above 2**-56.
- Product: exact in the pairs of words down to u, for the exact product's lower word is a multiple of the last bits of
  both first words, multiplied, and the sum of the products with second words less than 2**24 of these, so that an
  ordered sum does. Three rounded products and as many sums at u**2; together 8 u**3.
- Reciprocal: two steps of long division, each with a relative error of 3 u, from a quotient of error u: 20 u**3. A
  quotient is a product with it: 30 u**3. The root likewise, by Newton's steps. No quotient or square root of float64
  lies on a tie, so a bound is all they need (Jeannerod, Louvet, Muller and Panhard, IEEE Trans. Comput. 60, 2011). A
  divisor such as 1 - 2**-40, whose quotients come as near as 2**-80 to ties, is beyond it: one in a hundred gets
  another 53rd bit.
- ``_on_grids``: takes words whose third is up to 2**-37 of the first, since the second is rounded with the third in
  view; what is left is exact.

Below 2**-75 numbers lose bits to float32's underflow, and a result below 2**-126 may be some units of 2**-149 off.
Where numbers cannot be halved (by sums those beyond 2**91) or pass float32's range on the way, and for infinities and
NaN, a result is what float32 makes of it. The sign of a zero is not kept: -0 and a lower word of 0 make 0.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fastgen_rf._tracing import evaluated_by_tracer, fixed
from fastgen_rf.arithmetic import FLOATS, Float32, Ops

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

    __slots__ = ("complement", "exact", "parts", "run", "single")

    def __init__(self, parts: tuple[Any, ...], single: Any, run: Float32, exact: bool = True) -> None:
        self.parts, self.single, self.run, self.exact = parts, single, run, exact
        self.complement: tuple[float, Words] | None = None

    @classmethod
    def of(cls, array: Any, run: Float32) -> Words:
        """A float32 array as it is."""
        return cls((array,), array, run)

    def _lift(self, other: Any) -> Words:
        if isinstance(other, Words):
            return other
        parts = split(float(other))
        return Words(parts, parts[0], self.run)

    def rounded(self) -> tuple[Any, ...]:
        """Words of the value rounded to 53 bits."""
        if not self.exact:
            self.parts, self.exact = _round(self.parts, self.run), True
        return self.parts

    def float32(self) -> Any:
        """Round to 53 bits and then to 24, as a cast does."""
        value = self.parts[0]
        if self.exact and len(self.parts) == 2:
            value = value + self.parts[1]
        elif len(self.parts) > 1:
            value = _cast(self.parts, self.run)
        return self.run.xp.where(value == value, value, self.single)

    def __neg__(self) -> Words:
        return Words(tuple(-part for part in self.parts), -self.single, self.run, self.exact)

    def __add__(self, other: Any) -> Words:
        other = self._lift(other)
        return Words(_sum(self.rounded(), other.rounded()), self.single + other.single, self.run, exact=False)

    def __sub__(self, other: Any) -> Words:
        other = self._lift(other)
        negative = tuple(-part for part in other.rounded())
        return Words(_sum(self.rounded(), negative), self.single - other.single, self.run, exact=False)

    def __mul__(self, other: Any) -> Words:
        other = self._lift(other)
        one, two = self.rounded(), other.rounded()
        return Words(
            _product(one, two, self.run), self.single * other.single, self.run, exact=len(one) == len(two) == 1
        )

    def __truediv__(self, other: Any) -> Words:
        single = self.single / (other.single if isinstance(other, Words) else other)
        inverse = (
            _reciprocal(other.rounded(), self.run) if isinstance(other, Words) else _inverse_of_float(fixed(other))
        )
        return Words(_product(self.rounded(), inverse, self.run), single, self.run, exact=False)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Words:
        if self.complement is None:
            self.complement = (other, self._lift(other) - self)
        known, difference = self.complement
        return difference if other == known else self._lift(other) - self

    def __rtruediv__(self, other: Any) -> Words:
        return self._lift(other) / self


def _maximum(value: Any, floor: float) -> Any:
    """Larger of ``value`` and a Python float; NaN stays NaN."""
    if isinstance(value, float):
        return FLOATS.maximum(value, floor)
    words, least, where = value.rounded(), split(floor), value.run.xp.where
    count = max(len(words), len(least))
    compared = words + (0.0,) * (count - len(words))
    least += (0.0,) * (count - len(least))
    below: Any = False
    # no sums with the floor's words: XLA adds up constants, those of 1 - t included
    for word, limit in list(zip(compared, least, strict=True))[::-1]:
        if below is True or below is False:  # as long as the words are numbers
            below = word <= limit if below else word < limit
        else:
            below = (word < limit) | ((word == limit) & below)
    words += (words[0] * 0.0,) * (count - len(words))
    parts = tuple(where(below, limit, word) for word, limit in zip(words, least, strict=True))
    single = parts[0] if value.single is words[0] else where(value.single < floor, least[0], value.single)
    return Words(parts, single, value.run)


def _sqrt(value: Any) -> Any:
    """Square root of a positive value: two steps of Newton's method from the root of the first word."""
    if isinstance(value, float):
        return FLOATS.sqrt(value)
    words, run = value.rounded(), value.run
    first = run.xp.sqrt(words[0])
    twice = first + first
    halves = _halves(first, run)
    high, low = _product_of_halves(halves, halves, run)
    missing, error = _ordered_sum(words[0] - high, -low)
    if len(words) > 1:
        missing, lost = _two_sum(missing, words[1])
        error += lost
    if len(words) > 2:
        error += words[2]
    second = (missing + error) / twice
    high, low = _product_of_halves(halves, _halves(second, run), run)
    missing = run.plus(missing, high, 1.0, -2.0) + run.plus(error, low, 1.0, -2.0)
    missing = run.add_to(missing, second, second, -1.0)
    return Words((*_ordered_sum(first, second), missing / twice), run.xp.sqrt(value.single), run, exact=False)


WORD_OPS = Ops(_maximum, _sqrt)


def plus(c: Any, a: Any, b: Any, scale: float) -> Any:
    """``c + scale a b`` by operators."""
    return c + a * (b if scale == 1.0 else b * scale)


def leading_bits(a: Any) -> Any:
    """``a`` rounded to 12 bits by operators."""
    large = ((a + a * _STEP) - a) * _HALVING
    return (a + large) - large


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
        rest += part
    low, rest = _ordered_sum(low, rest)
    return (*_ordered_sum(high, low), rest)


def _product(a: tuple[Any, ...], b: tuple[Any, ...], run: Float32, first: Any = None) -> tuple[Any, ...]:
    """``first`` are the halves of a's first word, where they are known."""
    if isinstance(a[0], float):
        a, b = b, a
    halves = [first or _halves(a[0], run), *(_halves(word, run) for word in a[1:2])]
    others = halves if a[0] is b[0] else [_halves(word, run) for word in b[:2]]
    high, low = _product_of_halves(halves[0], others[0], run)
    if len(a) == len(b) == 1:
        return high, low
    cross = [_product_of_halves(halves[i], others[1 - i], run) for i in (0, 1) if i < len(a) and 1 - i < len(b)]
    product, rest = cross[0]
    if len(cross) == 2:
        product, error = _two_sum(product, cross[1][0])
        rest += error
        rest += cross[1][1]
    low, error = _ordered_sum(low, product)
    rest += error
    for i in range(3):
        if i < len(a) and 2 - i < len(b):
            rest = run.add_to(rest, a[i], b[2 - i], 1.0)
    return (*_ordered_sum(high, low), rest)


def _product_of_halves(a: tuple[Any, Any], b: tuple[Any, Any], run: Float32) -> tuple[Any, Any]:
    """Exact product of two numbers given as halves, in two words."""
    error = run.add_to(a[0] * b[1], a[1], b[0], 1.0)
    high = run.plus(error, a[0], b[0], 1.0)
    error -= run.plus(high, a[0], b[0], -1.0)
    return high, run.add_to(error, a[1], b[1], 1.0)


def _reciprocal(a: tuple[Any, ...], run: Float32) -> tuple[Any, ...]:
    """Two steps of long division."""
    first = 1 / a[0]
    halves = _halves(a[0], run)
    high, low, *rest = _product(a, (first,), run, halves)
    missing, error = _ordered_sum(1.0 - high, -low)
    for part in rest:
        error -= part
    second = (missing + error) / a[0]  # no product, which might meet a sum unrounded
    high, low = _product_of_halves(halves, _halves(second, run), run)
    missing = (missing - high) + (error - low)
    if len(a) > 1:
        missing = run.add_to(missing, a[1], second, -1.0)
    return *_ordered_sum(first, second), missing * first


# Rounding


def _on_grids(parts: tuple[Any, ...], run: Float32) -> tuple[Any, Any, Any, Any]:
    """Words rounded to 53 bits, the second a multiple of 2**-47, the third of 2**-52; and an ulp of the first.

    Ties go to even, for the first two are even multiples of the last bit.
    """
    high, low = parts[:2]
    beyond = low + parts[2] if len(parts) == 3 else low  # the sign is the third word's where the second is 0
    ulp = _step(high, beyond, run)
    middle = _beside(beyond, ulp, _TO_47, run)
    rest = low - middle
    if len(parts) == 3:
        rest += parts[2]
    return high, middle, _beside(rest, ulp, _TO_52, run), ulp


def _round(parts: tuple[Any, ...], run: Float32) -> tuple[Any, ...]:
    high, middle, last, _ = _on_grids(parts, run)
    return (high, middle + last) if len(parts) == 2 else (high, middle, last)


def _cast(parts: tuple[Any, ...], run: Float32) -> Any:
    """Round to 53 bits, then to 24, where the third word matters if the second is half an ulp of the first."""
    high, middle, last, ulp = _on_grids(parts, run)
    middle = run.add_to(middle, run.xp.sign(last), run.xp.abs(ulp), _NUDGE)
    middle += high
    return middle


def _step(high: Any, low: Any, run: Float32) -> Any:
    """Distance from ``high`` to the next float32 on the side of ``low``, signed: half as far below a power of two."""
    step = run.plus(high, run.xp.copysign(high, low), 1.0, _STEP)
    step -= high
    return step


def _beside(value: Any, ulp: Any, size: float, run: Float32) -> Any:
    """``value`` rounded to a multiple of the last bit of ``size ulp``, 3/2 of a power of two."""
    return run.add_to(run.plus(value, ulp, 1.0, size), ulp, 1.0, -size)


def _halves(a: Any, run: Float32) -> tuple[Any, Any]:
    """``a`` as a sum of two numbers of 12 bits."""
    if isinstance(a, float):
        scaled = (2.0**41 + 1) * a  # in float64, where a has 24 bits of 53 and Veltkamp's split leaves 12
        high = scaled - (scaled - a)
    else:
        high = run.leading(a)
    return high, a - high


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b`` rounded, and its rounding error."""
    if isinstance(a, float):
        a, b = b, a  # XLA takes (b + a) - a to be b where a is a constant
    total = a + b
    shadow = total - a
    error = a - (total - shadow)
    error += b - shadow
    return total, error


def _ordered_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b`` rounded, and its rounding error, where ``a`` is the larger or a multiple of b's last bit."""
    total = a + b
    return total, b - (total - a)


# Python floats


# Dynamo cannot trace float() of a Fraction before PyTorch 2.12.
@evaluated_by_tracer
def _inverse_of_float(a: float) -> tuple[float, ...]:
    rest = 1 / Fraction(a)
    words: list[float] = []
    for _ in range(3):
        words.append(split(float(rest))[0])
        rest -= Fraction(words[-1])
    return tuple(words)


def split(a: float) -> tuple[float, ...]:
    """Words of a Python float."""
    words: list[float] = []
    while a:
        scaled = _SPLIT * a
        words.append(scaled - (scaled - a))
        a -= words[-1]
    return tuple(words) or (0.0,)

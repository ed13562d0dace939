"""One pass over memory: a formula evaluated block by block, on float64 scratch that stays in the processor's cache.

The plain expression sends several float64 copies of its arrays through main memory; here each input is read once and
the result written once. The formula does not know: its operands are :class:`InPlace` arrays, whose operators overwrite
the scratch. That is sound because a formula uses each of its two arrays once. Nothing here names a framework: any
arrays with views and in-place operators will do.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastgen_rf._typing import Formula
from fastgen_rf.arithmetic import Functions

Index = tuple[Any, ...]


class Scratch(threading.local):
    """The float64 scratch that a thread keeps from call to call: made for each, it would cost its page faults."""

    values: Any = None

    @contextmanager
    def taken(self, make: Callable[[], Any]) -> Iterator[Any]:
        """Scratch that is nobody else's meanwhile: a call in the middle of this one finds none and makes its own."""
        kept, self.values = self.values, None
        if kept is None:
            kept = make()
        try:
            yield kept
        finally:
            self.values = kept


class InPlace:
    """A float64 scratch array whose operators overwrite it, in the order of the IEEE operations they stand for."""

    __slots__ = ("values",)
    __array_ufunc__ = None  # an ndarray on the left leaves the operation to this class

    def __init__(self, values: Any) -> None:
        self.values = values

    def __add__(self, other: Any) -> InPlace:
        self.values += values(other)
        return self

    def __sub__(self, other: Any) -> InPlace:
        self.values -= values(other)
        return self

    def __mul__(self, other: Any) -> InPlace:
        self.values *= other
        return self

    def __truediv__(self, other: Any) -> InPlace:
        self.values /= other
        return self

    def __rsub__(self, other: Any) -> InPlace:
        self.values *= -1
        self.values += other
        return self

    __radd__ = __add__
    __rmul__ = __mul__


def values(operand: Any) -> Any:
    """Return what an operand holds; anything but an :class:`InPlace` array is its own value."""
    return operand.values if isinstance(operand, InPlace) else operand


def loaded(array: Any, scratch: Any) -> Any:
    """``array``, copied to ``scratch``, as an operand of formulas."""
    held = scratch[: math.prod(array.shape)].reshape(array.shape)
    held[...] = array
    return InPlace(held)


def evaluate_in_blocks(
    formula: Formula,
    first: Any,
    second: Any,
    t: Any,
    out: Any,
    scratch: Any,
    fn: Functions,
    load: Callable[[Any, Any], Any] = loaded,
) -> None:
    """Write ``formula(first, second, t)`` to ``out``, all of one shape and C-contiguous.

    ``t`` is a Python float or a float64 array of as many axes; ``scratch`` two float64 arrays of a block's size, to
    which ``load`` copies. If that takes floats, one of ``first`` and ``second`` may be 0.0, as it is in a gradient.
    """
    one, two = scratch
    for index in blocks(out.shape, len(one)):
        x, y = load(part(first, index), one), load(part(second, index), two)
        out[index] = values(formula(x, y, part(t, index), fn))


def blocks(shape: Any, size: int) -> Iterator[Index]:
    """Indices that cut an array of ``shape`` evenly into blocks of at most ``size`` elements, contiguous if it is."""
    axis, inner = len(shape), 1
    while axis and inner * shape[axis - 1] <= size:
        axis -= 1
        inner *= shape[axis]
    if axis == 0:
        yield ()
        return
    length = shape[axis - 1]
    pieces = math.ceil(length / (size // inner))
    step = math.ceil(length / pieces)
    for outer in itertools.product(*(range(n) for n in shape[: axis - 1])):
        for start in range(0, length, step):
            yield (*outer, slice(start, start + step))


def part(array: Any, index: Index) -> Any:
    """The block of ``array`` at ``index``, broadcast along singleton axes; a float as it is."""
    if isinstance(array, float):
        return array
    return array[
        tuple(
            at if n != 1 else 0 if isinstance(at, int) else slice(None)
            for at, n in zip(index, array.shape, strict=False)
        )
    ]

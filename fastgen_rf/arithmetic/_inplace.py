"""One pass over memory: a formula evaluated block by block, in float64 scratch memory that stays in the cache.

The plain expression sends several float64 copies of its arrays through main memory. Here each array is read once, and
the result is written once. The operands are :class:`InPlace` arrays, and their operators overwrite the scratch memory.
This is correct because a formula uses each of its arrays once. The arrays of any framework that has views and in-place
operators can be used.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastgen_rf.arithmetic import Formula, Ops

Index = tuple[Any, ...]


class Scratch(threading.local):
    """Float64 scratch memory that a thread keeps from call to call, because new memory costs page faults."""

    values: Any = None

    @contextmanager
    def taken(self, make: Callable[[], Any]) -> Iterator[Any]:
        """Lend the scratch memory to one call. A call in the middle of this one makes memory for itself."""
        kept, self.values = self.values, None
        if kept is None:
            kept = make()
        try:
            yield kept
        finally:
            self.values = kept


class InPlace:
    """A float64 scratch array that its operators overwrite. They do the IEEE operations that they stand for."""

    __slots__ = ("values",)
    # An ndarray on the left of an operator then calls the operators of this class.
    __array_ufunc__ = None

    def __init__(self, values: Any) -> None:
        self.values = values

    def __neg__(self) -> InPlace:
        self.values *= -1.0
        return self

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

    def __rtruediv__(self, other: Any) -> InPlace:
        self.values[...] = other / self.values
        return self

    def __rsub__(self, other: Any) -> InPlace:
        self.values *= -1
        self.values += other
        return self

    __radd__ = __add__
    __rmul__ = __mul__


def values(operand: Any) -> Any:
    """Return the array of an :class:`InPlace` operand, and any other operand unchanged."""
    return operand.values if isinstance(operand, InPlace) else operand


def loaded(array: Any, scratch: Any) -> Any:
    """Copy ``array`` to ``scratch`` and return the copy as an operand of formulas."""
    held = scratch[: math.prod(array.shape)].reshape(array.shape)
    held[...] = array
    return InPlace(held)


def fill_in_blocks(
    formula: Formula,
    arrays: Sequence[Any],
    times: Sequence[Any],
    out: Any,
    scratch: Any,
    ops: Ops,
    load: Callable[[Any, Any], Any] = loaded,
) -> None:
    """Write ``formula`` of ``arrays`` and ``times`` to ``out``. Arrays and out are C-contiguous, of one shape.

    A time is a Python float or a float64 array with as many axes as the arrays. ``scratch`` has a float64 array of a
    block's size for each array, to which ``load`` copies a block.
    """
    for index in blocks(out.shape, len(scratch[0])):
        operands = [load(part(array, index), held) for array, held in zip(arrays, scratch, strict=False)]
        out[index] = values(formula.function(*operands, *[part(time, index) for time in times], ops))


def blocks(shape: Any, size: int) -> Iterator[Index]:
    """Indices that cut an array evenly into blocks of at most ``size`` elements. Its blocks are contiguous if it is."""
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
    """The block of ``array`` at ``index``, which broadcasts along singleton axes; a float unchanged."""
    if isinstance(array, float):
        return array
    return array[
        tuple(
            at if n != 1 else 0 if isinstance(at, int) else slice(None)
            for at, n in zip(index, array.shape, strict=False)
        )
    ]

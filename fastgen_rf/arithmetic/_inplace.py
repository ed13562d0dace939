"""One pass over memory: a formula evaluated block by block, in float64 scratch memory that stays in the cache.

The plain expression sends several float64 copies of its arrays through main memory. Here each array is read once, and
the result is written once. The operands are :class:`InPlace` arrays, and their operators overwrite the scratch memory.
This is correct because a formula uses each of its arrays once. The plain expression on blocks would need new memory for
each operation, which took twice the time where the C library returned that memory to the system each time.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Index = tuple[Any, ...]


class Scratch(threading.local):
    """Float64 scratch memory that a thread keeps from call to call, because new memory costs page faults."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make, self.kept = make, None

    @contextmanager
    def taken(self) -> Iterator[Any]:
        """Provide the scratch memory for one call; a reentrant call makes new memory."""
        memory, self.kept = self.kept, None
        if memory is None:
            memory = self.make()
        try:
            yield memory
        finally:
            self.kept = memory


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
        self.values += other.values if isinstance(other, InPlace) else other
        return self

    def __sub__(self, other: Any) -> InPlace:
        self.values -= other.values if isinstance(other, InPlace) else other
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

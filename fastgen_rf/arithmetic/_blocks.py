"""Blocks of an array, small enough to stay in the cache while a formula is evaluated on them.

The plain expression of whole arrays sends several float64 copies of them through main memory. Block by block, each
array is read once, and the result is written once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

Index = tuple[Any, ...]


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

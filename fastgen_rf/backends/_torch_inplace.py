"""PyTorch's operands for one pass over memory: float64 scratch tensors that the operators of a formula overwrite.

NumPy evaluates the plain expression on each block. PyTorch divides a block among its threads, so its blocks are larger,
and new memory for each operation would cost 20 % of a call. Overwriting is correct because a formula uses each of its
arrays once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Arrays of up to this number of elements are one block, because a second one would cost more than the cache saves.
WHOLE = 2**19
_of_thread = threading.local()


@contextmanager
def scratch_tensors() -> Iterator[Any]:
    """Provide two float64 tensors of ``WHOLE`` elements for one call; a reentrant call allocates new ones.

    A thread keeps them from call to call, because new memory costs page faults.
    """
    tensors = _of_thread.__dict__.pop("tensors", None)
    if tensors is None:
        # Two tensors instead of one with two rows: Tensor.__iter__ would take several microseconds in each call.
        # A tensor that is made in inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            tensors = torch.empty((2, WHOLE), dtype=torch.float64, device="cpu").unbind()
    try:
        yield tensors
    finally:
        _of_thread.tensors = tensors


class InPlace:
    """A float64 scratch tensor that its operators overwrite. They do the IEEE operations that they stand for."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = values

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the reflected operator of the operand on the right of a tensor.

        Without this method PyTorch does so after an error, in ten times the time.
        """
        return _REFLECTED[function](args[1], args[0]) if function in _REFLECTED else NotImplemented

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


_REFLECTED = {
    torch.Tensor.add: InPlace.__radd__,
    torch.Tensor.sub: InPlace.__rsub__,
    torch.Tensor.mul: InPlace.__rmul__,
}


def loaded(array: Any, scratch: Any, strides: Any = None) -> InPlace:
    """Copy a tensor to ``scratch`` with ``strides``, by default its own, which must be dense."""
    return InPlace(scratch.as_strided(array.shape, strides or array.stride()).copy_(array))

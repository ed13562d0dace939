"""PyTorch's operands for one pass over memory: float64 scratch tensors that the operators of a formula overwrite."""

from __future__ import annotations

from typing import Any

import torch

from fastgen_rf.arithmetic._inplace import InPlace, Scratch

# Arrays of up to this number of elements are one block, because a second one would cost more than the cache saves.
WHOLE = 2**19


class InPlaceTensor(InPlace):
    """A scratch tensor as an operand. A tensor on the left of an operator calls the operators of this class."""

    __slots__ = ()

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the reflected operator. Without this method PyTorch does so after an error, in ten times the time."""
        return _REFLECTED[function](args[1], args[0]) if function in _REFLECTED else NotImplemented


_REFLECTED = {
    torch.Tensor.add: InPlace.__radd__,
    torch.Tensor.sub: InPlace.__rsub__,
    torch.Tensor.mul: InPlace.__rmul__,
}


def loaded(array: Any, scratch: Any, strides: Any = None) -> InPlaceTensor:
    """Copy a tensor to ``scratch`` with ``strides``, by default its own, which must be dense."""
    return InPlaceTensor(scratch.as_strided(array.shape, strides or array.stride()).copy_(array))


def _new_tensors() -> Any:
    # Two tensors instead of one with two rows: Tensor.__iter__ would take several microseconds in each call.
    # A tensor that is made in inference mode could not be written to outside of it.
    with torch.inference_mode(False):
        return torch.empty((2, WHOLE), dtype=torch.float64, device="cpu").unbind()


scratch_tensors = Scratch(_new_tensors)

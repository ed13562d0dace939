"""Tensors for the tests of PyTorch: sizes that take different paths, dtypes, memory layouts."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.catalogue import FOR_GRADIENTS, REPRESENTATIVE, ROWS

TWO = [ROWS[name] for name in REPRESENTATIVE]
FOUR = [ROWS[name] for name in FOR_GRADIENTS]
SMALL = (4, 3, 5, 7)  # plain tensor operations
ONE_BLOCK = (4, 16, 72, 72)  # 331,776 elements: one pass over a single block
LARGE = (4, 16, 96, 96)  # 589,824 elements: one pass over several blocks
both_sizes = pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
every_size = pytest.mark.parametrize("shape", [SMALL, ONE_BLOCK, LARGE], ids=["small", "one block", "large"])
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LAYOUTS = ("contiguous", "channels_last", "permuted", "strided", "offset", "expanded", "one_value", "overlapping")


class Operations(TorchDispatchMode):
    """Keeps the names of the operations that reach a device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names = [*getattr(self, "names", []), str(function)]
        return function(*args, **(kwargs or {}))


@cache
def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Standard normal values. The tensor is shared between tests, so none of them may write to it."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@cache
def times(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Times between 0.1 and 0.9, shared between tests."""
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (uniform * 0.8 + 0.1).to(dtype)


def inputs(shape: tuple[int, ...], *dtypes: torch.dtype, wanted: tuple[int, ...] = ()) -> list[Tensor]:
    """Two arrays and a time for each sample, new ones; those at the positions ``wanted`` require a gradient."""
    values = zip((randn(*shape, seed=1), randn(*shape, seed=2), times(*shape[:1])), dtypes or (None,) * 3, strict=True)
    return [x.to(dtype, copy=True).requires_grad_(at in wanted) for at, (x, dtype) in enumerate(values)]


@cache
def laid_out(layout: str, shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Standard normal values in a memory layout, shared between tests."""
    x = randn(*shape, dtype=dtype, seed=seed)
    if layout == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if layout == "permuted":
        return x.movedim(0, -1).contiguous().movedim(-1, 0)
    if layout == "strided":
        return x.new_zeros(2 * shape[0], *shape[1:-1], 3 * shape[-1])[::2, ..., 1::3].copy_(x)
    if layout == "offset":
        return x.new_zeros(x.numel() + 1)[1:].view(shape).copy_(x)
    if layout == "overlapping":  # the last element of a sample is the first of the next one
        return x.flatten().as_strided(shape, (x[0].numel() - 1, *x.stride()[1:]))
    return {"contiguous": x, "expanded": x[:1].expand(shape), "one_value": x.flatten()[0].expand(shape)}[layout]

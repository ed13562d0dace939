"""The reference of the tests of PyTorch: the library's own plain tensor operations, in float64 and rounded once.

test_same_bits.py and test_features.py compare them with exact values, for small tensors. Here they check every other
path: one pass over large tensors, kernels, transforms.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor

from fastgen_rf.backends import _torch_one_pass
from tests.backends.torch.tensors import randn
from tests.catalogue import Row


def reference(row: Row, *inputs: Any) -> Tensor:
    """Evaluate in float64 by plain tensor operations, which autograd records, and round once."""
    wide = [x.double() if isinstance(x, Tensor) else x for x in inputs]
    with mock.patch.multiple(_torch_one_pass, LEAST=2**62, _FUSED_ON=()):
        result: Tensor = row(*wide)
    return result.to(inputs[row.like].dtype)


def assert_same_bits(got: Tensor, wanted: Tensor) -> None:
    """Equal in dtype, shape, strides and every bit; any NaN equals any other."""
    assert (got.dtype, got.shape, got.stride()) == (wanted.dtype, wanted.shape, wanted.stride())
    one, other = got.detach(), wanted.detach()
    if one.dtype.itemsize == 1:
        one, other = one.float(), other.float()
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(one.signbit() | one.isnan(), other.signbit() | other.isnan())


def check(row: Row, *arrays: Any) -> None:
    """The result has the bits and strides of the reference."""
    assert_same_bits(row(*arrays), reference(row, *arrays))


def assert_rounded_once(got: Any, wanted: Any) -> None:
    """Gradients equal in dtype and shape. Few elements differ in the last place: float64 sums have another order."""
    for ours, exact in zip(got, wanted, strict=True):
        largest = float(exact.abs().max()) if exact.numel() else 0.0
        if exact.dtype == torch.float64:
            torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-10 * largest)
        else:
            torch.testing.assert_close(ours, exact, rtol=torch.finfo(exact.dtype).eps, atol=1e-13 * largest)
            assert int((ours != exact).sum()) <= 1 + ours.numel() // 100


def gradients(call: Any, given: list[Any], upstream: Tensor) -> tuple[Tensor, ...]:
    """Gradients of ``call(*given)`` for those arguments that require one; zeros if the result does not use it."""
    return gradients_of(call(*given), [x for x in given if isinstance(x, Tensor) and x.requires_grad], upstream)


def gradients_of(result: Tensor, leaves: list[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    if not result.requires_grad:
        return tuple(map(torch.zeros_like, leaves))
    return torch.autograd.grad(result, leaves, upstream, materialize_grads=True)


def reference_gradients(row: Row, given: list[Any], upstream: Tensor) -> tuple[Tensor, ...]:
    return gradients(lambda *x: reference(row, *x), given, upstream)


def check_gradients(row: Row, given: list[Any], upstream: Tensor | None = None) -> None:
    """The gradients are those of the reference."""
    if upstream is None:
        upstream = randn(*given[0].shape, dtype=given[row.like].dtype, seed=3)
    assert_rounded_once(gradients(row, given, upstream), reference_gradients(row, given, upstream))

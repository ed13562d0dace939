"""What the torch tests compare with: the conversions as a torch user writes them, and tensors in every layout.

The expressions cast to float64, evaluate left to right and cast once, all of it recorded by autograd: they are the
contract's definition of a right result and of a right gradient, bit for bit and at every size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import pytest
import torch
from torch import Tensor

import fastgen_rf as rf
from tests.cases.as_written import FORMULAS, Written


class Conversion(NamedTuple):
    """One of the five conversions: ours, and as it is written."""

    ours: Callable[..., Any]
    written: Written

    @property
    def like(self) -> int:
        """Which of the two arrays gives the result its dtype."""
        return self.written.like

    def plain(self, first: Tensor, second: Tensor, t: Tensor | float) -> Tensor:
        """The result by plain tensor operations in float64 and one cast."""
        time = torch.as_tensor(t, dtype=torch.float64, device=first.device)
        time = time.reshape(time.shape + (1,) * (first.ndim - time.ndim))
        result = self.written.value(first.double(), second.double(), time, torch.clamp_min)
        return cast(Tensor, result).to((first, second)[self.like].dtype)


CONVERSIONS = {name: Conversion(getattr(rf, name), written) for name, written in FORMULAS.items()}


every_conversion = pytest.mark.parametrize(
    "conversion", [pytest.param(conversion, id=name) for name, conversion in CONVERSIONS.items()]
)

SMALL = (4, 3, 5, 7)
ONE_BLOCK = (4, 16, 72, 72)  # 331,776 elements: enough for one pass, as a whole
LARGE = (4, 16, 96, 96)  # 589,824 elements: enough for the pass in blocks, of a sample each
both_sizes = pytest.mark.parametrize("shape", [pytest.param(SMALL, id="small"), pytest.param(LARGE, id="large")])


@lru_cache(maxsize=128)  # shared between tests, none of which may write to them
def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Standard normal values, the same tensor for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def times(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Times well inside (0, 1), where every conversion has a moderate slope."""
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (uniform * 0.8 + 0.1).to(dtype)


@lru_cache(maxsize=128)
def laid_out(layout: str, shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """A standard normal tensor of this shape in one of :data:`LAYOUTS`."""
    reverse = tuple(reversed(range(len(shape))))
    x = randn(*shape, dtype=dtype, seed=seed)
    if layout == "contiguous":
        return x
    if layout == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if layout == "channels_last_3d":
        return x.to(memory_format=torch.channels_last_3d)
    if layout == "permuted":
        return x.permute(reverse).contiguous().permute(reverse)
    if layout == "batch_last":
        return x.movedim(0, -1).contiguous().movedim(-1, 0)
    if layout == "strided":
        return randn(2 * shape[0], *shape[1:-1], 3 * shape[-1], dtype=dtype, seed=seed)[::2, ..., 1::3]
    if layout == "offset":
        return randn(shape[0] + 1, *shape[1:], dtype=dtype, seed=seed).flatten()[1 : 1 + x.numel()].view(shape)
    if layout == "expanded":
        return x[:1].expand(shape)
    if layout == "one_value":
        return x.flatten()[0].expand(shape)
    if layout == "overlapping":  # neighbouring rows share memory
        return randn(x.numel() + x.shape[0], dtype=dtype, seed=seed).as_strided(
            shape, (x[0].numel() - 1, *x.stride()[1:])
        )
    raise ValueError(layout)


LAYOUTS = (
    "contiguous",
    "channels_last",
    "permuted",
    "batch_last",
    "strided",
    "offset",
    "expanded",
    "one_value",
    "overlapping",
)

_AS_INTEGER = {8: torch.int64, 4: torch.int32, 2: torch.int16}


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    """Equal in dtype, shape, strides and every bit, the sign of zero included; any NaN equals any other."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.stride() == expected.stride()
    integer = _AS_INTEGER[actual.dtype.itemsize]
    if torch.equal(actual.view(integer), expected.view(integer)):
        return
    assert torch.equal(actual.isnan(), expected.isnan())
    differ = (actual.view(integer) != expected.view(integer)) & ~expected.isnan()
    assert not differ.any(), f"{int(differ.sum())} of {actual.numel()} elements differ"


def ulps_apart(actual: Tensor, expected: Tensor) -> int:
    """Largest number of representable values between two tensors' elements."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if torch.equal(actual, expected):
        return 0
    assert actual.isfinite().all()
    assert expected.isfinite().all()
    distance = (_ordinal(actual) - _ordinal(expected)).abs()
    return int(distance.max())


def _ordinal(x: Tensor) -> Tensor:
    """Rank of each value among those of its dtype, zero for both zeros."""
    integer = _AS_INTEGER[x.dtype.itemsize]
    bits = x.contiguous().view(integer).long()
    return torch.where(bits < 0, torch.iinfo(integer).min - bits, bits)

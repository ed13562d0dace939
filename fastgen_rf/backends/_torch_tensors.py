"""Helpers of the PyTorch backend: times, sums, devices, tables, and the operations of formulas.

The last part finds out which devices compute in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from fastgen_rf._tracing import evaluated_by_tracer
from fastgen_rf.arithmetic import Float32, Ops
from fastgen_rf.arithmetic._inplace import blocks, part
from fastgen_rf.arithmetic._triple_float32 import leading_bits
from fastgen_rf.backends import _torch_internals as internals


def widened(t: Any, rank: int, copy: bool = False) -> Any:
    """A time in float64 with trailing axes; with ``copy``, in memory that no other tensor shares."""
    if isinstance(t, float):
        return t
    wide = t.to(torch.float64, copy=True) if copy and t.dtype == torch.float64 else t.double()
    missing = rank - t.ndim
    if missing < 2:
        return wide.unsqueeze(-1) if missing else wide
    # An index with as many Nones takes twice the time.
    return wide.reshape(*t.shape, *(1,) * missing)


def matched(times: Sequence[Any], device: torch.device) -> list[Any]:
    """Return the times as Python floats, if all of them are, or as tensors on ``device``.

    A 0-d tensor on the CPU is passed as the argument of a kernel, because a copy would wait for the device. A float
    next to a tensor becomes a tensor: PyTorch computes number / tensor, and on CUDA tensor / number, as a product with
    the reciprocal.
    """
    moved = [
        t
        if isinstance(t, float) or t.device == device
        else torch.ones((), dtype=torch.float64, device=device) * t.reshape(()).double()
        for t in times
    ]
    tensors = [t for t in moved if not isinstance(t, float)]
    return [
        torch.full_like(tensors[0], t, dtype=torch.float64) if isinstance(t, float) and tensors else t for t in moved
    ]


# Number of elements that a sum on an accelerator takes at a time. This limits float64 temporaries to 32 MiB.
_BLOCK_ON_DEVICE = 2**22


def summed(grad: Any, array: Any, shape: Any) -> Any:
    """Sum ``grad * array`` in float64 to ``shape``, in pieces if the sum is not differentiated."""
    if torch.is_grad_enabled() or grad.numel() <= _BLOCK_ON_DEVICE or type(grad) is not torch.Tensor:
        return (grad.double() * array.double()).sum_to_size(shape)
    total = torch.zeros(shape, dtype=torch.float64, device=grad.device)
    for index in blocks(grad.shape, _BLOCK_ON_DEVICE):
        here = part(total, index)
        here += (grad[index].double() * array[index].double()).sum_to_size(here.shape)
    return total


def named_device(device: Any) -> torch.device:
    """The device that ``device`` names, or the default device."""
    if device is None:
        # torch.compile can trace this, and cannot trace torch.get_default_device().
        return torch.empty(0).device
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must be a torch.device or its name, such as 'cuda:0', got {device!r}") from None


# Tables of numbers: the entries of a t_list, and the boundaries between uniform numbers that draw them


def index_of(u: Any, boundaries: tuple[float, ...]) -> Any:
    """How many of ``boundaries`` are at most each ``u``, as int32."""
    return torch.bucketize(u, table(boundaries, torch.float64, u.device), out_int32=True, right=True)


# Device types that have streams and graphs. A copy from the host would wait there, and a graph cannot capture it
# (https://github.com/pytorch/pytorch/pull/172156).
_KEEPS_TABLES = ("cuda",)


def table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Any:
    """Tensor of ``values`` on ``device``, kept from call to call, because making one of 4 numbers takes 2.5 us."""
    if torch.compiler.is_compiling():
        # A compiled program keeps the tensor as a constant on its device.
        return torch.tensor(values, dtype=dtype, device=device)
    has_streams = device.type in _KEEPS_TABLES
    watched = internals.in_dispatch_mode() or internals.in_transform()
    # A CUDA graph owns its table: a table that is dropped from the cache could not be read by a later replay.
    if watched or (torch.cuda.is_current_stream_capturing() if has_streams else device.type != "cpu"):
        return _new_table(values, dtype, device)
    return _kept_table(values, dtype, device, torch.cuda.current_stream(device) if has_streams else None)


@functools.lru_cache
def _kept_table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device, stream: Any) -> Any:
    """Tensor of ``values``, for one stream: another one might read it before it is filled."""
    # A tensor that is made in inference mode would be an inference tensor in every later call.
    with torch.inference_mode(False):
        return _new_table(values, dtype, device)


def _new_table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Any:
    """Tensor of ``values``. For an accelerator, each of them is the argument of a kernel, which a graph can capture."""
    if device.type == "cpu":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])


# The functions of tensors that a formula uses


def _maximum(array: Any, floor: float) -> Any:
    # torch.maximum does not accept a number, and before PyTorch 2.9 DTensor does not support clamp_min:
    # https://github.com/pytorch/pytorch/pull/158619.
    return array.clamp(floor)


def _sqrt(x: Any) -> Any:
    """Square root, rounded as IEEE 754 requires.

    PyTorch calls MKL on the CPU, whose square root is 1 ulp or more off in 1 % of the cases
    (https://github.com/pytorch/pytorch/issues/188792). The remainder ``x - root**2`` is exact by Dekker's product of
    halves, and corrects the root.
    """
    root = torch.sqrt(x)
    if x.device.type != "cpu":
        return root
    s, x = root.detach(), x.detach()
    high = s * 134217729.0 - (s * 134217729.0 - s)
    low = s - high
    left = ((x - high * high) - 2 * high * low) - low * low
    return torch.where(left.isfinite() & (s > 0), root + left / (2 * s), root)


OPS = Ops(_maximum, _sqrt, torch)


# The float32 operations of triple-float32 arithmetic


def _plus(c: Any, a: Any, b: Any, scale: float) -> Any:
    """``c + scale a b`` in one operation."""
    if isinstance(b, float):
        return torch.add(c, a, alpha=scale * b)
    return torch.addcmul(c, a, b, value=scale)


def _add_to(c: Any, a: Any, b: Any, scale: float) -> Any:
    """The same in the memory of ``c``."""
    if isinstance(b, float):
        return c.add_(a, alpha=scale * b)
    return c.addcmul_(a, b, value=scale)


def _leading(a: Any) -> Any:
    """``a`` rounded to 12 bits, by integer operations on its bits."""
    return (a.view(torch.int32) + 0x800).bitwise_and_(-0x1000).view(torch.float32)


def _leading_eagerly(a: Any) -> Any:
    """The same in half the time. The old vmap has no views of bits, and uses sums instead."""
    if internals.in_old_vmap(a):
        return leading_bits(a)
    return (a.view(torch.int32) + _HALF).bitwise_and_(_MASK).view(torch.float32)


def float32() -> Float32:
    """The operations for a call. In a trace, they neither work in place nor use tensors from outside of the call."""
    if torch.compiler.is_compiling() or internals.in_dispatch_mode():
        return _TRACED
    return _MAPPED if internals.in_transform() else _EAGER


# PyTorch would convert the Python numbers to such tensors in each call.
_HALF, _MASK = (torch.tensor(number, dtype=torch.int32, device="cpu") for number in (0x800, -0x1000))
_EAGER = Float32(torch, _plus, _add_to, _leading_eagerly)
_TRACED = Float32(torch, _plus, _plus, _leading)
# The vmap of PyTorch 2.6 does not support views of bits.
_MAPPED = Float32(torch, _plus, _plus, leading_bits)


# Devices that may or may not compute in float64


@evaluated_by_tracer
def found_float64(device: torch.device) -> bool:
    """Whether ``device`` computes in float64. The result is cached."""
    if device.type == "mps":
        return False
    if device not in _found:
        if device.type != "xpu" and internals.in_dispatch_mode():
            # Under a fake tensor mode nothing is computed, so the answer cannot be found. Float32 always works.
            return False
        try:
            _found[device] = _computes_float64(device)
        # Each type of device raises different exceptions.
        except Exception:
            _found[device] = False
    return _found[device]


_found: dict[torch.device, bool] = {}


def _computes_float64(device: torch.device) -> bool:
    if device.type == "xpu":
        # The data center GPUs of Intel have float64, and its Arc GPUs do not.
        return bool(torch.xpu.get_device_capability(device)["has_fp64"])
    one = torch.ones((), dtype=torch.float64, device=device)
    # A device may accept float64 and compute in float32. This reads a value on the host, once for each device.
    return bool((one + 2.0**-40 - one).item() == 2.0**-40)

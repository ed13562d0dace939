"""What a tensor tells of its memory, what is made of it on the way into a formula, and what a formula takes with it."""

from __future__ import annotations

import functools
from typing import Any

import torch

from fastgen_rf.arithmetic import FLOATS, Float32, Ops
from fastgen_rf.arithmetic._inplace import InPlace, blocks, part
from fastgen_rf.arithmetic._triple_float32 import leading_bits
from fastgen_rf.backends._torch_internals import in_dispatch_mode, in_old_vmap, in_transform


def needs_gradient(array: Any) -> bool:
    """Whether a gradient is wanted for it."""
    return type(array) is not float and array.requires_grad


def is_stubborn(array: Any, recorded: bool) -> bool:
    """Whether only a cast promotes an array (float8), or autograd can only save a copy of it."""
    return bool(array.dtype.itemsize == 1 or (recorded and array.is_inference()))


def memory_order(array: Any) -> list[int] | None:
    """Axes of a dense tensor from outermost to innermost in memory; None if it has gaps or overlaps.

    None as well where a singleton axis has a stride of its own, which torch's operations make another of.
    """
    order = list(range(array.ndim))
    strides = array.stride()
    if not array.is_contiguous():
        order.sort(key=strides.__getitem__, reverse=True)
    expected = 1
    for axis in reversed(order):
        if strides[axis] != expected:
            return None
        expected *= array.shape[axis]
    return order


def leading(t: Any, order: list[int]) -> int:
    """How many axes, in the order of memory, it takes to hold those along which t varies."""
    lead = len(order)
    while lead and (order[lead - 1] >= t.ndim or t.shape[order[lead - 1]] == 1):
        lead -= 1
    return lead


def double(array: Any, copy: bool = False) -> Any:
    """An array in float64. A copy of an inference tensor is an ordinary tensor."""
    return array.to(torch.float64, copy=True) if copy and array.is_inference() else array.double()


def widened(t: Any, rank: int, copy: bool = False) -> Any:
    """Widen t and give it trailing axes; ``copy``: in memory of its own, whatever becomes of t."""
    if isinstance(t, float):
        return t
    wide = t.to(torch.float64, copy=True) if copy and t.dtype == torch.float64 else t.double()
    missing = rank - t.ndim
    if missing < 2:
        return wide.unsqueeze(-1) if missing else wide
    return wide.reshape(*t.shape, *(1,) * missing)  # half the time of an index with as many Nones


def placed(t: Any, device: torch.device) -> Any:
    """Give a number on the CPU to ``device`` as a kernel's argument: nothing is copied, nothing waits; else t."""
    if t.device == device:
        return t
    return torch.ones((), dtype=torch.float64, device=device) * t.reshape(()).double()


def savable(array: Any) -> Any:
    """A tensor that autograd can save: a copy of an inference tensor; None for a float."""
    if array is None or isinstance(array, float):
        return None
    return array.clone() if array.is_inference() else array


def both_or_none(t: Any, t_next: Any) -> list[Any]:
    """Two times, of which both are Python floats or neither is.

    Torch divides a number by a tensor, and on CUDA also a tensor by a number, with two roundings.
    """
    if type(t) is float and type(t_next) is not float:
        t = torch.full_like(t_next, t, dtype=torch.float64)
    elif type(t_next) is float and type(t) is not float:
        t_next = torch.full_like(t, t_next, dtype=torch.float64)
    return [t, t_next]


def permuted(order: Any, *arrays: Any) -> list[Any]:
    if order == list(range(len(order))):
        return list(arrays)  # nothing to permute, as nearly always; six views in a backward pass take 10 us
    return [a.permute(order) if isinstance(a, torch.Tensor) else a for a in arrays]


_BLOCK_ON_DEVICE = 2**22  # elements of a sum on an accelerator: float64 temporaries of 32 MiB, however large the arrays


def summed(grad: Any, array: Any, shape: Any) -> Any:
    """Sum ``grad array`` in float64 to ``shape``; piece by piece where it need not be differentiated."""
    if torch.is_grad_enabled() or grad.numel() <= _BLOCK_ON_DEVICE or type(grad) is not torch.Tensor:
        return (grad.double() * array.double()).sum_to_size(shape)
    total = torch.zeros(shape, dtype=torch.float64, device=grad.device)
    for index in blocks(grad.shape, _BLOCK_ON_DEVICE):
        here = part(total, index)
        here += (grad[index].double() * array[index].double()).sum_to_size(here.shape)
    return total


def named_device(device: Any) -> torch.device:
    """The device that is asked for, or the default one."""
    if device is None:  # torch.compile traces an empty tensor's device, but not torch.get_default_device()
        return torch.empty(0).device
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must be a torch.device or its name, such as 'cuda:0', got {device!r}") from None


# Tables of numbers: the entries of a t_list, and the boundaries between uniform numbers that draw them


def index_of(u: Any, boundaries: tuple[float, ...]) -> Any:
    """How many of ``boundaries`` are at most each ``u``, as int32."""
    return torch.bucketize(u, table(boundaries, torch.float64, u.device), out_int32=True, right=True)


_KEEPS_TABLES = ("cuda",)  # device types where a copy from the host would wait, and streams and graphs exist


def table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Any:
    """Tensor of ``values`` on ``device``. An accelerator gets no copy from the host, which would wait for it."""
    if torch.compiler.is_compiling():  # a compiled program keeps it as a constant on its device
        return torch.tensor(values, dtype=dtype, device=device)
    watched = in_dispatch_mode() or in_transform()
    if device.type == "cpu":
        # To make a tensor of 4 numbers takes 2.5 us, a quarter of a draw of nvidia-modelopt's.
        return torch.tensor(values, dtype=dtype, device=device) if watched else _kept_table(values, dtype, device, None)
    # A CUDA graph owns its table: one that is dropped here could not be read by a later replay.
    if device.type not in _KEEPS_TABLES or watched or torch.cuda.is_current_stream_capturing():
        return _filled(values, dtype, device)
    return _kept_table(values, dtype, device, torch.cuda.current_stream(device))


@functools.lru_cache
def _kept_table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device, stream: Any) -> Any:
    """Tensor of ``values``, for one stream: another one might read it before it is filled."""
    with torch.inference_mode(False):  # an inference tensor would be one in every later call
        return torch.tensor(values, dtype=dtype) if device.type == "cpu" else _filled(values, dtype, device)


def _filled(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Any:
    """Tensor of ``values``, each of them an argument of a kernel, which a CUDA graph can capture."""
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])


class InPlaceTensor(InPlace):
    """A scratch tensor as an operand: a tensor on its left leaves the operation to it."""

    __slots__ = ()

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do at once what torch leads to by an error, at ten times the cost."""
        return _REFLECTED[function](args[1], args[0]) if function in _REFLECTED else NotImplemented


_REFLECTED = {
    torch.Tensor.add: InPlace.__radd__,
    torch.Tensor.sub: InPlace.__rsub__,
    torch.Tensor.mul: InPlace.__rmul__,
}


def loaded(array: Any, scratch: Any, strides: Any = None) -> Any:
    """Copy a tensor to ``scratch`` with ``strides``, by default its own, which must be dense."""
    return InPlaceTensor(scratch.as_strided(array.shape, strides or array.stride()).copy_(array))


# What a formula takes besides operators


def _maximum(array: Any, floor: float) -> Any:
    return array.clamp(floor)  # torch.maximum takes no number, and before 2.9 DTensor no clamp_min


def _sqrt(x: Any) -> Any:
    """Root as IEEE 754 rounds it: MKL's, which PyTorch calls on a CPU, is an ulp off in one of a hundred, or further.

    (https://github.com/pytorch/pytorch/issues/188792.) What is left of x is exact by Dekker's product of halves.
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


def ops_of(*times: Any) -> Ops:
    """The functions that a formula uses at these times, which are all floats or all tensors."""
    return FLOATS if isinstance(times[0], float) else OPS


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
    """``a`` rounded to 12 bits, in its bits."""
    return (a.view(torch.int32) + 0x800).bitwise_and_(-0x1000).view(torch.float32)


def _leading_eagerly(a: Any) -> Any:
    """The same in half the time, and by sums under the old vmap, which has no views of bits."""
    if in_old_vmap(a):
        return leading_bits(a)
    return (a.view(torch.int32) + _HALF).bitwise_and_(_MASK).view(torch.float32)


def float32() -> Float32:
    """What serves a call from here: for eyes that look on, nothing in place and no tensors but the call's."""
    if torch.compiler.is_compiling() or in_dispatch_mode():
        return _TRACED
    return _MAPPED if in_transform() else _EAGER


# As torch makes them of Python numbers, but for each call anew.
_HALF, _MASK = (torch.tensor(number, dtype=torch.int32, device="cpu") for number in (0x800, -0x1000))
_EAGER = Float32(torch, _plus, _add_to, _leading_eagerly)
_TRACED = Float32(torch, _plus, _plus, _leading)
_MAPPED = Float32(torch, _plus, _plus, leading_bits)  # torch 2.6 maps no view of bits


# Devices whose type does not tell whether they compute in float64


def found_float64(device: torch.device) -> bool:
    """Whether ``device`` computes in float64, asked once."""
    if device.type == "mps":
        return False
    if device not in _found:
        if device.type != "xpu" and in_dispatch_mode():
            return False  # under a fake tensor mode nothing is computed that would tell; float32 always serves
        try:
            _found[device] = _computes_float64(device)
        except Exception:  # each device type has its own
            _found[device] = False
    return _found[device]


# torch.compile calls the function while it traces and keeps the answer, since it could not trace the question. The
# decorator torch.compiler.assume_constant_result does the same, but imports Dynamo, which takes a second.
found_float64._dynamo_marked_constant = True  # type: ignore[attr-defined]
_found: dict[torch.device, bool] = {}


def _computes_float64(device: torch.device) -> bool:
    if device.type == "xpu":  # Intel's data center GPUs have float64, its Arc GPUs do not
        return bool(torch.xpu.get_device_capability(device)["has_fp64"])
    one = torch.ones((), dtype=torch.float64, device=device)
    return bool((one + 2.0**-40 - one).item() == 2.0**-40)  # a device may take float64 and compute in float32

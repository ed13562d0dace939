"""PyTorch: plain tensor methods, which autograd, ``torch.func``, ``torch.compile`` and DTensor all follow.

Large CPU tensors that nothing but autograd watches take one pass in blocks instead; ``_fits_one_pass`` decides.
Namespaces wrapped by array_api_compat are not used: a tensor method costs a fraction of a wrapped call.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch._C._functorch import is_legacy_batchedtensor

from fastgen_rf._typing import Formula
from fastgen_rf.arithmetic import FLOATS, Functions
from fastgen_rf.arithmetic._inplace import Scratch, blocks, evaluate_in_blocks, load, on_singletons
from fastgen_rf.arithmetic._slope import Slope, coefficients
from fastgen_rf.arithmetic._slope import functions as slopes
from fastgen_rf.backends._standard import Backend, Draws, Function, with_trailing_axes

_BLOCK = 2**18  # elements: two float64 scratch blocks of 2 MiB stay in cache
_LEAST = 2**19  # below this many elements the plain expression is as fast
_FUSED_ON = ("cuda",)  # device types where one kernel evaluates a formula; ROCm's devices are called cuda, too
_KERNEL_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class TorchBackend(Backend):
    """Tensors on any device; float64 is emulated on those that have none (MPS)."""

    generator = "torch.Generator"

    def is_floating(self, dtype: Any) -> bool:
        return isinstance(dtype, torch.dtype) and dtype.is_floating_point  # NumPy's longdouble is none

    def device(self, array: Any) -> torch.device:
        device: torch.device = array.device
        return device

    def has_float64(self, device: Any) -> bool:
        return bool(device.type != "mps")

    def devices(self) -> list[Any]:
        found = [torch.device("cpu")]
        if torch.accelerator.is_available():
            kind = str(torch.accelerator.current_accelerator())
            found += [torch.device(kind, index) for index in range(torch.accelerator.device_count())]
        return found

    def to_host(self, array: Any) -> Any:
        return array.cpu().numpy()

    def astype(self, array: Any, dtype: Any) -> Any:
        return array.to(dtype)

    def permute(self, array: Any, order: Sequence[int]) -> Any:
        return array.permute(*order)

    @property
    def functions(self) -> Functions:
        return _FUNCTIONS

    def evaluate(self, formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
        if not self.has_float64(first.device):
            return super().evaluate(formula, first, second, t, dtype)
        return _evaluate(formula, first, second, t, dtype)

    def check_rng(self, rng: Any) -> None:
        if rng is not None and not isinstance(rng, torch.Generator):
            raise TypeError(f"rng must be a torch.Generator, an int or None, got {type(rng).__name__}")

    def draw(self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any) -> tuple[Any, ...]:
        if device is None:  # torch.compile traces an empty tensor's device, but not torch.get_default_device()
            device = rng.device if isinstance(rng, torch.Generator) else torch.empty(0).device
        device = torch.device(device)
        if isinstance(rng, int):
            if rng >> (32 if device.type == "cpu" else 64):  # further bits of a seed torch's generators leave out
                return self.sample(shape, draws, np.random.default_rng(rng), device, dtype)
            rng = torch.Generator(device).manual_seed(rng)
        if rng is None:
            options: dict[str, Any] = {}  # torch.compile takes a dynamic n, and none with generator=None
        elif rng.device.type != device.type or device.index not in (None, rng.device.index or 0):
            raise ValueError(f"rng and device must agree, got a generator on {rng.device} and device {device}")
        else:
            options = {"generator": rng}
        size = draws.shape(math.prod(shape))
        if self.has_float64(device):
            times = draws(torch.rand(size, dtype=torch.float64, device=device, **options), torch, torch.special)
        else:
            words = torch.randint(2**24, (2, *size), dtype=torch.int32, device=device, **options).cpu().double()
            times = draws(words[0] * 2.0**-24 + words[1] * 2.0**-48, torch, torch.special)
        return tuple(self.astype(t, dtype).to(device).reshape(shape) for t in times)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        host = torch.as_tensor(values, device="cpu").to(dtype)
        return host.to(torch.empty(0).device if device is None else device)

    def map(self, function: Function, array: Any, name: str, special: bool = False) -> Any:
        if not self.has_float64(array.device):
            return super().map(function, array, name, special)
        return self.astype(function(array.double(), torch, torch.special), array.dtype)


def _evaluate(formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
    """Evaluate ``formula`` in float64; one of the arrays may be the float 0.0, as it is in a gradient."""
    like = second if type(first) is float else first
    one_pass = _fits_one_pass(first, second, t, like)
    if one_pass and torch.is_grad_enabled() and any(getattr(a, "requires_grad", False) for a in (first, second, t)):
        return _OnePass.apply(formula, first, second, t, dtype)  # type: ignore[no-untyped-call]  # torch's own stub
    if one_pass and like.device.type in _FUSED_ON:
        return _evaluate_in_one_kernel(formula, first, second, t, like, dtype)
    if not one_pass:
        wide = _wide(t, like.ndim)
        if type(t) is float or not t.ndim:  # else the float64 t, or second, promotes first where the two meet
            first = _double(first)
        return formula(first, _double(second), wide, _functions(t)).to(dtype)
    order = _memory_order(like)
    out = torch.empty_like(like, dtype=dtype)
    first, second, wide, target = _permuted(order, first, second, _wide(t, like.ndim), out)
    evaluate_in_blocks(formula, first, second, wide, target, _scratch(), _functions(t))
    return out


def _evaluate_in_one_kernel(formula: Formula, first: Any, second: Any, t: Any, like: Any, dtype: Any) -> Any:
    """Evaluate ``formula`` in one kernel or, on a device where that turns out to fail, by the plain expression."""
    from fastgen_rf.backends import _triton

    out = torch.empty_like(like, dtype=dtype)
    inner = like.numel()
    time = t
    if type(t) is not float:
        order: Any = _memory_order(like)
        lead = _leading(t, order)
        copies = math.prod(like.shape[axis] for axis in order[:lead])
        inner //= copies
        if not t.is_contiguous() or t.numel() != copies or (lead > 1 and not like.is_contiguous()):
            sizes = [like.shape[axis] if place < lead else 1 for place, axis in enumerate(order)]
            time = with_trailing_axes(t, like.ndim).permute(order).expand(sizes).contiguous()
    try:
        _triton.launch(formula, first, second, time, inner, out)
    except Exception as error:  # Triton needs a C compiler and a driver that fits, and each fails in its own way
        _serves[like.device] = False
        message = f"Triton failed on {like.device}, plain tensor operations do its work: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return _evaluate(formula, first, second, t, dtype)
    return out


def _fits_one_pass(first: Any, second: Any, t: Any, like: Any) -> bool:
    """Whether one pass applies: tensors of one dense layout that nothing but autograd watches.

    On the CPU large ones, in blocks; on CUDA any that a kernel can read.
    """
    kind = like.device.type
    return bool(
        not torch.compiler.is_compiling()
        and (kind in _FUSED_ON or (kind == "cpu" and like.numel() >= _LEAST))
        and all(type(a) in _PLAIN for a in (first, second, t))
        and like.layout is torch.strided
        and (type(first) is float or type(second) is float or first.stride() == second.stride())
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._is_tracing()
        and not any(isinstance(a, torch.Tensor) and is_legacy_batchedtensor(a) for a in (first, second, t))
        and (order := _memory_order(like)) is not None
        and (kind not in _FUSED_ON or _fits_one_kernel(first, second, t, like, order))
    )


def _fits_one_kernel(first: Any, second: Any, t: Any, like: Any, order: list[int]) -> bool:
    """Whether a kernel can read these: it knows memory as bytes, and t as one value for so many elements in a row.

    A t on inner axes is repeated to make it so, if that takes little beside the arrays.
    """
    for array in (first, second, t):
        if type(array) is not float and (array.dtype not in _KERNEL_DTYPES or array.is_neg() or array._is_zerotensor()):
            return False
    if type(t) is not float:
        copies = math.prod(like.shape[axis] for axis in order[: _leading(t, order)])
        if copies != t.numel() and 8 * copies > like.numel():
            return False
        if t.requires_grad and torch.is_grad_enabled() and like.numel() < _LEAST:
            return False  # the gradient of t takes some twenty small kernels, more than autograd's
    return like.numel() > 0 and _has_kernels(like.device)


def _leading(t: Any, order: list[int]) -> int:
    """How many axes, in the order of memory, it takes to hold those along which t varies."""
    lead = len(order)
    while lead and (order[lead - 1] >= t.ndim or t.shape[order[lead - 1]] == 1):
        lead -= 1
    return lead


_serves: dict[torch.device, bool] = {}


def _has_kernels(device: torch.device) -> bool:
    """Whether Triton is installed, serves ``device`` and has not failed on it."""
    if device not in _serves:
        try:
            from fastgen_rf.backends import _triton
        except ImportError:
            _serves[device] = False
        else:
            _serves[device] = _triton.serves(device)
    return _serves[device]


_PLAIN = (float, torch.Tensor, torch.nn.Parameter)  # no subclass: those may live anywhere and do anything


def _memory_order(array: Any) -> list[int] | None:
    """Axes of a dense tensor from outermost to innermost in memory; None if it has gaps or overlaps."""
    order = list(range(array.ndim))
    if not array.is_contiguous():
        order.sort(key=array.stride, reverse=True)
        if not array.permute(order).is_contiguous():
            return None
    return order


def _double(array: Any) -> Any:
    return array if type(array) is float else array.double()


_kept = Scratch()


def _scratch() -> Any:
    if _kept.values is None:
        with torch.inference_mode(False):  # an inference tensor could not be written to outside of that mode
            _kept.values = torch.empty((2, _BLOCK), dtype=torch.float64, device="cpu")
    return _kept.values


def _wide(t: Any, rank: int) -> Any:
    if isinstance(t, float):
        return t
    missing = rank - t.ndim
    if missing < 2:
        return t.double().unsqueeze(-1) if missing else t.double()
    return t.double().reshape(*t.shape, *(1,) * missing)  # half the time of an index with as many Nones


_FUNCTIONS = Functions(torch.clamp_min, torch.sqrt, torch)  # torch.maximum takes no Python number


def _functions(t: Any) -> Functions:
    return FLOATS if isinstance(t, float) else _FUNCTIONS


class _OnePass(torch.autograd.Function):
    """A formula whose gradients are one more pass: it is linear in its arrays, with coefficients that depend on t.

    So the gradient for the first array is ``formula(grad, 0, t)``, and that for t is the derivative of
    ``formula(sum(grad first), sum(grad second), t)``, with one sum for each element of t. Saved are t, and the arrays
    at their own dtype if t needs a gradient. A backward pass that is to be differentiated is built of the same calls.
    """

    @staticmethod
    def forward(ctx: Any, formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
        ctx.formula = formula
        ctx.time = t if isinstance(t, float) else None
        ctx.coefficients = coefficients(formula)
        wanted = zip((first, second), ctx.needs_input_grad[1:3], ctx.coefficients, strict=True)
        ctx.dtypes = [array.dtype if needed and a != 0 else None for array, needed, a in wanted]
        moving = (ctx.needs_input_grad[3] and a is None for a in ctx.coefficients)
        arrays = [array if moves else None for array, moves in zip((first, second), moving, strict=True)]
        ctx.save_for_backward(*(None if isinstance(a, float) else a for a in (*arrays, t)))
        return _evaluate(formula, first, second, t, dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        first, second, t = ctx.saved_tensors
        time = ctx.time if t is None else t
        dense = _memory_order(grad) is not None
        same = [dense and a == 1 and d == grad.dtype for a, d in zip(ctx.coefficients, ctx.dtypes, strict=True)]
        dtypes = [None if is_grad else dtype for dtype, is_grad in zip(ctx.dtypes, same, strict=True)]
        in_blocks = not torch.is_grad_enabled() and grad.device.type not in _FUSED_ON
        backward = _backward_in_blocks if in_blocks and _fits_one_pass(grad, 0.0, time, grad) else _backward
        gradients, sums = backward(ctx.formula, grad, (first, second), time, dtypes)
        for_first, for_second = (grad if is_grad else x for x, is_grad in zip(gradients, same, strict=True))
        for_t = _time_gradient(ctx.formula, sums, t, grad.ndim) if ctx.needs_input_grad[3] else None
        return None, for_first, for_second, for_t, None


def _backward(formula: Formula, grad: Any, arrays: Any, t: Any, dtypes: Any) -> Any:
    """Gradients for the two arrays, and the float64 sums of ``grad array`` over the axes along which t is constant."""
    gradients = [
        None if dtype is None else _evaluate(formula, x, y, t, dtype)
        for (x, y), dtype in zip(((grad, 0.0), (0.0, grad)), dtypes, strict=True)
    ]
    sums = [0.0 if a is None else (grad * a.double()).sum_to_size(_wide(t, grad.ndim).shape) for a in arrays]
    return gradients, sums


def _backward_in_blocks(formula: Formula, grad: Any, arrays: Any, t: Any, dtypes: Any) -> Any:
    """Do what ``_backward`` does, reading grad from memory once."""
    wide = _wide(t, grad.ndim)
    gradients = [None if dtype is None else torch.empty_like(grad, dtype=dtype) for dtype in dtypes]
    sums = [
        0.0 if array is None else torch.zeros(wide.shape, dtype=torch.float64, device=grad.device) for array in arrays
    ]
    source, time, *others = _permuted(_memory_order(grad), grad, wide, *arrays, *gradients, *sums)
    inputs, outputs, totals = others[:2], others[2:4], others[4:]
    one, two = _scratch()
    for index in blocks(source.shape, _BLOCK):
        now = time if isinstance(time, float) else time[on_singletons(index, time.shape)]
        block = load(source, index, one)
        for array, total in zip(inputs, totals, strict=True):
            if array is not None:
                product = load(array, index, two) * block.values
                part = total[on_singletons(index, total.shape)]
                part += product.values.sum_to_size(part.shape)
        for place, output in enumerate(outputs):
            if output is not None:
                block = block or load(source, index, one)
                x, y = (block, 0.0) if place == 0 else (0.0, block)
                output[index] = formula(x, y, now, _functions(t)).values
                block = None  # overwritten
    return gradients, sums


def _time_gradient(formula: Formula, sums: Any, t: Any, rank: int) -> Any:
    """Derivative of ``formula(*sums, t)`` for t."""
    first, second = sums
    wide = _wide(t, rank)
    slope = formula(first, second, Slope(wide, torch.ones_like(wide)), _SLOPES).slope
    return slope.reshape(t.shape).to(t.dtype)


_SLOPES = slopes(_FUNCTIONS)  # at the floor as clamp_min's own derivative has it


def _permuted(order: Any, *arrays: Any) -> list[Any]:
    return [a.detach().permute(order) if isinstance(a, torch.Tensor) else a for a in arrays]


BACKEND = TorchBackend(torch)

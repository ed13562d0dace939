"""PyTorch: plain tensor methods, which autograd, ``torch.func``, ``torch.compile`` and DTensor all follow.

Large CPU tensors that nothing but autograd watches take one pass in blocks instead, up to 4 MiB of float64 as one
block; ``_fits_one_pass`` decides. Namespaces wrapped by array_api_compat are not used: a tensor method costs a fraction
of a wrapped call.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from types import FunctionType
from typing import Any

import numpy as np
import torch

from fastgen_rf._tracing import fixed
from fastgen_rf._typing import Formula, TimeFormula, TimeMap
from fastgen_rf.arithmetic import FLOATS, Float32, Functions
from fastgen_rf.arithmetic._inplace import Scratch, blocks, evaluate_in_blocks, part
from fastgen_rf.arithmetic._slope import Slope, coefficients
from fastgen_rf.arithmetic._slope import functions as slopes
from fastgen_rf.backends._standard import Backend, Draws, Function, with_trailing_axes
from fastgen_rf.backends._torch_internals import (
    follows,
    guard_or_true,
    in_dispatch_mode,
    in_function_mode,
    is_zero_tensor,
)
from fastgen_rf.backends._torch_tensors import (
    FUNCTIONS,
    double,
    float32,
    found_float64,
    functions,
    index_of,
    is_stubborn,
    leading,
    loaded,
    memory_order,
    named_device,
    needs_gradient,
    permuted,
    placed,
    savable,
    summed,
    taken,
    uniform,
    widened,
)

_CPU = torch.device("cpu")
_PACKED = getattr(torch, "float4_e2m1fn_x2", None)  # from torch 2.8 on; an element is two numbers
_BLOCK = 2**18  # elements: two float64 scratch blocks of 2 MiB stay in cache
_WHOLE = 2**19  # elements up to which an array is one block: a second one would cost more than the cache saves
_LEAST = 2**18  # below this many elements the plain expression is as fast
_LEAST_ON_DEVICE = 2**17  # the same there, where t needs a gradient
_FUSED_ON = ("cuda",)  # device types where one kernel evaluates a formula; ROCm's devices are called cuda, too
_KERNEL_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class TorchBackend(Backend):
    """Tensors on any device; float64 is emulated on those that have none (MPS)."""

    generator = "torch.Generator"

    def is_floating(self, dtype: Any) -> bool:
        return isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype is not _PACKED

    def device(self, array: Any) -> torch.device:
        device: torch.device = array.device
        return device

    def share_device(self, array: Any, other: Any) -> bool:
        """Whether torch computes with the two: a number on the CPU goes with tensors anywhere."""
        return bool(array.device == other.device or (not other.ndim and other.device.type == "cpu"))

    def same_shape(self, shape: Any, other: Any) -> bool:
        if not torch.compiler.is_compiling() or len(shape) != len(other):
            return bool(shape == other)
        for n, m in zip(shape, other, strict=True):
            if not guard_or_true(n == m):
                return False
            torch._check(n == m)  # type: ignore[no-untyped-call]  # of sizes that are not known until the call, it makes an assertion then
        return True

    def agree(self, first: Any, second: Any, t: Any) -> bool:
        kind, device, shape = type(first), first.device, first.shape
        return bool(
            type(second) is kind
            and type(t) is kind
            and second.dtype.is_floating_point
            and t.dtype.is_floating_point
            and second.device == device
            and t.device == device
            and not torch.compiler.is_compiling()
            and second.shape == shape
            and t.shape == shape[: t.ndim]
        )

    def known_number(self, t: Any, like: Any) -> Any:
        symbolic: Any = t  # torch's stubs take no SymFloat
        return torch.full((), symbolic, dtype=torch.float64, device=like.device) if isinstance(t, torch.SymFloat) else t

    def has_float64(self, device: Any) -> bool:
        return bool(device == _CPU or device.type in ("cuda", "meta", "cpu") or found_float64(device))

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
        return FUNCTIONS

    @property
    def float32(self) -> Float32:
        return float32()

    def complement(self, t: Any) -> Any:
        return (1 - (t.float() if t.dtype.itemsize == 1 else t)).to(t.dtype)  # float8 has no arithmetic

    def evaluate(self, formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
        device = first.device
        if not self.has_float64(device):
            # Dynamo would compute with a float t that differs from call to call in float32.
            return super().evaluate(formula, first, second, fixed(t), dtype)
        if type(t) is not float and t.device != device:
            t = placed(t, device)
        return _evaluate(formula, first, second, t, dtype)

    def relative_time(self, formula: TimeFormula, t: Any, t_next: Any, rank: int) -> Any:
        numbers = [type(time) is float for time in (t, t_next)]
        if all(numbers):
            return super().relative_time(formula, t, t_next, rank)
        device = t_next.device if numbers[0] or (t.device.type == "cpu" and not numbers[1]) else t.device
        if not self.has_float64(device):
            return super().relative_time(formula, fixed(t), fixed(t_next), rank)
        wide: list[Any] = [
            time if type(time) is float else widened(placed(time, device), rank, copy=True) for time in (t, t_next)
        ]
        if any(numbers):  # torch divides a number by a tensor, and on CUDA a tensor by a number, in two roundings
            number, other = wide if numbers[0] else wide[::-1]
            wide[0 if numbers[0] else 1] = torch.full_like(other, number)
        return formula(wide[0], wide[1], FUNCTIONS)

    def relabel(self, formula: TimeMap, time: Any) -> Any:
        label = self._label(formula, time)  # torch never warns, and dynamo traces no errstate of NumPy's
        return self.astype(label, time.dtype)

    def finfo(self, dtype: Any) -> tuple[float, float]:
        eps, tiny = super().finfo(dtype)
        return (0.25 if dtype == torch.float8_e5m2fnuz else eps), tiny  # torch says 0.125; it has two fraction bits

    def check_rng(self, rng: Any) -> None:
        if rng is not None and not isinstance(rng, torch.Generator):
            raise TypeError(
                f"rng must be a torch.Generator, a numpy.random.Generator, an int or None, got {type(rng).__name__}"
            )

    def draw(self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any) -> tuple[Any, ...]:
        device = rng.device if device is None and isinstance(rng, torch.Generator) else named_device(device)
        # Before torch 2.13, Dynamo hashes a frozen object that it calls, and fails if the trace has made the object.
        draw = draws.__call__
        if isinstance(rng, int):
            # torch's generators ignore further bits of a seed.
            if rng >> (32 if device.type == "cpu" else 64):
                return self.sample(shape, draws, np.random.default_rng(rng), device, dtype)
            rng = torch.Generator(device).manual_seed(rng)
        if rng is None:
            # With generator=None, torch.compile does not support an n that changes from call to call.
            options: dict[str, Any] = {}
        elif rng.device.type != device.type or device.index not in (None, rng.device.index or 0):
            raise ValueError(f"rng and device must agree, got a generator on {rng.device} and device {device}")
        else:
            options = {"generator": rng}
        u = uniform(draws.shape(math.prod(shape)), device, self.has_float64(device), options)
        # An index takes one operation here, and ten in the arithmetic that all frameworks have.
        drawn = draw(u, torch, torch.special) if draws.boundaries is None else (index_of(u, draws.boundaries),)
        # In a batch of 8, a call that changes nothing takes 1 us of 20.
        drawn = tuple([t.to(dtype) if u.device == device else t.to(dtype).to(device) for t in drawn])
        return drawn if len(shape) == 1 else tuple([t.reshape(shape) for t in drawn])

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        return torch.as_tensor(values, device="cpu").to(dtype).to(named_device(device))

    def take(self, values: tuple[float, ...], index: Any, dtype: Any) -> Any:
        return taken(values, index, dtype)

    def map(self, function: Function, array: Any, name: str, special: bool = False) -> Any:
        if not self.has_float64(array.device):
            return super().map(function, array, name)  # torch has special functions
        call: Any = function.__call__  # type: ignore[operator]  # as in draw
        return self.astype(call(array.double(), torch, torch.special), array.dtype)


def _evaluate(formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
    """Evaluate ``formula`` in float64; one of the arrays may be the float 0.0, as it is in a gradient."""
    like = second if type(first) is float else first
    if torch.compiler.is_compiling():
        return _evaluate_plainly(formula, first, second, t, dtype, recorded=False)
    recorded = torch.is_grad_enabled()
    if like.is_cpu and like.numel() < _LEAST and "cpu" not in _FUSED_ON:  # but in the tests of kernels
        return _evaluate_plainly(formula, first, second, t, dtype, recorded)
    recorded = recorded and (needs_gradient(first) or needs_gradient(second) or needs_gradient(t))
    if not _fits_one_pass(formula, first, second, t, like):
        return _evaluate_plainly(formula, first, second, t, dtype, recorded)
    if recorded:  # under a dispatch mode, too: what is saved depends on nothing that may change till then
        time = t if type(t) is float else widened(t, like.ndim, copy=True)
        return _OnePass.apply(formula, first, second, time, dtype)  # type: ignore[no-untyped-call]  # torch's own stub
    return _evaluate_in_one_pass(formula, first, second, t, dtype)


def _evaluate_in_one_pass(formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
    """Evaluate ``formula`` in one kernel, in one block or in several, but where a mode is to see the operations."""
    like = second if type(first) is float else first
    fused = like.device.type in _FUSED_ON
    if in_dispatch_mode() or (in_function_mode() and not fused):
        return _evaluate_plainly(formula, first, second, t, dtype, recorded=False)
    if fused:
        return _evaluate_in_one_kernel(formula, first, second, t, like, dtype)
    wide, fn = widened(t, like.ndim), functions(t)
    with _kept.taken(_make_scratch) as (one, two):
        if like.numel() <= _WHOLE:
            strides = like.stride()
            x, y = loaded(first, one, strides), loaded(second, two, strides)
            return formula(x, y, wide, fn).values.to(dtype=dtype, copy=True)
        out = torch.empty_like(like, dtype=dtype)
        first, second, wide, target = permuted(memory_order(like), first, second, wide, out)
        evaluate_in_blocks(formula, first, second, wide, target, (one[:_BLOCK], two[:_BLOCK]), fn, loaded)
    return out


def _evaluate_plainly(formula: Formula, first: Any, second: Any, t: Any, dtype: Any, recorded: bool) -> Any:
    """Evaluate ``formula`` by tensor operations. What autograd saves of t and of inference tensors is a copy."""
    like = second if type(first) is float else first
    fn, number = FUNCTIONS, True
    if type(t) is not float:
        wide, number = widened(t, like.ndim, copy=recorded), not t.ndim
    elif like.device.type == "cpu":
        wide, fn = t, FLOATS
    else:  # CUDA would multiply by the reciprocal of a number
        wide = like.new_full((), t, dtype=torch.float64)
    if number or is_stubborn(first, recorded):
        first = double(first, copy=recorded)  # else the float64 t, or second, promotes first where the two meet
    call: Any = formula if isinstance(formula, FunctionType) else formula.__call__  # type: ignore[operator]  # see draw
    return call(first, double(second, copy=recorded), wide, fn).to(dtype=dtype)  # half the time of a positional dtype


def _evaluate_in_one_kernel(formula: Formula, first: Any, second: Any, t: Any, like: Any, dtype: Any) -> Any:
    """Evaluate ``formula`` in one kernel or, on a device where that turns out to fail, by the plain expression."""
    from fastgen_rf.backends import _triton

    out = torch.empty_like(like, dtype=dtype)
    inner = like.numel()
    time = t
    if type(t) is not float:
        order: Any = memory_order(like)
        lead = leading(t, order)
        copies = math.prod(like.shape[axis] for axis in order[:lead])
        inner //= copies
        if not t.is_contiguous() or t.numel() != copies or (lead > 1 and not like.is_contiguous()):
            sizes = [like.shape[axis] if place < lead else 1 for place, axis in enumerate(order)]
            time = with_trailing_axes(t, like.ndim).permute(order).expand(sizes).contiguous()
    try:
        _triton.launch(formula, first, second, time, inner, out)
    except Exception as error:  # Triton needs a C compiler and a driver that fits, and each fails in its own way
        if "out of memory" in str(error):  # Triton has no class for its own
            raise  # the plain expression takes more
        if like.device.type == "cpu" or not torch.cuda.is_current_stream_capturing():  # what a capture forbids may pass
            _serves[like.device] = False
            message = f"Triton failed on {like.device}; using plain tensor operations instead: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return _evaluate_plainly(formula, first, second, t, dtype, recorded=False)
    return out


def _fits_one_pass(
    formula: Formula, first: Any, second: Any, t: Any, like: Any, order: list[int] | None = None
) -> bool:
    """Whether one pass applies: tensors of one dense layout that nothing but autograd and dispatch modes watch.

    On the CPU large ones, in blocks; on CUDA any that a kernel can read.
    """
    kind = like.device.type
    return bool(
        (kind in _FUSED_ON or (kind == "cpu" and like.numel() >= _LEAST))
        and type(first) in _PLAIN
        and type(second) in _PLAIN
        and type(t) in _PLAIN
        and like.layout is torch.strided
        and (type(first) is float or type(second) is float or first.stride() == second.stride())
        and not follows(first, second, t)
        and (order := order or memory_order(like)) is not None
        and (kind not in _FUSED_ON or _fits_one_kernel(formula, first, second, t, like, order))
    )


def _fits_one_kernel(formula: Formula, first: Any, second: Any, t: Any, like: Any, order: list[int]) -> bool:
    """Whether a kernel can read these: it knows memory as bytes, and t as one value for so many elements in a row.

    A t on inner axes is repeated to make it so, if that takes little beside the arrays. A formula that holds numbers of
    its own, as a shift does, would be compiled for each of their values; it is evaluated on times, which are few.
    """
    if not isinstance(formula, FunctionType):
        return False
    for array in (first, second, t):
        if type(array) is not float and (array.dtype not in _KERNEL_DTYPES or array.is_neg() or is_zero_tensor(array)):
            return False
    if type(t) is not float:
        copies = math.prod(like.shape[axis] for axis in order[: leading(t, order)])
        if copies != t.numel() and 8 * copies > like.numel():
            return False
        if t.requires_grad and torch.is_grad_enabled() and like.numel() < _LEAST_ON_DEVICE:
            return False  # the gradient of t takes some twenty small kernels, more than autograd's
    return like.numel() > 0 and _has_kernels(like.device)


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


_kept = Scratch()


def _make_scratch() -> Any:
    # Two tensors instead of one with two rows: Tensor.__iter__ would take several microseconds in each call.
    with torch.inference_mode(False):  # an inference tensor could not be written to outside of that mode
        return torch.empty((2, _WHOLE), dtype=torch.float64, device="cpu").unbind()


class _OnePass(torch.autograd.Function):
    """A formula whose gradients are one more pass: it is linear in its arrays, with coefficients that depend on t.

    So the gradient for the first array is ``formula(grad, 0, t)``, or ``grad formula(1, 0, t)``, and that for t is the
    derivative of ``formula(sum(grad first), sum(grad second), t)``, with one sum for each element of t. Saved are t,
    which comes as a float64 copy that nobody else knows, and the arrays at their own dtype if t needs a gradient. A
    backward pass that is to be differentiated is built of the same calls.
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
        ctx.save_for_backward(*(savable(array) for array in (*arrays, t)))
        return _evaluate_in_one_pass(formula, first, second, t, dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        first, second, t = ctx.saved_tensors
        time = ctx.time if t is None else t
        dense = memory_order(grad) is not None
        same = [dense and a == 1 and d == grad.dtype for a, d in zip(ctx.coefficients, ctx.dtypes, strict=True)]
        dtypes = [None if is_grad else dtype for dtype, is_grad in zip(ctx.dtypes, same, strict=True)]
        if not dense and grad.device.type in _FUSED_ON:
            grad = grad.clone()  # a kernel reads dense memory alone: one array more, for several in float64
        like = grad if dense else torch.empty_like(grad, device="meta")  # expanded by a sum, most often
        in_blocks = not torch.is_grad_enabled() and grad.device.type not in _FUSED_ON
        unwatched = in_blocks and not in_dispatch_mode()
        if unwatched and _fits_one_pass(ctx.formula, grad, 0.0, time, grad, memory_order(like)):
            gradients, sums = _backward_in_blocks(ctx.formula, grad, like, (first, second), time, dtypes)
        else:
            gradients, sums = _backward(ctx.formula, grad, (first, second), time, dtypes)
        for_first, for_second = (grad if is_grad else x for x, is_grad in zip(gradients, same, strict=True))
        for_t = _time_gradient(ctx.formula, sums, t) if ctx.needs_input_grad[3] else None
        return None, for_first, for_second, for_t, None


def _backward(formula: Formula, grad: Any, arrays: Any, t: Any, dtypes: Any) -> Any:
    """Gradients for the two arrays, and the float64 sums of ``grad array`` over the axes along which t is constant."""
    gradients = [
        None if dtype is None else _evaluate(formula, x, y, t, dtype)
        for (x, y), dtype in zip(((grad, 0.0), (0.0, grad)), dtypes, strict=True)
    ]
    return gradients, [0.0 if array is None else summed(grad, array, t.shape) for array in arrays]


def _backward_in_blocks(formula: Formula, grad: Any, like: Any, arrays: Any, t: Any, dtypes: Any) -> Any:
    """Do what ``_backward`` does in one pass, by the arrays' coefficients, in the layout of a dense ``like``."""
    gradients = [None if dtype is None else torch.empty_like(grad, dtype=dtype) for dtype in dtypes]
    sums = [0.0 if array is None else torch.zeros_like(t) for array in arrays]
    order = memory_order(like)
    source, layout, time = permuted(order, grad, like, t)
    inputs, outputs, totals = (permuted(order, *those) for those in (arrays, gradients, sums))
    fn = functions(t)
    units = [unit for unit in zip(((1.0, 0.0), (0.0, 1.0)), outputs, strict=True) if unit[1] is not None]
    with _kept.taken(_make_scratch) as (one, two):
        for index in blocks(source.shape, _WHOLE if grad.numel() <= _WHOLE else _BLOCK):
            strides = layout[index].stride()
            block = loaded(source[index], one, strides)
            for array, total in zip(inputs, totals, strict=True):
                if array is not None:
                    product = loaded(array[index], two, strides) * block.values
                    here = part(total, index)
                    here += product.values.sum_to_size(here.shape)
            wide = block.values
            for unit, output in units:
                # The last product overwrites the loaded gradient. One before it goes to the other scratch block:
                # loading the gradient a second time takes 3 to 8 % of a call.
                scaled = wide if output is units[-1][1] else two.as_strided(wide.shape, strides)
                output[index] = torch.mul(wide, formula(*unit, part(time, index), fn), out=scaled)
    return gradients, sums


def _time_gradient(formula: Formula, sums: Any, t: Any) -> Any:
    """Derivative of ``formula(*sums, t)`` for t."""
    first, second = sums
    return formula(first, second, Slope(t, torch.ones_like(t)), _SLOPES).slope


_SLOPES = slopes(FUNCTIONS)  # at the floor as clamp's own derivative has it


BACKEND = TorchBackend(torch)

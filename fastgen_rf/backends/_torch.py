"""PyTorch: plain tensor methods, which autograd, ``torch.func``, ``torch.compile`` and DTensor all follow.

Large CPU tensors that nothing but autograd watches take one pass in blocks instead, up to 4 MiB of float64 as one
block; ``_fits_one_pass`` decides. Namespaces wrapped by array_api_compat are not used: a tensor method costs a fraction
of a wrapped call.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastgen_rf._tracing import fixed
from fastgen_rf.arithmetic import FLOATS, Float32, Formula, Ops, TimeMap, gradient
from fastgen_rf.arithmetic._inplace import Scratch, blocks, fill_in_blocks, part
from fastgen_rf.arithmetic._slope import Slope, slope_ops
from fastgen_rf.backends._standard import Backend, Draws, Elementwise, with_trailing_axes
from fastgen_rf.backends._torch_internals import (
    follows,
    guard_or_true,
    in_dispatch_mode,
    in_function_mode,
    is_zero_tensor,
)
from fastgen_rf.backends._torch_tensors import (
    OPS,
    both_or_none,
    double,
    float32,
    found_float64,
    index_of,
    is_stubborn,
    leading,
    loaded,
    memory_order,
    named_device,
    needs_gradient,
    ops_of,
    permuted,
    placed,
    savable,
    summed,
    table,
    widened,
)

_CPU = torch.device("cpu")
_PACKED = getattr(torch, "float4_e2m1fn_x2", None)  # from torch 2.8 on; an element is two numbers
_BLOCK = 2**18  # elements: two float64 scratch blocks of 2 MiB stay in cache
_WHOLE = 2**19  # elements up to which an array is one block: a second one would cost more than the cache saves
_LEAST = 2**18  # below this many elements the plain expression is as fast
# Elements from which a kernel pays on a GPU if gradients are recorded. With those of both arrays a call takes 177 us of
# Python time, the recorded operations 67 us (measured on a CPU, with a launch that does nothing).
_LEAST_RECORDED = 2**20
_LEAST_SUMMED = 2**10  # elements for each element of t: a block of the kernel that sums products
_FUSED_ON = ("cuda",)  # device types where one kernel evaluates a formula; ROCm's devices are called cuda, too
_KERNEL_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class TorchBackend(Backend):
    """Tensors on any device; float64 is emulated on those that have none (MPS)."""

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

    def has_float64(self, device: Any) -> bool:
        return bool(device == _CPU or device.type in ("cuda", "meta", "cpu") or found_float64(device))

    def devices(self) -> list[Any]:
        found = [torch.device("cpu")]
        if torch.accelerator.is_available():
            kind = str(torch.accelerator.current_accelerator())
            found += [torch.device(kind, index) for index in range(torch.accelerator.device_count())]
        return found

    def astype(self, array: Any, dtype: Any) -> Any:
        return array.to(dtype)

    def permute(self, array: Any, order: Sequence[int]) -> Any:
        return array.permute(*order)

    @property
    def _ops(self) -> Ops:
        return OPS

    @property
    def _float32(self) -> Float32:
        return float32()

    def complement(self, t: Any) -> Any:
        return (1 - (t.float() if t.dtype.itemsize == 1 else t)).to(t.dtype)  # float8 has no arithmetic

    def evaluate(self, formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
        first = arrays[0]
        device = first.device
        if not self.has_float64(device):
            # Dynamo would compute with a float t that differs from call to call in float32.
            return super().evaluate(formula, arrays, [fixed(t) for t in times], dtype)
        for t in times:
            if type(t) is not float and t.device != device:
                times = [t if type(t) is float else placed(t, device) for t in times]
                break
        if len(times) == 2:
            times = both_or_none(*times)
        if torch.compiler.is_compiling():
            return _by_operations(formula, arrays, times, dtype, recorded=False)
        if first.is_cpu and first.numel() < _LEAST:
            return _by_operations(formula, arrays, times, dtype, torch.is_grad_enabled())
        return _evaluate_large(formula, arrays, times, dtype)

    def map_times(self, function: TimeMap, time: Any, other: Any = None) -> Any:
        # Torch never warns, and Dynamo cannot trace the errstate of NumPy.
        return self.astype(self._mapped(function, time, other), time.dtype)

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
        draw = draws.__call__  # before 2.13 dynamo hashes, and finds empty, a frozen object made in its trace
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
            u = torch.rand(size, dtype=torch.float64, device=device, **options)
        else:
            bits = torch.randint(2**24, (2, *size), dtype=torch.int32, device=device, **options).cpu().double()
            u = bits[0] * 2.0**-24 + bits[1] * 2.0**-48
        # An index takes one operation here, and ten in the arithmetic that all frameworks have.
        boundaries = draws.boundaries
        drawn = draw(u, torch, torch.special) if boundaries is None else (index_of(u, boundaries),)
        # In a batch of 8, a call that changes nothing takes 1 us of 20.
        drawn = tuple([t.to(dtype) for t in drawn])
        if u.device != device:
            drawn = tuple([t.to(device) for t in drawn])
        return drawn if len(shape) == 1 else tuple([t.reshape(shape) for t in drawn])

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        return torch.as_tensor(values, device="cpu").to(dtype).to(named_device(device))

    def take(self, values: tuple[float, ...], index: Any, dtype: Any) -> Any:
        # float32 holds every value of a narrower dtype, and indexing does not exist for each of those.
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return self.astype(table(values, wide, index.device)[index], dtype)

    def map(self, function: Elementwise, array: Any, name: str, special: bool = False) -> Any:
        if not self.has_float64(array.device):
            return super().map(function, array, name)  # torch has special functions
        call: Any = function.__call__  # type: ignore[operator]  # as in draw
        return self.astype(call(array.double(), torch, torch.special), array.dtype)


def _evaluate_large(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
    """Evaluate ``formula`` in one pass over memory where that applies, otherwise by tensor operations."""
    first = arrays[0]
    recorded = torch.is_grad_enabled() and any(needs_gradient(x) for x in (*arrays, *times))
    small = recorded and first.device.type in _FUSED_ON and first.numel() < _LEAST_RECORDED
    if small or not _fits_one_pass(arrays, times):
        return _by_operations(formula, arrays, times, dtype, recorded)
    if len(times) == 2 and type(times[0]) is not float:
        # A gradient has one sum for each element of the times, so both need one shape.
        times = torch.broadcast_tensors(*[widened(t, first.ndim) for t in times])  # type: ignore[no-untyped-call]
    if recorded:
        # Even under a dispatch mode: the saved times must be copies that nobody modifies before the backward pass.
        times = [t if type(t) is float else widened(t, first.ndim, copy=True) for t in times]
        return _OnePass.apply(formula, dtype, len(arrays), *arrays, *times)  # type: ignore[no-untyped-call]
    return _in_one_pass(formula, arrays, times, dtype)


def _in_one_pass(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
    """Evaluate ``formula`` in one kernel or in blocks, or by tensor operations if a mode must see these."""
    first = arrays[0]
    fused = first.device.type in _FUSED_ON
    if in_dispatch_mode() or (in_function_mode() and not fused):
        return _by_operations(formula, arrays, times, dtype, recorded=False)
    if fused:
        return _in_one_kernel(formula, arrays, times, dtype)
    wide = [widened(t, first.ndim) for t in times]
    ops = ops_of(*wide)
    with _kept.taken(_make_scratch) as scratch:
        if first.numel() <= _WHOLE:
            strides = first.stride()
            loads = [loaded(array, held, strides) for array, held in zip(arrays, scratch, strict=False)]
            return formula.function(*loads, *wide, ops).values.to(dtype=dtype, copy=True)
        out = torch.empty_like(first, dtype=dtype)
        order = memory_order(first)
        *blocked, target = permuted(order, *arrays, out)
        scratch = [held[:_BLOCK] for held in scratch]
        fill_in_blocks(formula, blocked, permuted(order, *wide), target, scratch, ops, loaded)
    return out


def _by_operations(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any, recorded: bool) -> Any:
    """Evaluate ``formula`` by tensor operations. Autograd saves copies of the times and of inference tensors."""
    first = arrays[0]
    rank, wide, ops, promotes = first.ndim, [], FLOATS, False
    for t in times:
        if type(t) is not float:
            promotes = promotes or t.ndim > 0
            t, ops = widened(t, rank, copy=recorded), OPS
        elif not first.is_cpu:
            # CUDA would multiply by the reciprocal of a number.
            t, ops = first.new_full((), t, dtype=torch.float64), OPS
        wide.append(t)
    operands = list(arrays)
    # Float64 times promote the first array where the two meet, which saves its cast.
    for place in range(1 if promotes and not is_stubborn(first, recorded) else 0, len(operands)):
        operands[place] = double(operands[place], copy=recorded)
    # A keyword dtype takes half the time of a positional one.
    return formula.function(*operands, *wide, ops).to(dtype=dtype)


def _in_one_kernel(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
    """Evaluate ``formula`` in one kernel. On a device where that fails, use tensor operations from then on."""
    from fastgen_rf.backends import _triton

    first = arrays[0]
    out = torch.empty_like(first, dtype=dtype)
    inner = first.numel()
    runs = times
    if type(times[0]) is not float:
        order: Any = memory_order(first)
        lead = max(leading(t, order) for t in times)
        copies = math.prod(first.shape[axis] for axis in order[:lead])
        inner //= copies
        sizes = [first.shape[axis] if place < lead else 1 for place, axis in enumerate(order)]
        runs = [
            t
            if t.is_contiguous() and t.numel() == copies and (lead <= 1 or first.is_contiguous())
            else with_trailing_axes(t, first.ndim).permute(order).expand(sizes).contiguous()
            for t in times
        ]
    try:
        _triton.launch(formula, arrays, runs, inner, out)
    # Triton needs a C compiler and a matching driver, and each of them fails with an exception of its own.
    except Exception as error:
        _report_failure(first, error)
        return _by_operations(formula, arrays, times, dtype, recorded=False)
    return out


def _report_failure(tensor: Any, error: Exception) -> None:
    """Warn that a kernel failed and disable the kernels on this device; raise the error again if memory ran out."""
    if "out of memory" in str(error):
        # Triton has no exception class for this. Tensor operations would need more memory.
        raise error
    # A capture forbids some calls, so a failure during a capture does not disable the kernels.
    if not (tensor.is_cuda and torch.cuda.is_current_stream_capturing()):
        _serves[tensor.device] = False
        message = f"Triton failed on {tensor.device}; using plain tensor operations instead: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _fits_one_pass(arrays: Sequence[Any], times: Sequence[Any], order: list[int] | None = None) -> bool:
    """Whether one pass applies: tensors of one dense layout that only autograd and dispatch modes watch.

    It applies to large tensors on the CPU and to all tensors on CUDA that a kernel can read.
    """
    first = arrays[0]
    kind = first.device.type
    return bool(
        (kind in _FUSED_ON or (kind == "cpu" and first.numel() >= _LEAST))
        and all(type(x) in _PLAIN for x in (*arrays, *times))
        and first.layout is torch.strided
        and all(array.stride() == first.stride() for array in arrays[1:])
        and not follows(*arrays, *times)
        and (order := order or memory_order(first)) is not None
        and (kind not in _FUSED_ON or _fits_one_kernel(arrays, times, order))
    )


def _fits_one_kernel(arrays: Sequence[Any], times: Sequence[Any], order: list[int]) -> bool:
    """Whether a kernel can read the tensors: it reads bytes, and one value of a time for a run of elements.

    A time on inner axes is repeated to that end, if that takes little memory compared to the arrays.
    """
    like = arrays[0]
    tensors = [x for x in (*arrays, *times) if type(x) is not float]
    if any(x.dtype not in _KERNEL_DTYPES or x.is_neg() or is_zero_tensor(x) for x in tensors):
        return False
    for t in times:
        if type(t) is float:
            continue
        copies = math.prod(like.shape[axis] for axis in order[: leading(t, order)])
        if copies != t.numel() and 8 * copies > like.numel():
            return False
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


# No other subclass: its data may be anywhere, and its operators may do anything.
_PLAIN = (float, torch.Tensor, torch.nn.Parameter)


_kept = Scratch()


def _make_scratch() -> Any:
    # Two tensors instead of one with two rows: Tensor.__iter__ would take several microseconds in each call.
    with torch.inference_mode(False):  # an inference tensor could not be written to outside of that mode
        return torch.empty((2, _WHOLE), dtype=torch.float64, device="cpu").unbind()


class _OnePass(torch.autograd.Function):
    """A formula with a backward pass that is one more pass over memory.

    A formula is linear in its arrays, so the gradient of an array is the incoming gradient times a coefficient, which
    depends on the times alone. The gradient of a time is the derivative of the formula, evaluated on the sums of
    ``grad * array``, one sum for each element of the time. Saved are the times, as float64 copies, and the arrays at
    their own dtype if a time needs a gradient. A backward pass that is itself differentiated is made of the same calls.
    """

    @staticmethod
    def forward(ctx: Any, formula: Formula, dtype: Any, count: int, *operands: Any) -> Any:
        arrays, times = operands[:count], operands[count:]
        needs = ctx.needs_input_grad[3:]
        ctx.formula = formula
        ctx.times = [t if type(t) is float else None for t in times]
        ctx.dtypes = [array.dtype if needed else None for array, needed in zip(arrays, needs, strict=False)]
        ctx.time_needs = needs[count:]
        moving = [any(ctx.time_needs) and constant is None for constant in formula.constants]
        kept = [array if moves else None for array, moves in zip(arrays, moving, strict=True)]
        ctx.save_for_backward(*(savable(x) for x in (*kept, *times)))
        return _in_one_pass(formula, arrays, times, dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        formula, count = ctx.formula, len(ctx.dtypes)
        # Read once: under a checkpoint, each access recomputes the forward pass.
        saved = ctx.saved_tensors
        arrays = saved[:count]
        times = [number if t is None else t for t, number in zip(saved[count:], ctx.times, strict=True)]
        dense = memory_order(grad) is not None
        # Where the coefficient is 1, the incoming gradient itself is the result.
        passed = [dense and a == 1 and d == grad.dtype for a, d in zip(formula.constants, ctx.dtypes, strict=True)]
        dtypes = [None if as_is else dtype for dtype, as_is in zip(ctx.dtypes, passed, strict=True)]
        if not dense and grad.device.type in _FUSED_ON:
            # A kernel reads dense memory only. This takes one more array, in place of several in float64.
            grad = grad.clone()
        # A gradient that is not dense is most often one that a sum has expanded.
        like = grad if dense else torch.empty_like(grad, device="meta")
        in_blocks = not torch.is_grad_enabled() and grad.device.type not in _FUSED_ON and not in_dispatch_mode()
        if in_blocks and _fits_one_pass((grad,), times, memory_order(like)):
            gradients, sums = _backward_in_blocks(formula, grad, like, arrays, times, dtypes)
        else:
            gradients, sums = _backward(formula, grad, arrays, times, dtypes)
        of_arrays = [grad if as_is else x for x, as_is in zip(gradients, passed, strict=True)]
        of_times = [
            _time_gradient(formula, sums, times, place) if needed else None
            for place, needed in enumerate(ctx.time_needs)
        ]
        return None, None, None, *of_arrays, *of_times


def _backward(formula: Formula, grad: Any, arrays: Any, times: Any, dtypes: Any) -> Any:
    """Gradients of the arrays, and the float64 sums of ``grad * array`` over the axes along which the times repeat."""
    gradients = [
        None if dtype is None else _evaluate_large(gradient(formula, place), (grad,), times, dtype)
        for place, dtype in enumerate(dtypes)
    ]
    return gradients, _sums(grad, arrays, times[0])


def _sums(grad: Any, arrays: Any, t: Any) -> list[Any]:
    """Float64 sums of ``grad * array`` over the axes along which the time repeats; 0.0 for an array that is None."""
    given = [array for array in arrays if array is not None]
    if given and grad.device.type in _FUSED_ON and not torch.is_grad_enabled() and not in_dispatch_mode():
        inner = grad.numel() // t.numel()
        # Short rows would leave most lanes of a kernel idle.
        if inner >= _LEAST_SUMMED and _fits_one_pass((grad, *given), (t,)) and _repeats_in_runs(t, grad):
            from fastgen_rf.backends import _triton

            try:
                sums = _triton.sum_products(grad, arrays, inner)
            except Exception as error:
                _report_failure(grad, error)
            else:
                return [0.0 if total is None else total.view(t.shape) for total in sums]
    return [0.0 if array is None else summed(grad, array, t.shape) for array in arrays]


def _repeats_in_runs(t: Any, like: Any) -> bool:
    """Whether each element of a time belongs to one run of elements in memory, in the order of the time."""
    order: Any = memory_order(like)
    lead = leading(t, order)
    return math.prod(like.shape[axis] for axis in order[:lead]) == t.numel() and (lead <= 1 or like.is_contiguous())


def _backward_in_blocks(formula: Formula, grad: Any, like: Any, arrays: Any, times: Any, dtypes: Any) -> Any:
    """Do the same as ``_backward`` in one pass, with the coefficients of the arrays, in the layout of ``like``."""
    gradients = [None if dtype is None else torch.empty_like(grad, dtype=dtype) for dtype in dtypes]
    sums = [0.0 if array is None else torch.zeros_like(times[0]) for array in arrays]
    order = memory_order(like)
    source, layout, *blocked = permuted(order, grad, like, *times)
    inputs, outputs, totals = (permuted(order, *those) for those in (arrays, gradients, sums))
    ops = ops_of(*times)
    count = len(outputs)
    units = [
        ([float(at == place) for at in range(count)], output)
        for place, output in enumerate(outputs)
        if output is not None
    ]
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
            here_times = [part(t, index) for t in blocked]
            for unit, output in units:
                # The last product overwrites the loaded gradient. One before it goes to the other scratch block:
                # loading the gradient a second time takes 3 to 8 % of a call.
                scaled = wide if output is units[-1][1] else two.as_strided(wide.shape, strides)
                output[index] = torch.mul(wide, formula.function(*unit, *here_times, ops), out=scaled)
    return gradients, sums


def _time_gradient(formula: Formula, sums: Any, times: Any, place: int) -> Any:
    """Derivative of ``formula`` of the sums in the time at ``place``."""
    slopes = [Slope(t, torch.ones_like(t)) if at == place else t for at, t in enumerate(times)]
    return formula.function(*sums, *slopes, _SLOPE_OPS).slope


# At the floor, the derivative of the maximum is that of clamp.
_SLOPE_OPS = slope_ops(OPS)


BACKEND = TorchBackend(torch)

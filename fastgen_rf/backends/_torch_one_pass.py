"""PyTorch in one pass over memory: large CPU tensors in cache-sized blocks, CUDA tensors in one Triton kernel.

The plain expression, :func:`by_operations`, is in this file too, because every path that does not apply ends there.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from fastgen_rf.arithmetic import FLOATS, Formula, gradient
from fastgen_rf.arithmetic._inplace import blocks, part
from fastgen_rf.arithmetic._slope import Slope, slope_ops
from fastgen_rf.backends import _torch_internals as internals
from fastgen_rf.backends._standard import with_trailing_axes
from fastgen_rf.backends._torch_inplace import WHOLE, loaded, scratch_tensors
from fastgen_rf.backends._torch_tensors import OPS, summed, widened

# Elements of a block. Two float64 scratch blocks of 2 MiB stay in the cache.
_BLOCK = 2**18
# On the CPU, the plain expression is as fast below this number of elements.
LEAST = 2**18
# Elements from which a kernel pays on a GPU if gradients are recorded. With gradients of both arrays, a call through
# the kernel takes 177 us of Python time, and the operations of autograd take 67 us (measured on a CPU, with a launch
# that does nothing).
_LEAST_RECORDED = 2**20
# Least number of elements for each element of t for the kernel that sums products: one block of that kernel.
_LEAST_SUMMED = 2**10
# Types of devices on which one kernel evaluates a formula. The devices of ROCm are called cuda as well.
_FUSED_ON = ("cuda",)
_KERNEL_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def evaluate(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
    """Evaluate ``formula`` in one pass over memory where that applies, otherwise by tensor operations.

    The arrays are not on the CPU, or have at least ``LEAST`` elements.
    """
    first = arrays[0]
    recorded = torch.is_grad_enabled() and any(type(x) is not float and x.requires_grad for x in (*arrays, *times))
    small = recorded and first.device.type in _FUSED_ON and first.numel() < _LEAST_RECORDED
    if small or not _fits_one_pass(arrays, times):
        return by_operations(formula, arrays, times, dtype, recorded)
    if len(times) == 2 and type(times[0]) is not float:
        # A gradient has one sum for each element of the times, so both need one shape.
        times = torch.broadcast_tensors(*[widened(t, first.ndim) for t in times])  # type: ignore[no-untyped-call]
    if recorded:
        # Even under a dispatch mode: the saved times must be copies that nobody modifies before the backward pass.
        times = [widened(t, first.ndim, copy=True) for t in times]
        return _OnePass.apply(formula, dtype, len(arrays), *arrays, *times)  # type: ignore[no-untyped-call]
    return _dispatch(formula, arrays, times, dtype)


def _dispatch(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
    """Evaluate ``formula`` in one kernel or in blocks, or by tensor operations if a mode must see these."""
    first = arrays[0]
    fused = first.device.type in _FUSED_ON
    if internals.in_dispatch_mode() or (internals.in_function_mode() and not fused):
        return by_operations(formula, arrays, times, dtype, recorded=False)
    if fused:
        return _in_one_kernel(formula, arrays, times, dtype)
    wide = [widened(t, first.ndim) for t in times]
    ops = FLOATS if isinstance(wide[0], float) else OPS
    with scratch_tensors.taken() as scratch:
        if first.numel() <= WHOLE:
            strides = first.stride()
            loads = [loaded(array, held, strides) for array, held in zip(arrays, scratch, strict=False)]
            return formula.function(*loads, *wide, ops).values.to(dtype=dtype, copy=True)
        out = torch.empty_like(first, dtype=dtype)
        order = _memory_order(first)
        *blocked, target = _permuted(order, *arrays, out)
        wide = _permuted(order, *wide)
        for index in blocks(target.shape, _BLOCK):
            loads = [loaded(array[index], held) for array, held in zip(blocked, scratch, strict=False)]
            target[index] = formula.function(*loads, *[part(t, index) for t in wide], ops).values
    return out


def by_operations(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any, recorded: bool) -> Any:
    """Evaluate ``formula`` by tensor operations. Autograd saves copies of the times and of inference tensors."""
    first, ops, promotes = arrays[0], FLOATS, False
    if type(times[0]) is not float:
        ops = OPS
        # Float64 times promote the first array where the two meet, which saves its cast. They do not promote float8.
        # For times without axes the cast is kept, because second derivatives have other bits without it.
        promotes = bool(times[0].ndim or times[-1].ndim) and first.dtype.itemsize > 1
        times = [widened(t, first.ndim, copy=recorded) for t in times]
    elif not first.is_cpu:
        # CUDA would multiply by the reciprocal of a number.
        ops, times = OPS, [first.new_full((), t, dtype=torch.float64) for t in times]
    operands: list[Any] = []
    for array in arrays:
        if recorded and array.is_inference():
            # Autograd can save only a copy of an inference tensor.
            array = array.clone()
        operands.append(array if promotes and not operands else array.double())
    # A keyword dtype takes half the time of a positional one.
    return formula.function(*operands, *times, ops).to(dtype=dtype)


def _in_one_kernel(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
    """Evaluate ``formula`` in one kernel. On a device where that fails, use tensor operations from then on."""
    from fastgen_rf.backends import _triton

    first = arrays[0]
    out = torch.empty_like(first, dtype=dtype)
    inner = first.numel()
    runs = times
    if type(times[0]) is not float:
        order: Any = _memory_order(first)
        # evaluate has broadcast two times to one shape.
        sizes = _run_sizes(times[0], first, order)
        inner //= math.prod(sizes)
        expanded = sizes + [1] * (first.ndim - len(sizes))
        runs = [
            t
            if t.is_contiguous() and _in_runs(t, first, sizes)
            else with_trailing_axes(t, first.ndim).permute(order).expand(expanded).contiguous()
            for t in times
        ]
    try:
        _triton.launch(formula, arrays, runs, inner, out)
    # Triton needs a C compiler and a matching driver, and each of them raises different exceptions.
    except Exception as error:
        _report_failure(first, error)
        return by_operations(formula, arrays, times, dtype, recorded=False)
    return out


def _report_failure(tensor: Any, error: Exception) -> None:
    """Warn that a kernel failed and disable the kernels on this device; raise the error again if memory ran out."""
    if "out of memory" in str(error):
        # Triton has no exception class for this. Tensor operations would need more memory.
        raise error
    # A capture forbids some calls, so a failure during a capture does not disable the kernels.
    if not (tensor.is_cuda and torch.cuda.is_current_stream_capturing()):  # pragma: no branch  (needs a CUDA graph)
        _kernel_support[tensor.device] = False
        message = f"Triton failed on {tensor.device}; using plain tensor operations instead: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _fits_one_pass(arrays: Sequence[Any], times: Sequence[Any], order: list[int] | None = None) -> bool:
    """Whether one pass applies: tensors of one dense layout that nothing but autograd and modes watches.

    On CUDA, a kernel must be able to read them.
    """
    first = arrays[0]
    kind = first.device.type
    return bool(
        kind in ("cpu", *_FUSED_ON)
        and all(type(x) in _PLAIN for x in (*arrays, *times))
        and first.layout is torch.strided
        and all(array.stride() == first.stride() for array in arrays[1:])
        and not internals.follows(*arrays, *times)
        and (order := order or _memory_order(first)) is not None
        and (kind not in _FUSED_ON or _fits_one_kernel(arrays, times, order))
    )


def _fits_one_kernel(arrays: Sequence[Any], times: Sequence[Any], order: list[int]) -> bool:
    """Whether a kernel can read the tensors: it reads raw memory, and one value of a time for a run of elements.

    A time on inner axes is repeated to that end, if that takes little memory compared to the arrays.
    """
    like = arrays[0]
    tensors = [x for x in (*arrays, *times) if type(x) is not float]
    if any(x.dtype not in _KERNEL_DTYPES or x.is_neg() or internals.is_zero_tensor(x) for x in tensors):
        return False
    for t in tensors[len(arrays) :]:
        runs = math.prod(_run_sizes(t, like, order))
        if runs != t.numel() and 8 * runs > like.numel():
            return False
    return like.numel() > 0 and _has_kernels(like.device)


_kernel_support: dict[torch.device, bool] = {}


def _has_kernels(device: torch.device) -> bool:
    """Whether Triton is installed, supports ``device`` and has not failed on it."""
    if device not in _kernel_support:
        try:
            from fastgen_rf.backends import _triton
        except ImportError:
            _kernel_support[device] = False
        else:
            _kernel_support[device] = _triton.supports(device)
    return _kernel_support[device]


# No other subclass: its data may be anywhere, and its operators may do anything.
_PLAIN = (float, torch.Tensor, torch.nn.Parameter)


# Memory layout


def _memory_order(array: Any) -> list[int] | None:
    """Axes of a dense tensor from outermost to innermost in memory; None if the tensor has gaps or overlaps.

    The result is also None if the stride of a singleton axis is unusual, because operations of PyTorch change it.
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


def _run_sizes(t: Any, like: Any, order: Any) -> list[int]:
    """Sizes of the outermost axes of ``like``, in the order of memory, that include all axes along which t varies.

    Their product is the number of runs in memory of elements that share a time.
    """
    count = len(order)
    while count and (order[count - 1] >= t.ndim or t.shape[order[count - 1]] == 1):
        count -= 1
    return [like.shape[axis] for axis in order[:count]]


def _in_runs(t: Any, like: Any, sizes: list[int]) -> bool:
    """Whether ``t`` has one element for each run, in the order of the runs.

    With several varying axes, this order is that of t's axes only if ``like`` is contiguous.
    """
    return t.numel() == math.prod(sizes) and (len(sizes) <= 1 or like.is_contiguous())


def _permuted(order: Any, *arrays: Any) -> list[Any]:
    if order == list(range(len(order))):
        # Nearly every call ends here. Six views in a backward pass would take 10 us.
        return list(arrays)
    return [a.permute(order) if isinstance(a, torch.Tensor) else a for a in arrays]


# Gradients


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
        ctx.numbers = [t for t in times if type(t) is float]
        ctx.dtypes = [array.dtype if needed else None for array, needed in zip(arrays, needs, strict=False)]
        ctx.time_needs = needs[count:]
        moving = [any(ctx.time_needs) and constant is None for constant in formula.constants]
        kept = [array if moves else None for array, moves in zip(arrays, moving, strict=True)]
        # Autograd can save only a copy of an inference tensor.
        kept = [x.clone() if x is not None and x.is_inference() else x for x in kept]
        ctx.save_for_backward(*kept, *(() if ctx.numbers else times))
        return _dispatch(formula, arrays, times, dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        formula, count = ctx.formula, len(ctx.dtypes)
        # Read once: under a checkpoint, each access recomputes the forward pass.
        saved = ctx.saved_tensors
        arrays = saved[:count]
        times = ctx.numbers or saved[count:]
        dense, fused = _memory_order(grad) is not None, grad.device.type in _FUSED_ON
        # Where the coefficient is 1, the incoming gradient itself is the result.
        passed = [dense and a == 1 and d == grad.dtype for a, d in zip(formula.constants, ctx.dtypes, strict=True)]
        dtypes = [None if as_is else dtype for dtype, as_is in zip(ctx.dtypes, passed, strict=True)]
        if fused and not dense:
            # A kernel reads dense memory only. This takes one more array, in place of several in float64.
            grad = grad.clone()
        # A sum expands its gradient with strides of 0. The meta tensor has the dense layout of the result, and takes
        # no memory.
        like = grad if dense else torch.empty_like(grad, device="meta")
        unseen = not torch.is_grad_enabled() and not internals.in_dispatch_mode()
        if unseen and not fused and _fits_one_pass((grad,), times, _memory_order(like)):
            gradients, sums = _backward_in_blocks(formula, grad, like, arrays, times, dtypes)
        else:
            gradients = [
                None if dtype is None else evaluate(gradient(formula, place), (grad,), times, dtype)
                for place, dtype in enumerate(dtypes)
            ]
            sums = _sums(grad, arrays, times[0], in_kernel=unseen and fused)
        of_arrays = [grad if as_is else x for x, as_is in zip(gradients, passed, strict=True)]
        of_times = [
            _time_gradient(formula, sums, times, place) if needed else None
            for place, needed in enumerate(ctx.time_needs)
        ]
        return None, None, None, *of_arrays, *of_times


def _sums(grad: Any, arrays: Any, t: Any, in_kernel: bool) -> list[Any]:
    """Float64 sums of ``grad * array`` over the axes along which the time repeats; 0.0 for an array that is None."""
    given = [array for array in arrays if array is not None]
    if (
        in_kernel
        and given
        # Short rows would leave most lanes of a kernel idle.
        and (inner := grad.numel() // t.numel()) >= _LEAST_SUMMED
        and _fits_one_pass((grad, *given), (t,), order := _memory_order(grad))
        and _in_runs(t, grad, _run_sizes(t, grad, order))
    ):
        from fastgen_rf.backends import _triton

        try:
            sums = _triton.sum_products(grad, arrays, inner).view(2, *t.shape)
        except Exception as error:  # pragma: no cover  (needs a GPU on which Triton fails)
            _report_failure(grad, error)
        else:
            return [0.0 if array is None else total for array, total in zip(arrays, sums, strict=False)]
    return [0.0 if array is None else summed(grad, array, t.shape) for array in arrays]


def _backward_in_blocks(formula: Formula, grad: Any, like: Any, arrays: Any, times: Any, dtypes: Any) -> Any:
    """Return the gradients of the arrays and what ``_sums`` returns, block by block in the layout of ``like``."""
    gradients = [None if dtype is None else torch.empty_like(grad, dtype=dtype) for dtype in dtypes]
    sums = [0.0 if array is None else torch.zeros_like(times[0]) for array in arrays]
    order = _memory_order(like)
    source, layout, *blocked = _permuted(order, grad, like, *times)
    inputs, outputs, totals = (_permuted(order, *those) for those in (arrays, gradients, sums))
    ops = FLOATS if isinstance(times[0], float) else OPS
    coefficients = [(gradient(formula, place).function, x) for place, x in enumerate(outputs) if x is not None]
    with scratch_tensors.taken() as (one, two):
        for index in blocks(source.shape, WHOLE if grad.numel() <= WHOLE else _BLOCK):
            strides = layout[index].stride()
            wide = loaded(source[index], one, strides).values
            for array, total in zip(inputs, totals, strict=True):
                if array is not None:
                    product = loaded(array[index], two, strides) * wide
                    here = part(total, index)
                    here += product.values.sum_to_size(here.shape)
            here_times = [part(t, index) for t in blocked]
            for coefficient, output in coefficients:
                # The last product overwrites the loaded gradient. A product before it goes to the other scratch block,
                # because loading the gradient a second time would take 3 to 8 % of a call.
                scaled = wide if output is coefficients[-1][1] else two.as_strided(wide.shape, strides)
                output[index] = torch.mul(wide, coefficient(1.0, *here_times, ops), out=scaled)
    return gradients, sums


def _time_gradient(formula: Formula, sums: Any, times: Any, place: int) -> Any:
    """Derivative of ``formula`` of the sums in the time at ``place``."""
    slopes = [Slope(t, torch.ones_like(t)) if at == place else t for at, t in enumerate(times)]
    return formula.function(*sums, *slopes, _SLOPE_OPS).slope


# At the floor, the derivative of the maximum is 1, as for torch.clamp (https://github.com/pytorch/pytorch/pull/7049).
_SLOPE_OPS = slope_ops(OPS)

"""One kernel per formula on an accelerator: Triton compiles the formulas themselves, float64 inside, one cast out.

:mod:`fastgen_rf.backends._torch_one_pass` decides what may run here. This file supports dense memory only: arrays as
flat runs of elements, and a time as one value for each ``inner`` elements in a row.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import struct
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from triton.runtime import driver

from fastgen_rf.arithmetic import Formula
from fastgen_rf.arithmetic._term import ARRAYS, TIMES, source

# Elements of a program: 8 for each thread of 4 warps, which is one 16-byte load where they are bfloat16.
_BLOCK = 1024
# Without fusion a b + c has two roundings, so the bits do not depend on who evaluates the formula.
_OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


# The functions that a formula calls


@triton.jit
def _maximum(value, floor):  # type: ignore[no-untyped-def]
    floor = tl.full([], floor, tl.float64)  # Triton would make float32 of a Python float
    return tl.where(value < floor, floor, value)  # NaN stays NaN, as in torch.clamp


@triton.jit
def _sqrt(value):  # type: ignore[no-untyped-def]
    return tl.sqrt(value)  # the interpreter finds only functions of triton.jit in a kernel's scope


@triton.jit
def _divide_by_number(value, divisor):  # type: ignore[no-untyped-def]
    """Divide a block by one number: a reciprocal for the block, then a product and two fmas for each element.

    The result has the bits of the division (Markstein, IBM J. Res. Dev. 34, 1990), unless the remainder is subnormal.
    The quotient is then below 2**-900, which is 0 in any dtype but float64.
    """
    inverse = 1.0 / divisor
    rough = value * inverse
    remainder = tl.fma(rough, divisor * -1.0, value)  # Triton computes -x as 0 - x, one more operation
    # The correction would lose the sign of a quotient of 0 and make NaN of an infinite one. The remainder is 0 in the
    # first case and not finite in the second. The test is on integers, because float64 selects and comparisons would
    # cost as much as the fmas.
    exponent = (remainder.to(tl.int64, bitcast=True) >> 52).to(tl.int32) & 0x7FF
    return tl.where((exponent != 0) & (exponent != 0x7FF), tl.fma(remainder, inverse, rough), rough)


# The block of a program: where it starts, which of its elements exist, and the row of their time. The start is an
# int64, so that arrays may have any number of elements; within a block int32 is enough.


@triton.jit  # type: ignore[untyped-decorator]
def _block_of_row(n, inner, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """A block within a row, the ``inner`` elements that share a time."""
    per_row = tl.cdiv(inner, BLOCK)
    row = (tl.program_id(0) // per_row).to(tl.int64)
    start = (tl.program_id(0) % per_row).to(tl.int64) * BLOCK
    return row * inner + start, tl.arange(0, BLOCK) < inner - start, row


@triton.jit  # type: ignore[untyped-decorator]
def _block_of_many_rows(n, inner, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """A block of all n elements: a time for each of them."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    return start, lane < n - start, start // inner + ((start % inner).to(tl.int32) + lane) // inner


# Kernels

_KERNEL = """\
def {name}({parameters}, out, n, inner):
    start, inside, row = block(n, inner, {block})
    lane = tl.arange(0, {block})
{operands}
    value = {expression}
    tl.store(out + start + lane, value.to({rounded}).to(out.dtype.element_ty), mask=inside)
"""
_READ = {  # an array, and the forms of a time
    "array": "{0} = tl.load({0} + start + lane, mask=inside).to(tl.float64)",
    "row": "{0} = tl.load({0} + row).to(tl.float64)",
    "many rows": "{0} = tl.load({0} + row, mask=inside).to(tl.float64)",
    "number": "{0} = {0}.to(tl.int64).to(tl.float64, bitcast=True)",
}


@functools.cache
def _kernel(formula: Formula, form: str, wide: bool) -> Any:
    """Make the kernel of ``formula`` for times of a form, with a float64 result if ``wide``.

    Each block has one time ("row" or, by its bits, "number") or a time for each of its rows ("many rows").
    """
    arrays, times = ARRAYS[: len(formula.constants)], TIMES[: formula.times]
    one_time = form in ("row", "number")
    reads = [_READ["array"].format(name) for name in arrays] + [_READ[form].format(name) for name in times]
    expression = ast.parse(source(formula))
    if one_time and not wide:
        expression = _DivisionsAsCalls().visit(expression)
    name = f"fastgen_rf_{formula.name}"
    text = _KERNEL.format(
        name=name,
        parameters=", ".join([*arrays, *(t + ": tl.int64" if form == "number" else t for t in times)]),
        block=_BLOCK,
        operands="\n".join(f"    {read}" for read in reads),
        expression=ast.unparse(expression),
        rounded="tl.float64" if wide else "tl.float32",  # as torch rounds: to 16 bits by way of float32
    )
    scope: dict[str, Any] = {
        "__name__": __name__,
        "tl": tl,
        "block": _block_of_row if one_time else _block_of_many_rows,
        "maximum": _maximum,
        "sqrt": _sqrt,
        "divide": _divide_by_number,
    }
    # Triton reads a function's source from its file, and finds this one as it finds a cell of a notebook.
    file = f"<{name} {hash(text)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), scope)
    # The bits of a number must not become a constant of the kernel.
    return triton.jit(do_not_specialize=times if form == "number" else ())(scope[name])


class _DivisionsAsCalls(ast.NodeTransformer):
    """Write ``a / b`` as ``divide(a, b)``."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return ast.Call(ast.Name("divide"), [node.left, node.right], []) if isinstance(node.op, ast.Div) else node


@triton.jit  # type: ignore[untyped-decorator]
def _sum_products(grad, first, second, out, inner, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    start, inside, _ = _block_of_row(0, inner, BLOCK)
    lane = tl.arange(0, BLOCK)
    factor = tl.load(grad + start + lane, mask=inside, other=0.0).to(tl.float64)
    if first is not None:  # pragma: no branch  (Triton runs a copy of this function)
        product = factor * tl.load(first + start + lane, mask=inside, other=0.0).to(tl.float64)
        tl.store(out + tl.program_id(0), tl.sum(product, 0))
    if second is not None:  # pragma: no branch
        product = factor * tl.load(second + start + lane, mask=inside, other=0.0).to(tl.float64)
        tl.store(out + tl.num_programs(0) + tl.program_id(0), tl.sum(product, 0))


# Launches


def supports(device: torch.device) -> bool:
    """Whether Triton compiles for ``device``: of NVIDIA's GPUs, for Ampere and later ones."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def launch(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], inner: int, out: Any) -> None:
    """Write ``formula(*arrays, *times)`` to ``out``: dense tensors of one layout.

    The times are contiguous tensors, with one value for each ``inner`` elements, or Python floats.
    """
    # Triton launches on the current device.
    if out.is_cuda and out.get_device() != torch.cuda.current_device():  # pragma: no cover  # needs two GPUs
        with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
            return launch(formula, arrays, times, inner, out)
    n = out.numel()
    numbers = type(times[0]) is float
    tensors = (*arrays, out) if numbers else (*arrays, *times, out)
    # Triton passes a Python float as float32 (https://github.com/pytorch/pytorch/pull/190340), so numbers are passed as
    # the bits of an int64.
    bits = [struct.unpack("<q", struct.pack("<d", t))[0] for t in times] if numbers else []
    arguments = (*tensors[:-1], *bits, out, n, inner)
    # Triton analyzes the arguments of each call anew, so its launch takes 7 us of Python time; this one takes 2 us.
    # Triton compiles a kernel for dtypes, for addresses that are multiples of 16 or not, and for properties of the
    # sizes, so a compiled kernel is right for every call with an equal key.
    aligned = [x.data_ptr() % 16 == 0 for x in tensors]
    key = (formula, numbers, n, inner, out.get_device(), *[x.dtype for x in tensors], *aligned)
    run = _compiled.get(key)
    if run is not None:  # pragma: no cover  (the interpreter compiles nothing)
        run(*arguments)
        return
    form, blocks = "number" if numbers else "row", n // inner * triton.cdiv(inner, _BLOCK)
    if inner < min(n, _BLOCK):
        form, blocks = "many rows", triton.cdiv(n, _BLOCK)
    compiled = _kernel(formula, form, out.dtype == torch.float64)[(blocks, 1, 1)](*arguments, **_OPTIONS)
    # A program may use any number of sizes.
    if len(_compiled) == _MOST_COMPILED:  # pragma: no cover  (the interpreter compiles nothing)
        _compiled.clear()
    if compiled is not None:  # pragma: no cover  (the interpreter compiles nothing)
        _compiled[key] = _launcher(compiled, (blocks, 1, 1))


def _launcher(compiled: Any, grid: tuple[int, ...]) -> Any:  # pragma: no cover  (the interpreter compiles nothing)
    """Return a function of a kernel's arguments that launches it on the current stream."""
    # The public compiled[grid] takes 3 us more, most of them for the hooks of Triton's profiler. The names used here
    # are private to Triton, so they are used only where the launch has the known signature.
    public = compiled[grid]
    try:
        run, function, metadata = compiled.run, compiled.function, compiled.packed_metadata
        device, stream_of = driver.active.get_current_device(), driver.active.get_current_stream
        signature = str(inspect.signature(run))
    except (AttributeError, TypeError, ValueError):
        return public

    def launch(*arguments: Any) -> None:
        run(*grid, stream_of(device), function, metadata, None, None, None, *arguments)

    return launch if signature == _SIGNATURE else public


_SIGNATURE = (
    "(gridX, gridY, gridZ, stream, function, kernel_metadata, launch_metadata, launch_enter_hook, launch_exit_hook, "
    "*args)"
)
_MOST_COMPILED = 4096
_compiled: dict[Any, Any] = {}


def sum_products(grad: Any, arrays: Sequence[Any], inner: int) -> Any:
    """Sum ``grad * array`` over each ``inner`` elements in a row, in float64: a row of the result for each array.

    ``grad`` and the one or two arrays are dense tensors of one layout. The row of an array that is None is not set. A
    kernel sums blocks, torch the sums of blocks.
    """
    kernel: Any = _sum_products
    first, second = (*arrays, None)[:2]
    per_row = triton.cdiv(inner, _BLOCK)
    rows = grad.numel() // inner
    sums = torch.empty((2, rows, per_row), dtype=torch.float64, device=grad.device)
    with torch.cuda.device_of(grad):  # type: ignore[no-untyped-call]  # where Triton launches
        kernel[(rows * per_row,)](grad, first, second, sums, inner, BLOCK=_BLOCK, **_OPTIONS)
    return sums.sum(-1)

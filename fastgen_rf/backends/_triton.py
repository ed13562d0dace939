"""One kernel per formula on an accelerator: Triton compiles the formulas themselves, float64 inside, one cast out.

What may be run here is decided in :mod:`fastgen_rf.backends._torch`; this file knows dense memory only: two arrays as
flat runs of elements, and t as one value for each ``inner`` elements in a row.
"""

from __future__ import annotations

import functools
import linecache
import struct
from collections.abc import Sequence
from types import FunctionType
from typing import Any

import torch
import triton
import triton.language as tl

from fastgen_rf.arithmetic import Formula
from fastgen_rf.arithmetic._term import source

_BLOCK = 1024  # elements of a program: 8 for each thread of 4 warps, one 16-byte load where they are bfloat16


@triton.jit
def _maximum(value, floor):  # type: ignore[no-untyped-def]
    floor = tl.full([], floor, tl.float64)  # a bare Python float would come as float32
    return tl.where(value < floor, floor, value)  # NaN stays NaN, as clamp_min has it


@triton.jit
def _sqrt(value):  # type: ignore[no-untyped-def]
    return tl.sqrt(value)  # sqrt.rn.f64; its interpreter takes no built-in function from outside of a kernel


@triton.jit  # type: ignore[untyped-decorator]
def _load(array, at, lane, inside, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.zeros([BLOCK], tl.float64) if array is None else tl.load(array + at + lane, mask=inside).to(tl.float64)


formula: Any = None  # _kernel is a pattern: each formula gets a copy of it, with a scope of its own


def _kernel(  # type: ignore[no-untyped-def]
    first,
    second,
    t,
    out,
    t_bits,
    n,
    inner,
    per_row,
    FLAT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Evaluate a block: of all n elements if FLAT, else of one row, the ``inner`` elements that share a t.

    Where a block starts is an int64, so that arrays may have any number of elements; within a block, int32 will do.
    """
    program = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    if FLAT:
        at = program.to(tl.int64) * BLOCK
        inside = lane < n - at
        row = at // inner + ((at % inner).to(tl.int32) + lane) // inner
        time = tl.load(t + row, mask=inside).to(tl.float64)
    else:
        row = (program // per_row).to(tl.int64)
        start = (program % per_row).to(tl.int64) * BLOCK
        at = row * inner + start
        inside = lane < inner - start
        time = t_bits.to(tl.int64).to(tl.float64, bitcast=True) if t is None else tl.load(t + row).to(tl.float64)
    x = _load(first, at, lane, inside, BLOCK)
    y = _load(second, at, lane, inside, BLOCK)
    value = formula(x, y, time)
    if out.dtype.element_ty != tl.float64:
        value = value.to(tl.float32)  # as torch rounds: to bfloat16 and float16 by way of float32
    tl.store(out + at + lane, value.to(out.dtype.element_ty), mask=inside)


@functools.cache
def _kernel_of(formula: Formula) -> Any:
    """Make ``_kernel`` for ``formula``.

    Triton reads source from a function's file: the formula's it finds in ``linecache``, as it would a notebook's cell.
    """
    text = f"def formula(first, second, t):\n    return {source(formula)}\n"
    file = f"<{__name__} {formula.name}: {source(formula)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope: dict[str, Any] = {
        "__name__": __name__,
        "maximum": _maximum,
        "sqrt": _sqrt,
        "tl": tl,
    }  # its interpreter looks for tl
    exec(compile(text, file, "exec"), scope)
    kernel = FunctionType(_kernel.__code__, globals() | {"formula": triton.jit(scope["formula"])}, _kernel.__name__)
    kernel.__annotations__ = _kernel.__annotations__
    return triton.jit(do_not_specialize=["t_bits", "per_row"])(kernel)


def serves(device: torch.device) -> bool:
    """Whether Triton compiles for ``device``: of NVIDIA's GPUs, for Ampere and later ones."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def launch(formula: Formula, arrays: Sequence[Any], times: Sequence[Any], inner: int, out: Any) -> None:
    """Write ``formula(*arrays, *times)`` to ``out``: dense tensors of one layout.

    The times are contiguous tensors, with one value for each ``inner`` elements, or Python floats.
    """
    first, second = arrays if len(arrays) == 2 else (arrays[0], None)
    (t,) = times
    kernel = _kernel_of(formula)
    n = out.numel()
    rows = n // inner
    flat = rows > 1 and inner < _BLOCK
    per_row = triton.cdiv(inner, _BLOCK)
    grid = (triton.cdiv(n, _BLOCK) if flat else rows * per_row,)
    bits = 0
    if isinstance(t, float):  # its bits, because Triton takes a Python float as float32
        (bits,), t = struct.unpack("<q", struct.pack("<d", t)), None
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]  # Triton launches on the current device
        kernel[grid](
            first,
            second,
            t,
            out,
            bits,
            n,
            inner,
            per_row,
            FLAT=flat,
            BLOCK=_BLOCK,
            num_warps=4,
            enable_fp_fusion=False,  # a b + c in two roundings: the bits do not depend on who evaluates the formula
        )

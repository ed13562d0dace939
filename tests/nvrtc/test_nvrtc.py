"""CuPy's kernels compiled for a GPU without one: CuPy writes the source, NVRTC compiles it, nothing runs."""

from __future__ import annotations

import re
from typing import Any

import cupy
import numpy as np
import pytest
from cupy._core import _carray, _kernel, _scalar, core
from cupy.cuda import compiler
from ml_dtypes import bfloat16

from fastgen_rf import _formulas
from fastgen_rf.backends import _cupy

OPTIONS = ("-ftz=true", "--device-as-default-execution-space", "-arch=sm_90")  # CuPy's, which flush subnormals
F2, F4, F8 = np.float16, np.float32, np.float64


def compiled(kernel: Any, *dtypes: Any, axes: int = 1) -> str:
    """PTX of a kernel for arrays of these dtypes, the result's last; a dtype of None is a Python float's."""
    types = [dtype if dtype is None else np.dtype(dtype) for dtype in dtypes]
    scalar, indexer = (_scalar.CScalar, np.dtype(F8), 0, True), (_carray.Indexer, None, axes, True)
    kinds = [(3, *scalar) if dtype is None else (1, cupy.ndarray, dtype, axes, axes == 1) for dtype in types]
    arguments = tuple(_kernel._ArgInfo(*kind, True) for kind in (*kinds, (2, *indexer)))
    *_, names = kernel._decide_params_type(tuple(types[:-1]), tuple(types[-1:]))
    described = names, kernel.params, kernel.operation, kernel.name, kernel.preamble
    code = _kernel._get_elementwise_kernel_code(arguments, *described, **kernel.kwargs)
    headers = "".join(f"#include <{header}>\n" for header in core._cupy_header_list)
    program = compiler._NVRTCProgram(headers + code, "kernel.cu", method="cubin")
    program.compile((*core.assemble_cupy_compiler_options(kernel.kwargs["options"]), *OPTIONS))
    return str(compiler.nvrtc.getPTX(program.ptr).decode())


def check(ptx: str) -> None:
    """Arithmetic is float64's and not contracted, and nothing flushes subnormals."""
    instructions = set(re.findall(r"\b([a-z]+\.[\w.]*b?f(?:16|32|64)[\w.]*)", ptx))
    arithmetic = {name for name in instructions if not re.match(r"(ld|st|mov|cvt|selp|abs)\.", name)}
    assert arithmetic and all(name.endswith(".f64") and "fma" not in name for name in arithmetic), arithmetic
    assert "ftz" not in ptx


KERNELS = {  # formula, dtypes of its arrays, of its times and of the result, number of axes
    "plain": (_formulas.add_noise, (F4, F4, F4, F4), 1),
    "least divisor": (_formulas.x0_to_flow, (F2, bfloat16, F8, F2), 1),
    "root": (_formulas.CONVERSIONS["v", "v_vp"], (F8, F4, F8), 1),
    "two times": (_formulas.renoise, (F4, F4, F4, F4, F4), 1),
    "float t": (_formulas.x0_to_eps, (F4, F4, None, F4), 3),
    "bfloat16": (_formulas.flow_to_x0, (bfloat16, F4, bfloat16, bfloat16), 1),
}


@pytest.mark.parametrize(("formula", "dtypes", "axes"), KERNELS.values(), ids=list(KERNELS))
def test_a_kernel_is_float64_arithmetic_without_contraction(formula: Any, dtypes: Any, axes: int) -> None:
    floats = tuple(dtype is None for dtype in dtypes[-1 - formula.times : -1])
    check(compiled(_cupy._kernel(formula, floats, _cupy._cast(dtypes[-1])), *dtypes, axes=axes))
    check(compiled(_cupy._kernel_of_one("1.0 - wide(x)", _cupy._cast(dtypes[-1])), dtypes[0], dtypes[-1]))

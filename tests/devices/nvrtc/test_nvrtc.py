"""CuPy's kernels compiled as a GPU would have them, without one: CuPy writes the source, NVRTC compiles it.

Collected with ``--nvrtc`` alone. It takes CuPy's wheel, NVRTC's and CUDA's headers, and no driver. What runs on a
device is not known from this.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import cupy
import numpy as np
import pytest
from cupy._core import _carray, _kernel, _scalar, core
from cupy.cuda import compiler
from ml_dtypes import bfloat16

from fastgen_rf.backends import _cupy
from tests.cases.every_formula import FORMULAS, every_formula

DTYPES = (np.float64, np.float32, np.float16, bfloat16)
every_architecture = pytest.mark.parametrize("architecture", [80, 90, 100, 120])
ARRAY, INDEXER, SCALAR = 1, 2, 3  # CuPy's numbers for the kinds of a kernel's arguments


def compiled(kernel: Any, architecture: int, *dtypes: Any, axes: int = 1) -> str:
    """PTX of ``kernel`` for arrays of these dtypes, the result's last; a dtype of None is a Python float's."""
    types = [dtype if dtype is None else np.dtype(dtype) for dtype in dtypes]
    arguments = [
        _kernel._ArgInfo(SCALAR, _scalar.CScalar, np.dtype(np.float64), 0, True, True)
        if dtype is None
        else _kernel._ArgInfo(ARRAY, cupy.ndarray, dtype, axes, axes == 1, True)
        for dtype in types
    ]
    arguments.append(_kernel._ArgInfo(INDEXER, _carray.Indexer, None, axes, True, True))
    *_, names = kernel._decide_params_type(tuple(types[:-1]), tuple(types[-1:]))
    code = _kernel._get_elementwise_kernel_code(
        tuple(arguments), names, kernel.params, kernel.operation, kernel.name, kernel.preamble, **kernel.kwargs
    )
    headers = "".join(f"#include <{header}>\n" for header in core._cupy_header_list)
    options = core.assemble_cupy_compiler_options(kernel.kwargs["options"])
    as_cupy_does = ("-ftz=true", "--device-as-default-execution-space", f"-arch=sm_{architecture}")
    program = compiler._NVRTCProgram(headers + code, "kernel.cu", method="cubin")
    cubin, _ = program.compile((*options, *as_cupy_does))
    assert cubin.startswith(b"\x7fELF")
    program.method = "ptx"
    return compiler.nvrtc.getPTX(program.ptr).decode()


def check(ptx: str, arithmetic: bool = True) -> None:
    """Arithmetic is float64's, none of it contracted, and nothing flushes subnormals."""
    instructions = set(re.findall(r"\b([a-z]+\.[\w.]*b?f(?:16|32|64)[\w.]*)", ptx))
    computing = {name for name in instructions if not re.match(r"(ld|st|mov|cvt|selp|abs)\.", name)}
    assert all(name.endswith(".f64") and "fma" not in name for name in computing), computing
    assert bool(computing) or not arithmetic
    assert "ftz" not in ptx


@every_architecture
@every_formula
def test_every_formula_is_float64_arithmetic_without_contraction(formula, architecture):
    single, cast = np.float32, _cupy._cast(np.float32)
    check(compiled(_cupy._kernel(formula, False, cast), architecture, single, single, single, single), False)


@every_architecture
def test_a_float_time_and_arrays_of_several_axes_compile(architecture):
    kernel = _cupy._kernel(FORMULAS["x0_to_eps"], True, _cupy._cast(np.float32))
    for axes in (1, 3):
        check(compiled(kernel, architecture, np.float32, np.float32, None, np.float32, axes=axes))


@every_architecture
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_every_dtype_compiles(dtype, architecture):
    kernel = _cupy._kernel(FORMULAS["x0_to_eps"], False, _cupy._cast(dtype))
    for other, t in ((dtype, dtype), (np.float32, np.float64), (bfloat16, np.float32)):
        check(compiled(kernel, architecture, dtype, other, t, dtype))


@every_architecture
@pytest.mark.parametrize("expression", ["wide(x)", "1.0 - wide(x)"])
def test_every_cast_compiles(expression, architecture):
    for source, target in itertools.product(DTYPES, DTYPES):
        kernel = _cupy._kernel_of_one(expression, _cupy._cast(target))
        check(compiled(kernel, architecture, source, target), arithmetic=False)


def test_the_check_can_fail():
    """CuPy's own cast, which flushes, and a contraction."""
    flushing = cupy.ElementwiseKernel("X x", "Z z", "z = static_cast<Z>(static_cast<double>(x) * 3.0)", options=())
    with pytest.raises(AssertionError, match="ftz"):
        check(compiled(flushing, 90, np.float32, np.float32))
    fused = cupy.ElementwiseKernel("X x", "Z z", "z = x * x + 1.0", options=())
    with pytest.raises(AssertionError, match="fma"):
        check(compiled(fused, 90, np.float64, np.float64))

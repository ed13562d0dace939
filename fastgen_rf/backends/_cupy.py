"""CuPy: one elementwise kernel for each formula, on the device of its arrays.

Unlike PyTorch and JAX, CuPy allocates and launches on the current device, so each method makes the device of the arrays
the current one.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import Any

import array_api_compat.cupy
import cupy
import numpy as np
from cupyx.scipy import special

from fastgen_rf.arithmetic import Formula, Ops, TimeMap
from fastgen_rf.arithmetic._term import ARRAYS, TIMES, source
from fastgen_rf.backends._numpy import NumpyDtypes
from fastgen_rf.backends._standard import Draws, with_trailing_axes


class CupyBackend(NumpyDtypes):
    """CuPy arrays on any CUDA device."""

    special = special

    def device(self, array: Any) -> Any:
        return array.device

    def devices(self) -> list[Any]:
        return [f"cuda:{index}" for index in range(cupy.cuda.runtime.getDeviceCount())]

    def _astype(self, array: Any, dtype: Any) -> Any:
        return array if array.dtype == dtype else _map_in_one_kernel("wide(x)", array, dtype)

    @property
    def _ops(self) -> Ops:
        # The namespace of CuPy itself may lack atan2.
        return Ops(cupy.maximum, cupy.sqrt, array_api_compat.cupy)

    def map(self, function: TimeMap, times: Sequence[Any], constants: tuple[Any, ...] = ()) -> Any:
        with times[0].device:
            return super().map(function, times, constants)

    def permute(self, array: Any, order: Sequence[int]) -> Any:
        return array.transpose(order)

    def complement(self, t: Any) -> Any:
        with t.device:
            return _map_in_one_kernel("1.0 - wide(x)", t, t.dtype)

    def evaluate(self, formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
        with arrays[0].device:
            first = arrays[0]
            out = target = cupy.empty_like(first, dtype=dtype)
            times = [t if isinstance(t, float) else with_trailing_axes(t, first.ndim) for t in times]
            if not first.flags.c_contiguous:
                # In the order of memory, the kernel indexes axes that are next to each other in memory as one axis.
                order = sorted(range(first.ndim), key=first.strides.__getitem__, reverse=True)
                arrays = [array.transpose(order) for array in arrays]
                target = out.transpose(order)
                times = [t if isinstance(t, float) else t.transpose(order) for t in times]
            _kernel(formula, tuple(isinstance(t, float) for t in times), _cast(dtype))(*arrays, *times, target)
            return out

    def check_rng(self, rng: Any) -> None:
        kinds = (cupy.random.Generator, cupy.random.RandomState)
        if rng is not None and not isinstance(rng, kinds):
            raise TypeError(
                "rng must be a cupy.random.Generator, a numpy.random.Generator, an int or None, "
                f"got {type(rng).__name__}"
            )

    def draw(self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any) -> tuple[Any, ...]:
        # CuPy uses 32 bits of a seed.
        if isinstance(rng, int) and rng >> 32:
            return self._sample_on_host(shape, draws, np.random.default_rng(rng), device, dtype)
        with cupy.cuda.Device(_where_to_draw(rng, device)):
            if isinstance(rng, int):
                rng = cupy.random.default_rng(rng)
            if rng is None:
                rng = cupy.random.get_random_state()
            uniform = rng.random if isinstance(rng, cupy.random.Generator) else rng.random_sample
            times = draws(uniform(draws.shape(math.prod(shape)), dtype=cupy.float64), cupy, special)
            return tuple(self._astype(t, dtype).reshape(shape) for t in times)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        with cupy.cuda.Device(_ordinal(device)):
            return cupy.asarray(values.astype(dtype))

    def take(self, values: tuple[float, ...], index: Any, dtype: Any) -> Any:
        with index.device:
            table = cupy.empty(len(values), dtype=cupy.float64)
            # A kernel writes each value, because a CUDA graph cannot capture a copy from the host.
            for i, value in enumerate(values):
                table[i] = value
            return self._astype(table[index], dtype)


def _map_in_one_kernel(expression: str, array: Any, dtype: Any) -> Any:
    """``expression`` of the elements x of ``array``, in float64, in ``dtype``."""
    out = cupy.empty_like(array, dtype=dtype)
    _kernel_of_one(expression, _cast(dtype))(array, out)
    return out


# CuPy compiles with -ftz=true (https://github.com/cupy/cupy/issues/8382). A cast then flushes the subnormal numbers of
# float32, and those of bfloat16, which is converted through float32. The conversions of PTX, which are written out
# here, keep them. `maximum` keeps NaN.
_PREAMBLE = "__device__ double maximum(double x, double floor) { return x < floor ? floor : x; }\n" + (
    """
__device__ double wide(double x) { return x; }
__device__ float single(double x) { return x; }
"""
    if cupy.cuda.runtime.is_hip
    else """
__device__ double wide(double x) { return x; }
__device__ double wide(float x) { double y; asm("cvt.f64.f32 %0, %1;" : "=d"(y) : "f"(x)); return y; }
__device__ float single(double x) { float y; asm("cvt.rn.f32.f64 %0, %1;" : "=f"(y) : "d"(x)); return y; }
"""
)
# No contraction: a b + c is rounded twice, as on the host.
_OPTIONS = () if cupy.cuda.runtime.is_hip else ("--fmad=false",)
_elementwise = functools.partial(cupy.ElementwiseKernel, preamble=_PREAMBLE, options=_OPTIONS)


def _cast(dtype: Any) -> str:
    """Expression that rounds a double to ``dtype``: to float16 once, to bfloat16 through float32, as NumPy does."""
    once = np.dtype(dtype).name in ("float64", "float16", "int32")
    return "static_cast<Z>({})" if once else "static_cast<Z>(single({}))"


@functools.cache
def _kernel(formula: Formula, are_floats: tuple[bool, ...], cast: str) -> Any:
    """Kernel of a formula in float64. CuPy compiles it for the dtypes of the arrays that a call has."""
    # In CuPy a type that the call decides has a name of one character.
    arrays = [
        (f"{kind} x{at}", f"{name} = wide(x{at})")
        for at, (kind, name) in enumerate(zip("XY", ARRAYS[: len(formula.constants)], strict=False))
    ]
    times = [
        (f"{'float64' if is_float else kind} t{at}", f"{name} = wide(t{at})")
        for at, (kind, name, is_float) in enumerate(zip("TS", TIMES, are_floats, strict=False))
    ]
    parameters, values = zip(*arrays, *times, strict=True)
    operation = f"const double {', '.join(values)}; z = {cast.format(source(formula))}"
    return _elementwise(", ".join(parameters), "Z z", operation, name="fastgen_rf_" + formula.name)


@functools.cache
def _kernel_of_one(expression: str, cast: str) -> Any:
    return _elementwise("X x", "Z z", f"z = {cast.format(expression)}", name="fastgen_rf_cast")


def _where_to_draw(rng: Any, device: Any) -> Any:
    """Index of the device to draw on: that of the generator, which has its state there, or that of ``device``."""
    asked = _ordinal(device)
    if not isinstance(rng, cupy.random.Generator):
        # The device of a RandomState cannot be found.
        return asked
    # There is no public name for the device of a generator.
    own = rng.bit_generator._state.device.id
    if asked is not None and asked != own:
        raise ValueError(f"rng and device must agree, got a generator on cuda:{own} and device {device}")
    return own


def _ordinal(device: Any) -> int | None:
    """Index of a CUDA device given as None (the current one), an index, ``"cuda:1"`` or a ``cupy.cuda.Device``."""
    if device is None:
        return None
    if isinstance(device, cupy.cuda.Device):
        return int(device.id)
    if isinstance(device, str) and (named := re.fullmatch(r"cuda(?::(\d+))?", device)):
        return int(named[1]) if named[1] else None
    if isinstance(device, (int, np.integer)) and type(device) is not bool and device >= 0:
        return int(device)
    raise ValueError(f"device must be a cupy.cuda.Device, an index or a name such as 'cuda:0', got {device!r}")


BACKEND = CupyBackend(cupy)

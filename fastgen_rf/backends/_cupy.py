"""CuPy: cupy's own namespace, on the device where the arrays live, whichever is current.

Unlike PyTorch and JAX, CuPy allocates and launches on the current device, so each entry makes the arrays' current.
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
from cupyx.scipy import special as functions

from fastgen_rf._typing import Formula, TimeFormula, TimeMap
from fastgen_rf.arithmetic import Functions
from fastgen_rf.arithmetic._term import name_of, source
from fastgen_rf.backends._numpy import NumpyDtypes
from fastgen_rf.backends._standard import Draws, Function, with_trailing_axes


class CupyBackend(NumpyDtypes):
    """CuPy arrays on any CUDA device."""

    generator = "cupy.random.Generator"

    def device(self, array: Any) -> Any:
        return array.device

    def has_float64(self, device: Any) -> bool:
        return True

    def devices(self) -> list[Any]:
        return [f"cuda:{index}" for index in range(cupy.cuda.runtime.getDeviceCount())]

    def to_host(self, array: Any) -> Any:
        return cupy.asnumpy(array)

    def astype(self, array: Any, dtype: Any) -> Any:
        return array if array.dtype == dtype else _map_in_one_kernel("wide(x)", array, dtype)

    @property
    def functions(self) -> Functions:
        return Functions(cupy.maximum, cupy.sqrt, array_api_compat.cupy)  # cupy's own may lack atan2

    def relabel(self, formula: TimeMap, time: Any) -> Any:
        with time.device:
            return super().relabel(formula, time)

    def permute(self, array: Any, order: Sequence[int]) -> Any:
        return array.transpose(order)

    def complement(self, t: Any) -> Any:
        with t.device:
            return _map_in_one_kernel("1.0 - wide(x)", t, t.dtype)

    def evaluate(self, formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
        with first.device:
            return _evaluate_in_one_kernel(formula, first, second, t, dtype)

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
            return self.sample(shape, draws, np.random.default_rng(rng), device, dtype)
        with cupy.cuda.Device(_where_to_draw(rng, device)):
            if isinstance(rng, int):
                rng = cupy.random.default_rng(rng)
            if rng is None:
                rng = cupy.random.get_random_state()
            uniform = rng.random if isinstance(rng, cupy.random.Generator) else rng.random_sample
            times = draws(uniform(draws.shape(math.prod(shape)), dtype=cupy.float64), cupy, functions)
            return tuple(self.astype(t, dtype).reshape(shape) for t in times)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        with cupy.cuda.Device(_ordinal(device)):
            return cupy.asarray(values.astype(dtype))

    def relative_time(self, formula: TimeFormula, t: Any, t_next: Any, rank: int) -> Any:
        if isinstance(t, float) and isinstance(t_next, float):
            return super().relative_time(formula, t, t_next, rank)
        with (t_next if isinstance(t, float) else t).device:
            return super().relative_time(formula, t, t_next, rank)

    def take(self, values: tuple[float, ...], index: Any, dtype: Any) -> Any:
        with index.device:
            table = cupy.empty(len(values), dtype=cupy.float64)
            # A kernel writes each value, because a CUDA graph cannot capture a copy from the host.
            for i, value in enumerate(values):
                table[i] = value
            return self.astype(table[index], dtype)

    def map(self, function: Function, array: Any, name: str, special: bool = False) -> Any:
        with array.device:
            return self.astype(function(self.astype(array, cupy.float64), cupy, functions), array.dtype)


def _evaluate_in_one_kernel(formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
    out = target = cupy.empty_like(first, dtype=dtype)
    if not isinstance(t, float):
        t = with_trailing_axes(t, first.ndim)
    if not first.flags.c_contiguous:  # in the order of memory the kernel indexes axes that lie together as one
        order = sorted(range(first.ndim), key=first.strides.__getitem__, reverse=True)
        first, second, target = (array.transpose(order) for array in (first, second, out))
        t = t if isinstance(t, float) else t.transpose(order)
    _kernel(formula, isinstance(t, float), _cast(dtype))(first, second, t, target)
    return out


def _map_in_one_kernel(expression: str, array: Any, dtype: Any) -> Any:
    """``expression`` of the elements x of ``array``, in float64, in ``dtype``."""
    out = cupy.empty_like(array, dtype=dtype)
    _kernel_of_one(expression, _cast(dtype))(array, out)
    return out


# CuPy compiles with -ftz=true, under which a cast flushes the subnormals of float32, and those of bfloat16, which go
# through it; PTX's own conversions, which are written out here, keep them. `maximum` keeps NaN.
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
_OPTIONS = () if cupy.cuda.runtime.is_hip else ("--fmad=false",)  # a b + c in two roundings, as on the host


def _cast(dtype: Any) -> str:
    """What rounds a double to ``dtype`` Z: float16 once, bfloat16 by way of float32, as NumPy does."""
    once = np.dtype(dtype).name in ("float64", "float16", "int32")
    return "static_cast<Z>({})" if once else "static_cast<Z>(single({}))"


@functools.cache
def _kernel(formula: Formula, float_time: bool, cast: str) -> Any:
    """Kernel of ``formula``, in float64 on arrays of any floating dtypes; CuPy compiles it for those that come."""
    return cupy.ElementwiseKernel(
        f"X x, Y y, {'float64' if float_time else 'T'} time",
        "Z z",
        f"const double first = wide(x), second = wide(y), t = wide(time); z = {cast.format(source(formula))}",
        name="fastgen_rf_" + name_of(formula),
        preamble=_PREAMBLE,
        options=_OPTIONS,
    )


@functools.cache
def _kernel_of_one(expression: str, cast: str) -> Any:
    return cupy.ElementwiseKernel(
        "X x",
        "Z z",
        f"z = {cast.format(expression)}",
        name="fastgen_rf_cast",
        preamble=_PREAMBLE,
        options=_OPTIONS,
    )


def _where_to_draw(rng: Any, device: Any) -> Any:
    """Index of the device to draw on: a generator's own, which has its state there; else what ``device`` says."""
    asked = _ordinal(device)
    if not isinstance(rng, cupy.random.Generator):
        return asked  # nothing tells where a RandomState is
    own = rng.bit_generator._state.device.id  # no public name tells
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

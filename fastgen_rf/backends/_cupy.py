"""CuPy: cupy's own namespace, on the device where the arrays live, whichever is current.

Unlike PyTorch and JAX, CuPy allocates and launches on the current device, so each entry makes the arrays' current.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import array_api_compat.cupy
import cupy
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
        return array.astype(dtype, copy=False)

    @property
    def functions(self) -> Functions:
        return Functions(cupy.maximum, cupy.sqrt, array_api_compat.cupy)  # cupy's own may lack atan2

    def relabel(self, formula: TimeMap, time: Any) -> Any:
        with time.device:
            return super().relabel(formula, time)

    def permute(self, array: Any, order: Sequence[int]) -> Any:
        return array.transpose(order)

    def evaluate(self, formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
        with first.device:
            return _evaluate_in_one_kernel(formula, first, second, t, dtype)

    def check_rng(self, rng: Any) -> None:
        kinds = (int, cupy.random.Generator, cupy.random.RandomState)
        if rng is not None and not isinstance(rng, kinds):
            raise TypeError(f"rng must be a cupy.random.Generator, an int or None, got {type(rng).__name__}")

    def draw(self, n: int, quantile: Draws, rng: Any, device: Any, dtype: Any) -> Any:
        with cupy.cuda.Device(_ordinal(device)):
            if isinstance(rng, int):
                rng = cupy.random.default_rng(rng)
            if rng is None:
                rng = cupy.random.get_random_state()
            draw = rng.random if isinstance(rng, cupy.random.Generator) else rng.random_sample
            return quantile(draw(quantile.shape(n), dtype=cupy.float64), cupy, functions).astype(dtype)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        with cupy.cuda.Device(_ordinal(device)):
            return cupy.asarray(values.astype(dtype))

    def relative_time(self, formula: TimeFormula, t: Any, t_next: Any, rank: int) -> Any:
        if isinstance(t, float) and isinstance(t_next, float):
            return super().relative_time(formula, t, t_next, rank)
        with (t_next if isinstance(t, float) else t).device:
            return super().relative_time(formula, t, t_next, rank)

    def map(self, function: Function, array: Any, name: str, special: bool = False) -> Any:
        with array.device:
            return function(array.astype(cupy.float64), cupy, functions).astype(array.dtype)


def _evaluate_in_one_kernel(formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
    out = target = cupy.empty_like(first, dtype=dtype)
    if not isinstance(t, float):
        t = with_trailing_axes(t, first.ndim)
    if not first.flags.c_contiguous:  # in the order of memory the kernel indexes axes that lie together as one
        order = sorted(range(first.ndim), key=first.strides.__getitem__, reverse=True)
        first, second, target = (array.transpose(order) for array in (first, second, out))
        t = t if isinstance(t, float) else t.transpose(order)
    _kernel(formula, isinstance(t, float))(first, second, t, target)
    return out


@functools.cache
def _kernel(formula: Formula, float_time: bool) -> Any:
    """Kernel of ``formula``, in float64 on arrays of any floating dtypes; CuPy compiles it for those that come."""
    return cupy.ElementwiseKernel(
        f"X x, Y y, {'float64' if float_time else 'T'} time",
        "Z z",
        f"""
        const double first = static_cast<double>(x), second = static_cast<double>(y), t = static_cast<double>(time);
        z = static_cast<Z>({source(formula)})""",
        name="fastgen_rf_" + name_of(formula),
        preamble="__device__ double maximum(double x, double floor) { return x < floor ? floor : x; }",  # keeps NaN
        options=() if cupy.cuda.runtime.is_hip else ("--fmad=false",),  # a b + c in two roundings, as on the host
    )


def _ordinal(device: Any) -> Any:
    """Index of a CUDA device given as None (the current one), an index, ``"cuda:1"`` or a ``cupy.cuda.Device``."""
    if isinstance(device, str):
        _, _, index = device.partition(":")
        return int(index) if index else None
    return device if device is None else int(device)


BACKEND = CupyBackend(cupy)

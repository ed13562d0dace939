"""NumPy: large arrays in cache-sized blocks, and the floating dtypes of ml_dtypes.

``numpy.isdtype`` and ``numpy.finfo`` do not support the dtypes of ml_dtypes (bfloat16, float8):
https://github.com/numpy/numpy/issues/17809. array_api_compat is not used, because its import takes longer than that of
NumPy.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastgen_rf.arithmetic import FLOATS, Formula, Ops, TimeMap
from fastgen_rf.arithmetic._inplace import InPlace, Scratch, blocks, part
from fastgen_rf.backends._standard import Backend, numpy_dtype, with_trailing_axes

# Elements of a block. Two float64 scratch blocks of 256 KiB stay in the cache.
_BLOCK = 2**15
# Below this number of elements the plain expression is as fast.
_LEAST = 2**16


@functools.cache
def _is_floating(dtype: Any) -> bool:
    if not isinstance(dtype, np.dtype):
        # For example the dtype of a JAX key.
        return False
    scalar = dtype.type
    return issubclass(scalar, np.floating) or (scalar.__module__ == "ml_dtypes" and "float" in scalar.__name__)


class NumpyDtypes(Backend):
    """The part that NumPy, JAX and CuPy share, because they have the dtypes of NumPy and ml_dtypes."""

    def is_floating(self, dtype: Any) -> bool:
        # Only NumPy has longdouble and other byte orders, such as ">f4".
        return _is_floating(dtype) and dtype.char != "g" and dtype.isnative

    def dtype(self, dtype: Any) -> Any:
        return numpy_dtype(np.float32 if dtype is None else dtype)

    def has_float64(self, device: Any) -> bool:
        return True

    def finfo(self, dtype: Any) -> tuple[float, float]:
        # A dtype of ml_dtypes exists only after its import.
        module: Any = np if issubclass(dtype.type, np.floating) else sys.modules["ml_dtypes"]
        info = module.finfo(dtype)
        return float(info.eps), float(info.smallest_normal)


class NumpyBackend(NumpyDtypes):
    """NumPy arrays, of the dtypes of ml_dtypes too."""

    @functools.cached_property
    def special(self) -> Any:
        from scipy import special

        return special

    def is_floating(self, dtype: Any) -> bool:
        return _is_floating(dtype)

    def device(self, array: Any) -> str:
        return "cpu"

    def share_device(self, array: Any, other: Any) -> bool:
        return True

    def _astype(self, array: Any, dtype: Any) -> Any:
        return np.asarray(array).astype(dtype, copy=False)

    def agree(self, first: Any, second: Any, t: Any) -> bool:
        return bool(
            type(first) is type(second) is type(t) is np.ndarray
            and _is_floating(second.dtype)
            and _is_floating(t.dtype)
            and second.shape == first.shape
            and t.shape == first.shape[: t.ndim]
        )

    def evaluate(self, formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
        first = arrays[0]
        rank, wide, ops = first.ndim, [], FLOATS
        for t in times:
            if not isinstance(t, float):
                t, ops = with_trailing_axes(np.asarray(t).astype(np.float64, copy=False), rank), _OPS
            wide.append(t)
        if first.size < _LEAST or (order := _block_order(arrays)) is None:
            # A loop, because before Python 3.12 a comprehension is a call, and takes 3 % of the time of a small call.
            operands = []
            for array in arrays:
                operands.append(np.asarray(array).astype(np.float64, copy=False))
            return np.asarray(formula.function(*operands, *wide, ops)).astype(dtype, copy=False)
        out = np.empty_like(first, dtype=dtype, subok=False)
        *blocked, target = (np.asarray(array).transpose(order) for array in (*arrays, out))
        wide = [t if isinstance(t, float) else t.transpose(order) for t in wide]
        with _scratch.taken() as scratch:
            for index in blocks(target.shape, _BLOCK):
                loads = [_loaded(array[index], held) for array, held in zip(blocked, scratch, strict=False)]
                target[index] = formula.function(*loads, *[part(t, index) for t in wide], ops).values
        return out

    def map(self, function: TimeMap, times: Sequence[Any], constants: tuple[Any, ...] = ()) -> Any:
        wide = [with_trailing_axes(np.asarray(t).astype(np.float64, copy=False), times[0].ndim) for t in times]
        return np.asarray(function(*wide, *constants, _OPS)).astype(times[0].dtype, copy=False)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        if device is not None and not (isinstance(device, str) and device == "cpu"):
            raise ValueError(f"device must be None or 'cpu' for NumPy, got {device!r}; name another framework with xp")
        return values.astype(dtype)


_scratch = Scratch(lambda: np.empty((2, _BLOCK), dtype=np.float64))


def _loaded(array: Any, scratch: Any) -> InPlace:
    """Copy ``array`` to ``scratch`` and return the copy as an operand of formulas."""
    held = scratch[: array.size].reshape(array.shape)
    held[...] = array
    return InPlace(held)


def _sqrt(value: Any) -> Any:
    # The radicand is negative where an array of t_next is below t. The result is NaN there, which is documented.
    with np.errstate(invalid="ignore"):
        return np.sqrt(value)


_OPS = Ops(np.maximum, _sqrt, np)


def _block_order(arrays: Sequence[Any]) -> list[int] | None:
    """Axes from outermost to innermost in memory if the arrays share one dense layout, else None."""
    first = arrays[0]
    order = sorted(range(first.ndim), key=first.strides.__getitem__, reverse=True)
    return order if all(np.asarray(array).transpose(order).flags.c_contiguous for array in arrays) else None


BACKEND = NumpyBackend(np)

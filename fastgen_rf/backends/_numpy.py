"""NumPy: the standard's own ways, without array_api_compat, which takes longer to import than NumPy itself.

What differs is that ml_dtypes adds floating dtypes (bfloat16, float8) that ``numpy.isdtype`` and ``numpy.finfo``
do not know.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastgen_rf._typing import Formula
from fastgen_rf.arithmetic import FLOATS, Functions
from fastgen_rf.arithmetic._inplace import Scratch, evaluate_in_blocks
from fastgen_rf.backends._standard import Backend, Function, numpy_dtype, with_trailing_axes

_BLOCK = 2**17  # elements: two float64 scratch blocks of 1 MiB stay in cache
_LEAST = 2**16  # below this many elements the plain expression is as fast


@functools.cache
def _is_floating(dtype: Any) -> bool:
    if not isinstance(dtype, np.dtype):
        return False  # a JAX key's, say
    scalar = dtype.type
    return issubclass(scalar, np.floating) or (scalar.__module__ == "ml_dtypes" and "float" in scalar.__name__)


class NumpyDtypes(Backend):
    """What the frameworks share whose dtypes are NumPy's and ml_dtypes': NumPy, JAX and CuPy."""

    def is_floating(self, dtype: Any) -> bool:
        return _is_floating(dtype) and dtype.char != "g" and dtype.isnative  # longdouble and ">f4" are NumPy's alone

    def dtype(self, dtype: Any) -> Any:
        return numpy_dtype(np.float32 if dtype is None else dtype)

    def finfo(self, dtype: Any) -> tuple[float, float]:
        if issubclass(dtype.type, np.floating):
            finfo: Any = np.finfo
        else:
            import ml_dtypes  # whoever made the dtype has imported it

            finfo = ml_dtypes.finfo
        info = finfo(dtype)
        return float(info.eps), float(info.smallest_normal)


class NumpyBackend(NumpyDtypes):
    """NumPy arrays, ml_dtypes' included."""

    generator = "numpy.random.Generator"

    def is_floating(self, dtype: Any) -> bool:
        return _is_floating(dtype)

    def device(self, array: Any) -> str:
        return "cpu"

    def has_float64(self, device: Any) -> bool:
        return True

    def devices(self) -> list[Any]:
        return ["cpu"]

    def astype(self, array: Any, dtype: Any) -> Any:
        return np.asarray(array).astype(dtype, copy=False)

    def share_device(self, array: Any, other: Any) -> bool:
        return True

    def agree(self, first: Any, second: Any, t: Any) -> bool:
        return bool(
            type(first) is type(second) is type(t) is np.ndarray
            and _is_floating(second.dtype)
            and _is_floating(t.dtype)
            and second.shape == first.shape
            and t.shape == first.shape[: t.ndim]
        )

    def evaluate(self, formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
        first, second = np.asarray(first), np.asarray(second)
        fn = FLOATS
        if not isinstance(t, float):
            t, fn = with_trailing_axes(np.asarray(t, dtype=np.float64), first.ndim), _FUNCTIONS
        order = _block_order(first, second)
        if order is None:
            first, second = first.astype(np.float64, copy=False), second.astype(np.float64, copy=False)
            return np.asarray(formula(first, second, t, fn)).astype(dtype, copy=False)
        out = np.empty_like(first, dtype=dtype)
        x, y, target = (a.transpose(order) for a in (first, second, out))
        t = t if isinstance(t, float) else t.transpose(order)
        with _kept.taken(lambda: np.empty((2, _BLOCK), dtype=np.float64)) as scratch:
            evaluate_in_blocks(formula, x, y, t, target, scratch, fn)
        return out

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        if device is not None and not (isinstance(device, str) and device == "cpu"):
            raise ValueError(f"device must be None or 'cpu' for NumPy, got {device!r}; name another framework with xp")
        return values.astype(dtype)

    def map(self, function: Function, array: Any, name: str, special: bool = False) -> Any:
        from scipy import special as functions

        return np.asarray(function(array.astype(np.float64), np, functions)).astype(array.dtype)


_FUNCTIONS = Functions(np.maximum, np.sqrt)
_kept = Scratch()


def _block_order(first: Any, second: Any) -> list[int] | None:
    """Axes from outermost to innermost in memory, if one pass in blocks applies: large arrays of one dense layout."""
    if first.size < _LEAST:
        return None
    order = sorted(range(first.ndim), key=first.strides.__getitem__, reverse=True)
    dense = first.transpose(order).flags.c_contiguous and second.transpose(order).flags.c_contiguous
    return order if dense else None


BACKEND = NumpyBackend(np)

"""NumPy: the standard's own ways, without array_api_compat, which takes longer to import than NumPy itself.

What differs is that ml_dtypes adds floating dtypes (bfloat16, float8) that ``numpy.isdtype`` and ``numpy.finfo``
do not know.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgen_rf.backends._standard import Backend, Quantile


class NumpyDtypes(Backend):
    """What the frameworks share whose dtypes are NumPy's and ml_dtypes': NumPy, JAX and CuPy."""

    def is_floating(self, dtype: Any) -> bool:
        if not isinstance(dtype, np.dtype):
            return False  # a JAX key's, say
        scalar = dtype.type
        return issubclass(scalar, np.floating) or (scalar.__module__ == "ml_dtypes" and "float" in scalar.__name__)

    def dtype(self, dtype: Any) -> Any:
        return np.dtype(np.float32 if dtype is None else dtype)

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

    def device(self, array: Any) -> str:
        return "cpu"

    def has_float64(self, device: Any) -> bool:
        return True

    def devices(self) -> list[Any]:
        return ["cpu"]

    def astype(self, array: Any, dtype: Any) -> Any:
        return np.asarray(array).astype(dtype, copy=False)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        if device not in (None, "cpu"):
            raise ValueError(f"device must be None or 'cpu' for NumPy, got {device!r}")
        return values.astype(dtype)

    def invert(self, quantile: Quantile, u: Any) -> Any:
        from scipy import special

        return np.asarray(quantile(u.astype(np.float64), np, special)).astype(u.dtype)


BACKEND = NumpyBackend(np)

"""A stand-in for CuPy over NumPy: it takes the calls that CuPy would get where there is no GPU. It is not CuPy.

It proves nothing about CuPy, a compiler or a device, and a test that passes on it is not a test that passes on CuPy.
What it does show is that what is called exists, with the arguments that CuPy takes, and on the right device: there are
two, and an array may be computed with only while its own is current. As CuPy does, it refuses NumPy's arrays and
conversions to them that nobody asked for, moves what is neither in C nor in Fortran order as C, and flushes
subnormals in a cast. Only ``--stand-in`` puts this folder on the path.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np

from . import cuda

__version__ = "stand-in"


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """NumPy's array behind the names that CuPy's has, on one of the stand-in's devices."""

    def __init__(self, host: Any, device: Any = None) -> None:
        self._host, self.device = np.asarray(host), device or cuda.Device()

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: self._host.flags)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(self._host[_here(key)], self.device)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_here(key)] = _here(value)

    def transpose(self, *axes: Any) -> ndarray:
        return ndarray(self._host.transpose(*axes), self.device)

    def reshape(self, *shape: Any) -> ndarray:
        return ndarray(self._host.reshape(*shape), self.device)

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return ndarray(_flushed(_flushed(_here(self)).astype(dtype, copy=copy)))

    def copy(self) -> ndarray:
        return ndarray(_here(self).copy())

    def tolist(self) -> Any:
        return self.get().tolist()

    def get(self) -> Any:
        cuda.wait()
        return self._host.copy(order="K")

    def item(self) -> Any:
        return self.get().item()

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed: use get()")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or any(isinstance(x, np.ndarray) for x in inputs):
            return NotImplemented
        return _there(ufunc(*map(_here, inputs), **{name: _here(value) for name, value in options.items()}))


def _here(value: Any) -> Any:
    """What NumPy computes with: an array's host side, if the array's device is current."""
    if isinstance(value, ndarray):
        if value.device != cuda.Device():
            raise RuntimeError(f"an array on {value.device} while {cuda.Device()} is current")
        return value._host
    if isinstance(value, (tuple, list)):
        return type(value)(_here(item) for item in value)
    return value


def _there(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_there, value))
    return ndarray(value) if isinstance(value, (np.ndarray, np.generic)) else value


def over_numpy(function: Any) -> Any:
    """``function`` of NumPy's or SciPy's for arrays of the stand-in."""

    def call(*args: Any, **options: Any) -> Any:
        if any(isinstance(x, np.ndarray) for x in args):
            raise TypeError(f"Unsupported type {np.ndarray}")
        return _there(function(*map(_here, args), **{name: _here(value) for name, value in options.items()}))

    return call


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    found = getattr(np, name)
    return over_numpy(found) if callable(found) and not inspect.isclass(found) else found


def asnumpy(array: Any) -> Any:
    return array.get() if isinstance(array, ndarray) else np.asarray(array)


def asarray(values: Any, dtype: Any = None, order: str = "K") -> ndarray:
    if isinstance(values, ndarray):
        return values if dtype in (None, values.dtype) else values.astype(dtype)
    host = np.asarray(values, dtype=dtype)
    return ndarray(host.copy(order="F" if order in "FK" and host.flags.f_contiguous and host.ndim > 1 else "C"))


array = asarray


def empty_like(like: ndarray, dtype: Any = None) -> ndarray:
    """Of the layout of ``like``, filled with what no test takes for a result."""
    host = np.empty_like(_here(like), dtype=dtype)
    host[...] = 123.0
    return ndarray(host)


def _flushed(host: Any) -> Any:
    """Zeros for subnormals of float32 and bfloat16, as CuPy's casts have them."""
    if host.dtype.name not in ("float32", "bfloat16"):
        return host
    return np.where(np.abs(host.astype(np.float64)) < 2.0**-126, np.copysign(0, host), host).astype(host.dtype)


class ElementwiseKernel:
    """Arguments checked as CuPy checks them; the operation, one that is an expression in Python too, is evaluated."""

    def __init__(
        self, in_params: str, out_params: str, operation: str, name: str, preamble: str = "", options: Any = ()
    ) -> None:
        if not re.fullmatch(r"[a-zA-Z_]\w*", name):
            raise ValueError(f'Invalid kernel name: "{name}"')
        self.params = [parameter.split() for parameter in (in_params + "," + out_params).split(",")]
        assignments = re.sub(r"const double |static_cast<(\w)>", r"\1", operation)
        self.operation = "\n".join(re.split(r"[;,]\s*(?=\w+ = )", assignments))

    def __call__(self, *args: Any) -> None:
        if len(args) != len(self.params):
            raise TypeError(f"{len(self.params)} arguments, got {len(args)}")
        types: dict[str, Any] = {}
        for (kind, name), value in zip(self.params, args, strict=True):
            if isinstance(value, ndarray):
                if types.setdefault(kind, value.dtype) != value.dtype:
                    raise TypeError(f"Type is mismatched. {name} {value.dtype} {types[kind]}")
            elif len(kind) == 1 or not isinstance(value, (int, float)):
                raise TypeError(f"{name} is no array: {type(value)}")
        *inputs, out = map(_here, args)
        if np.broadcast_shapes(*(np.shape(value) for value in inputs)) != out.shape:
            raise ValueError("Out shape is mismatched")

        def run() -> None:
            scope: dict[str, Any] = {name: np.asarray(value) for (_, name), value in zip(self.params, inputs)}  # noqa: B905
            scope |= {kind: (lambda x, to=dtype: np.asarray(x).astype(to)) for kind, dtype in types.items()}
            scope |= {"wide": lambda x: x.astype(np.float64), "single": lambda x: x.astype(np.float32)}
            scope |= {"maximum": lambda x, floor: np.where(x < floor, floor, x), "sqrt": np.sqrt}
            with np.errstate(all="ignore"):
                exec(self.operation, scope)
            out[...] = scope["z"]

        cuda.launch(run)


import cupy.random  # noqa: E402, F401  # it makes arrays; `from . import` would find NumPy's

# What array_api_compat takes by `from cupy import *`, for which `__getattr__` is not asked.
__all__ = [name for name in (*globals(), *vars(np)) if not name.startswith("_")]

"""A stand-in for CuPy over NumPy, for ``pytest --device stand-in``. It proves nothing about CuPy, a compiler or a GPU.

It shows that the functions that fastgen_rf calls exist, get arguments that CuPy accepts, and run on the right device:
there are two devices, and an array can be used only while its device is the current one. Like CuPy, the stand-in
rejects NumPy's arrays, and its casts flush subnormals. Only ``asnumpy`` reads values: a call that would wait fails.
"""

from __future__ import annotations

import inspect
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

from . import cuda

__version__ = "stand-in"
# array_api_compat imports these three modules.
sys.modules.update({"cupy.fft": np.fft, "cupy.linalg": np.linalg, "cupy.cuda.device": cuda})


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """A NumPy array on one of the stand-in's devices, with the attributes of CuPy's arrays."""

    def __init__(self, host: Any, device: Any = None) -> None:
        self._host, self.device = np.asarray(host), device or cuda.Device()

    def __getattr__(self, name: str) -> Any:
        if name not in ("shape", "strides", "dtype", "ndim", "size", "nbytes", "itemsize", "flags"):
            raise AttributeError(name)
        return getattr(self._host, name)

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(self._host[_to_host(key)], self.device)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_to_host(key)] = _to_host(value)

    def transpose(self, *axes: Any) -> ndarray:
        return ndarray(self._host.transpose(*axes), self.device)

    def reshape(self, *shape: Any) -> ndarray:
        return ndarray(self._host.reshape(*shape), self.device)

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return ndarray(_flushed(_flushed(_to_host(self)).astype(dtype, copy=copy)))

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    __bool__ = __float__ = __int__ = __array__  # on a GPU each of these would wait for the device

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or any(isinstance(x, np.ndarray) for x in inputs):
            return NotImplemented
        return over_numpy(ufunc)(*inputs, **options)


def _to_host(value: Any) -> Any:
    """The NumPy arrays behind the stand-in's, if they are on the current device."""
    if isinstance(value, ndarray):
        if value.device != cuda.Device():
            raise RuntimeError(f"an array on {value.device} while {cuda.Device()} is current")
        return value._host
    return type(value)(map(_to_host, value)) if isinstance(value, (tuple, list)) else value


def over_numpy(function: Any) -> Any:
    """A function of NumPy or SciPy for the stand-in's arrays."""

    def call(*args: Any, **options: Any) -> Any:
        if any(isinstance(x, np.ndarray) for x in args):
            raise TypeError(f"Unsupported type {np.ndarray}")
        result = function(*map(_to_host, args), **{name: _to_host(value) for name, value in options.items()})
        return ndarray(result) if isinstance(result, (np.ndarray, np.generic)) else result

    return call


def __getattr__(name: str) -> Any:
    found = getattr(np, name)
    return over_numpy(found) if callable(found) and not inspect.isclass(found) else found


def asnumpy(array: ndarray) -> Any:
    return array._host.copy(order="K")


def asarray(values: Any, dtype: Any = None) -> ndarray:
    if isinstance(values, ndarray):
        return values if dtype in (None, values.dtype) else values.astype(dtype)
    host = np.asarray(values, dtype=dtype)
    return ndarray(host.copy(order="F" if host.flags.f_contiguous and host.ndim > 1 else "C"))


def empty_like(like: ndarray, dtype: Any = None) -> ndarray:
    """An array with the memory layout of ``like``, filled with a number that no test expects."""
    host = np.empty_like(_to_host(like), dtype=dtype)
    host[...] = 123.0
    return ndarray(host)


def _flushed(host: Any) -> Any:
    """Zeros instead of subnormals of float32 and bfloat16."""
    if host.dtype.name not in ("float32", "bfloat16"):
        return host
    return np.where(np.abs(host.astype(np.float64)) < 2.0**-126, np.copysign(0, host), host).astype(host.dtype)


class ElementwiseKernel:
    """Checks its arguments as CuPy does, then evaluates the operation, which is also an expression in Python."""

    def __init__(
        self, in_params: str, out_params: str, operation: str, name: str, preamble: str = "", options: Any = ()
    ) -> None:
        if not re.fullmatch(r"[a-zA-Z_]\w*", name):
            raise ValueError(f'Invalid kernel name: "{name}"')
        self.params = [parameter.split() for parameter in (in_params + "," + out_params).split(",")]
        for kind, _ in self.params:
            if len(kind) > 1:  # one character is a type that a call decides
                np.dtype(kind)
        assignments = re.sub(r"const double |static_cast<(\w)>", r"\1", operation)
        self.operation = "\n".join(re.split(r"[;,]\s*(?=\w+ = )", assignments))

    def __call__(self, *args: Any) -> None:
        types: dict[str, Any] = {}
        for (kind, name), value in zip(self.params, args, strict=True):
            if isinstance(value, ndarray):
                if types.setdefault(kind, value.dtype) != value.dtype:
                    raise TypeError(f"Type is mismatched. {name} {value.dtype} {types[kind]}")
            elif len(kind) == 1 or not isinstance(value, (int, float)):
                raise TypeError(f"{name} is no array: {type(value)}")
        *inputs, out = map(_to_host, args)
        if np.broadcast_shapes(*(np.shape(value) for value in inputs)) != out.shape:
            raise ValueError("Out shape is mismatched")

        scope: dict[str, Any] = {name: np.asarray(x) for (_, name), x in zip(self.params, inputs, strict=False)}
        scope |= {kind: (lambda x, to=dtype: np.asarray(x).astype(to)) for kind, dtype in types.items()}
        scope |= {"wide": lambda x: x.astype(np.float64), "single": lambda x: x.astype(np.float32)}
        scope |= {"maximum": lambda x, floor: np.where(x < floor, floor, x), "sqrt": np.sqrt}
        with np.errstate(all="ignore"):
            exec(self.operation, scope)
        out[...] = scope["z"]


class Generator:
    """NumPy's generator as CuPy's: with 32 bits of a seed, and a state that only its own device can draw from."""

    def __init__(self, seed: Any = None) -> None:
        self.bit_generator = SimpleNamespace(_state=ndarray(np.zeros(1, np.int8)))
        self._rng = np.random.default_rng(None if seed is None else seed % 2**32)

    def random(self, size: Any = None, dtype: Any = np.float64) -> ndarray:
        if cuda.Device() != self.bit_generator._state.device:
            raise RuntimeError("This Generator state is allocated in a different device")
        return ndarray(np.asarray(self._rng.random(size, dtype=dtype)))


class RandomState:
    def __init__(self, seed: Any = None) -> None:
        self.random_sample = Generator(seed).random


_states: dict[int, RandomState] = {}  # the global state of each device
random = SimpleNamespace(
    Generator=Generator,
    RandomState=RandomState,
    default_rng=Generator,
    get_random_state=lambda: _states.setdefault(cuda.Device().id, RandomState()),
    seed=lambda seed: _states.update({cuda.Device().id: RandomState(seed)}),
)


class _Special:
    """SciPy's special functions."""

    def __getattr__(self, name: str) -> Any:
        return over_numpy(getattr(special, name))


sys.modules["cupyx.scipy"] = SimpleNamespace(special=_Special())  # type: ignore[assignment]

# `from cupy import *`, in array_api_compat, does not call __getattr__.
__all__ = [name for name in (*globals(), *vars(np)) if not name.startswith("_")]

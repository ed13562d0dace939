"""The interface of a backend, and its implementation with the array API standard alone.

:class:`Backend` supports any namespace of the standard (array_api_strict, dask, ...). It evaluates formulas in float64,
or in triple-float32 arithmetic on a device without float64. It draws timesteps on the host and then moves them. Every
other backend is a subclass that overrides the methods that its framework does differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from fastgen_rf.arithmetic import FLOATS, Float32, Formula, Ops, TimeMap
from fastgen_rf.arithmetic._triple_float32 import TRIPLE_OPS, TripleFloat32, leading_bits, plus


class Draws:
    """A function from float64 uniform numbers to samples."""

    count = 1
    """How many arrays a draw returns."""
    stratified: bool = False
    """If True, ``u`` has shape (..., 2, n): ``u[..., 0, :]`` are positions within a stratum, and
    ``argsort(u[..., 1, :])`` is the random permutation that assigns a stratum to each sample."""
    leading: tuple[int, ...] = ()
    """Axes of ``u`` in front of (2, n) or (n,)."""
    __call__: Callable[..., tuple[Any, ...]]
    """``draws(u, xp, special, order=None)``: arrays of shape (n,); ``order`` replaces ``argsort(u[..., 1, :])``."""

    @property
    def boundaries(self) -> tuple[float, ...] | None:
        """If the sample is ``searchsorted(boundaries, u, side="right")``, these boundaries; else None."""
        return None

    def shape(self, n: int) -> tuple[int, ...]:
        """Shape of ``u`` for n samples."""
        return (*self.leading, 2, n) if self.stratified else (*self.leading, n)


class Backend:
    """Evaluate formulas and draw samples with the array API namespace ``xp``."""

    name: str
    special: Any = None
    """Namespace of the special functions ``expit`` and ``ndtri``, if there is one."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.name = xp.__name__.removeprefix("array_api_compat.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backend) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    # Arrays and devices

    def is_floating(self, dtype: Any) -> bool:
        """Whether ``dtype`` is a real floating dtype of this framework."""
        try:
            return bool(self.xp.isdtype(dtype, "real floating"))
        except TypeError:
            # array_api_strict and sparse raise for a dtype of another framework.
            return False

    def device(self, array: Any) -> Any:
        """Device that ``array`` lives on."""
        from array_api_compat import device

        return device(array)

    def share_device(self, array: Any, other: Any) -> bool:
        """Whether the two can be computed with together."""
        return bool(self.device(array) == self.device(other))

    def same_shape(self, shape: Any, other: Any) -> bool:
        """Whether two shapes are equal, as far as their sizes are known."""
        return bool(shape == other or (len(shape) == len(other) and all(map(may_equal, shape, other))))

    def agree(self, first: Any, second: Any, t: Any) -> bool:
        """Fast path: True only if the three arrays are plainly compatible. False means "not known"."""
        return False

    def has_float64(self, device: Any) -> bool:
        """Whether ``device`` computes in float64."""
        info = self.xp.__array_namespace_info__()
        return "float64" in info.dtypes(device=device, kind="real floating")

    def devices(self) -> list[Any]:
        """The devices of this machine."""
        return list(self.xp.__array_namespace_info__().devices())

    # Formulas

    def _astype(self, array: Any, dtype: Any) -> Any:
        """``array`` in ``dtype``; itself where it is already."""
        return self.xp.astype(array, dtype, copy=False)

    def permute(self, array: Any, order: Sequence[int]) -> Any:
        """``array`` with its axes in this order."""
        return self.xp.permute_dims(array, tuple(order))

    def complement(self, t: Any) -> Any:
        """``1 - t`` in t's dtype."""
        return self._astype(1 - t, t.dtype)

    def evaluate(self, formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
        """Evaluate ``formula`` in float64 and cast the result to ``dtype``.

        The arrays have one shape. A time is a Python float or an array that broadcasts to that shape after trailing
        singleton axes.
        """
        # Many namespaces compute with NumPy. The result is NaN where an array of t_next is below t.
        with np.errstate(invalid="ignore"):
            return self._evaluated(formula, arrays, times, dtype)

    def _evaluated(self, formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
        first = arrays[0]
        wide = [self._wide(array, first.ndim) for array in (*arrays, *times)]
        if all(isinstance(t, float) for t in times):
            ops = FLOATS
        elif isinstance(wide[0], TripleFloat32):
            ops = TRIPLE_OPS
        else:
            ops = self._ops
            # The functions of the standard take no Python floats.
            device, float64 = self.device(first), self.xp.float64
            wide = [self.xp.asarray(x, dtype=float64, device=device) if isinstance(x, float) else x for x in wide]
        result = formula.function(*wide, ops)
        return self._astype(result.float32() if isinstance(result, TripleFloat32) else result, dtype)

    def map_times(self, function: TimeMap, times: Sequence[Any], constants: tuple[Any, ...] = ()) -> Any:
        """Call :meth:`map` without NumPy's warnings, for functions that may overflow or return infinity."""
        # Many namespaces compute with NumPy.
        with np.errstate(divide="ignore", over="ignore"):
            return self.map(function, times, constants)

    def map(self, function: TimeMap, times: Sequence[Any], constants: tuple[Any, ...] = ()) -> Any:
        """Evaluate ``function(*times, *constants, ops)`` in float64 and cast it to the dtype of the first time.

        A second array of times broadcasts to the shape of the first one after trailing singleton axes. The constants
        are hashable. A device without float64 computes in triple-float32 arithmetic.
        """
        rank, dtype = times[0].ndim, times[0].dtype
        if self.has_float64(self.device(times[0])):
            wide = [self._astype(with_trailing_axes(t, rank), self.xp.float64) for t in times]
            return self._astype(function(*wide, *constants, self._ops), dtype)
        wide = [self._wide(t, rank) for t in times]
        # The parts of a number are NaN at 0, 1 and infinity, where float32 is exact. These values are replaced
        # beforehand, because in reverse mode the NaN of their derivative would survive the select.
        single = [t.parts[0] for t in wide]
        is_end = (single[0] == 0) | (single[0] == 1) | (single[0] == math.inf)
        wide[0] = TripleFloat32((self.xp.where(is_end, 0.5, single[0]),), self._float32)
        emulated = function(*wide, *constants, TRIPLE_OPS).float32()
        return self._astype(self.xp.where(is_end, function(*single, *constants, self._ops), emulated), dtype)

    @property
    def _ops(self) -> Ops:
        """The functions of float64 arrays that a formula uses."""
        return Ops(self.xp.maximum, self.xp.sqrt, self.xp)

    @property
    def _float32(self) -> Float32:
        """The float32 operations of triple-float32 arithmetic."""
        return Float32(self.xp, plus, plus, leading_bits)

    def _wide(self, array: Any, rank: int) -> Any:
        """An array in float64, or as TripleFloat32, with trailing axes up to ``rank``; a float unchanged."""
        if isinstance(array, float):
            return array
        array = with_trailing_axes(array, rank)
        if self.has_float64(self.device(array)):
            return self._astype(array, self.xp.float64)
        return TripleFloat32((self._astype(array, self.xp.float32),), self._float32)

    # Samplers

    def dtype(self, dtype: Any) -> Any:
        """Find this framework's dtype of that name; float32 if None."""
        if dtype is None:
            return self.xp.float32
        # "float" is float64 for NumPy, and here for every framework; torch.float is float32.
        if isinstance(dtype, str) and dtype != "float":
            # The name in the framework comes first, because NumPy has bfloat16 and float8 only after an import of
            # ml_dtypes.
            named = getattr(self.xp, dtype, None)
            if named is not None and self.is_floating(named):
                return named
        # An int is not a dtype, and NumPy raises the error.
        if isinstance(dtype, (np.dtype, type, str, int)):
            dtype = getattr(self.xp, numpy_dtype(dtype).name, dtype)
        return dtype

    def finfo(self, dtype: Any) -> tuple[float, float]:
        """Spacing above 1 and smallest normal number of a floating dtype."""
        info = self.xp.finfo(dtype)
        return float(info.eps), float(info.smallest_normal)

    def check_rng(self, rng: Any) -> None:
        """Raise TypeError if the framework cannot draw with ``rng``, which is not an int or a NumPy generator."""
        if rng is not None:
            raise TypeError(f"rng must be a numpy.random.Generator, an int or None, got {type(rng).__name__}")

    def sample(self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any) -> tuple[Any, ...]:
        """Draw the arrays of ``draws`` in ``shape``: on the host with a NumPy generator, else with :meth:`draw`."""
        if isinstance(rng, np.random.Generator):
            return self._sample_on_host(shape, draws, rng, device, dtype)
        return self.draw(shape, draws, rng, device, dtype)

    def _sample_on_host(
        self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any
    ) -> tuple[Any, ...]:
        from scipy import special

        times = draws(rng.random(draws.shape(math.prod(shape))), np, special)
        return tuple(self.from_host(t.reshape(shape), device, dtype) for t in times)

    def draw(self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any) -> tuple[Any, ...]:
        """Draw the arrays of ``draws`` in ``shape`` on ``device``, with ``rng`` of the framework, an int or None.

        An int seeds a new generator. Different ints must give different streams, however large they are.
        """
        return self._sample_on_host(shape, draws, np.random.default_rng(rng), device, dtype)

    def take(self, values: tuple[float, ...], index: Any, dtype: Any) -> Any:
        """Return ``values[index]`` in ``dtype``, which holds the values, with the shape and the device of ``index``."""
        table = self.from_host(np.asarray(values), self.device(index), dtype)
        return self.xp.reshape(self.xp.take(table, self.xp.reshape(index, (-1,))), index.shape)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        """Convert NumPy float64 ``values`` to an array of this framework in ``dtype``."""
        if device is not None and not makes_arrays_on(device, self):
            raise ValueError(f"device must be one of {', '.join(map(repr, self.devices()))}, got {device!r}")
        # A NumPy dtype may be one that the standard does not have.
        if isinstance(dtype, (np.dtype, type)):
            host = values.astype(dtype)
        else:
            host = values if dtype == self.xp.float64 else values.astype(np.float32)
        return self.xp.asarray(host, dtype=dtype, device=device)


def makes_arrays_on(device: Any, backend: Backend) -> bool:
    """Whether the framework of ``backend`` makes arrays on ``device``."""
    try:
        if device in backend.devices():
            return True
        placed = backend.device(backend.xp.empty(0, device=device))
    # Each namespace raises different exceptions.
    except Exception:
        return False
    # dpnp lists devices of SYCL, but the devices of its arrays have another type, and it accepts names as well.
    # dask accepts any value, and places arrays on its only device.
    return placed not in backend.devices()


def numpy_dtype(dtype: Any) -> Any:
    """NumPy's dtype of that name."""
    try:
        return np.dtype(dtype)
    except TypeError:
        if isinstance(dtype, str):
            # NumPy has bfloat16, float8 and similar dtypes after an import of ml_dtypes.
            with suppress(ImportError, TypeError):
                import ml_dtypes  # noqa: F401

                return np.dtype(dtype)
        raise TypeError(f"dtype must be a real floating dtype, got {dtype!r}") from None


def with_trailing_axes(t: Any, rank: int) -> Any:
    """``t`` with trailing singleton axes up to ``rank``."""
    return t if t.ndim == rank else t[(..., *(None,) * (rank - t.ndim))]


def may_equal(n: Any, m: Any) -> bool:
    """Whether two sizes are equal, or one of them is not known: None in the standard, NaN in dask."""
    return bool(n == m or n is None or m is None or n != n or m != m)

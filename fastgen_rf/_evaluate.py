"""The checks of arrays and times, then the backend that evaluates a formula in float64 and rounds once.

The checks read types, shapes, dtypes and devices, never the values of an array. They take one or two microseconds,
every compiler can trace them, and they never wait for a device.
"""

from __future__ import annotations

import math
from typing import Any

from fastgen_rf._numbers import plain
from fastgen_rf._tracing import lies_in, shown
from fastgen_rf._typing import Array, ArrayT
from fastgen_rf.arithmetic import Formula
from fastgen_rf.backends import Backend, as_array, backend_of, excludes_jax, of_one_framework
from fastgen_rf.backends._standard import may_equal

# A sum of thousands of time steps misses an end of the interval by a few units in the last place for each step.
SLACK = 1e-12
_INTEGER_TIME = "; t runs from 0 (data) to 1 (noise): divide integer timesteps (e.g. diffusers' 0..1000) by 1000"


def evaluate(
    formula: Formula,
    names: tuple[str, ...],
    arrays: tuple[ArrayT | Array, ...],
    times: tuple[Array | float, ...],
    dtype_of: int = 0,
) -> ArrayT:
    """Evaluate a formula in float64 and round once, to the dtype of the array at the place ``dtype_of``.

    ``names`` are the names of the arrays in the public function, for error messages. Arrays beyond those that the
    formula uses are checked and then ignored.
    """
    backend, checked_arrays, checked_times = checked(names, arrays, times)
    used = checked_arrays[: len(formula.constants)]
    result: ArrayT = backend.evaluate(formula, used, checked_times, checked_arrays[dtype_of].dtype)
    return result


def checked(names: tuple[str, ...], arrays: tuple[Any, ...], times: tuple[Any, ...]) -> tuple[Backend, Any, Any]:
    """Check one or two arrays and their times. A time that is a number becomes a float."""
    count = len(arrays)
    if not excludes_jax(arrays[0]):
        values = of_one_framework(*arrays, *times)
        arrays, times = values[:count], values[count:]
    first, last = arrays[0], arrays[-1]
    backend = floating_backend(first, names[0])
    if len(times) == 1 and backend.agree(first, last, times[0]):
        return backend, arrays, times
    if count == 2:
        _check_belongs(backend, first, names[0], last, names[1])
        if not backend.same_shape(first.shape, last.shape):
            raise ValueError(
                f"{names[0]} and {names[1]} must have the same shape, got {shown(tuple(first.shape))} and "
                f"{shown(tuple(last.shape))}"
            )
    t = _fitted(backend, first, names[0], times[0], "t")
    if len(times) == 1:
        return backend, arrays, (t,)
    return backend, arrays, (t, _fitted(backend, first, names[0], times[1], "t_next"))


def _fitted(backend: Backend, array: Array, array_name: str, t: Any, name: str) -> Any:
    """Check that ``t`` is a time and fits the array; a number becomes a float."""
    time = checked_time(t, name)
    if not isinstance(time, float):
        time = as_array(time)
        check_fits(backend, array, array_name, time, name)
    return time


def check_fits(backend: Backend, array: Array, array_name: str, other: Any, name: str) -> None:
    """Check that ``other`` is a floating array on the device of ``array`` and fits its shape."""
    _check_belongs(backend, array, array_name, other, name)
    shape, target, rank = other.shape, array.shape, len(other.shape)
    fits = backend.same_shape(shape, target[:rank]) or (
        rank <= len(target) and all(n == 1 or may_equal(n, m) for n, m in zip(shape, target, strict=False))
    )
    if not fits:
        raise ValueError(
            f"{name} must have a leading part of {array_name}'s shape {shown(tuple(target))}, or broadcast to it "
            f"after trailing singleton axes, got {shown(tuple(shape))}; use "
            f"expand_like({name}, {array_name}, axes=...) to align {name} with other axes"
        )


def floating_backend(array: Array, name: str) -> Backend:
    backend = backend_of(array, name)
    if not backend.is_floating(array.dtype):
        hint = _INTEGER_TIME if name in ("t", "t_next") else ""
        raise TypeError(f"{name} must be a real floating array, got dtype {array.dtype}{hint}")
    return backend


def checked_time(t: Any, name: str = "t", low: float = 0.0, high: float = 1.0, source: str = "") -> Any:
    """Check a number and return it as a float; let anything else pass.

    Floats in [low, high], the ints 0 and 1, and all ints in an unbounded interval are accepted. A float within 1e-12 of
    the interval becomes its end. An object that converts to a JAX array is converted. ``source`` is the time
    parameterization if the interval is not [0, 1]. In that case the caller must reject other numbers beforehand.
    """
    given, t = t, plain(t)
    if not isinstance(t, (float, int, complex)):
        return of_one_framework(given)[0]
    if type(t) is not float and isinstance(t, int) and not isinstance(t, bool) and (t in (0, 1) or high == math.inf):
        try:
            t = float(t)
        except OverflowError:
            raise ValueError(f"{name} must be a number that float64 can hold, got {shown(given)}") from None
    if not isinstance(t, float):
        hint = _INTEGER_TIME if type(t) is int and name != "u" else ""
        raise TypeError(f"{name} must be a float in [0, 1] or a real floating array, got {shown(given)}{hint}")
    if lies_in(t, low, high):
        # A subclass of float may define different arithmetic, so it is converted.
        return t if type(t) is float else float(t)
    # NaN fails this check as well.
    if not lies_in(t, low - SLACK, high + SLACK):
        interval = f"[{low}, {high}] for source {source!r}" if source else "[0, 1]"
        raise ValueError(f"{name} must lie in {interval}, got {shown(given)}")
    return low if t < low else high


def check_choices(source: Any, target: Any, choices: tuple[str, ...]) -> None:
    for name, choice in (("source", source), ("target", target)):
        # An array would be compared element by element.
        if not isinstance(choice, str) or choice not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {choice!r}")


def _check_belongs(backend: Backend, array: Array, name: str, other: Array, other_name: str) -> None:
    """Check that ``other`` is a floating array of the same framework and device as ``array``."""
    if type(other) is not type(array) or not backend.is_floating(other.dtype):
        # The framework is compared first, because Dynamo cannot read the dtype of a NumPy array.
        theirs = backend_of(other, other_name)
        if theirs != backend:
            raise mixed(name, backend, other_name, theirs)
        floating_backend(other, other_name)
    if not backend.share_device(array, other):
        raise ValueError(
            f"{name} and {other_name} must be on one device, got {backend.device(array)} and {backend.device(other)}"
        )


def mixed(name: str, backend: Backend, other_name: str, theirs: Backend) -> TypeError:
    """Make the error for arrays of two frameworks. It shows how to convert a NumPy array to the other framework."""
    hint = ""
    if theirs.name == "numpy":
        hint = f": pass {backend.name}.asarray({other_name})"
    elif backend.name == "numpy":
        hint = f": pass {theirs.name}.asarray({name})"
    got = f"{backend.name} and {theirs.name}"
    return TypeError(f"{name} and {other_name} must come from one framework, got {got}{hint}")

"""How a formula is applied: the checks, then the backend that runs it in float64 and casts once.

Checks look at type, shape, dtype and device alone, never at an array's values: they cost a microsecond or two,
trace under every compiler and never wait for a device. What differs between frameworks is the backends' business.
"""

from __future__ import annotations

from typing import Any

from fastgen_rf._numbers import plain
from fastgen_rf._tracing import lies_in, shown
from fastgen_rf._typing import Array, ArrayT, Formula, TimeFormula
from fastgen_rf.backends import Backend, backend_of, may_equal, of_one_framework

# How far a sum of steps may miss an end of the interval: a few units in the last place for each of thousands of steps.
SLACK = 1e-12
_INTEGER_TIME = "; t runs from 0 (data) to 1 (noise): divide integer timesteps (e.g. diffusers' 0..1000) by 1000"


def evaluate(
    formula: Formula, first: tuple[str, Array], second: tuple[str, Array], t: Array | float, like: ArrayT
) -> ArrayT:
    """Evaluate ``formula(first, second, t)`` in float64 and round once, to the dtype of ``like``.

    ``first`` and ``second`` come with the names that their callers know them by, for the error messages.
    """
    x, y, t, like = of_one_framework(first[1], second[1], t, like)
    backend, time = checked((first[0], x), (second[0], y), t)
    result: ArrayT = backend.evaluate(formula, x, y, time, like.dtype)
    return result


def evaluate_between(
    formula: Formula,
    relative: TimeFormula,
    first: tuple[str, Array],
    second: tuple[str, Array],
    t: Array | float,
    t_next: Array | float,
    like: ArrayT,
) -> ArrayT:
    """Evaluate ``formula(first, second, relative(t, t_next))`` as :func:`evaluate` does, rounding once in all."""
    x, y, t, t_next, like = of_one_framework(first[1], second[1], t, t_next, like)
    backend, start = checked((first[0], x), (second[0], y), t)
    time = backend.relative_time(relative, start, _fitted(backend, (first[0], x), t_next, "t_next"), len(x.shape))
    result: ArrayT = backend.evaluate(formula, x, y, time, like.dtype)
    return result


def checked(first: tuple[str, Array], second: tuple[str, Array], t: Array | float) -> tuple[Backend, Any]:
    """Check two arrays and their time; the backend that serves them, and the time, a float if it is a number."""
    name, array = first
    other_name, other = second
    backend = floating_backend(array, name)
    if backend.agree(array, other, t):
        return backend, t
    _check_belongs(backend, array, name, other, other_name)
    if not backend.same_shape(array.shape, other.shape):
        raise ValueError(
            f"{name} and {other_name} must have the same shape, got {_show(array.shape)} and {_show(other.shape)}"
        )
    return backend, _fitted(backend, first, t, "t")


def _fitted(backend: Backend, first: tuple[str, Array], t: Any, name: str) -> Any:
    """Check that ``t`` is a time and fits the array ``first``; a number becomes a float."""
    array_name, array = first
    time = checked_time(t, name)
    if not isinstance(time, float):
        time = backend.known_number(time, array)
        _check_belongs(backend, array, array_name, time, name)
        if not fits(time.shape, array.shape, backend):
            raise ValueError(
                f"{name} must have a leading part of {array_name}'s shape {_show(array.shape)}, or broadcast to it "
                f"after trailing singleton axes, got {_show(time.shape)}; use "
                f"expand_like({name}, {array_name}, axes=...) to align {name} with other axes"
            )
    return time


def floating_backend(array: Array, name: str) -> Backend:
    """Find the backend that serves ``array``, a real floating array."""
    backend = backend_of(array, name)
    if not backend.is_floating(array.dtype):
        hint = _INTEGER_TIME if name in ("t", "t_next") else ""
        raise TypeError(f"{name} must be a real floating array, got dtype {array.dtype}{hint}")
    return backend


def checked_time(t: Any, name: str = "t") -> Any:
    """Check a number and return it as a float (floats in [0, 1], the ints 0 and 1); let anything else pass.

    A float within 1e-12 of the interval becomes its end. An object that converts to a JAX array is converted.
    """
    given, t = t, plain(t)
    if isinstance(t, float):
        if lies_in(t, 0.0, 1.0):
            return t if type(t) is float else float(t)  # a subclass could bring its own arithmetic
        if not lies_in(t, -SLACK, 1.0 + SLACK):  # NaN fails too
            raise ValueError(f"{name} must lie in [0, 1], got {shown(given)}")
        return 0.0 if t < 0.0 else 1.0
    if isinstance(t, int) and not isinstance(t, bool) and t in (0, 1):
        return float(t)
    if isinstance(t, (int, complex)):
        hint = _INTEGER_TIME if type(t) is int and name != "u" else ""
        raise TypeError(f"{name} must be a float in [0, 1] or a real floating array, got {shown(given)}{hint}")
    return of_one_framework(given)[0]


def check_kinds(source: Any, target: Any, kinds: tuple[str, ...]) -> None:
    """Check that both are among ``kinds``."""
    for name, kind in (("source", source), ("target", target)):
        if not isinstance(kind, str) or kind not in kinds:  # an array would be compared element by element
            raise ValueError(f"{name} must be one of {', '.join(kinds)}, got {kind!r}")


def fits(shape: Any, target: Any, backend: Backend) -> bool:
    """Whether ``shape``, padded with trailing ones, broadcasts to ``target`` without growing it."""
    rank = len(shape)
    if backend.same_shape(shape, target[:rank]):  # nearly every call
        return True
    return rank <= len(target) and all(n == 1 or may_equal(n, m) for n, m in zip(shape, target, strict=False))


def _check_belongs(backend: Backend, array: Array, name: str, other: Array, other_name: str) -> None:
    """Check that ``other`` is a floating array of the same framework and device as ``array``."""
    if type(other) is not type(array) or not backend.is_floating(other.dtype):
        # The framework first: Dynamo cannot read the dtype of a NumPy array.
        theirs = backend_of(other, other_name)
        if theirs != backend:
            raise mixed(name, backend, other_name, theirs)
        floating_backend(other, other_name)
    if not backend.share_device(array, other):
        raise ValueError(
            f"{name} and {other_name} must be on one device, got {backend.device(array)} and {backend.device(other)}"
        )


def mixed(name: str, backend: Backend, other_name: str, theirs: Backend) -> TypeError:
    """Error for arrays of two frameworks; of NumPy's it says how the other framework takes it."""
    hint = ""
    if theirs.name == "numpy":
        hint = f": pass {backend.name}.asarray({other_name})"
    elif backend.name == "numpy":
        hint = f": pass {theirs.name}.asarray({name})"
    got = f"{backend.name} and {theirs.name}"
    return TypeError(f"{name} and {other_name} must come from one framework, got {got}{hint}")


def _show(shape: Any) -> str:
    # Dynamo has no str of a tuple of sizes that change from call to call, but an f-string of each.
    return "(" + ", ".join([f"{n}" for n in shape]) + (",)" if len(shape) == 1 else ")")

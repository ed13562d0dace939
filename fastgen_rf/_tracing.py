"""Workarounds for traces by ``torch.compile`` and ``torch.export``.

Both use Dynamo, which traces the code of this package. It follows plain Python, but it has no ``repr`` of a number
whose value is not fixed, and it turns NumPy functions into tensor operations. This module does not import PyTorch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def is_traced() -> bool:
    """Whether PyTorch traces this call."""
    # While another thread imports torch, the module exists but has no compiler yet.
    compiler: Any = getattr(sys.modules.get("torch"), "compiler", None)
    return compiler is not None and bool(compiler.is_compiling())


def evaluated_by_tracer(function: FunctionT) -> FunctionT:
    """Mark a pure function of :func:`fixed` numbers and strings, which Dynamo then calls instead of tracing it.

    Its result is a constant of the compiled program, with the bits that NumPy or SciPy give. A float comes in a tuple,
    because torch 2.6 fails on a bare one. The caller multiplies it by 1.0, because torch.export returns a number that
    the trace computed, and not this constant. An object that was made in the trace must not be an argument: Dynamo
    passes it on without its attributes.

    ``torch.compiler.assume_constant_result`` sets the same attribute, and would import PyTorch. A release of PyTorch
    that does not know the attribute traces the function, as it would without it.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def cached(function: FunctionT) -> FunctionT:
    """Keep the results of a pure function of hashable arguments.

    A trace calls the function itself, because Dynamo warns about ``functools.lru_cache`` and ignores it.
    """
    keeping = functools.lru_cache(maxsize=256, typed=True)(function)

    def call(*arguments: Any) -> Any:
        return function(*arguments) if is_traced() else keeping(*arguments)

    return call  # type: ignore[return-value]


def fixed(value: Any) -> Any:
    """Return ``value``. In a trace, a float or an int becomes a constant, and the program is compiled for this value.

    To format a number as text, Dynamo adds a guard on its value. ``repr`` of a float has all of its digits.
    """
    if isinstance(value, bool) or not isinstance(value, (float, int)) or not is_traced():
        return value
    kind = float if isinstance(value, float) else int
    number = kind(value)
    # The condition is true, except for NaN. If the value is not known until the call, it raises Dynamo's error for
    # data-dependent values, which is clearer than the error of repr.
    return kind(f"{number!r}") if number > 0 or number <= 0 else number


def lies_in(number: float, low: float, high: float) -> bool:
    """Whether ``number`` lies in [low, high]. In a trace, True if its value is not known (``tensor.item()``)."""
    if not is_traced():
        return low <= number <= high
    from fastgen_rf.backends._torch_internals import guard_or_true

    lies: bool = guard_or_true(low <= number) and guard_or_true(number <= high)
    return lies


def shown(value: Any) -> str:
    """Return ``repr(value)`` for an error message, or in a trace a text that Dynamo can make."""
    if not is_traced():
        return repr(value)
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join([shown(item) for item in value]) + (",)" if len(value) == 1 else ")")
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return shown(value.item())
    if value is None or isinstance(value, (bool, int, float, str)):
        return f"{fixed(value)!r}"
    # A SymInt is a size in the trace of an exporter.
    return f"{value}" if type(value).__name__ == "SymInt" else type(value).__name__

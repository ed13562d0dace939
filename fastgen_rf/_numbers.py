"""What counts as a number: Python's, and NumPy's scalars in their place."""

from __future__ import annotations

import numbers
import sys
from typing import Any

import numpy as np

from fastgen_rf._tracing import is_traced, shown

__all__ = ["finite", "is_integer", "is_real", "plain", "positive"]

_LARGEST = sys.float_info.max


def plain(value: Any) -> Any:
    """Return the Python number that a NumPy scalar stands for, ml_dtypes' included; anything else as it is.

    In a trace by Dynamo a NumPy scalar is an array without axes, and so such an array is a number there.
    """
    if type(value) is float:
        return value
    if isinstance(value, np.ndarray):
        return value if value.ndim else _without_axes(value)
    if not isinstance(value, np.generic) or isinstance(value, (np.datetime64, np.timedelta64)):
        # NumPy would convert a number of nanoseconds to an int.
        return value
    # The item of a longdouble is a longdouble.
    number = value.item()
    return float(number) if isinstance(number, np.generic) else number


def _without_axes(array: Any) -> Any:
    """The number that ``array`` is in a trace; elsewhere the array itself.

    A function of its own, called with such arrays alone: where Dynamo interrupts its trace it runs :func:`plain` as
    Python does, and traces this.
    """
    return array.item() if is_traced() else array


def is_integer(value: Any) -> bool:
    """Whether ``value`` is an integer: of any kind but a bool and a span of time, which NumPy counts among them."""
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.timedelta64))


def is_real(value: Any) -> bool:
    """Whether ``value`` is a real number, with the same two exceptions."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.timedelta64))


def finite(value: Any, name: str) -> float:
    """Check that ``value`` is a finite real number and return it; ``name`` is what its caller knows it by."""
    number: Any = plain(value)
    if not is_real(number):
        raise TypeError(f"{name} must be a real number, got {shown(value)}")
    # NaN fails this check, and so does an int or a Fraction beyond float64. Dynamo cannot trace math.isfinite of a
    # number that differs from call to call.
    if not -_LARGEST <= number <= _LARGEST:
        raise ValueError(f"{name} must be finite, got {shown(value)}")
    return float(number)


def positive(value: Any, name: str) -> float:
    """Check that ``value`` is a finite number above 0 and return it."""
    number = finite(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {shown(value)}")
    return number

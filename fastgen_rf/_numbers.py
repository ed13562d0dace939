"""Checks of numbers. A NumPy scalar is accepted wherever a Python number is."""

from __future__ import annotations

import numbers
import sys
from typing import Any

import numpy as np

from fastgen_rf._tracing import is_traced, shown

_LARGEST = sys.float_info.max


def plain(value: Any) -> Any:
    """Return the value of a NumPy or ml_dtypes scalar as a Python number, and anything else unchanged.

    Dynamo represents a NumPy scalar by an array without axes. Therefore such an array is a number in a trace.
    """
    # Nearly every call ends here.
    if type(value) is float:
        return value
    if isinstance(value, np.ndarray):
        return value if value.ndim else _without_axes(value)
    # ``item`` turns dates and time spans in nanoseconds into ints, which must not pass as numbers.
    if not isinstance(value, np.generic) or isinstance(value, (np.datetime64, np.timedelta64)):
        return value
    number = value.item()
    # The ``item`` of a longdouble is a longdouble.
    return float(number) if isinstance(number, np.generic) else number


def _without_axes(array: Any) -> Any:
    """Return the number that ``array`` represents in a trace, and the array itself elsewhere.

    This is a separate function because Dynamo, when it interrupts its trace, runs :func:`plain` in Python but still
    traces the functions that it calls.
    """
    return array.item() if is_traced() else array


def is_integer(value: Any) -> bool:
    """Whether ``value`` is an Integral, but not a bool or np.timedelta64, which NumPy registers as an integer."""
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.timedelta64))


def is_real(value: Any) -> bool:
    """Whether ``value`` is a Real, with the same two exceptions."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.timedelta64))


def finite(value: Any, name: str) -> float:
    """Check that ``value``, the argument ``name``, is a finite real number, and return it as a float."""
    number: Any = plain(value)
    if not is_real(number):
        raise TypeError(f"{name} must be a real number, got {shown(value)}")
    # NaN fails too, and so does an int or a Fraction that exceeds float64. Dynamo cannot trace math.isfinite for a
    # number that changes from call to call.
    if not -_LARGEST <= number <= _LARGEST:
        raise ValueError(f"{name} must be finite, got {shown(value)}")
    return float(number)


def positive(value: Any, name: str) -> float:
    """Check that ``value``, the argument ``name``, is a finite number above 0, and return it as a float."""
    number = finite(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {shown(value)}")
    return number

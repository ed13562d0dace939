"""What counts as a number: Python's, and NumPy's scalars in their place."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

__all__ = ["finite", "plain", "positive"]


def plain(value: Any) -> Any:
    """Return the Python number that a NumPy scalar stands for, ml_dtypes' included; anything else as it is."""
    if not isinstance(value, np.generic):
        return value
    number = value.item()
    return float(number) if isinstance(number, np.generic) else number  # a longdouble is its own item


def finite(value: Any, name: str) -> float:
    """Check that ``value`` is a finite real number and return it; ``name`` is what its caller knows it by."""
    number: Any = plain(value)
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    ordered: Any = number  # typeshed's Real has no comparison with a float
    if not -math.inf < ordered < math.inf:  # NaN fails too; math.isfinite is not traced for a number that changes
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(number)


def positive(value: Any, name: str) -> float:
    """Check that ``value`` is a finite number above 0 and return it."""
    number = finite(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {value!r}")
    return number

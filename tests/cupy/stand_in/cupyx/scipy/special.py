"""SciPy's special functions for arrays of the stand-in."""

from __future__ import annotations

from typing import Any

import cupy
from scipy import special


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return cupy.over_numpy(getattr(special, name))

"""SciPy's special functions for arrays of the stand-in."""

from __future__ import annotations

from typing import Any

import cupy
from scipy import special


def __getattr__(name: str) -> Any:
    return cupy.over_numpy(getattr(special, name))

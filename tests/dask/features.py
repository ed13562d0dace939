"""dask, what the table of capabilities names: a call that computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import dask.array
import numpy as np


def lazy(call: Callable[..., Any], arrays: list[Any]) -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed by the call")

    with dask.config.set(scheduler=refuse):
        return call(*arrays)


def draw(ours: Callable[..., Any], device: Any) -> tuple[Callable[..., Any], list[Any]]:
    """A sampler's call."""
    return lambda: ours(rng=np.random.default_rng(0), xp=dask.array), []

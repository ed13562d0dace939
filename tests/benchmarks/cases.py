"""The cases of the formulas, in three tables, and the formulas as users write them. The draws are in draws.py."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Functions of two arrays, a time and the framework's ``maximum``, evaluated from left to right
FORMULAS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "add_noise": lambda x0, eps, t, maximum: x0 * (1 - t) + eps * t,
    "pred_noise_to_pred_x0": lambda eps, x_t, t, maximum: (x_t - t * eps) / maximum(1 - t, 1e-6),
    "pred_x0_from_flow": lambda v, x_t, t, maximum: x_t - t * v,
    "x0_to_eps": lambda x0, x_t, t, maximum: (x_t - (1 - t) * x0) / maximum(t, 1e-6),
    "x0_to_flow": lambda x0, x_t, t, maximum: (x_t - x0) / maximum(t, 1e-6),
}
FORWARD, BACKWARD = "forward", "forward+backward"
LATENT = (8, 16, 21, 60, 104)
SHAPES = {  # of the tables in which t has one value for each sample
    "sizes": ((4,), (4, 4, 16, 16), (4, 16, 32, 32), (4, 16, 128, 128), LATENT),
    "images": ((4, 4, 64, 64), (8, 4, 64, 64), (16, 4, 64, 64), (32, 4, 64, 64)),  # one pass begins to pay here
    "formulas": (LATENT,),
}
TABLES = tuple(SHAPES)


@dataclass(frozen=True)
class Case:
    """One formula on arrays of one shape and dtype, with a time for each sample."""

    table: str
    op: str
    direction: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements of one array."""
        return math.prod(self.shape)

    @property
    def gradient(self) -> bool:
        """Whether the gradient is computed, too."""
        return self.direction == BACKWARD

    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """First and second array, t and the gradient of the result, float32 on the host."""
        first, second, cotangent = _normal(self.shape)
        t = np.random.default_rng(1).uniform(0.1, 0.9, self.shape[0]).astype(np.float32)
        return first, second, t, cotangent


@functools.lru_cache(maxsize=1)
def _normal(shape: tuple[int, ...]) -> Any:
    """Three arrays of normal values, made once for consecutive cases of one shape."""
    return np.random.default_rng(0).standard_normal((3, *shape), np.float32)


def cases(dtypes: Sequence[str], differentiable: bool, tables: Sequence[str], ops: Sequence[str]) -> Iterator[Case]:
    """Yield the cases of one framework. Without ``ops``, the table of sizes takes one formula in each direction."""
    directions = (FORWARD, BACKWARD) if differentiable else (FORWARD,)
    every = [(op, direction) for direction in directions for op in ops or FORMULAS]
    few = every if ops else [("add_noise", FORWARD), ("pred_x0_from_flow", BACKWARD)][: len(directions)]
    for dtype in dtypes:
        for table, shapes in SHAPES.items():
            for op, direction in (few if table == "sizes" else every) if table in tables else ():
                yield from (Case(table, op, direction, dtype, shape) for shape in shapes)

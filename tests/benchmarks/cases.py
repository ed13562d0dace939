"""What is measured: the tables of cases that the formulas are timed in, and the arrays of a case."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.cases.as_written import FORMULAS

FORWARD, BACKWARD = "forward", "forward+backward"
LATENT = (8, 16, 21, 60, 104)
SIZES = ((4,), (4, 4, 16, 16), (4, 16, 32, 32), (4, 16, 128, 128), LATENT)
QUICK_SIZES = (SIZES[0], SIZES[2], LATENT)
SHAPES = (
    ("one sample", (1, 16, 21, 60, 104), "per sample"),
    ("many samples", (131072, 16), "per sample"),
    ("(B, F) timesteps", (4, 21, 4, 60, 104), "per frame"),
    ("float t", (4, 16, 21, 40, 40), "float"),
    ("t needs no gradient", (4, 16, 21, 40, 40), "no gradient"),
)
IMAGES = ((4, 4, 64, 64), (8, 4, 64, 64), (16, 4, 64, 64), (32, 4, 64, 64))  # where one pass begins to pay
TABLES = ("sizes", "images", "formulas", "shapes")


@dataclass(frozen=True)
class Case:
    """One formula on arrays of one shape and dtype; ``time`` says what t is."""

    table: str
    op: str
    direction: str
    dtype: str
    shape: tuple[int, ...]
    time: str = "per sample"
    label: str = ""

    @property
    def elements(self) -> int:
        """Number of elements of one array."""
        return math.prod(self.shape)

    @property
    def gradient(self) -> bool:
        """Whether the gradient is computed, too."""
        return self.direction == BACKWARD

    @property
    def time_gradient(self) -> bool:
        """Whether t is among what the gradient is taken with respect to."""
        return self.gradient and self.time not in ("float", "no gradient")

    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """First and second array, t and the gradient of the result, float32 on the host (t perhaps a float)."""
        first, second, cotangent = _normal(self.shape)
        if self.time == "float":
            return first, second, 0.7, cotangent
        leading = self.shape[: 2 if self.time == "per frame" else 1]
        return first, second, np.random.default_rng(1).uniform(0.1, 0.9, leading).astype(np.float32), cotangent


@functools.lru_cache(maxsize=1)
def _normal(shape: tuple[int, ...]) -> Any:
    """Three arrays, standard normal; drawn once for the cases in a row that share a shape."""
    return np.random.default_rng(0).standard_normal((3, *shape), np.float32)


def cases(
    dtypes: Sequence[str], differentiable: bool, tables: Sequence[str], ops: Sequence[str], quick: bool
) -> Iterator[Case]:
    """Yield the cases of one framework. Without ``ops``, sizes and shapes take one formula in each direction."""
    directions = (FORWARD, BACKWARD) if differentiable else (FORWARD,)
    every = [(op, direction) for direction in directions for op in ops or FORMULAS]
    few = every if ops else [("add_noise", FORWARD), ("pred_x0_from_flow", BACKWARD)][: len(directions)]
    for dtype in dtypes:
        if "sizes" in tables:
            for op, direction in few:
                yield from (Case("sizes", op, direction, dtype, s) for s in (QUICK_SIZES if quick else SIZES))
        if "images" in tables:
            yield from (Case("images", op, direction, dtype, s) for op, direction in every for s in IMAGES)
        if "formulas" in tables:
            yield from (Case("formulas", op, direction, dtype, LATENT) for op, direction in every)
        if "shapes" in tables:
            for op, direction in few:
                for label, shape, time in SHAPES:
                    if time != "no gradient" or direction == BACKWARD:
                        yield Case("shapes", op, direction, dtype, shape, time, label)

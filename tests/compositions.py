"""Compositions of transforms, for every framework that has some: how they are named, and the exact derivative.

A composition is named by its transforms, the outermost first: "jvp-vmap-grad". Each makes a function of arrays with
independent rows out of such a function. One that differentiates takes one more direction, so a name with two of them
gives the second derivative of each row along two directions, in whatever mode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np

from tests import exact
from tests.catalogue import ROWS, Row

Rows = Callable[..., Any]
N_ROWS, COLUMNS = 4, 3  # half as many rows in each vmap
ARGUMENTS = 4  # two arrays and two times
PLACES = {"x": 0, "y": 1, "t": 2, "u": 2, "s": 3}  # of a row's arguments among the four
ORDERS = {"jvp": 1, "dual": 1, "linearize": 1, "grad": 1, "autograd": 1}


def order(composition: str) -> int:
    """How many derivatives it takes, and so directions."""
    return sum(ORDERS.get(transform, 0) for transform in composition.split("-"))


def composed(composition: str, transforms: dict[str, Callable[..., Any]], rows: Rows) -> Rows:
    """``transforms[name](function, *arrays)`` evaluates a transformed function."""

    def transformed(function: Rows, name: str) -> Rows:
        return lambda *x: transforms[name](function, *x)

    return reduce(transformed, reversed(composition.split("-")), rows)


def derivatives(module: Any) -> dict[str, Callable[..., Any]]:
    """Forward and reverse mode by ``torch.func`` or ``jax``, which have the same functions."""

    def jvp(function: Rows, *arrays: Any) -> Any:
        inner, at, direction = moved(function, arrays)
        return module.jvp(inner, at, direction)[1]

    def grad(function: Rows, *arrays: Any) -> Any:
        inner, at, direction = moved(function, arrays)
        return dot(module.grad(lambda *x: inner(*x).sum(), argnums=tuple(range(ARGUMENTS)))(*at), direction)

    return {"jvp": jvp, "grad": grad}


def dot(gradients: Any, directions: Any) -> Any:
    """The derivative of each row along the directions."""
    return sum((g * d).reshape(d.shape[0], -1).sum(-1) for g, d in zip(gradients, directions, strict=True))


def moved(function: Rows, arrays: tuple[Any, ...]) -> tuple[Rows, Any, Any]:
    """The function of the four arguments alone, these arguments, and the last direction, which it does not get."""
    last = len(arrays) - ARGUMENTS
    given = arrays[ARGUMENTS:last]
    return (lambda *x: function(*x, *given)), arrays[:ARGUMENTS], arrays[last:]


@cache
def inputs(order: int) -> tuple[np.ndarray[Any, Any], ...]:
    """The four arguments in float64, and as many directions as derivatives are taken."""
    rng = np.random.default_rng(0)
    arrays = [*rng.standard_normal((2, N_ROWS, COLUMNS)), *rng.uniform(0.4, 0.6, (2, N_ROWS))]
    for _ in range(order):
        arrays += [*rng.standard_normal((2, N_ROWS, COLUMNS)), *rng.uniform(-0.5, 0.5, (2, N_ROWS))]
    return tuple(arrays)


def mean_square(row: Row) -> Rows:
    """A public function as one number for each row, which is not linear in any argument."""

    def rows(*arrays: Any) -> Any:
        result = row(*(arrays[PLACES[kind]] for kind in row.takes))
        return (result * result).reshape(result.shape[0], -1).mean(-1)

    return rows


@cache
def exact_derivative(name: str, order: int) -> Any:
    """Mixed derivative of the mean square of each row, as a central difference in 150 digits."""
    row, h = ROWS[name], exact.STEP

    def mixed(*numbers: Any) -> Any:
        total = exact.mp.mpf(0)
        for signs in product((1, -1), repeat=order):
            at = [
                numbers[k] + h * sum(sign * numbers[k + ARGUMENTS * d] for d, sign in enumerate(signs, 1))
                for k in (PLACES[kind] for kind in row.takes)
            ]
            total += prod(signs) * row.exact(*at) ** 2
        return total / (2 * h) ** order

    with exact.mp.workdps(150):
        return exact.elementwise(mixed, list(inputs(order))).astype(float).mean(1)

"""What compositions of transformations are held against: differences of the library's NumPy path in float64.

A composition is a word of letters, the outermost first: ``"jvp-vmap-grad"``. Each letter makes of a function of arrays
whose rows are independent another such function. Innermost stands ``by_row`` of a public function; a letter that
differentiates takes a direction more, so that a word with two of them gives a second derivative for each row, in
whatever modes: what one word gives, every other word with as many gives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, reduce
from typing import Any

import numpy as np
import pytest

from tests.cases.differences import CALLS

Rows = Callable[..., Any]

NAMES = (
    "add_noise",
    "x0_to_flow",
    "convert_prediction to v_vp",
    "ode_step",
    "flow_step",
    "convert_state",
    "convert_time",
    "timestep_quantile",
)
every_name = pytest.mark.parametrize("name", NAMES)
ARGUMENTS = 4  # two arrays and two times
ORDERS = {"jvp": 1, "dual": 1, "linearize": 1, "grad": 1, "autograd": 1, "hessian": 2}  # derivatives of a letter
ROWS = 8  # halved by each letter that splits them


def by_row(name: str) -> Rows:
    """A public function as one number for each row, which is not linear in anything."""

    def rows(*arrays: Any) -> Any:
        result = CALLS[name](*arrays)
        flat = result.reshape(result.shape[0], -1)
        return (flat * flat).mean(-1)

    return rows


def composed(word: str, letters: dict[str, Callable[[Rows], Rows]], rows: Rows) -> Rows:
    return reduce(lambda function, letter: letters[letter](function), reversed(word.split("-")), rows)


def order(word: str) -> int:
    """How many derivatives a word takes, and so directions."""
    return sum(ORDERS.get(letter, 0) for letter in word.split("-"))


def moved(function: Rows, arrays: tuple[Any, ...], directions: int = 1) -> tuple[Rows, Any, Any]:
    """``function`` of the four arguments alone, those arguments, and the last directions, which it does not get."""
    last = len(arrays) - directions * ARGUMENTS
    given = arrays[ARGUMENTS:last]
    return (lambda *x: function(*x, *given)), arrays[:ARGUMENTS], arrays[last:]


@cache
def inputs(columns: int, count: int) -> tuple[np.ndarray, ...]:
    """The four arguments and ``count`` directions in float64: two arrays, and times well within 0 and 1."""
    rng = np.random.default_rng(0)
    arrays = [*rng.standard_normal((2, ROWS, columns)), *rng.uniform(0.4, 0.6, (2, ROWS))]
    for _ in range(count):
        arrays += [*rng.standard_normal((2, ROWS, columns)), *rng.uniform(-0.5, 0.5, (2, ROWS))]
    return tuple(arrays)


_STEPS = (1.0, 1e-3, 4e-3, 8e-3)
_STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))  # wrong by the fourth power of a step


@cache
def derivative(name: str, columns: int, count: int) -> np.ndarray:
    """Derivative along ``count`` directions of :func:`by_row`, by differences: good to 1e-6 of the largest."""
    arrays = inputs(columns, count)
    step = _STEPS[count]

    def along(at: list[np.ndarray], left: int) -> Any:
        if not left:
            return by_row(name)(*at)
        direction = arrays[left * ARGUMENTS : (left + 1) * ARGUMENTS]
        parts = (
            c * along([x + k * step * d for x, d in zip(at, direction, strict=True)], left - 1) for k, c in _STENCIL
        )
        return sum(parts) / step

    return along(list(arrays[:ARGUMENTS]), count)


def assert_close(got: Any, wanted: Any, rel: float) -> None:
    """Equal up to ``rel`` of the largest element."""
    got, wanted = (np.asarray(x, np.float64) for x in (got, wanted))
    np.testing.assert_allclose(got, wanted, rtol=rel, atol=rel * np.abs(wanted).max(initial=0))

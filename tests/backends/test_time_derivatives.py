"""Derivatives of ``convert_time`` where its formulas change branches: at the ends of each time, in the middle, beyond.

The TrigFlow recipe of docs/howto/teachers.md differentiates through those ends.
"""

from __future__ import annotations

import functools
import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests import exact
from tests.catalogue import ROWS
from tests.exact import RATIO, TIME, mp

pytestmark = pytest.mark.backends("torch", "jax")
BRANCHES = {  # no noise and no data, and points inside; the first of them is where a formula changes
    "rf": (0.0, 1.0, 0.5, 0.25, 0.9),
    "angle": (0.0, math.pi / 2, math.pi / 4, 0.25, 1.25),
    "sigma": (0.0, math.inf, 1.0, 0.25, 1.25),
    "log_snr": (math.inf, -math.inf, 0.0, 0.25, 1.25),
    "alpha_bar": (1.0, 0.0, 0.5, 0.25, 0.9),
}
with mp.workdps(600):
    TINY = mp.mpf(10) ** -100
    NEAR = {  # a point inside, next to each end; float64's pi / 2 is such a point
        "rf": (TINY, 1 - TINY),
        "angle": (TINY, mp.mpf(math.pi / 2)),
        "sigma": (TINY, 1 / TINY),
        "log_snr": (mp.mpf(1000), mp.mpf(-1000)),
        "alpha_bar": (1 - TINY, TINY),
    }
PAIRS = list(permutations(BRANCHES, 2))


@functools.cache
def limits(source: str, target: str, order: int) -> Any:
    """Derivatives at the two ends, in float32, beyond which infinite ones are next to the end."""
    with mp.workdps(600):
        wanted = [
            float(mp.diff(lambda time: TIME[target](RATIO[source](time)), time, order, h=TINY / 10**20))
            for time in NEAR[source]
        ]
    return np.array([math.copysign(math.inf, slope) if abs(slope) > 3e38 else slope for slope in wanted], np.float32)


def convert(source: str, target: str) -> Any:
    return functools.partial(rf.convert_time, source=source, target=target)


def reverse(xp: Any, function: Any, x: Any) -> Any:
    return xp.reverse(function, [x], xp.namespace.ones_like(x))[0]


def forward(xp: Any, function: Any, x: Any) -> Any:
    return xp.forward(function, [x], [xp.namespace.ones_like(x)])


def in_one_program(xp: Any, call: Any) -> Any:
    """The results of a call, which JAX computes in one program: to compile one for each takes minutes."""
    results = xp.jax.jit(call)() if xp.name == "jax" else call()
    return [[xp.numpy(array) for array in arrays] for arrays in results]


def test_first_derivatives_are_exact_and_the_limits_at_the_ends(xp: Any) -> None:
    points = {source: np.float32(times) for source, times in BRANCHES.items()}

    def slopes() -> list[Any]:
        return [[mode(xp, convert(*pair), xp.array(points[pair[0]])) for mode in (reverse, forward)] for pair in PAIRS]

    for (source, target), found in zip(PAIRS, in_one_program(xp, slopes), strict=True):
        inside = exact.partial(ROWS[f"convert_time ({source}, {target})"].exact, 0)
        wanted = [*limits(source, target, 1), *exact.elementwise(inside, [np.float64(points[source][2:])])]
        for got in found:
            np.testing.assert_allclose(got, np.float32(wanted), 2e-7, 1e-15, err_msg=f"{source} to {target}")


def test_second_derivatives_at_the_ends_are_the_limits_where_the_slopes_are_finite(xp: Any) -> None:
    smooth = [pair for pair in PAIRS if np.isfinite(limits(*pair, 1)).any()]

    def curvatures(pair: Any) -> list[Any]:
        x = xp.array(BRANCHES[pair[0]][:2])
        one = xp.namespace.ones_like(x)
        found = xp.repeated(convert(*pair), [x], one, [one])
        if xp.name == "jax":  # both modes follow one rule of the library
            return list(found)
        grad = xp.namespace.func.grad
        twice = grad(lambda x: grad(lambda x: convert(*pair)(x).sum())(x).sum())
        return [*found, twice(x), forward(xp, lambda x: forward(xp, convert(*pair), x), x)]

    for pair, found in zip(smooth, in_one_program(xp, lambda: list(map(curvatures, smooth))), strict=True):
        finite = np.isfinite(limits(*pair, 1))
        for got in found:
            np.testing.assert_allclose(got[finite], limits(*pair, 2)[finite], 1e-6, 1e-15, err_msg=" to ".join(pair))


def test_an_angle_outside_its_range_has_the_slope_of_the_end_within_rounding_and_0_beyond(xp: Any) -> None:
    near, beyond = [-1e-7, -1e-17, math.pi / 2 + 1e-15, math.pi / 2 + 1e-7], [-0.5, -2e-7, math.pi / 2 + 2e-7, 2.0]
    angles = xp.array(np.array(near + beyond), "float64")
    assert xp.numpy(convert("angle", "rf")(angles)).tolist() == [0.0, 0.0, 1.0, 1.0] * 2
    for mode in (reverse, forward):
        np.testing.assert_allclose(xp.numpy(mode(xp, convert("angle", "rf"), angles)), [1.0] * 4 + [0.0] * 4, 1e-6)


@pytest.mark.backends("jax")
def test_the_slope_for_a_python_float_is_right_at_both_ends(xp: Any) -> None:
    assert [float(xp.jax.grad(convert("angle", "rf"))(angle)) for angle in BRANCHES["angle"][:2]] == [1.0, 1.0]

"""convert_time: ends, the middle, numbers of all types, ranges. convert_state is in test_predictions.py.

Ordinary values of every pair are in test_exact_values.py. The derivatives here are those where a formula changes
branches: at the ends of each time, through which the TrigFlow recipe of docs/howto/teachers.md differentiates, in the
middle, and beyond.
"""

from __future__ import annotations

import functools
import math
import warnings
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests import exact
from tests.catalogue import ROWS
from tests.exact import RATIO, TIME, assert_rounded, elementwise, mp

PAIRS = list(permutations(TIME, 2))
inf, nan = math.inf, math.nan
ENDS = {  # no noise, as much noise as data, no data
    "rf": (0.0, 0.5, 1.0),
    "angle": (0.0, math.pi / 4, math.pi / 2),
    "sigma": (0.0, 1.0, inf),
    "log_snr": (inf, 0.0, -inf),
    "alpha_bar": (1.0, 0.5, 0.0),
}


def wanted_ends(source: str, target: str) -> tuple[float, ...]:
    if source == "angle":  # float64's pi/2 lies below pi/2
        last = {"sigma": math.tan(math.pi / 2), "log_snr": -2 * math.log(math.tan(math.pi / 2)), "alpha_bar": 0.0}
        return (*ENDS[target][:2], last.get(target, ENDS[target][2]))
    return ENDS[target]


# Ends and middle


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered:RuntimeWarning")  # dask, as it computes
def test_both_ends_and_the_middle_convert_to_their_counterparts(xp: Any) -> None:
    for source, target in PAIRS:
        if not xp.has_float64 and {source, target} & {"angle", "log_snr"}:
            continue
        wanted = wanted_ends(source, target)
        for dtype, rel in (("float64", 4e-16), ("float32", 1e-7)):
            if dtype in xp.dtypes:
                got = rf.convert_time(xp.array(np.array(ENDS[source]), dtype), source=source, target=target)
                assert xp.numpy(got).tolist() == pytest.approx(wanted, rel=rel, abs=rel)


@pytest.mark.backends("numpy", "array_api_strict")
@pytest.mark.needs("float64")
def test_infinite_and_overflowing_levels_cause_no_warning(xp: Any) -> None:
    with np.errstate(divide="raise", invalid="raise", over="raise"), warnings.catch_warnings(action="error"):
        for source, target in PAIRS:
            rf.convert_time(xp.array(np.array(ENDS[source]), "float64"), source=source, target=target)
        assert xp.numpy(rf.convert_time(xp.array([-2000.0], "float64"), source="log_snr", target="sigma")) == inf


DISTANCES = np.array([2.0**-53, 2.0**-52, 1e-12, 1e-8, 1e-4, 0.1249, 0.1251])
HALF = np.concatenate([0.5 + DISTANCES, 0.5 - DISTANCES, [math.nextafter(0.5, 0)]])


@pytest.mark.parametrize("source", ["rf", "sigma", "alpha_bar"])
@pytest.mark.needs("float64")
def test_log_snr_near_0_is_right_to_a_few_units_of_its_last_place(xp: Any, source: Any) -> None:
    levels = 2 * HALF if source == "sigma" else HALF
    wanted = elementwise(lambda level: TIME["log_snr"](RATIO[source](level)), [levels])
    for got in (
        xp.numpy(rf.convert_time(xp.array(levels, "float64"), source=source, target="log_snr")),
        np.array([rf.convert_time(level, source=source, target="log_snr") for level in levels.tolist()]),
    ):
        assert_rounded(got, wanted, 0, "float64", ulps=2)
    middle = xp.array(np.array([1.0 if source == "sigma" else 0.5]))
    assert str(float(xp.numpy(rf.convert_time(middle, source=source, target="log_snr"))[0])) == "0.0"  # not -0.0


@pytest.mark.needs("float64")
def test_angles_in_an_array_are_clipped(xp: Any) -> None:
    angles = xp.array(np.array([-0.5, 0.0, math.pi / 2, 2.0]))  # float32(pi/2) > pi/2
    assert xp.numpy(rf.convert_time(angles, source="angle", target="rf")) == pytest.approx([0.0, 0.0, 1.0, 1.0])
    sigma = xp.numpy(rf.convert_time(angles, source="angle", target="sigma"))
    assert sigma == pytest.approx([0.0, 0.0, *[math.tan(math.pi / 2)] * 2], rel=1e-7)


# Arrays and numbers


def test_a_float_gets_what_an_array_gets() -> None:
    for source, target in PAIRS:
        levels = np.array([0.2, 0.35, 0.5, 0.77, 0.9, *ENDS[source]])
        array = rf.convert_time(levels, source=source, target=target)
        floats = [rf.convert_time(value, source=source, target=target) for value in levels.tolist()]
        assert {type(value) for value in floats} == {float}
        # A vector loop and its rest may differ in the last bit.
        assert floats == pytest.approx(array, rel=5e-16, abs=5e-16)


def test_numbers_of_all_types_are_times() -> None:
    for time, source, t in (
        *((np.float32(0.25), "rf", 0.25), (0, "rf", 0.0), (1, "alpha_bar", 0.0), (0, "angle", 0.0)),
        *((np.float16(np.inf), "sigma", 1.0), (4, "sigma", 0.8), (np.float32(math.pi / 2), "angle", 1.0)),
        *((np.int32(0), "log_snr", 0.5), (2, "log_snr", 1 / (1 + math.e))),
    ):
        got = rf.convert_time(time, source=source, target="rf")
        assert type(got) is float
        assert got == pytest.approx(t, rel=4e-16)


# Derivatives

differentiable = pytest.mark.backends("torch", "jax")
BRANCHES = {  # no noise, no data, and points inside, the first of which is where a formula changes
    source: (start, end, middle, 0.25, 0.9 if 1.0 in (start, end) else 1.25)
    for source, (start, middle, end) in ENDS.items()
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


@differentiable
def test_first_derivatives_are_exact_and_the_limits_at_the_ends(xp: Any) -> None:
    points = {source: np.float32(times) for source, times in BRANCHES.items()}

    def slopes() -> list[Any]:
        return [[mode(xp, convert(*pair), xp.array(points[pair[0]])) for mode in (reverse, forward)] for pair in PAIRS]

    for (source, target), found in zip(PAIRS, in_one_program(xp, slopes), strict=True):
        inside = exact.partial(ROWS[f"convert_time ({source}, {target})"].exact, 0)
        wanted = [*limits(source, target, 1), *exact.elementwise(inside, [np.float64(points[source][2:])])]
        for got in found:
            np.testing.assert_allclose(got, np.float32(wanted), 2e-7, 1e-15, err_msg=f"{source} to {target}")


@differentiable
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


@differentiable
def test_an_angle_outside_its_range_has_the_slope_of_the_end_within_rounding_and_0_beyond(xp: Any) -> None:
    near, beyond = [-1e-7, -1e-17, math.pi / 2 + 1e-15, math.pi / 2 + 1e-7], [-0.5, -2e-7, math.pi / 2 + 2e-7, 2.0]
    angles = xp.array(np.array(near + beyond), "float64")
    assert xp.numpy(convert("angle", "rf")(angles)).tolist() == [0.0, 0.0, 1.0, 1.0] * 2
    for mode in (reverse, forward):
        np.testing.assert_allclose(xp.numpy(mode(xp, convert("angle", "rf"), angles)), [1.0] * 4 + [0.0] * 4, 1e-6)


@pytest.mark.backends("jax")
def test_the_slope_for_a_python_float_is_right_at_both_ends(xp: Any) -> None:
    assert [float(xp.jax.grad(convert("angle", "rf"))(angle)) for angle in BRANCHES["angle"][:2]] == [1.0, 1.0]

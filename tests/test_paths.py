"""convert_time: ends, the middle, numbers of all types, ranges. convert_state is in test_predictions.py.

Ordinary values of every pair are in test_exact_values.py, derivatives at the ends in backends/test_time_derivatives.py.
"""

from __future__ import annotations

import math
import warnings
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.exact import RATIO, TIME, assert_rounded, elementwise

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
        *((np.float16(np.inf), "sigma", 1.0), (4, "sigma", 0.8), (np.int32(0), "log_snr", 0.5)),
        (np.float32(math.pi / 2), "angle", 1.0),
    ):
        got = rf.convert_time(time, source=source, target="rf")
        assert type(got) is float
        assert got == pytest.approx(t, rel=4e-16)


@pytest.mark.parametrize("source", TIME)
def test_a_number_out_of_its_range_is_a_value_error(source: Any) -> None:
    outside = {"log_snr": (nan,), "sigma": (-0.1, nan, -inf, np.int64(-1))}
    for bad in outside.get(source, (-0.1, 1.5708, nan, inf, np.float32(500))):
        with pytest.raises(ValueError, match=r"^time must lie in"):
            rf.convert_time(bad, source=source, target=source)

"""Invalid arguments: each function, each argument, each framework. The message names the argument.

What is common to all functions is derived from the catalogue. test_messages.py has every message as a whole.
"""

from __future__ import annotations

import math
import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.catalogue import ROWS, Row

# One row of the catalogue for each function: what is checked does not depend on the other options
ONE_EACH = {row.function.__name__: row for row in reversed(ROWS.values()) if row.function.__name__ != "expand_like"}
FORMULAS = {name: row for name, row in ONE_EACH.items() if row.is_linear}
TWO_ARRAYS = {name: row for name, row in FORMULAS.items() if "y" in row.takes}
every_function = pytest.mark.parametrize("row", ONE_EACH.values(), ids=list(ONE_EACH))
every_formula = pytest.mark.parametrize("row", FORMULAS.values(), ids=list(FORMULAS))
every_formula_of_two_arrays = pytest.mark.parametrize("row", TWO_ARRAYS.values(), ids=list(TWO_ARRAYS))
others = pytest.mark.backends("torch", "cupy", "array_api_strict", "dask")


def good(xp: Any, row: Row) -> list[Any]:
    """Valid arguments."""
    return [xp.array(np.ones((2, 3))) if kind in "xy" else xp.array(np.full(2, 0.5)) for kind in row.takes]


def replaced(arguments: list[Any], at: int, bad: Any) -> list[Any]:
    return [*arguments[:at], bad, *arguments[at + 1 :]]


def assert_raises(error: type[Exception], row: Row, arguments: list[Any], *parts: str) -> None:
    """The call raises an error whose message has these parts, in this order."""
    pattern = "(?s)" + ".*".join(re.escape(part) for part in parts)
    with pytest.raises(error, match=pattern):
        row(*arguments)


# What is no array


@every_function
def test_a_value_that_is_no_array_is_a_type_error(xp: Any, row: Row) -> None:
    for at, (name, kind) in enumerate(zip(row.arguments, row.takes, strict=True)):
        for bad in ([[1.0, 2.0]], None, "x", object(), *((1.0, 3) if kind in "xy" else ())):
            parts = (f"{name} must be", type(bad).__name__) if kind in "xy" else (f"{name} must be",)
            assert_raises(TypeError, row, replaced(good(xp, row), at, bad), *parts)


@every_function
def test_an_array_that_is_not_real_floating_is_a_type_error(xp: Any, row: Row) -> None:
    for at, (name, kind) in enumerate(zip(row.arguments, row.takes, strict=True)):
        for dtype in ("int32", "bool", "complex64"):
            bad = xp.other_dtype(np.ones((2, 3) if kind in "xy" else 2), dtype)
            assert_raises(
                TypeError, row, replaced(good(xp, row), at, bad), f"{name} must be a real floating array", dtype
            )


@every_function
@pytest.mark.backends("numpy", "jax")
def test_a_masked_array_is_a_type_error(xp: Any, row: Row) -> None:
    for at, (name, kind) in enumerate(zip(row.arguments, row.takes, strict=True)):
        host = np.full((2, 3) if kind in "xy" else 2, 0.5)
        masked = np.ma.masked_array(host, mask=host > 1)
        assert_raises(TypeError, row, replaced(good(xp, row), at, masked), f"{name} must not be a masked array")


# Frameworks and devices


@every_formula
@others
def test_arrays_of_two_frameworks_are_a_type_error(xp: Any, row: Row) -> None:
    arguments = good(xp, row)
    first = row.arguments[0]
    for at in range(1, len(arguments)):
        numpys = np.full(tuple(arguments[at].shape), 0.5, np.float32)
        name = row.arguments[at]
        parts = (f"{first} and {name} must come from one framework", "numpy", f"asarray({name})")
        assert_raises(TypeError, row, replaced(arguments, at, numpys), *parts)


class Foreign:
    """An array of a framework that follows the array API standard and that nobody has installed."""

    shape, dtype, device, ndim = (2, 3), "float32", "cpu", 2

    def __array_namespace__(self, api_version: Any = None) -> Any:
        foreign: Any = ModuleType("foreign")
        foreign.isdtype = lambda dtype, kind: True
        return foreign


@others
def test_two_frameworks_that_are_not_numpy_are_both_named(xp: Any) -> None:
    with pytest.raises(TypeError, match=r"x0 and eps must come from one framework, got [\w.]+ and foreign$"):
        rf.add_noise(xp.array(np.ones((2, 3))), Foreign(), 0.5)


@every_formula
@pytest.mark.backends("torch", "array_api_strict", "jax")
@pytest.mark.needs("float64")  # of array-api-strict the default device
def test_arrays_on_two_devices_are_a_value_error(xp: Any, row: Row) -> None:
    arguments = good(xp, row)
    if xp.name == "jax":  # JAX moves an array that nobody has placed
        arguments = [xp.jax.device_put(x, xp.device) for x in arguments]
    for at in range(1, len(arguments)):
        elsewhere = xp.second_device(np.full(tuple(arguments[at].shape), 0.5))
        parts = (row.arguments[0], row.arguments[at], "must be on one device")
        assert_raises(ValueError, row, replaced(arguments, at, elsewhere), *parts)


# Shapes


@every_formula_of_two_arrays
def test_arrays_of_two_shapes_are_a_value_error(xp: Any, row: Row) -> None:
    first, second = row.arguments[:2]
    for shape in ((2,), (2, 3, 1), (3, 2), (1, 3), ()):
        arguments = replaced(good(xp, row), 1, xp.array(np.ones(shape)))
        assert_raises(ValueError, row, arguments, f"{first} and {second} must have the same shape", "(2, 3)")


@every_formula
def test_a_time_that_does_not_fit_is_a_value_error(xp: Any, row: Row) -> None:
    for at, (name, kind) in enumerate(zip(row.arguments, row.takes, strict=True)):
        if kind in "ts":
            for shape in ((3,), (0,), (2, 2), (1, 2), (3, 1), (2, 3, 1), (1, 1, 1)):
                arguments = replaced(good(xp, row), at, xp.array(np.full(shape, 0.5)))
                assert_raises(ValueError, row, arguments, f"{name} must", row.arguments[0], "(2, 3)", str(shape))


# Python numbers as times

OUTSIDE = (-1e-9, -1.0, 1 + 1e-9, 1.5, 500.0, math.inf, -math.inf, math.nan, np.float32(1.5))
ONLY_0_TO_1 = {name: row for name, row in ONE_EACH.items() if name not in ("convert_time", "timestep_density")}


@pytest.mark.parametrize("row", ONLY_0_TO_1.values(), ids=list(ONLY_0_TO_1))
def test_a_float_outside_0_and_1_is_a_value_error(xp: Any, row: Row) -> None:
    for at, (name, kind) in enumerate(zip(row.arguments, row.takes, strict=True)):
        if kind not in "xy":
            for bad in OUTSIDE:
                assert_raises(ValueError, row, replaced(good(xp, row), at, bad), f"{name} must lie in [0, 1], got")


@every_function
def test_a_number_that_is_no_float_is_a_type_error(xp: Any, row: Row) -> None:
    for at, (name, kind) in enumerate(zip(row.arguments, row.takes, strict=True)):
        if kind not in "xyl":
            for bad in (2, -1, 500, True, False, 0.5j):
                assert_raises(TypeError, row, replaced(good(xp, row), at, bad), f"{name} must be", str(bad))


@every_formula
def test_integer_timesteps_are_told_to_divide(xp: Any, row: Row) -> None:
    for at, (name, kind) in enumerate(zip(row.arguments, row.takes, strict=True)):
        if kind in "ts":
            for bad in (500, np.int64(500), xp.other_dtype(np.ones(2), "int32")):
                assert_raises(TypeError, row, replaced(good(xp, row), at, bad), f"{name} must be", "divide integer")

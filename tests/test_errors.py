"""Any invalid call raises a TypeError or ValueError that names an invalid argument, on every framework.

Each argument of each function is tried with every value that it cannot have. The calls of elementwise functions come
from the catalogue. test_messages.py has whole messages.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import random
import re
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.catalogue import ROWS, Row


class Metres(np.ndarray):
    """An array with a unit, by ufuncs: astropy's and unyt's quantities, and astropy's Masked, are of this sort."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        raise AssertionError


class Seconds(np.ndarray):
    """An array with a unit, by operators alone, as the package quantities has it."""

    def __add__(self, other: Any) -> Any:
        raise AssertionError


class Bare:
    """An array that has a namespace and lacks a device, as MLX's does."""

    shape, ndim, dtype = (2, 3), 2, "float32"

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        module: Any = ModuleType("mlx_like")
        module.asarray = lambda values: Bare()
        return module


# Values that an argument cannot have

NO_ARRAYS = [np.full((2, 3), 0.5).view(Metres), np.full((2, 3), 0.5).view(Seconds), Bare()]
NOTHING = [
    *("text", "", b"\1\0", [0.5], (0.5,), {"a": 1}, {0.5}, object(), 1j, np.complex64(1), range(3), abs, float, math),
    *(..., slice(1), datetime.timedelta(1), decimal.Decimal("0.5"), lambda: 0.5, SimpleNamespace(), iter([])),
    *(np.str_("x"), np.datetime64(1, "ns"), np.timedelta64(1, "ns"), np.timedelta64(0, "s"), np.void(b"12345678")),
    *(np.dtype("float32"), np.ma.masked, np.ma.masked_array([0.5, 0.5], [True, False])),
    *(np.ma.masked_array(np.full((2, 3), 0.5)), np.array("x"), np.array([None, 0.5]), np.array(["x0", "eps"])),
    *(np.array([(0.5, 1)], "f4, i4"), np.recarray((2,), "f4, f4"), *NO_ARRAYS),
]
OUTSIDE = [-1e-9, -0.1, 1 + 1e-9, 1.1, np.float32(2), np.longdouble(-1), np.float64("nan")]
OUTSIDE += [math.nan, math.inf, -math.inf]
NO_NUMBERS = [*NOTHING, None, True, False, np.True_, np.array(5.0), np.array([5.0])]
NO_FINITE = [math.nan, math.inf, -math.inf, 10**400, -(10**400), fractions.Fraction(10**400, 3), np.float16("inf")]
NO_POSITIVE = [*NO_NUMBERS, *NO_FINITE, 0, 0.0, -0.0, -1, -5.0, np.int8(-3), fractions.Fraction(-1, 2)]
NO_INTEGERS = [*NO_NUMBERS, *NO_FINITE[:3], 2.0, np.float64(2), fractions.Fraction(2)]
NO_T_LISTS = [value for value in NO_NUMBERS if not isinstance(value, (range, type(iter([]))))] + [
    *([], [1.0], [0.0], [0.5, 1.0, 0.0], [1.0, 0.5], [1.0, 1.0, 0.0], [1.0, 0.5, 0.5, 0.0], [1.001, 0.0], [0.5, -0.5]),
    *([0.5, 0.0, -0.5], [1.0, 0.5, -1e-13], [1.0, math.nan, 0.0], [math.inf, 0.0], [10**400, 0.0], range(3)),
    *([True, False], ["1", "0"], [1.0, None, 0.0], [[1.0], [0.0]], [1.0, 0.5j, 0.0], [1.0, [0.5], 0.0]),
    *(np.zeros(3), np.zeros((2, 2)), np.array([1.0, np.nan, 0.0]), np.array([1 + 0j, 0])),
    *([1.0, np.full((), 0.5).view(Metres), 0.0], np.array([1.0, 0.5, 0.0]).view(Metres)),
]
INVALID: dict[str, list[Any]] = {
    "positive": NO_POSITIVE,
    "anchor": [*NO_NUMBERS, *NO_FINITE, -1, -5.0, np.int8(-3), fractions.Fraction(-1, 2)],
    "finite": [*NO_NUMBERS, *NO_FINITE],
    "mode_scale": [*NO_NUMBERS, *NO_FINITE, -1.0, 2 / (math.pi - 2)],
    "share": [*NO_NUMBERS, *OUTSIDE, *NO_FINITE, -1e-13],
    "flag": [value for value in NO_NUMBERS if not isinstance(value, bool)] + [0, 1, 0.5],
    "name": [*NOTHING, None, 0.5, 3, "X0", "x0 ", "velocity", ["rf"], np.array("x0")],
    "t_list": NO_T_LISTS,
    "some t_list": [value for value in NO_T_LISTS if value is not None],
    "min_t": [*NO_NUMBERS, *NO_FINITE, -0.1, -1e-13, 0.9, 1.0, np.float32(2)],
    "max_t": [*NO_POSITIVE, 1 + 1e-12, 1.5],
    "terminal": [*(value for value in NO_NUMBERS if value is not None), *NO_FINITE, 0.0, 1.0, -0.1, 1.5],
    "max_t above 0.1": [*NO_POSITIVE, 1 + 1e-12, 1.5, 0.1, 0.05],
    "beta_b": [*NO_POSITIVE, 2.0],  # one of the two must be 1
    "cfg": NO_NUMBERS,
    "r_cfg": [value for value in NO_NUMBERS if value is not None],
    "n": [*NO_INTEGERS, -1, np.int8(-1), (2, -1), (2, 1.5), (2, True), [2, 3], ((2,),), 10**30, (2**40, 2**40, 0)],
    "steps": [*NO_INTEGERS, 0, -3],
    "axes": [
        *(0, 1.5, "0", {0}, b"\0", (0.0,), ("0",), (True,), (None,), (np.float64(0),)),
        *((0, 0), (9,), (10**30,), (-3,), (0, -2), (0,), (0, 1, 0), ()),
    ],
    "xp": [*NOTHING[:-1], 3, 0.5, "numpy", np.dtype, np.float32, Bare().__array_namespace__()],
    "device": [value for value in NOTHING if not (isinstance(value, str) and not value)] + ["gpu", -1, 0.5],
    "dtype": [
        *(value for value in NOTHING if not isinstance(value, (type, np.dtype))),
        *(3, "int32", "float31", np.int32, np.dtype("complex64"), "bool", int, complex, np.bool_),
    ],
    "rng": [
        *(*NOTHING, 0.5, -1, np.int64(-3), -(10**30), True, np.True_, np.float32(1), np.array(3), np.random),
        *(np.random.RandomState(0), random.Random(0), np.random.PCG64(0), np.random.SeedSequence(0)),
    ],
}


def invalid(xp: Any, kind: str) -> list[Any]:
    """Values that such an argument cannot have."""
    if kind in INVALID:
        return INVALID[kind]
    if kind == "array":
        return [*(x for x in [*NOTHING, None, 0.5, 1] if not isinstance(x, (np.generic, np.ndarray))), *NO_ARRAYS]
    arrays = [
        *NOTHING,
        None,
        *(xp.other_dtype(np.ones((2, 3)), name) for name in ("int32", "uint8", "bool", "complex64")),
    ]
    if xp.name == "jax":
        arrays.append(xp.rng(0))  # a key
    if xp.name not in ("numpy", "jax") and kind in ("first", "second", "time"):
        arrays.append(np.ones((2, 3)))
    if kind in ("only array", "first", "second"):
        shapes = [(), (2,), (3, 2), (1, 3), (2, 3, 1), (0,)] if kind == "second" else []
        return [*arrays, 0.5, 1, True, *(xp.array(np.ones(shape)) for shape in shapes)]
    shapes = [(3,), (0,), (1, 2), (2, 2), (3, 1), (2, 3, 1), (1, 1, 1)] if kind == "time" else []
    numbers = [True, False, 2, -1, 500, 10**400, np.int64(7), fractions.Fraction(1, 2)]
    far = [math.nan, math.inf] if kind == "time of a density" else OUTSIDE
    return [*arrays, *numbers, *far, *(xp.array(np.full(shape, 0.5)) for shape in shapes)]


# Calls: the kind of each argument, and a value that it can have


def twos(xp: Any) -> Any:
    return xp.array(np.ones((2, 3)))


OPTIONS = {"source": "name", "target": "name", "shift": "positive", "cfg": "cfg"}


def call_of(row: Row) -> tuple[Any, dict[str, tuple[str, Any]]]:
    """A function of the catalogue with its arguments."""
    kinds = {"x": "first" if "y" in row.takes else "only array", "y": "second", "d": "time of a density"}
    times = "time" if row.is_linear else "time alone"
    arguments = {
        name: (kinds.get(kind, times), twos if kind in "xy" else 0.5)
        for name, kind in zip(row.arguments, row.takes, strict=True)
    }
    return row.function, arguments | {name: (OPTIONS[name], value) for name, value in row.options.items()}


# One row of the catalogue for each function: the checks do not depend on the other options.
ONE_EACH = {row.function.__name__: row for row in reversed(ROWS.values()) if row.function.__name__ != "expand_like"}
POSITIVE, FINITE, FLAG, CFG = ("positive", 2.0), ("finite", 0.5), ("flag", False), ("cfg", rf.SampleTimestepConfig())
SAMPLER = {"n": ("n", 3), "rng": ("rng", 0), "xp": ("xp", lambda xp: xp.namespace)}
SAMPLER |= {"device": ("device", None), "dtype": ("dtype", None)}
CALLS: list[tuple[Any, dict[str, tuple[str, Any]]]] = [
    *map(call_of, ONE_EACH.values()),
    call_of(ROWS["convert_prediction (x0, eps)"]._replace(options={"source": "x0", "target": "x0"})),
    call_of(ROWS["convert_state (rf, vp)"]._replace(options={"source": "vp", "target": "vp"})),
    (rf.expand_like, {"x": ("array", twos), "target": ("array", twos), "axes": ("axes", (0, 1))}),
    (rf.resolution_shift, {"tokens": POSITIVE, "base_tokens": ("anchor", 1), "max_tokens": ("anchor", 2)}),
    (rf.resolution_shift, {"tokens": POSITIVE, "base_shift": FINITE, "max_shift": FINITE}),
    (rf.make_t_list, {"steps": ("steps", 4), "shift": POSITIVE}),
    (rf.make_t_list, {"steps": ("steps", 4), "max_t": ("max_t", 1.0), "terminal": ("terminal", 0.5)}),
    (rf.sample_timesteps, {**SAMPLER, "cfg": CFG, "stratified": FLAG}),
    (rf.sample_timestep_pairs, {**SAMPLER, "cfg": CFG, "stratified": FLAG, "equal": ("share", 0.5)}),
    (rf.sample_timestep_pairs, {**SAMPLER, "cfg": CFG, "zero": ("share", 0.25), "r_cfg": ("r_cfg", CFG[1])}),
    (rf.sample_from_t_list, {**SAMPLER, "t_list": ("t_list", (1.0, 0.5, 0.0)), "return_index": FLAG}),
    (rf.SampleTimestepConfig, {"min_t": ("min_t", 0.1), "max_t": ("max_t above 0.1", 0.9)}),
    (rf.SampleTimestepConfig, {"p_mean": FINITE, "p_std": POSITIVE}),
    (rf.SampleTimestepConfig, {"time_dist_type": ("name", "beta"), "truncate": FLAG, "t_list": ("some t_list", None)}),
    (rf.SampleTimestepConfig, {"mode_scale": ("mode_scale", 1.0), "shift": POSITIVE}),
    (rf.SampleTimestepConfig, {"beta_a": POSITIVE, "beta_b": ("beta_b", 1)}),
]
EACH = [(function, arguments, name) for function, arguments in CALLS for name in arguments]


def valid(xp: Any, arguments: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    return {name: good(xp) if callable(good) else good for name, (_, good) in arguments.items()}


def message_of(function: Any, call: dict[str, Any]) -> str:
    """The message of the error that an invalid call raises."""
    try:
        got = function(**call)
    except (TypeError, ValueError) as error:
        return str(error)
    raise AssertionError(f"{function.__name__}(**{call}) gave {got!r}")


@pytest.mark.parametrize(
    ("function", "arguments", "name"), EACH, ids=[f"{function.__name__}-{name}" for function, _, name in EACH]
)
def test_the_error_for_an_invalid_value_names_its_argument(xp: Any, function: Any, arguments: Any, name: str) -> None:
    function(**valid(xp, arguments))
    values = invalid(xp, arguments[name][0])
    messages = [(value, message_of(function, valid(xp, arguments) | {name: value})) for value in values]
    assert messages
    assert [(value, said) for value, said in messages if not re.search(rf"\b{name}\b", said)] == []

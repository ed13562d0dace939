"""Any invalid call raises a TypeError or ValueError that names an invalid argument.

Each argument of each function is tried with every value that it cannot have, and any combination of them. Whole
messages are in test_messages.py.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import random
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastgen_rf as rf

NOTHING = [
    "text",
    "",
    b"\1\0",
    [0.5],
    (0.5,),
    {"a": 1},
    {0.5},
    object(),
    1j,
    np.complex64(1),
    range(3),
    abs,
    float,
    math,
]
NOTHING += [..., slice(1), datetime.timedelta(1), np.str_("x"), np.datetime64(1, "ns"), np.timedelta64(1, "ns")]
NOTHING += [np.timedelta64(0, "s"), np.void(b"12345678"), np.dtype("float32"), decimal.Decimal("0.5"), lambda: 0.5]
NOTHING += [np.ma.masked, np.ma.masked_array([0.5, 0.5], [True, False]), np.array("x"), np.array([None, 0.5])]
NOTHING += [
    np.array([(0.5, 1)], "f4, i4"),
    np.array(["x0", "eps"]),
    np.recarray((2,), "f4, f4"),
    SimpleNamespace(),
    iter([]),
]
OUTSIDE = [-0.1, 1.1, math.nan, math.inf, -math.inf, np.float32(2), np.float64("nan"), np.longdouble(-1)]
NO_NUMBERS = [*NOTHING, None, True, False, np.True_, np.array(5.0), np.array([5.0])]
NO_FINITE = [math.nan, math.inf, -math.inf, 10**400, -(10**400), fractions.Fraction(10**400, 3), np.float16("inf")]
NO_POSITIVE = [*NO_NUMBERS, *NO_FINITE, 0, 0.0, -0.0, -1, -5.0, np.int8(-3), fractions.Fraction(-1, 2)]
NO_FLAGS = [value for value in NO_NUMBERS if not isinstance(value, bool)] + [0, 1, 0.5]
NO_INTEGERS = [*NO_NUMBERS, *NO_FINITE[:3], 2.0, np.float64(2), fractions.Fraction(2)]
NO_NAMES = [*NOTHING, None, 0.5, 3, "X0", "x0 ", "velocity", ["rf"], np.array("x0")]
NO_T_LISTS = [value for value in NO_NUMBERS if not isinstance(value, (range, type(iter([]))))] + [
    *([], [1.0], [0.0], [0.5, 1.0, 0.0], [1.0, 0.5], [1.0, 1.0, 0.0], [1.5, 0.0], [0.5, -0.5], [1.0, math.nan, 0.0]),
    *([True, False], ["1", "0"], [1.0, None, 0.0], [[1.0], [0.0]], [1.0, 0.5j, 0.0], [10**400, 0.0], range(3)),
    *(np.zeros(3), np.zeros((2, 2)), np.array([1.0, np.nan, 0.0]), np.array([1 + 0j, 0]), [1.0, [0.5], 0.0]),
]


def invalid_arrays(xp: Any, others: bool) -> list[Any]:
    """Values that are no real floating array of ``xp``."""
    mine = [xp.other_dtype(np.ones((2, 3)), dtype) for dtype in ("int32", "uint8", "bool", "complex64")]
    theirs = [np.ones((2, 3))] if xp.name not in ("numpy", "jax") and others else []
    return [*NOTHING, None, *mine, *theirs]


def invalid(xp: Any, kind: str) -> list[Any]:
    """Values that such an argument cannot have."""
    other_shapes = [(), (3, 2), (2, 3, 1), (0,)]
    if kind == "array":
        return [value for value in [*NOTHING, None, 0.5, 1] if not isinstance(value, (np.generic, np.ndarray))]
    if kind in ("only array", "first", "second"):
        shapes = [xp.array(np.ones(shape)) for shape in other_shapes] if kind == "second" else []
        return [*invalid_arrays(xp, kind != "only array"), 0.5, 1, True, *shapes]
    if kind in ("t", "time of arrays", "time of a density"):
        shapes = [xp.array(np.full(shape, 0.5)) for shape in other_shapes[1:]] if kind == "time of arrays" else []
        numbers = [True, False, 2, -1, 500, 10**400, np.int64(7), fractions.Fraction(1, 2)]
        far = [math.nan, math.inf] if kind == "time of a density" else OUTSIDE
        return [*invalid_arrays(xp, kind == "time of arrays"), *numbers, *far, *shapes]
    if kind == "rng":
        theirs = [np.random.RandomState(0), random.Random(0), np.random, np.random.PCG64(0), np.random.SeedSequence(0)]
        return [*NOTHING, 0.5, -1, -(10**30), True, np.True_, np.float32(1), np.array(3), *theirs]
    if kind == "xp":
        return [*NOTHING, 3, 0.5, "numpy", np.dtype, np.float32]
    if kind == "device":
        return [value for value in NOTHING if not (isinstance(value, str) and not value)] + ["gpu", -1, 0.5]
    if kind == "dtype":
        no_dtypes = [value for value in NOTHING if not isinstance(value, (type, np.dtype))]
        return [*no_dtypes, 3, "int32", "float31", np.int32, np.dtype("complex64"), "bool", int, complex, np.bool_]
    fixed = {
        "positive": NO_POSITIVE,
        "anchor": [*NO_NUMBERS, *NO_FINITE, -1, -5.0, np.int8(-3), fractions.Fraction(-1, 2)],
        "finite": [*NO_NUMBERS, *NO_FINITE],
        "share": [*NO_NUMBERS, *OUTSIDE, *NO_FINITE],
        "flag": NO_FLAGS,
        "name": NO_NAMES,
        "t_list": NO_T_LISTS,
        "some t_list": [value for value in NO_T_LISTS if value is not None],
        "bound": [*NO_NUMBERS, *NO_FINITE, -0.1, 1.0, np.float32(2)],
        "cfg": [*NO_NUMBERS],
        "r_cfg": [value for value in NO_NUMBERS if value is not None],
        "n": [*NO_INTEGERS, -1, np.int8(-1), (2, -1), (2, 1.5), (2, True), [2, 3], ((2,),), 10**30, (2**40, 2**40)],
        "steps": [*NO_INTEGERS, 0, -3],
        "max_t": [*NO_POSITIVE, 1.5],
        "axes": [
            0,
            1.5,
            (0.0,),
            ("0",),
            (True,),
            (0, 0),
            (9,),
            (None,),
            {0},
            "0",
            (10**30,),
            (-3,),
            b"\0",
            (np.float64(0),),
        ],
    }
    return fixed[kind]


def twos(xp: Any) -> Any:
    return xp.array(np.ones((2, 3)))


FIRST, SECOND, TIME, LEVEL = ("first", twos), ("second", twos), ("time of arrays", 0.5), ("t", 0.5)
POSITIVE, FINITE, FLAG = ("positive", 2.0), ("finite", 0.5), ("flag", False)
FROM, TO = ("name", "x0"), ("name", "eps")
CFG = ("cfg", rf.SampleTimestepConfig(truncate=True))
R_CFG = ("r_cfg", rf.SampleTimestepConfig())
SAMPLER = {
    "n": ("n", 3),
    "rng": ("rng", 0),
    "xp": ("xp", lambda xp: xp.namespace),
    "device": ("device", None),
    "dtype": ("dtype", None),
}
CALLS: list[tuple[Any, dict[str, tuple[str, Any]]]] = [
    (rf.rf_alpha, {"t": LEVEL}),
    (rf.rf_sigma, {"t": LEVEL}),
    (rf.add_noise, {"x0": FIRST, "eps": SECOND, "t": TIME}),
    (rf.pred_noise_to_pred_x0, {"pred_noise": FIRST, "noisy_latents": SECOND, "t": TIME}),
    (rf.pred_x0_from_flow, {"pred_flow": FIRST, "noisy_latents": SECOND, "t": TIME}),
    (rf.x0_to_eps, {"x0": FIRST, "x_t": SECOND, "t": TIME}),
    (rf.x0_to_flow, {"x0": FIRST, "x_t": SECOND, "t": TIME}),
    (rf.ode_step, {"x0": FIRST, "x_t": SECOND, "t": TIME, "t_next": TIME}),
    (rf.flow_step, {"flow": FIRST, "x_t": SECOND, "t": TIME, "t_next": TIME}),
    (rf.convert_prediction, {"pred": FIRST, "x_t": SECOND, "t": TIME, "source": FROM, "target": TO}),
    (rf.convert_prediction, {"pred": FIRST, "x_t": SECOND, "t": TIME, "source": FROM, "target": FROM}),
    (rf.convert_state, {"x": ("only array", twos), "t": TIME, "source": ("name", "rf"), "target": ("name", "vp")}),
    (rf.convert_time, {"time": LEVEL, "source": ("name", "rf"), "target": ("name", "sigma")}),
    (rf.shift_timesteps, {"t": LEVEL, "shift": POSITIVE}),
    (rf.expand_like, {"x": ("array", twos), "target": ("array", twos), "axes": ("axes", (0, 1))}),
    (rf.resolution_shift, {"tokens": POSITIVE, "base_tokens": ("anchor", 1), "max_tokens": ("anchor", 2)}),
    (rf.resolution_shift, {"tokens": POSITIVE, "base_shift": FINITE, "max_shift": FINITE}),
    (rf.make_t_list, {"steps": ("steps", 4), "shift": POSITIVE, "max_t": ("max_t", 1.0)}),
    (rf.timestep_quantile, {"u": LEVEL, "cfg": CFG}),
    (rf.timestep_density, {"t": ("time of a density", 0.5), "cfg": CFG}),
    (rf.sample_timesteps, {**SAMPLER, "cfg": CFG, "stratified": FLAG}),
    (rf.sample_timestep_pairs, {**SAMPLER, "cfg": CFG, "stratified": FLAG, "equal": ("share", 0.5)}),
    (
        rf.sample_timestep_pairs,
        {**SAMPLER, "cfg": CFG, "zero": ("share", 0.25), "r_cfg": R_CFG},
    ),
    (rf.sample_from_t_list, {**SAMPLER, "t_list": ("t_list", (1.0, 0.5, 0.0)), "return_index": FLAG}),
    (rf.SampleTimestepConfig, {"min_t": ("bound", 0.1), "max_t": ("max_t", 0.9), "p_mean": FINITE, "p_std": POSITIVE}),
    (
        rf.SampleTimestepConfig,
        {"shift": POSITIVE, "mode_scale": ("finite", 1.0), "beta_a": POSITIVE, "beta_b": ("positive", 1)},
    ),
    (rf.SampleTimestepConfig, {"time_dist_type": ("name", "beta"), "truncate": FLAG, "t_list": ("some t_list", None)}),
]
"""Functions with their arguments: which values each cannot have, and one that it can have."""
EACH = [(function, arguments, name) for function, arguments in CALLS for name in arguments]


def message_of(function: Any, call: dict[str, Any]) -> str:
    """The message of the error that an invalid call raises."""
    try:
        got = function(**call)
    except (TypeError, ValueError) as error:
        return str(error)
    raise AssertionError(f"{function.__name__}(**{call}) gave {got!r}")


def valid(xp: Any, arguments: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    return {name: good(xp) if callable(good) else good for name, (_, good) in arguments.items()}


@pytest.mark.parametrize(
    ("function", "arguments", "name"), EACH, ids=[f"{function.__name__}-{name}" for function, _, name in EACH]
)
def test_the_error_for_an_invalid_value_names_its_argument(
    xp: Any, function: Any, arguments: dict[str, tuple[str, Any]], name: str
) -> None:
    function(**valid(xp, arguments))
    values = invalid(xp, arguments[name][0])
    unnamed = []
    for value in values:
        message = message_of(function, valid(xp, arguments) | {name: value})
        if not re.search(rf"\b{name}\b", message):
            unnamed.append((value, message))
    assert values
    assert not unnamed


@given(data=st.data())
def test_the_error_for_several_invalid_values_names_one_of_their_arguments(xp: Any, data: Any) -> None:
    function, arguments = data.draw(st.sampled_from(CALLS))
    call = valid(xp, arguments)
    spoiled = data.draw(st.lists(st.sampled_from(sorted(arguments)), min_size=1, unique=True))
    for name in spoiled:
        values = invalid(xp, arguments[name][0])
        call[name] = values[data.draw(st.integers(0, len(values) - 1))]  # not all of them can be hashed
    arrays = [call[name] for name, (kind, _) in arguments.items() if kind in ("first", "second")]
    assume(xp.name == "numpy" or not arrays or not all(type(array) is np.ndarray for array in arrays))  # NumPy
    message = message_of(function, call)
    assert any(re.search(rf"\b{name}\b", message) for name in spoiled), f"{function.__name__}(**{call}): {message!r}"

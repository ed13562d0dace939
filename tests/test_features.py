"""Every cell of the support matrix: each public function through each feature of each framework.

The values, or the derivatives, are compared with exact ones; where the matrix says that a function is not supported,
the call must raise the error that says so. ``python -m tests.support_matrix`` writes the matrix into the documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests import catalogue, exact
from tests.catalogue import NUMBERS, SAMPLERS, Row
from tests.frameworks import FRAMEWORKS
from tests.support_matrix import FEATURES, FUNCTIONS, cell, refusal

EPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}  # spacing above 1


def every_call(feature: str) -> Callable[[Any], Any]:
    """Run a test for the functions that a feature has a meaning for, on the frameworks that have it."""
    places = [name for name, framework in FRAMEWORKS.items() if hasattr(framework, feature)]
    functions = [name for name in FUNCTIONS if any(cell(name, feature, at) for at in places)]

    def decorate(test: Any) -> Any:
        return pytest.mark.backends(*places)(pytest.mark.parametrize("function", functions)(test))

    return decorate


def inputs(row: Row, dtype: str = "float32") -> list[Any]:
    """Small NumPy float64 arguments of numbers that ``dtype`` has, with times well inside (0, 1)."""
    rng = np.random.default_rng(20)
    host = [rng.standard_normal((4, 3)) if kind in "xy" else rng.uniform(0.2, 0.8, 4) for kind in row.takes]
    if "n" in row.takes:
        host[-1] += 0.8 * (1 - host[-1])
    return catalogue.narrowed(host, dtype)


def halves(row: Row, seed: int) -> list[Any]:
    """Multiples of 1/2 in the shapes of the arguments: tangents, and the weights of a sum."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 5, (4, 3) if kind in "xy" else (4,)) / 2 for kind in row.takes]


def check(xp: Any, function: str, feature: str, dtype: str = "float32") -> None:
    """The call gives the exact values, rounded once; or raises, where the matrix says "no"."""
    take = getattr(xp, feature)
    if function in SAMPLERS:
        sampler = SAMPLERS[function]
        if feature in ("eager", "low_precision"):
            names = {"rng": xp.rng(0), "dtype": xp.dtype(dtype), **xp.draw_args}
            results = sampler.call(**names)
        else:
            results = take(*xp.as_call(sampler.call))
        parts = [xp.numpy(part) for part in results]
        for group in zip(*parts, strict=True) if feature == "vmap" else [parts]:
            sampler.check(EPS[dtype] / 4, *group)
        return
    row = FUNCTIONS[function]
    host = inputs(row, dtype)
    arrays = [xp.array(x, dtype) for x in host]
    message = refusal(function, feature, xp.name)
    if message is not None:
        with pytest.raises(TypeError, match=re.escape(message)):
            take(row, arrays)
        return
    got = take(row, arrays)
    assert got.dtype == xp.dtype(dtype)
    exact.assert_rounded(xp.numpy(got), exact.elementwise(row.exact, host), catalogue.float64_slack(row, host), dtype)


# Values


@every_call("eager")
@pytest.mark.needs("float64")
def test_eager(xp: Any, function: str) -> None:
    check(xp, function, "eager")


@every_call("low_precision")
@pytest.mark.dtypes("bfloat16", "float16")
def test_low_precision(xp: Any, function: str, dtype: str) -> None:
    check(xp, function, "low_precision", dtype)


@every_call("no_float64")
@pytest.mark.needs("float64 taken away")
def test_no_float64(xp: Any, function: str) -> None:
    check(xp, function, "no_float64")


@every_call("compiled")
def test_compiled(xp: Any, function: str) -> None:
    check(xp, function, "compiled")


@every_call("exported")
def test_exported(xp: Any, function: str) -> None:
    check(xp, function, "exported")


@every_call("vmap")
def test_vmap(xp: Any, function: str) -> None:
    check(xp, function, "vmap")


@every_call("sharded")
def test_sharded(xp: Any, function: str) -> None:
    check(xp, function, "sharded")


@every_call("lazy")
def test_lazy(xp: Any, function: str) -> None:
    check(xp, function, "lazy")


# Derivatives, within one unit in the last place

# Frameworks add up some gradients of these in float32: over the columns, and those that reach t by several arguments.
ADDED_IN_FLOAT32 = ("expand_like", "shift_timesteps")


def assert_derivative(xp: Any, function: str, got: Any, wanted: Any, terms: Any = 0) -> None:
    """Compare a derivative with its exact value; ``terms`` is the sum of the sizes of what was added up."""
    assert got.dtype == xp.dtype("float32")
    slack = 2.0**-22 * terms if function in ADDED_IN_FLOAT32 else 0
    exact.assert_rounded(xp.numpy(got), wanted, slack + exact.mp.mpf(10) ** -25, "float32", ulps=1.0)


def tangent(row: Row, function: Callable[..., Any], host: list[Any], direction: list[Any]) -> Any:
    """Exact derivative of the result along ``direction``."""
    moves = exact.laid_out(direction)
    return sum(exact.elementwise(exact.partial(function, at), host) * move for at, move in enumerate(moves))


def summed(array: Any, like: Any) -> Any:
    """Summed over the elements that share one element of an argument."""
    return array.sum(axis=tuple(range(like.ndim, array.ndim)))


@every_call("reverse")
def test_reverse(xp: Any, function: str) -> None:
    row = FUNCTIONS[function]
    host = inputs(row)
    weight = largest(halves(row, 21))
    got = xp.reverse(row, [xp.array(x) for x in host], xp.array(weight))
    for at, ours in enumerate(got):
        terms = exact.elementwise(exact.partial(row.exact, at), host) * weight
        assert_derivative(xp, function, ours, summed(terms, host[at]), summed(abs(terms), host[at]))


@every_call("forward")
def test_forward(xp: Any, function: str) -> None:
    row = FUNCTIONS[function]
    host, direction = inputs(row), halves(row, 22)
    got = xp.forward(row, [xp.array(x) for x in host], [xp.array(d) for d in direction])
    assert_derivative(xp, function, got, tangent(row, row.exact, host, direction))


@every_call("repeated")
def test_repeated(xp: Any, function: str) -> None:
    row = FUNCTIONS[function]
    host, direction = inputs(row), halves(row, 22)
    weight = largest(halves(row, 21))
    arrays, moves = [xp.array(x) for x in host], [xp.array(d) for d in direction]
    for at, ours in enumerate(xp.repeated(row, arrays, xp.array(weight), moves)):
        wanted = tangent(row, exact.partial(row.exact, at), host, direction) * weight
        assert_derivative(xp, function, ours, summed(wanted, host[at]), summed(abs(wanted), host[at]))


def largest(arrays: list[Any]) -> Any:
    return max(arrays, key=np.ndim)


# The matrix itself


def test_every_public_name_is_in_the_catalogue() -> None:
    named = {row.function.__name__ for row in catalogue.ROWS.values()}
    assert named | set(SAMPLERS) | set(NUMBERS) == set(rf.__all__) - {"flow_matching"}
    assert {name.partition(" ")[0] for name in FUNCTIONS} == named


def test_every_feature_of_a_framework_is_in_the_matrix() -> None:
    offered = {
        name
        for framework in FRAMEWORKS.values()
        for name in vars(framework)
        if not name.startswith("_") and "call" in getattr(vars(framework)[name], "__annotations__", {})
    }
    assert offered <= set(FEATURES)

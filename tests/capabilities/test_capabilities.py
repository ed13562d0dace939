"""Every cell of the table of capabilities: the values, or the derivatives, that were worked out, or the refusal."""

from __future__ import annotations

import importlib
import re
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from conftest import _WITHOUT
from tests.capabilities import ABSENT, FEATURES, FUNCTIONS, PAGES, REFUSED, calls, cell, summary, written
from tests.capabilities.calls import CALLS, DRAWS, NUMBERS

EPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}  # spacing above 1


TESTED: set[tuple[str, str]] = set()  # features, each with a framework that a test below takes it to


def of(feature: str, *frameworks: str) -> Any:
    """Run a test on the frameworks that have a feature, or on these, and the functions that it has a meaning for."""
    places = frameworks or tuple(FEATURES[feature].meaning)
    TESTED.update((feature, name) for name in places)
    functions = [name for name in FUNCTIONS if any(cell(name, feature, at) for at in places)]

    def decorate(test: Any) -> Any:
        test = pytest.mark.parametrize("function", functions)(test)
        return pytest.mark.backends(*places)(test)

    return decorate


def through(xp: Any, feature: str) -> Any:
    """What takes a call through a feature, as the framework's folder has it."""
    return getattr(importlib.import_module(f"tests.{xp.name}.features"), feature.replace(" ", "_"))


def by_itself(call: Any, arrays: list[Any]) -> Any:
    return call(*arrays)


def check(xp: Any, function: str, feature: str, take: Any, dtype: str = "float32") -> None:
    """The call gives the exact values, rounded once; or raises, where the table says no."""
    if function in NUMBERS:
        NUMBERS[function]()
        return
    draw = DRAWS.get(function)
    if draw is None:
        host = calls.inputs(CALLS[function].takes, dtype)
        call, arrays = CALLS[function].ours, [xp.array(x, dtype) for x in host]
    elif take is by_itself:
        call, arrays = lambda: draw.ours(rng=xp.rng(0), dtype=xp.dtype(dtype), **xp.draw_args), []
    else:
        call, arrays = through(xp, "draw")(draw.ours, xp.device)
    refusal = REFUSED.get((function, feature, xp.name))
    if refusal is not None:
        with pytest.raises(TypeError, match=re.escape(refusal)):
            take(call, arrays)
        return
    result = take(call, arrays)
    if draw is None:
        assert_rounded(xp, result, calls.values(CALLS[function], host), dtype)
        return
    results = [xp.numpy(part) for part in result]
    for row in zip(*results, strict=True) if feature == "vmap" else [results]:
        draw.check(EPS[dtype] / 4, *row)


def assert_rounded(xp: Any, got: Any, exact: Any, dtype: str = "float32", ulps: float = 0.5) -> None:
    """Within half an ulp of the exact values, or so many ``ulps``."""
    host, wanted = xp.numpy(got).astype(np.float64), exact.astype(np.float64)
    assert got.dtype == xp.dtype(dtype)
    assert host.shape == wanted.shape
    _, exponent = np.frexp(wanted)
    ulp = EPS[dtype] / 2 * 2.0**exponent
    assert (np.abs(host - wanted) <= 1.002 * ulps * ulp + 1e-25).all()  # float64's errors, and those of differences


# Values


@of("eager")
@pytest.mark.needs("float64")
def test_eager(xp: Any, function: str) -> None:
    check(xp, function, "eager", by_itself)


@of("low precision")
@pytest.mark.dtypes("bfloat16", "float16")
def test_low_precision(xp: Any, function: str, dtype: str) -> None:
    check(xp, function, "low precision", by_itself, dtype)


@of("no float64", "array_api_strict")
@pytest.mark.needs("no float64")
def test_no_float64(xp: Any, function: str) -> None:
    check(xp, function, "no float64", by_itself)


@of("no float64", "torch", "jax")
def test_as_if_there_were_no_float64(xp: Any, function: str) -> None:
    check(xp, function, "no float64", through(xp, "no float64"))


@of("compiled")
def test_compiled(xp: Any, function: str) -> None:
    check(xp, function, "compiled", through(xp, "compiled"))


@of("exported")
def test_exported(xp: Any, function: str) -> None:
    check(xp, function, "exported", through(xp, "exported"))


@of("vmap")
def test_vmap(xp: Any, function: str) -> None:
    check(xp, function, "vmap", through(xp, "vmap"))


@of("sharded", "jax")
def test_sharded(xp: Any, function: str) -> None:
    check(xp, function, "sharded", through(xp, "sharded"))


@of("sharded", "torch")
def test_sharded_as_a_distributed_tensor(xp: Any, function: str) -> None:
    check(xp, function, "sharded", through(xp, "sharded"))


@of("lazy")
def test_lazy(xp: Any, function: str) -> None:
    check(xp, function, "lazy", through(xp, "lazy"))


# Derivatives


@of("reverse")
def test_reverse(xp: Any, function: str) -> None:
    call, host, arrays, weight, _ = differentiable(xp, function)
    got = through(xp, "reverse")(call.ours, arrays, xp.array(weight))
    for ours, exact in zip(got, calls.gradients(call, host, weight), strict=True):
        assert_rounded(xp, ours, exact, ulps=1)


@of("forward")
def test_forward(xp: Any, function: str) -> None:
    call, host, arrays, _, direction = differentiable(xp, function)
    got = through(xp, "forward")(call.ours, arrays, [xp.array(d) for d in direction])
    assert_rounded(xp, got, calls.tangent(call, host, direction), ulps=1)


@of("repeated")
def test_repeated(xp: Any, function: str) -> None:
    call, host, arrays, weight, direction = differentiable(xp, function)
    got = through(xp, "repeated")(call.ours, arrays, xp.array(weight), [xp.array(d) for d in direction])
    for ours, exact in zip(got, calls.gradients_along(call, host, weight, direction), strict=True):
        assert_rounded(xp, ours, exact, ulps=1)


def differentiable(xp: Any, function: str) -> tuple[Any, ...]:
    """The call, its inputs on the host and in the framework, the weights of a sum and a tangent for each input."""
    call = CALLS[function]
    host = calls.inputs(call.takes)
    weight = calls.like(min(call.takes), 21)[0]  # of an array's shape, where there is one
    return call, host, [xp.array(x) for x in host], weight, calls.like(call.takes, 22)


# The table itself


def test_every_public_name_is_in_the_table_and_has_a_call() -> None:
    assert {name.partition(" ")[0] for name in FUNCTIONS} == set(rf.__all__) - {"flow_matching"}
    assert set(FUNCTIONS) == {*CALLS, *DRAWS, *NUMBERS}


def test_every_feature_is_taken_to_each_framework_that_has_it() -> None:
    assert {(feature, name) for feature in FEATURES for name in FEATURES[feature].meaning} == TESTED


def test_low_precision_is_claimed_only_where_there_is_float16() -> None:
    assert not any("float16" in _WITHOUT.get(name, ()) for name in FEATURES["low precision"].meaning)


def test_what_a_framework_has_not_is_in_the_overview() -> None:
    for function, feature, name in {*ABSENT, *REFUSED}:
        assert f"`{function.partition(' ')[0]}`" in summary(feature, name)


def test_a_refusal_is_of_a_cell() -> None:
    assert [cell(*at) for at in REFUSED] == ["no"] * len(REFUSED)


def test_the_pages_show_it() -> None:
    for page, table in PAGES.items():
        text = page.read_text(encoding="utf-8")
        assert written(text, table()) == text, f"python -m tests.capabilities writes {page.name} anew"

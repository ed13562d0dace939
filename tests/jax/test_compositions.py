"""JAX, transformations composed: pairs and triples of them give one derivative, that of finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import fastgen_rf as rf
from tests.cases.compositions import (
    ARGUMENTS,
    ROWS,
    Rows,
    assert_close,
    by_row,
    composed,
    every_name,
    inputs,
    moved,
    order,
)
from tests.cases.compositions import derivative as differences

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="a mesh of four devices")

SMALL, LARGE = 5, 66_000  # columns of eight rows
all_arguments = tuple(range(ARGUMENTS))


def _dot(gradients: Any, directions: Any) -> Any:
    return sum((g * d).reshape(d.shape[0], -1).sum(-1) for g, d in zip(gradients, directions, strict=True))


def _jvp(function: Rows) -> Rows:
    def along(*arrays: Any) -> Any:
        inner, at, direction = moved(function, arrays)
        return jax.jvp(inner, at, direction)[1]

    return along


def _linearize(function: Rows) -> Rows:
    def along(*arrays: Any) -> Any:
        inner, at, direction = moved(function, arrays)
        return jax.linearize(inner, *at)[1](*direction)

    return along


def _grad(function: Rows) -> Rows:
    def along(*arrays: Any) -> Any:
        inner, at, direction = moved(function, arrays)
        return _dot(jax.grad(lambda *x: inner(*x).sum(), argnums=all_arguments)(*at), direction)

    return along


def _hessian(function: Rows) -> Rows:
    def along(*arrays: Any) -> Any:
        inner, at, directions = moved(function, arrays, 2)

        def shifted(step: Any) -> Any:
            one, two = step
            pairs = zip(at, directions[:ARGUMENTS], directions[ARGUMENTS:], strict=True)
            return inner(*(x + _tall(one, x) * d + _tall(two, x) * e for x, d, e in pairs)).sum()

        steps = jnp.stack([0 * at[2]] * 2)  # varies over what t varies over: a gradient of anything else is a sum
        return jax.hessian(shifted)(steps)[0, :, 1, :].diagonal()

    return along


def _tall(step: Any, x: Any) -> Any:
    return step.reshape(-1, *(1,) * (x.ndim - 1))


def _by_halves(over: Callable[[Rows, Any], Any]) -> Callable[[Rows], Rows]:
    def letter(function: Rows) -> Rows:
        def halves(*arrays: Any) -> Any:
            return over(function, tuple(x.reshape(2, -1, *x.shape[1:]) for x in arrays)).reshape(-1)

        return halves

    return letter


def _scan(function: Rows, halves: Any) -> Any:
    return jax.lax.scan(lambda carry, x: (carry, function(*x)), None, halves)[1]


def _cond(function: Rows) -> Rows:
    return lambda *arrays: jax.lax.cond(arrays[2].sum() > 0, function, lambda *x: 0 * function(*x), *arrays)


def _shard_map(function: Rows) -> Rows:
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = PartitionSpec("rows")
    return jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows)


LETTERS: dict[str, Callable[[Rows], Rows]] = {
    "jvp": _jvp,
    "linearize": _linearize,
    "grad": _grad,
    "hessian": _hessian,
    "vmap": _by_halves(lambda function, halves: jax.vmap(function)(*halves)),
    "scan": _by_halves(_scan),
    "cond": _cond,
    "remat": jax.checkpoint,
    "jit": jax.jit,
    "shard_map": _shard_map,
}


def evaluate(word: str, name: str, columns: int, dtype: str) -> Any:
    arrays = [jnp.asarray(x, dtype) for x in inputs(columns, order(word))]
    result = jax.jit(composed(word, LETTERS, by_row(name)))(*arrays)
    assert result.dtype == dtype
    assert result.shape == (ROWS,)
    return result


@cache
def forward(name: str, columns: int, count: int, dtype: str) -> Any:
    """What every composition gives, by forward mode alone."""
    return evaluate("-".join(["jvp"] * count), name, columns, dtype)


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def assert_is_the_derivative(word: str, name: str, columns: int) -> None:
    got = evaluate(word, name, columns, "float64")
    assert_close(got, differences(name, columns, order(word)), rel=1e-6)
    assert_close(got, forward(name, columns, order(word), "float64"), rel=1e-11)


DERIVATIVES = ("jvp", "grad", "linearize", "hessian")
AROUND = ("vmap", "scan", "cond", "remat", "shard_map")
PAIRS = [
    *map("-".join, product(DERIVATIVES, AROUND)),
    *map("-".join, product(AROUND, DERIVATIVES)),
    *map("-".join, product(("jvp", "grad"), ("jvp", "grad", "linearize"))),
    *("hessian-jvp", "linearize-grad"),
]
TRIPLES = [
    *("jvp-vmap-grad", "vmap-jvp-grad", "vmap-grad-scan", "grad-vmap-scan", "scan-vmap-grad", "linearize-grad-vmap"),
    *("vmap-shard_map-grad", "grad-vmap-shard_map", "shard_map-vmap-grad", "shard_map-jvp-grad"),
    *("remat-grad-scan", "grad-scan-remat", "remat-grad-remat", "grad-remat-grad", "grad-cond-scan"),
    *("hessian-remat-scan", "jvp-grad-shard_map", "jvp-jvp-jvp"),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("word", PAIRS)
def test_pairs(word: str) -> None:
    assert_is_the_derivative(word, "ode_step", SMALL)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("word", TRIPLES)
def test_triples(word: str) -> None:
    assert_is_the_derivative(word, "convert_prediction to v_vp", SMALL)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("word", ["grad-vmap-jvp", "jvp-remat-grad"])
@every_name
def test_every_function(word: str, name: str) -> None:
    assert_is_the_derivative(word, name, SMALL)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("word", ["jvp-vmap", "grad-jvp", "grad-remat-scan", "vmap-shard_map-grad"])
def test_large_arrays(word: str) -> None:
    assert_is_the_derivative(word, "ode_step", LARGE)


@pytest.mark.parametrize(
    "word", ["jvp-grad", "grad-remat-scan", "vmap-grad-scan", "shard_map-jvp-grad", "hessian-scan"]
)
@pytest.mark.parametrize("name", ["ode_step", "timestep_quantile"])
def test_float32_without_x64(word: str, name: str) -> None:
    got = evaluate(word, name, SMALL, "float32")
    assert_close(got, differences(name, SMALL, order(word)), rel=3e-6)
    assert_close(got, forward(name, SMALL, order(word), "float32"), rel=3e-6)


@pytest.mark.parametrize("around", [jax.jit, jax.checkpoint], ids=["jit", "remat"])
@pytest.mark.parametrize(("source", "target", "slope"), [("score", "eps", -0.5), ("eps", "score", -2.0)])
def test_a_gradient_of_vmap_over_an_array_that_the_formula_ignores(
    around: Any, source: str, target: str, slope: float
) -> None:
    def convert(pred: Any, x_t: Any) -> Any:
        return rf.convert_prediction(pred, x_t, 0.5, source=source, target=target)

    def loss(pred: Any, x_t: Any) -> Any:
        return jax.vmap(around(convert), in_axes=(None, 0))(pred, x_t).sum()

    for_pred, for_x_t = jax.grad(loss, argnums=(0, 1))(jnp.ones(3), jnp.ones((2, 3)))
    np.testing.assert_array_equal(for_pred, np.full(3, 2 * slope))
    np.testing.assert_array_equal(for_x_t, np.zeros((2, 3)))

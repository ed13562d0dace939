"""JAX, transformations composed: any composition gives the derivative that finite differences give.

A composition is written as a word, outermost transformation first: "jvp-vmap-grad". Each transforms a function of
arrays whose rows are independent; one that differentiates takes one more direction.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import fastgen_rf as rf
from tests.backends.jax.helpers import several_devices

pytestmark = several_devices
MODE = rf.SampleTimestepConfig("mode", truncate=True)
FUNCTIONS: dict[str, Any] = {
    "convert_prediction": lambda x, y, t, s: rf.convert_prediction(x, y, t, source="x0", target="v_vp"),
    "ode_step": rf.ode_step,
    "timestep_quantile": lambda x, y, t, s: rf.timestep_quantile(t, MODE),
}
ARGUMENTS = 4


def by_row(name: str) -> Any:
    """One number for each row, which is linear in none of the four arguments."""

    def rows(*arrays: Any) -> Any:
        result = FUNCTIONS[name](*arrays)
        return (result * result).reshape(result.shape[0], -1).mean(-1)

    return rows


def split(function: Any, arrays: Any) -> tuple[Any, Any, Any]:
    """The function of its four arguments alone, these, and the last direction."""
    last = len(arrays) - ARGUMENTS
    return (lambda *x: function(*x, *arrays[ARGUMENTS:last])), arrays[:ARGUMENTS], arrays[last:]


def jvp(function: Any, *arrays: Any) -> Any:
    inner, at, direction = split(function, arrays)
    return jax.jvp(inner, at, direction)[1]


def linearize(function: Any, *arrays: Any) -> Any:
    inner, at, direction = split(function, arrays)
    return jax.linearize(inner, *at)[1](*direction)


def grad(function: Any, *arrays: Any) -> Any:
    inner, at, direction = split(function, arrays)
    gradients = jax.grad(lambda *x: inner(*x).sum(), argnums=(0, 1, 2, 3))(*at)
    return sum((g * d).reshape(d.shape[0], -1).sum(-1) for g, d in zip(gradients, direction, strict=True))


def in_halves(function: Any, arrays: Any, over: Any) -> Any:
    return over(function, tuple(x.reshape(2, -1, *x.shape[1:]) for x in arrays)).reshape(-1)


def scanned(function: Any, halves: Any) -> Any:
    return jax.lax.scan(lambda carry, x: (carry, function(*x)), None, halves)[1]


def shard_map(function: Any, *arrays: Any) -> Any:
    mesh, rows = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,)), PartitionSpec("b")
    return jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows)(*arrays)


TRANSFORMS: dict[str, Any] = {
    "vmap": lambda function, *x: in_halves(function, x, lambda function, halves: jax.vmap(function)(*halves)),
    "scan": lambda function, *x: in_halves(function, x, scanned),
    "remat": lambda function, *x: jax.checkpoint(function)(*x),
    **{f.__name__: f for f in (jvp, linearize, grad, shard_map)},
}
WORDS = (
    *("linearize-vmap", "scan-jvp", "remat-jvp", "grad-jvp", "jvp-vmap-grad", "grad-vmap-scan", "vmap-shard_map-grad"),
    *("grad-vmap-shard_map", "linearize-grad-vmap", "remat-grad-scan", "grad-remat-grad", "vmap-jvp-grad"),
    *("jvp-grad-shard_map", "jvp-remat-linearize", "jvp-jvp-jvp"),
)


def difference(name: str, arrays: list[Any], directions: list[list[Any]]) -> Any:
    """The derivative along the directions by differences of NumPy's float64 results: right to 1e-6 of the largest."""
    if not directions:
        return by_row(name)(*arrays)
    step, (*rest, last) = (1e-3, 4e-3, 8e-3)[len(directions) - 1], directions
    stencil = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
    moved = [[x + k * step * d for x, d in zip(arrays, last, strict=True)] for k, _ in stencil]
    return sum(c * difference(name, at, rest) for (_, c), at in zip(stencil, moved, strict=True)) / step


@pytest.mark.parametrize("word", WORDS)
def test_a_composition_gives_the_derivative(word: str) -> None:
    rng, letters = np.random.default_rng(0), word.split("-")
    order = sum(letter in ("jvp", "linearize", "grad") for letter in letters)
    scales = [1.0, 1.0, 0.1, 0.1]
    draws = [[s * rng.standard_normal((8, 5) if s == 1 else 8) for s in scales] for _ in range(1 + order)]
    draws[0][2:] = rng.uniform(0.4, 0.6, (2, 8))

    def composed(name: str) -> Any:
        return functools.reduce(
            lambda f, letter: functools.partial(TRANSFORMS[letter], f), reversed(letters), by_row(name)
        )

    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for draw in draws for x in draw]
        found = jax.jit(lambda *x: [composed(name)(*x) for name in FUNCTIONS])(*arrays)
    for name, got in zip(FUNCTIONS, found, strict=True):
        wanted = difference(name, draws[0], draws[1:])
        np.testing.assert_allclose(np.asarray(got), wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())

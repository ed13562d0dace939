"""JAX, forward mode: jvp through every public function with a time, alone and composed with itself, vmap and grad."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases import differences
from tests.cases.differences import LEVELS, assert_close, directions, every_call, every_pair_of_times, values

SHAPE = (4, 6)
jit_or_not = pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])


def native(arrays: list[np.ndarray]) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(x) for x in arrays)


@every_call
@jit_or_not
def test_jvp(call: Any, jit: Any) -> None:
    at, d = values(*SHAPE), directions(*SHAPE)
    value, tangent = jit(lambda x, v: jax.jvp(call, x, v))(native(at), native(d))
    assert tangent.dtype == value.dtype == jnp.float32
    assert_close(tangent, differences.first(call, at, d))


@every_call
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_jvp_along_one_argument(call: Any, place: int) -> None:
    at = values(*SHAPE)
    d = [x if i == place else np.zeros_like(x) for i, x in enumerate(directions(*SHAPE))]

    def along(x: jax.Array) -> Any:
        return call(*(x if i == place else other for i, other in enumerate(native(at))))

    tangent = jax.jvp(along, (jnp.asarray(at[place]),), (jnp.asarray(d[place]),))[1]
    assert_close(tangent, differences.first(call, at, d))


@every_call
def test_jvp_of_vmap_and_vmap_of_jvp(call: Any) -> None:
    at, d = values(*SHAPE), directions(*SHAPE)
    wanted = differences.first(call, at, d)
    assert_close(jax.jvp(jax.vmap(call), native(at), native(d))[1].reshape(wanted.shape), wanted)
    by_row = jax.vmap(lambda x, v: jax.jvp(call, x, v)[1])(native(at), native(d))
    assert_close(by_row.reshape(wanted.shape), wanted)


@every_call
@jit_or_not
def test_jvp_of_jvp(call: Any, jit: Any) -> None:
    at, d, e = values(*SHAPE), directions(*SHAPE), directions(*SHAPE, seed=2)

    def once(*x: jax.Array) -> Any:
        return jax.jvp(call, x, native(d))[1]

    twice = jit(lambda x, v: jax.jvp(once, x, v)[1])(native(at), native(e))
    assert_close(twice, differences.second(call, at, d, e), 1e-4)


@every_call
@jit_or_not
def test_grad_of_jvp(call: Any, jit: Any) -> None:
    at, d, e = values(*SHAPE), directions(*SHAPE), directions(*SHAPE, seed=2)
    weight = np.random.default_rng(3).standard_normal(np.shape(call(*at)))

    def loss(*x: jax.Array) -> Any:
        return (jax.jvp(call, x, native(d))[1] * weight).sum()

    gradients = jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*native(at))
    along = sum(float(np.vdot(g, v)) for g, v in zip(gradients, e, strict=True))
    assert along == pytest.approx(float(np.vdot(differences.second(call, at, d, e), weight)), rel=1e-4, abs=1e-4)


@every_call
@jit_or_not
@pytest.mark.parametrize("number", [float, np.float64])
def test_jvp_in_times_that_are_numbers(call: Any, jit: Any, number: Any) -> None:
    """As MeanFlow writes it: ``jax.jvp(u, (t, r), (1.0, 0.0))``."""
    a, b, _, _ = values(*SHAPE)
    if call is differences.CALLS["expand_like"]:
        call = differences.CALLS["rf_sigma"]  # which takes numbers

    def in_time(t: Any, s: Any) -> Any:
        return call(*native([a, b]), t, s)

    def on_host(t: Any, s: Any) -> Any:
        return call(a.astype(np.float64), b.astype(np.float64), float(t), float(s))

    at, d = (0.4, 0.3), (1.0, -0.5)
    tangent = jit(lambda: jax.jvp(in_time, tuple(map(number, at)), tuple(map(number, d)))[1])()
    assert_close(tangent, differences.first(on_host, [np.array(x) for x in at], [np.array(x) for x in d]))


@every_pair_of_times
def test_both_modes_see_through_every_pair_of_times(source: str, target: str) -> None:
    level = np.asarray(LEVELS[source], np.float32)

    def convert(time: Any) -> Any:
        return rf.convert_time(time, source=source, target=target)

    wanted = differences.first(convert, [level], [np.ones(3)], 1e-6)
    time = jnp.asarray(level)
    np.testing.assert_allclose(jax.grad(lambda x: convert(x).sum())(time), wanted, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(convert, (time,), (jnp.ones_like(time),))[1], wanted, rtol=1e-6)


def test_a_mean_flow_target() -> None:
    """``u = v - (t - r) du/dt`` along (v, 1, 0), whose du/dt a network's derivative is, through flow_step and jvp."""
    x0, eps, t, _ = native(values(*SHAPE))
    r = 0.5 * t
    x_t, v = rf.add_noise(x0, eps, t), eps - x0

    def average(x: jax.Array, t: jax.Array, r: jax.Array) -> jax.Array:
        return rf.flow_step(jnp.sin(x), x, t, r)

    u, slope = jax.jit(lambda: jax.jvp(average, (x_t, t, r), (v, jnp.ones_like(t), jnp.zeros_like(r))))()
    step = (r - t)[:, None]
    np.testing.assert_allclose(u, x_t + step * jnp.sin(x_t), rtol=1e-6)
    np.testing.assert_allclose(slope, v * (1 + step * jnp.cos(x_t)) - jnp.sin(x_t), rtol=1e-5, atol=1e-6)

"""JAX, the meshes: derivatives under shard_map's checks and on Explicit axes, where not all arrays vary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fastgen_rf as rf
from tests.cases.by_hand import CONVERSIONS

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="a mesh of four devices")
WHOLE, ROWS = PartitionSpec(), PartitionSpec("b")
PAIRS = [("eps", "score"), ("flow", "eps"), ("score", "flow"), ("v", "score")]  # an input unused, or a factor constant
RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.standard_normal((4, 6)), jnp.float32) for _ in range(2))
T = jnp.asarray(RNG.uniform(0.2, 0.8, 4), jnp.float32)


def convert(source, target):
    return lambda a, b, t: rf.convert_prediction(a, b, t, source=source, target=target)


def roll(a, b, t):
    """Steps in a scan, each from a time of the batch to a number and back."""

    def step(x, t_next):
        return rf.ode_step(a, x, t, t_next), None

    start = rf.ode_step(a, b, t, 0.9 * t)  # varies as the steps that follow do: JAX wants one type of a scan's carry
    return jax.lax.scan(step, start, jnp.array([0.3, 0.1]))[0]


CALLS = {
    **{name: conversion.ours for name, conversion in CONVERSIONS.items()},
    **{f"{source}-{target}": convert(source, target) for source, target in PAIRS},
    "ode_step": lambda a, b, t: rf.ode_step(a, b, t, t * t),
    "ode_step in a scan": roll,
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
every_place = pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "second", "t"])


def by(call, place):
    """Return ``call`` as a loss of the argument at ``place``, then the others."""

    def loss(moving, *others):
        arguments = list(others)
        arguments.insert(place, moving)
        return call(*arguments).sum()

    return loss


def mesh(kind):
    return jax.make_mesh((4,), ("b",), axis_types=(kind,))


@every_call
@every_place
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_shard_map_takes_gradients_of_what_does_not_vary(call, place, jit):
    values = [A, B, T]
    moving = values.pop(place)[:1]  # one row, the same on each device
    whole = jnp.broadcast_to(moving, (4, *moving.shape[1:]))
    wanted = jax.grad(lambda x: by(call, place)(jnp.broadcast_to(x, whole.shape), *values))(moving)
    gradient = jax.shard_map(
        jax.grad(by(call, place)), mesh=mesh(AxisType.Auto), in_specs=(WHOLE, ROWS, ROWS), out_specs=WHOLE
    )
    np.testing.assert_allclose((jax.jit(gradient) if jit else gradient)(moving, *values), wanted, rtol=1e-4, atol=1e-5)


@every_call
@every_place
def test_explicit_axes_take_gradients_of_what_is_replicated(call, place):
    over = mesh(AxisType.Explicit)
    values = [A, B, T]
    moving = values.pop(place)
    wanted = jax.grad(by(call, place))(moving, *values)
    replicated = jax.device_put(moving, NamedSharding(over, WHOLE))
    others = [jax.device_put(x, NamedSharding(over, ROWS)) for x in values]
    with jax.set_mesh(over):
        for gradient in (jax.grad(by(call, place)), jax.jit(jax.grad(by(call, place)))):
            np.testing.assert_allclose(gradient(replicated, *others), wanted, rtol=1e-5, atol=1e-5)


# Draws

CFG = rf.SampleTimestepConfig()


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("within", [False, True], ids=["no mesh set", "mesh set"])
@pytest.mark.parametrize("stratified", [False, True], ids=["plain", "stratified"])
def test_a_sharding_spreads_the_draw_in_a_mesh_s_scope_too(kind, within, stratified):
    over = mesh(kind)
    rows = NamedSharding(over, ROWS)

    def spread(key):
        return rf.sample_timesteps(8, CFG, rng=key, device=rows, stratified=stratified)

    expected = rf.sample_timesteps(8, CFG, rng=jax.random.key(0), stratified=stratified)
    for draw in (spread, jax.jit(spread)):
        if within:
            with jax.set_mesh(over):
                t = draw(jax.random.key(0))
        else:
            t = draw(jax.random.key(0))
        assert t.sharding.is_equivalent_to(rows, 1)
        np.testing.assert_array_equal(t, expected)

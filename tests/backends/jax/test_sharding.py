"""JAX, sharded arrays: eager and jitted calls, gradients, shard_map, meshes with Auto and with Explicit axes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import fastgen_rf as rf
from tests.backends.jax.helpers import TWO, arrays, assert_numpys, several_devices
from tests.catalogue import ROWS

pytestmark = several_devices
WHOLE, ROWS_OVER_DEVICES = PartitionSpec(), PartitionSpec("b")


def mesh(axis_type: AxisType) -> jax.sharding.Mesh:
    return jax.make_mesh((4,), ("b",), axis_types=(axis_type,))


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def rows(request: pytest.FixtureRequest) -> NamedSharding:
    """The first axis over four devices."""
    return NamedSharding(mesh(request.param), ROWS_OVER_DEVICES)


def test_results_are_sharded_as_their_arguments(rows: NamedSharding) -> None:
    x, y, t = (jax.device_put(a, rows) for a in arrays(8, 6))
    whole = jax.device_put(y, NamedSharding(rows.mesh, WHOLE))  # on the same devices

    def calls(x: Any, y: Any, t: Any) -> list[Any]:
        return [row(x, y, time) for row in TWO for time in (t, 0.3)]

    for results in (calls(x, y, t), jax.jit(calls)(x, y, t), calls(x, whole, t)):
        for got, (row, time) in zip(results, [(row, time) for row in TWO for time in (t, 0.3)], strict=True):
            assert got.sharding.is_equivalent_to(rows, 2)
            assert_numpys(got, row, x, y, time)


def test_gradients_are_sharded_as_their_arguments(rows: NamedSharding) -> None:
    values = [jax.device_put(a, rows) for a in arrays(8, 6)]

    def gradients(*values: Any) -> Any:
        return [jax.grad(lambda *x, row=row: jnp.square(row(*x)).sum(), argnums=(0, 1, 2))(*values) for row in TWO]

    for found in jax.jit(gradients)(*values):
        for x, gradient in zip(values, found, strict=True):
            assert gradient.sharding.is_equivalent_to(rows, x.ndim)


# Devices


def test_arrays_that_nobody_placed_follow_one_that_somebody_did() -> None:
    x, y, t = arrays(8, 6)
    there = jax.devices()[1]
    assert rf.add_noise(jax.device_put(x, there), y, t).devices() == {there}
    assert rf.add_noise(x, jax.device_put(y, there), t).devices() == {there}
    with pytest.raises(ValueError, match="must be on one device"):
        rf.add_noise(jax.device_put(x, jax.devices()[0]), jax.device_put(y, there), t)


def test_the_sharding_of_a_single_device_is_kept() -> None:
    there = SingleDeviceSharding(jax.devices()[-1])
    assert rf.add_noise(*(jax.device_put(a, there) for a in arrays(8, 6))).sharding == there


# Gradients in an argument that is the same on all devices: their derivatives vary over the mesh, it does not

X, Y, T = arrays(4, 6)


def sampling_loop(x0: Any, x: Any, t: Any) -> Any:
    """Steps in a scan, each from a time of the batch to a number and back."""

    def step(x: Any, t_next: Any) -> Any:
        return rf.ode_step(x0, x, t, t_next), None

    start = rf.ode_step(x0, x, t, 0.9 * t)  # varies as the steps that follow do: the carry of a scan has one type
    return jax.lax.scan(step, start, jnp.array([0.3, 0.1]))[0]


CALLS = [
    *TWO,
    ROWS["convert_prediction (eps, score)"],  # ignores x_t
    ROWS["convert_prediction (flow, eps)"],  # a constant coefficient
    lambda x, y, t: rf.ode_step(x, y, t, t * t),
    sampling_loop,
]


def losses(at: int) -> list[Any]:
    """Each call as a loss of the argument at position ``at``, then the others."""

    def loss(call: Any) -> Any:
        return lambda moving, *others: call(*others[:at], moving, *others[at:]).sum()

    return [loss(call) for call in CALLS]


every_argument = pytest.mark.parametrize("at", [0, 1, 2], ids=["first", "second", "t"])


@every_argument
def test_shard_map_differentiates_in_an_argument_that_does_not_vary(at: int) -> None:
    values: list[Any] = [X, Y, T]
    moving = values.pop(at)[:1]  # one row, the same on each device

    def repeated(loss: Any) -> Any:
        return lambda x, *others: loss(jnp.broadcast_to(x, (4, *x.shape[1:])), *others)

    def gradients(moving: Any, *others: Any) -> list[Any]:
        return [jax.grad(loss)(moving, *others) for loss in losses(at)]

    specs = (WHOLE, ROWS_OVER_DEVICES, ROWS_OVER_DEVICES)
    mapped = jax.shard_map(gradients, mesh=mesh(AxisType.Auto), in_specs=specs, out_specs=WHOLE)
    wanted = jax.jit(lambda *x: [jax.grad(repeated(loss))(*x) for loss in losses(at)])(moving, *values)
    for got, expected in zip(jax.jit(mapped)(moving, *values), wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@every_argument
def test_explicit_axes_allow_gradients_in_a_replicated_argument(at: int) -> None:
    over = mesh(AxisType.Explicit)
    values: list[Any] = [X, Y, T]
    moving = values.pop(at)

    def gradients(*x: Any) -> list[Any]:
        return [jax.grad(loss)(*x) for loss in losses(at)]

    wanted = jax.jit(gradients)(moving, *values)
    replicated = jax.device_put(moving, NamedSharding(over, WHOLE))
    others = [jax.device_put(x, NamedSharding(over, ROWS_OVER_DEVICES)) for x in values]
    with jax.set_mesh(over):
        jitted = jax.jit(gradients)(replicated, *others)
        eager = [jax.grad(loss)(replicated, *others) for loss in losses(at)[1:5:3]]
    for got, expected in zip([*jitted, *eager], [*wanted, *wanted[1:5:3]], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)

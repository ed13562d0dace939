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


def test_results_and_gradients_are_sharded_as_their_arguments(rows: NamedSharding) -> None:
    x, y, t = given = [jax.device_put(a, rows) for a in arrays(8, 6)]
    whole = jax.device_put(y, NamedSharding(rows.mesh, WHOLE))  # on the same devices
    cases = [(row, time) for row in TWO for time in (t, 0.3)]

    def calls(x: Any, y: Any, t: Any) -> list[Any]:
        return [row(x, y, t if isinstance(time, jax.Array) else time) for row, time in cases]

    for results in (calls(x, y, t), jax.jit(calls)(x, y, t), calls(x, whole, t)):
        for got, (row, time) in zip(results, cases, strict=True):
            assert got.sharding.is_equivalent_to(rows, 2)
            assert_numpys(got, row, x, y, time)

    def gradients(*given: Any) -> Any:
        return [jax.grad(lambda *x, row=row: jnp.square(row(*x)).sum(), argnums=(0, 1, 2))(*given) for row in TWO]

    for found in jax.jit(gradients)(*given):
        assert all(got.sharding.is_equivalent_to(rows, got.ndim) for got in found)


# Devices


def test_arrays_that_nobody_placed_follow_one_that_somebody_did() -> None:
    x, y, t = arrays(8, 6)
    there = jax.devices()[1]
    assert rf.add_noise(jax.device_put(x, there), y, t).devices() == {there}
    assert rf.add_noise(x, jax.device_put(y, there), t).devices() == {there}
    with pytest.raises(ValueError, match="must be on one device"):
        rf.add_noise(jax.device_put(x, jax.devices()[0]), jax.device_put(y, there), t)
    single = SingleDeviceSharding(there)
    assert rf.add_noise(*(jax.device_put(a, single) for a in (x, y, t))).sharding == single


# Gradients in an argument that is the same on all devices: their derivatives vary over the mesh, it does not


CALLS = [
    *TWO,
    ROWS["convert_prediction (eps, score)"],  # ignores x_t
    ROWS["convert_prediction (flow, eps)"],  # a constant coefficient
    lambda x, y, t: rf.ode_step(x, y, t, t * t),
]


def gradients(at: int) -> Any:
    """Each call's gradient in the argument at position ``at``, as a function of that argument and then the others."""

    def loss(call: Any) -> Any:
        return lambda moving, *others: call(*others[:at], moving, *others[at:]).sum()

    return lambda *given: [jax.grad(loss(call))(*given) for call in CALLS]


every_argument = pytest.mark.parametrize("at", [0, 1, 2], ids=["first", "second", "t"])


@every_argument
def test_shard_map_differentiates_in_an_argument_that_does_not_vary(at: int) -> None:
    values = list(arrays(4, 6))
    moving = values.pop(at)[:1]  # one row, the same on each device

    def repeated(x: Any, *others: Any) -> Any:
        return [each.sum(0, keepdims=True) for each in gradients(at)(jnp.repeat(x, 4, axis=0), *others)]

    specs = (WHOLE, ROWS_OVER_DEVICES, ROWS_OVER_DEVICES)
    mapped = jax.shard_map(gradients(at), mesh=mesh(AxisType.Auto), in_specs=specs, out_specs=WHOLE)
    for got, wanted in zip(jax.jit(mapped)(moving, *values), jax.jit(repeated)(moving, *values), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@every_argument
def test_explicit_axes_allow_gradients_in_a_replicated_argument(at: int) -> None:
    over, values = mesh(AxisType.Explicit), list(arrays(4, 6))
    moving = values.pop(at)
    wanted = jax.jit(gradients(at))(moving, *values)
    given = jax.device_put([moving, *values], [NamedSharding(over, s) for s in (WHOLE, *[ROWS_OVER_DEVICES] * 2)])
    with jax.set_mesh(over):
        found = jax.jit(gradients(at))(*given)
    for got, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)

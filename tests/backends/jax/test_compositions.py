"""JAX, transformations composed: each composition gives the exact derivative."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from tests import compositions
from tests.backends.jax.helpers import several_devices
from tests.catalogue import ROWS
from tests.compositions import ARGUMENTS, Rows, composed, exact_derivative, mean_square, moved, order

NAMES = ("convert_prediction (x0, v_vp)", "ode_step", "timestep_quantile (mode, truncated)")


def jvp(function: Rows, *arrays: Any) -> Any:
    inner, at, direction = moved(function, arrays)
    return jax.jvp(inner, at, direction)[1]


def linearize(function: Rows, *arrays: Any) -> Any:
    inner, at, direction = moved(function, arrays)
    return jax.linearize(inner, *at)[1](*direction)


def grad(function: Rows, *arrays: Any) -> Any:
    inner, at, direction = moved(function, arrays)
    gradients = jax.grad(lambda *x: inner(*x).sum(), argnums=tuple(range(ARGUMENTS)))(*at)
    return sum((g * d).reshape(d.shape[0], -1).sum(-1) for g, d in zip(gradients, direction, strict=True))


def halves(arrays: Any) -> list[Any]:
    return [x.reshape(2, -1, *x.shape[1:]) for x in arrays]


def scan(function: Rows, *arrays: Any) -> Any:
    return jax.lax.scan(lambda carry, x: (carry, function(*x)), None, halves(arrays))[1].reshape(-1)


def shard_map(function: Rows, *arrays: Any) -> Any:
    mesh, rows = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,)), PartitionSpec("b")
    return jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows)(*arrays)


TRANSFORMS: dict[str, Any] = {
    "vmap": lambda function, *x: jax.vmap(function)(*halves(x)).reshape(-1),
    "remat": lambda function, *x: jax.checkpoint(function)(*x),
    **{f.__name__: f for f in (jvp, linearize, grad, scan, shard_map)},
}
COMPOSITIONS = (
    *("linearize-vmap", "scan-jvp", "remat-jvp", "grad-jvp", "jvp-vmap-grad", "grad-vmap-scan", "vmap-shard_map-grad"),
    *("grad-vmap-shard_map", "linearize-grad-vmap", "remat-grad-scan", "grad-remat-grad", "vmap-jvp-grad"),
    *("jvp-grad-shard_map", "jvp-remat-linearize", "jvp-jvp-jvp"),
)


@several_devices
@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_a_composition_gives_the_derivative(composition: str) -> None:
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for x in compositions.inputs(order(composition))]
        calls = [composed(composition, TRANSFORMS, mean_square(ROWS[name])) for name in NAMES]
        found = jax.jit(lambda *x: [call(*x) for call in calls])(*arrays)
    for name, got in zip(NAMES, found, strict=True):
        wanted = exact_derivative(name, order(composition))
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max(), err_msg=name)

"""JAX, transformations: jit, vmap, scan, export with symbolic shapes, donation, linear transposes, compositions."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import fastgen_rf as rf
from tests import compositions
from tests.backends.jax.helpers import TWO, arrays, assert_numpys, several_devices
from tests.catalogue import ROWS, Row
from tests.compositions import ARGUMENTS, Rows, composed, exact_derivative, mean_square, moved, order

every_formula = pytest.mark.parametrize("row", TWO, ids=lambda row: row.name)
X, Y, T = arrays(8, 6)
FRAMES = jnp.asarray(np.random.default_rng(1).uniform(0.1, 0.9, X.shape), jnp.float32)


def test_jit_raises_the_errors_of_eager_calls() -> None:
    with pytest.raises(ValueError, match="t must have a leading part"):
        jax.jit(rf.add_noise)(X, Y, T[:3])
    with pytest.raises(TypeError, match="divide integer timesteps"):
        jax.jit(rf.add_noise)(X, Y, jnp.arange(8))


@every_formula
def test_a_static_time_and_captured_arrays_are_constants_of_the_program(row: Row) -> None:
    assert_numpys(jax.jit(row.function, static_argnums=2)(X, Y, 0.3), row, X, Y, 0.3)
    here = jax.device_put(Y, jax.devices()[0])  # placed, unlike a traced array
    assert_numpys(jax.jit(lambda x: row(x, here, T))(X), row, X, Y, T)
    assert_numpys(jax.jit(lambda t: row(here, X, t))(T), row, Y, X, T)


@every_formula
def test_vmap_over_any_of_the_arguments_and_axes(row: Row) -> None:
    firsts = [jnp.broadcast_to(x[0], X.shape) for x in (X, Y)]
    cases: list[tuple[Any, Any, list[Any]]] = [
        (jax.vmap(row), (X, Y, T), [X, Y, T]),
        (jax.vmap(row, in_axes=(0, 0, None)), (X, Y, T[0]), [X, Y, T[0]]),
        (jax.vmap(row, in_axes=(0, None, 0)), (X, Y[0], T), [X, firsts[1], T]),
        (jax.vmap(row, in_axes=(None, 0, 0)), (X[0], Y, T), [firsts[0], Y, T]),
        (jax.vmap(row, in_axes=(None, None, 0)), (X[0], Y[0], T), [*firsts, T]),
        (jax.vmap(row, in_axes=(1, 1, None), out_axes=1), (X, Y, T), [X, Y, T]),
        (jax.vmap(jax.vmap(row)), (X, Y, FRAMES), [X, Y, FRAMES]),
    ]
    call, given, _ = cases[2]
    results = [*jax.jit(lambda: [call(*given) for call, given, _ in cases])(), call(*given)]
    for result, (_, _, whole) in zip(results, [*cases, cases[2]], strict=True):
        assert_numpys(result, row, *whole)


def test_cond_within_scan_over_times() -> None:
    def step(x: jax.Array, t: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        return x, [*(row(x, Y, t) for row in TWO), jax.lax.cond(t > 0.5, rf.x0_to_eps, lambda x, y, t: x, x, Y, t)]

    _, (noised, eps, moved) = jax.lax.scan(step, X, T)
    for at, t in enumerate(T):
        assert_numpys(noised[at], TWO[0], X, Y, t)
        assert_numpys(eps[at], TWO[1], X, Y, t)
        np.testing.assert_array_equal(moved[at], eps[at] if t > 0.5 else X)


def test_a_sampling_loop_in_a_scan_ends_in_exactly_x0() -> None:
    times = jnp.asarray(rf.make_t_list(6, shift=3.0), jnp.float32)

    def step(x: jax.Array, pair: Any) -> tuple[jax.Array, jax.Array]:
        return (x := rf.ode_step(X, x, *pair)), x

    end, on_the_way = jax.lax.scan(step, rf.add_noise(X, Y, times[0]), (times[:-1], times[1:]))
    np.testing.assert_array_equal(end, X)
    np.testing.assert_allclose(on_the_way[2], rf.add_noise(X, Y, times[3]), rtol=1e-5, atol=1e-6)


def test_an_exported_program_takes_any_batch() -> None:
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = ((batch, 6), (batch, 6), (batch,), (batch, 1))
    described = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def calls(x: Any, y: Any, t: Any, t_next: Any) -> list[Any]:
        return [*(row(x, y, time) for row in TWO for time in (t, t_next)), rf.ode_step(x, y, t, t_next)]

    exported = jax.export.export(jax.jit(calls))(*described)
    for size in (3, 8):
        given = X[:size], Y[:size], T[:size], T[::-1][:size, None]
        wanted = calls(*(np.asarray(x, np.float64) for x in given))
        for got, expected in zip(exported.call(*given), wanted, strict=True):
            np.testing.assert_allclose(got, expected, rtol=2e-7)


@every_formula
def test_the_memory_of_a_donated_array_is_reused(row: Row) -> None:
    donated = X.copy()
    result = jax.jit(row.function, donate_argnums=0)(donated, Y, T)
    assert donated.is_deleted()
    assert_numpys(result, row, X, Y, T)


# Linear transposes. A division whose last bit of float64 shows is behind a select, which is not linear to JAX.

LINEAR = [
    (name, dtype, time)
    for name in ("add_noise", "x0_to_eps")
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float64)
    for time in (T, 0.3)
    if name == "add_noise" or (dtype != jnp.float64 and time is T)
]


@pytest.mark.parametrize("place", [0, 1])
def test_formulas_are_linear_in_each_array_where_float64_does_not_show(place: int) -> None:
    cotangents = [arrays(8, 6, dtype=dtype)[1] for _, dtype, _ in LINEAR]

    def call(x: Any, name: str, time: Any) -> Any:
        return ROWS[name](*((x, x - x) if place == 0 else (x - x, x)), time)  # its own transpose

    def transposed(cotangents: list[Any]) -> list[Any]:
        zeros = [x - x for x in cotangents]
        return [
            jax.linear_transpose(lambda x, n=n, z=z, t=t: ROWS[n](*((x, z) if place == 0 else (z, x)), t), c)(c)[0]
            for (n, _, t), z, c in zip(LINEAR, zeros, cotangents, strict=True)
        ]

    for (name, _, time), cotangent, got in zip(LINEAR, cotangents, jax.jit(transposed)(cotangents), strict=True):
        assert got.dtype == cotangent.dtype
        assert_numpys(got, lambda x, t, name=name: call(x, name, t), cotangent, time)


# Compositions of transformations

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

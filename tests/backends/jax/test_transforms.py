"""JAX, transformations: jit, vmap, export with symbolic shapes, donation, linear transposes, compositions."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from tests import compositions
from tests.backends.jax.helpers import TWO, arrays, assert_numpys, several_devices
from tests.catalogue import ROWS, Row
from tests.compositions import Rows, composed, derivatives, exact_derivative, mean_square, order

every_formula = pytest.mark.parametrize("row", TWO, ids=lambda row: row.name)
X, Y, T = arrays(8, 6)


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
        (jax.vmap(row, in_axes=(0, None, 0)), (X, Y[0], T), [X, firsts[1], T]),
        (jax.vmap(row, in_axes=(None, 0, 0)), (X[0], Y, T), [firsts[0], Y, T]),
        (jax.vmap(row, in_axes=(None, None, 0)), (X[0], Y[0], T), [*firsts, T]),
        (jax.vmap(row, in_axes=(1, 1, None), out_axes=1), (X, Y, T), [X, Y, T]),
    ]
    results = jax.jit(lambda: [call(*given) for call, given, _ in cases])()
    for result, (_, _, whole) in zip(results, cases, strict=True):
        assert_numpys(result, row, *whole)


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


# Linear transposes. A division whose last bit of float64 shows is behind a select, which is not linear to JAX.


@pytest.mark.parametrize(
    ("row", "dtype"),
    [(TWO[0], jnp.float64), (TWO[0], jnp.float32), (TWO[1], jnp.float32)],
    ids=["add_noise float64", "add_noise float32", "x0_to_eps float32"],
)
def test_formulas_are_linear_in_each_array_where_float64_does_not_show(row: Row, dtype: Any) -> None:
    cotangent = arrays(8, 6, dtype=dtype)[1]
    zeros = cotangent - cotangent
    for call in (lambda x, z, t: row(x, z, t), lambda x, z, t: row(z, x, t)):  # each is its own transpose
        (got,) = jax.linear_transpose(lambda x, call=call: call(x, zeros, T), cotangent)(cotangent)
        assert got.dtype == cotangent.dtype
        assert_numpys(got, lambda x, t, call=call: call(x, x - x, t), cotangent, T)


# Compositions of transformations

NAMES = ("convert_prediction (x0, v_vp)", "ode_step", "timestep_quantile (mode, truncated)")


def halves(arrays: Any) -> list[Any]:
    return [x.reshape(2, -1, *x.shape[1:]) for x in arrays]


def scan(function: Rows, *arrays: Any) -> Any:
    return jax.lax.scan(lambda carry, x: (carry, function(*x)), None, halves(arrays))[1].reshape(-1)


TRANSFORMS: dict[str, Any] = {
    "vmap": lambda function, *x: jax.vmap(function)(*halves(x)).reshape(-1),
    "remat": lambda function, *x: jax.checkpoint(function)(*x),
    "scan": scan,
    **derivatives(jax),
}
COMPOSITIONS = (
    *("jvp-vmap", "scan-jvp", "jvp-vmap-grad", "grad-vmap-scan"),
    *("remat-grad-scan", "grad-remat-grad", "jvp-remat-jvp", "jvp-jvp-jvp"),
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

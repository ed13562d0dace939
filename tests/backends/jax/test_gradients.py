"""JAX, derivatives: dtypes, shapes of t, one argument alone, numbers as times, higher orders, memory.

Derivatives of each function in float32 are in test_features.py, compositions of transformations in
test_compositions.py.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from tests import exact
from tests.backends.jax.helpers import FOUR, TWO, arrays
from tests.catalogue import ROWS, Row

STEP = ROWS["ode_step"]
jit_or_not = pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])


def exact_slope(row: Row, at: int, *arguments: Any) -> Any:
    """Exact derivative for the argument at position ``at``, for each element."""
    return exact.elementwise(exact.partial(row.exact, at), [np.asarray(x, np.float64) for x in arguments])


def assert_close(got: Any, wanted: Any, dtype: str = "float32", ulps: float = 1.0) -> None:
    assert got.dtype == jnp.dtype(dtype)
    exact.assert_rounded(np.asarray(got).astype(np.float64), wanted, 1e-15, dtype, ulps)


# Values


def test_the_gradient_of_t_is_summed_over_the_elements_that_t_was_used_for() -> None:
    x, y, _ = arrays(4, 5)
    axes: dict[tuple[int, ...], tuple[int, ...]] = {(): (0, 1), (1, 5): (0,), (4, 5): ()}
    rng = np.random.default_rng(1)
    times = [jnp.asarray(rng.uniform(0.1, 0.9, shape), jnp.float32) for shape in axes]

    def gradients(times: list[Any]) -> list[Any]:
        return [[jax.grad(lambda s, row=row: row(x, y, s).sum())(t) for t in times] for row in TWO]

    for row, found in zip(TWO, jax.jit(gradients)(times), strict=True):
        for got, t in zip(found, times, strict=True):
            assert_close(got, np.asarray(exact_slope(row, 2, x, y, t).sum(axes[t.shape])).reshape(t.shape))


def test_a_derivative_along_one_argument_alone() -> None:
    x, y, t = arrays(4, 5)
    rows = [*FOUR, STEP]
    arguments, moves = (x, y, t, t * t), (y, x, t, 1 - t)

    def along(row: Row, at: int) -> Any:
        mine = arguments[: len(row.takes)]
        return jax.jvp(lambda x: row(*mine[:at], x, *mine[at + 1 :]), (mine[at],), (moves[at],))[1]

    def tangents() -> list[list[Any]]:
        return [[along(row, at) for at in range(len(row.takes))] for row in rows]

    for row, found in zip(rows, jax.jit(tangents)(), strict=True):
        for at, got in enumerate(found):
            move = np.asarray(moves[at], np.float64).reshape((4, -1))
            assert_close(got, exact_slope(row, at, *arguments[: len(row.takes)]) * move)


@pytest.mark.parametrize("around", [jax.jit, jax.checkpoint], ids=["jit", "remat"])
@pytest.mark.parametrize(("source", "target", "slope"), [("score", "eps", -0.5), ("eps", "score", -2.0)])
def test_the_gradient_of_vmap_over_an_array_that_the_formula_ignores(
    around: Any, source: str, target: str, slope: float
) -> None:
    def loss(pred: Any, x_t: Any) -> Any:
        call = around(lambda pred, x_t: rf.convert_prediction(pred, x_t, 0.5, source=source, target=target))
        return jax.vmap(call, in_axes=(None, 0))(pred, x_t).sum()

    for_pred, for_x_t = jax.grad(loss, argnums=(0, 1))(jnp.ones(3), jnp.ones((2, 3)))
    np.testing.assert_array_equal(for_pred, np.full(3, 2 * slope))
    np.testing.assert_array_equal(for_x_t, np.zeros((2, 3)))


# Python floats and NumPy's float64 as times, which JAX traces as float32

X, Y, T = arrays(4, 5)
HOST_T = np.asarray(T, np.float64)
OF_TIME = [  # functions of one time, and their exact values as functions of that time and the arrays
    (lambda t: rf.x0_to_eps(X, Y, t), lambda t, x, y: ROWS["x0_to_eps"].exact(x, y, t)),
    (lambda t: rf.ode_step(X, Y, t, 0.125), lambda t, x, y: STEP.exact(x, y, t, exact.mp.mpf(0.125))),
    (lambda t: rf.ode_step(X, Y, 0.875, t), lambda t, x, y: STEP.exact(x, y, exact.mp.mpf(0.875), t)),
    (lambda t: rf.shift_timesteps(t, 3.0) * X[:, 0], lambda t, x, y: exact.shift(t, 3) * x),
]


def exact_at(value: Any, t: Any, order: int, columns: int) -> Any:
    """Exact derivative in t of the given order, for each element."""
    for _ in range(order):
        value = exact.partial(value, 0)
    x, y = (np.asarray(a, np.float64)[:, :columns] for a in (X, Y))
    times = np.broadcast_to(np.reshape(np.asarray(np.float32(t), np.float64), (-1, 1)), x.shape)
    return exact.elementwise(value, [times, x, y])


@jit_or_not
@pytest.mark.parametrize(
    ("primal", "tangent"),
    [(0.4, 1.0), (np.float64(0.4), np.float64(1.0)), (jnp.float32(0.4), 1.0), (HOST_T, np.ones(4))],
    ids=["floats", "NumPy numbers", "one float", "NumPy arrays"],
)
def test_jvp_takes_numbers_and_numpy_arrays_as_jax_does(primal: Any, tangent: Any, jit: Any) -> None:
    """As MeanFlow writes it: ``jvp(u, (z, r, t), (v, 0.0, 1.0))``."""
    functions = OF_TIME if jit is jax.jit else OF_TIME[1:4:2]
    found = jit(lambda: [jax.jvp(function, (primal,), (tangent,)) for function, _ in functions])()
    for (_, value), (got, slope) in zip(functions, found, strict=True):
        columns = got.size // 4
        for order, result in enumerate((got, slope)):  # a product with X is another rounding
            assert_close(result.reshape(4, -1), exact_at(value, primal, order, columns), ulps=2.0)


def test_third_derivatives_in_a_float_are_made_in_float64() -> None:
    """JAX applies its own rules outside of the float64 scope, where some of their constants would be float32."""

    def third(function: Any) -> Any:
        return jax.jacfwd(jax.jacfwd(jax.jacrev(function)))(0.4)

    found = jax.jit(lambda: [third(function) for function, _ in OF_TIME])()
    for (_, value), got in zip(OF_TIME, found, strict=True):
        wanted = exact_at(value, 0.4, 3, got.size // 4).astype(np.float64)
        np.testing.assert_allclose(np.reshape(got, (4, -1)), wanted, rtol=1e-6, atol=1e-6)


# Memory

# How many arrays as large as the first one a gradient keeps: for the first and the second argument, t, and all of them
SAVED = {
    "add_noise": (0, 0, 2, 2),
    "x0_to_eps": (0, 0, 2, 2),
    "pred_x0_from_flow": (0, 0, 1, 1),
    "ode_step": (0, 0, 2, 2),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_gradient_saves_the_arrays_that_it_needs_at_their_dtypes_and_no_others(name: str) -> None:
    x, y, _ = arrays(4, 30, dtype=jnp.bfloat16)
    t = jnp.full((4, 1), 0.5, jnp.float32)
    given = (x, y, t, 0.5 * t)[: len(ROWS[name].takes)]
    every = tuple(range(len(given)))
    for moving, needed in zip(((0,), (1,), (2,), every), SAVED[name], strict=True):

        def call(*moved: Any, moving: Any = moving) -> Any:
            return ROWS[name](*(moved[moving.index(at)] if at in moving else given[at] for at in every))

        saved = jax.tree.leaves(jax.vjp(call, *(given[at] for at in moving))[1])
        assert [array.dtype for array in saved if array.size == x.size] == [jnp.bfloat16] * needed
        assert not any(array.dtype == np.float64 for array in saved)

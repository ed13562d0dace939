"""JAX, the transformations: each sees through every conversion, and derivatives are those worked out by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import jax.scipy.sparse.linalg
import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases import by_hand
from tests.cases.by_hand import CONVERSIONS, SOME_T, Conversion, assert_rounded_once, every_conversion

every_dtype = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
jit_or_not = pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])


def arrays(*shape: int, dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        first, second = (jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
        return first, second, jnp.asarray(rng.uniform(0.1, 0.9, shape[:1]), jnp.float32)


@every_conversion
@every_dtype
def test_jit(conversion: Conversion, dtype: Any) -> None:
    values = arrays(8, 50, dtype=dtype)
    assert_rounded_once(jax.jit(conversion.ours)(*values), by_hand.value(conversion, *values))


@every_conversion
def test_jit_with_a_static_t(conversion: Conversion) -> None:
    first, second, _ = arrays(8, 50)
    jitted = jax.jit(conversion.ours, static_argnums=2)
    assert_rounded_once(jitted(first, second, SOME_T), by_hand.value(conversion, first, second, SOME_T))


@every_conversion
def test_jit_rejects_what_the_eager_call_rejects(conversion: Conversion) -> None:
    first, second, t = arrays(8, 50)
    with pytest.raises(ValueError, match="t must have a leading part"):
        jax.jit(conversion.ours)(first, second, t[:3])
    with pytest.raises(TypeError, match="divide integer timesteps"):
        jax.jit(conversion.ours)(first, second, jnp.arange(8))


@every_conversion
@jit_or_not
@pytest.mark.parametrize(
    ("in_axes", "t_shape"),
    [((0, 0, 0), (8,)), ((0, 0, None), ()), ((0, None, 0), (8,)), ((None, None, 0), (8,))],
    ids=["all", "shared_t", "shared_second", "t_alone"],
)
def test_vmap(conversion: Conversion, jit: Any, in_axes: tuple[Any, ...], t_shape: tuple[int, ...]) -> None:
    first, second, _ = arrays(8, 50)
    t = jnp.asarray(np.random.default_rng(1).uniform(0.1, 0.9, t_shape), jnp.float32)
    parts = [x if axis == 0 else x[0] for x, axis in zip((first, second), in_axes, strict=False)]
    result = jit(jax.vmap(conversion.ours, in_axes=in_axes))(*parts, t)
    whole = [jnp.broadcast_to(x, (8, 50)) for x in parts]
    assert_rounded_once(result, by_hand.value(conversion, *whole, jnp.broadcast_to(t, (8,))))


@every_conversion
def test_vmap_over_the_last_axis_and_nested(conversion: Conversion) -> None:
    first, second, t = arrays(8, 50)
    frames = jnp.asarray(np.random.default_rng(1).uniform(0.1, 0.9, (8, 50)), jnp.float32)
    nested = jax.vmap(jax.vmap(conversion.ours))(first, second, frames)
    assert_rounded_once(nested, by_hand.value(conversion, first, second, frames))
    columns = jax.vmap(conversion.ours, in_axes=(1, 1, None), out_axes=1)(first, second, t)
    assert_rounded_once(columns, by_hand.value(conversion, first, second, t))


@every_conversion
@every_dtype
@jit_or_not
def test_grad_of_all_three_arguments_in_their_own_dtypes(conversion: Conversion, dtype: Any, jit: Any) -> None:
    first, second, t = arrays(8, 50, dtype=dtype)
    weight = jnp.asarray(np.random.default_rng(1).standard_normal((8, 50)), dtype)

    def vjp(*x: jax.Array) -> Any:
        return jax.vjp(conversion.ours, *x)[1](weight)

    actual = jit(vjp)(first, second, t)
    by_first, by_second, by_time = (by_hand.wide(weight, 2) * s for s in by_hand.slopes(conversion, first, second, t))
    assert [x.dtype for x in actual] == [dtype, dtype, jnp.float32]
    for gradient, exact in zip(actual, (by_first, by_second, by_time.sum(1)), strict=True):
        assert_rounded_once(gradient, exact)


@every_conversion
@pytest.mark.parametrize(("t_shape", "axes"), [((), (0, 1)), ((1,), (0, 1)), ((1, 50), (0,)), ((8, 1), (1,))], ids=str)
def test_the_gradient_of_t_sums_over_what_each_t_reached(
    conversion: Conversion, t_shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    first, second, _ = arrays(8, 50)
    t = jnp.asarray(np.random.default_rng(1).uniform(0.1, 0.9, t_shape), jnp.float32)
    gradient = jax.jit(jax.grad(lambda s: conversion.ours(first, second, s).sum()))(t)
    assert gradient.shape == t_shape
    assert_rounded_once(gradient, by_hand.slopes(conversion, first, second, t)[2].sum(axes).reshape(t_shape))


@every_conversion
@jit_or_not
def test_jvp_and_linearize(conversion: Conversion, jit: Any) -> None:
    values = arrays(8, 50)
    rng = np.random.default_rng(2)
    tangents = tuple(jnp.asarray(rng.standard_normal(x.shape), x.dtype) for x in values)
    slopes = by_hand.slopes(conversion, *values)
    exact = sum(slope * by_hand.wide(tangent, 2) for slope, tangent in zip(slopes, tangents, strict=True))
    value, tangent = jit(lambda v, d: jax.jvp(conversion.ours, v, d))(values, tangents)
    assert_rounded_once(value, by_hand.value(conversion, *values))
    np.testing.assert_allclose(tangent, exact, rtol=1e-5, atol=1e-5)
    linear = jax.linearize(conversion.ours, *values)[1]
    np.testing.assert_allclose(linear(*tangents), exact, rtol=1e-5, atol=1e-5)


@every_conversion
def test_hessian_in_t(conversion: Conversion) -> None:
    first, second, t = arrays(4, 6)
    actual = jax.jit(jax.hessian(lambda s: conversion.ours(first, second, s).sum()))(t)
    bends = np.broadcast_to(conversion.bend(*(by_hand.wide(x, 2) for x in (first, second, t))), (4, 6))
    np.testing.assert_allclose(actual, np.diag(bends.sum(1)), rtol=1e-5, atol=1e-5)


@every_conversion
def test_jacobians_agree_in_both_modes(conversion: Conversion) -> None:
    values = arrays(3, 4)
    forward, reverse = (jax.jit(mode(conversion.ours, argnums=(0, 2)))(*values) for mode in (jax.jacfwd, jax.jacrev))
    np.testing.assert_allclose(forward[0], reverse[0], rtol=1e-6)
    np.testing.assert_allclose(forward[1], reverse[1], rtol=1e-6)


@every_conversion
@every_dtype
def test_per_sample_gradients_by_vmap_of_grad(conversion: Conversion, dtype: Any) -> None:
    values = arrays(8, 50, dtype=dtype)
    gradient = jax.vmap(jax.grad(lambda *x: conversion.ours(*x).astype(jnp.float32).sum(), argnums=2))(*values)
    assert_rounded_once(gradient, by_hand.slopes(conversion, *values)[2].sum(1))


@every_conversion
@jit_or_not
def test_scan_over_times(conversion: Conversion, jit: Any) -> None:
    first, second, t = arrays(8, 50)

    def step(carry: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        return carry, conversion.ours(carry, second, at)

    _, results = jit(lambda x, t: jax.lax.scan(step, x, t))(first, t)
    exact = np.stack([by_hand.value(conversion, first, second, at) for at in t])
    assert_rounded_once(results, exact)


@every_conversion
def test_gradients_flow_through_scan_and_cond(conversion: Conversion) -> None:
    first, second, t = arrays(8, 50)

    def rolled(x: jax.Array) -> jax.Array:
        def step(carry: jax.Array, at: jax.Array) -> tuple[jax.Array, None]:
            moved = jax.lax.cond(at > 0.0, conversion.ours, lambda a, b, s: a, carry, second, at)
            return 0.1 * moved, None

        return jax.lax.scan(step, x, t[:3])[0].sum()

    def unrolled(x: jax.Array) -> jax.Array:
        for at in t[:3]:
            x = 0.1 * conversion.ours(x, second, at)
        return x.sum()

    np.testing.assert_allclose(jax.jit(jax.grad(rolled))(first), jax.grad(unrolled)(first), rtol=1e-5)


@every_conversion
def test_remat(conversion: Conversion) -> None:
    values = arrays(8, 50)

    def loss(*x: jax.Array) -> jax.Array:
        return jnp.sin(conversion.ours(*x)).sum()

    plain = jax.grad(loss, argnums=(0, 1, 2))(*values)
    again = jax.jit(jax.grad(jax.checkpoint(loss), argnums=(0, 1, 2)))(*values)
    for x, y in zip(plain, again, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6)


@every_conversion
@every_dtype
def test_eval_shape_and_lowering_see_the_result_s_dtype(conversion: Conversion, dtype: Any) -> None:
    values = arrays(8, 50, dtype=dtype)
    described = jax.eval_shape(conversion.ours, *values)
    assert (described.shape, described.dtype) == ((8, 50), dtype)
    abstract = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in values]
    lowered = jax.jit(conversion.ours).lower(*abstract).out_info
    assert (lowered.shape, lowered.dtype) == ((8, 50), dtype)


@every_conversion
def test_exports_and_takes_any_batch(conversion: Conversion) -> None:
    (batch,) = jax.export.symbolic_shape("batch")
    described = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((batch, 50), (batch, 50), (batch,))]
    exported = jax.export.export(jax.jit(conversion.ours))(*described)
    for size in (3, 8):
        values = arrays(size, 50)
        assert_rounded_once(exported.call(*values), by_hand.value(conversion, *values))


@every_conversion
def test_a_donated_buffer_is_reused(conversion: Conversion) -> None:
    values = arrays(8, 50)
    exact = by_hand.value(conversion, *values)
    donated = values[conversion.like]
    result = jax.jit(conversion.ours, donate_argnums=conversion.like)(*values)
    assert_rounded_once(result, exact)
    assert donated.is_deleted()


@every_conversion
def test_an_eager_call_keeps_its_arguments(conversion: Conversion) -> None:
    values = arrays(8, 50)
    before = [np.asarray(x).copy() for x in values]
    conversion.ours(*values)
    for x, copy in zip(values, before, strict=True):
        np.testing.assert_array_equal(x, copy)


def test_arrays_captured_by_a_trace_are_constants_of_it() -> None:
    first, second, t = arrays(8, 50)
    result = jax.jit(lambda x: rf.add_noise(x, second, t))(first)
    assert_rounded_once(result, by_hand.value(CONVERSIONS["add_noise"], first, second, t))


def test_coefficients_and_expand_like_transform() -> None:
    t, x = jnp.array([0.25, 0.5]), jnp.zeros((3, 2, 4))

    def spread(t: jax.Array) -> jax.Array:
        return rf.expand_like(2 * rf.rf_alpha(t) + 5 * rf.rf_sigma(t), x, axes=(1,))

    np.testing.assert_allclose(jax.jit(spread)(t), np.array([2.75, 3.5])[None, :, None])
    np.testing.assert_allclose(jax.grad(lambda t: spread(t).sum())(t), [3.0, 3.0])


@pytest.mark.parametrize("law", ["uniform", "logitnormal", "lognormal", "shifted"])
def test_the_quantile_differentiates_to_one_over_the_density(law: str) -> None:
    cfg = rf.SampleTimestepConfig(law)
    u = np.array([0.25, 0.5, 0.875])
    slope = jax.jit(jax.grad(lambda u: rf.timestep_quantile(u, cfg).sum()))(jnp.asarray(u, jnp.float32))
    step = 1e-6
    exact = (rf.timestep_quantile(u + step, cfg) - rf.timestep_quantile(u - step, cfg)) / (2 * step)
    np.testing.assert_allclose(slope, exact, rtol=1e-5)


@pytest.mark.parametrize(
    "formula", ["add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow"]
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_a_gradient_keeps_inputs_at_their_own_dtype_and_nothing_else(formula: str, dtype: Any) -> None:
    first, second = (jax.random.normal(jax.random.key(seed), (4, 300), dtype) for seed in (0, 1))
    t = jnp.linspace(0.1, 0.9, 4)
    _, pullback = jax.vjp(getattr(rf, formula), first, second, t)
    kept = [leaf for leaf in jax.tree.leaves(pullback) if getattr(leaf, "size", 0) > t.size]
    assert 1 <= len(kept) <= 2
    assert {leaf.dtype for leaf in kept} == {first.dtype}


LINEAR = {  # how XLA lays out 1 / t is float64's last bit: where it shows, the three that divide are not linear to JAX
    (name, dtype, time): name in ("add_noise", "pred_x0_from_flow") or (dtype != "float64" and time == "array")
    for name in CONVERSIONS
    for dtype in ("float32", "bfloat16", "float64")
    for time in ("array", "float")
}


@pytest.mark.parametrize(("name", "dtype", "time"), [case for case, linear in LINEAR.items() if linear], ids=str)
@pytest.mark.parametrize("place", [0, 1])
def test_formulas_are_linear_to_jax_in_each_array(name: str, dtype: str, time: str, place: int) -> None:
    conversion = CONVERSIONS[name]
    first, second, t = arrays(4, 6, dtype=jnp.dtype(dtype))
    t = t if time == "array" else SOME_T
    zeros = first - first

    def linear(x: jax.Array) -> Any:
        return conversion.ours(*((x, zeros) if place == 0 else (zeros, x)), t)

    (transposed,) = jax.linear_transpose(linear, first)(second)
    assert_rounded_once(transposed, by_hand.wide(second, 2) * by_hand.slopes(conversion, first, second, t)[place])


@pytest.mark.parametrize("solve", [jax.scipy.sparse.linalg.gmres, jax.scipy.sparse.linalg.bicgstab])
@every_conversion
def test_iterative_solvers_invert_a_formula(conversion: Conversion, solve: Any) -> None:
    first, second, t = arrays(4, 6)
    zeros = jnp.zeros_like(first)
    wanted = by_hand.wide(second, 2) / by_hand.slopes(conversion, first, second, t)[0]
    solution, _ = solve(lambda x: conversion.ours(x, zeros, t), second, tol=1e-7)
    np.testing.assert_allclose(solution, wanted, rtol=1e-4, atol=1e-5)


SHAPE = (16, 4096)
STEPS = {
    **{name: conversion.ours for name, conversion in CONVERSIONS.items()},
    "x0-v": lambda x, y, t: rf.convert_prediction(x, y, t, source="x0", target="v"),
    "ode_step": lambda x, y, t: rf.ode_step(x, y, t, t * t),
    "ode_step to a float": lambda x, y, t: rf.ode_step(x, y, t, 0.1),
}


def weighted_sum(first: jax.Array, second: jax.Array, t: jax.Array, weight: jax.Array) -> Any:
    """Return the least that a gradient in t takes: one product for each element in float64, and their sum."""
    with jax.enable_x64(True):
        wide = [x.astype(jnp.float64) for x in (first, second, weight)]
        return (((wide[0] - wide[1]) * t.astype(jnp.float64)[:, None]) * wide[2]).sum(1).astype(t.dtype)


@pytest.mark.parametrize("name", STEPS)
@every_dtype
def test_the_gradient_of_t_moves_no_more_than_a_sum_over_its_arrays(name: str, dtype: Any) -> None:
    """Three arrays' worth of bytes where XLA fuses the product into the sum; JAX 0.8 and 0.9 write it once first."""
    first, second, t = arrays(*SHAPE, dtype=dtype)

    def pull(first: jax.Array, second: jax.Array, t: jax.Array, weight: jax.Array) -> Any:
        return jax.vjp(lambda t: STEPS[name](first, second, t), t)[1](weight)

    ours, least = (jax.jit(f).lower(first, second, t, first).compile() for f in (pull, weighted_sum))
    bytes_moved, least_bytes = (program.cost_analysis()["bytes accessed"] for program in (ours, least))
    assert bytes_moved < 1.05 * least_bytes
    temporary, least_temporary = (program.memory_analysis().temp_size_in_bytes for program in (ours, least))
    assert temporary < least_temporary + first.nbytes / 10
    if tuple(map(int, jax.__version__.split(".")[:2])) >= (0, 10):
        assert bytes_moved < 3.2 * first.nbytes
        assert temporary < first.nbytes / 10


@pytest.mark.parametrize("name", STEPS)
def test_a_call_takes_no_more_operations_than_its_formula_and_its_casts(name: str) -> None:
    first, second, t = arrays(*SHAPE)
    compiled = jax.jit(STEPS[name]).lower(first, second, t).compile()
    assert compiled.cost_analysis()["flops"] <= 7.1 * first.size  # a select for each element would be three more


def test_a_step_s_gradient_keeps_its_times_at_their_own_dtype() -> None:
    first, second, _ = arrays(4, 6, dtype=jnp.bfloat16)
    t = jnp.full((4, 6), 0.5, jnp.float32)
    _, pullback = jax.vjp(rf.ode_step, first, second, t, 0.5 * t)
    assert not any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(pullback))


@pytest.mark.parametrize("t_next_shape", [(4,), (4, 6)])
def test_a_step_to_its_own_time_from_a_float_is_exact_in_float64(t_next_shape: tuple[int, ...]) -> None:
    first, second, _ = arrays(4, 6, dtype=jnp.float64)
    for t in (k / 64 for k in range(1, 64)):
        t_next = jnp.full(t_next_shape, t, jnp.float32)
        np.testing.assert_array_equal(rf.ode_step(first, second, t, t_next), second)

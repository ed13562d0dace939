"""JAX, the inputs: NumPy's arrays beside JAX's, and Python floats and NumPy's float64 that a transformation traces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases.by_hand import CONVERSIONS, every_conversion

RNG = np.random.default_rng(0)
X, E = RNG.standard_normal((2, 4, 6))
T = RNG.uniform(0.2, 0.8, 4)
BETA = rf.SampleTimestepConfig("beta")


def on_jax(*arrays):
    return [jnp.asarray(array, jnp.float32) for array in arrays]


# NumPy's arrays beside JAX's


@every_conversion
@pytest.mark.parametrize("theirs", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_numpy_arrays_beside_jax_s_are_what_jax_makes_of_them(conversion, theirs, jit):
    wanted = conversion.ours(*on_jax(X, E, T))
    ours = [array for place, array in enumerate(on_jax(X, E, T)) if place not in theirs]

    def call(*ours):
        left = list(ours)
        return conversion.ours(*(array if place in theirs else left.pop(0) for place, array in enumerate((X, E, T))))

    got = (jax.jit(call) if jit else call)(*ours)
    assert isinstance(got, jax.Array)
    assert got.dtype == jnp.float32  # that of the converted array: NumPy's float64 is float32 to JAX
    np.testing.assert_array_equal(got, wanted)


def test_numpy_arrays_keep_the_dtypes_that_jax_has():
    x, e = on_jax(X, E)
    assert rf.add_noise(X.astype(np.float16), e, 0.5).dtype == jnp.float16
    assert rf.add_noise(x.astype(jnp.bfloat16), E, 0.5).dtype == jnp.bfloat16


def test_with_x64_on_numpy_s_float64_stays_float64():
    with jax.enable_x64(True):
        assert rf.add_noise(X, jnp.asarray(E), T).dtype == jnp.float64


def test_both_times_of_a_step_and_predictions_may_be_numpy_s():
    x, e, t = on_jax(X, E, T)
    wanted = rf.ode_step(x, e, t, t * t)
    t_next = np.asarray(t * t)
    for times in ((T, t * t), (t, t_next), (T, t_next)):
        np.testing.assert_array_equal(rf.ode_step(x, e, *times), wanted)
    same = rf.convert_prediction(X, e, t, source="v", target="v")
    assert isinstance(same, jax.Array)
    np.testing.assert_array_equal(same, x)


def test_expand_like_makes_jax_s_of_numpy_s():
    (t,) = on_jax(T)
    for expanded in (rf.expand_like(T, jnp.zeros((4, 6))), rf.expand_like(t, np.zeros((4, 6)))):
        assert isinstance(expanded, jax.Array)
        np.testing.assert_array_equal(expanded, t[:, None])


@every_conversion
def test_numpy_s_integers_and_masks_are_refused_beside_jax_s_too(conversion):
    x, e, t = on_jax(X, E, T)
    with pytest.raises(TypeError, match="divide integer timesteps"):
        conversion.ours(x, e, np.arange(4))
    with pytest.raises(TypeError):
        conversion.ours(x, np.ma.masked_array(E, E > 0), t)


# What a transformation traces

TIMED = {
    **{name: conversion.ours for name, conversion in CONVERSIONS.items()},
    "convert_prediction": lambda x, e, t: rf.convert_prediction(x, e, t, source="v", target="score"),
    "ode_step": lambda x, e, t: rf.ode_step(x, e, t, 0.1),
    "ode_step to": lambda x, e, t: rf.ode_step(x, e, 0.9, t),
    "rf_alpha": lambda x, e, t: rf.rf_alpha(t),
    "shift_timesteps": lambda x, e, t: rf.shift_timesteps(t, 3.0),
    "timestep_quantile": lambda x, e, t: rf.timestep_quantile(t, BETA),
    "timestep_density": lambda x, e, t: rf.timestep_density(t, BETA),
}
every_timed = pytest.mark.parametrize("name", TIMED)
jit_or_not = pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])
NUMBERS = {
    "floats": (0.4, 1.0),
    "numpy": (np.float64(0.4), np.float64(1.0)),
    "tangent": (jnp.float32(0.4), 1.0),
    "primal": (0.4, jnp.float32(1.0)),
    "arrays": (T, np.ones(4)),
}


@every_timed
@pytest.mark.parametrize("kind", NUMBERS)
@jit_or_not
def test_jvp_takes_python_s_and_numpy_s_numbers_as_jax_does(name, kind, jit):
    """MeanFlow's ``jvp(u, (z, r, t), (v, 0.0, 1.0))``."""
    x, e = on_jax(X, E)
    primal, tangent = NUMBERS[kind]
    value, slope = jit(lambda: jax.jvp(lambda t: TIMED[name](x, e, t), (primal,), (tangent,)))()
    assert value.dtype == slope.dtype == jnp.float32
    on_host = np.broadcast_to(np.float64(np.float32(primal)), 4)
    at, step = (np.asarray(on_host), 1e-6) if kind == "arrays" else (on_host[:1].reshape(()), 1e-6)
    above, middle, below = (np.asarray(TIMED[name](np.float64(x), np.float64(e), at + d)) for d in (step, 0.0, -step))
    np.testing.assert_allclose(value, middle, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-5, atol=1e-5)


@every_timed
@jit_or_not
def test_every_derivative_in_a_float_t_is_that_in_a_float32(name, jit):
    x, e = on_jax(X, E)

    def at(t):
        return TIMED[name](x, e, t)

    def derivatives(t):
        total = jax.grad(lambda t: at(t).sum())(t)
        return jax.jacfwd(at)(t), jax.linearize(at, t)[1](jnp.ones_like(t)), total

    for got, wanted in zip(jit(lambda: derivatives(0.4))(), derivatives(jnp.float32(0.4)), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@every_conversion
@jit_or_not
def test_jvp_along_numpy_s_float64_arrays_with_a_float_t(conversion, jit):
    x, e = on_jax(X, E)
    got = jit(lambda: jax.jvp(lambda x, e: conversion.ours(x, e, 0.3), (X, E), (E, X)))()
    wanted = jax.jvp(lambda x, e: conversion.ours(x, e, 0.3), (x, e), (e, x))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=3e-7)


@every_timed
def test_vmap_over_numpy_s_float64(name):
    x, e = on_jax(X, E)
    got = jax.vmap(lambda t: TIMED[name](x, e, t))(T)
    np.testing.assert_allclose(got, jax.vmap(lambda t: TIMED[name](x, e, t))(jnp.asarray(T)), rtol=1e-6)


@every_timed
def test_derivatives_of_third_order_in_a_float_t_are_float64_s(name):
    """JAX applies its own rules outside the float64 scope, where some of their constants would be float32."""
    x, e = on_jax(X, E)

    def twice(t):
        return jax.grad(jax.grad(lambda t: TIMED[name](x, e, t).sum()))(t)

    third = jax.jit(jax.grad(twice))(0.4)
    step = 1e-3
    difference = (float(twice(0.4 + step)) - float(twice(0.4 - step))) / (2 * step)
    assert third == pytest.approx(difference, rel=2e-3, abs=2e-2)


def test_a_key_is_no_array_of_numbers():
    with pytest.raises(TypeError, match="x0 must be a real floating array, got dtype key<fry>"):
        rf.add_noise(jax.random.key(0), jax.random.key(1), 0.5)

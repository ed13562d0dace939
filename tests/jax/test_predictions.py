"""convert_prediction, ode_step, shifts, quantiles, densities and stratified draws under jit, grad, vmap and scan."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases.names import PAIRS

every_pair = pytest.mark.parametrize(("source", "target"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.standard_normal((4, 6)), jnp.float32) for _ in range(2))
T = jnp.asarray(RNG.uniform(0.2, 0.8, 4), jnp.float32)
MODE = rf.SampleTimestepConfig("mode", truncate=True)

PLAIN = {  # which the table of capabilities takes through jit, grad, vmap and jvp
    "convert_prediction": lambda a, b, t: rf.convert_prediction(a, b, t, source="v", target="flow"),
    "ode_step": lambda a, b, t: rf.ode_step(a, b, t, t * t),
    "flow_step": lambda a, b, t: rf.flow_step(a, b, t, t * t),
    "convert_state": lambda a, b, t: rf.convert_state(a, t, source="ve", target="vp"),
    "convert_time": lambda a, b, t: rf.convert_time(t, source="alpha_bar", target="sigma"),
    "shift_timesteps": lambda a, b, t: rf.shift_timesteps(t, 3.0),
}
SPECIAL = {
    "an unused input": lambda a, b, t: rf.convert_prediction(a, b, t, source="eps", target="score"),
    "ode_step to a float": lambda a, b, t: rf.ode_step(a, b, t, 0.1),
    "ode_step from a float": lambda a, b, t: rf.ode_step(a, b, 0.9, t),
    "flow_step to a float": lambda a, b, t: rf.flow_step(a, b, t, 0.1),
    "flow_step from a float": lambda a, b, t: rf.flow_step(a, b, 0.9, t),
    "convert_time by functions": lambda a, b, t: rf.convert_time(t, source="angle", target="log_snr"),
    "timestep_quantile": lambda a, b, t: rf.timestep_quantile(t, MODE),
}
CALLS = PLAIN | SPECIAL
every_call = pytest.mark.parametrize("call", SPECIAL.values(), ids=list(SPECIAL))


def slopes(function, *inputs, step=1e-4):
    """Derivative along random directions by central differences, in NumPy float64 on the library's NumPy path."""
    host = [np.asarray(x, np.float64) for x in inputs]
    directions = [np.random.default_rng(i).standard_normal(x.shape) for i, x in enumerate(host)]
    above, below = (
        np.asarray(function(*(x + sign * step * d for x, d in zip(host, directions, strict=True)))) for sign in (1, -1)
    )
    return directions, (above - below) / (2 * step)


@every_call
def test_jit_gives_the_eager_numbers_without_the_x64_flag(call):
    eager, jitted = call(A, B, T), jax.jit(call)(A, B, T)
    assert eager.dtype == jitted.dtype == jnp.float32
    np.testing.assert_array_equal(eager, jitted)
    np.testing.assert_allclose(eager, call(*(np.asarray(x) for x in (A, B, T))), rtol=2e-7, atol=1e-7)
    assert not jax.config.jax_enable_x64


@every_call
def test_derivatives_are_those_of_differences(call):
    directions, slope = slopes(call, A, B, T)
    tangents = tuple(jnp.asarray(d, jnp.float32) for d in directions)
    _, forward = jax.jvp(call, (A, B, T), tangents)
    np.testing.assert_allclose(forward, slope, rtol=1e-4, atol=1e-4)
    result, pullback = jax.vjp(call, A, B, T)
    cotangent = jnp.asarray(np.random.default_rng(9).standard_normal(result.shape), jnp.float32)
    along = sum(float(jnp.vdot(x, y)) for x, y in zip(pullback(cotangent), tangents, strict=True))
    assert along == pytest.approx(float(np.vdot(slope, cotangent)), rel=1e-3, abs=1e-3)


@every_pair
def test_every_pair_has_the_gradients_of_differences(source, target):
    call = partial(rf.convert_prediction, source=source, target=target)
    directions, slope = slopes(call, A, B, T)
    _, forward = jax.jit(partial(jax.jvp, call))((A, B, T), tuple(jnp.asarray(d, jnp.float32) for d in directions))
    np.testing.assert_allclose(forward, slope, rtol=1e-4, atol=1e-4 * np.abs(slope).max())


@every_call
def test_vmap_gives_each_element_its_own(call):
    batch = [jnp.stack([x, 0.9 * x, 0.7 * x]) for x in (A, B, T)]
    got = jax.vmap(call)(*batch)
    wanted = jnp.stack([call(*each) for each in zip(*batch, strict=True)])
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_a_rollout_scans():
    rungs = jnp.asarray(rf.make_t_list(6, shift=3.0), jnp.float32)

    @jax.jit
    def roll(x):
        def step(x, times):
            return rf.ode_step(A, x, *times), None

        return jax.lax.scan(step, x, (rungs[:-1], rungs[1:]))[0]

    x = rf.add_noise(A, B, rungs[0])
    np.testing.assert_array_equal(roll(x), A)
    for t, t_next in pairwise(rungs):
        x = rf.ode_step(A, x, t, t_next)
    np.testing.assert_array_equal(x, A)


@pytest.mark.parametrize("law", ["shifted", "lognormal", "mode", "beta"])
def test_stratified_draws_trace_under_jit_and_vmap(law):
    cfg = rf.SampleTimestepConfig(law)
    keys = jax.random.split(jax.random.key(0), 3)
    draw = jax.jit(lambda key: rf.sample_timesteps(32, cfg, rng=key, stratified=True))
    np.testing.assert_array_equal(jax.vmap(draw)(keys), jnp.stack([draw(key) for key in keys]))
    eager = rf.sample_timesteps(32, cfg, rng=keys[0], stratified=True)
    np.testing.assert_array_equal(eager, draw(keys[0]))


@pytest.mark.parametrize("law", ["uniform", "logitnormal", "lognormal", "mode", "cosmap", "beta", "loguniform"])
def test_the_slope_of_the_quantile_is_one_over_the_density(law):
    cfg = rf.SampleTimestepConfig(law)
    u = jnp.linspace(0.05, 0.95, 13, dtype=jnp.float32)
    slope = jax.jit(jax.grad(lambda u: rf.timestep_quantile(u, cfg).sum()))(u)
    np.testing.assert_allclose(slope * rf.timestep_density(rf.timestep_quantile(u, cfg), cfg), 1.0, rtol=1e-5)


SAVED = {  # arrays of the data's size that a gradient for (first, second, t) needs
    "add_noise": (0, 0, 2),
    "pred_noise_to_pred_x0": (0, 0, 2),
    "pred_x0_from_flow": (0, 0, 1),
    "x0_to_eps": (0, 0, 2),
    "x0_to_flow": (0, 0, 2),
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("function", list(SAVED))
def test_a_gradient_keeps_the_inputs_that_it_needs_and_no_others(function, place):
    inputs = [A.astype(jnp.bfloat16), B.astype(jnp.bfloat16), T]

    def call(x):
        return getattr(rf, function)(*(x if i == place else other for i, other in enumerate(inputs)))

    kept = jax.tree_util.tree_leaves(jax.vjp(call, inputs[place])[1])
    large = [array for array in kept if array.size == A.size]
    assert len(large) <= SAVED[function][place]
    assert {array.dtype for array in large} <= {jnp.dtype(jnp.bfloat16)}
    assert all(array.size <= T.size for array in kept if array.size != A.size)
    assert not any(array.dtype == np.float64 for array in kept)


SILENT = [CALLS[name] for name in ("convert_prediction", "ode_step", "shift_timesteps", "timestep_quantile")]


def test_nothing_moves_between_host_and_device_without_being_asked_to():
    calls = [lambda: rf.add_noise(A, B, T), lambda: rf.rf_alpha(T), *(partial(call, A, B, T) for call in SILENT)]
    for call in calls:
        call()  # compiled
    with jax.transfer_guard("disallow"):
        for call in calls:
            call()


class TestWithoutFloat64:
    """A platform without float64, Metal say: pairs of float32, traced or not."""

    @pytest.fixture(autouse=True)
    def no_float64(self, monkeypatch):
        from fastgen_rf.backends import _jax

        monkeypatch.setattr(_jax.JaxBackend, "has_float64", lambda self, device: False)

    @pytest.mark.parametrize("name", ["convert_prediction", "convert_time", "shift_timesteps", "an unused input"])
    def test_calls_are_rounded_once_and_trace(self, name):
        call = CALLS[name]
        wanted = call(*(np.asarray(x) for x in (A, B, T)))
        np.testing.assert_array_equal(call(A, B, T), wanted)
        np.testing.assert_allclose(jax.jit(call)(A, B, T), wanted, rtol=1e-6, atol=1e-7)
        assert all(np.isfinite(x).all() for x in jax.grad(lambda *a: call(*a).sum(), (0, 1, 2))(A, B, T))

    def test_quantiles_and_densities_say_where_to_go(self):
        for call in (lambda: rf.timestep_quantile(T, MODE), lambda: rf.timestep_density(T, MODE)):
            with pytest.raises(TypeError, match=r"lacks float64: pass a NumPy array"):
                call()

"""JAX made to do without float64: triple-float32 arithmetic under jit, where XLA for CPUs fuses products and sums."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

import fastgen_rf as rf
from fastgen_rf.backends import _jax
from tests import exact
from tests.backends.jax.helpers import FOUR, TWO, arrays
from tests.bits import assert_same_bits
from tests.catalogue import CONFIGS, HARD_TIMES, ROWS, inputs

CALLS = [*FOUR, ROWS["ode_step"], ROWS["convert_prediction (v, score)"], ROWS["convert_state (rf, vp)"]]
pytestmark = pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered:RuntimeWarning")


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jax.JaxBackend, "has_float64", lambda self, device: False)


without_float64 = pytest.mark.usefixtures("simulated")


def optimized(call: Any, *arguments: Any) -> Any:
    """The call's results, compiled with all of LLVM's optimizations whatever XLA_FLAGS says."""
    compiled = jax.jit(call).lower(*arguments).compile(compiler_options={"xla_backend_optimization_level": 3})
    return compiled(*arguments)


def given(row: Any) -> list[Any]:
    return [x.astype(np.float32) for x in inputs(row, 256)]


@without_float64
@pytest.mark.slow
def test_an_optimizing_compiler_leaves_numpys_bits() -> None:
    found = optimized(lambda *each: [row(*x) for row, x in zip(CALLS, each, strict=True)], *map(given, CALLS))
    for row, got in zip(CALLS, found, strict=True):
        assert_same_bits(np.asarray(got), row(*given(row)))
    x, y, _ = given(TWO[0])
    fused = optimized(lambda x, y: x * y + x, x, y)
    assert np.count_nonzero(np.asarray(fused) != x * y + x) > 0.1 * x.size  # the same compiler fuses this

    def calls_at_floats(x: Any, y: Any) -> list[Any]:
        times = (*HARD_TIMES[::3].tolist(), 0.7)
        return [call(x, y, t) for t in times for call in (*TWO, lambda x, y, t: rf.ode_step(x, y, t, 0.1))]

    for got, wanted in zip(optimized(calls_at_floats, x, y), calls_at_floats(x, y), strict=True):
        assert_same_bits(np.asarray(got), wanted)


@without_float64
def test_nothing_is_compiled_anew_for_another_float() -> None:
    x, y, _ = arrays(4, 6)
    rf.add_noise(x, y, 0.1)
    before = _jax._evaluate_without_float64._cache_size()
    rf.add_noise(x, y, 0.7)
    assert _jax._evaluate_without_float64._cache_size() == before > 0


@without_float64
def test_calls_trace_and_are_differentiable() -> None:
    x, y, t = arrays(4, 5)
    gradients = jax.jit(lambda *x: [jax.grad(lambda *x, r=row: r(*x).sum(), (0, 1, 2))(*x) for row in TWO])(x, y, t)
    host = [np.asarray(a, np.float64) for a in (x, y, t)]
    for row, found in zip(TWO, gradients, strict=True):
        for at, got in enumerate(found):
            wanted = exact.elementwise(exact.partial(row.exact, at), host).astype(np.float64)
            np.testing.assert_allclose(got, wanted.sum(1) if at == 2 else wanted, rtol=1e-5, atol=1e-5)


# Platforms without float64


def test_samples_without_float64_are_those_with_it_and_no_program_has_any(monkeypatch: pytest.MonkeyPatch) -> None:
    def samples(key: jax.Array) -> list[jax.Array]:
        return [
            *(rf.sample_timesteps((5, 2), config, rng=key) for config in CONFIGS[::3]),
            *rf.sample_timestep_pairs(10, CONFIGS[6], rng=key, dtype=jnp.bfloat16, stratified=True),
        ]

    def formulas(x: Any, y: Any, t: Any) -> list[Any]:
        return [rf.x0_to_eps(x, y, t), rf.ode_step(x, y, t, 0.1), rf.shift_timesteps(t, 3.0)]

    key = jax.random.key(0)
    wanted = samples(key)
    monkeypatch.setattr(_jax, "_computes_float64", lambda platform: False)
    jax.clear_caches()
    for got in (samples(key), [t[0] for t in jax.vmap(samples)(key[None])]):
        for ours, theirs in zip(got, wanted, strict=True):
            assert isinstance(ours, jax.Array)
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours.astype(jnp.float32), theirs.astype(jnp.float32), rtol=2e-7)
    for program in (jax.jit(samples).lower(key), jax.jit(formulas).lower(*arrays(4, 3))):
        assert "f64" not in program.as_text()


def test_an_unknown_platform_has_float64_if_it_compiles_a_program_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = SingleDeviceSharding(jax.devices()[0])
    with monkeypatch.context() as patched:
        patched.setattr(jax, "devices", lambda platform: [next(iter(here.device_set))])
        assert _jax._computes_float64("tpu")
        patched.setattr(jax, "jit", lambda *_, **__: 1 / 0)  # each platform raises an error of its own
        assert not _jax._computes_float64("metal")
    _jax._computes_float64.cache_clear()

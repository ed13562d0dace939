"""JAX made to do without float64: triple-float32 arithmetic under jit, where XLA for CPUs fuses products and sums."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf.backends import _jax
from tests import exact
from tests.backends.jax.helpers import FOUR, TWO, arrays
from tests.bits import assert_same_bits
from tests.catalogue import HARD_TIMES, ROWS, inputs

CALLS = [*FOUR, ROWS["ode_step"], ROWS["convert_prediction (v, score)"], ROWS["convert_state (rf, vp)"]]
pytestmark = pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered:RuntimeWarning")


@pytest.fixture(autouse=True)
def _without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jax.JaxBackend, "has_float64", lambda self, device: False)


def optimized(call: Any, *arguments: Any) -> Any:
    """The call's results, compiled with all of LLVM's optimizations whatever XLA_FLAGS says."""
    compiled = jax.jit(call).lower(*arguments).compile(compiler_options={"xla_backend_optimization_level": 3})
    return compiled(*arguments)


def given(row: Any) -> list[Any]:
    return [x.astype(np.float32) for x in inputs(row, 256)]


@pytest.mark.slow
def test_an_optimizing_compiler_leaves_numpys_bits() -> None:
    found = optimized(lambda *each: [row(*x) for row, x in zip(CALLS, each, strict=True)], *map(given, CALLS))
    for row, got in zip(CALLS, found, strict=True):
        assert_same_bits(np.asarray(got), row(*given(row)))
    x, y, _ = given(TWO[0])
    fused = optimized(lambda x, y: x * y + x, x, y)
    assert np.count_nonzero(np.asarray(fused) != x * y + x) > 0.1 * x.size  # the same compiler fuses this


@pytest.mark.slow
def test_an_optimizing_compiler_leaves_numpys_bits_if_the_time_is_a_float() -> None:
    x, y, _ = given(TWO[0])
    times = (*HARD_TIMES[::3].tolist(), 0.7)
    calls = [*TWO, lambda x, y, t: rf.ode_step(x, y, t, 0.1)]
    found = optimized(lambda x, y: [call(x, y, t) for t in times for call in calls], x, y)
    for got, wanted in zip(found, [call(x, y, t) for t in times for call in calls], strict=True):
        assert_same_bits(np.asarray(got), wanted)


def test_16_bit_results_are_float64_rounded_through_float32() -> None:
    for dtype in (jnp.bfloat16, jnp.float16):
        x, y, _ = arrays(16, 50, dtype=dtype)
        wide = [np.asarray(a).astype(np.float32) for a in (x, y)]
        found = jax.jit(lambda x, y: [row(x, y, 0.7) for row in TWO])(x, y)
        for row, got in zip(TWO, found, strict=True):
            np.testing.assert_array_equal(got, row(*wide, 0.7).astype(dtype))


def test_nothing_is_compiled_anew_for_another_float() -> None:
    x, y, _ = arrays(4, 6)
    rf.add_noise(x, y, 0.1)
    before = _jax._evaluate_on_words._cache_size()
    rf.add_noise(x, y, 0.7)
    assert _jax._evaluate_on_words._cache_size() == before > 0


def test_leading_halves_have_12_bits() -> None:
    rng = np.random.default_rng(8)
    whole = np.concatenate([rng.standard_normal(10**5), 2 - rng.uniform(0, 2.0**-10, 10**5)]).astype(np.float32)
    high = np.asarray(_jax.BACKEND.float32.leading(jnp.asarray(whole)))
    unit = np.spacing(np.abs(whole)) * np.float32(2**12)
    assert np.array_equal(np.round(high / unit) * unit, high)
    assert np.all(np.abs(whole - high) <= unit / 2)


def test_calls_trace_and_are_differentiable() -> None:
    x, y, t = arrays(4, 5)
    gradients = jax.jit(lambda *x: [jax.grad(lambda *x, r=row: r(*x).sum(), (0, 1, 2))(*x) for row in TWO])(x, y, t)
    host = [np.asarray(a, np.float64) for a in (x, y, t)]
    for row, found in zip(TWO, gradients, strict=True):
        for at, got in enumerate(found):
            wanted = exact.elementwise(exact.partial(row.exact, at), host).astype(np.float64)
            np.testing.assert_allclose(got, wanted.sum(1) if at == 2 else wanted, rtol=1e-5, atol=1e-5)
    mapped = jax.vmap(TWO[1])(x, y, t)
    np.testing.assert_array_equal(mapped, TWO[1](*map(np.asarray, (x, y, t))))

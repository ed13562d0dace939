"""JAX made to go without float64: called eagerly, and under ``jax.jit``, which contracts ``a b + c`` on the CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf.backends import _jax
from fastgen_rf.backends._jax import BACKEND, JaxBackend
from tests.cases.without_float64 import (
    ARRAY_TIMES,
    CALLS,
    FLOAT_TIMES,
    HALVED,
    SCALES,
    arrays,
    check_halves,
    off,
    wanted,
)


@pytest.fixture(autouse=True)
def _without_float64(monkeypatch):
    monkeypatch.setattr(JaxBackend, "has_float64", lambda self, device: False)


def contracting(function, *arguments):
    """``function`` compiled for such arguments with all of LLVM's optimisations, whatever XLA's flags say."""
    lowered = jax.jit(function).lower(*arguments)
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 3})


@pytest.mark.parametrize("call", CALLS)
def test_jit_gives_float64s_numbers(call):
    first, second = arrays(*SCALES)
    compiled = contracting(CALLS[call], first, second, ARRAY_TIMES["ordinary"])
    for t in ARRAY_TIMES.values():
        assert off(np.asarray(compiled(first, second, t)), wanted(call, first, second, t)) == 0


@pytest.mark.parametrize("t", FLOAT_TIMES)
@pytest.mark.parametrize("call", ["add_noise", "x0_to_eps", "v to score", "score to v", "ode_step to 0.1"])
def test_jit_with_a_python_float_t_gives_float64s_numbers(call, t):
    first, second = arrays((1.0, 1.0))
    got = contracting(lambda first, second: CALLS[call](first, second, t), first, second)(first, second)
    assert off(np.asarray(got), wanted(call, first, second, t)) == 0


def test_the_compiler_does_contract():
    """The twin of the tests above: the same compiler rounds ``a b + a`` once."""
    a, b = arrays((1.0, 1.0))
    assert off(np.asarray(contracting(lambda a, b: a * b + a, a, b)(a, b)), a * b + a) > 0.1 * a.size


@pytest.mark.parametrize("call", CALLS)
def test_an_eager_call_gives_float64s_numbers(call):
    first, second = arrays((1.0, 1.0))
    for t in (1 / 3, 0.3):
        got = CALLS[call](jnp.asarray(first), jnp.asarray(second), t)
        assert off(np.asarray(got), wanted(call, first, second, t)) == 0


def test_a_python_float_is_not_compiled_for():
    first, second = arrays((1.0, 1.0))
    rf.add_noise(jnp.asarray(first), jnp.asarray(second), 0.1)
    before = _jax._evaluate_on_words._cache_size()
    rf.add_noise(jnp.asarray(first), jnp.asarray(second), 0.7)
    assert _jax._evaluate_on_words._cache_size() == before > 0


def test_halves_have_12_bits():
    check_halves(np.asarray(BACKEND.float32.leading(jnp.asarray(HALVED))))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("t", [0.3, 0.7])
def test_narrow_results_are_float64s_by_way_of_float32(dtype, t):
    first, second = (jnp.asarray(array, dtype) for array in arrays((1.0, 1.0)))
    host = [np.asarray(array).astype(np.float32) for array in (first, second)]
    for call in ("add_noise", "x0_to_eps", "v to score"):
        got = contracting(lambda first, second, call=call: CALLS[call](first, second, t), first, second)(first, second)
        assert off(np.asarray(got), wanted(call, *host, t).astype(got.dtype)) == 0

"""JAX, programs lowered for CUDA and TPU on a machine that has neither: what XLA there would be given to compile."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import fastgen_rf as rf
from tests.backends.jax.helpers import FOUR, arrays
from tests.catalogue import CONFIGS, FORMULAS, FUNCTIONS_OF_TIMES

every_platform = pytest.mark.parametrize("platform", ["cuda", "tpu"])
X, Y, T = arrays(4, 6, dtype=jnp.bfloat16)


def lowered(call: Any, platform: str, *arguments: Any) -> str:
    """The program that the platform would be given, as text; nothing is computed."""
    return jax.jit(call).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def check(program: str) -> None:
    """All arithmetic of floating dtypes is float64, and nothing is called on the host."""
    operations = re.findall(r"stablehlo\.(?:add|subtract|multiply|divide|sqrt)\b[^\n]*tensor<(?:\d+x)*(\w+)>", program)
    assert {dtype for dtype in operations if dtype[0] in "bf"} == {"f64"}
    assert "callback" not in program


@every_platform
def test_all_arithmetic_of_all_functions_and_gradients_is_float64(platform: str) -> None:
    def calls(x: Any, y: Any, t: Any) -> list[Any]:
        given = {"x": x, "y": y}
        rows = [row for row in (*FORMULAS, *FUNCTIONS_OF_TIMES) if row.function not in (rf.rf_alpha, rf.rf_sigma)]
        return [row(*(given.get(kind, t) for kind in row.takes)) for row in rows]

    check(lowered(calls, platform, X, Y, T))
    check(lowered(lambda *x: [jax.vjp(row, *x)[1](x[0]) for row in FOUR], platform, X, Y, T))
    with pytest.raises(AssertionError):  # the check can fail
        check(lowered(lambda x: x * x, platform, X))


@every_platform
def test_samples_are_made_in_float64(platform: str) -> None:
    def samples(key: Any) -> list[Any]:
        each = [rf.sample_timesteps(8, config, rng=key, dtype=jnp.bfloat16) for config in CONFIGS]
        return [*each, *rf.sample_timestep_pairs(8, CONFIGS[0], rng=key, stratified=True)]

    check(lowered(samples, platform, jax.random.key(0)))


@every_platform
def test_a_result_is_cast_once(platform: str) -> None:
    for dtype, name in ((jnp.float32, "f32"), (jnp.bfloat16, "bf16"), (jnp.float16, "f16")):
        x, y, _ = arrays(4, 6, dtype=dtype)
        for call in (rf.x0_to_eps, lambda x, y, t: rf.x0_to_eps(x, y, 0.3)):
            program = lowered(call, platform, x, y, T)
            assert re.findall(r"stablehlo\.convert[^\n]*f64>\) -> tensor<(?:\d+x)*([a-z]\w*)>", program) == [name]

"""JAX, programs lowered for CUDA and TPU, on a machine that has neither: what XLA there would be handed to compile.

What XLA makes of it, on a device, is not known from this.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf._laws import LAWS
from fastgen_rf.backends._jax import BACKEND
from tests.cases.every_formula import FORMULAS, every_formula

every_platform = pytest.mark.parametrize("platform", ["cuda", "tpu"])
SHAPE = (4, 6, 8)


def lowered(function: Any, platform: str, *inputs: Any) -> str:
    """Text of the program that ``platform`` would get; no array of ``inputs`` is computed with."""
    return jax.jit(function).trace(*inputs).lower(lowering_platforms=(platform,)).as_text()


def check(program: str) -> None:
    """Float arithmetic is float64's, and nothing calls back to the host."""
    operations = re.findall(r"stablehlo\.(?:add|subtract|multiply|divide|sqrt)\b[^\n]*tensor<(?:\d+x)*(\w+)>", program)
    assert {kind for kind in operations if kind[0] in "bf"} == {"f64"}
    assert "callback" not in program


def arrays(dtype: Any) -> tuple[Any, Any, Any]:
    return jnp.zeros(SHAPE, dtype), jnp.zeros(SHAPE, dtype), jnp.zeros(SHAPE[:1], jnp.float32)


@every_platform
@every_formula
def test_every_formula_and_its_gradients_lower_to_float64_arithmetic(formula: Any, platform: str) -> None:
    def run(first: Any, second: Any, t: Any) -> Any:
        return BACKEND.evaluate(formula, first, second, t, jnp.dtype(jnp.bfloat16))

    def gradients(first: Any, second: Any, t: Any, cotangent: Any) -> Any:
        return jax.vjp(run, first, second, t)[1](cotangent)

    inputs = arrays(jnp.bfloat16)
    check(lowered(run, platform, *inputs))
    check(lowered(gradients, platform, *inputs, inputs[0]))


@every_platform
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("t", [0.3, None], ids=["float", "array"])
def test_every_dtype_lowers_to_one_cast(dtype: Any, t: float | None, platform: str) -> None:
    first, second, times = arrays(dtype)
    formula = FORMULAS["x0_to_eps"]
    program = lowered(
        lambda x, y, time: BACKEND.evaluate(formula, x, y, time if t is None else t, jnp.dtype(dtype)),
        platform,
        first,
        second,
        times,
    )
    check(program)
    short = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[dtype.__name__]
    assert re.findall(r"stablehlo\.convert[^\n]*f64>\) -> tensor<(?:\d+x)*([a-z]\w*)>", program) == [short]


@every_platform
@pytest.mark.parametrize("law", [*LAWS])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda dtype: dtype.__name__)
def test_every_law_is_drawn_in_float64(law: str, dtype: Any, platform: str) -> None:
    cfg = rf.SampleTimestepConfig(time_dist_type=law)
    key = jax.random.key(0)
    check(lowered(lambda key: rf.sample_timesteps(8, cfg, rng=key, dtype=dtype), platform, key))


@every_platform
@pytest.mark.parametrize("law", [*LAWS])
def test_every_quantile_and_density_lowers(law: str, platform: str) -> None:
    cfg = rf.SampleTimestepConfig(time_dist_type=law, truncate=law.startswith("shifted"))
    u = jnp.asarray(np.linspace(0.1, 0.9, 5, dtype=np.float32))
    check(lowered(lambda u: rf.timestep_quantile(u, cfg), platform, u))
    if law != "polynomial":
        check(lowered(lambda u: rf.timestep_density(u, cfg), platform, u))


@every_platform
def test_the_check_can_fail(platform: str) -> None:
    with pytest.raises(AssertionError):
        check(lowered(lambda x: x * x, platform, arrays(jnp.float32)[0]))

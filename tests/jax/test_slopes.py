"""JAX: slopes of quantiles at the ends of the law, and second derivatives of quantiles and densities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases.slopes import AT, MODE, MODE_SECOND, every_cut, every_function, every_law_s_ends, second_difference


def slopes(cfg: Any, dtype: Any) -> tuple[Any, Any]:
    """Slopes at u = 0 and 1 by reverse mode and by forward mode."""

    def both(at: Any) -> Any:
        value, forward = jax.jvp(lambda x: rf.timestep_quantile(x, cfg), (at,), (jnp.ones_like(at),))
        return value, jax.grad(lambda x: rf.timestep_quantile(x, cfg).sum())(at), forward

    with jax.enable_x64(True):
        value, reverse, forward = map(np.asarray, jax.jit(both)(jnp.asarray([0.0, 1.0, 0.05], dtype)))
    assert not np.isnan(value).any()
    assert reverse[2] > 0 or cfg.time_dist_type == "polynomial"
    return reverse[:2], forward[:2]


@every_law_s_ends
def test_the_slope_at_an_end_that_a_law_reaches(cfg: Any, ends: list[float]) -> None:
    for found in slopes(cfg, np.float64):
        np.testing.assert_allclose(found, ends, rtol=1e-6)


@every_cut
def test_the_slope_at_a_bound_that_cuts_a_law_off_is_0(cfg: Any) -> None:
    for found in slopes(cfg, np.float32):
        assert found.tolist() == [0, 0]


@every_function
def test_second_derivatives_are_those_of_differences(function: Any) -> None:
    with jax.enable_x64(True):
        second = jax.jit(jax.vmap(jax.grad(jax.grad(function))))(jnp.asarray(AT))
    np.testing.assert_allclose(second, second_difference(function, AT), rtol=1e-5, atol=1e-5)


def test_the_second_derivative_of_mode_s_density() -> None:
    with jax.enable_x64(True):
        second = jax.grad(jax.grad(lambda t: rf.timestep_density(t, MODE)))(jnp.float64(0.2))
    assert float(second) == pytest.approx(MODE_SECOND, rel=1e-6)


@pytest.mark.parametrize("law", ["lognormal", "beta"])
def test_a_compiled_quantile_reaches_a_bound_far_in_a_tail(law: str) -> None:
    cfg = rf.SampleTimestepConfig(law, p_mean=-2.0, p_std=0.2, beta_a=1.0, beta_b=12.0, truncate=True)
    with jax.enable_x64(True):
        t = rf.timestep_quantile(jnp.asarray([1.0, 1 - 2.0**-53]), cfg)
    exact = rf.timestep_quantile(np.asarray([1.0, 1 - 2.0**-53]), cfg)
    np.testing.assert_allclose(t, exact, rtol=1e-12)

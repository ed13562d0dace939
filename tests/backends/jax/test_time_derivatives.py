"""JAX: derivatives of ``convert_time`` at the ends of each time, and of the TrigFlow recipe there.

Both modes follow one rule of the library: slopes are taken in reverse mode here, second derivatives forward over it.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf.backends._jax import JaxBackend
from tests.time_derivatives import ENDS, PAIRS, SMOOTH, derivatives, trigflow, trigflow_slope, trigflow_values


def slope(x: Any, source: str, target: str) -> Any:
    return jax.grad(lambda x: rf.convert_time(x, source=source, target=target).sum())(x)


def test_slopes_at_the_ends_are_the_limits() -> None:
    def slopes() -> list[Any]:
        return [slope(jnp.asarray(ENDS[pair[0]], jnp.float32), *pair) for pair in PAIRS]

    for pair, got in zip(PAIRS, jax.jit(slopes)(), strict=True):
        np.testing.assert_allclose(got, derivatives(*pair, 1), 1e-6, 1e-15, err_msg=" to ".join(pair))


def test_second_derivatives_at_the_ends_are_the_limits_where_the_slopes_are_finite() -> None:
    def curvatures() -> list[Any]:
        ends = [jnp.asarray(ENDS[source], jnp.float32) for source, _ in SMOOTH]
        return [
            jax.jvp(lambda x, pair=pair: slope(x, *pair), (x,), (jnp.ones_like(x),))[1]
            for pair, x in zip(SMOOTH, ends, strict=True)
        ]

    for pair, got in zip(SMOOTH, jax.jit(curvatures)(), strict=True):
        finite = np.isfinite(derivatives(*pair, 1))
        wanted = derivatives(*pair, 2)
        np.testing.assert_allclose(got[finite], wanted[finite], 1e-6, 1e-15, err_msg=" to ".join(pair))


def test_an_angle_outside_its_range_has_the_slope_of_the_end_within_rounding_and_0_beyond() -> None:
    near, beyond = [-1e-7, -1e-17, math.pi / 2 + 1e-15, math.pi / 2 + 1e-7], [-0.5, -2e-7, math.pi / 2 + 2e-7, 2.0]
    with jax.enable_x64(True):
        for angles, wanted in ((jnp.asarray(near), 1.0), (jnp.asarray(beyond), 0.0)):
            assert rf.convert_time(angles, source="angle", target="rf").tolist() == [0.0, 0.0, 1.0, 1.0]
            np.testing.assert_allclose(slope(angles, "angle", "rf"), wanted, 1e-6)


def test_the_slope_for_a_python_float_is_right_at_both_ends() -> None:
    assert [float(slope(angle, "angle", "rf")) for angle in ENDS["angle"]] == [1.0, 1.0]


def test_the_trigflow_recipe_is_right_under_jvp_at_both_ends() -> None:
    x, angle, dx, d_angle = map(jnp.asarray, trigflow_values())
    got = jax.jit(lambda: jax.jvp(trigflow(), (x, angle), (dx, d_angle))[1])()
    np.testing.assert_allclose(got, trigflow_slope(), 2e-6, 2e-6)


def test_slopes_at_the_ends_without_float64_are_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JaxBackend, "has_float64", lambda self, device: False)
    for pair in (("alpha_bar", "rf"), ("rf", "sigma")):  # each takes seconds to compile
        got = jax.jit(slope, static_argnums=(1, 2))(jnp.asarray(ENDS[pair[0]], jnp.float32), *pair)
        np.testing.assert_allclose(got, derivatives(*pair, 1), 1e-6, err_msg=" to ".join(pair))

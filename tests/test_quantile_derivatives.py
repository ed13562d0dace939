"""Derivatives of timestep_quantile next to its bounds, and second derivatives of quantiles and densities.

Other first derivatives are in test_features.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests import exact
from tests.exact import DISTRIBUTIONS, mp


def together(xp: Any, function: Any, at: Any) -> list[Any]:
    """The results of a function of ``at`` and of ones; for JAX made by one program."""
    arrays = [xp.array(at, str(at.dtype)), xp.array(np.ones_like(at), str(at.dtype))]
    if xp.name != "jax":
        return function(*arrays)
    with xp.jax.enable_x64(True):
        return xp.jax.jit(function)(*arrays)


CONTINUOUS = [name for name, published in DISTRIBUTIONS.items() if not published.discrete]
AT = np.array([0.2, 0.45, 0.83])


@pytest.mark.backends("torch", "jax")
@pytest.mark.needs("float64")
@pytest.mark.parametrize("truncate", [False, True])
def test_second_derivatives_of_quantiles_and_densities(xp: Any, truncate: bool) -> None:
    rows = [
        (partial(function, cfg=cfg), partial(value, c=cfg))
        for name in CONTINUOUS
        for function, value in ((rf.timestep_quantile, exact.quantile), (rf.timestep_density, exact.density))
        for cfg in [rf.SampleTimestepConfig(name, truncate=truncate)]
        if function is rf.timestep_quantile or truncate or not DISTRIBUTIONS[name].shifts
    ]

    def second(x: Any, one: Any) -> list[Any]:
        return [xp.repeated(function, [x], one, [one])[0] for function, _ in rows]

    for (function, value), got in zip(rows, together(xp, second, AT), strict=True):
        h = mp.mpf(10) ** -8
        wanted = [float((value(at + h) - 2 * value(at) + value(at - h)) / h**2) for at in map(mp.mpf, AT.tolist())]
        np.testing.assert_allclose(xp.numpy(got), wanted, rtol=1e-6, atol=1e-6, err_msg=f"{function}")


@pytest.mark.backends("torch", "jax")
@pytest.mark.needs("float64")
def test_the_derivative_where_t_rounds_to_a_bound_and_where_it_is_clipped(xp: Any) -> None:
    """At u = 1e-18 the uniform t rounds to min_t. The shifted t, 5 u / (1 + 4 u), passes max_t at u = 1 / 6."""
    configs = [rf.SampleTimestepConfig("uniform", 0.25, 0.75), rf.SampleTimestepConfig("shifted", 0.0, 0.5)]

    def derivatives(u: Any, one: Any) -> list[Any]:
        return [xp.reverse(partial(rf.timestep_quantile, cfg=cfg), [u], one)[0] for cfg in configs]

    uniform, shifted = together(xp, derivatives, np.array([1e-18, 1 - 2.0**-53, 0.125, 0.9]))
    assert xp.numpy(uniform).tolist() == [0.5] * 4
    assert xp.numpy(shifted) == pytest.approx([2.5, 0, 2.5 / 1.25**2, 0], rel=1e-12)


@pytest.mark.backends("jax")
def test_a_compiled_quantile_reaches_a_bound_far_in_a_tail(xp: Any) -> None:
    cfg, u = rf.SampleTimestepConfig("lognormal", p_mean=-2.0, p_std=0.2), np.array([1.0, 1 - 2.0**-53])
    got, wanted = rf.timestep_quantile(xp.array(u, "float64"), cfg), rf.timestep_quantile(u, cfg)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)

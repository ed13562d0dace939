"""Derivatives of timestep_quantile at u = 0 and 1, and second derivatives of quantiles and densities.

First derivatives inside (0, 1) are in test_features.py. The slope of a quantile is one over the density; a bound that
cuts the distribution off, or that the dtype rounds inward, leaves a slope of 0.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests import exact
from tests.exact import DISTRIBUTIONS, mp

INF = math.inf
WIDE = {"min_t": 0.0, "max_t": 1.0}  # bounds that every dtype holds
HALF = {"min_t": 0.0, "max_t": 0.5}
UPPER = {"min_t": 0.5, "max_t": 1.0}
PHI = 1 / math.sqrt(2 * math.pi)  # the normal density at 0
LOG_HALF = math.log(0.5)
SHARE = math.erf(-LOG_HALF / math.sqrt(2)) / 2  # of the normal distribution between 0 and -LOG_HALF
ENDS: list[tuple[str, dict[str, Any], float, float]] = [
    ("uniform", WIDE, 1, 1),
    ("logitnormal", WIDE, INF, INF),
    ("logitnormal", {**WIDE, "truncate": True}, INF, INF),
    ("logitnormal", {**HALF, "truncate": True}, INF, 0.5 * 0.25 / PHI),
    ("logitnormal", {**UPPER, "truncate": True}, 0.5 * 0.25 / PHI, INF),
    ("lognormal", WIDE, INF, 0.5 / PHI),
    ("lognormal", HALF, INF, math.erfc(-LOG_HALF / math.sqrt(2)) / 4 * math.exp(LOG_HALF**2 / 2) / PHI),
    ("lognormal", {**HALF, "p_mean": LOG_HALF}, INF, 0.5 * 0.5 / PHI),
    ("lognormal", {**UPPER, "p_mean": LOG_HALF}, SHARE * 0.5 / PHI, SHARE * math.exp(LOG_HALF**2 / 2) / PHI),
    ("lognormal", {**WIDE, "p_mean": -2.0, "p_std": 0.2}, INF, 0.2 * math.exp(50) / PHI),
    ("shifted", WIDE, 5, 0.2),
    ("shifted", {**WIDE, "shift": 0.2}, 0.2, 5),
    ("shifted", {**WIDE, "truncate": True}, 5, 0.2),
    ("shifted", HALF, 2.5, 0),
    ("shifted_logitnormal", WIDE, INF, INF),
    ("shifted_logitnormal", HALF, INF, 0),
    ("polynomial", WIDE, 0, 0),
    ("mode", WIDE, 2.29, 2.29),
    ("mode", {**WIDE, "truncate": True}, 2.29, 2.29),
    ("cosmap", WIDE, math.pi / 2, math.pi / 2),
    ("cosmap", {**HALF, "truncate": True}, math.pi / 4, math.pi / 8),
    ("beta", WIDE, INF, 2 / 3),
    ("beta", {**WIDE, "beta_a": 0.5}, 0, 2),
    ("beta", {**WIDE, "beta_a": 1.0, "beta_b": 1.0}, 1, 1),
    ("beta", {**WIDE, "beta_a": 1.0, "beta_b": 2.5}, 0.4, INF),
    ("beta", {**WIDE, "beta_a": 1.0, "beta_b": 0.5}, 2, 0),
    ("beta", {**HALF, "truncate": True, "beta_a": 1.0, "beta_b": 2.0}, 0.375, 0.75),
    ("loguniform", {"min_t": 0.25, "max_t": 1.0}, 0.25 * math.log(4), math.log(4)),
]
CUT_OFF: list[tuple[str, dict[str, Any]]] = [  # by min_t and max_t, rounded inward to float32
    *((name, {}) for name in ("uniform", "logitnormal", "mode", "cosmap", "beta", "loguniform")),
    ("logitnormal", {"truncate": True, "p_mean": -60.0, "p_std": 2.0}),
    ("lognormal", {"p_mean": -2.0, "p_std": 0.2}),
    ("beta", {"beta_a": 1.0, "beta_b": 2.5}),
    ("shifted", {"truncate": True}),
]


def together(xp: Any, function: Any, at: Any) -> list[Any]:
    """The results of a function of ``at`` and of ones; for JAX made by one program."""
    arrays = [xp.array(at, str(at.dtype)), xp.array(np.ones_like(at), str(at.dtype))]
    if xp.name != "jax":
        return function(*arrays)
    with xp.jax.enable_x64(True):
        return xp.jax.jit(function)(*arrays)


def slopes(xp: Any, configs: list[Any], dtype: str) -> list[list[Any]]:
    """For each config the slopes at u = 0, 1 and 0.05 in reverse and in forward mode, as NumPy float64."""

    def both(u: Any, one: Any) -> list[Any]:
        calls = [partial(rf.timestep_quantile, cfg=cfg) for cfg in configs]
        return [(xp.reverse(call, [u], one)[0], xp.forward(call, [u], [one])) for call in calls]

    found = together(xp, both, np.array([0.0, 1.0, 0.05], dtype))
    return [[np.asarray(xp.numpy(mode), np.float64) for mode in modes] for modes in found]


@pytest.mark.backends("torch", "jax")
@pytest.mark.needs("float64")
def test_the_slope_at_an_end_that_the_distribution_reaches(xp: Any) -> None:
    configs = [rf.SampleTimestepConfig(name, **fields) for name, fields, *_ in ENDS]
    for (name, fields, *ends), modes in zip(ENDS, slopes(xp, configs, "float64"), strict=True):
        for found in modes:
            np.testing.assert_allclose(found[:2], ends, rtol=1e-6, err_msg=f"{name} {fields}")
            assert found[2] > 0 or name == "polynomial"


@pytest.mark.backends("torch", "jax")
@pytest.mark.needs("float64")
def test_the_slope_at_a_bound_that_cuts_the_distribution_off_is_0(xp: Any) -> None:
    for modes in slopes(xp, [rf.SampleTimestepConfig(name, **fields) for name, fields in CUT_OFF], "float32"):
        assert [found[:2].tolist() for found in modes] == [[0, 0]] * 2


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


@pytest.mark.backends("jax")
@pytest.mark.parametrize("name", ["lognormal", "beta"])
def test_a_compiled_quantile_reaches_a_bound_far_in_a_tail(xp: Any, name: str) -> None:
    cfg = rf.SampleTimestepConfig(name, p_mean=-2.0, p_std=0.2, beta_a=1.0, beta_b=12.0, truncate=True)
    u = np.array([1.0, 1 - 2.0**-53])
    np.testing.assert_allclose(
        rf.timestep_quantile(xp.array(u, "float64"), cfg), rf.timestep_quantile(u, cfg), rtol=1e-12
    )

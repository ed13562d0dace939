"""Derivatives of timestep_quantile at u = 0 and u = 1, by hand: one over the density at the bound that it reaches.

A bound that cuts a distribution off, or that the dtype rounds inward, leaves a derivative of 0. test_features.py and
the folders of the frameworks have the derivatives between the ends.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

INF = math.inf
WIDE = {"min_t": 0.0, "max_t": 1.0}  # bounds that every dtype holds
HALF, UPPER = {"min_t": 0.0, "max_t": 0.5}, {"min_t": 0.5, "max_t": 1.0}
CUT = {"truncate": True}
PHI = 1 / math.sqrt(2 * math.pi)  # the normal density at 0
LOG_HALF = math.log(0.5)
SHARE = math.erf(-LOG_HALF / math.sqrt(2)) / 2  # of the normal distribution between 0 and -LOG_HALF

ENDS: list[tuple[str, dict[str, Any], float, float]] = [
    ("uniform", WIDE, 1, 1),
    ("logitnormal", WIDE, INF, INF),
    ("logitnormal", WIDE | CUT, INF, INF),
    ("logitnormal", HALF | CUT, INF, 0.5 * 0.25 / PHI),
    ("logitnormal", UPPER | CUT, 0.5 * 0.25 / PHI, INF),
    ("lognormal", WIDE, INF, 0.5 / PHI),
    ("lognormal", HALF, INF, math.erfc(-LOG_HALF / math.sqrt(2)) / 4 * math.exp(LOG_HALF**2 / 2) / PHI),
    ("lognormal", {**HALF, "p_mean": LOG_HALF}, INF, 0.5 * 0.5 / PHI),
    ("lognormal", {**UPPER, "p_mean": LOG_HALF}, SHARE * 0.5 / PHI, SHARE * math.exp(LOG_HALF**2 / 2) / PHI),
    ("lognormal", {**WIDE, "p_mean": -2.0, "p_std": 0.2}, INF, 0.2 * math.exp(50) / PHI),
    ("shifted", WIDE, 5, 0.2),
    ("shifted", {**WIDE, "shift": 0.2}, 0.2, 5),
    ("shifted", WIDE | CUT, 5, 0.2),
    ("shifted", HALF, 2.5, 0),
    ("shifted_logitnormal", WIDE, INF, INF),
    ("shifted_logitnormal", HALF, INF, 0),
    ("polynomial", WIDE, 0, 0),
    ("mode", WIDE, 2.29, 2.29),
    ("mode", WIDE | CUT, 2.29, 2.29),
    ("cosmap", WIDE, math.pi / 2, math.pi / 2),
    ("cosmap", HALF | CUT, math.pi / 4, math.pi / 8),
    ("beta", WIDE, INF, 2 / 3),
    ("beta", {**WIDE, "beta_a": 0.5}, 0, 2),
    ("beta", {**WIDE, "beta_a": 1.0, "beta_b": 1.0}, 1, 1),
    ("beta", {**WIDE, "beta_a": 1.0, "beta_b": 2.5}, 0.4, INF),
    ("beta", {**WIDE, "beta_a": 1.0, "beta_b": 0.5}, 2, 0),
    ("beta", {**HALF, **CUT, "beta_a": 1.0, "beta_b": 2.0}, 0.375, 0.75),
    ("loguniform", {"min_t": 0.25, "max_t": 1.0}, 0.25 * math.log(4), math.log(4)),
    # The default bounds, rounded inward to float32, cut these off.
    *((name, {}, 0, 0) for name in ("uniform", "logitnormal", "mode", "cosmap", "beta", "loguniform")),
    ("shifted", CUT, 0, 0),
    ("logitnormal", {**CUT, "p_mean": -60.0, "p_std": 2.0}, 0, 0),
    ("lognormal", {"p_mean": -2.0, "p_std": 0.2}, 0, 0),
    ("beta", {"beta_a": 1.0, "beta_b": 2.5}, 0, 0),
]


@pytest.mark.backends("torch", "jax")
@pytest.mark.parametrize(("name", "fields", "ends"), [(n, f, e) for n, f, *e in ENDS], ids=[n for n, *_ in ENDS])
def test_the_derivative_of_the_quantile_function_at_its_ends(
    xp: Any, name: str, fields: dict[str, Any], ends: list[float]
) -> None:
    cfg = rf.SampleTimestepConfig(name, **fields)
    u, ones = xp.array([0.0, 1.0, 0.05]), xp.array(np.ones(3))

    def quantile(u: Any) -> Any:
        return rf.timestep_quantile(u, cfg)

    (reverse,) = xp.reverse(quantile, [u], ones)
    for slopes in (xp.numpy(reverse), xp.numpy(xp.forward(quantile, [u], [ones]))):
        np.testing.assert_allclose(slopes[:2], ends, rtol=1e-6)
        assert slopes[2] > 0 or name == "polynomial"

"""Slopes of quantiles at u = 0 and u = 1, by hand; elsewhere derivatives by differences of the NumPy path.

``Q'(u)`` is one over the density at Q(u). A bound that cuts a law off, or that the dtype rounds inward, leaves none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest

import fastgen_rf as rf

INF = math.inf
WIDE = {"min_t": 0.0, "max_t": 1.0}  # bounds that every dtype holds
HALF = {"min_t": 0.0, "max_t": 0.5}
UPPER = {"min_t": 0.5, "max_t": 1.0}
PHI = 1 / math.sqrt(2 * math.pi)  # the normal density at 0
LOG_HALF = math.log(0.5)
SHARE = math.erf(-LOG_HALF / math.sqrt(2)) / 2  # of the normal law between 0 and -LOG_HALF

_ENDS: list[tuple[str, dict[str, Any], float, float]] = [
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
every_law_s_ends = pytest.mark.parametrize(
    ("cfg", "ends"),
    [
        pytest.param(rf.SampleTimestepConfig(law, **fields), ends, id=f"{law}-{number}")
        for number, (law, fields, *ends) in enumerate(_ENDS)
    ],
)
LAWS = ("uniform", "logitnormal", "lognormal", "shifted", "shifted_logitnormal", "mode", "cosmap", "beta", "loguniform")
CUT_OFF = [  # laws that min_t and max_t, rounded inward to float32, cut off
    rf.SampleTimestepConfig(law, **fields)
    for law, fields in [
        ("uniform", {}),
        ("logitnormal", {}),
        ("logitnormal", {"truncate": True, "p_mean": -60.0, "p_std": 2.0}),
        ("lognormal", {"p_mean": -2.0, "p_std": 0.2}),
        ("mode", {}),
        ("cosmap", {}),
        ("beta", {}),
        ("beta", {"beta_a": 1.0, "beta_b": 2.5}),
        ("loguniform", {}),
        ("shifted", {"truncate": True}),
    ]
]
every_cut = pytest.mark.parametrize("cfg", CUT_OFF, ids=[f"{c.time_dist_type}-{i}" for i, c in enumerate(CUT_OFF)])

AT = np.array([0.2, 0.45, 0.83])
_FUNCTIONS: dict[str, Callable[..., Any]] = {"quantile": rf.timestep_quantile, "density": rf.timestep_density}
every_function = pytest.mark.parametrize(
    "function",
    [
        pytest.param(
            partial(_FUNCTIONS[name], cfg=rf.SampleTimestepConfig(law, truncate=truncate)),
            id=f"{name}-{law}-{'cut' if truncate else 'whole'}",
        )
        for name, law, truncate in product(_FUNCTIONS, LAWS, (False, True))
        if name == "quantile" or truncate or not law.startswith("shifted")
    ],
)


def second_difference(function: Callable[[Any], Any], x: Any) -> Any:
    """Central second difference, extrapolated once: right to about 1e-7 where the function's scale is 1."""

    def at(h: float) -> Any:
        return (function(x + h) - 2 * function(x) + function(x - h)) / (h * h)

    return (4 * at(2e-4) - at(4e-4)) / 3


MODE = rf.SampleTimestepConfig("mode", truncate=True)


def _mode_second() -> float:
    """Second derivative of MODE's density at 0.2, by mpmath: 8.012."""
    s = mpmath.mpf(1.29)

    def inverse(t: Any) -> Any:
        return mpmath.findroot(lambda u: u - s * (mpmath.sin(mpmath.pi * u / 2) ** 2 - u) - t, t)

    def density(t: Any) -> Any:
        return 1 / (1 + s - s * mpmath.pi / 2 * mpmath.sin(mpmath.pi * inverse(t)))

    return float(mpmath.diff(density, 0.2, 2) / (inverse(mpmath.mpf("0.999")) - inverse(mpmath.mpf("0.001"))))


MODE_SECOND = _mode_second()

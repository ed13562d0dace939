"""timestep_quantile and timestep_density: ends, tails, extreme parameters, rounding to the bounds.

Ordinary values of every distribution are in test_exact_values.py. A new distribution gets a row in catalogue.py and one
in exact.py; here it needs a test only if its formula has branches.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.exact import DISTRIBUTIONS, logit, mp, slope

NAMES = list(DISTRIBUTIONS)
every_distribution = pytest.mark.parametrize("name", NAMES)
WIDE = {"min_t": 0.0, "max_t": 1.0}
U = np.concatenate([np.logspace(-12, -2, 21), np.linspace(0.02034, 0.98034, 49), 1 - np.logspace(-2, -12, 21)])
inf, nan = math.inf, math.nan


def config(name: str, **fields: Any) -> rf.SampleTimestepConfig:
    return rf.SampleTimestepConfig(time_dist_type=name, **fields)


def within(t: Any, c: rf.SampleTimestepConfig) -> bool:
    """Whether every t lies in [min_t, max_t] as a real number; each dtype here embeds in float64."""
    wide = np.asarray(t).astype(np.float64)
    return bool(np.all((wide >= c.min_t) & (wide <= c.max_t)))


# Quantiles: every distribution


@every_distribution
@pytest.mark.needs("special")
@pytest.mark.dtypes()
def test_quantile_is_non_decreasing_and_inside_the_bounds_in_every_dtype(xp: Any, dtype: str, name: str) -> None:
    u = np.sort(np.concatenate([U, np.random.default_rng(0).random(500), [0.0, 1.0]]))
    for truncate in (False, True):
        c = config(name, truncate=truncate)
        t = np.asarray(xp.numpy(rf.timestep_quantile(xp.array(u, dtype), c)), np.float64)
        assert (np.diff(t) >= 0).all()
        assert within(t, c)


@every_distribution
@pytest.mark.needs("float64", "special")
def test_u_of_0_and_1_give_the_ends_and_u_outside_is_clipped_and_nan_stays(xp: Any, name: str) -> None:
    for truncate in (False, True):
        u = xp.array(np.array([[-0.5, 0.0, 1.0, 1.5, nan]]), "float64")
        got = rf.timestep_quantile(u, config(name, truncate=truncate))
        assert (type(got), tuple(got.shape), xp.device_of(got)) == (type(u), (1, 5), xp.device)
        (t,) = xp.numpy(got)
        start = 0.005 / 1.004 if DISTRIBUTIONS[name].shifts and not truncate else 0.001  # min_t shifted by 5
        assert t[1:3] == pytest.approx([start, 0.999], rel=1e-12)
        assert (t[0], t[3]) == (t[1], t[2])
        assert np.isnan(t[4])


# Truncated normal distributions: tails, and intervals much narrower or wider than the standard deviation

DISTANT: dict[str, list[dict[str, float]]] = {
    "lognormal": [
        {"min_t": 0.5, "max_t": 0.51, "p_mean": -20.0, "p_std": 0.8},  # 24 standard deviations away
        {"min_t": 0.5, "max_t": 0.51, "p_mean": 20.0, "p_std": 0.8},
        {**WIDE, "p_mean": 30.0, "p_std": 1.0},  # all of a tail
        {**WIDE, "p_mean": -8.0, "p_std": 0.5},
        {"min_t": 0.5, "max_t": 0.500002, "p_mean": -5.5, "p_std": 0.5},  # 8e-6 standard deviations wide, 10 away
        {"p_mean": 50.0, "p_std": 0.05},
        {"p_mean": -60.0, "p_std": 0.05},
        {"p_mean": 3.0, "p_std": 0.14999},  # on both sides of 20 standard deviations, where the formula changes
        {"p_mean": 3.0, "p_std": 0.15001},
    ],
    "logitnormal": [
        *({"p_mean": 30.0, "p_std": 0.5}, {"p_mean": -40.0, "p_std": 0.3}, {"p_mean": 2.0, "p_std": 0.02}),
        *({"min_t": 0.3, "max_t": 0.3 + 1e-9, "p_mean": mean} for mean in (0.0, -3.0)),
        *({"p_mean": mean * std, "p_std": std} for mean in (0.0, 4.0, -15.0) for std in (1e6, 1e10, 1e17)),
    ],
}
VARIABLES: dict[str, Any] = {"lognormal": mp.log, "logitnormal": logit}  # of which the normal distribution is


@pytest.mark.parametrize("name", DISTANT)
@pytest.mark.needs("float64", "special")
def test_quantile_and_density_of_a_distant_or_narrow_interval(xp: Any, name: str) -> None:
    u = np.array([0.01, 0.3, 0.5, 0.99])
    for fields in DISTANT[name]:
        c = config(name, truncate=True, **fields)
        times = xp.numpy(rf.timestep_quantile(xp.array(u, "float64"), c))
        densities = xp.numpy(rf.timestep_density(xp.array(times, "float64"), c))

        def normal(t: Any, c: Any = c) -> Any:
            return (
                (VARIABLES[name](t) - c.p_mean) / c.p_std if 0 < t < 1 or name == "lognormal" else (2 * t - 1) * mp.inf
            )

        low, high = normal(mp.mpf(c.min_t)), normal(mp.mpf(c.max_t))
        sign = -1 if low + high > 0 else 1  # the tail on the far side would cancel
        mass = mp.ncdf(sign * high) - mp.ncdf(sign * low)
        shares = [(mp.ncdf(sign * normal(mp.mpf(t))) - mp.ncdf(sign * low)) / mass for t in times.tolist()]
        steep = [abs(slope(normal, mp.mpf(t)) * mp.npdf(normal(mp.mpf(t))) / mass) for t in times.tolist()]
        wide = c.p_std >= 1e6  # the variable is flat, and the mass between the bounds has few digits
        # The last bit of t moves the share by the density times its spacing.
        allowed = (1e-9 if wide else 1e-11) + 2 * np.array(steep, float) * np.spacing(times)
        assert (np.abs(np.array(shares, float) - u) <= allowed).all(), fields
        digits = (1e-8 if wide else 1e-10) + 2 * np.spacing(c.max_t) / (
            c.max_t - c.min_t
        )  # of the mass between the bounds
        assert densities.tolist() == pytest.approx([float(value) for value in steep], rel=digits), fields


def test_the_quantile_of_beta_keeps_its_digits_next_to_0() -> None:
    c = config("beta", truncate=True, **WIDE, beta_a=1.0, beta_b=2.5)
    assert rf.timestep_quantile(1e-12, c) == pytest.approx(1e-12 / 2.5, rel=1e-11, abs=0)


# Densities

PARAMETERS: list[dict[str, float]] = [
    {},
    {"shift": 2.5, "p_mean": -0.7, "p_std": 0.6, "mode_scale": -0.6, "beta_a": 1.0, "beta_b": 2.5},
    {"shift": 12.0, "p_mean": 1.5, "p_std": 2.0, "mode_scale": 1.7, "beta_a": 0.5},
]
DENSITIES = [
    config(name, truncate=truncate, **fields)
    for name, fields, truncate in itertools.product(NAMES, PARAMETERS, (False, True))
    if not DISTRIBUTIONS[name].discrete and (truncate or not DISTRIBUTIONS[name].shifts)
]


@pytest.mark.dtypes()
@pytest.mark.needs("float64")
def test_a_density_is_0_outside_and_nan_at_nan(xp: Any, dtype: str) -> None:
    for c in DENSITIES[::3]:
        outside = [-1.0, -0.0, 0.9 * c.min_t, 1.5, inf, -inf]
        t = xp.array(np.array([*outside, (c.min_t + c.max_t) / 2, nan]), dtype)
        got = rf.timestep_density(t, c)
        assert got.dtype == t.dtype
        values = np.asarray(xp.numpy(got), np.float64)
        assert values[:6].tolist() == [0.0] * 6
        assert values[6] > 0.01
        assert np.isnan(values[7])


@pytest.mark.parametrize(
    ("name", "fields", "densities"),
    [
        ("beta", {"beta_a": 0.5}, (inf, 0.5)),
        ("beta", {"beta_a": 1.0, "beta_b": 1.0}, (1.0, 1.0)),
        ("beta", {"beta_a": 1.0, "beta_b": 2.5}, (2.5, 0.0)),
        ("lognormal", {}, (0.0, 2 / math.sqrt(2 * math.pi))),
        ("logitnormal", {}, (0.0, 0.0)),
    ],
)
def test_a_density_at_the_ends_of_its_support(name: str, fields: dict[str, float], densities: Any) -> None:
    got = rf.timestep_density(np.array([0.0, 1.0]), config(name, truncate=True, **WIDE, **fields))
    assert got.tolist() == pytest.approx(list(densities), rel=1e-15)

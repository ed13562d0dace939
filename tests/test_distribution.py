"""timestep_quantile and timestep_density: ends, tails, extreme parameters, rounding to the bounds, derivatives.

Ordinary values of every distribution are in test_exact_values.py, first derivatives in test_features.py. A new
distribution gets a row in catalogue.py and one in exact.py; here it needs a test only if its formula has branches.
"""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests import exact
from tests.exact import DISTRIBUTIONS, logit, mp, slope

NAMES = list(DISTRIBUTIONS)
every_distribution = pytest.mark.parametrize("name", NAMES)
WIDE = {"min_t": 0.0, "max_t": 1.0}
U = np.concatenate([np.logspace(-12, -2, 21), np.linspace(0.02034, 0.98034, 49), 1 - np.logspace(-2, -12, 21)])
inf, nan = math.inf, math.nan


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
        c = rf.SampleTimestepConfig(name, truncate=truncate)
        t = np.asarray(xp.numpy(rf.timestep_quantile(xp.array(u, dtype), c)), np.float64)
        assert (np.diff(t) >= 0).all()
        assert within(t, c)


@every_distribution
@pytest.mark.needs("float64", "special")
def test_u_of_0_and_1_give_the_ends_and_u_outside_is_clipped_and_nan_stays(xp: Any, name: str) -> None:
    for truncate, fields in itertools.product((False, True), ({}, {"beta_a": 1.0, "beta_b": 6.0})):
        u = xp.array(np.array([[-0.5, 0.0, 1.0, 1.5, nan]]), "float64")
        got = rf.timestep_quantile(u, rf.SampleTimestepConfig(name, truncate=truncate, **fields))
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
        c = rf.SampleTimestepConfig(name, truncate=True, **fields)
        times = xp.numpy(rf.timestep_quantile(xp.array(u, "float64"), c))
        densities = xp.numpy(rf.timestep_density(xp.array(times, "float64"), c))

        def normal(t: Any, c: Any = c) -> Any:
            inside = 0 < t < 1 or name == "lognormal"
            return (VARIABLES[name](t) - c.p_mean) / c.p_std if inside else (2 * t - 1) * mp.inf

        low, high = normal(mp.mpf(c.min_t)), normal(mp.mpf(c.max_t))
        sign = -1 if low + high > 0 else 1  # the tail on the far side would cancel
        mass = mp.ncdf(sign * high) - mp.ncdf(sign * low)
        shares = [(mp.ncdf(sign * normal(mp.mpf(t))) - mp.ncdf(sign * low)) / mass for t in times.tolist()]
        steep = [abs(slope(normal, mp.mpf(t)) * mp.npdf(normal(mp.mpf(t))) / mass) for t in times.tolist()]
        wide = c.p_std >= 1e6  # the variable is flat, and the mass between the bounds has few digits
        # The last bit of t moves the share by the density times its spacing.
        allowed = (1e-9 if wide else 1e-11) + 2 * np.array(steep, float) * np.spacing(times)
        assert (np.abs(np.array(shares, float) - u) <= allowed).all(), fields
        digits = (1e-8 if wide else 1e-10) + 2 * np.spacing(c.max_t) / (c.max_t - c.min_t)
        assert densities.tolist() == pytest.approx([float(value) for value in steep], rel=digits), fields


def test_beta_with_either_parameter_1_is_exact() -> None:
    u = np.array([0.01, 0.3, 0.5, 0.99])
    for fields, truncate in itertools.product(({"beta_a": 1.5}, {"beta_a": 1.0, "beta_b": 2.5}), (False, True)):
        c = rf.SampleTimestepConfig("beta", min_t=0.25, truncate=truncate, **fields)
        times = rf.timestep_quantile(u, c)
        assert times == pytest.approx([float(exact.quantile(mp.mpf(x), c)) for x in u.tolist()], rel=1e-14)
        wanted = [float(exact.density(mp.mpf(t), c)) for t in times.tolist()]
        assert rf.timestep_density(times, c) == pytest.approx(wanted, rel=1e-13)
        assert rf.timestep_quantile(1.0, c) == c.max_t


def test_the_quantile_of_beta_keeps_its_digits_next_to_0() -> None:
    c = rf.SampleTimestepConfig("beta", truncate=True, **WIDE, beta_a=1.0, beta_b=2.5)
    assert rf.timestep_quantile(1e-12, c) == pytest.approx(1e-12 / 2.5, rel=1e-11, abs=0)


# Densities

PARAMETERS: list[dict[str, float]] = [
    {},
    {"shift": 2.5, "p_mean": -0.7, "p_std": 0.6, "mode_scale": -0.6, "beta_a": 1.0, "beta_b": 2.5},
    {"shift": 12.0, "p_mean": 1.5, "p_std": 2.0, "mode_scale": 1.7, "beta_a": 0.5},
]
DENSITIES = [
    rf.SampleTimestepConfig(name, truncate=truncate, **fields)
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
    got = rf.timestep_density(np.array([0.0, 1.0]), rf.SampleTimestepConfig(name, truncate=True, **WIDE, **fields))
    assert got.tolist() == pytest.approx(list(densities), rel=1e-15)


# Derivatives next to the bounds, and second derivatives


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


@pytest.mark.backends("torch", "jax")
@pytest.mark.needs("float64")
def test_slopes_of_quantiles_are_finite_close_to_the_ends(xp: Any) -> None:
    configs = [rf.SampleTimestepConfig(name, truncate=True) for name in ("logitnormal", "beta", "mode")]
    configs.append(rf.SampleTimestepConfig("lognormal", p_std=0.1))

    def slopes(u: Any, one: Any) -> list[Any]:
        return [xp.reverse(partial(rf.timestep_quantile, cfg=cfg), [u], one)[0] for cfg in configs]

    for got in together(xp, slopes, np.array([2.0**-60, 2.0**-54, 0.3, 1 - 2.0**-53])):
        assert np.isfinite(xp.numpy(got)).all()


@pytest.mark.backends("jax")
def test_a_compiled_quantile_reaches_a_bound_far_in_a_tail(xp: Any) -> None:
    cfg, u = rf.SampleTimestepConfig("lognormal", p_mean=-2.0, p_std=0.2), np.array([1.0, 1 - 2.0**-53])
    got, wanted = rf.timestep_quantile(xp.array(u, "float64"), cfg), rf.timestep_quantile(u, cfg)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)

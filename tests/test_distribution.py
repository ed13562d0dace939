"""timestep_quantile and timestep_density: ends, tails, extreme parameters, rounding to the bounds.

Ordinary values of every distribution are in test_exact_values.py. A new distribution gets a row in catalogue.py and one
in exact.py; here it needs a test only if its formula has branches.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

import fastgen_rf as rf
from tests.exact import DISTRIBUTIONS

NAMES = list(DISTRIBUTIONS)
every_distribution = pytest.mark.parametrize("name", NAMES)
WIDE = {"min_t": 0.0, "max_t": 1.0}
U = np.concatenate([np.logspace(-12, -2, 21), np.linspace(0.02034, 0.98034, 49), 1 - np.logspace(-2, -12, 21)])
inf, nan = math.inf, math.nan


def config(name: str, **fields: Any) -> rf.SampleTimestepConfig:
    return rf.SampleTimestepConfig(time_dist_type=name, **fields)


def has_density(c: rf.SampleTimestepConfig) -> bool:
    published = DISTRIBUTIONS[c.time_dist_type]
    return not published.discrete and (c.truncate or not published.shifts)


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


@pytest.mark.needs("special")
@pytest.mark.dtypes("bfloat16")
def test_bf16_never_rounds_past_max_t(xp: Any, dtype: str) -> None:
    """bfloat16 has 0.9921875 and 0.99609375 below 0.999; 1.0 is nearer to it."""
    c = config("uniform", min_t=0.99, max_t=0.999)
    t = xp.numpy(rf.timestep_quantile(xp.array(np.linspace(0, 1, 100), dtype), c))
    assert sorted(set(t.tolist())) == [0.9921875, 0.99609375]


@every_distribution
def test_a_float_u_gives_the_float_that_an_array_gives(name: str) -> None:
    many = np.random.default_rng(0).random(100)
    assert [rf.timestep_quantile(u, config(name)) for u in many.tolist()] == rf.timestep_quantile(
        many, config(name)
    ).tolist()
    for u in (0.0, np.float64(0.7), np.float32(0.5), 1.0, 0, 1):
        assert type(rf.timestep_quantile(u, config(name))) is float


@every_distribution
@pytest.mark.needs("special")
def test_u_outside_of_0_and_1_is_clipped_in_an_array_and_nan_stays(xp: Any, name: str) -> None:
    t = xp.numpy(rf.timestep_quantile(xp.array(np.array([-0.5, 0.0, 1.0, 1.5, nan])), config(name)))
    assert t[0] == t[1]
    assert t[2] == t[3]
    assert np.isnan(t[4])


@pytest.mark.needs("float64", "special")
@every_distribution
def test_u_of_0_and_1_give_the_ends_of_the_distribution(xp: Any, name: str) -> None:
    for truncate in (False, True):
        c = config(name, truncate=truncate)
        low, high = xp.numpy(rf.timestep_quantile(xp.array(np.array([0.0, 1.0]), "float64"), c)).tolist()
        start = 0.005 / 1.004 if DISTRIBUTIONS[name].shifts and not truncate else 0.001  # min_t shifted by 5
        assert low == pytest.approx(start, rel=1e-12)
        assert high == pytest.approx(0.999, rel=1e-12)


@pytest.mark.parametrize("name", ["uniform", "lognormal", "loguniform", "polynomial"])
def test_truncation_changes_nothing_where_the_support_is_the_interval(name: str) -> None:
    cut, whole = (rf.timestep_quantile(U, config(name, truncate=truncate)) for truncate in (True, False))
    assert cut.tolist() == whole.tolist()


@pytest.mark.needs("special")
def test_a_quantile_keeps_the_shape_type_and_device_of_u(xp: Any) -> None:
    for shape in [(), (0,), (2, 3)]:
        u = xp.array(np.full(shape, 0.5))
        t = rf.timestep_quantile(u, config("uniform"))
        assert (type(t), tuple(t.shape), t.dtype, xp.device_of(t)) == (type(u), shape, u.dtype, xp.device)


@pytest.mark.parametrize(
    ("name", "there", "here"),
    [
        ("uniform", {}, {}),
        ("mode", {}, {}),
        ("cosmap", {}, {}),
        ("logitnormal", {"p_mean": -0.8, "p_std": 0.8}, {"p_mean": 0.8, "p_std": 0.8}),
        ("beta", {"beta_a": 1.5, "beta_b": 1.0}, {"beta_a": 1.0, "beta_b": 1.5}),
        ("shifted", {"shift": 5.0}, {"shift": 1 / 5.0}),
    ],
)
@pytest.mark.parametrize("truncate", [False, True])
def test_a_convention_from_noise_to_data_is_the_mirror_image(
    name: str, there: dict[str, float], here: dict[str, float], truncate: bool
) -> None:
    theirs = config(name, min_t=0.0, max_t=0.98, truncate=truncate, **there)
    ours = config(name, min_t=1 - 0.98, max_t=1.0, truncate=truncate, **here)
    u = np.linspace(0.001, 0.999, 99)
    assert rf.timestep_quantile(u, ours) == pytest.approx(1 - rf.timestep_quantile(1 - u, theirs), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@given(
    name=st.sampled_from(NAMES),
    truncate=st.booleans(),
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: pair[0] != pair[1]),
    closeness=st.sampled_from([1.0, 1e-3, 1e-8]),
)
def test_any_bounds_hold_or_have_no_number_between_them(
    dtype: str, name: str, truncate: bool, bounds: tuple[float, float], closeness: float
) -> None:
    low, high = min(bounds), max(bounds)
    high = max(low + (high - low) * closeness, math.nextafter(low, 1))
    low = max(low, 5e-324) if name == "loguniform" else low
    c = config(name, min_t=low, max_t=high, truncate=truncate)
    edge = np.array(low).astype(dtype)  # the least number of the dtype that is at least low
    edge = np.nextafter(edge, np.array(2, dtype)) if float(edge) < low else edge
    u = np.array([0.0, 0.1, 0.5, 0.9, 1.0], dtype)
    if float(edge) > high:
        with pytest.raises(ValueError, match="no value in"):
            rf.timestep_quantile(u, c)
    else:
        assert within(rf.timestep_quantile(u, c), c)


# Quantiles: tails of normal distributions


@pytest.mark.parametrize(
    ("min_t", "max_t", "p_mean", "p_std"),
    [
        (0.5, 0.51, -20.0, 0.8),  # 24 standard deviations away, where the density halves within the interval
        (0.5, 0.51, 20.0, 0.8),
        (0.0, 1.0, 30.0, 1.0),  # all of a tail
        (0.5, 0.500002, -5.5, 0.5),  # 8e-6 standard deviations wide, 10 of them away
        (0.001, 0.999, 1.0, 0.1),
        (0.001, 0.999, -8.0, 0.05),
        (0.99, 0.999, 2.0, 1.0),
        (0.001, 0.999, 3.0, 0.14999),  # on both sides of 20 standard deviations, where the formula changes
        (0.001, 0.999, 3.0, 0.15001),
    ],
)
def test_quantile_and_density_of_a_distant_or_narrow_interval(
    min_t: float, max_t: float, p_mean: float, p_std: float
) -> None:
    c = config("lognormal", truncate=True, min_t=min_t, max_t=max_t, p_mean=p_mean, p_std=p_std)
    u = np.array([0.01, 0.3, 0.5, 0.99])
    times = rf.timestep_quantile(u, c)
    with mpmath.workdps(60):

        def tail(t: float) -> Any:
            return mpmath.ncdf(-abs(mpmath.log(t) - p_mean) / p_std) if t else mpmath.mpf(0)

        mass = tail(max_t) - tail(min_t)
        got = [float((tail(float(t)) - tail(min_t)) / mass) for t in times]
        steep = [float(mpmath.npdf(mpmath.log(float(t)), p_mean, p_std) / abs(mass) / float(t)) for t in times]
    # The last bit of t moves the share by the density times its spacing.
    assert (np.abs(np.array(got) - u) <= 1e-11 + 2 * np.array(steep) * np.spacing(times)).all()
    assert rf.timestep_density(times, c).tolist() == pytest.approx(steep, rel=1e-10)


@pytest.mark.needs("float64", "special")
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("logitnormal", {"p_mean": 30.0, "p_std": 0.5}),
        ("logitnormal", {"p_mean": -40.0, "p_std": 0.3}),
        ("shifted_logitnormal", {"p_mean": 12.0, "p_std": 0.2}),
        ("lognormal", {"p_mean": 9.0, "p_std": 0.2}),
        ("lognormal", {"p_mean": 50.0, "p_std": 0.05}),
        ("lognormal", {"p_mean": -60.0, "p_std": 0.05}),
    ],
)
def test_a_truncated_tail_decays_exponentially_from_the_bound(xp: Any, name: str, fields: dict[str, float]) -> None:
    """Far away a normal tail is exponential, of rate |bound - p_mean| / p_std**2 in the normal variable."""
    c = config(name, truncate=True, **fields)
    u = np.linspace(0.1, 0.9, 9)
    t = xp.numpy(rf.timestep_quantile(xp.array(u, "float64"), c))
    variable = np.log if name == "lognormal" else special.logit
    mean = c.p_mean + (math.log(c.shift) if name == "shifted_logitnormal" else 0)
    upper = c.p_mean > 0
    bound = variable(c.max_t if upper else c.min_t)
    rate = abs(bound - mean) / c.p_std**2
    share = u if upper else 1 - u
    # Taken relative to t, because the digits of t itself are few where it is close to its bound
    distance = np.log1p((t - np.exp(bound)) / np.exp(bound)) if name == "lognormal" else variable(t) - bound
    assert np.abs(distance) * rate == pytest.approx(-np.log(share), rel=2e-2)


@pytest.mark.parametrize("p_mean", [0.0, 4.0, -15.0])
@pytest.mark.parametrize("p_std", [1e6, 1e10, 1e17])
def test_a_normal_much_wider_than_the_interval_is_flat_in_its_variable(p_mean: float, p_std: float) -> None:
    """The logit of t becomes uniform between the bounds' logits, denser towards p_mean by a term of order 1 / p_std."""
    c = config("logitnormal", truncate=True, p_mean=p_mean * p_std, p_std=p_std)
    low, high = special.logit(c.min_t), special.logit(c.max_t)
    u = np.linspace(0.1, 0.9, 9)
    t = rf.timestep_quantile(u, c)
    bend = p_mean * (high - low) / p_std * u * (1 - u) / 2
    assert (special.logit(t) - low) / (high - low) == pytest.approx(u + bend, abs=1e-9)
    assert rf.timestep_density(t, c) == pytest.approx(1 / ((high - low) * t * (1 - t)), rel=1e-4)


@pytest.mark.parametrize("name", ["logitnormal", "lognormal"])
@pytest.mark.parametrize("p_mean", [0.0, -3.0])
def test_a_narrow_interval_leaves_a_uniform_distribution(name: str, p_mean: float) -> None:
    c = config(name, truncate=True, min_t=0.3, max_t=0.3 + 1e-9, p_mean=p_mean)
    u = np.linspace(0, 1, 11)
    assert (rf.timestep_quantile(u, c) - 0.3) / 1e-9 == pytest.approx(u, abs=3e-7)  # t's own digits are 2e-7 of it
    assert rf.timestep_density(np.array([0.3 + 5e-10]), c) == pytest.approx(1e9, rel=1e-6)


@every_distribution
@pytest.mark.parametrize("p_mean", [-50.0, -8.0, 8.0, 50.0])
def test_min_t_0_and_distant_means_stay_inside(name: str, p_mean: float) -> None:
    c = config(name, min_t=0.0 if name != "loguniform" else 1e-30, p_mean=p_mean)
    assert within(rf.timestep_quantile(np.concatenate([[0.0], U, [1.0]]), c), c)


def test_lognormal_with_min_t_0_is_not_truncated_below() -> None:
    c = config("lognormal", **WIDE, p_mean=-8.0, p_std=0.5)
    t = rf.timestep_quantile(np.array([0.025, 0.5, 0.975]), c)
    assert np.log(t) == pytest.approx(stats.norm(-8.0, 0.5).ppf([0.025, 0.5, 0.975]), abs=1e-12)


def test_the_quantile_of_beta_keeps_its_digits_next_to_0() -> None:
    c = config("beta", truncate=True, **WIDE, beta_a=1.0, beta_b=2.5)
    assert rf.timestep_quantile(1e-12, c) == pytest.approx(1e-12 / 2.5, rel=1e-11, abs=0)


def test_an_edm_teacher_is_logitnormal_and_not_lognormal() -> None:
    """EDM draws log sigma from a normal distribution, and sigma = t / (1 - t): 90 % of its times lie below these t."""
    fields = {"p_mean": -1.2, "p_std": 1.2}
    sigma = np.exp(stats.norm(-1.2, 1.2).ppf(0.9))
    assert round(sigma / (1 + sigma), 4) == 0.5837
    assert round(rf.timestep_quantile(0.9, config("logitnormal", **fields)), 4) == 0.5835
    wide = config("logitnormal", truncate=True, min_t=1e-9, max_t=1 - 1e-9, **fields)
    assert round(rf.timestep_quantile(0.9, wide), 4) == 0.5837
    assert round(rf.timestep_quantile(0.9, config("lognormal", **fields)), 3) == 0.695


@pytest.mark.needs("special", "float64")
def test_shifted_is_the_shift_of_uniform(xp: Any) -> None:
    u = xp.array(np.linspace(0.01, 0.9, 50), "float64")
    uniform, shifted = (rf.timestep_quantile(u, config(name, max_t=1.0)) for name in ("uniform", "shifted"))
    assert xp.numpy(rf.shift_timesteps(uniform, 5.0)) == pytest.approx(xp.numpy(shifted), rel=1e-15)


# Densities

PARAMETERS: list[dict[str, float]] = [
    {},
    {"shift": 2.5, "p_mean": -0.7, "p_std": 0.6, "mode_scale": -0.6, "beta_a": 1.0, "beta_b": 2.5},
    {"shift": 12.0, "p_mean": 1.5, "p_std": 2.0, "mode_scale": 1.7, "beta_a": 0.5},
]
DENSITIES = [
    c
    for name, fields, truncate in itertools.product(NAMES, PARAMETERS, (False, True))
    if has_density(c := config(name, truncate=truncate, **fields))
]
every_density = pytest.mark.parametrize("c", DENSITIES, ids=lambda c: f"{c.time_dist_type}-{c.truncate}-{c.p_mean}")


@every_density
def test_a_density_integrates_to_1_between_any_two_quantiles(c: rf.SampleTimestepConfig) -> None:
    shares = [1e-3, 0.03, 0.2, 0.5, 0.8, 0.97, 1 - 1e-3]
    ends = [rf.timestep_quantile(u, c) for u in shares]
    got = [
        integrate.quad(lambda t: rf.timestep_density(t, c), low, high, epsabs=1e-13, epsrel=1e-11)[0]
        for low, high in itertools.pairwise(ends)
    ]
    assert got == pytest.approx(np.diff(shares).tolist(), rel=1e-8)


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


@every_density
def test_the_density_of_a_float_is_the_float_that_an_array_gives(c: rf.SampleTimestepConfig) -> None:
    times = [-1.0, 0.0, 0, c.min_t, 0.3, np.float64(0.45), c.max_t, 1, 7.5]
    got = [rf.timestep_density(t, c) for t in times]
    assert {type(value) for value in got} == {float}
    assert got == rf.timestep_density(np.array(times, np.float64), c).tolist()


@pytest.mark.parametrize(
    ("name", "fields", "t", "density"),
    [
        ("beta", {"beta_a": 0.5}, 0.0, inf),
        ("beta", {"beta_a": 1.0, "beta_b": 0.5}, 1.0, inf),
        ("beta", {"beta_a": 1.0, "beta_b": 1.0}, 0.0, 1.0),
        ("beta", {"beta_a": 1.0, "beta_b": 1.0}, 1.0, 1.0),
        ("beta", {"beta_a": 2.5, "beta_b": 1.0}, 0.0, 0.0),
        ("beta", {"beta_a": 1.0, "beta_b": 2.5}, 1.0, 0.0),
        ("lognormal", {}, 0.0, 0.0),
        ("logitnormal", {}, 0.0, 0.0),
        ("logitnormal", {}, 1.0, 0.0),
        ("shifted_logitnormal", {}, 0.0, 0.0),
        ("shifted_logitnormal", {}, 1.0, 0.0),
    ],
)
def test_a_density_at_the_end_of_its_support(name: str, fields: dict[str, float], t: float, density: float) -> None:
    assert rf.timestep_density(np.array([t]), config(name, truncate=True, **WIDE, **fields)).tolist() == [density]


@pytest.mark.parametrize(("p_mean", "p_std"), [(30.0, 0.5), (-40.0, 0.3), (2.0, 0.02)])
@pytest.mark.parametrize("name", ["logitnormal", "lognormal", "shifted_logitnormal"])
def test_a_density_holds_far_in_a_tail(name: str, p_mean: float, p_std: float) -> None:
    c = config(name, truncate=True, p_mean=p_mean, p_std=p_std)
    u, step = np.array([0.2, 0.5, 0.8]), 1e-6
    slope = 2 * step / (rf.timestep_quantile(u + step, c) - rf.timestep_quantile(u - step, c))
    assert rf.timestep_density(rf.timestep_quantile(u, c), c) == pytest.approx(slope, rel=1e-4)


def test_a_distribution_without_a_density_is_a_value_error_that_says_why(xp: Any) -> None:
    for name in ("shifted", "shifted_logitnormal", "polynomial"):
        for t in (0.5, xp.array(np.array([0.5]))):
            with pytest.raises(ValueError, match=f"'{name}' has no density"):
                rf.timestep_density(t, config(name))
    with pytest.raises(ValueError, match="'polynomial' has no density"):
        rf.timestep_density(0.5, config("polynomial", truncate=True))


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_float_t_that_is_not_finite_has_no_density(bad: float) -> None:
    with pytest.raises(ValueError, match="t must be finite, got"):
        rf.timestep_density(bad, config("uniform"))

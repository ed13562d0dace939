"""The timestep laws, against scipy.stats and exact arithmetic; bounds in every dtype; the config.

Generators and the frameworks they name are in test_random.py, bad input in test_errors.py.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import fastgen_rf as rf
from tests.cases.names import LAWS, PUBLISHED, every_law

NORMAL = ["logitnormal", "lognormal", "shifted_logitnormal"]
CONFIGS = [
    {},
    {"min_t": 0.0, "max_t": 1.0},
    {"min_t": 0.2, "max_t": 0.7, "shift": 1.0, "p_mean": -0.5, "p_std": 0.3},
    {"min_t": 0.02, "shift": 12.0, "p_mean": -1.2, "p_std": 1.6},
]
every_config = pytest.mark.parametrize("fields", CONFIGS, ids=["default", "unit", "narrow", "wide"])
U = np.concatenate(
    [1.0037 * np.logspace(-12, -2, 21), np.linspace(0.02034, 0.98034, 49), 1 - 1.0037 * np.logspace(-2, -12, 21)]
)


def laws_and_means(*means):
    """Each law with each p_mean, or with 0 where it has no such parameter."""
    return [(law, mean) for law in LAWS for mean in (means if law in NORMAL else [0.0])]


def config(law, **fields):
    return rf.SampleTimestepConfig(time_dist_type=law, **fields)


def truncated_normal(c):
    """Law of log t under "lognormal"."""
    low = (math.log(c.min_t) - c.p_mean) / c.p_std if c.min_t else -math.inf
    return stats.truncnorm(low, (math.log(c.max_t) - c.p_mean) / c.p_std, loc=c.p_mean, scale=c.p_std)


def expected(u, c):
    """Quantiles of a law by scipy.stats, or in rational arithmetic where the law is rational."""
    width = c.max_t - c.min_t
    if c.time_dist_type == "uniform":
        return stats.uniform(c.min_t, width).ppf(u)
    if c.time_dist_type == "logitnormal":
        return special.expit(stats.norm(c.p_mean, c.p_std).ppf(u)) * width + c.min_t
    if c.time_dist_type == "lognormal":
        return np.exp(truncated_normal(c).ppf(u))
    low, high, shift = Fraction(c.min_t), Fraction(c.max_t), Fraction(c.shift)
    if c.time_dist_type == "shifted":
        spread = [Fraction(v) * (high - low) + low for v in u.tolist()]
        return np.array([float(min(shift * v / (1 + (shift - 1) * v), high)) for v in spread])
    return np.array([float(low + math.floor(Fraction(v) * 1000) * (high - low) / 999) for v in u.tolist()])


# The laws


@pytest.mark.parametrize("law", PUBLISHED)
@every_config
@pytest.mark.needs("float64", "special")
def test_quantile_is_the_laws_inverse_cdf(xp, law, fields):
    c = config(law, **fields)
    got = xp.numpy(rf.timestep_quantile(xp.array(U, "float64"), c))
    assert got.dtype == np.float64
    assert got == pytest.approx(expected(U, c), rel=1e-11, abs=1e-13)


@every_law
@pytest.mark.needs("float64", "special")
def test_quantile_does_not_decrease(xp, law):
    u = np.sort(np.concatenate([U, np.random.default_rng(0).random(2000), [0.0, 1.0]]))
    t = xp.numpy(rf.timestep_quantile(xp.array(u, "float64"), config(law)))
    assert np.all(np.diff(t) >= 0)


@pytest.mark.needs("special")
@pytest.mark.dtypes()
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)], ids=str)
def test_quantile_keeps_us_shape_dtype_type_and_device(xp, dtype, shape):
    u = xp.array(np.full(shape, 0.5), dtype)
    t = rf.timestep_quantile(u, config("uniform"))
    assert type(t) is type(u)
    assert tuple(t.shape) == shape
    assert t.dtype == u.dtype
    assert xp.device_of(t) == xp.device


def cdf(c):
    """Distribution function of a continuous law whose upper clamp takes nothing off."""
    width = c.max_t - c.min_t
    return {
        "uniform": stats.uniform(c.min_t, width).cdf,
        "logitnormal": lambda t: stats.norm(c.p_mean, c.p_std).cdf(special.logit((t - c.min_t) / width)),
        "lognormal": lambda t: truncated_normal(c).cdf(np.log(t)),
        "shifted": lambda t: stats.uniform(c.min_t, width).cdf(t / (c.shift - (c.shift - 1) * t)),
    }[c.time_dist_type]


@pytest.mark.parametrize("law", ["uniform", "logitnormal", "lognormal", "shifted"])
@pytest.mark.parametrize("fields", [{}, {"min_t": 0.05, "shift": 2.0, "p_mean": -0.7, "p_std": 0.6}], ids=["a", "b"])
def test_draws_follow_the_law(xp, law, fields):
    c = config(law, max_t=1.0, **fields)
    t = rf.sample_timesteps(20_000, c, rng=xp.rng(11), **xp.draw_args)
    test = stats.kstest(np.asarray(xp.numpy(t), np.float64), cdf(c))
    assert test.pvalue > 1e-3
    assert test.statistic < 0.014  # a draw too regular to be random would pass the line above alone


def test_polynomial_draws_are_uniform_over_1000_points(xp):
    c = config("polynomial")
    t = np.asarray(xp.numpy(rf.sample_timesteps(20_000, c, rng=xp.rng(12), **xp.draw_args)), np.float64)
    step = Fraction(c.max_t) - Fraction(c.min_t)
    points = np.array([float(Fraction(c.min_t) + i * step / 999) for i in range(1000)])
    nearest = np.rint((t - c.min_t) / (c.max_t - c.min_t) * 999).astype(int)
    assert t == pytest.approx(points[nearest], rel=1e-7)
    counts = np.bincount(nearest, minlength=1000)
    assert counts.size == 1000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_draws_are_independent_of_their_neighbours(xp):
    u = np.asarray(xp.numpy(rf.sample_timesteps(20_001, config("uniform"), rng=xp.rng(5), **xp.draw_args)), np.float64)
    assert abs(stats.spearmanr(u[:-1], u[1:]).statistic) < 4 / math.sqrt(20_000)


@pytest.mark.needs("float64")
def test_draws_have_more_than_32_bits(xp):
    t = rf.sample_timesteps(
        2000, config("uniform", min_t=0.0, max_t=1.0), rng=xp.rng(3), dtype=xp.dtype("float64"), **xp.draw_args
    )
    fine = np.asarray(xp.numpy(t)) * 2.0**32 % 1
    assert stats.kstest(fine, stats.uniform.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("law", "there", "here"),
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
def test_a_law_that_counts_from_noise_to_data_is_this_one_s_mirror_image(law, there, here, truncate):
    theirs = config(law, min_t=0.0, max_t=0.98, truncate=truncate, **there)
    ours = config(law, min_t=1 - 0.98, max_t=1.0, truncate=truncate, **here)
    u = np.linspace(0.001, 0.999, 999)
    assert rf.timestep_quantile(u, ours) == pytest.approx(1 - rf.timestep_quantile(1 - u, theirs), rel=1e-12)


# The truncated lognormal in its tails


def test_lognormal_in_the_upper_tail_has_mean_0_9893(xp):
    c = config("lognormal", p_mean=1.0, p_std=0.1)
    t = np.asarray(xp.numpy(rf.sample_timesteps(20_000, c, rng=xp.rng(1), **xp.draw_args)), np.float64)
    assert t.mean() == pytest.approx(0.9893, abs=3e-4)


@pytest.mark.needs("float64", "special")
@pytest.mark.parametrize(
    ("p_mean", "p_std"),
    [(1.0, 0.1), (1.0, 0.05), (1.0, 0.01), (-8.0, 0.05), (-8.0, 0.01), (2.0, 1.0), (-20, 1)],
)
@pytest.mark.parametrize("min_t", [0.001, 0.99])
def test_lognormal_far_in_a_tail_is_the_truncated_normal_of_log_t(xp, p_mean, p_std, min_t):
    """The distance from the end where the mass lies is what truncation far in a tail makes small: compare that."""
    c = config("lognormal", p_mean=p_mean, p_std=p_std, min_t=min_t)
    log_t = np.log(xp.numpy(rf.timestep_quantile(xp.array(U, "float64"), c)))
    end = math.log(c.max_t) if p_mean > -1 else math.log(c.min_t)
    distance = np.abs(log_t - end)
    reference = np.abs(far_tail(U, c) - end)
    assert distance == pytest.approx(reference, rel=1e-10, abs=8e-15)


def far_tail(u, c):
    """Quantiles of log t by bisection on scipy's log CDFs, which do not underflow."""
    law = truncated_normal(c)
    low, high = np.full(u.shape, math.log(c.min_t)), np.full(u.shape, math.log(c.max_t))
    a, b = ((end - c.p_mean) / c.p_std for end in (low[0], high[0]))
    flip = a > 0  # measure from the upper tail, where the mass is the lower end's
    assert law.support() == pytest.approx((low[0], high[0]))
    for _ in range(100):
        middle = (low + high) / 2
        z = (middle - c.p_mean) / c.p_std
        below = tail_share(-z, -b, -a) > 1 - u if flip else tail_share(z, a, b) < u
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def tail_share(z, far, near):
    """Share of the normal's mass in [far, near] that lies below z, without underflow."""
    log_near = special.log_ndtr(near)
    farthest = np.exp(special.log_ndtr(far) - log_near)
    return (np.exp(special.log_ndtr(z) - log_near) - farthest) / (1 - farthest)


@pytest.mark.needs("float64", "special")
@pytest.mark.parametrize(("p_mean", "p_std"), [(1.0, 0.01), (1.0, 0.001), (50.0, 0.05), (3.0, 1e-5)])
def test_lognormal_far_above_max_t_decays_exponentially_from_it(xp, p_mean, p_std):
    c = config("lognormal", p_mean=p_mean, p_std=p_std)
    u = np.linspace(0.05, 0.95, 19)
    t = xp.numpy(rf.timestep_quantile(xp.array(u, "float64"), c))
    rate = (
        p_mean - math.log(c.max_t)
    ) / p_std**2  # of log t below log max_t; corrections are of order (rate p_std)**-2
    assert -np.log1p((t - c.max_t) / c.max_t) * rate == pytest.approx(-np.log(u), rel=2e-3 + 1e-15 * rate)


@pytest.mark.needs("float64", "special")
@pytest.mark.parametrize(("p_mean", "p_std"), [(-8.0, 0.01), (-8.0, 0.001), (-60.0, 0.05)])
def test_lognormal_far_below_min_t_decays_exponentially_from_it(xp, p_mean, p_std):
    c = config("lognormal", p_mean=p_mean, p_std=p_std)
    u = np.linspace(0.05, 0.95, 19)
    t = xp.numpy(rf.timestep_quantile(xp.array(u, "float64"), c))
    rate = (math.log(c.min_t) - p_mean) / p_std**2
    assert np.log1p((t - c.min_t) / c.min_t) * rate == pytest.approx(-np.log1p(-u), rel=2e-3 + 1e-15 * rate)


@pytest.mark.needs("float64", "special")
def test_lognormal_is_continuous_where_the_tail_formula_takes_over(xp):
    """20 standard deviations: just below and just above, the quantiles agree."""
    u = xp.array(U, "float64")
    sides = [20 * (1 - 1e-9), 20 * (1 + 1e-9)]
    for end, sign in ((math.log(0.999), 1), (math.log(0.001), -1)):
        below, above = (
            xp.numpy(rf.timestep_quantile(u, config("lognormal", p_mean=end + sign * z * 0.1, p_std=0.1)))
            for z in sides
        )
        assert below == pytest.approx(above, rel=1e-9)


@pytest.mark.parametrize(
    ("law", "p_mean"),
    [(law, p_mean) for law, p_mean in laws_and_means(-50.0, -8.0, 0.0, 8.0, 50.0) if law != "loguniform"],
)
def test_min_t_0_is_allowed(xp, law, p_mean):
    c = config(law, min_t=0.0, p_mean=p_mean)
    t = np.asarray(xp.numpy(rf.sample_timesteps(500, c, rng=xp.rng(2), **xp.draw_args)), np.float64)
    assert np.all((t >= 0) & (t <= 0.999))


@pytest.mark.needs("special")
def test_lognormal_with_min_t_0_is_not_truncated_below(xp):
    c = config("lognormal", min_t=0.0, max_t=1.0, p_mean=-8.0, p_std=0.5)
    t = xp.numpy(rf.timestep_quantile(xp.array(np.array([0.025, 0.5, 0.975])), c))
    assert np.log(t) == pytest.approx(stats.norm(-8.0, 0.5).ppf([0.025, 0.5, 0.975]), abs=1e-5)


# Bounds


def within(t, c):
    """Whether every t is inside as a real number; each dtype here embeds in float64."""
    wide = np.asarray(t).astype(np.float64)
    return bool(np.all((wide >= c.min_t) & (wide <= c.max_t)))


every_bound = pytest.mark.parametrize(("min_t", "max_t"), [(0.001, 0.999), (1e-30, 1.0), (1 / 3, 0.35)])


@every_law
@pytest.mark.dtypes()
@every_bound
def test_every_t_lies_within_the_bounds_as_a_real_number(xp, dtype, law, min_t, max_t):
    c = config(law, min_t=min_t, max_t=max_t)
    t = rf.sample_timesteps(1000, c, rng=xp.rng(6), dtype=xp.dtype(dtype), **xp.draw_args)
    assert t.dtype == xp.dtype(dtype)
    assert within(xp.numpy(t), c)


@every_law
@every_bound
def test_every_t_of_a_truncated_law_lies_within_the_bounds_as_a_real_number(xp, law, min_t, max_t):
    c = config(law, min_t=min_t, max_t=max_t, truncate=True)
    assert within(xp.numpy(rf.sample_timesteps(1000, c, rng=xp.rng(6), **xp.draw_args)), c)


@pytest.mark.needs("special")
@pytest.mark.dtypes()
@pytest.mark.parametrize(("law", "p_mean"), laws_and_means(-30.0, 0.0, 30.0))
def test_u_of_0_and_1_stay_inside(xp, dtype, law, p_mean):
    c = config(law, p_mean=p_mean)
    t = xp.numpy(rf.timestep_quantile(xp.array(np.array([0.0, 1e-30, 0.5, 1.0]), dtype), c))
    assert within(t, c)


@pytest.mark.dtypes("bfloat16")
def test_bf16_never_rounds_past_max_t(xp, dtype):
    c = config("uniform", min_t=0.99, max_t=0.999)  # bf16 has 0.9921875 and 0.99609375 there; 1.0 is nearer to 0.999
    t = rf.sample_timesteps(500, c, rng=xp.rng(0), dtype=xp.dtype(dtype), **xp.draw_args)
    assert sorted(set(xp.numpy(t).tolist())) == [0.9921875, 0.99609375]


@pytest.mark.needs("special", "bfloat16")
@pytest.mark.dtypes("bfloat16", "float16")
def test_rounding_is_to_nearest_inside_the_bounds(xp, dtype):
    bits = {"bfloat16": 8, "float16": 11}[dtype]
    u = np.random.default_rng(0).random(500).astype(np.float32)
    u = np.asarray(xp.numpy(xp.array(u, dtype)), np.float64)
    c = config("logitnormal", min_t=0.1, max_t=0.9)
    exact = [Fraction(t) for t in expected(u, c).tolist()]
    t = np.asarray(xp.numpy(rf.timestep_quantile(xp.array(u, dtype), c)), np.float64)
    step = [Fraction(2) ** (math.frexp(float(v))[1] - bits) for v in exact]
    errors = [abs(Fraction(got) - v) / s for got, v, s in zip(t.tolist(), exact, step, strict=True)]
    assert max(errors) <= Fraction(1, 2) + Fraction(1, 1000)


DTYPES_OF_NUMPY = ["float64", "float32", "float16"]


@pytest.mark.parametrize("dtype", DTYPES_OF_NUMPY)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    law=st.sampled_from(LAWS),
    truncate=st.booleans(),
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: pair[0] != pair[1]),
    closeness=st.sampled_from([1.0, 1e-3, 1e-8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_bounds_hold_or_have_nothing_between(dtype, law, truncate, bounds, closeness, seed):
    low, high = min(bounds), max(bounds)
    high = max(low + (high - low) * closeness, math.nextafter(low, 1))
    low = max(low, 5e-324) if law == "loguniform" else low
    c = config(law, min_t=low, max_t=high, truncate=truncate)
    edge = np.array(low).astype(dtype)  # the least number of the dtype that is at least low
    edge = np.nextafter(edge, np.array(2, dtype)) if float(edge) < low else edge
    if float(edge) > high:
        with pytest.raises(ValueError, match="no value in"):
            rf.sample_timesteps(20, c, rng=seed, xp=np, dtype=dtype)
    else:
        assert within(rf.sample_timesteps(20, c, rng=seed, xp=np, dtype=dtype), c)
        assert within(rf.timestep_quantile(np.array([0.0, 1.0], dtype), c), c)


@every_law
def test_bounds_with_one_value_between_give_it(xp, law):
    c = config(law, min_t=0.5 - 1e-9, max_t=0.5 + 1e-9)
    t = rf.sample_timesteps(10, c, rng=xp.rng(0), **xp.draw_args)
    assert xp.numpy(t).tolist() == [0.5] * 10


@every_law
def test_dtype_is_float32_by_default(xp, law):
    assert rf.sample_timesteps(3, config(law), rng=xp.rng(0), **xp.draw_args).dtype == xp.dtype("float32")
    assert rf.sample_from_t_list(3, [1.0, 0.0], rng=xp.rng(0), **xp.draw_args).dtype == xp.dtype("float32")


# Rungs


@pytest.mark.dtypes()
def test_rungs_are_drawn_uniformly_and_never_the_last(xp, dtype):
    rungs = [1.0, 0.75, 0.5, 0.25, 0.0]
    t = rf.sample_from_t_list(8000, rungs, rng=xp.rng(9), dtype=xp.dtype(dtype), **xp.draw_args)
    values, counts = np.unique(np.asarray(xp.numpy(t), np.float64), return_counts=True)
    assert t.dtype == xp.dtype(dtype)
    assert values.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.dtypes()
def test_two_rungs_leave_one_to_draw(xp, dtype):
    t = rf.sample_from_t_list(5, [0.75, 0.0], rng=xp.rng(9), dtype=xp.dtype(dtype), **xp.draw_args)
    assert np.asarray(xp.numpy(t), np.float64).tolist() == [0.75] * 5


@pytest.mark.parametrize("rungs", [[0.999, 0.937, 0.833, 0.624, 0.0], (1.0, 0.3, 0.0), np.array([0.9, 0.1, 0.0])])
@pytest.mark.dtypes("float64", "float32")
def test_rungs_are_rounded_as_the_dtype_rounds(xp, dtype, rungs):
    t = rf.sample_from_t_list(200, rungs, rng=xp.rng(9), dtype=xp.dtype(dtype), **xp.draw_args)
    assert sorted(set(xp.numpy(t).tolist())) == sorted(np.array(rungs[:-1], dtype).tolist())


@pytest.mark.dtypes()
@pytest.mark.parametrize("rung", [0.9999, 1 - 2.0**-30, 1 - 2.0**-53])
def test_a_rung_below_1_never_becomes_1(xp, dtype, rung):
    bits = {"float64": 53, "float32": 24, "bfloat16": 8, "float16": 11}[dtype]
    t = rf.sample_from_t_list(5, [rung, 0.0], rng=xp.rng(0), dtype=xp.dtype(dtype), **xp.draw_args)
    spacing = 2.0**-bits
    nearest = math.floor(rung / spacing + 0.5) * spacing if bits < 53 else rung
    assert np.asarray(xp.numpy(t), np.float64).tolist() == [min(nearest, 1 - spacing)] * 5


@pytest.mark.dtypes()
def test_a_rung_of_1_stays_1(xp, dtype):
    t = rf.sample_from_t_list(5, [1, 0], rng=xp.rng(0), dtype=xp.dtype(dtype), **xp.draw_args)
    assert np.asarray(xp.numpy(t), np.float64).tolist() == [1.0] * 5


@pytest.mark.parametrize("rungs", [(1.0, 0.75, 0.5, 0.25, 0.0), (0.999, 0.937, 0.833, 0.624, 0.0), (0.3, 0.0)])
@pytest.mark.dtypes()
def test_a_rung_s_index_comes_with_it(xp, dtype, rungs):
    how = {"dtype": xp.dtype(dtype), **xp.draw_args}
    t, index = rf.sample_from_t_list(200, rungs, rng=xp.rng(9), return_index=True, **how)
    alone = rf.sample_from_t_list(200, rungs, rng=xp.rng(9), **how)
    assert index.dtype == xp.dtype("int32")
    assert xp.device_of(index) == xp.device_of(t)
    assert xp.numpy(t).tolist() == xp.numpy(alone).tolist()
    wanted = np.asarray(rungs)[xp.numpy(index)]
    np.testing.assert_allclose(np.asarray(xp.numpy(t), np.float64), wanted, rtol=2.0**-8)
    assert set(xp.numpy(index).tolist()) == set(range(len(rungs) - 1))


# The config


def test_config_has_the_published_defaults():
    c = rf.SampleTimestepConfig()
    assert dataclasses.asdict(c) == {
        "time_dist_type": "shifted",
        "min_t": 0.001,
        "max_t": 0.999,
        "shift": 5.0,
        "p_mean": 0.0,
        "p_std": 1.0,
        "t_list": None,
        "truncate": False,
        "mode_scale": 1.29,
        "beta_a": 1.5,
        "beta_b": 1.0,
    }


@pytest.mark.parametrize("field", ["time_dist_type", "min_t", "p_std", "t_list"])
def test_config_is_frozen(field):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(rf.SampleTimestepConfig(), field, 0.5)


def test_equal_configs_are_equal_and_hash_alike():
    first, second = (rf.SampleTimestepConfig("uniform", 0, 1, t_list=[1, 0.5, 0]) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != rf.SampleTimestepConfig("uniform", 0, 1)


@pytest.mark.parametrize("t_list", [[1.0, 0.5, 0.0], (1.0, 0.5, 0.0), [1, 0.5, 0], np.array([1.0, 0.5, 0.0])], ids=repr)
def test_t_list_is_stored_as_a_tuple_of_floats(t_list):
    stored = rf.SampleTimestepConfig(t_list=t_list).t_list
    assert stored == (1.0, 0.5, 0.0)
    assert [type(stored)] + [type(rung) for rung in stored] == [tuple, float, float, float]


@every_law
def test_any_object_with_the_seven_attributes_serves_as_config(xp, law):
    c = config(law, min_t=0.1, max_t=0.6, p_mean=-1.0)
    foreign = SimpleNamespace(**dataclasses.asdict(c), something_else="ignored")
    ours, theirs = (rf.sample_timesteps(20, cfg, rng=xp.rng(4), **xp.draw_args) for cfg in (c, foreign))
    assert np.array_equal(xp.numpy(ours), xp.numpy(theirs))


def test_a_foreign_config_is_left_as_it_was():
    foreign = SimpleNamespace(**dataclasses.asdict(config("shifted", t_list=[1.0, 0.0])) | {"t_list": [1.0, 0.0]})
    before = dict(vars(foreign))
    rf.sample_timesteps(3, foreign, xp=np)
    assert vars(foreign) == before


def test_numpy_numbers_serve_as_fields():
    c = rf.SampleTimestepConfig(min_t=np.float64(0.25), max_t=np.float32(0.75), shift=np.int64(3))
    assert within(rf.sample_timesteps(50, c, rng=0, xp=np), c)

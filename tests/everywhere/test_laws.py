"""The laws that peers lack, truncation and densities: against scipy.stats, and CDFs written from the definitions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy import integrate, special, stats

import fastgen_rf as rf
from fastgen_rf._laws import LAWS

SCALED = ["uniform", "logitnormal", "mode", "cosmap", "beta"]
CLAMPED = ["shifted", "shifted_logitnormal"]
BOUNDED = ["lognormal", "loguniform"]
PARAMETERS = {
    "default": {},
    "other": {"shift": 2.5, "p_mean": -0.7, "p_std": 0.6, "mode_scale": -0.6, "beta_a": 1.0, "beta_b": 2.5},
    "more": {"shift": 12.0, "p_mean": 1.5, "p_std": 2.0, "mode_scale": 1.7, "beta_a": 0.5},
}
every_parameter = pytest.mark.parametrize("fields", PARAMETERS.values(), ids=list(PARAMETERS))
U = np.concatenate([np.logspace(-9, -2, 15), np.linspace(0.02, 0.98, 33), 1 - np.logspace(-2, -9, 15)])


def config(law, **fields):
    return rf.SampleTimestepConfig(time_dist_type=law, **fields)


def natural(c):
    """Distribution function of a law on its natural support, from its definition."""

    def unshifted(t):
        return np.asarray(t) / (c.shift - (c.shift - 1) * np.asarray(t))

    return {
        "uniform": lambda t: t,
        "logitnormal": lambda t: stats.norm(c.p_mean, c.p_std).cdf(special.logit(t)),
        "lognormal": lambda t: stats.lognorm(c.p_std, scale=math.exp(c.p_mean)).cdf(t),
        "shifted": unshifted,
        "shifted_logitnormal": lambda t: stats.norm(c.p_mean, c.p_std).cdf(special.logit(unshifted(t))),
        "mode": lambda t: mode_cdf(np.asarray(t), c.mode_scale),
        "cosmap": lambda t: 2 / np.pi * np.arctan(np.asarray(t) / (1 - np.asarray(t))),
        "beta": stats.beta(c.beta_a, c.beta_b).cdf,
        "loguniform": lambda t: np.log(np.asarray(t) / c.min_t) / math.log(1 / c.min_t),
    }[c.time_dist_type]


def mode_cdf(t, s):
    """Inverse of SD3's ``f(u) = 1 - u - s (cos(pi u / 2)**2 - 1 + u)``, which falls from 1 to 0: so ``1 - f^-1``."""
    low, high = np.zeros_like(t), np.ones_like(t)
    for _ in range(60):
        u = (low + high) / 2
        above = 1 - u - s * (np.cos(np.pi * u / 2) ** 2 - 1 + u) > t
        low, high = np.where(above, u, low), np.where(above, high, u)
    return np.where(t <= 0, 0.0, np.where(t >= 1, 1.0, 1 - high))


def cdf(c):
    """Distribution function of a law as its config places it; a clamp must take nothing off."""
    width = c.max_t - c.min_t
    if c.truncate or c.time_dist_type in BOUNDED:
        law = natural(c)
        low, high = float(law(c.min_t)), float(law(c.max_t)) if c.max_t < 1 else 1.0
        return lambda t: (law(t) - low) / (high - low)
    if c.time_dist_type in SCALED:
        return lambda t: natural(c)((np.asarray(t) - c.min_t) / width)
    base = cdf(config({"shifted": "uniform"}.get(c.time_dist_type, "logitnormal"), **fields_of(c)))
    return lambda t: base(np.asarray(t) / (c.shift - (c.shift - 1) * np.asarray(t)))


def fields_of(c):
    return {name: getattr(c, name) for name in ("min_t", "max_t", "p_mean", "p_std")}


# Quantiles


CASES = [
    *(pytest.param(law, {"max_t": 1.0}, id=f"{law}-clamped") for law in CLAMPED),
    *(pytest.param(law, {}, id=f"{law}-scaled") for law in SCALED + BOUNDED),
    *(pytest.param(law, {"truncate": True}, id=f"{law}-truncated") for law in CLAMPED + SCALED),
    *(pytest.param(law, {"truncate": True, "min_t": 0.2, "max_t": 0.6}, id=f"{law}-cut") for law in CLAMPED + SCALED),
    *(pytest.param(law, {"min_t": 0.2, "max_t": 0.6}, id=f"{law}-narrow") for law in SCALED + BOUNDED),
]
every_case = pytest.mark.parametrize(("law", "bounds"), CASES)


@every_case
@every_parameter
@pytest.mark.needs("float64", "special")
def test_quantile_inverts_the_laws_cdf(xp, law, bounds, fields):
    c = config(law, **bounds, **fields)
    t = xp.numpy(rf.timestep_quantile(xp.array(U, "float64"), c))
    below, above = (cdf(c)(t.clip(c.min_t, c.max_t) + side * 4 * np.spacing(t)) for side in (-1, 1))  # t has 53 bits
    slack = 1e-11 * np.minimum(U, 1 - U) + 1e-15
    assert np.all(np.isnan(below) | (below <= U + slack))  # NaN where that is outside of the law's support
    assert np.all(np.isnan(above) | (above >= U - slack))


@every_case
@pytest.mark.needs("special")
def test_draws_follow_the_law(xp, law, bounds):
    c = config(law, **bounds, **PARAMETERS["other"])
    t = np.asarray(xp.numpy(rf.sample_timesteps(10_000, c, rng=xp.rng(8), **xp.draw_args)), np.float64)
    test = stats.kstest(t, cdf(c))
    assert test.pvalue > 1e-4
    assert test.statistic < 0.022


@pytest.mark.backends("array_api_strict", "dask")
@pytest.mark.parametrize("law", SCALED + CLAMPED + BOUNDED + ["polynomial"])
def test_draws_without_special_functions_are_numpys(xp, law):
    t, numpys = (rf.sample_timesteps(1000, config(law), rng=8, **how) for how in (xp.draw_args, {"xp": np}))
    assert xp.numpy(t).tolist() == numpys.tolist()


@pytest.mark.needs("float64", "special")
@pytest.mark.parametrize("law", SCALED + CLAMPED)
@pytest.mark.parametrize("truncate", [False, True])
def test_u_of_0_and_1_give_the_ends_of_the_law(xp, law, truncate):
    c = config(law, truncate=truncate)
    low, high = xp.numpy(rf.timestep_quantile(xp.array(np.array([0.0, 1.0]), "float64"), c)).tolist()
    start = 0.005 / 1.004 if law in CLAMPED and not truncate else 0.001  # the shift of 0.001 by 5
    assert low == pytest.approx(start, rel=1e-12)
    assert high == pytest.approx(0.999, rel=1e-12)


@pytest.mark.parametrize("law", ["uniform", "lognormal", "loguniform", "polynomial"])
def test_a_law_that_fills_its_bounds_has_nothing_to_truncate(law):
    cut, whole = (rf.timestep_quantile(U, config(law, truncate=truncate)) for truncate in (True, False))
    assert cut.tolist() == whole.tolist()


@pytest.mark.needs("float64", "special")
@pytest.mark.parametrize(
    ("law", "fields"),
    [
        ("logitnormal", {"p_mean": 30.0, "p_std": 0.5}),
        ("logitnormal", {"p_mean": -40.0, "p_std": 0.3}),
        ("shifted_logitnormal", {"p_mean": 12.0, "p_std": 0.2}),
        ("lognormal", {"p_mean": 9.0, "p_std": 0.2}),
    ],
)
def test_truncation_far_in_a_tail_decays_exponentially_from_the_bound(xp, law, fields):
    """Far out a normal tail is exponential: of rate ``|bound - p_mean| / p_std**2`` in the normal variable."""
    c = config(law, truncate=True, **fields)
    t = xp.numpy(rf.timestep_quantile(xp.array(np.linspace(0.1, 0.9, 9), "float64"), c))
    variable = np.log if law == "lognormal" else special.logit
    mean = c.p_mean + (math.log(c.shift) if law == "shifted_logitnormal" else 0)
    upper = c.p_mean > 0
    bound = variable(c.max_t if upper else c.min_t)
    rate = abs(bound - mean) / c.p_std**2
    share = np.linspace(0.1, 0.9, 9) if upper else np.linspace(0.9, 0.1, 9)
    assert np.abs(variable(t) - bound) * rate == pytest.approx(-np.log(share), rel=2e-2)


@pytest.mark.parametrize(
    ("shift", "max_t", "share"), [(5.0, 0.999, 0.0040), (5.0, 0.98, 0.0742), (8.0, 0.98, 0.1229)], ids=str
)
def test_the_published_shift_piles_up_at_max_t_and_truncation_does_not(xp, shift, max_t, share):
    piled, cut = (
        np.asarray(xp.numpy(rf.sample_timesteps(20_000, c, rng=xp.rng(3), **xp.draw_args)), np.float64)
        for c in (config("shifted", shift=shift, max_t=max_t, truncate=truncate) for truncate in (False, True))
    )
    top = max_t - 1e-6  # float32
    assert np.mean(piled > top) == pytest.approx(share, abs=4 * math.sqrt(share / 20_000))
    assert np.mean(cut > top) < 1e-3
    assert piled.min() > shift * 0.001 / (1 + (shift - 1) * 0.001) - 1e-6
    assert rf.timestep_quantile(0.0, config("shifted", truncate=True)) == 0.001


def test_pi0_draws_its_own_law(xp):
    """``t = 0.999 Beta(1.5, 1) + 0.001``."""
    c = config("beta", min_t=0.001, max_t=1.0)
    t = np.asarray(xp.numpy(rf.sample_timesteps(10_000, c, rng=xp.rng(1), **xp.draw_args)), np.float64)
    theirs = np.random.default_rng(2).beta(1.5, 1.0, 10_000) * 0.999 + 0.001
    assert stats.ks_2samp(t, theirs).pvalue > 1e-4


@pytest.mark.parametrize("p_mean", [0.0, 4.0, -15.0])
@pytest.mark.parametrize("p_std", [1e6, 1e10, 1e17])
def test_a_law_much_wider_than_its_bounds_is_flat_in_its_variable(p_mean, p_std):
    """The logit of t becomes uniform between the bounds' logits, denser towards p_mean by a term of order 1 / p_std."""
    c = config("logitnormal", truncate=True, p_mean=p_mean * p_std, p_std=p_std)
    low, high = special.logit(c.min_t), special.logit(c.max_t)
    u = np.linspace(0.1, 0.9, 9)
    t = rf.timestep_quantile(u, c)
    bend = p_mean * (high - low) / p_std * u * (1 - u) / 2  # the exponential's first order
    assert (special.logit(t) - low) / (high - low) == pytest.approx(u + bend, abs=1e-9)
    flat = 1 / ((high - low) * t * (1 - t))
    assert rf.timestep_density(t, c) == pytest.approx(flat, rel=1e-4)


@pytest.mark.parametrize("law", ["logitnormal", "lognormal"])
@pytest.mark.parametrize("p_mean", [0.0, -3.0])
def test_narrow_bounds_leave_a_line(law, p_mean):
    c = config(law, truncate=True, min_t=0.3, max_t=0.3 + 1e-9, p_mean=p_mean)
    u = np.linspace(0, 1, 11)
    assert (rf.timestep_quantile(u, c) - 0.3) / 1e-9 == pytest.approx(u, abs=3e-7)  # of which 2e-7 are t's own digits
    assert rf.timestep_density(np.array([0.3 + 5e-10]), c) == pytest.approx(1e9, rel=1e-6)


# A float, or any array


@pytest.mark.parametrize("law", SCALED + CLAMPED + BOUNDED + ["polynomial"])
def test_a_float_u_gives_the_float_that_an_array_gives(law):
    c = config(law)
    many = np.random.default_rng(0).random(500)
    assert [rf.timestep_quantile(u, c) for u in many.tolist()] == rf.timestep_quantile(many, c).tolist()
    got = [rf.timestep_quantile(u, c) for u in [0.0, 0.3, np.float64(0.7), 1.0, 0, 1]]
    assert {type(t) for t in got} == {float}
    assert got == rf.timestep_quantile(np.array([0.0, 0.3, 0.7, 1.0, 0.0, 1.0]), c).tolist()


@pytest.mark.needs("special")
@pytest.mark.parametrize("law", SCALED + CLAMPED + BOUNDED + ["polynomial"])
def test_u_outside_of_0_and_1_is_clipped_in_an_array_and_nan_stays(xp, law):
    t = xp.numpy(rf.timestep_quantile(xp.array(np.array([-0.5, 0.0, 1.0, 1.5, math.nan])), config(law)))
    assert t[0] == t[1]
    assert t[2] == t[3]
    assert np.isnan(t[4])


@pytest.mark.needs("special")
@pytest.mark.dtypes()
@pytest.mark.parametrize("law", SCALED + CLAMPED + BOUNDED + ["polynomial"])
def test_quantile_does_not_decrease_in_any_dtype(xp, dtype, law):
    u = np.sort(np.random.default_rng(0).random(3000))
    t = np.asarray(xp.numpy(rf.timestep_quantile(xp.array(u, dtype), config(law, truncate=True))), np.float64)
    assert np.all(np.diff(t) >= 0)


# Densities


def with_density():
    for case in CASES:
        law, bounds = case.values
        if law not in CLAMPED or bounds.get("truncate"):
            yield case


every_density = pytest.mark.parametrize(("law", "bounds"), list(with_density()))


@every_density
@every_parameter
def test_density_integrates_to_1_between_any_two_quantiles(law, bounds, fields):
    c = config(law, **bounds, **fields)
    shares = [1e-3, 0.03, 0.2, 0.5, 0.8, 0.97, 1 - 1e-3]
    ends = [rf.timestep_quantile(u, c) for u in shares]
    got = [
        integrate.quad(lambda t: rf.timestep_density(t, c), low, high, epsabs=1e-13, epsrel=1e-11)[0]
        for low, high in itertools.pairwise(ends)
    ]
    assert got == pytest.approx(np.diff(shares).tolist(), rel=1e-8)


@every_density
@every_parameter
@pytest.mark.needs("float64")
def test_density_is_the_slope_of_the_cdf(xp, law, bounds, fields):
    c = config(law, **bounds, **fields)
    t = np.linspace(c.min_t, c.max_t, 41)[1:-1]
    step = 1e-5 * np.minimum(t - c.min_t, c.max_t - t)
    law_cdf = cdf(c)
    slope = (law_cdf(t + step) - law_cdf(t - step)) / (2 * step)
    got = xp.numpy(rf.timestep_density(xp.array(t, "float64"), c))
    assert got == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(("law", "bounds"), [case for case in with_density() if "min_t" not in case.values[1]])
@pytest.mark.dtypes()
@pytest.mark.needs("float64")
def test_density_is_0_outside_in_ts_dtype(xp, dtype, law, bounds):
    c = config(law, **bounds)
    outside = [-1.0, -0.0, 0.9 * c.min_t, 1.5, math.inf, -math.inf]
    t = xp.array(np.array([*outside, (c.min_t + c.max_t) / 2, math.nan]), dtype)
    got = rf.timestep_density(t, c)
    assert got.dtype == t.dtype
    values = np.asarray(xp.numpy(got), np.float64)
    assert values[:6].tolist() == [0.0] * 6
    assert values[6] > 0.01
    assert np.isnan(values[7])


@every_density
@every_parameter
def test_density_of_a_float_is_the_float_that_an_array_gives(law, bounds, fields):
    c = config(law, **bounds, **fields)
    times = [-1.0, 0.0, 0, c.min_t, 0.3, np.float64(0.45), c.max_t, 1, 7.5]
    got = [rf.timestep_density(t, c) for t in times]
    assert {type(value) for value in got} == {float}
    assert got == rf.timestep_density(np.array(times, np.float64), c).tolist()


def test_an_infinite_density_at_a_bound_is_infinity_without_a_warning():
    ends = np.array([0.001, 0.999])
    assert rf.timestep_density(ends, config("beta", beta_a=0.5)).tolist()[0] == math.inf
    assert rf.timestep_density(ends, config("beta", beta_a=1.0, beta_b=0.5)).tolist()[1] == math.inf


@pytest.mark.parametrize(("law", "shift"), [("logitnormal", 1.0), ("shifted_logitnormal", 4.0)])
def test_the_slope_at_an_end_divides_by_the_tail_beyond_it(law, shift):
    c = config(law, p_mean=0.4, p_std=2.5, shift=shift)
    normal = stats.norm(0.4 + math.log(shift), 2.5)
    wanted = normal.cdf(special.logit(0.05)), normal.sf(special.logit(0.9))
    assert LAWS[law].ends(c, 0.05, 0.9) == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_beta_of_two_ones_is_uniform_up_to_its_ends(end):
    c = config("beta", min_t=0.0, max_t=1.0, beta_a=1.0, beta_b=1.0)
    assert rf.timestep_density(end, c) == 1.0


def test_the_quantile_of_beta_keeps_its_digits_next_to_0():
    c = config("beta", truncate=True, min_t=0.0, max_t=1.0, beta_a=1.0, beta_b=2.5)
    assert rf.timestep_quantile(1e-12, c) == pytest.approx(1e-12 / 2.5, rel=1e-11, abs=0)


def test_the_density_of_lognormal_is_0_at_0_without_a_warning():
    assert rf.timestep_density(np.zeros(2), config("lognormal", min_t=0.0, max_t=1.0)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("p_mean", "p_std"), [(30.0, 0.5), (-40.0, 0.3), (2.0, 0.02)])
@pytest.mark.parametrize("law", ["logitnormal", "lognormal", "shifted_logitnormal"])
def test_density_holds_far_in_a_tail(law, p_mean, p_std):
    c = config(law, truncate=True, p_mean=p_mean, p_std=p_std)
    u = np.array([0.2, 0.5, 0.8])
    t = rf.timestep_quantile(u, c)
    step = 1e-6
    slope = 2 * step / (rf.timestep_quantile(u + step, c) - rf.timestep_quantile(u - step, c))
    assert rf.timestep_density(t, c) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(
    ("min_t", "max_t", "p_mean", "p_std"),
    [
        (0.5, 0.51, -20.0, 0.8),  # 24 standard deviations off, over which the density falls by half
        (0.5, 0.51, 20.0, 0.8),
        (0.0, 1.0, 30.0, 1.0),  # all of a tail
        (0.5, 0.500002, -5.5, 0.5),  # 8e-6 standard deviations wide, 10 of them off
    ],
)
def test_quantile_and_density_of_a_far_or_narrow_normal_law_are_mpmath_s(min_t, max_t, p_mean, p_std):
    c = config("lognormal", truncate=True, min_t=min_t, max_t=max_t, p_mean=p_mean, p_std=p_std)
    u = np.array([0.01, 0.5, 0.99])
    times = rf.timestep_quantile(u, c)
    with mpmath.workdps(60):

        def tail(t):
            return mpmath.ncdf(-abs(mpmath.log(t) - p_mean) / p_std) if t else mpmath.mpf(0)

        mass = tail(max_t) - tail(min_t)  # signed, as the law lies below or above
        shares = [float((tail(float(t)) - tail(min_t)) / mass) for t in times]
        density = [float(mpmath.npdf(mpmath.log(float(t)), p_mean, p_std) / abs(mass) / float(t)) for t in times]
    assert shares == pytest.approx(u.tolist(), abs=1e-13 / (max_t - min_t))
    assert rf.timestep_density(times, c).tolist() == pytest.approx(density, rel=1e-10)


@pytest.mark.parametrize(
    ("law", "fields", "t"),
    [
        *((law, {}, t) for law in ("logitnormal", "shifted_logitnormal") for t in (0.0, 1.0)),
        ("beta", {"beta_a": 2.5, "beta_b": 1.0}, 0.0),
        ("beta", {"beta_a": 1.0, "beta_b": 2.5}, 1.0),
    ],
)
def test_a_density_that_ends_at_0_is_0_there(law, fields, t):
    assert rf.timestep_density(t, config(law, truncate=True, min_t=0.0, max_t=1.0, **fields)) == 0.0


@pytest.mark.parametrize("law", [*CLAMPED, "polynomial"])
def test_a_law_without_a_density_says_why(xp, law):
    word = "discrete" if law == "polynomial" else "point mass"
    for t in (0.5, xp.array(np.array([0.5]))):
        with pytest.raises(ValueError, match=f"'{law}' has no density.*{word}"):
            rf.timestep_density(t, config(law))


def test_polynomial_has_no_density_when_truncated_either():
    with pytest.raises(ValueError, match="'polynomial' has no density"):
        rf.timestep_density(0.5, config("polynomial", truncate=True))


@pytest.mark.needs("no float64")
def test_density_on_a_device_without_float64_is_a_type_error(xp):
    with pytest.raises(TypeError, match=r"t is on device .* lacks float64.* NumPy array as t"):
        rf.timestep_density(xp.array(np.array([0.5])), config("uniform"))


# Bad parameters


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        *(("mode_scale", value) for value in (-1.0, -1.5, 2 / (math.pi - 2), 1.8, math.nan, math.inf)),
        *(("beta_a", value) for value in (0.0, -1.0, math.nan, math.inf)),
        *(("beta_b", value) for value in (0.0, -1.0, 2.0, math.nan)),  # beta_a is 1.5: one of them must be 1
    ],
)
def test_parameters_out_of_range_are_value_errors_at_construction(field, bad):
    with pytest.raises(ValueError, match=field):
        config("uniform", **{field: bad})


@pytest.mark.parametrize("field", ["mode_scale", "beta_a", "beta_b"])
@pytest.mark.parametrize("bad", ["1", None, True, 1j], ids=repr)
def test_parameters_that_are_no_numbers_are_type_errors(field, bad):
    with pytest.raises(TypeError, match=f"{field} must be a real number"):
        config("uniform", **{field: bad})


@pytest.mark.parametrize("bad", [1, "yes", None], ids=repr)
def test_truncate_is_true_or_false(bad):
    with pytest.raises(TypeError, match="truncate must be True or False"):
        config("uniform", truncate=bad)


def test_fields_are_stored_as_python_floats():
    c = config("uniform", min_t=Fraction(1, 100), max_t=np.float32(0.75), shift=5)
    assert [type(x) for x in (c.min_t, c.max_t, c.shift, c.mode_scale)] == [float] * 4


def test_loguniform_needs_a_positive_min_t():
    with pytest.raises(ValueError, match="min_t must be positive for time_dist_type='loguniform', got 0"):
        config("loguniform", min_t=0.0)
    assert config("uniform", min_t=0.0).min_t == 0


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_a_float_u_outside_of_0_and_1_is_a_value_error(bad):
    with pytest.raises(ValueError, match=r"u must lie in \[0, 1\], got"):
        rf.timestep_quantile(bad, config("uniform"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_float_t_that_is_not_finite_has_no_density(bad):
    with pytest.raises(ValueError, match="t must be finite, got"):
        rf.timestep_density(bad, config("uniform"))


def test_an_integer_array_has_no_density():
    with pytest.raises(TypeError, match=r"^t must be a real floating array, got dtype int64"):
        rf.timestep_density(np.ones(2, np.int64), config("uniform"))


@pytest.mark.parametrize("bad", [2, 500, True])
def test_an_integer_t_is_told_to_divide(bad):
    with pytest.raises(TypeError, match="t must be a float"):
        rf.timestep_density(bad, config("uniform"))

"""Any law, config and draw: bounds, distribution and streams, against scipy's distribution functions and NumPy."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastgen_rf as rf
from tests.cases.any_arrays import PRECISION, dtypes, exactly, few, shapes
from tests.everywhere.test_laws import cdf

LAWS = ["uniform", "logitnormal", "lognormal", "shifted", "polynomial"]
LAWS += ["shifted_logitnormal", "mode", "cosmap", "beta", "loguniform"]
NUMPY = {"float64": np.float64, "float32": np.float32, "float16": np.float16}


FEW = [
    rf.SampleTimestepConfig(law, low, high, shift, mean, std, truncate=truncate, mode_scale=scale, beta_a=a, beta_b=b)
    for truncate in (False, True)
    for low, high, shift, mean, std, scale, a, b in [
        (0.02, 0.9, 3.0, -0.5, 0.8, 1.0, 1.5, 1.0),
        (0.3, 0.7, 0.5, 1.0, 1.5, -0.5, 1.0, 0.7),
    ]
    for law in LAWS
]


@st.composite
def configs(draw: Any, xp: Any, moderate: bool = False) -> rf.SampleTimestepConfig:
    """Configs of every law; moderate ones are such that a distribution function in float64 can tell."""
    if xp.name == "jax":  # which compiles anew for each
        return draw(st.sampled_from(few([c for c in FEW if not moderate or c.time_dist_type != "polynomial"])))
    law = draw(st.sampled_from(LAWS[:4] + LAWS[5:] if moderate else LAWS))
    low, high = sorted(draw(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2, unique=True)))
    if moderate:
        low, high = 0.01 + 0.4 * low, 0.5 + 0.49 * high
    if law == "loguniform":
        low, high = max(low, 1e-9), max(high, 2e-9)
    beta = draw(st.floats(0.5, 4) if moderate else st.floats(0.01, 50))
    return rf.SampleTimestepConfig(
        time_dist_type=law,
        min_t=low,
        max_t=high,
        shift=draw(st.floats(0.3, 6) if moderate else st.floats(1e-3, 1e3)),
        p_mean=draw(st.floats(-1, 1) if moderate else st.floats(-50, 50)),
        p_std=draw(st.floats(0.5, 2) if moderate else st.floats(1e-3, 50)),
        truncate=draw(st.booleans()),
        mode_scale=draw(st.floats(-0.9, 1.6)),
        **draw(st.sampled_from([{"beta_a": beta, "beta_b": 1.0}, {"beta_a": 1.0, "beta_b": beta}])),
    )


def as_foreign(c: rf.SampleTimestepConfig) -> Any:
    """The same config as another library's object, with NumPy's numbers."""
    return SimpleNamespace(**{name: np.float64(x) if type(x) is float else x for name, x in vars(c).items()})


def sizes(xp: Any) -> Any:
    """How many to draw, or in which shape; few of them for JAX, which compiles anew for each."""
    if xp.name == "jax":
        return st.sampled_from(few([(2, 3), 7, 0, ()]))
    return st.one_of(st.integers(0, 40), st.tuples(st.integers(0, 5), st.integers(0, 5)), st.just(()))


seeds = st.one_of(st.integers(0, 100), st.integers(0, 2**200))


def is_empty(c: rf.SampleTimestepConfig, dtype: str) -> bool:
    """Whether no number of the dtype lies in the bounds."""
    bits, least, _ = PRECISION[dtype]
    exponent = max(math.frexp(c.max_t)[1] - 1, least)
    step = Fraction(2) ** (exponent - bits + 1)
    return math.floor(Fraction(c.max_t) / step) * step < Fraction(c.min_t)


@given(data=st.data())
def test_any_draw_lies_in_its_bounds_and_a_seed_repeats_it(xp: Any, data: Any) -> None:
    c, n, dtype = data.draw(configs(xp)), data.draw(sizes(xp)), data.draw(dtypes(xp))
    stratified, seed = data.draw(st.booleans()), data.draw(seeds)
    rng = data.draw(st.sampled_from([lambda: seed, lambda: xp.rng(seed % 2**32), lambda: np.random.default_rng(seed)]))
    shares = st.sampled_from(few([0.75, 1.0, 0.0])) if xp.name == "jax" else st.floats(0, 1)
    paired, equal = data.draw(st.booleans()), data.draw(shares)
    args = {**xp.draw_args, "dtype": xp.dtype(dtype), "stratified": stratified}

    def sample(cfg: Any) -> tuple[Any, ...]:
        if paired:
            return rf.sample_timestep_pairs(n, cfg, equal=equal, rng=rng(), **args)
        return (rf.sample_timesteps(n, cfg, rng=rng(), **args),)

    if is_empty(c, dtype):
        with pytest.raises(ValueError, match=r"dtype .* has no value in"):
            sample(c)
        return
    drawn = sample(c)
    for t in drawn:
        assert tuple(t.shape) == (n if isinstance(n, tuple) else (n,))
        assert t.dtype == xp.dtype(dtype)
        assert xp.device_of(t) == xp.device
        host = exactly(xp, t)
        assert np.all((host >= c.min_t) & (host <= c.max_t))
    if paired:
        assert np.all(exactly(xp, drawn[1]) <= exactly(xp, drawn[0]))
        if equal == 1:
            np.testing.assert_array_equal(exactly(xp, drawn[1]), exactly(xp, drawn[0]))
    for t, again in zip(drawn, sample(as_foreign(c)), strict=True):
        np.testing.assert_array_equal(exactly(xp, t), exactly(xp, again))
    if stratified and not paired and c.time_dist_type == "uniform" and dtype == "float64" and c.max_t - c.min_t > 1e-3:
        count = math.prod(tuple(t.shape))
        place = np.sort(((exactly(xp, t) - c.min_t) / (np.longdouble(c.max_t) - c.min_t) * count).ravel())
        assert np.all((place >= np.arange(count) - 1e-9) & (place <= np.arange(1, count + 1) + 1e-9))


@given(data=st.data())
def test_a_numpy_generator_draws_the_same_everywhere(xp: Any, data: Any) -> None:
    c, n, dtype = (
        data.draw(configs(xp)),
        data.draw(st.integers(0, 20)),
        data.draw(dtypes(xp).filter(NUMPY.__contains__)),
    )
    assume(not is_empty(c, dtype))
    seed, stratified = data.draw(seeds), data.draw(st.booleans())
    here, there = (
        rf.sample_timesteps(n, c, rng=np.random.default_rng(seed), stratified=stratified, **args)
        for args in ({**xp.draw_args, "dtype": xp.dtype(dtype)}, {"dtype": NUMPY[dtype]})
    )
    # PyTorch rounds to 16 bits by way of float32, and a clamp to the bounds follows
    tolerance = 2.0**-11 if dtype == "float16" and xp.name == "torch" else 0
    np.testing.assert_allclose(exactly(xp, here), there.astype(np.longdouble), rtol=tolerance, atol=0)


@given(data=st.data())
def test_any_rung_drawn_is_one_of_the_list_and_its_index_says_which(xp: Any, data: Any) -> None:
    lists = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=6, unique=True)
    if xp.name == "jax":
        lists = st.sampled_from(few([[0.3, 0.9], [0.999], [1.0, 0.5, 0.25], [0.9999999, 0.1], [1 - 2.0**-30, 0.7]]))
    inner = data.draw(lists)
    t_list = [*sorted(inner, reverse=True), 0.0]
    given = data.draw(st.sampled_from([list, tuple, np.array, lambda rungs: xp.array(rungs, "float32")]))(t_list)
    n, dtype = data.draw(sizes(xp)), data.draw(dtypes(xp))
    if not isinstance(given, (list, tuple)):
        t_list = given.tolist() if isinstance(given, np.ndarray) else exactly(xp, given).tolist()
        assume(all(high > low for high, low in itertools.pairwise(t_list)))  # in float32, too
    args = {**xp.draw_args, "dtype": xp.dtype(dtype), "rng": data.draw(seeds)}
    t, index = rf.sample_from_t_list(n, given, return_index=True, **args)
    np.testing.assert_array_equal(exactly(xp, t), exactly(xp, rf.sample_from_t_list(n, given, **args)))
    rungs = exactly(xp, xp.array(np.array(t_list, np.float64), dtype))
    below = np.longdouble(1) - np.longdouble(2) ** -PRECISION[dtype][0]
    wanted = np.where((rungs == 1) & (np.array(t_list) < 1), below, rungs)
    at = np.asarray(xp.numpy(index))
    assert at.shape == (n if isinstance(n, tuple) else (n,))
    assert at.size == 0 or (at.min() >= 0 and at.max() < len(t_list) - 1)
    np.testing.assert_array_equal(exactly(xp, t), wanted[at])


@given(data=st.data())
@pytest.mark.needs("special")
def test_any_quantile_lies_in_its_bounds_and_does_not_decrease(xp: Any, data: Any) -> None:
    c, dtype = data.draw(configs(xp)), data.draw(dtypes(xp))
    shape = data.draw(shapes(xp).filter(lambda shape: math.prod(shape) < 1000))
    host = np.random.default_rng(data.draw(st.integers(0, 2**32))).random(shape)
    host = np.where(host < 0.1, 0.0, np.where(host > 0.9, 1.0, host))
    u = xp.array(host, dtype)
    if is_empty(c, dtype):
        with pytest.raises(ValueError, match=r"dtype .* has no value in"):
            rf.timestep_quantile(u, c)
        return
    t = rf.timestep_quantile(u, c)
    assert type(t) is type(u)
    assert tuple(t.shape) == shape
    assert t.dtype == u.dtype
    got = exactly(xp, t)
    assert np.all((got >= c.min_t) & (got <= c.max_t))
    order = np.argsort(exactly(xp, u).ravel())
    slack = 2.0**-50 if dtype == "float64" else 0
    assert np.all(np.diff(got.ravel()[order]) >= -slack)


@given(data=st.data())
@pytest.mark.needs("special", "float64")
def test_a_quantile_is_where_the_distribution_function_says_and_the_density_its_slope(xp: Any, data: Any) -> None:
    c = data.draw(configs(xp, moderate=True))
    u = data.draw(st.lists(st.floats(0.02, 0.98), min_size=1, max_size=3))
    as_array = data.draw(st.booleans())
    if as_array:
        t = xp.numpy(rf.timestep_quantile(xp.array(np.array(u), "float64"), c))
    else:
        t = np.array([rf.timestep_quantile(value, c) for value in u])
    law = cdf(c)
    for value, at in zip(u, t.tolist(), strict=True):
        # where a clamp takes something off, the distribution function has a jump
        if c.min_t * (1 + 1e-6) < at < c.max_t * (1 - 1e-6):
            assert float(law(at)) == pytest.approx(value, abs=1e-9)
    if c.time_dist_type in ("shifted", "shifted_logitnormal") and not c.truncate:
        return  # it has none
    if as_array:
        density = xp.numpy(rf.timestep_density(xp.array(t, "float64"), c)).tolist()
    else:
        density = [rf.timestep_density(at, c) for at in t.tolist()]
    step = 1e-5
    for at, got in zip(t.tolist(), density, strict=True):
        if c.min_t + 2 * step < at < c.max_t - 2 * step:
            slope = (float(law(at + step)) - float(law(at - step))) / (2 * step)
            assert got == pytest.approx(slope, rel=1e-3, abs=1e-6)


@given(steps=st.integers(1, 60), shift=st.floats(0.05, 20), max_t=st.floats(0.05, 1.0))
def test_any_t_list_is_what_it_says(steps: int, shift: float, max_t: float) -> None:
    rungs = rf.make_t_list(steps, shift=shift, max_t=max_t)
    s, top = Fraction(shift), Fraction(max_t)
    shifted = [s * t / (1 + (s - 1) * t) for t in (top * (1 - Fraction(i, steps)) for i in range(steps + 1))]
    assert list(rungs) == pytest.approx([float(top * t / shifted[0]) for t in shifted], rel=1e-13)
    assert rungs[0] == max_t
    assert rungs[-1] == 0.0
    assert np.all(np.diff(np.float32(rungs)) < 0)

"""Pairs of times: the larger and the smaller of two draws, or the larger one twice, and samples of any shape."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from scipy import stats

import fastgen_rf as rf
from fastgen_rf._draws import Pairs, Quantile

UNIFORM = rf.SampleTimestepConfig(time_dist_type="uniform", min_t=0.0, max_t=1.0)
NORMAL = rf.SampleTimestepConfig(time_dist_type="logitnormal", p_mean=-0.4, min_t=0.0, max_t=1.0)


def pairs(n, cfg=UNIFORM, seed=0, **options):
    t, r = rf.sample_timestep_pairs(n, cfg, rng=np.random.default_rng(seed), dtype=np.float64, **options)
    return t, r


@pytest.mark.dtypes("float32", "float64", "bfloat16")
@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("law", ["uniform", "shifted", "lognormal", "polynomial", "beta"])
def test_both_times_are_inside_and_in_order(xp, dtype, stratified, law):
    cfg = rf.SampleTimestepConfig(time_dist_type=law)
    t, r = rf.sample_timestep_pairs(512, cfg, rng=3, **xp.draw_args, dtype=xp.dtype(dtype), stratified=stratified)
    assert t.dtype == r.dtype == xp.dtype(dtype)
    t, r = (xp.numpy(time).astype(np.float64) for time in (t, r))
    assert t.shape == r.shape == (512,)
    assert np.all((cfg.min_t <= r) & (r <= t) & (t <= cfg.max_t))
    assert np.any(r < t)
    assert np.any(r == t)


@pytest.mark.parametrize("equal", [0, 0.0, 1, 1.0])
@pytest.mark.parametrize("stratified", [False, True])
def test_none_or_all_are_equal(equal, stratified):
    t, r = pairs(1000, equal=equal, stratified=stratified)
    assert np.count_nonzero(t == r) == 1000 * equal


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_as_many_stratified_pairs_are_equal_where_u_is_0_or_rounds_to_1(place):
    identity = Quantile(lambda u, config, xp, special: u, None, 0.0, 1.0)
    strata = np.stack([np.arange(64), np.roll(np.arange(64), 1), np.arange(64)])
    t, r = Pairs(identity, True, 0.75).times(np.array([[0.5], [0.5], [place]]), strata, 64, np, None)
    assert np.count_nonzero(t == r) == 48


@pytest.mark.parametrize(("n", "equal", "count"), [(64, 0.75, 48), (256, 0.75, 192), (1, 1.0, 1), (10, 0.3, 3)])
def test_stratified_pairs_are_equal_in_a_fixed_number(n, equal, count):
    counts = {np.count_nonzero(np.equal(*pairs(n, seed=seed, equal=equal, stratified=True))) for seed in range(200)}
    assert counts == {count}


@pytest.mark.parametrize(("n", "equal", "counts"), [((8, 8), 0.75, {48}), (1000, 0.333, {333}), (50, 0.45, {22, 23})])
def test_the_number_of_stratified_equal_pairs_is_rounded_on_every_framework(xp, n, equal, counts):
    for seed in range(5):
        t, r = rf.sample_timestep_pairs(n, UNIFORM, equal=equal, rng=xp.rng(seed), **xp.draw_args, stratified=True)
        assert np.count_nonzero(xp.numpy(t) == xp.numpy(r)) in counts


def test_the_number_of_stratified_equal_pairs_is_rounded_without_bias():
    counts = [np.count_nonzero(np.equal(*pairs(6, seed=seed, equal=0.4, stratified=True))) for seed in range(4000)]
    assert set(counts) == {2, 3}
    assert abs(np.mean(counts) - 2.4) < 4 * np.sqrt(0.24 / 4000)


def test_at_a_batch_of_one_the_share_is_a_probability():
    counts = [np.count_nonzero(np.equal(*pairs(1, seed=seed))) for seed in range(4000)]
    assert abs(np.mean(counts) - 0.75) < 4 * np.sqrt(0.1875 / 4000)


@pytest.mark.parametrize("stratified", [False, True])
def test_which_are_equal_is_independent_of_place_and_draws(stratified):
    t, r = np.concatenate([pairs(64, seed=seed, equal=0.5, stratified=stratified) for seed in range(500)], axis=1)
    equal = (t == r).reshape(500, 64)
    assert np.all(abs(equal.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(500))
    assert stats.ks_2samp(t[t == r], t[t != r]).pvalue > 1e-3


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize(("cfg", "law"), [(UNIFORM, stats.uniform()), (NORMAL, None)], ids=["uniform", "logitnormal"])
def test_the_joint_law_is_that_of_order_statistics(cfg, law, stratified):
    cdf = law.cdf if law else lambda x: stats.norm(-0.4).cdf(np.log(x) - np.log1p(-x))
    t, r = np.concatenate([pairs(100, cfg, seed, equal=0.0, stratified=stratified) for seed in range(200)], axis=1)
    if not stratified:  # strata make the sample more even than the test's independent one
        assert stats.kstest(t, lambda x: cdf(x) ** 2).pvalue > 1e-3
        assert stats.kstest(r, lambda x: 1 - (1 - cdf(x)) ** 2).pvalue > 1e-3
    for a, b in [(0.2, 0.5), (0.4, 0.6), (0.5, 0.9)]:  # P(r <= a, t <= b) for a <= b
        wanted = cdf(b) ** 2 - (cdf(b) - cdf(a)) ** 2
        assert abs(np.mean((r <= a) & (t <= b)) - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / len(t))


def test_where_equal_the_time_is_the_larger_draw():
    t, r = pairs(20_000, equal=1.0)
    assert np.array_equal(t, r)
    assert stats.kstest(t, lambda x: x**2).pvalue > 1e-3


def test_each_stratified_draw_has_one_in_every_stratum():
    t, r = pairs(128, equal=0.0, stratified=True)
    assert np.array_equal(np.bincount((np.concatenate([t, r]) * 128).astype(int), minlength=128), np.full(128, 2))


@pytest.mark.parametrize("n", [(8, 5), (3,), (2, 3, 4), (), (0, 4), 7, np.int64(7), (np.int32(2), 3)])
def test_a_shape_is_the_flat_draw_laid_out(xp, n):
    shape = (int(n),) if not isinstance(n, tuple) else tuple(int(size) for size in n)
    size = int(np.prod(shape))
    for sample, options in (
        (rf.sample_timesteps, {}),
        (rf.sample_timesteps, {"stratified": True}),
        (rf.sample_timestep_pairs, {}),
        (rf.sample_timestep_pairs, {"stratified": True}),
    ):
        got = sample(n, UNIFORM, rng=5, **xp.draw_args, **options)
        flat = sample(size, UNIFORM, rng=5, **xp.draw_args, **options)
        for one, other in zip(got, flat, strict=True) if isinstance(got, tuple) else [(got, flat)]:
            assert tuple(one.shape) == shape
            assert np.array_equal(xp.numpy(one).ravel(), xp.numpy(other).ravel())
    rungs = rf.sample_from_t_list(n, (1.0, 0.5, 0.0), rng=5, **xp.draw_args)
    assert tuple(rungs.shape) == shape


def test_a_numpy_generator_is_one_stream_everywhere(xp):
    got = rf.sample_timestep_pairs((4, 16), NORMAL, rng=np.random.default_rng(9), **xp.draw_args, stratified=True)
    wanted = rf.sample_timestep_pairs((4, 16), NORMAL, rng=np.random.default_rng(9), stratified=True)
    for one, other in zip(got, wanted, strict=True):
        assert np.array_equal(xp.numpy(one), other)


@pytest.mark.parametrize("equal", [True, "0.5", None, np.array([0.5]), np.bool_(True), 1j])
def test_equal_must_be_a_number(equal):
    with pytest.raises(TypeError, match="equal must be a number in"):
        pairs(4, equal=equal)


@pytest.mark.parametrize("equal", [-0.1, 1.5, nan, inf, np.float32(2)])
def test_equal_must_lie_in_the_unit_interval(equal):
    with pytest.raises(ValueError, match="equal must lie in"):
        pairs(4, equal=equal)


@pytest.mark.parametrize("n", [2.0, (2, 2.0), (2, True), "3", [2, 3], None])
def test_n_must_be_an_integer_or_a_tuple(n):
    for sample in (rf.sample_timesteps, rf.sample_timestep_pairs):
        with pytest.raises(TypeError, match="n must be an integer"):
            sample(n, UNIFORM, rng=np.random.default_rng(0))


def test_no_axis_may_be_negative():
    with pytest.raises(ValueError, match="n must not be negative"):
        pairs((2, -1))


def test_an_edm_teacher_is_the_logit_normal_law_and_not_the_log_normal_one():
    """EDM draws log sigma from a normal law, and sigma = t / (1 - t): 90 % lie below these t."""
    sigma = np.exp(stats.norm(-1.2, 1.2).ppf(0.9))
    assert round(sigma / (1 + sigma), 4) == 0.5837
    fields = {"p_mean": -1.2, "p_std": 1.2}
    law = rf.SampleTimestepConfig(time_dist_type="logitnormal", **fields)
    assert round(rf.timestep_quantile(0.9, law), 4) == 0.5835
    wide = rf.SampleTimestepConfig(time_dist_type="logitnormal", truncate=True, min_t=1e-9, max_t=1 - 1e-9, **fields)
    assert round(rf.timestep_quantile(0.9, wide), 4) == 0.5837
    other = rf.SampleTimestepConfig(time_dist_type="lognormal", **fields)
    assert round(rf.timestep_quantile(0.9, other), 3) == 0.695

"""The samplers: distributions, bounds, stratified samples, pairs, entries of a t_list, generators, arguments."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats

import fastgen_rf as rf
from fastgen_rf._draws import Pairs, Quantile
from tests.exact import DISTRIBUTIONS

UNIFORM = rf.SampleTimestepConfig("uniform", min_t=0.0, max_t=1.0)
NORMAL = rf.SampleTimestepConfig("logitnormal", p_mean=-0.4, min_t=0.0, max_t=1.0)
T_LIST = (0.999, 0.75, 0.5, 0.0)
SAMPLERS = {
    "sample_timesteps": lambda n, **how: rf.sample_timesteps(n, rf.SampleTimestepConfig(), **how),
    "stratified": lambda n, **how: rf.sample_timesteps(n, rf.SampleTimestepConfig(), stratified=True, **how),
    "sample_timestep_pairs": lambda n, **how: rf.sample_timestep_pairs(n, rf.SampleTimestepConfig(), **how)[1],
    "sample_from_t_list": lambda n, **how: rf.sample_from_t_list(n, T_LIST, **how),
}
every_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=list(SAMPLERS))
every_distribution = pytest.mark.parametrize("name", list(DISTRIBUTIONS))


def config(name: str, **fields: Any) -> rf.SampleTimestepConfig:
    return rf.SampleTimestepConfig(time_dist_type=name, **fields)


def sampled(xp: Any, n: Any, cfg: Any, seed: int = 0, **how: Any) -> Any:
    """Timesteps from the framework's own generator, as NumPy float64."""
    t = rf.sample_timesteps(n, cfg, rng=xp.rng(seed), **xp.draw_args, **how)
    return np.asarray(xp.numpy(t), np.float64)


def pairs(n: Any, cfg: Any = UNIFORM, seed: int = 0, **options: Any) -> Any:
    return rf.sample_timestep_pairs(n, cfg, rng=np.random.default_rng(seed), dtype=np.float64, **options)


# Distributions: t = Q(u), so the uniform numbers are what is to be tested


def test_samples_are_uniform_and_independent(xp: Any) -> None:
    u = sampled(xp, 20_001, UNIFORM, 5)
    assert stats.kstest(u, stats.uniform.cdf).pvalue > 1e-3
    assert stats.kstest(u, stats.uniform.cdf).statistic < 0.014  # too regular to be random would pass the line above
    assert abs(stats.spearmanr(u[:-1], u[1:]).statistic) < 4 / math.sqrt(20_000)


@pytest.mark.needs("float64")
def test_samples_have_more_than_32_random_bits(xp: Any) -> None:
    t = sampled(xp, 2000, UNIFORM, 3, dtype=xp.dtype("float64"))
    assert stats.kstest(t * 2.0**32 % 1, stats.uniform.cdf).pvalue > 1e-3


@every_distribution
def test_samples_follow_the_distribution(xp: Any, name: str) -> None:
    c = config(name, max_t=1.0, p_mean=-0.7, p_std=0.6, shift=2.5)
    t = sampled(xp, 5000, c, 8)
    wanted = rf.timestep_quantile(np.random.default_rng(0).random(20_000), c)
    assert stats.ks_2samp(t, wanted).pvalue > 1e-4


# Bounds


@every_distribution
@pytest.mark.dtypes()
def test_every_t_lies_inside_the_bounds_in_every_dtype(xp: Any, dtype: str, name: str) -> None:
    for min_t, max_t in ((0.001, 0.999), (1e-30, 1.0), (1 / 3, 0.35)):
        for options in ({}, {"truncate": True}):
            c = config(name, min_t=min_t, max_t=max_t, **options)
            t = rf.sample_timesteps(1000, c, rng=xp.rng(6), dtype=xp.dtype(dtype), **xp.draw_args)
            assert t.dtype == xp.dtype(dtype)
            wide = np.asarray(xp.numpy(t), np.float64)
            assert ((wide >= min_t) & (wide <= max_t)).all()


@pytest.mark.dtypes("bfloat16")
def test_bf16_never_rounds_past_max_t(xp: Any, dtype: str) -> None:
    """bfloat16 has 0.9921875 and 0.99609375 below 0.999; 1.0 is nearer to it."""
    t = sampled(xp, 500, config("uniform", min_t=0.99, max_t=0.999), dtype=xp.dtype(dtype))
    assert sorted(set(t.tolist())) == [0.9921875, 0.99609375]


@pytest.mark.dtypes("float32", "bfloat16", "float16")
def test_bounds_with_no_number_between_them_are_a_value_error(xp: Any, dtype: str) -> None:
    close = config("logitnormal", min_t=0.5 - 1e-9, max_t=0.5 + 1e-9)  # with one number between them
    assert set(sampled(xp, 10, close, dtype=xp.dtype(dtype)).tolist()) == {0.5}
    c = rf.SampleTimestepConfig(min_t=0.5 + 2.0**-52, max_t=0.5 + 2.0**-51)
    with pytest.raises(ValueError, match=r"dtype.*no value in \[min_t, max_t\].*0.5"):
        rf.sample_timesteps(3, c, rng=0, dtype=xp.dtype(dtype), **xp.draw_args)


@pytest.mark.needs("float64")
@pytest.mark.dtypes("float32", "bfloat16", "float16")
def test_a_seed_samples_the_same_numbers_in_every_dtype_rounded_to_nearest(xp: Any, dtype: str) -> None:
    eps = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}[dtype]
    for options in ({}, {"stratified": True}):
        draw = functools.partial(sampled, xp, 64, config("logitnormal"), 7, **options)
        exact, t = draw(dtype=xp.dtype("float64")), draw(dtype=xp.dtype(dtype))
        ulps = np.abs(t - exact) / (eps / 2 * 2.0 ** np.frexp(exact)[1])
        at_a_bound = (t == t.min()) | (t == t.max())  # there the number inside is taken
        assert (ulps <= np.where(at_a_bound, 1, 0.5 + 2**-10)).all()


# Stratified samples


@pytest.mark.needs("float64")
def test_each_stratum_gets_one_sample(xp: Any) -> None:
    for n in (0, 1, 2, 7, 64, 1000):
        t = sampled(xp, n, UNIFORM, stratified=True, dtype=xp.dtype("float64"))
        assert sorted(np.floor(t * n).astype(int).tolist()) == list(range(n))


def test_strata_come_in_random_order_and_places_in_them_are_uniform(xp: Any) -> None:
    n = 5000
    t = sampled(xp, n, UNIFORM, stratified=True)
    order = np.floor(t * n)
    bound = 4 / math.sqrt(n)
    assert abs(stats.spearmanr(order[:-1], order[1:]).statistic) < bound
    assert abs(stats.spearmanr(order, np.arange(n)).statistic) < bound
    assert stats.kstest(t * n - order, stats.uniform.cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(t * n - order, order).statistic) < bound


def test_a_single_stratified_timestep_keeps_its_distribution(xp: Any) -> None:
    c = config("logitnormal", min_t=0.0, max_t=1.0)
    thirds = np.concatenate([sampled(xp, 8, c, seed, stratified=True)[:3] for seed in range(200)])
    assert stats.kstest(np.log(thirds / (1 - thirds)), stats.norm.cdf).pvalue > 1e-3


# Pairs


@pytest.mark.dtypes("float32", "float64", "bfloat16")
def test_pairs_are_ordered_inside_the_bounds_and_some_are_equal(xp: Any, dtype: str) -> None:
    for name in ("uniform", "shifted", "polynomial"):
        for stratified in (False, True):
            cfg = config(name)
            how = {**xp.draw_args, "dtype": xp.dtype(dtype), "stratified": stratified}
            t, r = rf.sample_timestep_pairs(512, cfg, rng=3, **how)
            assert t.dtype == r.dtype == xp.dtype(dtype)
            t, r = (np.asarray(xp.numpy(time), np.float64) for time in (t, r))
            assert ((cfg.min_t <= r) & (r <= t) & (t <= cfg.max_t)).all()
            assert (r < t).any()
            assert (r == t).any()


@pytest.mark.parametrize("equal", [0, 0.0, 1, 1.0])
@pytest.mark.parametrize("stratified", [False, True])
def test_equal_0_and_1_give_no_equal_pair_and_only_equal_pairs(equal: float, stratified: bool) -> None:
    t, r = pairs(1000, equal=equal, stratified=stratified)
    assert np.count_nonzero(t == r) == 1000 * equal
    if equal:  # both times are the larger of the two
        assert stats.kstest(t, lambda x: x**2).pvalue > 1e-3 or stratified


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_the_number_of_equal_pairs_is_exact_even_if_u_is_0_or_rounds_to_1(place: float) -> None:
    identity = Quantile(UNIFORM, 0.0, 1.0)
    strata = np.stack([np.arange(64), np.roll(np.arange(64), 1), np.arange(64)])
    u = np.stack([np.broadcast_to([[0.5], [0.5], [place]], (3, 64)), strata / 64], axis=1)
    t, r = Pairs(identity, identity, True, 0.75)(u, np, None)
    assert np.count_nonzero(t == r) == 48


@pytest.mark.parametrize(("n", "equal", "counts"), [((8, 8), 0.75, {48}), (1000, 0.333, {333}), (50, 0.45, {22, 23})])
def test_the_number_of_equal_stratified_pairs_is_n_equal_rounded(xp: Any, n: Any, equal: float, counts: Any) -> None:
    for seed in range(5):
        t, r = rf.sample_timestep_pairs(n, UNIFORM, equal=equal, rng=xp.rng(seed), **xp.draw_args, stratified=True)
        assert np.count_nonzero(xp.numpy(t) == xp.numpy(r)) in counts


@pytest.mark.parametrize(("n", "equal", "stratified"), [(6, 0.4, True), (1, 0.75, False), (1, 0.75, True)])
def test_the_share_of_equal_pairs_is_unbiased_down_to_a_batch_of_one(n: int, equal: float, stratified: bool) -> None:
    counts = [
        np.count_nonzero(np.equal(*pairs(n, seed=seed, equal=equal, stratified=stratified))) for seed in range(4000)
    ]
    assert set(counts) <= {math.floor(n * equal), math.ceil(n * equal)}
    assert abs(np.mean(counts) - n * equal) < 4 * np.std(counts) / math.sqrt(4000)


@pytest.mark.parametrize("stratified", [False, True])
def test_equality_is_independent_of_place_and_times(stratified: bool) -> None:
    t, r = np.concatenate([pairs(64, seed=seed, equal=0.5, stratified=stratified) for seed in range(500)], axis=1)
    equal = (t == r).reshape(500, 64)
    assert (abs(equal.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(500)).all()
    assert stats.ks_2samp(t[t == r], t[t != r]).pvalue > 1e-3


@pytest.mark.parametrize("stratified", [False, True])
def test_unequal_pairs_are_the_larger_and_the_smaller_of_two_samples(stratified: bool) -> None:
    for cfg, cdf in (
        (UNIFORM, lambda x: x),
        (NORMAL, lambda x: stats.norm(-0.4).cdf(np.log(x) - np.log1p(-x))),
    ):
        t, r = np.concatenate([pairs(100, cfg, seed, equal=0.0, stratified=stratified) for seed in range(200)], axis=1)
        for a, b in [(0.2, 0.5), (0.4, 0.6), (0.5, 0.9)]:  # P(r <= a, t <= b) for a <= b
            wanted = cdf(b) ** 2 - (cdf(b) - cdf(a)) ** 2
            assert abs(np.mean((r <= a) & (t <= b)) - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / len(t))


def test_equal_and_zero_together_are_at_most_1() -> None:
    with pytest.raises(ValueError, match=r"equal \+ zero must be at most 1, got equal=0.75 \(its default.*zero=0.5"):
        pairs(4, zero=0.5)
    for equal in (0.1, 0.35, 0.7, 0.9):
        t, r = pairs(100, config("uniform"), equal=equal, zero=1 - equal)
        assert ((r == 0) | (r == t)).all()


def test_r_is_0_in_the_wanted_share_of_pairs_whatever_min_t_is(xp: Any) -> None:
    n = 20_000
    how = {"rng": xp.rng(4), **xp.draw_args}
    t, r = (xp.numpy(x) for x in rf.sample_timestep_pairs(n, config("uniform"), equal=0.25, zero=0.3, **how))
    for found, share in ((r == 0, 0.3), (r == t, 0.25)):
        assert abs(found.mean() - share) < 4 * math.sqrt(share * (1 - share) / n)
        assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 / math.sqrt(n)
    assert r[r > 0].min() >= 0.001
    assert stats.ks_2samp(t[r == 0], t[r != 0]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("n", "equal", "zero", "counts"),
    [
        ((8, 8), 0.75, 0.25, [{48}, {16}]),
        ((8, 8), 0.0, 1.0, [{0}, {64}]),
        (1000, 0.333, 0.29, [{333}, {290}]),
        (5, 0.3, 0.34, [{1, 2}, {1, 2}]),
    ],
)
def test_the_numbers_of_stratified_pairs_with_r_t_and_r_0_are_n_times_their_shares_rounded(
    xp: Any, n: Any, equal: float, zero: float, counts: Any
) -> None:
    for seed in range(5):
        how = {"rng": xp.rng(seed), "stratified": True, **xp.draw_args}
        t, r = (xp.numpy(x) for x in rf.sample_timestep_pairs(n, UNIFORM, equal=equal, zero=zero, **how))
        assert np.count_nonzero(r == t) in counts[0]
        assert np.count_nonzero(r == 0) in counts[1]


def test_both_numbers_of_stratified_pairs_are_unbiased() -> None:
    """Shares of 0.3 and 0.34 of 5 pairs are 1.5 and 1.7 of them."""
    drawn = [pairs(5, seed=seed, equal=0.3, zero=0.34, stratified=True) for seed in range(4000)]
    for wanted, counts in ((1.5, [(r == t).sum() for t, r in drawn]), (1.7, [(r == 0).sum() for t, r in drawn])):
        assert set(counts) == {1, 2}
        assert abs(np.mean(counts) - wanted) < 4 * 0.5 / math.sqrt(4000)


def test_the_second_time_may_have_a_distribution_of_its_own(xp: Any) -> None:
    first, second = config("uniform", min_t=0.2, max_t=1.0), config("shifted", min_t=0.0, max_t=0.8)
    u = np.random.default_rng(0).random((3, 200))
    one, other = rf.timestep_quantile(u[0], first), rf.timestep_quantile(u[1], second)
    how = {"rng": np.random.default_rng(0), "dtype": xp.dtype("float32"), **xp.draw_args}
    t, r = (xp.numpy(x) for x in rf.sample_timestep_pairs(200, first, equal=0.5, r_cfg=second, **how))
    larger = np.maximum(one, other)
    assert ((one < other).any(), (one > other).any()) == (True, True)
    assert t == pytest.approx(larger, rel=1e-6)
    assert r == pytest.approx(np.where(u[2] < 0.5, larger, np.minimum(one, other)), rel=1e-6)


def test_without_the_two_options_pairs_are_those_of_cfg_alone(xp: Any) -> None:
    plain, same = (
        rf.sample_timestep_pairs(64, NORMAL, rng=xp.rng(3), **xp.draw_args, **options)
        for options in ({}, {"zero": 0.0, "r_cfg": NORMAL})
    )
    assert [xp.numpy(x).tolist() for x in plain] == [xp.numpy(x).tolist() for x in same]


# Entries of a t_list


@pytest.mark.dtypes()
def test_entries_are_sampled_uniformly_with_their_indices_and_never_the_last(xp: Any, dtype: str) -> None:
    t_list = [1.0, 0.75, 0.5, 0.25, 0.0]
    how = {"dtype": xp.dtype(dtype), **xp.draw_args}
    t, index = rf.sample_from_t_list(8000, t_list, rng=xp.rng(9), return_index=True, **how)
    alone = rf.sample_from_t_list(8000, t_list, rng=xp.rng(9), **how)
    assert index.dtype == xp.dtype("int32")
    assert xp.device_of(index) == xp.device_of(t)
    assert xp.numpy(t).tolist() == xp.numpy(alone).tolist() == [t_list[i] for i in xp.numpy(index)]
    values, counts = np.unique(np.asarray(xp.numpy(t), np.float64), return_counts=True)
    assert values.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.dtypes()
def test_entries_are_rounded_to_the_dtype_but_never_up_to_1(xp: Any, dtype: str) -> None:
    bits = {"float64": 53, "float32": 24, "bfloat16": 8, "float16": 11}[dtype]
    for entry in (0.833, 0.3, 0.9999, 1 - 2.0**-30, 1 - 2.0**-53, 1.0):
        t = rf.sample_from_t_list(5, [entry, 0.0], rng=xp.rng(0), dtype=xp.dtype(dtype), **xp.draw_args)
        spacing = 2.0 ** (math.frexp(entry)[1] - bits) if entry < 1 else 1.0
        nearest = float(round(Fraction(entry) / Fraction(spacing)) * Fraction(spacing))
        wanted = nearest if entry == 1 else min(nearest, 1 - 2.0**-bits)
        assert np.asarray(xp.numpy(t), np.float64).tolist() == [wanted] * 5


# Shapes, generators and other arguments


@pytest.mark.parametrize("n", [(8, 5), (3,), (), (0, 4), 0, 7, np.int64(7), (np.int32(2), 3)], ids=repr)
def test_a_shape_is_the_flat_sample_reshaped(xp: Any, n: Any) -> None:
    shape = tuple(int(size) for size in n) if isinstance(n, tuple) else (int(n),)
    for sample in SAMPLERS.values():
        got = sample(n, rng=5, **xp.draw_args)
        flat = sample(math.prod(shape), rng=5, **xp.draw_args)
        assert tuple(got.shape) == shape
        assert got.dtype == xp.dtype("float32")
        assert np.array_equal(xp.numpy(got).ravel(), xp.numpy(flat))


@every_sampler
def test_an_int_seeds_a_fresh_generator_whatever_its_size(xp: Any, sample: Any) -> None:
    first, again = (xp.numpy(sample(64, rng=seed, **xp.draw_args)) for seed in (3, np.int64(3)))
    assert first.tolist() == again.tolist()
    seeds = [1, 1 + 2**32, 1 + 2**64, 1 + 2**100, 1 << 32, 2 << 32, 2**32 - 1, 0]
    assert len({tuple(xp.numpy(sample(64, rng=seed, **xp.draw_args)).tolist()) for seed in seeds}) == len(seeds)


@every_sampler
def test_a_numpy_generator_gives_every_framework_the_same_stream(xp: Any, sample: Any) -> None:
    there = sample(64, rng=np.random.default_rng(7), **xp.draw_args)
    assert xp.numpy(there).tolist() == sample(64, rng=np.random.default_rng(7)).tolist()


@pytest.mark.backends("array_api_strict", "dask")
@every_distribution
def test_frameworks_known_only_by_the_standard_sample_numpys_stream(xp: Any, name: str) -> None:
    t, numpys = (rf.sample_timesteps(100, config(name), rng=8, **how) for how in (xp.draw_args, {"xp": np}))
    assert xp.numpy(t).tolist() == numpys.tolist()


@every_sampler
def test_a_generator_advances_and_no_generator_means_fresh_entropy(sample: Any) -> None:
    rng = np.random.default_rng(0)
    assert sample(64, rng=rng).tolist() != sample(64, rng=rng).tolist()
    assert sample(64, xp=np).tolist() != sample(64, xp=np).tolist()


@pytest.mark.backends("dask")
@pytest.mark.parametrize("dtype", [np.longdouble, np.float16])
def test_a_dtype_that_the_standard_does_not_name_is_rounded_once(xp: Any, dtype: Any) -> None:
    there, here = (
        rf.sample_timesteps(2**16, UNIFORM, rng=np.random.default_rng(7), dtype=dtype, **how)
        for how in (xp.draw_args, {})
    )
    assert there.dtype == here.dtype == dtype
    assert np.array_equal(xp.numpy(there), here)


@pytest.mark.needs("no float64")
def test_float64_on_a_device_without_it_is_an_error(xp: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        rf.sample_timesteps(3, UNIFORM, rng=0, dtype=xp.namespace.float64, **xp.draw_args)

"""The samplers: distributions, bounds, stratified samples, pairs, entries of a t_list, generators, arguments."""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

import fastgen_rf as rf
from fastgen_rf._draws import Index, Pairs, Times
from tests.exact import DISTRIBUTIONS, around_quotients
from tests.processes import run_alone

UNIFORM = rf.SampleTimestepConfig("uniform", min_t=0.0, max_t=1.0)
T_LIST = (0.999, 0.75, 0.5, 0.0)
SAMPLERS = {
    "sample_timesteps": lambda n, **how: rf.sample_timesteps(n, rf.SampleTimestepConfig(), **how),
    "stratified": lambda n, **how: rf.sample_timesteps(n, rf.SampleTimestepConfig(), stratified=True, **how),
    "sample_timestep_pairs": lambda n, **how: rf.sample_timestep_pairs(n, rf.SampleTimestepConfig(), **how)[1],
    "sample_from_t_list": lambda n, **how: rf.sample_from_t_list(n, T_LIST, **how),
}
every_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=list(SAMPLERS))
every_distribution = pytest.mark.parametrize("name", list(DISTRIBUTIONS))


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


# Bounds


@every_distribution
@pytest.mark.dtypes()
def test_every_t_lies_inside_the_bounds_in_every_dtype(xp: Any, dtype: str, name: str) -> None:
    for min_t, max_t, truncate in ((0.001, 0.999, False), (1e-30, 1.0, True), (1 / 3, 0.35, False)):
        c = rf.SampleTimestepConfig(name, min_t=min_t, max_t=max_t, truncate=truncate)
        t = sampled(xp, 1000, c, 6, dtype=xp.dtype(dtype))
        assert ((t >= min_t) & (t <= max_t)).all()


@pytest.mark.dtypes("bfloat16")
def test_bfloat16_never_rounds_past_max_t(xp: Any, dtype: str) -> None:
    """bfloat16 has 0.9921875 and 0.99609375 below 0.999; 1.0 is nearer to it."""
    t = sampled(xp, 500, rf.SampleTimestepConfig("uniform", min_t=0.99, max_t=0.999), dtype=xp.dtype(dtype))
    assert sorted(set(t.tolist())) == [0.9921875, 0.99609375]


@pytest.mark.dtypes("float32", "bfloat16", "float16")
def test_bounds_with_no_number_between_them_are_a_value_error(xp: Any, dtype: str) -> None:
    close = rf.SampleTimestepConfig("logitnormal", min_t=0.5 - 1e-9, max_t=0.5 + 1e-9)  # with one number between them
    assert set(sampled(xp, 10, close, dtype=xp.dtype(dtype)).tolist()) == {0.5}
    c = rf.SampleTimestepConfig(min_t=0.5 + 2.0**-52, max_t=0.5 + 2.0**-51)
    with pytest.raises(ValueError, match=r"dtype.*no value in \[min_t, max_t\].*0.5"):
        rf.sample_timesteps(3, c, rng=0, dtype=xp.dtype(dtype), **xp.draw_args)


@pytest.mark.needs("float64")
@pytest.mark.dtypes("float32", "bfloat16", "float16")
def test_a_seed_samples_the_same_numbers_in_every_dtype_rounded_to_nearest(xp: Any, dtype: str) -> None:
    eps = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}[dtype]
    for options in ({}, {"stratified": True}):
        draw = functools.partial(sampled, xp, 64, rf.SampleTimestepConfig("logitnormal"), 7, **options)
        exact, t = draw(dtype=xp.dtype("float64")), draw(dtype=xp.dtype(dtype))
        ulps = np.abs(t - exact) / (eps / 2 * 2.0 ** np.frexp(exact)[1])
        at_a_bound = (t == t.min()) | (t == t.max())  # there the number inside is taken
        assert (ulps <= np.where(at_a_bound, 1, 0.5 + 2**-10)).all()


# Pairs


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_stratum_of_its_own_decides_which_pairs_are_equal_even_if_u_is_0_or_rounds_to_1(place: float) -> None:
    identity = Times(UNIFORM, 0.0, 1.0)
    strata = np.stack([np.arange(64), np.roll(np.arange(64), 1), np.arange(64)[::-1]])
    u = np.stack([np.broadcast_to([[0.5], [0.5], [place]], (3, 64)), strata / 64], axis=1)
    t, r = Pairs(identity, identity, True, 0.5, 0.25)(u, np, None)
    assert (t == r).tolist() == [False] * 32 + [True] * 32
    assert (r == 0).tolist() == [True] * 16 + [False] * 48


@pytest.mark.parametrize(
    ("n", "equal", "zero", "counts"),
    [((8, 8), 0.75, 0.25, [{48}, {16}]), (1000, 0.333, 0.29, [{333}, {290}]), (5, 0.3, 0.34, [{1, 2}, {1, 2}])],
)
def test_the_numbers_of_stratified_pairs_with_r_t_and_r_0_are_n_times_their_shares_rounded(
    xp: Any, n: Any, equal: float, zero: float, counts: Any
) -> None:
    how = {"rng": xp.rng(0), "stratified": True, **xp.draw_args}
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
    first, second = rf.SampleTimestepConfig("logitnormal", 0.2, 1.0), rf.SampleTimestepConfig("lognormal", 0.0, 0.8)
    u = np.random.default_rng(0).random((3, 200))
    one, other = rf.timestep_quantile(u[0], first), rf.timestep_quantile(u[1], second)
    how = {"rng": np.random.default_rng(0), "dtype": xp.dtype("float32"), **xp.draw_args}
    t, r = (xp.numpy(x) for x in rf.sample_timestep_pairs(200, first, equal=0.5, r_cfg=second, **how))
    larger = np.maximum(one, other)
    assert ((one < other).any(), (one > other).any()) == (True, True)
    assert t == pytest.approx(larger, rel=1e-6)
    assert r == pytest.approx(np.where(u[2] < 0.5, larger, np.minimum(one, other)), rel=1e-6)


# Entries of a t_list


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


@pytest.mark.parametrize("n", [(8, 5), (), (0, 4), np.int64(7), (np.int32(2), 3)], ids=repr)
def test_a_shape_is_the_flat_sample_reshaped(xp: Any, n: Any) -> None:
    shape = tuple(int(size) for size in n) if isinstance(n, tuple) else (int(n),)
    for sample in SAMPLERS.values():
        got = sample(n, rng=5, **xp.draw_args)
        flat = sample(math.prod(shape), rng=5, **xp.draw_args)
        assert tuple(got.shape) == shape
        assert got.dtype == xp.dtype("float32")
        assert np.array_equal(xp.numpy(got).ravel(), xp.numpy(flat))


@pytest.mark.parametrize("stratified", [False, True])
def test_a_call_takes_a_fixed_number_of_uniform_numbers(stratified: bool) -> None:
    ours, theirs = (np.random.default_rng(0) for _ in range(2))
    rf.sample_timesteps((2, 5), UNIFORM, rng=ours, stratified=stratified)
    rf.sample_timestep_pairs((2, 5), UNIFORM, rng=ours, stratified=stratified)
    rf.sample_from_t_list((2, 5), T_LIST, rng=ours)
    theirs.random((20 + 60 if stratified else 10 + 30) + 10)
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_numpy_works_while_another_thread_imports_a_framework(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    wanted = rf.sample_timesteps(8, UNIFORM, rng=np.random.default_rng(0), xp=np)
    monkeypatch.setitem(sys.modules, name, ModuleType(name))  # it exists, and has no names yet
    assert np.array_equal(rf.sample_timesteps(8, UNIFORM, rng=np.random.default_rng(0), xp=np), wanted)
    assert np.array_equal(rf.add_noise(wanted, wanted, 0.5), wanted)


def test_no_generator_means_fresh_entropy() -> None:
    assert rf.sample_timesteps(64, UNIFORM, xp=np).tolist() != rf.sample_timesteps(64, UNIFORM, xp=np).tolist()


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


@pytest.mark.backends("dask")
def test_a_dtype_that_the_standard_does_not_name_is_rounded_once(xp: Any) -> None:
    there, here = (
        rf.sample_timesteps(2**16, UNIFORM, rng=np.random.default_rng(7), dtype=np.float16, **how)
        for how in (xp.draw_args, {})
    )
    assert there.dtype == here.dtype == np.float16
    assert np.array_equal(xp.numpy(there), here)


# t_lists: which entry, its index, long lists, narrow dtypes, and arrays that are read as a t_list


@pytest.mark.dtypes("float32", "bfloat16")
def test_every_index_is_drawn_also_where_a_dtype_cannot_tell_entries_apart(xp: Any, dtype: str) -> None:
    t_list = rf.make_t_list(128, shift=5.0)
    t, index = rf.sample_from_t_list(
        4000, t_list, rng=xp.rng(9), dtype=xp.dtype(dtype), return_index=True, **xp.draw_args
    )
    drawn = xp.numpy(index)
    assert index.dtype == xp.dtype("int32")
    assert set(drawn.tolist()) == set(range(128))  # one of them is missing in 128 (127/128)**4000 = 3e-12 of all draws
    error = np.abs(np.asarray(xp.numpy(t), np.float64) - np.asarray(t_list)[drawn])
    assert error.max() <= (2.0**-8 if dtype == "bfloat16" else 2.0**-24)


def test_the_boundaries_are_the_quotients_i_over_k_to_the_last_bit() -> None:
    """At u = 1, to which JAX may round, the index is that of the last entry but one."""
    for k in range(1, 2001):
        u, wanted = around_quotients(k)
        assert np.array_equal(Index(k)(u, np, None)[0], wanted), k


@pytest.mark.parametrize("name", ["float4_e2m1fn", "float6_e2m3fn"])
def test_an_entry_below_1_stays_below_1_where_the_numbers_below_1_are_subnormal(name: str) -> None:
    import ml_dtypes

    t, index = rf.sample_from_t_list(
        50, [1.0, 0.96, 0.75, 0.0], rng=np.random.default_rng(0), dtype=getattr(ml_dtypes, name), return_index=True
    )
    drawn = dict(zip(index.tolist(), t.astype(float).tolist(), strict=True))
    assert drawn == {"float4_e2m1fn": {0: 1.0, 1: 0.5, 2: 0.5}, "float6_e2m3fn": {0: 1.0, 1: 0.875, 2: 0.75}}[name]


# Arrays as t_list


class Array:
    """An array that is no sequence, and whose values may be read by a method that it has."""

    dtype, shape = np.dtype(np.float64), (3,)


def test_sparse_and_lazy_arrays_are_read_and_one_that_cannot_be_read_is_a_type_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for method in ("todense", "compute"):  # of the packages sparse and cubed
        with monkeypatch.context() as patch:
            patch.setattr(Array, method, lambda self: np.array([1.0, 0.5, 0.0]), raising=False)
            assert rf.SampleTimestepConfig(t_list=Array()).t_list == (1.0, 0.5, 0.0)
    with pytest.raises(TypeError, match=r"t_list must be a sequence of floats, got .*Array.*; t_list is static"):
        rf.sample_from_t_list(4, Array(), rng=0, xp=np)


# Names of dtypes

DRAW = """
import sys
import numpy, torch_or_numpy as xp
import fastgen_rf as rf

def sample(dtype):
    return rf.sample_timesteps(3, rf.SampleTimestepConfig(), xp=xp, dtype=dtype)

def outcome(call, dtype):
    try:
        return str(call(dtype).dtype)
    except TypeError as error:
        return str(error)

names = sys.argv[1].split()
before = [outcome(sample, name) for name in names[:8]]
needed = "ml_dtypes" in sys.modules
before += [outcome(sample, name) for name in names[8:]]
if xp.__name__ == "torch":
    compiled = xp.compile(sample, backend="eager", fullgraph=True)
    assert [outcome(compiled, name) for name in names[:7]] == before[:7]
print(before, needed)
import ml_dtypes
print(before == [outcome(sample, name) for name in names])
print(outcome(sample, ml_dtypes.float8_e4m3fn), outcome(sample, numpy.dtype(ml_dtypes.bfloat16)))
"""


def test_a_name_that_is_no_floating_dtype_here_is_a_type_error(xp: Any) -> None:
    lacking = {"array_api_strict": ["float16", "half", "longdouble", np.float16, np.dtype("float16")]}
    lacking |= {"jax": [">f4"], "torch": [np.longdouble, object]}
    for dtype in ["float33", "pi", "float_power", "ndarray", "float4_e2m1fn_x2", *lacking.get(xp.name, [])]:
        with pytest.raises(TypeError, match=r"^dtype must be a real floating dtype"):
            rf.sample_timesteps(3, UNIFORM, rng=0, dtype=dtype, **xp.draw_args)
    if xp.has_float64:
        assert rf.sample_timesteps(3, UNIFORM, rng=0, dtype="float", **xp.draw_args).dtype == xp.dtype("float64")


@pytest.mark.skipif(not importlib.util.find_spec("ml_dtypes"), reason="ml_dtypes is not installed")
@pytest.mark.slow
@pytest.mark.backends("numpy", "torch")
def test_a_name_means_the_same_before_and_after_ml_dtypes_is_imported(xp: Any) -> None:
    prefix = "torch." if xp.name == "torch" else ""
    names = "bfloat16 float8_e4m3fn float8_e5m2 float16 half single float e float8_e9 bool"
    wanted = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16", "float16", "float32", "float64", "float16"]
    wanted = [prefix + name for name in wanted]
    wanted += [f"dtype must be a real floating dtype, got {bad}" for bad in ("'float8_e9'", prefix + "bool")]
    has_float8 = str(xp.name == "numpy")  # PyTorch has float8 without an import of ml_dtypes
    before, same, classes = run_alone(DRAW.replace("torch_or_numpy", xp.name), names).splitlines()
    assert before == f"{wanted} {has_float8}"
    assert same == "True"
    assert classes == f"{prefix}float8_e4m3fn {prefix}bfloat16"

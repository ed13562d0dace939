"""Randomness: native generators, one framework named between rng, xp, device and dtype, one stream from NumPy's."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases.names import LAWS

CFG = rf.SampleTimestepConfig()
RUNGS = (0.999, 0.75, 0.5, 0.0)
SAMPLERS = [
    pytest.param(lambda n, **how: rf.sample_timesteps(n, CFG, **how), id="sample_timesteps"),
    pytest.param(lambda n, **how: rf.sample_timestep_pairs(n, CFG, **how)[1], id="sample_timestep_pairs"),
    pytest.param(lambda n, **how: rf.sample_from_t_list(n, RUNGS, **how), id="sample_from_t_list"),
]
every_sampler = pytest.mark.parametrize("sample", SAMPLERS)


@every_sampler
def test_an_int_seeds_a_fresh_generator_for_the_call(xp, sample):
    first, again, other = (xp.numpy(sample(64, rng=seed, xp=xp.namespace, device=xp.device)) for seed in (3, 3, 4))
    assert first.tolist() == again.tolist() != other.tolist()


@every_sampler
def test_a_numpy_generator_gives_every_framework_the_same_stream(xp, sample):
    there = sample(64, rng=np.random.default_rng(7), xp=xp.namespace, device=xp.device)
    here = sample(64, rng=np.random.default_rng(7))
    assert xp.numpy(there).tolist() == here.tolist()


@every_sampler
@pytest.mark.backends("dask")
@pytest.mark.parametrize("dtype", [np.longdouble, np.float16])
def test_a_dtype_that_the_standard_does_not_name_is_reached_in_one_rounding(xp, sample, dtype):
    there = sample(2**16, rng=np.random.default_rng(7), xp=xp.namespace, device=xp.device, dtype=dtype)
    here = sample(2**16, rng=np.random.default_rng(7), dtype=dtype)
    assert there.dtype == here.dtype == dtype
    np.testing.assert_array_equal(xp.numpy(there), here)


@pytest.mark.needs("float64")
@pytest.mark.dtypes("float32", "bfloat16", "float16")
@pytest.mark.parametrize("law", LAWS)
def test_a_seed_draws_the_same_numbers_in_every_dtype(xp, dtype, law):
    eps = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}[dtype]
    cfg = rf.SampleTimestepConfig(law)
    for options in ({}, {"stratified": True}):
        draw = functools.partial(rf.sample_timesteps, 64, cfg, rng=7, **xp.draw_args, **options)
        exact, t = (xp.numpy(draw(dtype=xp.dtype(name))).astype(np.float64) for name in ("float64", dtype))
        _, exponent = np.frexp(exact)
        ulps = np.abs(t - exact) / (eps / 2 * 2.0**exponent)
        at_a_bound = (t == t.min()) | (t == t.max())  # there, the neighbour inside
        assert (ulps <= np.where(at_a_bound, 1, 0.5 + 2**-10)).all()


@every_sampler
def test_a_numpy_generator_advances(sample):
    rng = np.random.default_rng(0)
    assert sample(64, rng=rng).tolist() != sample(64, rng=rng).tolist()


@every_sampler
def test_no_rng_means_fresh_entropy_on_numpy(sample):
    assert sample(64, xp=np).tolist() != sample(64, xp=np).tolist()


@every_sampler
@pytest.mark.parametrize("n", [0, 1, np.int64(5)], ids=repr)
def test_n_is_the_length_and_float32_the_dtype(xp, sample, n):
    t = xp.numpy(sample(n, rng=0, xp=xp.namespace, device=xp.device))
    assert (t.shape, t.dtype) == ((int(n),), np.float32)


@every_sampler
@pytest.mark.parametrize("how", [{}, {"rng": 0}, {"device": "cpu"}, {"dtype": np.float32}], ids=repr)
def test_where_nothing_names_a_framework_the_error_says_what_to_pass(sample, how):
    with pytest.raises(TypeError, match="cannot infer the array framework: "):
        sample(4, **how)


@every_sampler
@pytest.mark.parametrize(
    "rng",
    [True, "seed", 1.5, np.random.RandomState(0), np.array([0, 1], np.uint32)],
    ids=["bool", "string", "float", "RandomState", "NumPy array"],
)
def test_what_is_no_generator_is_a_type_error(sample, rng):
    with pytest.raises(TypeError, match="rng"):
        sample(4, rng=rng, xp=np)


@every_sampler
def test_numpy_has_no_other_device(sample):
    with pytest.raises(ValueError, match="device must be None or 'cpu' for NumPy"):
        sample(4, rng=np.random.default_rng(0), device="cuda")


@every_sampler
@pytest.mark.parametrize("dtype", [np.int32, np.complex64, bool], ids=repr)
def test_a_dtype_that_is_not_real_floating_is_a_type_error(sample, dtype):
    with pytest.raises(TypeError, match="dtype must be a real floating dtype"):
        sample(4, rng=np.random.default_rng(0), dtype=dtype)

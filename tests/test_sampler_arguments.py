"""Invalid arguments of the samplers: n, dtype, rng, xp, device, and the framework that they name between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.test_timesteps import every_sampler


def assert_raises(error: type[Exception], match: str, sample: Any, *arguments: Any, **how: Any) -> None:
    with pytest.raises(error, match=match):
        sample(*arguments, **how)


@every_sampler
def test_n_must_be_a_size_or_a_tuple_of_sizes(xp: Any, sample: Any) -> None:
    for n in (-1, -100, np.int64(-3), (2, -1)):
        assert_raises(ValueError, "n must not be negative, got", sample, n, rng=0, **xp.draw_args)
    for n in (None, 3.0, "3", True, (3, 1.5), (2, True), [2, 3], np.float64(3)):
        assert_raises(TypeError, "n must be an integer or a tuple", sample, n, rng=0, **xp.draw_args)


def test_n_must_fit_into_an_array() -> None:
    assert_raises(ValueError, "n ", rf.sample_timesteps, (2**40, 2**40), rf.SampleTimestepConfig(), rng=0, xp=np)


@every_sampler
def test_dtype_must_be_real_floating(xp: Any, sample: Any) -> None:
    for name in ("int32", "bool", "complex64"):
        assert_raises(
            TypeError,
            "dtype must be a real floating dtype, got",
            sample,
            3,
            rng=0,
            dtype=np.dtype(name),
            **xp.draw_args,
        )


@every_sampler
def test_rng_must_be_a_generator_or_a_seed(xp: Any, sample: Any) -> None:
    for rng in ("seed", 0.5, [1], True, object(), np.random):
        assert_raises(TypeError, "rng", sample, 3, rng=rng, **xp.draw_args)
    for rng in (-1, np.int64(-3), -(2**70)):
        assert_raises(ValueError, "rng.*negative", sample, 3, rng=rng, **xp.draw_args)


@every_sampler
@pytest.mark.backends("numpy", "array_api_strict", "dask", "torch", "jax")
def test_numpys_legacy_generator_is_a_type_error(xp: Any, sample: Any) -> None:
    assert_raises(TypeError, "rng", sample, 3, rng=np.random.RandomState(0), **xp.draw_args)


@every_sampler
def test_a_call_that_names_no_framework_says_what_to_pass(sample: Any) -> None:
    for how in (
        {},
        {"rng": None},
        {"rng": 0},
        {"dtype": np.float32},
        {"device": "cpu"},
        {"rng": 0, "dtype": np.float64},
    ):
        assert_raises(TypeError, "framework.* pass", sample, 3, **how)


@every_sampler
def test_xp_must_be_an_array_namespace(sample: Any) -> None:
    for namespace in (3, "numpy", object(), math):
        assert_raises(TypeError, "xp must be an array namespace", sample, 3, rng=0, xp=namespace)


@every_sampler
@pytest.mark.backends("torch", "jax", "cupy", "array_api_strict")
def test_arguments_of_two_frameworks_are_a_type_error(xp: Any, sample: Any) -> None:
    own = {} if xp.name == "array_api_strict" else {"rng": xp.rng(0)}
    foreign = {**own, "device": xp.device}
    if xp.name in ("torch", "array_api_strict"):
        foreign["dtype"] = xp.namespace.float32
    for name, value in foreign.items():
        if xp.name == "cupy" and name == "device":
            continue  # a CuPy device names CuPy only next to it
        assert_raises(TypeError, f"xp and {name} .*numpy and", sample, 3, **{"rng": 0, "xp": np, name: value})


@every_sampler
@pytest.mark.backends("jax")
def test_jax_needs_a_key(xp: Any, sample: Any) -> None:
    assert_raises(TypeError, r"rng must be given for JAX.*jax.random.key\(seed\)", sample, 3, **xp.draw_args)


@every_sampler
@pytest.mark.backends("torch", "jax")
def test_a_generator_on_another_device_is_a_value_error(xp: Any, sample: Any) -> None:
    if xp.name == "torch":
        rng, device = xp.rng(0), "meta"
    else:
        here, device, *_ = xp.jax.devices("cpu")
        rng = xp.jax.device_put(xp.jax.random.key(0), here)
    assert_raises(ValueError, "rng and device must agree", sample, 3, rng=rng, device=device)


@every_sampler
def test_numpy_has_one_device(sample: Any) -> None:
    assert_raises(ValueError, "device must be None or 'cpu' for NumPy, got 'cuda'", sample, 3, xp=np, device="cuda")


def test_flags_must_be_bools() -> None:
    cfg = rf.SampleTimestepConfig()
    for bad in (1, None, "yes"):
        for sample in (rf.sample_timesteps, rf.sample_timestep_pairs):
            assert_raises(TypeError, "stratified must be True or False", sample, 4, cfg, xp=np, stratified=bad)
        flag = {"xp": np, "return_index": bad}
        assert_raises(TypeError, "return_index must be True or False", rf.sample_from_t_list, 4, [1, 0], **flag)

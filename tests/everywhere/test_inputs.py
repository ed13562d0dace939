"""What people really pass: NumPy scalars, seeds of any size, configs of other libraries, masked arrays."""

from __future__ import annotations

import sys
from fractions import Fraction
from math import exp, isnan
from types import SimpleNamespace

import numpy as np
import pytest

import fastgen_rf as rf

CFG = rf.SampleTimestepConfig()
HALVES = [np.float16(0.5), np.float32(0.5), np.float64(0.5), np.longdouble(0.5)]
show_type = pytest.mark.parametrize("half", HALVES, ids=lambda half: type(half).__name__)


@show_type
def test_a_numpy_scalar_is_a_number_as_t(xp, half):
    x, y = xp.array(np.linspace(-2, 2, 12).reshape(3, 4)), xp.array(np.linspace(3, 1, 12).reshape(3, 4))
    calls = [
        lambda t: rf.add_noise(x, y, t),
        lambda t: rf.pred_x0_from_flow(x, y, t),
        lambda t: rf.ode_step(x, y, t, 0.25),
        lambda t: rf.ode_step(x, y, 1.0, t),
        lambda t: rf.flow_step(x, y, t, 0.25),
        lambda t: rf.convert_prediction(x, y, t, source="eps", target="v"),
    ]
    for call in calls:
        assert np.array_equal(xp.numpy(call(half)), xp.numpy(call(0.5)))


class Loud(float):
    """A number that would bring arithmetic of its own."""

    def __mul__(self, other):
        raise AssertionError

    __rmul__ = __sub__ = __rsub__ = __mul__


def test_a_float_of_another_class_is_its_value(xp):
    x, y = xp.array(np.linspace(-2, 2, 12).reshape(3, 4)), xp.array(np.ones((3, 4)))
    assert np.array_equal(xp.numpy(rf.add_noise(x, y, Loud(0.3))), xp.numpy(rf.add_noise(x, y, 0.3)))


@show_type
def test_functions_of_a_numpy_scalar_alone_return_a_python_float(half):
    cfg = rf.SampleTimestepConfig(time_dist_type="logitnormal")
    for call in (
        rf.rf_alpha,
        rf.rf_sigma,
        lambda t: rf.shift_timesteps(t, half),
        lambda u: rf.timestep_quantile(u, cfg),
        lambda t: rf.timestep_density(t, cfg),
    ):
        assert type(call(half)) is float
        assert call(half) == pytest.approx(call(0.5), rel=1e-15)


@pytest.mark.parametrize("t", [np.float32(500), np.float16(2), np.float64(-1), np.float32("nan")], ids=repr)
def test_a_numpy_scalar_out_of_range_is_a_value_error(t):
    x = np.ones((2, 3))
    for call in (lambda: rf.add_noise(x, x, t), lambda: rf.rf_alpha(t), lambda: rf.ode_step(x, x, 0.5, t)):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            call()


@pytest.mark.parametrize("t", [np.int64(500), np.uint8(7), 500], ids=repr)
def test_an_integer_scalar_gets_the_hint_of_an_int(t):
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match="divide integer timesteps"):
        rf.add_noise(x, x, t)


@pytest.mark.parametrize("tokens", [np.uint8(100), np.uint16(100), np.uint32(100), np.int8(100), np.float16(100), 100])
def test_tokens_of_any_numpy_type_are_counted_right(tokens):
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (100 - 256)
    assert rf.resolution_shift(tokens) == pytest.approx(exp(mu), rel=1e-14)


def test_axes_may_be_numpy_integers():
    assert rf.expand_like(np.zeros((2, 5)), np.zeros((2, 3, 5)), axes=(np.int64(0), np.uint8(2))).shape == (2, 1, 5)


@pytest.mark.parametrize("seed", [np.uint32(7), np.int64(7)], ids=repr)
def test_a_numpy_integer_is_a_seed(xp, seed):
    draws = [rf.sample_timesteps(8, CFG, rng=rng, **xp.draw_args) for rng in (seed, 7)]
    assert np.array_equal(*map(xp.numpy, draws))


def test_different_ints_give_different_streams(xp):
    seeds = [1, 1 + 2**32, 1 + 2**40, 1 + 2**64, 1 + 2**100, *(rank << 32 for rank in range(1, 4)), 2**32 - 1, 0]
    draws = {tuple(xp.numpy(rf.sample_timesteps(8, CFG, rng=seed, **xp.draw_args)).tolist()) for seed in seeds}
    assert len(draws) == len(seeds)


@pytest.mark.parametrize("seed", [-1, np.int64(-3), -(2**70)], ids=repr)
def test_a_negative_seed_is_a_value_error(xp, seed):
    with pytest.raises(ValueError, match="must be non-negative"):
        rf.sample_timesteps(8, CFG, rng=seed, **xp.draw_args)


@pytest.mark.parametrize("value", [sys.float_info.max, -sys.float_info.max, 2**1023, Fraction(1, 3)])
def test_a_parameter_may_be_any_number_that_float64_can_hold(value):
    assert rf.SampleTimestepConfig(p_mean=value).p_mean == float(value)


def test_a_foreign_config_may_lack_what_its_law_does_not_use():
    fields = {"time_dist_type": "uniform", "min_t": 0.1, "max_t": 0.9}
    sparse = SimpleNamespace(**fields)
    nones = SimpleNamespace(**fields, shift=None, p_mean=None, p_std=None, t_list=None, truncate=None, beta_a=None)
    wanted = rf.sample_timesteps(8, rf.SampleTimestepConfig(**fields), rng=0, xp=np)
    for cfg in (sparse, nones):
        assert np.array_equal(rf.sample_timesteps(8, cfg, rng=0, xp=np), wanted)


def test_rungs_may_be_an_array(xp):
    rungs = xp.array(np.array([1.0, 0.75, 0.5, 0.0]))
    assert rf.SampleTimestepConfig(t_list=rungs).t_list == (1.0, 0.75, 0.5, 0.0)
    got, wanted = (
        rf.sample_from_t_list(16, t_list, rng=1, **xp.draw_args) for t_list in (rungs, (1.0, 0.75, 0.5, 0.0))
    )
    assert np.array_equal(xp.numpy(got), xp.numpy(wanted))


@pytest.mark.parametrize("truncate", [False, True])
def test_a_shift_below_one_is_a_law_like_any_other(truncate):
    cfg = rf.SampleTimestepConfig(shift=0.25, truncate=truncate, min_t=0.0, max_t=1.0)
    u = np.linspace(0, 1, 11)
    assert np.allclose(rf.timestep_quantile(u, cfg), 0.25 * u / (1 - 0.75 * u), rtol=1e-14, atol=0)


def test_masked_arrays_are_refused():
    plain = np.ones((2, 3))
    masked = np.ma.masked_array(plain, mask=plain > 2)
    t = np.ma.masked_array(np.array([0.5, 0.5]), mask=[False, True])
    calls = {
        "x0": lambda: rf.add_noise(masked, plain, 0.5),
        "eps": lambda: rf.add_noise(plain, masked, 0.5),
        "t": lambda: rf.add_noise(plain, plain, t),
        "t_next": lambda: rf.ode_step(plain, plain, 0.5, t),
        "u": lambda: rf.timestep_quantile(t, CFG),
        "x": lambda: rf.expand_like(t, plain),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"^{name} must not be a masked array"):
            call()


@pytest.mark.backends("torch")
@pytest.mark.parametrize("dtype", [np.longdouble, object], ids=lambda dtype: dtype.__name__)
def test_a_dtype_that_torch_lacks_is_a_type_error(xp, dtype):
    with pytest.raises(TypeError, match="dtype must be a real floating dtype"):
        rf.sample_timesteps(4, CFG, rng=0, **xp.draw_args, dtype=dtype)


@pytest.mark.backends("jax")
def test_a_device_that_jax_lacks_is_a_value_error(xp):
    with pytest.raises(ValueError, match="device must be one of"):
        rf.sample_timesteps(4, CFG, rng=0, xp=xp.namespace, device="cpu:99")


@pytest.mark.backends("dask")
def test_chunks_of_unknown_size_are_served(xp):
    host = np.linspace(-1, 1, 12, dtype=np.float32)
    x = xp.array(host)
    unknown, other = x[x > -0.5], (2 * x)[x > -0.5]
    kept = host[host > -0.5]
    got = rf.add_noise(unknown, other, 0.25)
    assert np.array_equal(xp.numpy(got), rf.add_noise(kept, 2 * kept, 0.25))
    density = rf.timestep_density(abs(unknown), rf.SampleTimestepConfig(time_dist_type="uniform"))
    assert not any(isnan(value) for value in xp.numpy(density))
    assert xp.numpy(rf.expand_like(unknown, rf.expand_like(other, xp.array(np.zeros((12, 1)))))).shape == (len(kept), 1)


@show_type
def test_a_numpy_scalar_is_a_noise_level(half):
    assert rf.convert_time(half, source="sigma", target="rf") == 0.5 / 1.5


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("source", ["sigma", "log_snr"])
def test_an_int_beyond_float64_is_no_noise_level(source, sign):
    with pytest.raises(ValueError, match="time must be a number that float64 can hold"):
        rf.convert_time(sign * 10**400, source=source, target="rf")


@pytest.mark.backends("jax")
def test_numpy_arrays_beside_jax_pass_where_nothing_is_to_convert(xp):
    host, here = np.ones((2, 3), np.float32), xp.array(np.ones((2, 3)))
    t = np.array([0.5, 0.25], np.float32)
    assert rf.convert_prediction(here, host, t, source="v", target="v") is here
    assert isinstance(rf.convert_prediction(host, here, t, source="v", target="v"), type(here))
    assert rf.convert_state(here, t, source="vp", target="vp") is here

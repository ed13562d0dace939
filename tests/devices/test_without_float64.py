"""Devices without float64: every formula equal to float64's rounding, and samplers that work there.

The formulas' float64 results are NumPy's, which everywhere/test_formulas.py holds against exact arithmetic bit for bit.
The arithmetic itself is tested in arithmetic/test_words.py, PyTorch and JAX made to go without float64 in the files of
this name in their folders.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases.names import every_published_law
from tests.cases.without_float64 import ARRAY_TIMES, CALLS, FLOAT_TIMES, SCALES, arrays, off, wanted

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")
every_call = pytest.mark.parametrize("call", CALLS)


@every_call
@pytest.mark.parametrize("t", FLOAT_TIMES)
@pytest.mark.needs("no float64")
def test_without_float64_a_python_float_t_gives_float64s_numbers(xp, call, t):
    first, second = arrays(*SCALES)
    got = xp.numpy(CALLS[call](xp.array(first), xp.array(second), t))
    assert off(got, wanted(call, first, second, t)) == 0


@every_call
@pytest.mark.parametrize("t", ARRAY_TIMES)
@pytest.mark.needs("no float64")
def test_without_float64_an_array_t_gives_float64s_numbers(xp, call, t):
    first, second = arrays(*SCALES)
    got = xp.numpy(CALLS[call](xp.array(first), xp.array(second), xp.array(ARRAY_TIMES[t])))
    assert off(got, wanted(call, first, second, ARRAY_TIMES[t])) == 0


@pytest.mark.parametrize("call", ["x0_to_eps", "x0_to_flow", "x0 to v"])
@pytest.mark.parametrize("t", [1e-6, 1e-5, 1e-4, 1e-3])
@pytest.mark.needs("no float64")
def test_without_float64_cancellation_leaves_float64s_numbers(xp, call, t):
    """Where x_t is x0 and a little noise, float64's own rounding errors reach float32's bits."""
    x0, eps = arrays((1.0, 1.0))
    times = np.full(len(x0), t, np.float32)
    x_t = rf.add_noise(x0, eps, times)
    got = xp.numpy(CALLS[call](xp.array(x0), xp.array(x_t), xp.array(times)))
    assert off(got, wanted(call, x0, x_t, times)) == 0


@every_call
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.needs("no float64")
def test_without_float64_infinities_and_nan_are_float64s(xp, call, t):
    values = np.array([np.inf, -np.inf, np.nan, 0.0, 1.0, -2.0], np.float32)
    first, second = (a.astype(np.float32) for a in np.meshgrid(values, values))
    for time in (t, np.full(6, t, np.float32)):
        native = time if isinstance(time, float) else xp.array(time)
        got = xp.numpy(CALLS[call](xp.array(first), xp.array(second), native))
        np.testing.assert_array_equal(got, wanted(call, first, second, time))


@pytest.mark.parametrize("call", ["add_noise", "pred_x0_from_flow"])
@pytest.mark.needs("no float64")
def test_plain_float32_would_not_do(call):
    """The twin of the tests above: the same comparison rejects the formula evaluated in float32."""
    first, second = arrays((1.0, 1.0))
    t = ARRAY_TIMES["ordinary"][:, None]
    plain = first * (1 - t) + second * t if call == "add_noise" else second - t * first
    assert plain.dtype == np.float32
    assert off(plain, wanted(call, first, second, t[:, 0])) > 0.1 * plain.size


# The samplers


@pytest.mark.backends("array_api_strict", "dask")
def test_quantile_of_an_array_without_special_functions_is_a_type_error(xp):
    with pytest.raises(TypeError, match=r"u is an array of .* NumPy"):
        rf.timestep_quantile(xp.array(np.array([0.5])), rf.SampleTimestepConfig())


@pytest.mark.needs("no float64")
@every_published_law
def test_sampling_works_where_there_is_no_float64(xp, law):
    cfg = rf.SampleTimestepConfig(time_dist_type=law)
    t = rf.sample_timesteps(500, cfg, rng=4, **xp.draw_args)
    on_host = rf.sample_timesteps(500, cfg, rng=4, xp=np)
    assert xp.device_of(t) == xp.device
    assert t.dtype == xp.dtype("float32")
    assert np.array_equal(xp.numpy(t), on_host)


@pytest.mark.needs("no float64")
def test_float64_asked_of_a_device_without_it_is_an_error(xp):
    with pytest.raises((TypeError, ValueError)):
        rf.sample_timesteps(3, rf.SampleTimestepConfig(), rng=0, dtype=xp.namespace.float64, **xp.draw_args)

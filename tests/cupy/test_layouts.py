"""CuPy: layouts and dtypes as NumPy has them, and capture in a CUDA graph, which no waiting call would survive."""

from __future__ import annotations

import cupy
import numpy as np
import pytest
from ml_dtypes import bfloat16

import fastgen_rf as rf
from tests.cases.names import every_published_law

FORMULAS = ["add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow"]
every_formula = pytest.mark.parametrize("formula", FORMULAS)
SHAPE = (3, 4, 5, 6)


def arrays(layout="C", dtype=np.float32):
    first, second = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(dtype)
    if layout == "strided":
        return np.repeat(first, 2, axis=-1)[..., ::2], np.repeat(second, 2, axis=-1)[..., ::2]
    if layout == "channels last":
        return tuple(x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) for x in (first, second))
    return tuple(np.asarray(x, order=layout) for x in (first, second))


def on_device(array):
    """The array on the GPU in its layout: gaps, which no transfer keeps, are cut there."""
    if array.size and not array.flags.c_contiguous and array.strides[-1] == 2 * array.itemsize:
        return cupy.repeat(cupy.asarray(array.copy()), 2, axis=-1)[..., ::2]
    order = sorted(range(array.ndim), key=array.strides.__getitem__, reverse=True)
    dense = cupy.asarray(array.transpose(order))  # CuPy moves other orders than C and Fortran as C
    return dense.transpose([order.index(axis) for axis in range(array.ndim)])


@every_formula
@pytest.mark.parametrize("layout", ["C", "F", "channels last", "strided"])
@pytest.mark.parametrize(
    "t", [0.3, np.array([0.0, 0.5, 1.0]), np.full((3, 4), 0.7, np.float32), np.float64(0.2)], ids=str
)
def test_every_layout_gives_numpy_s_bits_and_strides(formula, layout, t):
    host = arrays(layout)
    device = [on_device(x) for x in host]
    time = t if isinstance(t, float) else cupy.asarray(t)
    result, expected = getattr(rf, formula)(*device, time), getattr(rf, formula)(*host, t)
    assert np.array_equal(cupy.asnumpy(result), expected)
    assert result.dtype == expected.dtype
    assert all(x.strides == y.strides for x, y in zip(host, device, strict=True))
    if layout != "strided":
        assert result.strides == device[0].strides


@every_formula
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # float16's, on the host
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("t", [0.3, np.array([0.0, 0.5, 1.0])], ids=["float", "array"])
def test_every_dtype_gives_numpy_s_bits(formula, dtype, t):
    host = arrays(dtype=dtype)
    time = t if isinstance(t, float) else t.astype(dtype)
    result = getattr(rf, formula)(*map(on_device, host), time if isinstance(t, float) else cupy.asarray(time))
    expected = getattr(rf, formula)(*host, time)
    assert result.dtype == expected.dtype == np.dtype(dtype)
    assert np.array_equal(cupy.asnumpy(result).view(np.uint8), expected.view(np.uint8))


SMALLEST = {np.float32: 2.0**-149, bfloat16: 2.0**-133}  # what a cast to zero would lose


@pytest.mark.parametrize("dtype", [*SMALLEST], ids=lambda dtype: dtype.__name__)
def test_subnormals_come_and_go_as_they_are(dtype):
    small = (np.arange(-4, 5) * SMALLEST[dtype]).astype(dtype)
    x = cupy.asarray(small)
    assert cupy.asnumpy(rf.pred_x0_from_flow(x, x, 0.0)).tolist() == small.tolist()
    doubled = rf.x0_to_flow(-x, x, 1.0)
    assert cupy.asnumpy(doubled).tolist() == (2 * small.astype(np.float64)).tolist()
    tiny = rf.timestep_quantile(x[5:], rf.SampleTimestepConfig("uniform", 0.0, 1.0))
    assert cupy.asnumpy(tiny).tolist() == small[5:].tolist()


def test_a_step_between_two_float_times():
    x0, x_t = (x.astype(np.float64) for x in arrays())
    result = rf.ode_step(cupy.asarray(x0), cupy.asarray(x_t), 0.5, 0.25)
    assert np.array_equal(cupy.asnumpy(result), x0 * 0.5 + x_t * 0.5)


LAST = cupy.cuda.Device(cupy.cuda.runtime.getDeviceCount() - 1)  # with one GPU, that one


@pytest.mark.parametrize(
    "call",
    [
        lambda x, t: rf.rf_alpha(t),
        lambda x, t: rf.add_noise(x, x, t),
        lambda x, t: rf.ode_step(x, x, t, 0.1),
        lambda x, t: rf.ode_step(x, x, 0.1, t),
        lambda x, t: rf.ode_step(x, x, 0.2, 0.1),
        lambda x, t: rf.shift_timesteps(t, 3.0),
        lambda x, t: rf.timestep_quantile(t, rf.SampleTimestepConfig()),
        lambda x, t: rf.timestep_density(t, rf.SampleTimestepConfig("uniform")),
    ],
    ids=["alpha", "formula", "step from t", "step to t", "step of floats", "shift", "quantile", "density"],
)
def test_what_is_on_another_device_than_the_current_stays_there(call):
    with LAST:
        x, t = cupy.asarray(np.ones((3, 2), np.float32)), cupy.asarray(np.full(3, 0.3, np.float32))
    assert call(x, t).device == LAST


@pytest.mark.parametrize("device", [None, LAST, f"cuda:{LAST.id}"], ids=["None", "a device", "a string"])
def test_a_generator_draws_on_its_own_device(device):
    with LAST:
        rng = cupy.random.default_rng(0)
    assert rf.sample_timesteps(5, rf.SampleTimestepConfig(), rng=rng, device=device).device == LAST


def test_an_int_draws_where_it_is_told_to():
    assert rf.sample_timesteps(5, rf.SampleTimestepConfig(), rng=0, xp=cupy, device=LAST).device == LAST


@pytest.mark.skipif(LAST.id == 0, reason="one device: a generator cannot disagree with it")
def test_generator_and_device_must_agree():
    with pytest.raises(ValueError, match=r"rng and device must agree, got a generator on cuda:0 and device cuda:1"):
        rf.sample_timesteps(5, rf.SampleTimestepConfig(), rng=cupy.random.default_rng(0), device="cuda:1")


@every_published_law
def test_bfloat16_draws_keep_within_the_bounds(law):
    cfg = rf.SampleTimestepConfig(time_dist_type=law)
    t = cupy.asnumpy(rf.sample_timesteps(4000, cfg, rng=cupy.random.default_rng(0), dtype=bfloat16))
    assert t.dtype == bfloat16
    assert cfg.min_t <= float(t.min()) < float(t.max()) <= cfg.max_t


@every_formula
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
@pytest.mark.parametrize("t", [0.3, np.array(0.3)], ids=["float", "array"])
def test_arrays_without_axes_or_elements(formula, shape, t):
    x = cupy.ones(shape)
    result = getattr(rf, formula)(x, x, t if isinstance(t, float) else cupy.asarray(t))
    assert result.shape == shape


@pytest.mark.parametrize("step", ["flow_step", "ode_step"])
@pytest.mark.parametrize("times", [(0.75, 0.5), (np.array([0.75, 0.5, 0.3]), 0.5), (0.75, np.float32([0.5, 0.6, 1.0]))])
def test_steps_take_floats_and_arrays(step, times):
    host = arrays()
    device = [cupy.asarray(x) for x in host]
    native = [time if isinstance(time, float) else cupy.asarray(time) for time in times]
    assert np.array_equal(cupy.asnumpy(getattr(rf, step)(*device, *native)), getattr(rf, step)(*host, *times))


@every_formula
def test_nan_in_t_passes_the_floor(formula):
    x = cupy.ones(2)
    result = getattr(rf, formula)(x, 2 * x, cupy.asarray([float("nan"), 0.5]))
    assert cupy.asnumpy(cupy.isnan(result)).tolist() == [True, False]


@every_formula
@pytest.mark.parametrize("t", [0.3, np.array([0.1, 0.5, 0.9])], ids=["float", "array"])
def test_a_graph_captures_and_replays_it(formula, t):
    host = arrays()
    first, second = (cupy.asarray(x) for x in host)
    time = t if isinstance(t, float) else cupy.asarray(t)
    convert = getattr(rf, formula)
    convert(first, second, time)  # compiles
    cupy.cuda.get_current_stream().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        result = convert(first, second, time)
        graph = stream.end_capture()
        graph.launch(stream)
    stream.synchronize()
    assert np.array_equal(cupy.asnumpy(result), convert(*host, t))

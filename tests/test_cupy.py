"""CuPy: layouts and dtypes as NumPy has them, and capture in a CUDA graph, which no waiting call would survive."""

from __future__ import annotations

import cupy
import numpy as np
import pytest

import fastgen_rf as rf

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
    return cupy.asarray(array, order="K")


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
    if layout != "strided":
        assert result.strides == device[0].strides


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

"""Shapes, layouts, types and devices: what a result has in common with what went in.

``add_noise(0, 1, t)`` is t itself laid on x's shape, which shows where each value of t went.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgen_rf as rf
from tests.cases.without_float64 import CALLS

FORMULAS = ["add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow"]
every_formula = pytest.mark.parametrize("formula", FORMULAS)


def laid_out(t, shape):
    """Values of t on ``shape``, its axes leading, by NumPy's broadcasting."""
    return np.broadcast_to(t.reshape(t.shape + (1,) * (len(shape) - t.ndim)), shape)


def times(shape):
    return (np.arange(1, np.prod(shape, dtype=int) + 1) / 64).reshape(shape).astype(np.float32)


@pytest.mark.parametrize(
    "t_shape",
    [(), (2,), (1,), (2, 3), (2, 1), (1, 3), (1, 1), (2, 3, 4), (2, 1, 4), (1, 3, 1), (1, 1, 1)],
    ids=str,
)
def test_t_lies_on_the_leading_axes(xp, t_shape):
    t = times(t_shape)
    shape = (2, 3, 4)
    x_t = rf.add_noise(xp.array(np.zeros(shape)), xp.array(np.ones(shape)), xp.array(t))
    assert tuple(x_t.shape) == shape
    assert np.array_equal(xp.numpy(x_t), laid_out(t, shape))


@every_formula
@pytest.mark.parametrize("t_shape", [(), (3,), (3, 2)], ids=str)
def test_each_sample_is_converted_with_its_own_t(xp, formula, t_shape):
    first, second = np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 8.0]]), np.array([[2.0, 1.0], [-1.0, 0.25], [6.0, 2.0]])
    t = np.full(t_shape, 0.5) if t_shape == () else np.array([0.5, 0.0, 1.0]).reshape(3, 1)[:, :1]
    t = np.broadcast_to(t, t_shape) if len(t_shape) == 2 else t.reshape(t_shape)
    convert = getattr(rf, formula)
    together = xp.numpy(convert(xp.array(first), xp.array(second), xp.array(t)))
    rows = laid_out(np.asarray(t), (3, 2))[:, 0]
    one_by_one = [
        xp.numpy(convert(xp.array(a), xp.array(b), float(time))) for a, b, time in zip(first, second, rows, strict=True)
    ]
    assert np.array_equal(together, one_by_one)


@pytest.mark.dtypes()
@pytest.mark.parametrize(
    ("formula", "shape"),
    [
        *((formula, (2, 3, 4, 5)) for formula in FORMULAS),
        *(("add_noise", shape) for shape in [(), (0,), (3,), (0, 3), (2, 0, 3)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("t_kind", ["float", "0-d", "per sample"])
def test_result_has_the_inputs_shape_dtype_type_and_device(xp, dtype, formula, shape, t_kind):
    first, second = xp.array(np.ones(shape), dtype), xp.array(np.ones(shape), dtype)
    t = 0.5 if t_kind == "float" else xp.array(np.full(shape[:1] if t_kind == "per sample" else (), 0.5))
    result = getattr(rf, formula)(first, second, t)
    assert type(result) is type(first)
    assert tuple(result.shape) == shape
    assert result.dtype == xp.dtype(dtype)
    assert xp.device_of(result) == xp.device


shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(shape=shapes, data=st.data())
def test_any_leading_part_of_the_shape_fits(xp, shape, data):
    rank = data.draw(st.integers(0, len(shape)))
    t_shape = tuple(data.draw(st.sampled_from((1, n))) for n in shape[:rank])
    t = times(t_shape)
    x_t = rf.add_noise(xp.array(np.zeros(shape)), xp.array(np.ones(shape)), xp.array(t))
    assert tuple(x_t.shape) == shape
    assert np.array_equal(xp.numpy(x_t), laid_out(t, shape))


# Layouts

LAYOUTS = {
    "C": lambda x: x,
    "F": lambda x: x.T.copy().T,
    "transposed": lambda x: x.transpose(0, 3, 1, 2),
    "channels last": lambda x: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    "every other column": lambda x: x[..., ::2],
    "reversed": lambda x: x[::-1, :, ::-1],
    "one value": lambda x: np.broadcast_to(x[:1], x.shape),
}
every_layout = pytest.mark.parametrize("layout", list(LAYOUTS))


@every_layout
@every_formula
@pytest.mark.backends("numpy")
@pytest.mark.parametrize("large", [False, True])
def test_values_do_not_depend_on_the_layout(xp, formula, layout, large):
    shape = (5, 6, 64, 96) if large else (2, 3, 4, 6)
    rng = np.random.default_rng(0)
    first, second = (LAYOUTS[layout](rng.standard_normal(shape).astype(np.float32)) for _ in range(2))
    t = rng.uniform(0.01, 0.99, len(first)).astype(np.float32)
    result = getattr(rf, formula)(first, second, t)
    packed = getattr(rf, formula)(np.ascontiguousarray(first), np.ascontiguousarray(second), t)
    assert np.array_equal(result, packed)


@every_formula
@pytest.mark.backends("numpy")
@pytest.mark.parametrize("layout", ["C", "F", "transposed", "channels last"])
@pytest.mark.parametrize("large", [False, True])
def test_numpy_result_has_the_inputs_memory_order(xp, formula, layout, large):
    shape = (5, 6, 64, 96) if large else (2, 3, 4, 6)
    first, second = (LAYOUTS[layout](np.ones(shape, np.float32)) for _ in range(2))
    assert getattr(rf, formula)(first, second, np.full(shape[0], 0.5)).strides == first.strides


@pytest.mark.parametrize("layout", ["F", "every other column", "reversed"])
@every_formula
@pytest.mark.backends("numpy", "torch", "cupy")
def test_strided_t_is_read_where_it_points(xp, formula, layout):
    t = times((4, 6)) / 2
    view = {"F": t.T.copy().T, "every other column": np.repeat(t, 2, axis=1), "reversed": t}[layout]
    strided = xp.array(view)
    if layout == "every other column":
        strided = strided[:, ::2]
    rng = np.random.default_rng(1)
    first, second = (xp.array(rng.standard_normal((4, 6, 5))) for _ in range(2))
    result = getattr(rf, formula)(first, second, strided)
    assert np.array_equal(xp.numpy(result), xp.numpy(getattr(rf, formula)(first, second, xp.array(t))))


@every_formula
@pytest.mark.backends("numpy", "torch", "cupy", "jax", "array_api_strict")
def test_sliced_and_permuted_inputs_give_the_values_of_packed_ones(xp, formula):
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((2, 4, 3, 8)).astype(np.float32)
    t = xp.array(rng.uniform(0.1, 0.9, 3))
    permute = getattr(xp.namespace, "permute_dims", None) or (lambda array, axes: array.permute(axes))
    strided = [permute(xp.array(array), (1, 0, 2))[:, 1:3, ::2] for array in (first, second)]
    packed = [xp.array(array.transpose(1, 0, 2)[:, 1:3, ::2].copy()) for array in (first, second)]
    convert = getattr(rf, formula)
    assert np.array_equal(xp.numpy(convert(*strided, t)), xp.numpy(convert(*packed, t)))


@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("t", [0.0, 1.0])
@pytest.mark.dtypes("float64", "float32")
def test_result_never_shares_memory_with_an_input(xp, dtype, call, t):
    for time in (t, xp.array(np.full(2, t), dtype)):
        first, second = xp.array(np.full((2, 3), 0.5), dtype), xp.array(np.ones((2, 3)), dtype)
        result = call(first, second, time)
        before = xp.numpy(result).copy()
        first += 7
        second += 7
        time += 7
        assert np.array_equal(xp.numpy(result), before, equal_nan=True)


@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.parametrize("shape", [(3,), (3, 2**17)])
@pytest.mark.dtypes("float64", "float32")
def test_a_function_of_times_shares_no_memory_with_them(xp, dtype, shape):
    law = rf.SampleTimestepConfig("uniform", min_t=0.0, max_t=1.0)
    for call in (
        rf.rf_alpha,
        lambda t: rf.shift_timesteps(t, 1),
        lambda t: rf.convert_time(t, source="rf", target="sigma"),
        lambda t: rf.timestep_quantile(t, law),
        lambda t: rf.timestep_density(t, law),
    ):
        t = xp.array(np.full(shape, 0.25), dtype)
        result = call(t)
        before = xp.numpy(result).copy()
        t += 7
        assert np.array_equal(xp.numpy(result), before)


# expand_like


@pytest.mark.parametrize(
    ("x_shape", "target_shape", "expected"),
    [
        ((), (), ()),
        ((), (2, 3), (1, 1)),
        ((2,), (2,), (2,)),
        ((2,), (2, 3, 4), (2, 1, 1)),
        ((1,), (2, 3, 4), (1, 1, 1)),
        ((2, 3), (2, 3, 4, 5), (2, 3, 1, 1)),
        ((2, 1), (2, 3, 4), (2, 1, 1)),
        ((2, 3, 4), (2, 3, 4), (2, 3, 4)),
        ((0,), (0, 3), (0, 1)),
    ],
    ids=str,
)
def test_expand_like_appends_singleton_axes(xp, x_shape, target_shape, expected):
    x = np.arange(np.prod(x_shape, dtype=int), dtype=np.float32).reshape(x_shape)
    expanded = rf.expand_like(xp.array(x), xp.array(np.zeros(target_shape)))
    assert tuple(expanded.shape) == expected
    assert np.array_equal(xp.numpy(expanded), x.reshape(expected))


@pytest.mark.parametrize(
    ("x_shape", "axes", "expected"),
    [
        ((2, 4), (0, 2), (2, 1, 4, 1, 1)),
        ((2, 4), [0, 2], (2, 1, 4, 1, 1)),
        ((4,), (2,), (1, 1, 4, 1, 1)),
        ((6,), (-1,), (1, 1, 1, 1, 6)),
        ((2, 6), (0, -1), (2, 1, 1, 1, 6)),
        ((4, 2), (2, 0), (2, 1, 4, 1, 1)),
        ((4, 2), (-3, -5), (2, 1, 4, 1, 1)),
        ((4, 2, 3), (2, 0, 1), (2, 3, 4, 1, 1)),
        ((3, 4, 2), (1, 2, 0), (2, 3, 4, 1, 1)),
        ((1, 4), (0, 2), (1, 1, 4, 1, 1)),
        ((), (), (1, 1, 1, 1, 1)),
    ],
    ids=str,
)
def test_expand_like_lays_xs_axes_where_axes_says(xp, x_shape, axes, expected):
    x = np.arange(np.prod(x_shape, dtype=int), dtype=np.float32).reshape(x_shape)
    expanded = rf.expand_like(xp.array(x), xp.array(np.zeros((2, 3, 4, 5, 6))), axes=axes)
    order = np.argsort([axis % 5 for axis in axes]).tolist()
    assert tuple(expanded.shape) == expected
    assert np.array_equal(xp.numpy(expanded), x.transpose(order).reshape(expected))


def test_per_frame_t_noises_each_frame_with_its_own_t(xp):
    t = times((2, 4))
    video = np.zeros((2, 3, 4, 5, 6), np.float32)
    laid = rf.expand_like(xp.array(t), xp.array(video), axes=(0, 2))
    x_t = rf.add_noise(xp.array(video), xp.array(video + 1), laid)
    assert np.array_equal(xp.numpy(x_t)[:, 1, :, 2, 3], t)


def test_expanded_x_broadcasts_against_a_target_axis_of_size_1(xp):
    expanded = rf.expand_like(xp.array(np.ones(3)), xp.array(np.ones((1, 4))))
    assert tuple(expanded.shape) == (3, 1)


@pytest.mark.dtypes()
def test_expand_like_keeps_dtype_type_and_device(xp, dtype):
    x = xp.array(np.ones(2), dtype)
    expanded = rf.expand_like(x, xp.array(np.ones((2, 3))))
    assert type(expanded) is type(x)
    assert expanded.dtype == x.dtype
    assert xp.device_of(expanded) == xp.device


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_expand_like_takes_any_dtype(xp, dtype):
    x = np.array([0, 1], dtype)
    native = xp.namespace.asarray(x, **({"device": xp.device} if xp.name in ("torch", "array_api_strict") else {}))
    expanded = rf.expand_like(native, xp.array(np.ones((2, 3))))
    assert expanded.dtype == native.dtype
    assert np.array_equal(xp.numpy(expanded), x.reshape(2, 1))


@pytest.mark.backends("numpy", "torch")
def test_expand_like_is_a_view(xp):
    x = xp.array(np.zeros(2))
    expanded = rf.expand_like(x, xp.array(np.zeros((2, 3))))
    x += 1
    assert xp.numpy(expanded).tolist() == [[1.0], [1.0]]

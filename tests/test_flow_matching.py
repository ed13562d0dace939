"""The forward process and its inversions: the order of operations, shapes, layouts, memory, and expand_like.

``add_noise(0, 1, t)`` is t itself laid on x's shape, which shows where each value of t went.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.bits import assert_same_bits
from tests.catalogue import HARD_TIMES, REPRESENTATIVE, ROWS

AS_WRITTEN = {  # in plain operators, in the dtype of what they are given
    "add_noise": lambda x0, eps, t: x0 * (1 - t) + eps * t,
    "pred_noise_to_pred_x0": lambda eps, x_t, t: (x_t - t * eps) / np.maximum(1 - t, 1e-6),
    "pred_x0_from_flow": lambda v, x_t, t: x_t - t * v,
    "x0_to_eps": lambda x0, x_t, t: (x_t - (1 - t) * x0) / np.maximum(t, 1e-6),
    "x0_to_flow": lambda x0, x_t, t: (x_t - x0) / np.maximum(t, 1e-6),
}
every_formula = pytest.mark.parametrize("name", list(AS_WRITTEN))
representative = pytest.mark.parametrize("name", REPRESENTATIVE)


def laid_out(t: Any, shape: tuple[int, ...]) -> Any:
    """Values of t on ``shape``, its axes leading, by NumPy's broadcasting."""
    return np.broadcast_to(t.reshape(t.shape + (1,) * (len(shape) - t.ndim)), shape)


def times(shape: tuple[int, ...]) -> Any:
    return (np.arange(1, math.prod(shape) + 1) / 64).reshape(shape).astype(np.float32)


# The contract on bits


@every_formula
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("columns", [64, 20_000], ids=["small", "in blocks"])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_numpy_evaluates_left_to_right_in_float64_and_casts_once(name: str, dtype: str, columns: int) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, len(HARD_TIMES), columns)).astype(dtype)
    t = HARD_TIMES.astype(dtype)
    wide = [x.astype(np.float64) for x in (first, second, t[:, None])]
    assert_same_bits(getattr(rf, name)(first, second, t), AS_WRITTEN[name](*wide).astype(dtype))
    assert_same_bits(
        getattr(rf, name)(first, second, np.float64(0.7)), AS_WRITTEN[name](wide[0], wide[1], 0.7).astype(dtype)
    )


@pytest.mark.parametrize("n", [3, 2**20])
def test_numpy_rounds_float64_to_float16_once(n: int) -> None:
    x_t, v = np.ones(n, np.float16), np.full(n, -(2.0**-11) - 2.0**-40)  # in float32 the sum is a tie, and then 1
    assert (rf.pred_x0_from_flow(v, x_t, 1.0) == 1 + 2.0**-10).all()


@pytest.mark.dtypes()
def test_t_0_is_data_and_t_1_is_noise(xp: Any, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x0, eps = (xp.array(rng.standard_normal((3, 5)), dtype) for _ in range(2))
    for t, wanted in ((0, x0), (0.0, x0), (1, eps), (1.0, eps)):
        assert np.array_equal(xp.numpy(rf.add_noise(x0, eps, t)), xp.numpy(wanted))


# Dtypes


@pytest.mark.needs("float64")
@every_formula
def test_the_result_has_the_dtype_of_one_named_argument(xp: Any, name: str) -> None:
    """x0's or noisy_latents', whatever the dtypes of the other arguments."""
    row = ROWS[name]
    values = np.array([[0.5, -1.25], [3.0, 0.75]])  # exact in every dtype, and so are the results
    wanted = row(values, values[::-1].copy(), np.array([0.5, 0.5]))
    names = xp.dtypes
    for at in range(len(names)):
        first, second, third = (names[(at + step) % len(names)] for step in (0, 1, 2))
        got = row(xp.array(values, first), xp.array(values[::-1].copy(), second), xp.array(np.full(2, 0.5), third))
        assert got.dtype == xp.dtype((first, second)[row.like])
        assert np.array_equal(np.asarray(xp.numpy(got), np.float64), wanted)


# Infinities and NaN

inf, nan = math.inf, math.nan


@pytest.mark.parametrize(
    ("name", "first", "second", "t", "expected"),
    [
        ("add_noise", inf, 1.0, 0.5, inf),
        ("add_noise", inf, -inf, 0.5, nan),
        ("add_noise", inf, 1.0, 1.0, nan),  # 0 times infinity
        ("pred_noise_to_pred_x0", inf, 1.0, 0.5, -inf),
        ("pred_x0_from_flow", inf, 1.0, 0.5, -inf),
        ("x0_to_eps", 1.0, inf, 0.5, inf),
        ("x0_to_flow", inf, inf, 0.5, nan),
    ],
)
def test_infinities_propagate_as_in_ieee_arithmetic(
    xp: Any, name: str, first: float, second: float, t: float, expected: float
) -> None:
    for time in (t, xp.array(np.array([t]))):
        with np.errstate(invalid="ignore"):  # dask computes within
            got = xp.numpy(getattr(rf, name)(xp.array(np.array([first])), xp.array(np.array([second])), time))
        assert np.array_equal(got, [expected], equal_nan=True)


@representative
def test_nan_stays_in_its_element(xp: Any, name: str) -> None:
    for place in range(3):
        arguments = [np.full(2, 0.5, np.float32) for _ in range(3)]
        arguments[place][1] = nan
        with np.errstate(invalid="ignore"):
            got = xp.numpy(getattr(rf, name)(*(xp.array(argument) for argument in arguments)))
        assert np.isnan(got).tolist() == [False, True]


# Shapes


def test_t_lies_on_the_leading_axes(xp: Any) -> None:
    shape = (2, 3, 4)
    zeros, ones = xp.array(np.zeros(shape)), xp.array(np.ones(shape))
    for t_shape in [(), (2,), (1,), (2, 3), (2, 1), (1, 3), (1, 1), (2, 3, 4), (2, 1, 4), (1, 3, 1), (1, 1, 1)]:
        t = times(t_shape)
        x_t = rf.add_noise(zeros, ones, xp.array(t))
        assert tuple(x_t.shape) == shape
        assert np.array_equal(xp.numpy(x_t), laid_out(t, shape))


@representative
def test_each_sample_is_converted_with_its_own_t(xp: Any, name: str) -> None:
    first, second = np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 8.0]]), np.array([[2.0, 1.0], [-1.0, 0.25], [6.0, 2.0]])
    t = np.array([0.5, 0.0, 1.0])
    convert = getattr(rf, name)
    together = xp.numpy(convert(xp.array(first), xp.array(second), xp.array(t)))
    one_by_one = [
        xp.numpy(convert(xp.array(a), xp.array(b), float(time))) for a, b, time in zip(first, second, t, strict=True)
    ]
    assert np.array_equal(together, one_by_one)


@representative
def test_the_result_has_the_shape_type_and_device_of_its_input(xp: Any, name: str) -> None:
    for shape in [(), (0,), (3,), (0, 3), (2, 0, 3), (2, 3, 4, 5)]:
        x = xp.array(np.ones(shape))
        for t in (0.5, xp.array(np.array(0.5)), xp.array(np.full(shape[:1], 0.5))):
            got = getattr(rf, name)(x, x, t)
            assert type(got) is type(x)
            assert tuple(got.shape) == shape
            assert xp.device_of(got) == xp.device


# Layouts

LAYOUTS = {
    "C": lambda x: x,
    "Fortran": lambda x: x.T.copy().T,
    "transposed": lambda x: x.transpose(0, 3, 1, 2),
    "channels last": lambda x: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    "every other column": lambda x: x[..., ::2],
    "reversed": lambda x: x[::-1, :, ::-1],
    "one value": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (5, 6, 64, 96)], ids=["small", "in blocks"])
def test_numpys_values_do_not_depend_on_the_layout(layout: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    first, second = (LAYOUTS[layout](rng.standard_normal(shape).astype(np.float32)) for _ in range(2))
    t = rng.uniform(0.01, 0.99, len(first)).astype(np.float32)
    for name in REPRESENTATIVE:
        got = getattr(rf, name)(first, second, t)
        assert np.array_equal(got, getattr(rf, name)(np.ascontiguousarray(first), np.ascontiguousarray(second), t))
        if layout in ("C", "Fortran", "transposed", "channels last"):
            assert got.strides == first.strides


@pytest.mark.backends("numpy", "torch", "cupy", "jax", "array_api_strict")
@representative
def test_strided_arrays_and_times_are_read_where_they_point(xp: Any, name: str) -> None:
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((2, 4, 3, 8)).astype(np.float32)
    t = xp.array(np.repeat(rng.uniform(0.1, 0.9, 3), 2))[::2]
    permute = getattr(xp.namespace, "permute_dims", None) or (lambda array, axes: array.permute(axes))
    strided = [permute(xp.array(array), (1, 0, 2))[:, 1:3, ::2] for array in (first, second)]
    packed = [xp.array(array.transpose(1, 0, 2)[:, 1:3, ::2].copy()) for array in (first, second)]
    convert = getattr(rf, name)
    assert np.array_equal(xp.numpy(convert(*strided, t)), xp.numpy(convert(*packed, xp.array(xp.numpy(t).copy()))))


# Memory


@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.dtypes("float64", "float32")
def test_a_result_never_shares_memory_with_an_argument(xp: Any, dtype: str) -> None:
    for row in ROWS.values():
        if row.function is rf.rf_sigma or row.function is rf.convert_time:
            continue  # t itself, and times that convert_time gets are checked below
        for time in (0.0, 0.5):
            arguments = [xp.array(np.ones((2, 3)) if kind in "xy" else np.full(2, time), dtype) for kind in row.takes]
            result = row(*arguments)
            before = xp.numpy(result).copy()
            for argument in arguments:
                argument += 7
            assert np.array_equal(xp.numpy(result), before, equal_nan=True), row.name


@pytest.mark.backends("numpy", "torch", "cupy")
def test_large_times_share_no_memory_with_what_is_made_of_them(xp: Any) -> None:
    uniform = rf.SampleTimestepConfig("uniform", min_t=0.0, max_t=1.0)
    for call in (
        rf.rf_alpha,
        lambda t: rf.shift_timesteps(t, 1),
        lambda t: rf.convert_time(t, source="rf", target="sigma"),
        lambda t: rf.timestep_quantile(t, uniform),
    ):
        t = xp.array(np.full((3, 2**17), 0.25), "float64")
        result = call(t)
        before = xp.numpy(result).copy()
        t += 7
        assert np.array_equal(xp.numpy(result), before)


# Coefficients


def test_sigma_is_t_itself_and_alpha_keeps_its_shape(xp: Any) -> None:
    for shape in [(), (0,), (2, 3)]:
        t = xp.array(np.full(shape, 0.25))
        assert rf.rf_sigma(t) is t
        alpha = rf.rf_alpha(t)
        assert (type(alpha), tuple(alpha.shape), xp.device_of(alpha)) == (type(t), shape, xp.device)


def test_coefficients_of_a_python_number_are_python_floats() -> None:
    for t, alpha in [(0, 1.0), (1, 0.0), (0.25, 0.75), (np.float64(0.5), 0.5)]:
        assert (type(rf.rf_alpha(t)), rf.rf_alpha(t)) == (float, alpha)
        assert (type(rf.rf_sigma(t)), rf.rf_sigma(t)) == (float, float(t))


# expand_like


def test_expand_like_appends_singleton_axes(xp: Any) -> None:
    for x_shape, target_shape, expected in [
        ((), (), ()),
        ((), (2, 3), (1, 1)),
        ((2,), (2,), (2,)),
        ((2,), (2, 3, 4), (2, 1, 1)),
        ((1,), (2, 3, 4), (1, 1, 1)),
        ((2, 1), (2, 3, 4), (2, 1, 1)),
        ((3,), (1, 4), (3, 1)),
        ((0,), (0, 3), (0, 1)),
    ]:
        x = np.arange(math.prod(x_shape), dtype=np.float32).reshape(x_shape)
        expanded = rf.expand_like(xp.array(x), xp.array(np.zeros(target_shape)))
        assert tuple(expanded.shape) == expected
        assert np.array_equal(xp.numpy(expanded), x.reshape(expected))


def test_expand_like_lays_axes_where_axes_says(xp: Any) -> None:
    target = xp.array(np.zeros((2, 3, 4, 5, 6)))
    for x_shape, axes, expected in [
        ((2, 4), (0, 2), (2, 1, 4, 1, 1)),
        ((2, 4), [0, 2], (2, 1, 4, 1, 1)),
        ((2, 4), (np.int64(0), np.uint8(2)), (2, 1, 4, 1, 1)),
        ((6,), (-1,), (1, 1, 1, 1, 6)),
        ((2, 6), (0, -1), (2, 1, 1, 1, 6)),
        ((4, 2), (2, 0), (2, 1, 4, 1, 1)),
        ((4, 2, 3), (2, 0, 1), (2, 3, 4, 1, 1)),
        ((3, 4, 2), (1, 2, 0), (2, 3, 4, 1, 1)),
        ((1, 4), (0, 2), (1, 1, 4, 1, 1)),
        ((), (), (1, 1, 1, 1, 1)),
    ]:
        x = np.arange(math.prod(x_shape), dtype=np.float32).reshape(x_shape)
        expanded = rf.expand_like(xp.array(x), target, axes=axes)
        order = np.argsort([axis % 5 for axis in axes]).tolist()
        assert tuple(expanded.shape) == expected
        assert np.array_equal(xp.numpy(expanded), x.transpose(order).reshape(expected))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_expand_like_keeps_any_dtype_the_type_and_the_device(xp: Any, dtype: str) -> None:
    x = xp.other_dtype(np.array([0, 1]), dtype)
    expanded = rf.expand_like(x, xp.array(np.ones((2, 3))))
    assert (type(expanded), expanded.dtype, xp.device_of(expanded)) == (type(x), x.dtype, xp.device_of(x))
    assert np.array_equal(xp.numpy(expanded).ravel(), xp.numpy(x))


@pytest.mark.backends("numpy", "torch")
def test_expand_like_returns_a_view(xp: Any) -> None:
    x = xp.array(np.zeros(2))
    expanded = rf.expand_like(x, xp.array(np.zeros((2, 3))))
    x += 1
    assert xp.numpy(expanded).tolist() == [[1.0], [1.0]]


def test_expand_like_rejects_arguments_that_do_not_fit(xp: Any) -> None:
    target = xp.array(np.ones((2, 3, 4)))
    for shape in [(3,), (2, 2), (2, 3, 4, 1)]:
        with pytest.raises(ValueError, match=r"x must broadcast.*\(2, 3, 4\)"):
            rf.expand_like(xp.array(np.ones(shape)), target)
    with pytest.raises(ValueError, match=r"x must broadcast.*axes \(0, 2\)"):
        rf.expand_like(xp.array(np.ones((2, 3))), target, axes=(0, 2))
    for axes in [(0,), (0, 1, 2), (0, 0), (0, -3), (0, 3), (-4, 1), ()]:
        with pytest.raises(ValueError, match="axes must name 2 different axes of a 3-dimensional target"):
            rf.expand_like(xp.array(np.ones((1, 1))), target, axes=axes)
    for bad in [(0.0, 1.0), ("0", "1"), (True, False), (None, None), 0, 1.5]:
        with pytest.raises(TypeError, match="axes must be"):
            rf.expand_like(xp.array(np.ones((2, 3))), target, axes=bad)
    for no_array in ([1.0], None, 0.5):
        with pytest.raises(TypeError, match="x must be an array"):
            rf.expand_like(no_array, target)
        with pytest.raises(TypeError, match="target must be an array"):
            rf.expand_like(xp.array(np.ones(2)), no_array)


# A time per frame or token

B, C, F, H, W = 2, 3, 5, 2, 4


def test_a_time_per_frame_noises_each_frame_with_its_own_t(xp: Any) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, B, C, F, H, W)).astype(np.float32)
    t = rng.uniform(0.1, 0.9, (B, F)).astype(np.float32)
    wanted = np.empty_like(first)
    for b, f in np.ndindex(t.shape):
        wanted[b, :, f] = rf.x0_to_eps(first[b, :, f].copy(), second[b, :, f].copy(), float(t[b, f]))
    x, y = xp.array(first), xp.array(second)
    # (B, 1, F) broadcasts after trailing singleton axes, without expand_like
    for laid in (rf.expand_like(xp.array(t), x, axes=(0, 2)), xp.array(t[:, None, :])):
        assert xp.numpy(rf.x0_to_eps(x, y, laid)) == pytest.approx(wanted, rel=3e-7, abs=1e-7)
    with pytest.raises(ValueError, match=r"t must .* expand_like\("):
        rf.x0_to_eps(x, y, xp.array(t))


def test_if_channels_equal_frames_the_leading_axes_win(xp: Any) -> None:
    """The trap: (B, F) fits (B, C, F, H, W) as a time per channel if C equals F. Only the user knows better."""
    x = xp.array(np.random.default_rng(0).standard_normal((B, F, F, H, W)))
    t = xp.array(np.random.default_rng(1).uniform(0.1, 0.9, (B, F)))
    per_channel = xp.numpy(rf.rf_alpha(rf.expand_like(t, x, axes=(0, 1)))) * xp.numpy(x)
    got = xp.numpy(rf.add_noise(x, xp.array(np.zeros((B, F, F, H, W))), t))
    assert got == pytest.approx(per_channel, rel=1e-6, abs=1e-6)

"""The forward process, its inversions and the steps: the order of operations, layouts, memory, expand_like.

The catalogue drives the tests of values, bits, features and errors. test_any_call.py combines shapes, layouts, dtypes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.benchmarks.cases import FORMULAS
from tests.bits import assert_same_bits
from tests.catalogue import FORMULAS as FORMULA_ROWS
from tests.catalogue import HARD_TIMES, ROWS

AS_WRITTEN = {  # in plain operators, in the dtype of what they are given
    **{name: lambda x, y, t, s, f=f: f(x, y, t, np.maximum) for name, f in FORMULAS.items()},
    "flow_step": lambda flow, x_t, t, s: x_t + (s - t) * flow,
    "ode_step": lambda x0, x_t, t, s: x0 * (1 - s / np.maximum(t, 1e-6)) + x_t * (s / np.maximum(t, 1e-6)),
}
TIMES = np.concatenate([HARD_TIMES, np.random.default_rng(2).random(8)])


# The contract on bits


@pytest.mark.parametrize("name", AS_WRITTEN)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_numpy_evaluates_left_to_right_in_float64_and_casts_once(name: str, dtype: str) -> None:
    """Small arrays and arrays in blocks, infinities and NaN, times in arrays and as floats."""
    row, rng = ROWS[name], np.random.default_rng(1)
    t, s = (x.astype(dtype) for x in (TIMES, rng.permutation(TIMES)))
    for columns in (64, 14_000):
        first, second = rng.standard_normal((2, len(TIMES), columns)).astype(dtype)
        first[:, :4], second[:, 2:6] = [np.inf, -np.inf, np.nan, np.inf], [np.inf, -np.inf, np.nan, 0.0]
        for times in ((t, s), (0.7, 0.3), (0.7, s), (t, 0.3)):
            wide = [x.astype(np.float64) for x in (first, second)]
            laid = [x if isinstance(x, float) else x.astype(np.float64)[:, None] for x in times]
            got = row(first, second, *times[: len(row.takes) - 2])
            assert_same_bits(got, AS_WRITTEN[name](*wide, *laid).astype(dtype))


@pytest.mark.parametrize("n", [3, 2**20])
def test_numpy_rounds_float64_to_float16_once(n: int) -> None:
    x_t, v = np.ones(n, np.float16), np.full(n, -(2.0**-11) - 2.0**-40)  # in float32 the sum is a tie, and then 1
    assert (rf.pred_x0_from_flow(v, x_t, 1.0) == 1 + 2.0**-10).all()


# Shapes and layouts. ``add_noise(0, 1, t)`` is t itself on x's shape, which shows where each value of t went.


LAYOUTS = {
    "Fortran": lambda x: x.T.copy().T,
    "transposed": lambda x: x.transpose(0, 3, 1, 2),
    "channels last": lambda x: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (5, 6, 64, 96)], ids=["small", "in blocks"])
def test_numpy_keeps_dense_layouts(layout: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    first, second = (LAYOUTS[layout](rng.standard_normal(shape).astype(np.float32)) for _ in range(2))
    got = rf.x0_to_eps(first, second, 0.3)
    assert got.strides == first.strides
    assert np.array_equal(got, rf.x0_to_eps(first.copy("C"), second.copy("C"), 0.3))


@pytest.mark.needs("float64")
def test_a_result_has_the_dtype_of_one_argument(xp: Any) -> None:
    for row in FORMULA_ROWS:
        arguments = [xp.array(np.full((2, 3) if kind in "xy" else 2, 0.5)) for kind in row.takes]
        arguments[row.like] = xp.array(np.full((2, 3), 0.5), "float64")
        assert row(*arguments).dtype == xp.dtype("float64"), row.name


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


# Functions of one array


def test_sigma_is_t_itself_and_alpha_keeps_its_shape(xp: Any) -> None:
    for shape in [(), (0,), (2, 3)]:
        t = xp.array(np.full(shape, 0.25))
        assert rf.rf_sigma(t) is t
        for got in (rf.rf_alpha(t), rf.shift_timesteps(t, 3.0), rf.convert_time(t, source="rf", target="sigma")):
            assert (type(got), tuple(got.shape), xp.device_of(got)) == (type(t), shape, xp.device)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_expand_like_keeps_any_dtype_the_type_and_the_device(xp: Any, dtype: str) -> None:
    x = xp.other_dtype(np.array([0, 1]), dtype)
    for axes in (None, (np.int64(0),), [np.uint8(0)]):
        expanded = rf.expand_like(x, xp.array(np.ones((2, 3))), axes=axes)
        assert (type(expanded), expanded.dtype, xp.device_of(expanded)) == (type(x), x.dtype, xp.device_of(x))
        assert np.array_equal(xp.numpy(expanded), xp.numpy(x)[:, None])


def test_expand_like_reorders_axes_and_counts_negative_ones_from_the_end(xp: Any) -> None:
    x, target = np.arange(6.0).reshape(2, 3), xp.array(np.ones((3, 4, 2)))
    for axes in ((2, 0), (-1, -3), [2, -3]):
        assert np.array_equal(xp.numpy(rf.expand_like(xp.array(x), target, axes=axes)), x.T[:, None, :])
    one = xp.numpy(rf.expand_like(xp.array(x[:1]), target, axes=(1, 0)))  # an axis of length 1 fits any
    assert np.array_equal(one, x[:1].T[:, :, None])


@pytest.mark.backends("numpy", "torch")
def test_expand_like_returns_a_view(xp: Any) -> None:
    x = xp.array(np.zeros(2))
    expanded = rf.expand_like(x, xp.array(np.zeros((2, 3))))
    x += 1
    assert xp.numpy(expanded).tolist() == [[1.0], [1.0]]

"""PyTorch, the values: bit for bit those of the float64 expression, whatever the layout, the size or the mode."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

import fastgen_rf as rf
from tests.torch.plain import (
    CONVERSIONS,
    LARGE,
    LAYOUTS,
    ONE_BLOCK,
    SMALL,
    Conversion,
    assert_same_bits,
    both_sizes,
    every_conversion,
    laid_out,
    randn,
    times,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@every_conversion
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *((SMALL, dtype) for dtype in DTYPES),
        (ONE_BLOCK, torch.float32),
        (LARGE, torch.float32),
        (LARGE, torch.bfloat16),
    ],
    ids=str,
)
def test_every_layout_gives_the_bits_and_strides_of_the_float64_expression(
    conversion: Conversion, layout: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    first, second = (laid_out(layout, shape, dtype, seed) for seed in (1, 2))
    t = times(shape[0])
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 2, 4, 5), (2, 8, 11, 42, 52)], ids=["small", "large"])
def test_channels_last_3d_is_kept(conversion: Conversion, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    first, second = (laid_out("channels_last_3d", shape, dtype, seed) for seed in (1, 2))
    result = conversion.ours(first, second, times(2))
    assert_same_bits(result, conversion.plain(first, second, times(2)))
    assert result.is_contiguous(memory_format=torch.channels_last_3d)


LAID_OUT_TWICE = [
    *((conversion, SMALL) for conversion in CONVERSIONS.values()),
    (CONVERSIONS["add_noise"], LARGE),
    (CONVERSIONS["pred_x0_from_flow"], LARGE),
]


@pytest.mark.parametrize(("conversion", "shape"), LAID_OUT_TWICE)
@pytest.mark.parametrize("other", LAYOUTS[1:])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_layouts_at_once_give_the_strides_that_torch_gives(
    conversion: Conversion, other: str, swapped: bool, shape: tuple[int, ...]
) -> None:
    arrays = [laid_out("contiguous", shape, torch.float32, 1), laid_out(other, shape, torch.float32, 2)]
    first, second = reversed(arrays) if swapped else arrays
    t = times(shape[0])
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


@every_conversion
@pytest.mark.parametrize(
    ("dtype", "other_dtype", "shape"),
    [
        *((dtype, other, SMALL) for dtype in DTYPES for other in DTYPES),
        (torch.float32, torch.bfloat16, LARGE),
        (torch.bfloat16, torch.float32, LARGE),
        (torch.float64, torch.float16, LARGE),
    ],
    ids=str,
)
def test_mixed_dtypes_round_once_to_the_dtype_that_the_table_names(
    conversion: Conversion, dtype: torch.dtype, other_dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    first, second = randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=other_dtype, seed=2)
    t = times(shape[0])
    result = conversion.ours(first, second, t)
    assert result.dtype == (first, second)[conversion.like].dtype
    assert_same_bits(result, conversion.plain(first, second, t))


@every_conversion
@pytest.mark.parametrize(
    ("shape", "t_shape", "t_dtype"),
    [
        *(
            (SMALL, t_shape, dtype)
            for t_shape in [(), (1,), (4,), (4, 1), (4, 3), (1, 3), (4, 1, 1, 1), (4, 1, 5), (1, 1, 1, 7), SMALL]
            for dtype in DTYPES
        ),
        (LARGE, (), torch.float32),
        (LARGE, (1,), torch.bfloat16),
        (LARGE, (4,), torch.float64),
        (LARGE, (4,), torch.bfloat16),
        (ONE_BLOCK, (4, 16), torch.float32),
        (ONE_BLOCK, (4,), torch.float64),
        (LARGE, (4, 16), torch.float32),
        (LARGE, (1, 16), torch.float16),
        (LARGE, (4, 1, LARGE[-1]), torch.float32),
        (LARGE, (1, 1, 1, LARGE[-1]), torch.float32),
        (LARGE, LARGE, torch.bfloat16),
    ],
    ids=str,
)
def test_t_of_any_fitting_shape_and_dtype(
    conversion: Conversion, shape: tuple[int, ...], t_shape: tuple[int, ...], t_dtype: torch.dtype
) -> None:
    first, second = randn(*shape, seed=1), randn(*shape, seed=2)
    t = times(*t_shape, dtype=t_dtype)
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


@every_conversion
@pytest.mark.parametrize("t", [0.0, 1e-7, 0.3, 1.0, 0, 1])
@both_sizes
def test_a_python_t_is_taken_at_its_full_precision(conversion: Conversion, t: float, shape: tuple[int, ...]) -> None:
    first, second = randn(*shape, dtype=torch.bfloat16, seed=1), randn(*shape, seed=2)
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@both_sizes
def test_the_ends_of_time_are_those_of_the_float64_expression(
    conversion: Conversion, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    first, second = randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2)
    t = torch.tensor([0.0, 1.0, 1e-7, 1 - 2.0**-24])
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


@every_conversion
@every_dtype
@pytest.mark.parametrize("repeats", [1, 900], ids=["small", "large"])
def test_infinities_nans_signed_zeros_and_subnormals_pass_as_in_the_float64_expression(
    conversion: Conversion, dtype: torch.dtype, repeats: int
) -> None:
    info = torch.finfo(dtype)
    values = [0.0, -0.0, float("inf"), -float("inf"), float("nan"), info.max, -info.max, info.tiny, info.tiny / 4, 1.0]
    grid = torch.tensor(values, dtype=dtype)
    first = grid.repeat_interleave(len(values)).repeat(4, repeats)
    second = grid.repeat(4, len(values) * repeats)
    t = torch.tensor([0.0, 0.5, 0.999, 1.0])
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


@every_conversion
@pytest.mark.parametrize(
    "shape",
    [(1,), (4,), (0,), (0, 3), (4, 0, 2), (4, 1, 8, 8), (1, 3, 1, 4), (3, 1, 1, 1, 1), (1, 400_001), (50_000, 7)],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_shape_empty_ones_and_one_large_sample_included(
    conversion: Conversion, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    first, second, t = randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2), times(shape[0])
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


@every_conversion
def test_arrays_without_axes(conversion: Conversion) -> None:
    first, second = randn(seed=1), randn(seed=2)
    assert_same_bits(conversion.ours(first, second, times()), conversion.plain(first, second, times()))


@every_conversion
@both_sizes
def test_a_pending_negation_is_honoured(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first = torch.complex(randn(*shape, seed=1), randn(*shape, seed=2)).conj().imag
    assert first.is_neg()
    second, t = randn(*shape, seed=3), times(shape[0])
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first.resolve_neg(), second, t))


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@both_sizes
def test_inputs_are_left_alone_and_results_share_no_memory_with_them(
    conversion: Conversion, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    inputs = [randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2), times(shape[0], dtype=dtype)]
    before = [x.clone() for x in inputs]
    result = conversion.ours(*inputs)
    for x, copy in zip(inputs, before, strict=True):
        assert torch.equal(x, copy)
        assert result.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    assert all(x._version == 0 for x in inputs)


@every_conversion
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_a_conversion_that_changes_nothing_still_returns_a_new_tensor(conversion: Conversion, t: float) -> None:
    x = torch.zeros(LARGE, dtype=torch.float64)
    conversion.ours(x, x, t).add_(1.0)
    assert torch.equal(x, torch.zeros_like(x))


@every_conversion
@both_sizes
def test_a_second_result_does_not_overwrite_the_first(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first, second, t = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    result = conversion.ours(first, second, t)
    conversion.ours(second, first, t)
    assert_same_bits(result, conversion.plain(first, second, t))


@every_conversion
def test_threads_do_not_disturb_each_other(conversion: Conversion) -> None:
    t = times(LARGE[0])
    pairs = [(randn(*LARGE, seed=2 * k), randn(*LARGE, seed=2 * k + 1)) for k in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda pair: conversion.ours(*pair, t), pairs * 3))
    for result, pair in zip(results, pairs * 3, strict=True):
        assert_same_bits(result, conversion.plain(*pair, t))


MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default_device_meta": lambda: torch.device("meta"),
}


@every_conversion
@pytest.mark.parametrize("mode", MODES)
@both_sizes
def test_values_do_not_depend_on_the_mode(conversion: Conversion, mode: str, shape: tuple[int, ...]) -> None:
    first, second, t = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    with MODES[mode]():
        result = conversion.ours(first, second, t)
    assert_same_bits(result, conversion.plain(first, second, t))


@every_conversion
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
@both_sizes
def test_values_do_not_depend_on_the_default_dtype(
    conversion: Conversion, default: torch.dtype, shape: tuple[int, ...]
) -> None:
    first, second, t = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    expected = [conversion.plain(first, second, time) for time in (t, 0.3)]
    torch.set_default_dtype(default)
    try:
        results = [conversion.ours(first, second, time) for time in (t, 0.3)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_bits(results[0], expected[0])
    assert_same_bits(results[1], expected[1])


@every_conversion
@pytest.mark.parametrize("threads", [1, 4])
def test_values_do_not_depend_on_the_number_of_threads(conversion: Conversion, threads: int) -> None:
    first, second, t = randn(*LARGE, seed=1), randn(*LARGE, seed=2), times(LARGE[0])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = conversion.ours(first, second, t)
    finally:
        torch.set_num_threads(before)
    assert_same_bits(result, conversion.plain(first, second, t))


@every_conversion
@both_sizes
def test_a_call_in_inference_mode_leaves_nothing_that_a_later_gradient_trips_over(
    conversion: Conversion, shape: tuple[int, ...]
) -> None:
    first, second, t = randn(*shape, seed=1).detach().requires_grad_(), randn(*shape, seed=2), times(shape[0])
    with torch.inference_mode():
        assert conversion.ours(first, second, t).is_inference()
    result = conversion.ours(first, second, t)
    result.sum().backward()
    assert not result.is_inference()
    assert first.grad is not None
    assert first.grad.shape == shape


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, lambda: torch.device("meta"), torch.no_grad], ids=["inference", "meta", "no_grad"]
)
def test_the_first_large_call_of_a_thread_leaves_nothing_that_a_later_one_trips_over(mode: Any) -> None:
    first, second, t = randn(*LARGE, seed=1), randn(*LARGE, seed=2), times(LARGE[0])
    results = []

    def calls() -> None:
        with mode():
            results.append(rf.add_noise(first, second, t).clone())
        results.append(rf.add_noise(first, second, t))

    thread = threading.Thread(target=calls)  # what is kept for the next call is kept for each thread
    thread.start()
    thread.join()
    for result in results:
        assert_same_bits(result, CONVERSIONS["add_noise"].plain(first, second, t))
    assert len(results) == 2


@every_conversion
@both_sizes
def test_inference_tensors_are_served_outside_inference_mode(conversion: Conversion, shape: tuple[int, ...]) -> None:
    with torch.inference_mode():
        first, second, t = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


@every_conversion
@both_sizes
def test_meta_and_fake_tensors_give_the_result_s_description(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first, second = (laid_out("channels_last", shape, torch.bfloat16, seed) for seed in (1, 2))
    t = times(shape[0])
    expected = conversion.plain(first, second, t)
    with FakeTensorMode() as mode:
        fake = conversion.ours(*(mode.from_tensor(x) for x in (first, second, t)))
    meta = conversion.ours(first.to("meta"), second.to("meta"), t.to("meta"))
    for described in (fake, meta):
        assert (described.dtype, described.shape) == (expected.dtype, expected.shape)
        assert described.stride() == expected.stride()
    assert (meta.device.type, fake.device.type) == ("meta", "cpu")
    assert_same_bits(conversion.ours(first, second, t), expected)


class Latent(torch.Tensor):
    """A subclass with torch's default behaviour: operations on it return it."""


@every_conversion
@both_sizes
def test_a_tensor_subclass_comes_out_as_itself(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first, second, t = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    result = conversion.ours(first.as_subclass(Latent), second.as_subclass(Latent), t)
    assert type(result) is Latent
    assert_same_bits(result.as_subclass(torch.Tensor), conversion.plain(first, second, t))


@every_conversion
@both_sizes
def test_parameters_give_plain_tensors_on_the_graph(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first, second = torch.nn.Parameter(randn(*shape, seed=1)), torch.nn.Parameter(randn(*shape, seed=2))
    t = torch.nn.Parameter(times(shape[0]))
    result = conversion.ours(first, second, t)
    assert type(result) is torch.Tensor
    assert result.requires_grad
    assert_same_bits(result.detach(), conversion.plain(first, second, t).detach())


def test_alpha_and_sigma_keep_t_s_dtype_and_gradient() -> None:
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.bfloat16, requires_grad=True)
    assert torch.equal(rf.rf_alpha(t), torch.tensor([1.0, 0.75, 0.0], dtype=torch.bfloat16))
    assert torch.equal(rf.rf_sigma(t), t)
    (gradient,) = torch.autograd.grad((2 * rf.rf_alpha(t) + 5 * rf.rf_sigma(t)).sum(), t)
    assert torch.equal(gradient, torch.full((3,), 3.0, dtype=torch.bfloat16))


def test_expand_like_returns_a_view() -> None:
    t, video = times(2, 5), torch.zeros(2, 3, 5, 8, 8)
    expanded = rf.expand_like(t, video, axes=(0, 2))
    assert expanded.shape == (2, 1, 5, 1, 1)
    assert expanded.data_ptr() == t.data_ptr()


@every_conversion
def test_a_numpy_float_is_a_python_float(conversion: Conversion) -> None:
    first, second = randn(*SMALL, seed=1), randn(*SMALL, seed=2)
    assert_same_bits(conversion.ours(first, second, np.float64(0.3)), conversion.plain(first, second, 0.3))

"""Values on PyTorch have the same bits and strides at every size, in every layout, mix of dtypes and mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

import fastgen_rf as rf
from tests.backends.torch.reference import assert_same_bits, check, reference
from tests.backends.torch.tensors import LARGE, LAYOUTS, TWO, both_sizes, every_size, inputs, laid_out, randn, times


@pytest.mark.parametrize("layout", LAYOUTS)
@every_size
def test_every_pair_of_layouts_gets_the_strides_that_torch_gives(layout: str, shape: tuple[int, ...]) -> None:
    first, second = (laid_out(layout, shape, torch.bfloat16, seed) for seed in (1, 2))
    dense = laid_out("contiguous", shape, torch.bfloat16, 3)
    for pair in ((first, second), (dense, second), (first, dense)):
        check(TWO[1], *pair, times(shape[0]))


def test_an_axis_of_length_1_may_have_any_stride() -> None:
    first, second = (randn(600_000, seed=seed).as_strided((1, 4, 300, 500), (9, 1, 2000, 4)) for seed in (1, 2))
    for t in (times(1), 0.3):
        check(TWO[0], first, second, t)


def test_infinities_nan_signed_zeros_and_subnormals_in_one_pass() -> None:
    t = torch.tensor([0.0, 1e-7, 0.5, 0.999, 1 - 2.0**-24, 1.0, 1e-30, float("nan")])
    for row, dtype in product(TWO, (torch.float32, torch.bfloat16)):
        info, inf = torch.finfo(dtype), float("inf")
        values = [0.0, -0.0, inf, -inf, float("nan"), info.max, -info.max, info.tiny, info.tiny / 4, 1.0]
        grid = torch.tensor(values, dtype=dtype)
        check(row, grid.repeat_interleave(10).repeat(8, 900), grid.repeat(8, 9000), t)


def test_one_time_may_be_a_float_and_their_quotient_is_rounded_once() -> None:
    t = torch.linspace(0.31, 0.99, 5000, dtype=torch.float64)
    zeros, ones = torch.zeros_like(t), torch.ones_like(t)
    assert torch.equal(rf.ode_step(zeros, ones, t, 0.3), torch.from_numpy(0.3 / t.numpy()))
    assert torch.equal(rf.ode_step(zeros, ones, 0.7, t), torch.from_numpy(t.numpy() / 0.7))


@every_size
def test_inputs_stay_as_they_are_and_a_result_is_a_new_tensor(shape: tuple[int, ...]) -> None:
    for row, dtype in product(TWO, (torch.float64, torch.float32)):
        given = inputs(shape, dtype, dtype, dtype)
        before = [x.clone() for x in given]
        result = row(*given)
        row(given[1], given[0], given[2])  # does not overwrite the first result either
        assert_same_bits(result, reference(row, *before))
        assert all(result.untyped_storage().data_ptr() != x.untyped_storage().data_ptr() for x in given)
        assert all(torch.equal(x, copy) and x._version == 0 for x, copy in zip(given, before, strict=True))
    x = torch.zeros(shape, dtype=torch.float64)
    rf.pred_x0_from_flow(x, x, 0.0).add_(1.0)  # a result that equals an input is a new tensor, too
    assert not x.any()


# Modes


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES = {
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default device meta": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
@both_sizes
def test_values_do_not_depend_on_the_mode(mode: Any, shape: tuple[int, ...]) -> None:
    first, second, t = inputs(shape, torch.bfloat16, torch.float32, torch.float32)
    for row, time in product(TWO, (t, 0.3)):
        with mode():
            result = row(first, second, time)
        check(row, first, second, time)
        assert_same_bits(result.clone(), reference(row, first, second, time))


@pytest.mark.parametrize("mode", [torch.inference_mode, lambda: torch.device("meta")], ids=["inference", "meta"])
def test_the_first_large_call_of_a_thread_may_be_inside_a_mode(mode: Any) -> None:
    """Scratch memory is kept for each thread; made inside a mode it would be of no use outside of it."""
    given, results = inputs(LARGE), []

    def calls() -> None:
        with mode():
            results.append(rf.add_noise(*given).clone())
        results.append(rf.add_noise(*given))

    thread = threading.Thread(target=calls)
    thread.start()
    thread.join()
    assert len(results) == 2
    for result in results:
        assert_same_bits(result, reference(TWO[0], *given))


# Classes of tensors


@both_sizes
def test_meta_and_fake_tensors_get_dtype_shape_strides_and_device(shape: tuple[int, ...]) -> None:
    arrays = *(laid_out("channels_last", shape, torch.bfloat16, seed) for seed in (1, 2)), times(shape[0])
    for row in TWO:
        expected = reference(row, *arrays)
        with FakeTensorMode() as mode:
            fake = row(*map(mode.from_tensor, arrays))
        meta = row(*(x.to("meta") for x in arrays))
        for described in (fake, meta):
            assert (described.dtype, described.shape) == (expected.dtype, expected.shape)
            assert described.stride() == expected.stride()
        assert (meta.device.type, fake.device.type) == ("meta", "cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_time_without_axes_on_the_cpu_goes_with_arrays_on_any_device(dtype: torch.dtype) -> None:
    x, t = torch.zeros(4, 3, device="meta"), torch.tensor(0.25, dtype=dtype)
    results = (
        rf.add_noise(x, x, t),
        rf.add_noise(x, x, 0.3),
        *(rf.ode_step(x, x, *pair) for pair in ((t, t), (t, 0.1), (0.1, t), (t, times(4).to("meta")))),
        rf.convert_prediction(x, x, t, source="v_vp", target="v"),
    )
    assert {(result.device.type, result.shape) for result in results} == {("meta", (4, 3))}


@both_sizes
def test_float8_arrays_are_widened(shape: tuple[int, ...]) -> None:
    for dtype, row in product((torch.float8_e4m3fn, torch.float8_e5m2fnuz), TWO):
        x, y, t = inputs(shape, dtype, torch.float32, dtype)
        for time in (t, t[0], 0.3):
            check(row, x, y, time)

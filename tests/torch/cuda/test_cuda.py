"""PyTorch on CUDA: one kernel a call, the bits of the float64 expression, no synchronisation, capture in a CUDA graph.

Collected with ``--device cuda`` alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import fastgen_rf as rf
from tests.cases.names import every_published_law
from tests.torch.plain import (
    CONVERSIONS,
    Conversion,
    assert_same_bits,
    every_conversion,
    laid_out,
    randn,
    times,
    ulps_apart,
)

SHAPE = (4, 16, 33, 40)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TIMES: dict[str, Any] = {
    "one for each sample": lambda: times(4).cuda(),
    "one for each channel": lambda: times(4, 16).cuda(),
    "one for each element": lambda: times(*SHAPE).cuda(),
    "one": lambda: times().cuda(),
    "a float": lambda: 0.3,
}
every_time = pytest.mark.parametrize("t", list(TIMES.values()), ids=list(TIMES))


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Turn every synchronisation that PyTorch knows of into an error."""
    try:
        _set_sync_debug_mode("error")
        yield
    finally:
        _set_sync_debug_mode("default")


def _set_sync_debug_mode(mode: str) -> None:
    with warnings.catch_warnings(action="ignore"):  # that it is a prototype, said once the mode is set
        torch.cuda.set_sync_debug_mode(mode)


def pair(dtype: torch.dtype, layout: str = "contiguous") -> tuple[Tensor, Tensor]:
    return laid_out(layout, SHAPE, dtype, 1).cuda(), laid_out(layout, SHAPE, dtype, 2).cuda()


def kernels(function: Any, *inputs: Any) -> int:
    """How many kernels a call launches, once it is compiled."""
    function(*inputs)
    torch.cuda.synchronize()
    with warnings.catch_warnings(action="ignore"):  # the profiler's own, which differ from version to version
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            function(*inputs)
            torch.cuda.synchronize()
        events = profile.events()
    device = torch.autograd.DeviceType.CUDA
    return sum(event.device_type == device and "Mem" not in event.name for event in events)


@every_conversion
@every_time
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "offset"])
def test_bits_are_those_of_the_float64_expression(
    conversion: Conversion, t: Any, dtype: torch.dtype, layout: str
) -> None:
    (first, second), time = pair(dtype, layout), t()
    assert_same_bits(conversion.ours(first, second, time), conversion.plain(first, second, time))


@every_conversion
@every_time
def test_a_call_is_one_kernel(conversion: Conversion, t: Any) -> None:
    first, second = pair(torch.bfloat16)
    assert kernels(conversion.ours, first, second, t()) == 1


@every_conversion
def test_the_gradients_of_both_arrays_are_two_kernels_more_and_a_copy_of_t(conversion: Conversion) -> None:
    first, second = (x.requires_grad_() for x in pair(torch.bfloat16))
    t, upstream = times(4).cuda(), randn(*SHAPE, dtype=torch.bfloat16, seed=3).cuda()
    free = conversion is CONVERSIONS["pred_x0_from_flow"]  # the gradient for x_t is the cotangent itself
    launched = kernels(lambda: torch.autograd.grad(conversion.ours(first, second, t), (first, second), upstream))
    assert launched == (3 if free else 4)  # with the copy of t, of four elements, that the backward pass keeps


@every_conversion
def test_gradients_are_float64_s_rounded_once(conversion: Conversion) -> None:
    first, second = (x.requires_grad_() for x in pair(torch.float32))
    t, upstream = times(4).cuda().requires_grad_(), randn(*SHAPE, seed=3).cuda()
    inputs = (first, second, t)
    actual, expected = (torch.autograd.grad(f(*inputs), inputs, upstream) for f in (conversion.ours, conversion.plain))
    assert max(ulps_apart(ours.cpu(), plain.cpu()) for ours, plain in zip(actual, expected, strict=True)) <= 1


@every_conversion
@every_time
def test_nothing_waits_for_the_device(conversion: Conversion, t: Any) -> None:
    first, second = (x.requires_grad_() for x in pair(torch.bfloat16))
    time, upstream = t(), torch.ones(SHAPE, dtype=torch.bfloat16, device="cuda")
    with no_synchronisation():
        torch.autograd.grad(conversion.ours(first, second, time), (first, second), upstream)


@every_published_law
def test_drawing_waits_for_nothing(law: str) -> None:
    rng, cfg = torch.Generator("cuda").manual_seed(0), rf.SampleTimestepConfig(time_dist_type=law)
    with no_synchronisation():
        rf.sample_timesteps(64, cfg, rng=rng)


@every_conversion
@every_time
def test_a_graph_captures_and_replays_it(conversion: Conversion, t: Any) -> None:
    (first, second), time = pair(torch.bfloat16), t()
    conversion.ours(first, second, time)  # compiles: a capture takes no loading of code
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        conversion.ours(first, second, time)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = conversion.ours(first, second, time)
    first.copy_(randn(*SHAPE, dtype=torch.bfloat16, seed=5))
    graph.replay()
    torch.cuda.synchronize()
    assert_same_bits(result, conversion.plain(first, second, time))

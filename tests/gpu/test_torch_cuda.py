"""PyTorch on CUDA: one kernel per call, the bits of the plain operations, no synchronization, capture in a CUDA graph.

Collected with ``--device cuda`` only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import fastgen_rf as rf
from fastgen_rf.backends import _torch_one_pass
from tests.backends.torch.reference import check, check_gradients
from tests.backends.torch.tensors import DTYPES, FOUR, TWO, laid_out, randn, times
from tests.catalogue import CONFIGS, Row

SHAPE = (4, 16, 33, 40)
TIMES: dict[str, Any] = {
    "one for each sample": lambda: times(4).cuda(),
    "one for each channel": lambda: times(4, 16).cuda(),
    "one for each element": lambda: times(*SHAPE).cuda(),
    "one": lambda: times().cuda(),
    "a float": lambda: 0.3,
}
every_time = pytest.mark.parametrize("t", TIMES.values(), ids=list(TIMES))
every_row = pytest.mark.parametrize("row", FOUR, ids=lambda row: row.name)


@pytest.fixture(autouse=True)
def kernels_for_small_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays that need a gradient would be left to autograd."""
    monkeypatch.setattr(_torch_one_pass, "_LEAST_RECORDED", 0)


@contextmanager
def no_synchronization() -> Iterator[None]:
    """Turn every synchronization that PyTorch knows of into an error."""
    with warnings.catch_warnings(action="ignore"):  # that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        with warnings.catch_warnings(action="ignore"):
            torch.cuda.set_sync_debug_mode("default")


def pair(dtype: torch.dtype, layout: str = "contiguous") -> tuple[Tensor, Tensor]:
    return laid_out(layout, SHAPE, dtype, 1).cuda(), laid_out(layout, SHAPE, dtype, 2).cuda()


def kernels(call: Any, *given: Any) -> int:
    """How many kernels a call launches, once it is compiled."""
    call(*given)
    torch.cuda.synchronize()
    with warnings.catch_warnings(action="ignore"):  # the profiler's own, which differ between versions
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call(*given)
            torch.cuda.synchronize()
        events = profile.events()
    device = torch.autograd.DeviceType.CUDA
    return sum(event.device_type == device and "Mem" not in event.name for event in events)


@every_row
@every_time
def test_results_have_the_bits_of_plain_operations(row: Row, t: Any) -> None:
    for dtype, layout in product(DTYPES, ("contiguous", "channels_last", "strided", "offset")):
        check(row, *pair(dtype, layout), t())


@every_row
@every_time
def test_a_call_is_one_kernel(row: Row, t: Any) -> None:
    assert kernels(row, *pair(torch.bfloat16), t()) == 1


@pytest.mark.parametrize(("row", "count"), [(TWO[0], 4), (TWO[1], 4), (FOUR[2], 3)], ids=["add", "divide", "free"])
def test_a_gradient_is_one_kernel_more(row: Row, count: int) -> None:
    """With a copy of t, for the backward pass; the gradient of pred_x0_from_flow for x_t is the upstream gradient."""
    first, second = (x.requires_grad_() for x in pair(torch.bfloat16))
    t, upstream = times(4).cuda(), randn(*SHAPE, dtype=torch.bfloat16, seed=3).cuda()
    assert kernels(lambda: torch.autograd.grad(row(first, second, t), (first, second), upstream)) == count


@every_row
def test_gradients_are_float64s_rounded_once(row: Row) -> None:
    given = [x.requires_grad_() for x in (*pair(torch.float32), times(4).cuda())]
    check_gradients(row, given, randn(*SHAPE, seed=3).cuda())


@every_time
def test_nothing_waits_for_the_device(t: Any) -> None:
    first, second = (x.requires_grad_() for x in pair(torch.bfloat16))
    time, upstream = t(), torch.ones(SHAPE, dtype=torch.bfloat16, device="cuda")
    rng = torch.Generator("cuda").manual_seed(0)
    with no_synchronization():
        for row in FOUR[:3]:
            torch.autograd.grad(row(first, second, time), (first, second), upstream)
        for cfg in CONFIGS:
            rf.sample_timesteps(64, cfg, rng=rng)
        rf.sample_from_t_list(64, rf.make_t_list(100), rng=rng, return_index=True)


@every_time
def test_a_cuda_graph_captures_and_replays_a_call(t: Any) -> None:
    (first, second), time = pair(torch.bfloat16), t()
    for row in TWO:
        row(first, second, time)  # compiles: no code may be loaded during a capture
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            row(first, second, time)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = row(first, second, time)
        first.copy_(randn(*SHAPE, dtype=torch.bfloat16, seed=5))
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(result, row(first, second, time))
        check(row, first, second, time)


def test_a_graph_captures_and_replays_a_draw_from_a_t_list() -> None:
    t_list = rf.make_t_list(90)
    rf.sample_from_t_list(64, t_list[1:], device="cuda", return_index=True)  # loads the kernels, not this table
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        t, index = rf.sample_from_t_list(64, t_list, device="cuda", return_index=True)
    drawn = []
    for _ in range(2):
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(t.cpu(), torch.tensor(t_list)[index.cpu()])
        drawn.append(index.tolist())
    assert drawn[0] != drawn[1]

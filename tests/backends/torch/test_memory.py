"""Memory on PyTorch: what a call takes besides its result, and what it keeps until the backward pass."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgen_rf._formulas import x0_to_eps
from fastgen_rf.backends import _torch
from tests.backends.torch.tensors import DTYPES, FOUR, LARGE, inputs, randn, times
from tests.catalogue import Row

every_row = pytest.mark.parametrize("row", FOUR, ids=lambda row: row.name)


def saved_by(call: Any, *given: Any) -> list[Tensor]:
    """The tensors that a call's graph keeps until its backward pass."""
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        assert call(*given).requires_grad
    return saved


@every_row
def test_nothing_as_large_as_the_arrays_is_saved_if_t_needs_no_gradient(row: Row) -> None:
    for dtype in DTYPES:
        for wanted in ((0,), (1,), (0, 1)):
            saved = saved_by(row, *inputs(LARGE, dtype, dtype, torch.float32, wanted=wanted))
            assert sum(x.untyped_storage().nbytes() for x in saved) <= 1024


@every_row
def test_the_arrays_themselves_are_saved_if_t_needs_a_gradient(row: Row) -> None:
    only_first = row.name in ("pred_x0_from_flow", "convert_prediction (v, v_vp)")
    for dtype in DTYPES:
        for wanted in ((2,), (0, 2), (1, 2), (0, 1, 2)):
            given = inputs(LARGE, dtype, dtype, torch.float32, wanted=wanted)
            saved = [x.data_ptr() for x in saved_by(row, *given) if x.numel() > 4]
            assert sorted(saved) == sorted(x.data_ptr() for x in given[: 1 if only_first else 2])


def test_a_backward_pass_takes_a_large_t_block_by_block_and_for_the_wanted_gradient_alone() -> None:
    seen: list[int] = []

    def formula(first: Any, second: Any, t: Any, fn: Any) -> Any:
        seen.append(t.numel())
        return x0_to_eps(first, second, t, fn)

    grad, t = randn(*LARGE, seed=1), times(*LARGE).double()
    (gradient, other), _ = _torch._backward_in_blocks(formula, grad, grad, (None, None), t, (torch.float32, None))
    assert other is None
    assert (sum(seen), max(seen) <= _torch._BLOCK) == (grad.numel(), True)
    torch.testing.assert_close(gradient, (grad * (t - 1) / t).float())


PEAK = """
import re, sys, torch
from pathlib import Path
import fastgen_rf as rf
def peak():  # ru_maxrss would start from the parent's
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
dtype = getattr(torch, sys.argv[1])
first, second = (torch.empty(8, 16, 21, 60, 104, dtype=dtype).normal_() for _ in range(2))
t = torch.rand(8)
rf.pred_noise_to_pred_x0(first[:1, :4].contiguous(), second[:1, :4].contiguous(), t[:1])
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of making the inputs
before = peak()
result = rf.pred_noise_to_pred_x0(first, second, t)
print((peak() - before) / (result.numel() * result.element_size()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_call_takes_at_most_a_quarter_of_its_result_besides_it(dtype: str) -> None:
    run = subprocess.run([sys.executable, "-c", PEAK, dtype], capture_output=True, text=True, check=True)
    assert 0.9 < float(run.stdout) <= 1.25

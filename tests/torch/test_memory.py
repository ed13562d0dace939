"""PyTorch, the memory: nothing beside the result in a call, only needed inputs between a call and its backward."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgen_rf._formulas import x0_to_eps
from fastgen_rf.backends import _torch
from tests.cases import fresh_process
from tests.torch.plain import CONVERSIONS, LARGE, Conversion, every_conversion, randn, times


def differentiable(wanted: tuple[int, ...], *inputs: Tensor) -> list[Tensor]:
    """Aliases of the inputs of which those at the wanted places require grad."""
    return [x.detach().requires_grad_(place in wanted) for place, x in enumerate(inputs)]


def saved_by(function: Any, *inputs: Any) -> list[Tensor]:
    """The tensors that a call's graph keeps until its backward pass."""
    saved: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        saved.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        result = function(*inputs)
    assert result.requires_grad
    return saved


@every_conversion
@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_without_a_gradient_for_t_nothing_of_the_arrays_size_is_saved(
    conversion: Conversion, wanted: tuple[int, ...], dtype: torch.dtype
) -> None:
    values = randn(*LARGE, dtype=dtype, seed=1), randn(*LARGE, dtype=dtype, seed=2), times(LARGE[0])
    saved = saved_by(conversion.ours, *differentiable(wanted, *values))
    assert sum(x.untyped_storage().nbytes() for x in saved) <= 1024


@every_conversion
@pytest.mark.parametrize("wanted", [(2,), (0, 2), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_with_a_gradient_for_t_the_arrays_themselves_are_saved_and_no_copy(
    conversion: Conversion, wanted: tuple[int, ...], dtype: torch.dtype
) -> None:
    inputs = differentiable(
        wanted, randn(*LARGE, dtype=dtype, seed=1), randn(*LARGE, dtype=dtype, seed=2), times(LARGE[0])
    )
    saved = [x for x in saved_by(conversion.ours, *inputs) if x.numel() > inputs[2].numel()]
    assert 1 <= len(saved) <= 2
    assert {x.data_ptr() for x in saved} <= {x.data_ptr() for x in inputs[:2]}
    assert {x.dtype for x in saved} == {dtype}


def test_the_flow_conversion_saves_the_flow_alone_for_t() -> None:
    inputs = differentiable((2,), randn(*LARGE, seed=1), randn(*LARGE, seed=2), times(LARGE[0]))
    saved = saved_by(CONVERSIONS["pred_x0_from_flow"].ours, *inputs)
    assert [x.data_ptr() for x in saved if x.numel() > 4] == [inputs[0].data_ptr()]


def test_a_backward_pass_takes_a_large_t_block_by_block_and_for_the_wanted_gradient_alone() -> None:
    seen: list[int] = []

    def formula(first: Any, second: Any, t: Any, fn: Any) -> Any:
        seen.append(t.numel())
        return x0_to_eps(first, second, t, fn)

    grad, t = randn(*LARGE, seed=1), times(*LARGE).double()
    (gradient, other), _ = _torch._backward_in_blocks(formula, grad, grad, (None, None), t, (torch.float32, None))
    assert other is None
    assert sum(seen) == grad.numel()
    assert max(seen) <= _torch._BLOCK
    torch.testing.assert_close(gradient, (grad * (t - 1) / t).float())


_PEAK = """
import re, sys, torch
from pathlib import Path
import fastgen_rf as rf
def peak():  # ru_maxrss would start from the parent's
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
convert, dtype = getattr(rf, sys.argv[1]), getattr(torch, sys.argv[2])
first, second = (torch.empty(8, 16, 21, 60, 104, dtype=dtype).normal_() for _ in range(2))
t = torch.rand(8)
convert(first[:1, :4].contiguous(), second[:1, :4].contiguous(), t[:1])
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of making the inputs
before = peak()
result = convert(first, second, t)
print((peak() - before) / (result.numel() * result.element_size()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_at_latent_size_a_call_takes_at_most_a_quarter_of_the_result_beside_it(dtype: str) -> None:
    grown = float(fresh_process.run(_PEAK, "pred_noise_to_pred_x0", dtype))
    assert 0.9 < grown <= 1.25

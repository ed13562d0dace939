"""The one pass over a large call: what may look at it or interrupt it, and the memory that it takes and keeps."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import fastgen_rf as rf
from fastgen_rf.backends import _torch_one_pass, _torch_tensors
from tests.backends.torch.reference import (
    assert_rounded_once,
    assert_same_bits,
    check_gradients,
    reference,
    reference_gradients,
)
from tests.backends.torch.tensors import DTYPES, FOUR, LARGE, SMALL, TWO, Operations, both_sizes, inputs, randn, times
from tests.catalogue import Row
from tests.processes import run_alone

OTHERS = randn(*LARGE, seed=5), randn(*LARGE, seed=6), times(4)


@pytest.mark.parametrize("counted", ["forward", "backward"])
@both_sizes
def test_a_dispatch_mode_around_one_pass_of_a_checkpoint_changes_nothing(shape: tuple[int, ...], counted: str) -> None:
    """Selective checkpointing compares what the two passes save."""
    for row in FOUR:
        given, upstream = inputs(shape, wanted=(0, 1, 2)), randn(*shape, seed=3)
        with Operations() if counted == "forward" else nullcontext():
            result = checkpoint(row, *given, use_reentrant=False)
        with Operations() if counted == "backward" else nullcontext():
            ours = torch.autograd.grad(result, given, upstream, materialize_grads=True)
        assert_rounded_once(ours, reference_gradients(row, given, upstream))


def test_a_dispatch_mode_sees_no_operation_in_place() -> None:
    with Operations() as mode:
        rf.add_noise(*inputs(LARGE))
    given = inputs(LARGE, wanted=(0, 1, 2))
    result = rf.x0_to_eps(*given)
    with mode:
        torch.autograd.grad(result, given, randn(*LARGE, seed=3))
    assert not any(name.partition(".")[2].partition(".")[0].endswith("_") for name in mode.names)


class Observer(TorchFunctionMode):
    """Sees tensors and numbers only."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in (Tensor.add, Tensor.sub, Tensor.mul, Tensor.div):
            assert all(isinstance(x, (Tensor, float, int)) for x in (*args, result))
        return result


def test_a_function_mode_sees_tensors() -> None:
    given = inputs(LARGE)
    with Observer():
        result = rf.x0_to_eps(*given)
    assert_same_bits(result, reference(TWO[1], *given))


@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_a_signal_handler_may_call_the_library(framework: str) -> None:
    given, others = ([x if framework == "torch" else x.numpy() for x in arrays] for arrays in (inputs(LARGE), OTHERS))
    rf.x0_to_eps(*others)  # a handler cannot wait for an import that it interrupts
    handled, results = [], []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(rf.x0_to_eps(*others)))
    try:
        for _ in range(30):
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            results.append(rf.add_noise(*given))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled
    expected = reference(TWO[0], *inputs(LARGE))
    assert all(torch.equal(torch.as_tensor(result), expected) for result in results)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("how", ["make_fx", "make_fx before dispatch", "jit.trace"])
def test_a_traced_program_does_not_hold_the_memory_that_is_kept(how: str) -> None:
    if how == "jit.trace":
        traced = torch.jit.trace(rf.x0_to_eps, tuple(inputs(LARGE)), check_trace=False)
        assert "aten::copy_" not in str(traced.graph)
    else:
        traced = make_fx(rf.x0_to_eps, pre_dispatch=how != "make_fx")(*inputs(LARGE))
        held = [getattr(traced, node.target) for node in traced.graph.nodes if node.op == "get_attr"]
        assert all(x.numel() <= 1 for x in held)
    assert_same_bits(traced(*OTHERS), reference(TWO[1], *OTHERS))


# Memory

every_row = pytest.mark.parametrize("row", FOUR, ids=lambda row: row.name)


def saved_by(row: Row, dtype: torch.dtype, wanted: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """The arguments of a large call, and the tensors that its graph keeps until its backward pass."""
    saved: list[Tensor] = []
    given = inputs(LARGE, dtype, dtype, torch.float32, wanted=wanted)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        assert row(*given).requires_grad
    return given, saved


@every_row
def test_the_arrays_themselves_are_saved_if_t_needs_a_gradient_and_else_nothing_as_large(row: Row) -> None:
    needed = 1 if row.name in ("pred_x0_from_flow", "convert_prediction (v, v_vp)") else 2
    for dtype in DTYPES:
        _, saved = saved_by(row, dtype, (0, 1))
        assert sum(x.untyped_storage().nbytes() for x in saved) <= 1024
        given, saved = saved_by(row, dtype, (0, 2))
        assert sorted(x.data_ptr() for x in saved if x.numel() > 4) == sorted(x.data_ptr() for x in given[:needed])


PEAK = """
import re, torch
from pathlib import Path
import fastgen_rf as rf
def peak():  # ru_maxrss would start from the parent's
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
first, second = (torch.empty(8, 16, 21, 60, 104, dtype=torch.bfloat16).normal_() for _ in range(2))
t = torch.rand(8)
rf.pred_noise_to_pred_x0(first[:1, :4].contiguous(), second[:1, :4].contiguous(), t[:1])
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of making the inputs
before = peak()
result = rf.pred_noise_to_pred_x0(first, second, t)
print((peak() - before) / (result.numel() * result.element_size()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_call_takes_at_most_a_quarter_of_its_result_besides_it() -> None:
    assert 0.9 < float(run_alone(PEAK)) <= 1.25


# What a CPU can show of devices with kernels


def test_sums_on_a_device_are_taken_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    blocks = _torch_tensors.blocks
    monkeypatch.setattr(_torch_tensors, "blocks", lambda *x: [seen.append(1) or index for index in blocks(*x)])
    monkeypatch.setattr(_torch_tensors, "_BLOCK_ON_DEVICE", 2**12)
    for row in FOUR[:3]:
        with Operations():  # what watches gets single operations, as on a device
            check_gradients(row, inputs(LARGE, wanted=(0, 1, 2)))
    assert len(seen) >= 3 * 4


def test_plain_operations_serve_a_device_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_one_pass, "_FUSED_ON", ("cpu",))
    monkeypatch.setattr(_torch_one_pass, "LEAST", 0)
    monkeypatch.setattr(_torch_one_pass, "_kernel_support", {})
    monkeypatch.setitem(sys.modules, "fastgen_rf.backends._triton", None)
    given = inputs(SMALL)
    assert_same_bits(rf.add_noise(*given), reference(TWO[0], *given))
    assert _torch_one_pass._kernel_support == {torch.device("cpu"): False}

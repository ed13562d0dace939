"""What may look at a large call, or interrupt it, while it computes in place in memory that it keeps."""

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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import fastgen_rf as rf
from fastgen_rf.backends import _torch, _torch_tensors
from fastgen_rf.backends._torch_tensors import placed
from tests.backends.torch.reference import (
    assert_rounded_once,
    assert_same_bits,
    check_gradients,
    reference,
    reference_gradients,
)
from tests.backends.torch.tensors import FOUR, LARGE, ONE_BLOCK, SMALL, TWO, inputs, randn, times

large_sizes = pytest.mark.parametrize("shape", [ONE_BLOCK, LARGE], ids=["one block", "large"])


@pytest.mark.parametrize("counted", ["forward", "backward"])
@pytest.mark.parametrize("shape", [SMALL, ONE_BLOCK, LARGE], ids=str)
def test_a_dispatch_mode_around_one_pass_of_a_checkpoint_changes_nothing(shape: tuple[int, ...], counted: str) -> None:
    """Selective checkpointing compares what the two passes save."""
    for row in FOUR:
        given, upstream = inputs(shape, wanted=(0, 1, 2)), randn(*shape, seed=3)
        with FlopCounterMode(display=False) if counted == "forward" else nullcontext():
            result = checkpoint(row, *given, use_reentrant=False)
        with FlopCounterMode(display=False) if counted == "backward" else nullcontext():
            ours = torch.autograd.grad(result, given, upstream, materialize_grads=True)
        assert_rounded_once(ours, reference_gradients(row, given, upstream))


class Operations(TorchDispatchMode):
    """Keeps the names of the operations."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names = [*getattr(self, "names", []), str(function)]
        return function(*args, **(kwargs or {}))


@large_sizes
def test_a_dispatch_mode_sees_no_operation_in_place(shape: tuple[int, ...]) -> None:
    with Operations() as mode:
        rf.add_noise(*inputs(shape))
    given = inputs(shape, wanted=(0, 1, 2))
    result = rf.x0_to_eps(*given)
    with mode:
        torch.autograd.grad(result, given, randn(*shape, seed=3))
    assert not any(name.partition(".")[2].partition(".")[0].endswith("_") for name in mode.names)


class CallingInTheMiddle(TorchFunctionMode):
    """Makes a large call at the tenth operation that it sees."""

    seen = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        if self.seen == 10:
            rf.x0_to_eps(randn(*LARGE, seed=5), randn(*LARGE, seed=6), times(4))
        result = function(*args, **(kwargs or {}))
        if function in (torch.Tensor.add, torch.Tensor.sub, torch.Tensor.mul, torch.Tensor.div):
            assert all(isinstance(x, (Tensor, float, int)) for x in (*args, result))
        return result


@large_sizes
def test_a_function_mode_sees_tensors_and_may_call_the_library(shape: tuple[int, ...]) -> None:
    given = inputs(shape)
    for row in TWO:
        with CallingInTheMiddle() as mode:
            result = row(*given)
        assert mode.seen > 10
        assert_same_bits(result, reference(row, *given))


@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_a_signal_handler_may_call_the_library(framework: str) -> None:
    given, others = inputs(LARGE), [randn(*LARGE, seed=5), randn(*LARGE, seed=6), times(4)]
    expected = reference(TWO[0], *given)
    if framework == "numpy":
        given, others = [x.numpy() for x in given], [x.numpy() for x in others]
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
    assert all(torch.equal(torch.as_tensor(result), expected) for result in results)


@pytest.mark.parametrize("pre_dispatch", [False, True])
def test_a_traced_graph_does_not_hold_the_memory_that_is_kept(pre_dispatch: bool) -> None:
    graph = make_fx(rf.x0_to_eps, pre_dispatch=pre_dispatch)(*inputs(LARGE))
    held = [getattr(graph, node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    assert all(x.numel() <= 1 for x in held)
    others = [randn(*LARGE, seed=3), randn(*LARGE, seed=4), times(4)]
    assert_same_bits(graph(*others), reference(TWO[1], *others))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:DeprecationWarning")
def test_jit_trace_records_the_formula() -> None:
    traced = torch.jit.trace(rf.x0_to_eps, tuple(inputs(LARGE)), check_trace=False)
    assert "aten::copy_" not in str(traced.graph)  # into the memory that is kept
    others = [randn(*LARGE, seed=3), randn(*LARGE, seed=4), times(4)]
    assert_same_bits(traced(*others), reference(TWO[1], *others))


# What a CPU can show of devices with kernels


def test_sums_on_a_device_are_taken_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    blocks = _torch_tensors.blocks
    monkeypatch.setattr(_torch_tensors, "blocks", lambda *x: [seen.append(1) or index for index in blocks(*x)])
    monkeypatch.setattr(_torch_tensors, "_BLOCK_ON_DEVICE", 2**12)
    for row in FOUR[:3]:
        with FlopCounterMode(display=False):  # what watches gets single operations, as on a device
            check_gradients(row, inputs(LARGE, wanted=(0, 1, 2)))
    assert len(seen) >= 3 * 4


def test_plain_operations_serve_a_device_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch, "_FUSED_ON", ("cpu",))
    monkeypatch.setattr(_torch, "_serves", {})
    monkeypatch.setitem(sys.modules, "fastgen_rf.backends._triton", None)
    given = inputs(SMALL)
    assert_same_bits(rf.add_noise(*given), reference(TWO[0], *given))
    assert _torch._serves == {torch.device("cpu"): False}


def test_a_time_that_is_moved_to_a_device_passes_its_gradient_on() -> None:
    t = torch.tensor(0.25, requires_grad=True)
    moved = placed(t, torch.device("cpu", 0))
    (gradient,) = torch.autograd.grad(3 * moved, t)
    assert (float(moved.detach()), float(gradient)) == (0.25, 3)

"""PyTorch, what must not depend on the size of the arrays, nor on who else calls the library meanwhile."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import fastgen_rf as rf
from fastgen_rf.backends import _torch, _torch_tensors
from fastgen_rf.backends._torch import BACKEND
from fastgen_rf.backends._torch_tensors import placed
from tests.torch.plain import (
    CONVERSIONS,
    LARGE,
    ONE_BLOCK,
    SMALL,
    Conversion,
    assert_same_bits,
    every_conversion,
    randn,
    times,
    ulps_apart,
)

SHAPES = [(4,), (4, 16, 48, 48), ONE_BLOCK, LARGE]  # plain operations twice, one block, and blocks
every_size = pytest.mark.parametrize("shape", SHAPES, ids=str)
DTYPES = [(torch.float64,) * 3, (torch.bfloat16, torch.bfloat16, torch.float32)]


def inputs(shape: tuple[int, ...], wanted: tuple[int, ...], *dtypes: torch.dtype) -> list[Tensor]:
    values = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    return [x.to(d).clone().requires_grad_(k in wanted) for k, (x, d) in enumerate(zip(values, dtypes, strict=True))]


def assert_gradients(conversion: Conversion, result: Tensor, given: list[Tensor], wanted: tuple[int, ...]) -> None:
    upstream = randn(*result.shape, seed=3).to(result.dtype)
    fresh = inputs(result.shape, wanted, *(x.dtype for x in given))
    expected = torch.autograd.grad(conversion.plain(*fresh), [fresh[k] for k in wanted], upstream)
    actual = torch.autograd.grad(result, [given[k] for k in wanted], upstream)
    for ours, plain in zip(actual, expected, strict=True):
        if plain.dtype == torch.float64:
            torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10 * float(plain.abs().max()))
        else:
            assert ulps_apart(ours, plain) <= 1


@every_conversion
@every_size
@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
@pytest.mark.parametrize("made", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
def test_what_was_made_under_inference_mode_lets_the_others_gradients_through(
    conversion: Conversion, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...], made: tuple[int, ...]
) -> None:
    wanted = tuple(k for k in range(3) if k not in made)
    given = inputs(shape, wanted, *dtypes)
    with torch.inference_mode():
        given = [x.detach().clone() if k in made else x for k, x in enumerate(given)]
    assert all(given[k].is_inference() for k in made)
    assert_gradients(conversion, conversion.ours(*given), given, wanted)


@every_conversion
@every_size
@pytest.mark.parametrize("t_dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("wanted", [(0,), (2,), (0, 1, 2)], ids=str)
def test_a_t_refilled_in_place_after_the_call_leaves_the_gradients_alone(
    conversion: Conversion, shape: tuple[int, ...], t_dtype: torch.dtype, wanted: tuple[int, ...]
) -> None:
    given = inputs(shape, wanted, torch.float32, torch.float32, t_dtype)
    result = conversion.ours(*given)
    with torch.no_grad():
        given[2].mul_(1000)
    assert_gradients(conversion, result, given, wanted)


@pytest.mark.parametrize("refilled", [2, 3])
@every_size
def test_a_step_s_times_may_be_refilled_in_place(shape: tuple[int, ...], refilled: int) -> None:
    x0, x_t, t = (x.double() for x in inputs(shape, (), *[torch.float32] * 3))
    given = [x0.requires_grad_(), x_t, t, (0.5 * t)]
    result = rf.ode_step(*given)
    given[refilled].mul_(1000)
    (gradient,) = torch.autograd.grad(result.sum(), x0)
    torch.testing.assert_close(gradient, torch.full_like(x0, 0.5))


@every_conversion
@every_size
@pytest.mark.parametrize("counted", ["forward", "backward"])
def test_a_dispatch_mode_around_one_pass_of_a_checkpoint_changes_nothing(
    conversion: Conversion, shape: tuple[int, ...], counted: str
) -> None:
    given = inputs(shape, (0, 1, 2), *[torch.float32] * 3)
    with FlopCounterMode(display=False) if counted == "forward" else nullcontext():
        result = checkpoint(conversion.ours, *given, use_reentrant=False)
    assert isinstance(result, Tensor)
    with FlopCounterMode(display=False) if counted == "backward" else nullcontext():
        assert_gradients(conversion, result, given, (0, 1, 2))


class CallingInTheMiddle(TorchFunctionMode):
    """Converts something else at the tenth operation that it sees."""

    seen = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        if self.seen == 10:
            rf.x0_to_eps(randn(*LARGE, seed=5), randn(*LARGE, seed=6), times(LARGE[0]))
        return function(*args, **(kwargs or {}))


@every_conversion
def test_a_call_in_the_middle_of_a_large_call_disturbs_nothing(conversion: Conversion) -> None:
    given = randn(*LARGE, seed=1), randn(*LARGE, seed=2), times(LARGE[0])
    with CallingInTheMiddle() as mode:
        result = conversion.ours(*given)
    assert mode.seen > 10
    assert_same_bits(result, conversion.plain(*given))


class Looking(TorchFunctionMode):
    """Looks at what every operation gives, as a logger would."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in (torch.Tensor.add, torch.Tensor.sub, torch.Tensor.mul, torch.Tensor.div):
            assert all(isinstance(x, (Tensor, float, int)) for x in (*args, result))
        return result


@every_conversion
@every_size
def test_a_function_mode_sees_tensors_alone(conversion: Conversion, shape: tuple[int, ...]) -> None:
    given = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    with Looking():
        result = conversion.ours(*given)
    assert_same_bits(result, conversion.plain(*given))


@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_a_signal_handler_may_call_the_library(framework: str) -> None:
    first, second, t = randn(*LARGE, seed=1), randn(*LARGE, seed=2), times(LARGE[0])
    expected = CONVERSIONS["add_noise"].plain(first, second, t)
    others = [randn(*LARGE, seed=5), randn(*LARGE, seed=6), times(LARGE[0], seed=1)]
    given = [first, second, t]
    if framework == "numpy":
        given, others = [x.numpy() for x in given], [x.numpy() for x in others]
    rf.x0_to_eps(*others)  # a handler cannot wait for an import that it interrupts
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(rf.x0_to_eps(*others)))
    results = []
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
def test_a_traced_graph_holds_no_scratch(pre_dispatch: bool) -> None:
    given = randn(*LARGE, seed=1), randn(*LARGE, seed=2), times(LARGE[0])
    graph = make_fx(rf.x0_to_eps, pre_dispatch=pre_dispatch)(*given)
    held = [getattr(graph, node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    assert all(x.numel() <= 1 for x in held)
    others = randn(*LARGE, seed=3), randn(*LARGE, seed=4), times(LARGE[0])
    assert_same_bits(graph(*others), CONVERSIONS["x0_to_eps"].plain(*others))


@every_conversion
@pytest.mark.parametrize(
    ("shape", "strides"),
    [((4, 1, 150_000), (150_000, 7, 1)), ((4, 1, 300, 500), (150_000, 1, 500, 1)), ((1, 4, 300, 500), (9, 1, 2000, 4))],
    ids=str,
)
def test_singleton_axes_get_the_strides_of_the_plain_expression(
    conversion: Conversion, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    first, second = (randn(600_000, seed=seed).as_strided(shape, strides) for seed in (1, 2))
    for t in (times(shape[0]), 0.3):
        assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
every_float8 = pytest.mark.parametrize("dtype", FLOAT8, ids=str)


@every_conversion
@every_float8
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=str)
def test_float8_arrays_are_widened(
    conversion: Conversion, dtype: torch.dtype, compiled: bool, shape: tuple[int, ...]
) -> None:
    torch.compiler.reset()
    given = [randn(*shape, seed=1).to(dtype), randn(*shape, seed=2).to(dtype), times(shape[0])]
    ours = torch.compile(conversion.ours, fullgraph=True, backend="aot_eager") if compiled else conversion.ours
    result, expected = ours(*given), conversion.plain(*given)
    assert result.dtype == dtype
    assert torch.equal(result.view(torch.uint8), expected.view(torch.uint8))


@every_float8
def test_float8_times(dtype: torch.dtype) -> None:
    t = torch.tensor([0.0, 0.25, 0.875, 1.0]).to(dtype)
    assert rf.rf_alpha(t).float().tolist() == [1.0, 0.75, 0.125, 0.0]
    host = getattr(ml_dtypes, str(dtype).removeprefix("torch."))
    spacing, _ = BACKEND.finfo(dtype)
    assert spacing == float(np.nextafter(host(1), host(2))) - 1
    drawn = rf.sample_timesteps(4000, rf.SampleTimestepConfig(), rng=torch.Generator().manual_seed(0), dtype=dtype)
    assert float(drawn.float().max()) == 1 - spacing / 2


def test_a_float_divided_by_a_time_is_rounded_once() -> None:
    t = torch.linspace(0.31, 0.99, 5000, dtype=torch.float64)
    result = rf.ode_step(torch.zeros_like(t), torch.ones_like(t), t, 0.3)
    assert torch.equal(result, torch.from_numpy(0.3 / t.numpy()))


@pytest.mark.parametrize("t", [torch.tensor(0.25), torch.tensor(0.25, dtype=torch.float64)], ids=["single", "double"])
def test_a_number_on_the_cpu_goes_with_arrays_anywhere(t: Tensor) -> None:
    x = torch.zeros(4, 3, device="meta")
    v = rf.convert_prediction(x, x, t, source="v_vp", target="v")
    for result in (
        rf.add_noise(x, x, t),
        rf.ode_step(x, x, t, t),
        rf.ode_step(x, x, t, 0.1),
        rf.add_noise(x, x, 0.3),
        v,
    ):
        assert (result.device.type, result.shape) == ("meta", (4, 3))
    with pytest.raises(ValueError, match="must be on one device"):
        rf.add_noise(x, x, times(4))


def test_sums_of_a_device_are_taken_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_tensors, "_BLOCK_ON_DEVICE", 2**12)
    given = inputs(LARGE, (0, 1, 2), *(torch.float32,) * 3)
    result = rf.x0_to_eps(*given)
    with FlopCounterMode(display=False):  # what watches gets no blocks but single operations, as on a device
        assert_gradients(CONVERSIONS["x0_to_eps"], result, given, (0, 1, 2))


def test_without_triton_plain_operations_serve_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch, "_FUSED_ON", ("cpu",))
    monkeypatch.setattr(_torch, "_serves", {})
    monkeypatch.setitem(sys.modules, "fastgen_rf.backends._triton", None)
    given = randn(*SMALL, seed=1), randn(*SMALL, seed=2), times(SMALL[0])
    assert_same_bits(rf.add_noise(*given), CONVERSIONS["add_noise"].plain(*given))
    assert _torch._serves == {torch.device("cpu"): False}


def test_two_sizes_under_the_compiler_are_told_apart() -> None:
    torch.compiler.reset()
    compiled = torch.compile(lambda x, y: rf.add_noise(x, y, 0.5), backend="eager", dynamic=True)
    assert compiled(torch.ones(4, 3), torch.ones(4, 3)).shape == (4, 3)
    with pytest.raises(ValueError, match="must have the same shape"):
        compiled(torch.ones(4, 3), torch.ones(5, 3))


def test_the_copy_of_a_number_for_a_device_passes_its_gradient_on() -> None:
    t = torch.tensor(0.25, requires_grad=True)
    moved = placed(t, torch.device("cpu", 0))
    (gradient,) = torch.autograd.grad(3 * moved, t)
    assert float(moved.detach()) == 0.25
    assert float(gradient) == 3

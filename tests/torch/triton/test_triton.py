"""PyTorch, the Triton kernel, without a GPU: its values in Triton's interpreter, and what it compiles to.

Collected with ``--triton`` alone, which switches the interpreter on. The kernel then evaluates CPU tensors, and results
must be bit for bit those of the float64 expression.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fastgen_rf as rf
from fastgen_rf.backends import _torch, _triton
from tests.cases import fresh_process
from tests.cases.names import KINDS
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

SHAPE = (3, 2, 32, 20)  # rows of 1280 elements: more than a block, and no multiple of it
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Launches:
    """Counts the kernel's launches."""

    count = 0


@pytest.fixture(autouse=True)
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launches]:
    """Let the kernel, interpreted, evaluate CPU tensors of any size."""
    launches, launch = Launches(), _triton.launch

    def counted(*args: Any) -> None:
        launches.count += 1
        launch(*args)

    monkeypatch.setattr(_triton, "launch", counted)
    monkeypatch.setattr(_torch, "_FUSED_ON", ("cpu",))
    monkeypatch.setattr(_torch, "_LEAST", 0)
    monkeypatch.setattr(_torch, "_LEAST_ON_DEVICE", 0)
    monkeypatch.setattr(_torch, "_serves", {})
    interpreter: Any = importlib.import_module("triton.runtime.interpreter")
    monkeypatch.setattr(interpreter, "_convert_float", _round_as_hardware_does)
    with np.errstate(all="ignore"):
        yield launches


def _round_as_hardware_does(data: Any, source: Any, target: Any, rounding: Any) -> Any:
    """Convert float32 to bfloat16 (here a uint16) to nearest, and back: the interpreter cuts bits off."""
    flat = torch.from_numpy(np.atleast_1d(np.ascontiguousarray(data)))
    if target.name == "bf16":
        values = flat.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    else:
        values = flat.view(torch.int16).view(torch.bfloat16).float().numpy().view(np.uint32)
    return values.reshape(data.shape)


@every_conversion
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("t_dtype", DTYPES, ids=str)
def test_every_dtype(conversion: Conversion, dtype: torch.dtype, t_dtype: torch.dtype, launches: Launches) -> None:
    first, second = randn(*SHAPE, dtype=dtype, seed=1), randn(*SHAPE, dtype=dtype, seed=2)
    t = times(SHAPE[0], dtype=t_dtype)
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))
    assert launches.count == 1


@every_conversion
@pytest.mark.parametrize(
    ("dtype", "other"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float16), (torch.float16, torch.float64)],
)
def test_mixed_dtypes(conversion: Conversion, dtype: torch.dtype, other: torch.dtype, launches: Launches) -> None:
    first, second, t = randn(*SHAPE, dtype=dtype, seed=1), randn(*SHAPE, dtype=other, seed=2), times(SHAPE[0])
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))
    assert launches.count == 1


@every_conversion
@pytest.mark.parametrize("t", [0.0, 1e-7, 0.3, 1.0])
def test_a_python_t_arrives_with_all_its_bits(conversion: Conversion, t: float, launches: Launches) -> None:
    first, second = randn(*SHAPE, dtype=torch.float64, seed=1), randn(*SHAPE, seed=2)
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))
    assert launches.count == 1


@every_conversion
@pytest.mark.parametrize("shape", [(4, 3), (4, 1500)], ids=str)
def test_the_ends_of_time_infinities_and_nans(
    conversion: Conversion, shape: tuple[int, ...], launches: Launches
) -> None:
    first, second = randn(*shape, seed=1).clone(), randn(*shape, seed=2).clone()
    first[:, 0], first[:, 1], second[:, 1] = float("inf"), -0.0, float("nan")
    for t in (torch.tensor([0.0, 1.0, 1e-7, 1 - 2.0**-24]), torch.tensor([0.5, float("nan"), 0.0, 1.0])):
        assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))
    assert launches.count == 2


SHAPES_OF_T = [
    (SHAPE, (3, 2)),
    (SHAPE, (3, 2, 32)),
    (SHAPE, SHAPE),
    (SHAPE, (1,)),
    (SHAPE, ()),
    (SHAPE, (1, 2)),  # repeated for each of the 3
    (SHAPE, (3, 1, 32)),
    ((500, 7), (500,)),
    ((1, 3001), (1,)),
    ((1, 1, 1), (1, 1)),
]


@every_conversion
@pytest.mark.parametrize(("shape", "t_shape"), SHAPES_OF_T, ids=str)
def test_every_place_of_t(
    conversion: Conversion, shape: tuple[int, ...], t_shape: tuple[int, ...], launches: Launches
) -> None:
    first, second, t = randn(*shape, seed=1), randn(*shape, seed=2), times(*t_shape)
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))
    assert launches.count == 1


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "permuted", "offset"])
@pytest.mark.parametrize("t_shape", [(3,), (3, 1, 1, 1), (1, 1, 1, 20), (3, 2), SHAPE], ids=str)
def test_every_dense_layout(layout: str, t_shape: tuple[int, ...]) -> None:
    conversion = CONVERSIONS["x0_to_eps"]
    first, second = (laid_out(layout, SHAPE, torch.float32, seed) for seed in (1, 2))
    for t in (times(*t_shape), times(*t_shape, 2)[..., 0]):
        assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))


class Latent(torch.Tensor):
    """A subclass: the kernel knows nothing of it."""


def negated() -> Tensor:
    """A tensor whose sign is pending: its memory holds the opposite of its values."""
    return torch.complex(randn(*SHAPE, seed=1), randn(*SHAPE, seed=3)).conj().imag


@every_conversion
@pytest.mark.parametrize(
    ("first", "t"),
    [
        pytest.param(lambda: randn(*SHAPE, seed=1), lambda: times(1, 1, 1, 20), id="t on the innermost axis"),
        pytest.param(lambda: laid_out("strided", SHAPE, torch.float32, 1), lambda: times(3), id="gaps"),
        pytest.param(lambda: laid_out("expanded", SHAPE, torch.float32, 1), lambda: times(3), id="overlap"),
        pytest.param(lambda: laid_out("channels_last", SHAPE, torch.float32, 1), lambda: times(3), id="two layouts"),
        pytest.param(lambda: randn(*SHAPE, seed=1).as_subclass(Latent), lambda: times(3), id="subclass"),
        pytest.param(negated, lambda: times(3), id="pending negation"),
        pytest.param(lambda: randn(*SHAPE, seed=1), lambda: times(3).to(torch.float8_e5m2), id="float8"),
    ],
)
def test_what_the_kernel_cannot_read_is_left_to_the_plain_expression(
    conversion: Conversion, first: Any, t: Any, launches: Launches
) -> None:
    array, second, time = first(), randn(*SHAPE, seed=2), t()
    result = conversion.ours(array, second, time)
    plain = conversion.plain(array.as_subclass(Tensor).resolve_neg(), second, time)
    assert torch.equal(result.as_subclass(Tensor), plain)
    assert launches.count == 0


@every_conversion
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_each_gradient_but_one_that_is_the_cotangent_is_one_more_launch(
    conversion: Conversion, wanted: tuple[int, ...], dtype: torch.dtype, launches: Launches
) -> None:
    values = randn(*SHAPE, dtype=dtype, seed=1), randn(*SHAPE, dtype=dtype, seed=2), times(SHAPE[0])
    inputs = [x.detach().requires_grad_(place in wanted) for place, x in enumerate(values)]
    asked = [inputs[place] for place in wanted]
    upstream = randn(*SHAPE, dtype=dtype, seed=3)
    actual = torch.autograd.grad(conversion.ours(*inputs), asked, upstream)
    expected = torch.autograd.grad(conversion.plain(*inputs), asked, upstream)
    assert max(ulps_apart(ours, plain) for ours, plain in zip(actual, expected, strict=True)) <= 1
    free = {1} if conversion is CONVERSIONS["pred_x0_from_flow"] else set()  # x_t - t v: the gradient for x_t
    assert launches.count == 1 + len({0, 1} & {*wanted} - free)


@every_conversion
def test_an_expanded_upstream_gradient(conversion: Conversion, launches: Launches) -> None:
    inputs = [x.detach().requires_grad_() for x in (randn(*SHAPE, seed=1), randn(*SHAPE, seed=2), times(SHAPE[0]))]
    actual, expected = (
        torch.autograd.grad(call(*inputs).sum(), inputs) for call in (conversion.ours, conversion.plain)
    )
    assert max(ulps_apart(ours, plain) for ours, plain in zip(actual, expected, strict=True)) <= 1
    assert launches.count >= 2


def test_a_small_array_whose_t_needs_a_gradient_is_left_to_autograd(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_torch, "_LEAST_ON_DEVICE", 2**62)
    first, second, t = randn(*SHAPE, seed=1), randn(*SHAPE, seed=2), times(SHAPE[0])
    assert_same_bits(rf.add_noise(first, second, t.requires_grad_()).detach(), rf.add_noise(first, second, t.detach()))
    assert launches.count == 1


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_every_conversion_of_predictions_is_one_launch_of_the_same_bits(
    source: str, target: str, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = randn(*SHAPE, seed=1), randn(*SHAPE, seed=2), times(SHAPE[0])
    fused = rf.convert_prediction(*inputs, source=source, target=target)
    assert launches.count == (source != target)
    monkeypatch.setattr(_torch, "_FUSED_ON", ())
    monkeypatch.setattr(_torch, "_LEAST", 2**62)
    assert_same_bits(fused, rf.convert_prediction(*inputs, source=source, target=target))


def test_a_step_is_one_launch_and_a_shift_compiles_nothing_for_its_value(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    x0, x_t, t = randn(*SHAPE, seed=1), randn(*SHAPE, seed=2), times(SHAPE[0])
    calls = (lambda: rf.ode_step(x0, x_t, t, 0.5 * t), *(lambda s=s: rf.shift_timesteps(t, s) for s in (0.3, 5)))
    fused = [call() for call in calls]
    assert launches.count == 1
    monkeypatch.setattr(_torch, "_FUSED_ON", ())
    monkeypatch.setattr(_torch, "_LEAST", 2**62)
    for ours, call in zip(fused, calls, strict=True):
        assert_same_bits(ours, call())


def test_where_the_kernel_fails_a_warning_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(_triton, "launch", fail)
    conversion = CONVERSIONS["add_noise"]
    first, second, t = randn(*SHAPE, seed=1), randn(*SHAPE, seed=2), times(3)
    with pytest.warns(RuntimeWarning, match="no C compiler"):
        result = conversion.ours(first, second, t)
    assert_same_bits(result, conversion.plain(first, second, t))
    assert_same_bits(conversion.ours(first, second, t), conversion.plain(first, second, t))  # and no second warning


_COMPILE = """
import re, sys, torch
from itertools import product
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
import fastgen_rf
from fastgen_rf.backends import _torch, _triton

class Offline:  # a GPU that compiles and is not there
    get_current_target = staticmethod(lambda: GPUTarget("cuda", int(sys.argv[1]), 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=None: 0)

class Compiled:
    def __init__(self, kernel):
        self.kernel = kernel
    def __getitem__(self, grid):
        return lambda *args, **options: check(self.kernel.warmup(*args, grid=grid, **options).asm["ptx"])

def check(ptx):
    operations = set(re.findall(r"^\\s+(?:@!?%p\\d+ )?([a-z]+[\\w.]*)", ptx, re.M))
    arithmetic = {name for name in operations if re.match(r"(add|sub|mul|div|fma|min|max|rcp|sqrt|setp)\\.", name)}
    floating = {name for name in arithmetic if re.search(r"f16|f32|f64", name)}
    assert floating and all(re.search(r"\\.f64$", name) and "fma" not in name for name in floating), floating
    assert {"ld.global.v4.b32", "st.global.v4.b32"} <= operations or "ld.global.v2.b64" in operations, operations
    if "setp.lt.f64" in floating:
        assert "0d3EB0C6F7A0B5ED8D" in ptx  # 1e-6 with all its bits
    compiled.append(ptx)

compiled = []
driver.set_active(Offline())
kernel_of = _triton._kernel_of
_triton._kernel_of = lambda formula: Compiled(kernel_of(formula))
_torch._FUSED_ON = ("cpu",)
names = ("add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow")
dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
for (i, name), (j, dtype) in product(enumerate(names), enumerate(dtypes)):
    if (i + j) % 4 != int(sys.argv[2]):
        continue
    convert = getattr(fastgen_rf, name)
    x = torch.zeros(4, 4096, dtype=dtype)
    for t in (torch.zeros(4), torch.zeros(4, dtype=dtype), torch.zeros(4, 4096), 0.3):
        convert(x, x, t)
        convert(x, x.float(), t)
    y = x.clone().requires_grad_()
    convert(y, x, 0.3).backward(x)
x = torch.zeros(4, 4096)
fastgen_rf.convert_prediction(x, x, torch.zeros(4), source="v", target="v_vp")
assert "sqrt.rn.f64" in compiled[-1]  # rounded to nearest, not the fast one
print(len(compiled))
"""


@pytest.mark.parametrize(("architecture", "share"), [("80", "0"), ("90", "1"), ("100", "2"), ("120", "3")])
def test_it_compiles_to_float64_arithmetic_without_contraction_and_to_wide_loads(
    architecture: str, share: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every formula in every dtype on one architecture; each of those meets each formula and each dtype."""
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert int(fresh_process.run(_COMPILE, architecture, share)) >= 5 * 9


def test_minus_zero_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x, zeros = torch.tensor([[1.0, -1.0, 0.0, -0.0]] * 2), torch.zeros(2)
    calls = [lambda kind=kind: rf.convert_prediction(x, x, zeros, source="score", target=kind) for kind in KINDS[:4]]
    fused = [call() for call in calls]
    monkeypatch.setattr(_torch, "_FUSED_ON", ())
    for ours, call in zip(fused, calls, strict=True):
        assert_same_bits(ours, call())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
    ids=["torch", "triton"],
)
def test_running_out_of_memory_gives_the_kernel_up_for_nothing(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*args: Any) -> None:
        raise error

    monkeypatch.setattr(_triton, "launch", exhausted)
    with pytest.raises(type(error), match="out of memory"):
        rf.add_noise(randn(*SHAPE, seed=1), randn(*SHAPE, seed=2), times(3))
    assert _torch._serves == {torch.device("cpu"): True}

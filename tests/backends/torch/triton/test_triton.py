"""The Triton kernel without a GPU: its values in Triton's interpreter, and what it compiles to.

Run with the environment variable TRITON_INTERPRET=1, as the nox session tests-triton does. The kernel then evaluates
tensors on the CPU, and the results must have the bits of the plain tensor operations.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import fastgen_rf as rf

if os.environ.get("TRITON_INTERPRET") != "1":
    raise RuntimeError("set TRITON_INTERPRET=1 before pytest starts: the kernels of these tests run in the interpreter")

from fastgen_rf.backends import _torch, _triton
from tests.backends.torch.reference import check, check_gradients, reference
from tests.backends.torch.tensors import DTYPES, FOUR, TWO, laid_out, randn, times
from tests.catalogue import CONVERSIONS, ROWS

SHAPE = (3, 2, 32, 20)  # rows of 1280 elements: more than a block, and no multiple of it
FLOW_TO_X0 = ROWS["pred_x0_from_flow"]


@pytest.fixture(autouse=True)
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The kernel's launches. Interpreted, it evaluates tensors on the CPU, of any size."""
    launches, launch = [], _triton.launch
    monkeypatch.setattr(_triton, "launch", lambda *args: launches.append(args) or launch(*args))
    monkeypatch.setattr(_torch, "_FUSED_ON", ("cpu",))
    monkeypatch.setattr(_torch, "_LEAST", 0)
    monkeypatch.setattr(_torch, "_LEAST_ON_DEVICE", 0)
    monkeypatch.setattr(_torch, "_serves", {})
    interpreter: Any = importlib.import_module("triton.runtime.interpreter")
    monkeypatch.setattr(interpreter, "_convert_float", round_as_hardware_does)
    with np.errstate(all="ignore"):
        yield launches


def round_as_hardware_does(data: Any, source: Any, target: Any, rounding: Any) -> Any:
    """Convert float32 to bfloat16 (here a uint16) to nearest, and back: the interpreter cuts bits off."""
    flat, narrows = torch.from_numpy(np.atleast_1d(np.ascontiguousarray(data))), target.name == "bf16"
    if narrows:
        values = flat.to(torch.bfloat16).view(torch.int16)
    else:
        values = flat.view(torch.int16).view(torch.bfloat16).float()
    return values.numpy().view(np.uint16 if narrows else np.uint32).reshape(data.shape)


def pair(*dtypes: torch.dtype) -> list[Tensor]:
    return [randn(*SHAPE, dtype=dtype, seed=seed) for seed, dtype in enumerate(dtypes, 1)]


PAIR = pair(torch.float32, torch.float32)


# Values


def test_every_combination_of_dtypes(launches: list[Any]) -> None:
    for dtype, other in product(DTYPES, DTYPES):
        for row in (TWO[0], FLOW_TO_X0):
            check(row, *pair(dtype, other), times(3))
        check(TWO[1], *pair(dtype, dtype), times(3, dtype=other))
    assert len(launches) == 3 * 16


def test_python_floats_the_ends_of_time_infinities_and_nan(launches: list[Any]) -> None:
    hard = [torch.tensor([0.0, 1.0, 1e-7, 1 - 2.0**-24]), torch.tensor([0.5, float("nan"), 0.0, 1.0])]
    for shape in ((4, 3), (4, 1500)):
        first, second = randn(*shape, dtype=torch.float64, seed=1).clone(), randn(*shape, seed=2).clone()
        first[:, 0], first[:, 1], second[:, 1] = float("inf"), -0.0, float("nan")
        for row, t in product(TWO, (*hard, 0.0, 1e-7, 0.3, 1.0)):
            check(row, first, second, t)
    assert len(launches) == 2 * 2 * 6


def test_every_shape_of_t(launches: list[Any]) -> None:
    cases = [(SHAPE, t_shape) for t_shape in [(3, 2), (3, 2, 32), SHAPE, (1,), (), (1, 2), (3, 1, 32)]]
    cases += [((500, 7), (500,)), ((1, 3001), (1,)), ((1, 1, 1), (1, 1))]
    for shape, t_shape in cases:
        check(TWO[1], randn(*shape, seed=1), randn(*shape, seed=2), times(*t_shape))
    assert len(launches) == len(cases)


def test_every_dense_layout(launches: list[Any]) -> None:
    for layout in ("contiguous", "channels_last", "permuted", "offset"):
        first, second = (laid_out(layout, SHAPE, torch.float32, seed) for seed in (1, 2))
        before = len(launches)
        for t_shape in ((3,), (3, 1, 1, 1), (1, 1, 1, 20), (3, 2), SHAPE):
            for t in (times(*t_shape), times(*t_shape, 2)[..., 0]):
                check(TWO[1], first, second, t)
        assert len(launches) >= before + 2


def test_every_conversion_of_predictions_is_one_launch(launches: list[Any]) -> None:
    signs = torch.tensor([[1.0, -1.0, 0.0, -0.0]] * 2)
    for row in CONVERSIONS:
        check(row, *PAIR, times(3))
        check(row, signs, signs, torch.zeros(2))
    assert len(launches) == 2 * len(CONVERSIONS)


def test_a_step_is_one_launch_and_a_shift_is_not_compiled_for_its_value(launches: list[Any]) -> None:
    check(ROWS["ode_step"], *PAIR, times(3), 0.5 * times(3))
    for by in (3.0, 0.3):
        check(ROWS[f"shift_timesteps ({by})"], times(3))
    assert len(launches) == 1


class Subclass(torch.Tensor):
    """The kernel knows nothing of it."""


NOT_READABLE: dict[str, Any] = {
    "t on the innermost axis": lambda: (randn(*SHAPE, seed=1), times(1, 1, 1, 20)),
    "gaps": lambda: (laid_out("strided", SHAPE, torch.float32, 1), times(3)),
    "overlap": lambda: (laid_out("expanded", SHAPE, torch.float32, 1), times(3)),
    "two layouts": lambda: (laid_out("channels_last", SHAPE, torch.float32, 1), times(3)),
    "subclass": lambda: (randn(*SHAPE, seed=1).as_subclass(Subclass), times(3)),
    "pending negation": lambda: (torch.complex(*pair(*DTYPES[1:2] * 2)).conj().imag, times(3)),
    "float8": lambda: (randn(*SHAPE, seed=1), times(3).to(torch.float8_e5m2)),
    "zero tensor": lambda: (torch._efficientzerotensor(SHAPE), times(3)),
}


@pytest.mark.parametrize("made", NOT_READABLE.values(), ids=list(NOT_READABLE))
def test_plain_operations_evaluate_what_the_kernel_cannot_read(made: Any, launches: list[Any]) -> None:
    (first, t), second = made(), randn(*SHAPE, seed=2)
    for row in TWO:
        plain = reference(row, first.as_subclass(Tensor).resolve_neg(), second, t)
        assert torch.equal(row(first, second, t).as_subclass(Tensor), plain)
    assert len(launches) == 0


def test_a_function_mode_does_not_turn_the_kernel_off_and_a_dispatch_mode_does(launches: list[Any]) -> None:
    for mode in (torch.device("cpu"), FlopCounterMode(display=False)):
        with mode:
            check(TWO[0], *PAIR, times(3))
    assert len(launches) == 1


# Gradients


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_gradient_is_one_more_launch_unless_it_is_the_upstream_gradient(
    dtype: torch.dtype, launches: list[Any]
) -> None:
    for row, wanted in product(FOUR, ((0,), (1,), (2,), (0, 1, 2))):
        values = (*pair(dtype, dtype), times(3))
        before = len(launches)
        check_gradients(row, [x.detach().requires_grad_(at in wanted) for at, x in enumerate(values)])
        unlaunched = {"pred_x0_from_flow": {1}, "convert_prediction (v, v_vp)": {1}}.get(row.name, set())
        assert len(launches) - before == 1 + len({0, 1} & {*wanted} - unlaunched)


def test_an_expanded_upstream_gradient(launches: list[Any]) -> None:
    for row in FOUR[:3]:
        given = [x.detach().requires_grad_() for x in (*PAIR, times(3))]
        check_gradients(row, given, torch.ones(()).expand(SHAPE))
    assert len(launches) >= 6


def test_a_small_array_whose_t_needs_a_gradient_is_left_to_autograd(launches: list[Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(_torch, "_LEAST_ON_DEVICE", 2**62)
    check(TWO[0], *PAIR, times(3))
    check(TWO[0], *PAIR, times(3).detach().requires_grad_())
    assert len(launches) == 1


# Failures


@pytest.mark.parametrize("reason", ["no C compiler", "Triton Error [CUDA]: out of memory"])
def test_a_kernel_that_fails_gives_way_with_one_warning_unless_memory_ran_out(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError(reason)  # torch.OutOfMemoryError is a RuntimeError, too

    monkeypatch.setattr(_triton, "launch", fail)
    if reason == "no C compiler":
        with pytest.warns(RuntimeWarning, match=reason):
            check(TWO[0], *PAIR, times(3))
        check(TWO[0], *PAIR, times(3))  # without a second warning
    else:
        with pytest.raises(RuntimeError, match="out of memory"):
            rf.add_noise(*PAIR, times(3))
        assert _torch._serves == {torch.device("cpu"): True}  # the kernel is kept


COMPILE = r"""
import re, sys, torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
import fastgen_rf as rf
from fastgen_rf.backends import _torch, _triton

class Offline:  # a driver for a GPU that is not there
    get_current_target = staticmethod(lambda: GPUTarget("cuda", int(sys.argv[1]), 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=None: 0)

class Compiled:
    def __init__(self, kernel):
        self.kernel = kernel
    def __getitem__(self, grid):
        return lambda *args, **options: check(self.kernel.warmup(*args, grid=grid, **options).asm["ptx"])

def check(ptx):
    operations = set(re.findall(r"^\s+(?:@!?%p\d+ )?([a-z]+[\w.]*)", ptx, re.M))
    arithmetic = {name for name in operations if re.match(r"(add|sub|mul|div|fma|min|max|rcp|sqrt|setp)\.", name)}
    floating = {name for name in arithmetic if re.search(r"f16|f32|f64", name)}
    assert floating and all(name.endswith(".f64") and "fma" not in name for name in floating), floating
    assert {"ld.global.v4.b32", "st.global.v4.b32"} <= operations or "ld.global.v2.b64" in operations, operations
    assert "setp.lt.f64" not in floating or "0d3EB0C6F7A0B5ED8D" in ptx  # 1e-6 with all its bits
    compiled.append(ptx)

compiled, kernel_of = [], _triton._kernel_of
driver.set_active(Offline())
_triton._kernel_of = lambda formula: Compiled(kernel_of(formula))
_torch._FUSED_ON = ("cpu",)
for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
    x = torch.zeros(4, 4096, dtype=dtype)
    for convert in (rf.add_noise, rf.x0_to_eps):
        for t in (torch.zeros(4), torch.zeros(4, dtype=dtype), torch.zeros(4, 4096), 0.3):
            convert(x, x, t), convert(x, x.float(), t)
        convert(x.clone().requires_grad_(), x, 0.3).backward(x)
x = torch.zeros(4, 4096)
rf.convert_prediction(x, x, torch.zeros(4), source="v", target="v_vp")
assert "sqrt.rn.f64" in compiled[-1]  # rounded to nearest
print(len(compiled))
"""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["80", "120"])
def test_it_compiles_to_float64_without_contraction_and_to_wide_loads(architecture: str, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(rf.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", COMPILE, architecture], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 8 * 9

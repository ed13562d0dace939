"""The Triton kernels without a GPU: their values in Triton's interpreter, and the code that Triton compiles.

Run with the environment variable TRITON_INTERPRET=1, as the nox session tests-triton does. The kernel then evaluates
tensors on the CPU, and the results must have the bits of the plain tensor operations.
"""

from __future__ import annotations

import ctypes.util
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
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import fastgen_rf as rf

if os.environ.get("TRITON_INTERPRET") != "1":
    raise RuntimeError("set TRITON_INTERPRET=1 before pytest starts: the kernels of these tests run in the interpreter")

from fastgen_rf.backends import _torch_one_pass, _triton
from tests.backends.torch.reference import assert_same_bits, check, check_gradients, reference
from tests.backends.torch.tensors import DTYPES, FOUR, TWO, laid_out, randn, times
from tests.catalogue import ROWS

SHAPE = (3, 2, 32, 20)  # rows of 1280 elements: more than a block, and no multiple of it


@pytest.fixture(autouse=True)
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The kernel's launches. Interpreted, it evaluates tensors on the CPU, of any size."""
    launches, launch = [], _triton.launch
    monkeypatch.setattr(_triton, "launch", lambda *args: launches.append(args) or launch(*args))
    monkeypatch.setattr(_torch_one_pass, "_FUSED_ON", ("cpu",))
    monkeypatch.setattr(_torch_one_pass, "LEAST", 0)
    monkeypatch.setattr(_torch_one_pass, "_LEAST_RECORDED", 0)
    monkeypatch.setattr(_torch_one_pass, "_kernel_support", {})
    interpreter: Any = importlib.import_module("triton.runtime.interpreter")
    monkeypatch.setattr(interpreter, "_convert_float", round_as_hardware_does)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_fma", fuse)
    with np.errstate(all="ignore"):
        yield launches


C_FMA = ctypes.CDLL(ctypes.util.find_library("m")).fma
C_FMA.argtypes, C_FMA.restype = [ctypes.c_double] * 3, ctypes.c_double
FMA = np.frompyfunc(C_FMA, 3, 1)


def fuse(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Multiply and add in one rounding: the interpreter's own fma has two."""
    return type(x)(FMA(x.data, y.data, z.data).astype(np.float64), z.dtype.scalar)


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


def test_python_floats_the_ends_of_time_infinities_and_nan(launches: list[Any]) -> None:
    hard = [torch.tensor([0.0, 1.0, 1e-7, 1 - 2.0**-24]), torch.tensor([0.5, float("nan"), 0.0, 1.0])]
    for shape in ((4, 3), (4, 1500)):
        first, second = randn(*shape, dtype=torch.float64, seed=1).clone(), randn(*shape, seed=2).clone()
        first[:, 0], first[:, 1], second[:, 1] = float("inf"), -0.0, float("nan")
        for row, t in product(TWO, (*hard, 0.0, 1e-7, 0.3, 1.0)):
            check(row, first, second, t)
    assert len(launches) == 2 * 2 * 6


@triton.jit
def divide(values: Any, divisors: Any, out: Any, BLOCK: tl.constexpr) -> None:
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, _triton._divide_by_number(tl.load(values + at), tl.load(divisors + tl.program_id(0))))


def test_a_division_by_a_number_has_the_bits_of_a_division() -> None:
    rng, block = np.random.default_rng(0), 2**14
    divisors = np.array([1e-6, 1e-12, 0.1, 0.3, 0.5, 1 - 2.0**-53, 1.0, -1.0, -1e-6, *rng.random(7), np.nan])
    values = rng.standard_normal((len(divisors), block)) * 10.0 ** rng.integers(-30, 31, (len(divisors), block))
    values[:, :4] = [0.0, -0.0, np.inf, np.nan]
    values[:, 4:8] = divisors[:, None] * [1, 3, -1, 1 + 2.0**-52]  # quotients without a remainder
    out = torch.empty(values.shape, dtype=torch.float64)
    divide[(len(divisors),)](torch.from_numpy(values), torch.from_numpy(divisors), out, BLOCK=block)
    assert_same_bits(out, torch.from_numpy(values / divisors[:, None]))


def test_every_shape_of_t_and_dense_layout(launches: list[Any]) -> None:
    cases = [("contiguous", SHAPE, t_shape) for t_shape in [(3, 2), (3, 2, 32), SHAPE, (), (1, 2), (3, 1, 32)]]
    cases += [("contiguous", (500, 7), (500,)), ("contiguous", (1, 3001), (1,))]
    cases += [(layout, SHAPE, t) for layout in ("channels_last", "offset") for t in [(3,), (3, 1, 1, 1)]]
    for layout, shape, t_shape in cases:
        check(TWO[1], *(laid_out(layout, shape, torch.float32, seed) for seed in (1, 2)), times(*t_shape))
    assert len(launches) == len(cases)
    check(TWO[1], *PAIR, times(3, 2)[:, 0])  # a time with gaps


def test_formulas_with_a_sign_a_root_and_two_times_in_every_dtype(launches: list[Any]) -> None:
    signs = torch.tensor([[1.0, -1.0, 0.0, -0.0]] * 2)
    rows = [ROWS["convert_prediction (score, eps)"], ROWS["convert_prediction (v_vp, score)"]]
    for row in rows:
        check(row, signs, signs, torch.zeros(2))
        for dtype, other in zip(DTYPES, DTYPES[1:] + DTYPES[:1], strict=True):
            check(row, *pair(dtype, other), times(3, dtype=other))
    check(ROWS["ode_step"], *PAIR, times(3), 0.5 * times(3))
    assert len(launches) == 2 * 5 + 1


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


def test_a_kernel_sums_products_for_the_gradient_of_t_if_rows_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sum_products = [], _triton.sum_products
    monkeypatch.setattr(_triton, "sum_products", lambda *args: rows.append(args[-1]) or sum_products(*args))
    for layout, t_shape, in_kernel in (
        ("contiguous", (), [3840]),
        ("contiguous", (3,), [1280]),
        ("channels_last", (3,), [1280]),
        ("contiguous", (1, 2), []),  # a time belongs to several runs of elements
        ("contiguous", (3, 2), []),  # rows of 640 elements
    ):
        first, second, upstream = (laid_out(layout, SHAPE, torch.float32, seed) for seed in (1, 2, 3))
        given = [x.detach().requires_grad_() for x in (first, second, times(*t_shape))]
        check_gradients(TWO[0], given, upstream)
        assert rows == in_kernel
        rows.clear()


def test_an_expanded_upstream_gradient(launches: list[Any]) -> None:
    for row in FOUR[:3]:
        given = [x.detach().requires_grad_() for x in (*PAIR, times(3))]
        check_gradients(row, given, torch.ones(()).expand(SHAPE))
    assert len(launches) >= 6


def test_a_small_array_that_needs_a_gradient_is_left_to_autograd(launches: list[Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(_torch_one_pass, "_LEAST_RECORDED", PAIR[0].numel() + 1)
    check(TWO[0], *PAIR, times(3))
    check_gradients(TWO[0], [PAIR[0].detach().requires_grad_(), PAIR[1], times(3)])
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
        assert _torch_one_pass._kernel_support == {torch.device("cpu"): True}  # the kernel is kept


# Compiled code


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["80", "120"])
def test_it_compiles_to_few_float64_instructions_without_contraction(architecture: str, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(rf.__file__).parents[1])}
    command = [sys.executable, "-m", "tests.gpu.compiled", architecture]
    run = subprocess.run(command, env=env, cwd=Path(__file__).parents[4], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

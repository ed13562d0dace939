"""The Triton kernels without a GPU: ``python -m tests.gpu.compiled`` compiles them and counts their instructions.

It fails if a kernel contracts a product and a sum, spills registers, reads or writes arrays less than 16 bytes at a
time, or has more float64 instructions than expected. With ``--launch`` it measures the Python time of a call up to the
launch instead. Triton's wheel has the assembler and the disassembler.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
import timeit
from collections import Counter, deque
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

import fastgen_rf as rf
from fastgen_rf._formulas import CONVERSIONS
from fastgen_rf.backends import _torch_one_pass, _triton
from tests.catalogue import ROWS

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
FLOAT64 = ("DADD", "DMUL", "DFMA", "DSETP")
# Float64 instructions of a thread, which evaluates 8 elements; with a division of each, the last two had 73 and 82
MOST_FLOAT64 = {"add_noise": 25, "pred_x0_from_flow": 16, "x0_to_flow": 45, "x0_to_eps": 54}
FMAS = 16  # in the PTX of a division by a number, two for each element


launches: deque[tuple[Any, ...]] = deque(maxlen=2)  # arguments of the last two


def launch(
    gridX, gridY, gridZ, stream, function, kernel_metadata, launch_metadata, launch_enter_hook, launch_exit_hook, *args
):
    """Keep the arguments of a launch, and do nothing. Their names are those of Triton's own launcher."""
    launches.append((gridX, gridY, gridZ, stream, function, kernel_metadata, *args))


class AbsentGpu:
    """Triton's driver for a GPU that is not there: it loads no kernel, and a launch does nothing."""

    def __init__(self, architecture: int) -> None:
        self.get_current_target = lambda: GPUTarget("cuda", architecture, 32)
        self.get_current_device = lambda: architecture  # Triton keeps the kernels of each device apart
        self.get_current_stream = lambda device=None: 0
        self.launcher_cls = lambda source, metadata: launch
        self.utils = SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": 2**16},
            load_binary=lambda name, kernel, shared, device: (None, None, 0, 0, 1024),
        )


class Recorded:
    """A kernel, and a list that keeps what Triton compiles of it."""

    def __init__(self, kernel: Any, compiled: list[Any]) -> None:
        self.kernel, self.compiled = kernel, compiled

    def __getitem__(self, grid: Any) -> Any:
        def launch(*arguments: Any, **options: Any) -> Any:
            self.compiled.append(self.kernel[grid](*arguments, **options))
            return self.compiled[-1]

        return launch


def record_kernels() -> list[Any]:
    """Send tensors on the CPU to kernels, and return the list that keeps what is compiled."""
    compiled: list[Any] = []
    make = _triton._kernel
    _triton._kernel = lambda *which: Recorded(make(*which), compiled)
    _triton._sum_products = Recorded(_triton._sum_products, compiled)
    _torch_one_pass._FUSED_ON, _torch_one_pass.LEAST = ("cpu",), 0
    return compiled


def check_arithmetic(kernel: Any, fmas: int) -> None:
    """Arithmetic on floating-point numbers is float64's, and no product is contracted with a sum."""
    ptx = kernel.asm["ptx"]
    pattern = r"^\s+(?:@!?%p\d+ )?((?:add|sub|mul|div|fma|min|max|rcp|sqrt|setp)\.[\w.]*f(?:16|32|64))"
    found = Counter(re.findall(pattern, ptx, re.MULTILINE))
    assert found and all(name.endswith(".f64") for name in found), found
    assert found["fma.rn.f64"] == fmas, found
    assert not found["setp.lt.f64"] or "0d3EB0C6F7A0B5ED8D" in ptx  # 1e-6 with all its bits


def count(kernel: Any) -> Counter[str]:
    """Instructions of a thread up to the first EXIT, behind which are the detours of divisions by subnormals."""
    sass, _, detours = kernel.asm["sass"].partition("\tEXIT;")
    assert not re.search(r"\t(LDL|STL)", sass + detours), "registers are spilled"
    return Counter(re.findall(r"\t(?:@!?U?P\w+ )?([A-Z][A-Z0-9]+(?:\.E\.128)?)", sass))


def check(compiled: list[Any]) -> str:
    """Compile and check kernels for one architecture; returns the counts of four formulas."""

    def array(dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.zeros(4, 4096, dtype=dtype)

    def latest(fmas: int, loads: int) -> Counter[str]:
        check_arithmetic(compiled[-1], fmas)
        counted = count(compiled[-1])
        assert counted["LDG.E.128"] == loads, counted
        return counted

    t, counts = torch.zeros(4), []
    for name, most in MOST_FLOAT64.items():
        getattr(rf, name)(array(), array(), t)
        counted = latest(FMAS if name.startswith("x0_to") else 0, loads=2)
        assert (counted["LDG"], counted["STG.E.128"], counted["STG"]) == (1, 1, 0), counted
        float64 = sum(counted[instruction] for instruction in FLOAT64)
        assert float64 <= most, f"{name}: {counted}"
        counts.append(f"{name} {float64} of {counted.total()}")
    for dtype, fmas, loads in ((torch.float64, 0, 8), (torch.float32, FMAS, 4), (torch.float16, FMAS, 2)):
        rf.x0_to_eps(array(dtype), array(dtype), t)
        latest(fmas, loads)
    rf.x0_to_eps(array(), array(torch.float32), 0.3)
    latest(FMAS, loads=3)
    rf.x0_to_eps(array(), array(), torch.zeros(4, 4096))
    latest(fmas=0, loads=4)
    rf.ode_step(array(), array(), t, t)
    latest(fmas=2, loads=2)  # the quotient of two times, which is one for the row
    ROWS["convert_prediction (v, v_vp)"](array(), array(), t)
    assert "sqrt.rn.f64" in compiled[-1].asm["ptx"]  # rounded to nearest
    latest(FMAS, loads=1)
    _torch_one_pass._LEAST_RECORDED = 0
    first, second = array().requires_grad_(), array().requires_grad_()
    rf.x0_to_eps(first, second, t).backward(array())
    for kernel in compiled[-2:]:
        check_arithmetic(kernel, FMAS)
        assert count(kernel)["LDG.E.128"] == 1
    _triton.sum_products(array(), [array(), array()], 4096)
    latest(fmas=0, loads=3)
    check_launches(array(), t)
    return ", ".join(counts)


def check_launches(x: torch.Tensor, t: torch.Tensor) -> None:
    """A kernel that was compiled is launched as Triton launches it, also if Triton's private names have changed."""
    out, formula = torch.empty_like(x), CONVERSIONS["x0", "flow"]
    patched = mock.patch.object
    for change in (
        patched(_triton, "_MOST_COMPILED", 0),
        patched(_triton, "_SIGNATURE", "another"),
        patched(_triton.inspect, "signature", side_effect=ValueError),
    ):
        _triton._compiled.clear()
        with change:
            for _ in range(2):
                _triton.launch(formula, (x, x), (t,), 4096, out)
        first, second = launches
        assert all(one is other or one == other for one, other in zip(first, second, strict=True)), (first, second)


def print_launch_times() -> None:
    """Print the CPU time of calls whose launch does nothing: the median of interleaved rounds, and quartiles."""
    x, y = (torch.zeros(4, 4, dtype=torch.bfloat16) for _ in range(2))
    leaf, t = x.clone().requires_grad_(), torch.rand(4)
    calls: dict[str, Any] = {
        "an allocation": lambda: torch.empty_like(x),
        "add_noise": lambda: rf.add_noise(x, y, t),
        "x0_to_flow": lambda: rf.x0_to_flow(x, y, t),
        "add_noise and its gradient": lambda: torch.autograd.grad(rf.add_noise(leaf, y, t), leaf, x),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(41):
        for name, call in calls.items():
            times[name].append(timeit.timeit(call, timer=time.process_time, number=1000) * 1000)
    for name, rounds in times.items():
        lower, median, upper = statistics.quantiles(rounds, n=4)
        print(f"{name}: {median:.1f} us ({lower:.1f} to {upper:.1f})")


def main() -> None:
    """Do what the options ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.compiled", description=__doc__)
    parser.add_argument("architecture", nargs="*", type=int, default=ARCHITECTURES, help="such as 90; all by default")
    parser.add_argument("--launch", action="store_true", help="measure the Python time up to the launch")
    options = parser.parse_args()
    compiled = record_kernels()
    for architecture in options.architecture:
        driver.set_active(AbsentGpu(architecture))
        _triton._compiled.clear()
        if options.launch:
            print_launch_times()
            return
        print(f"sm_{architecture}, float64 instructions: {check(compiled)}", flush=True)


if __name__ == "__main__":
    main()

"""What is measured on each framework: fastgen_rf, the code that users would run instead, and ``add`` as the limit.

One class for each framework makes the arrays of a case, waits for results, and lists the implementations.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastgen_rf
from tests.benchmarks.cases import FORMULAS, Case
from tests.frameworks import FRAMEWORKS

OURS, ADD = "fastgen_rf", "add"
Arrays = tuple[Any, Any, Any, Any]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Implementation:
    """A name, and how to make one measured call of a case and its arrays."""

    name: str
    prepare: Callable[[Case, Arrays], Call]
    baseline: bool = False
    """Whether fastgen_rf must not be slower."""
    compiled: bool = False
    """Whether it takes seconds to compile: it is measured in the table of sizes only."""


class Frame:
    """A framework on one device."""

    name: str
    dtypes = ("float32", "bfloat16")
    differentiable = True

    def __init__(self, device: str) -> None:
        self.framework = FRAMEWORKS[self.name](device)
        self.device, self.xp = device, self.framework.namespace

    def arrays(self, case: Case) -> Arrays:
        """The arrays of a case on this framework; t stays float32."""
        first, second, t, cotangent = case.arrays()
        first, second, cotangent = (self.framework.array(x, case.dtype) for x in (first, second, cotangent))
        return first, second, self.framework.array(t), cotangent

    def wait(self, result: Any) -> None:
        """Return once ``result`` is computed."""

    def wait_each(self, result: Any) -> None:
        """Wait where calls in a row would otherwise run in parallel."""

    def implementations(self) -> list[Implementation]:
        raise NotImplementedError

    def add(self, case: Case, arrays: Any) -> Call:
        """One addition, or two where the gradient is computed."""
        add, (first, second) = self.xp.add, arrays[:2]
        return (lambda: (add(first, second), add(first, second))) if case.gradient else lambda: add(first, second)


class NumpyFrame(Frame):
    """NumPy with ml_dtypes' bfloat16."""

    name = "numpy"
    differentiable = False

    def implementations(self) -> list[Implementation]:
        def direct(function: Callable[[str], Any]) -> Callable[[Case, Arrays], Call]:
            def prepare(case: Case, arrays: Arrays) -> Call:
                op, (first, second, t, _) = function(case.op), arrays
                return lambda: op(first, second, t)

            return prepare

        return [
            Implementation(OURS, direct(ours)),
            Implementation("plain float64", direct(lambda op: plain(self.xp, op, "float64")), baseline=True),
            Implementation(ADD, self.add),
        ]


class CupyFrame(NumpyFrame):
    """CuPy from 14 on, which has ml_dtypes' bfloat16."""

    name = "cupy"

    def wait(self, result: Any) -> None:
        self.xp.cuda.get_current_stream().synchronize()


class TorchFrame(Frame):
    """PyTorch, compared with nvidia-modelopt's functions, eager and compiled, if that is installed."""

    name = "torch"

    def __init__(self, device: str) -> None:
        super().__init__(device)
        try:
            self.modelopt: Any = importlib.import_module("modelopt.torch.fastgen.flow_matching")
        except ImportError as error:
            print(f"without nvidia-modelopt: {error}")
            self.modelopt = None

    def arrays(self, case: Case) -> Arrays:
        """The arrays of a case; those that the gradient is computed for require it."""
        *inputs, cotangent = super().arrays(case)
        first, second, t = (x.requires_grad_(case.gradient) for x in inputs)
        return first, second, t, cotangent

    def wait(self, result: Any) -> None:
        if self.device == "cuda":
            self.xp.cuda.synchronize()

    def implementations(self) -> list[Implementation]:
        made = []
        for name, module in ((OURS, fastgen_rf), ("nvidia-modelopt", self.modelopt)):
            if module is not None:
                made += [
                    Implementation(name, self._call(module, lambda op: op), baseline=module is self.modelopt),
                    Implementation(f"{name}, compiled", self._call(module, self._compiled), compiled=True),
                ]
        return [*made, Implementation(ADD, lambda case, arrays: self.add(case, [x.detach() for x in arrays[:2]]))]

    def _call(self, module: Any, wrap: Any) -> Callable[[Case, Arrays], Call]:
        def prepare(case: Case, arrays: Arrays) -> Call:
            op, (first, second, t, cotangent) = wrap(getattr(module, case.op)), arrays
            if not case.gradient:
                return lambda: op(first, second, t)
            grad = self.xp.autograd.grad
            return lambda: grad(op(first, second, t), (first, second, t), cotangent)

        return prepare

    def _compiled(self, function: Any) -> Any:
        self.xp._dynamo.reset()  # compile each case for its shape: the fastest code that a user can have
        return self.xp.compile(function)


class JaxFrame(Frame):
    """JAX: called directly and inside the user's own jit."""

    name = "jax"

    def __init__(self, device: str) -> None:
        if device == "cpu":
            os.environ["JAX_PLATFORMS"] = "cpu"
        else:
            os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory for the other frameworks
        super().__init__(device)
        self.jax: Any = importlib.import_module("jax")
        self.jax.config.update("jax_default_device", self.framework.device)

    def wait(self, result: Any) -> None:
        self.jax.block_until_ready(result)

    def wait_each(self, result: Any) -> None:
        if self.device == "cpu":
            self.jax.block_until_ready(result)

    def implementations(self) -> list[Implementation]:
        def with_float64(function: Any) -> Any:
            def run(*inputs: Any) -> Any:
                with self.jax.enable_x64(True):
                    return function(*inputs)

            return run

        single, double = (lambda op, dtype=dtype: plain(self.xp, op, dtype) for dtype in ("float32", "float64"))
        return [
            Implementation(OURS, self._call(ours)),
            Implementation("plain float64", self._call(double, with_float64), baseline=True),
            Implementation("plain float32, jitted", self._call(single, self.jax.jit)),
            Implementation(f"{OURS}, compiled", self._call(ours, self.jax.jit)),
            Implementation(ADD, self.add),
        ]

    def _call(self, function: Callable[[str], Any], wrap: Any = lambda run: run) -> Callable[[Case, Arrays], Call]:
        def prepare(case: Case, arrays: Arrays) -> Call:
            op, (first, second, t, cotangent) = function(case.op), arrays
            if not case.gradient:
                forward = wrap(op)
                return lambda: forward(first, second, t)

            def value_and_gradient(cotangent: Any, *inputs: Any) -> Any:
                result, pullback = self.jax.vjp(op, *inputs)
                return result, pullback(cotangent)  # both, or a compiler leaves the first out

            run = wrap(value_and_gradient)
            return lambda: run(cotangent, first, second, t)

        return prepare


def ours(op: str) -> Any:
    return getattr(fastgen_rf, op)


def plain(xp: Any, op: str, dtype: str) -> Any:
    """The code that a user writes: cast to ``dtype``, give t trailing axes, evaluate, cast back."""

    def run(first: Any, second: Any, t: Any) -> Any:
        t = t.astype(dtype).reshape(t.shape + (1,) * (first.ndim - t.ndim))
        return FORMULAS[op](first.astype(dtype), second.astype(dtype), t, xp.maximum).astype(first.dtype)

    return run


FRAMES: dict[str, type[Frame]] = {frame.name: frame for frame in (NumpyFrame, TorchFrame, JaxFrame, CupyFrame)}
ON = {"cpu": ("numpy", "torch", "jax"), "cuda": ("torch", "jax", "cupy")}


def frames(device: str, asked: list[str]) -> list[Frame]:
    """The frameworks to measure on ``device``: on CUDA, or if asked for, a missing one is an error."""
    wanted = [name for name in asked or ON[device] if asked or device == "cuda" or importlib.util.find_spec(name)]
    for name in wanted:
        if name not in ON[device] or not importlib.util.find_spec(name):
            raise SystemExit(f"--backend {name} does not run on --device {device}, or is not installed")
    return [FRAMES[name](device) for name in wanted]

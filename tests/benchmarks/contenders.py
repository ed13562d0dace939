"""Who takes part: on each framework, fastgen_rf, what a user would run instead, and ``add`` as the limit.

One class for each framework makes the arrays of a case, waits for its results and lists its contenders.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastgen_rf
from tests.benchmarks.cases import Case
from tests.cases.as_written import FORMULAS, Written

OURS, ADD = "fastgen_rf", "add"
Arrays = tuple[Any, Any, Any, Any]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """A name, and how to make one measured call out of a case and its arrays."""

    name: str
    prepare: Callable[[Case, Arrays], Call]
    rival: bool = False  # what fastgen_rf promises never to be slower than
    compiled: bool = False  # takes seconds to compile, so it takes part where sizes are compared


class NumpyFrame:
    """NumPy, with ml_dtypes' bfloat16; also what CuPy shares with it."""

    name = "numpy"
    dtypes = ("float32", "bfloat16")
    differentiable = False

    def __init__(self, device: str) -> None:
        import ml_dtypes
        import numpy

        self.xp, self.device, self.bfloat16 = numpy, device, ml_dtypes.bfloat16

    def arrays(self, case: Case) -> Arrays:
        """The arrays of a case on this framework; t stays float32."""
        first, second, t, cotangent = case.arrays()
        first, second, cotangent = (self._array(values, case.dtype) for values in (first, second, cotangent))
        return first, second, t if isinstance(t, float) else self._array(t, "float32"), cotangent

    def _array(self, values: Any, dtype: str) -> Any:
        return self.xp.asarray(values.astype(getattr(self, dtype, dtype)))

    def wait(self, result: Any) -> None:
        """Return once ``result`` is computed."""

    def wait_each(self, result: Any) -> None:
        """Wait where calls in a row would otherwise run side by side."""

    def contenders(self) -> list[Contender]:
        def direct(function: Callable[[str], Any]) -> Callable[[Case, Arrays], Call]:
            def prepare(case: Case, arrays: Arrays) -> Call:
                op, (first, second, t, _) = function(case.op), arrays
                return lambda: op(first, second, t)

            return prepare

        return [
            Contender(OURS, direct(lambda op: getattr(fastgen_rf, op))),
            Contender("plain float64", direct(lambda op: _plain(self.xp, FORMULAS[op], "float64")), rival=True),
            Contender(ADD, direct(lambda op: lambda first, second, t: self.xp.add(first, second))),
        ]


class CupyFrame(NumpyFrame):
    """CuPy from 14 on, which has ml_dtypes' bfloat16."""

    name = "cupy"

    def __init__(self, device: str) -> None:
        super().__init__(device)
        import cupy

        self.xp = cupy

    def wait(self, result: Any) -> None:
        self.xp.cuda.get_current_stream().synchronize()


class TorchFrame:
    """PyTorch, against nvidia-modelopt's functions, eager and compiled, where it is installed."""

    name = "torch"
    dtypes = ("float32", "bfloat16")
    differentiable = True

    def __init__(self, device: str) -> None:
        import torch

        self.torch, self.device = torch, device
        self.modelopt: Any = None
        try:
            from modelopt.torch.fastgen import flow_matching
        except ImportError as error:
            print(f"without nvidia-modelopt: {error}")
        else:
            self.modelopt = flow_matching

    def arrays(self, case: Case) -> Arrays:
        """The arrays of a case; those that a gradient is asked for require it."""
        first, second, t, cotangent = case.arrays()
        dtype = getattr(self.torch, case.dtype)
        first, second, cotangent = (
            self.torch.from_numpy(values).to(self.device, dtype) for values in (first, second, cotangent)
        )
        if not isinstance(t, float):
            t = self.torch.from_numpy(t).to(self.device).requires_grad_(case.time_gradient)
        return first.requires_grad_(case.gradient), second.requires_grad_(case.gradient), t, cotangent

    def wait(self, result: Any) -> None:
        """Return once ``result`` is computed."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def wait_each(self, result: Any) -> None:
        """Calls in a row run one after the other."""

    def contenders(self) -> list[Contender]:
        modelopt, compiled = self._modelopt, self._compiled
        theirs = [
            Contender("nvidia-modelopt", self._call(modelopt, tensor_time=True), rival=True),
            Contender(
                "nvidia-modelopt, compiled",
                self._call(lambda op: compiled(modelopt(op)), tensor_time=True),
                compiled=True,
            ),
        ]
        return [
            Contender(OURS, self._call(lambda op: getattr(fastgen_rf, op))),
            *(theirs if self.modelopt else []),
            Contender("fastgen_rf, compiled", self._call(lambda op: compiled(getattr(fastgen_rf, op))), compiled=True),
            Contender(ADD, self._add),
        ]

    def _call(self, function: Callable[[str], Any], tensor_time: bool = False) -> Callable[[Case, Arrays], Call]:
        def prepare(case: Case, arrays: Arrays) -> Call:
            op, (first, second, t, cotangent) = function(case.op), arrays
            if tensor_time and isinstance(t, float):
                t = self.torch.tensor(t, device=self.device)  # for nvidia-modelopt, and not counted
            if not case.gradient:
                return lambda: op(first, second, t)
            wanted = (first, second, t) if case.time_gradient else (first, second)
            grad = self.torch.autograd.grad
            return lambda: grad(op(first, second, t), wanted, cotangent)

        return prepare

    def _modelopt(self, op: str) -> Any:
        return getattr(self.modelopt, op)

    def _compiled(self, function: Any) -> Any:
        self.torch._dynamo.reset()  # each case its own code, made for its shape: the best that a user can have
        return self.torch.compile(function)

    def _add(self, case: Case, arrays: Arrays) -> Call:
        first, second = arrays[0].detach(), arrays[1].detach()
        add = self.torch.add
        return (lambda: (add(first, second), add(first, second))) if case.gradient else lambda: add(first, second)


class JaxFrame:
    """JAX: called directly and inside the user's own jit."""

    name = "jax"
    dtypes = ("float32", "bfloat16")
    differentiable = True

    def __init__(self, device: str) -> None:
        if device == "cpu":
            os.environ["JAX_PLATFORMS"] = "cpu"
        else:
            os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave room for the others
        import jax

        self.jax: Any = jax
        self.device = device
        self.jax.config.update("jax_default_device", jax.devices(device)[0])

    def arrays(self, case: Case) -> Arrays:
        """The arrays of a case on this framework; t stays float32."""
        first, second, t, cotangent = case.arrays()
        jnp = self.jax.numpy
        first, second, cotangent = (jnp.asarray(values, dtype=case.dtype) for values in (first, second, cotangent))
        return first, second, t if isinstance(t, float) else jnp.asarray(t), cotangent

    def wait(self, result: Any) -> None:
        """Return once ``result`` is computed."""
        self.jax.block_until_ready(result)

    def wait_each(self, result: Any) -> None:
        """Wait on the CPU, which would run calls in a row side by side."""
        if self.device == "cpu":
            self.jax.block_until_ready(result)

    def contenders(self) -> list[Contender]:
        jax, jnp = self.jax, self.jax.numpy

        def ours(op: str) -> Any:
            return getattr(fastgen_rf, op)

        def single(op: str) -> Any:
            return _plain(jnp, FORMULAS[op], "float32")

        def double(op: str) -> Any:
            return _plain(jnp, FORMULAS[op], "float64")

        return [
            Contender(OURS, self._call(ours)),
            Contender("plain float64", self._call(double, wrap=_scoped(jax)), rival=True),
            Contender("plain float32, jitted", self._call(single, wrap=jax.jit)),
            Contender("fastgen_rf, compiled", self._call(ours, wrap=jax.jit)),
            Contender(ADD, self._add),
        ]

    def _call(self, function: Callable[[str], Any], wrap: Any = lambda run: run) -> Callable[[Case, Arrays], Call]:
        def prepare(case: Case, arrays: Arrays) -> Call:
            op, (first, second, t, cotangent) = function(case.op), arrays
            inputs = (first, second, t) if case.time_gradient else (first, second)

            def value(*inputs: Any) -> Any:
                return op(*inputs) if len(inputs) == 3 else op(*inputs, t)

            def value_and_gradient(cotangent: Any, *inputs: Any) -> Any:
                result, pullback = self.jax.vjp(value, *inputs)
                return result, pullback(cotangent)  # both, or a compiler leaves the first out

            if not case.gradient:
                forward = wrap(op)
                return lambda: forward(first, second, t)
            run = wrap(value_and_gradient)
            return lambda: run(cotangent, *inputs)

        return prepare

    def _add(self, case: Case, arrays: Arrays) -> Call:
        add, (first, second, _, _) = self.jax.numpy.add, arrays
        return (lambda: (add(first, second), add(first, second))) if case.gradient else lambda: add(first, second)


def _plain(xp: Any, formula: Written, wide: str) -> Any:
    """What a user writes: cast to ``wide``, give t trailing axes, evaluate, cast back."""

    def run(first: Any, second: Any, t: Any) -> Any:
        if not isinstance(t, float):
            t = t.astype(wide).reshape(t.shape + (1,) * (first.ndim - t.ndim))
        return formula.value(first.astype(wide), second.astype(wide), t, xp.maximum).astype(first.dtype)

    return run


def _scoped(jax: Any) -> Any:
    """Run a function where JAX knows float64."""

    def wrap(function: Any) -> Any:
        def run(*inputs: Any) -> Any:
            with jax.enable_x64(True):
                return function(*inputs)

        return run

    return wrap


FRAMES = {frame.name: frame for frame in (NumpyFrame, TorchFrame, JaxFrame, CupyFrame)}
ON = {"cpu": ("numpy", "torch", "jax"), "cuda": ("torch", "jax", "cupy")}


def frames(device: str, asked: list[str]) -> list[Any]:
    """The frameworks to measure on ``device``: on CUDA, or when asked for, one that is missing is an error."""
    wanted = [name for name in asked or ON[device] if asked or device == "cuda" or importlib.util.find_spec(name)]
    for name in wanted:
        if name not in ON[device]:
            raise SystemExit(f"--backend {name} does not run on --device {device}")
        if not importlib.util.find_spec(name):
            raise SystemExit(f"asked for and not installed: {name}")
    if device == "cuda" and "torch" in wanted:
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("--device cuda: torch has no CUDA device")
    return [FRAMES[name](device) for name in wanted]

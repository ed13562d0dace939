"""PyTorch: plain tensor methods, which autograd, ``torch.func``, ``torch.compile`` and DTensor all follow.

Large CPU tensors, and CUDA tensors of any size, take one pass over memory where that applies
(:mod:`fastgen_rf.backends._torch_one_pass`). Namespaces wrapped by array_api_compat are not used, because a tensor
method takes a fraction of the time of a wrapped call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastgen_rf._tracing import fixed
from fastgen_rf.arithmetic import Float32, Formula, Ops
from fastgen_rf.backends import _torch_one_pass as one_pass
from fastgen_rf.backends._standard import Backend, Draws
from fastgen_rf.backends._torch_internals import guard_or_true
from fastgen_rf.backends._torch_tensors import OPS, float32, found_float64, index_of, matched, named_device, table

_CPU = torch.device("cpu")
# An element of this dtype is two numbers. PyTorch has it since 2.8.
_PACKED = getattr(torch, "float4_e2m1fn_x2", None)


class TorchBackend(Backend):
    """Tensors on any device; float64 is emulated on those that have none (MPS, some GPUs of Intel)."""

    special = torch.special

    def is_floating(self, dtype: Any) -> bool:
        return isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype is not _PACKED

    def device(self, array: Any) -> torch.device:
        device: torch.device = array.device
        return device

    def share_device(self, array: Any, other: Any) -> bool:
        """Whether torch computes with the two: a 0-d tensor on the CPU goes with tensors on any device."""
        return bool(array.device == other.device or (not other.ndim and other.device.type == "cpu"))

    def same_shape(self, shape: Any, other: Any) -> bool:
        if not torch.compiler.is_compiling() or len(shape) != len(other):
            return bool(shape == other)
        for n, m in zip(shape, other, strict=True):
            if not guard_or_true(n == m):
                return False
            # For sizes that are known only when the program runs, this adds an assertion to the program.
            torch._check(n == m)  # type: ignore[no-untyped-call]
        return True

    def agree(self, first: Any, second: Any, t: Any) -> bool:
        kind, device, shape = type(first), first.device, first.shape
        return bool(
            type(second) is kind
            and type(t) is kind
            and second.dtype.is_floating_point
            and second.dtype is not _PACKED
            and t.dtype.is_floating_point
            and t.dtype is not _PACKED
            and second.device == device
            and t.device == device
            and not torch.compiler.is_compiling()
            and second.shape == shape
            and t.shape == shape[: t.ndim]
        )

    def has_float64(self, device: Any) -> bool:
        return bool(device == _CPU or device.type in ("cpu", "cuda", "meta") or found_float64(device))

    def devices(self) -> list[Any]:
        found = [torch.device("cpu")]
        if torch.accelerator.is_available():  # pragma: no cover  (needs an accelerator)
            kind = str(torch.accelerator.current_accelerator())
            found += [torch.device(kind, index) for index in range(torch.accelerator.device_count())]
        return found

    def _astype(self, array: Any, dtype: Any) -> Any:
        # A call of `to` that does nothing takes 0.7 us, and one without the name `dtype=` 0.5 us longer.
        return array if array.dtype == dtype else array.to(dtype=dtype)

    def permute(self, array: Any, order: Sequence[int]) -> Any:
        return array.permute(*order)

    @property
    def _ops(self) -> Ops:
        return OPS

    @property
    def _float32(self) -> Float32:
        return float32()

    def complement(self, t: Any) -> Any:
        # Float8 has no arithmetic.
        return (1 - (t.float() if t.dtype.itemsize == 1 else t)).to(t.dtype)

    def evaluate(self, formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
        first = arrays[0]
        device = first.device
        if not self.has_float64(device):
            # Dynamo would compute in float32 with a Python float that is not constant, so the times become constants.
            return self._evaluated(formula, arrays, [fixed(t) for t in times], dtype)
        if len(times) == 2 or (type(times[0]) is not float and times[0].device != device):
            times = matched(times, device)
        if torch.compiler.is_compiling():
            return one_pass.by_operations(formula, arrays, times, dtype, recorded=False)
        if first.is_cpu and first.numel() < one_pass.LEAST:
            return one_pass.by_operations(formula, arrays, times, dtype, torch.is_grad_enabled())
        return one_pass.evaluate(formula, arrays, times, dtype)

    # PyTorch never warns, and Dynamo cannot trace the errstate of NumPy.
    map_times = Backend.map

    def finfo(self, dtype: Any) -> tuple[float, float]:
        eps, tiny = super().finfo(dtype)
        # torch.finfo has 0.125 for this dtype, but it has two fraction bits.
        return (0.25 if dtype == torch.float8_e5m2fnuz else eps), tiny

    def check_rng(self, rng: Any) -> None:
        if rng is not None and not isinstance(rng, torch.Generator):
            raise TypeError(
                f"rng must be a torch.Generator, a numpy.random.Generator, an int or None, got {type(rng).__name__}"
            )

    def draw(self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any) -> tuple[Any, ...]:
        device = rng.device if device is None and isinstance(rng, torch.Generator) else named_device(device)
        # Before torch 2.13, Dynamo hashes a frozen object that it calls, and fails if the trace has made the object.
        draw = draws.__call__
        if isinstance(rng, int):
            # torch's generators ignore further bits of a seed.
            if rng >> (32 if device.type == "cpu" else 64):
                return self._sample_on_host(shape, draws, np.random.default_rng(rng), device, dtype)
            rng = torch.Generator(device).manual_seed(rng)
        if rng is not None and (rng.device.type != device.type or device.index not in (None, rng.device.index or 0)):
            raise ValueError(f"rng and device must agree, got a generator on {rng.device} and device {device}")
        # With generator=None, torch.compile does not support an n that changes from call to call.
        options: dict[str, Any] = {} if rng is None else {"generator": rng}
        size = draws.shape(math.prod(shape))
        if self.has_float64(device):
            # PyTorch parses the size in 0.7 us more if it is one tuple.
            u = torch.rand(*size, dtype=torch.float64, device=device, **options)
        else:
            # A uniform number of 48 bits, made of two integers, is computed on the CPU.
            bits = torch.randint(2**24, (2, *size), dtype=torch.int32, device=device, **options).cpu().double()
            u = bits[0] * 2.0**-24 + bits[1] * 2.0**-48
        # An index takes one operation here, and ten in the arithmetic that all frameworks have.
        drawn = draw(u, torch, torch.special) if draws.boundaries is None else (index_of(u, draws.boundaries),)
        drawn = tuple([self._astype(t, dtype) for t in drawn])
        if u.device != device:
            drawn = tuple([t.to(device) for t in drawn])
        return drawn if len(shape) == 1 else tuple([t.reshape(shape) for t in drawn])

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        return torch.as_tensor(values, device="cpu").to(dtype).to(named_device(device))

    def take(self, values: tuple[float, ...], index: Any, dtype: Any) -> Any:
        # float32 holds every value of a narrower dtype, and PyTorch cannot index tensors of each of those.
        entries = table(values, torch.float64 if dtype == torch.float64 else torch.float32, index.device)
        # index_select takes half the time of an index, but it supports one axis only.
        return self._astype(entries.index_select(0, index) if index.ndim == 1 else entries[index], dtype)


BACKEND = TorchBackend(torch)

"""PyTorch: plain tensor methods, which autograd, ``torch.func``, ``torch.compile`` and DTensor all follow.

Namespaces wrapped by array_api_compat are not used: a tensor method costs a fraction of a wrapped call, and the
compiler traces it without a detour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fastgen_rf.backends._standard import Backend, Quantile


class TorchBackend(Backend):
    """Tensors on any device; float64 is emulated on those that have none (MPS)."""

    generator = "torch.Generator"

    def is_floating(self, dtype: Any) -> bool:
        return bool(dtype.is_floating_point)

    def device(self, array: Any) -> torch.device:
        device: torch.device = array.device
        return device

    def has_float64(self, device: Any) -> bool:
        return bool(device.type != "mps")

    def devices(self) -> list[Any]:
        found = [torch.device("cpu")]
        if torch.accelerator.is_available():
            kind = str(torch.accelerator.current_accelerator())
            found += [torch.device(kind, index) for index in range(torch.accelerator.device_count())]
        return found

    def to_host(self, array: Any) -> Any:
        return array.cpu().numpy()

    def astype(self, array: Any, dtype: Any) -> Any:
        return array.to(dtype)

    def permute(self, array: Any, order: Sequence[int]) -> Any:
        return array.permute(*order)

    def maximum(self, array: Any, floor: float) -> Any:
        return array.clamp_min(floor)  # torch.maximum takes no Python number

    def check_rng(self, rng: Any) -> None:
        if rng is not None and not isinstance(rng, (int, torch.Generator)):
            raise TypeError(f"rng must be a torch.Generator, an int or None, got {type(rng).__name__}")

    def draw(self, n: int, quantile: Quantile, rng: Any, device: Any, dtype: Any) -> Any:
        if device is None:  # torch.compile traces an empty tensor's device, but not torch.get_default_device()
            device = rng.device if isinstance(rng, torch.Generator) else torch.empty(0).device
        device = torch.device(device)
        if isinstance(rng, int):
            rng = torch.Generator(device).manual_seed(rng)
        if rng is None:
            options: dict[str, Any] = {}  # torch.compile takes a dynamic n, and none with generator=None
        elif rng.device.type != device.type or device.index not in (None, rng.device.index or 0):
            raise ValueError(f"rng and device must agree, got a generator on {rng.device} and device {device}")
        else:
            options = {"generator": rng}
        if self.has_float64(device):
            u = torch.rand(n, dtype=torch.float64, device=device, **options)
            return self.astype(quantile(u, torch, torch.special), dtype)
        words = torch.randint(2**24, (2, n), dtype=torch.int32, device=device, **options).cpu().double()
        u = words[0] * 2.0**-24 + words[1] * 2.0**-48
        return self.astype(quantile(u, torch, torch.special), dtype).to(device)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        return torch.as_tensor(values).to(dtype).to(torch.empty(0).device if device is None else device)

    def invert(self, quantile: Quantile, u: Any) -> Any:
        if not self.has_float64(u.device):
            return super().invert(quantile, u)
        return self.astype(quantile(u.double(), torch, torch.special), u.dtype)


BACKEND = TorchBackend(torch)

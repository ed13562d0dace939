"""PyTorch, what the table of capabilities names: a call taken through the compiler, a transformation, a DTensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from fastgen_rf.backends._torch import TorchBackend


def compiled(call: Callable[..., Any], arrays: list[Any]) -> Any:
    torch.compiler.reset()
    return torch.compile(call, fullgraph=True, backend="aot_eager")(*arrays)


def exported(call: Callable[..., Any], arrays: list[Any]) -> Any:
    class Module(torch.nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return call(*inputs)

    return torch.export.export(Module(), tuple(arrays)).module()(*arrays)


def vmap(call: Callable[..., Any], arrays: list[Any]) -> Any:
    return torch.func.vmap(call, randomness="different")(*arrays)


def sharded(call: Callable[..., Any], arrays: list[Any]) -> Any:
    with _mesh() as mesh:
        result = call(*(distribute_tensor(x.cpu(), mesh, [Shard(0)]) for x in arrays))
        assert result.placements == (Shard(0),)
        return result.full_tensor()


@contextmanager
def _mesh() -> Iterator[Any]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        torch.distributed.destroy_process_group()


def no_float64(call: Callable[..., Any], arrays: list[Any]) -> Any:
    with mock.patch.object(TorchBackend, "has_float64", lambda self, device: False):
        return call(*arrays)


def reverse(call: Callable[..., Any], arrays: list[Any], weight: Any) -> Any:
    leaves = [x.clone().requires_grad_() for x in arrays]
    return torch.autograd.grad(call(*leaves), leaves, weight)


def forward(call: Callable[..., Any], arrays: list[Any], direction: list[Any]) -> Any:
    return torch.func.jvp(call, tuple(arrays), tuple(direction))[1]


def repeated(call: Callable[..., Any], arrays: list[Any], weight: Any, direction: list[Any]) -> Any:
    gradient = torch.func.grad(lambda *x: (call(*x) * weight).sum(), argnums=tuple(range(len(arrays))))
    return torch.func.jvp(gradient, tuple(arrays), tuple(direction))[1]


def draw(ours: Callable[..., Any], device: Any) -> tuple[Callable[..., Any], list[Any]]:
    """A sampler's call on the global generator, and what it is called with: nothing that counts."""
    return lambda x: ours(xp=torch, device=x.device), [torch.zeros(4, device=device)]

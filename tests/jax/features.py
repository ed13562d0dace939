"""JAX, what the table of capabilities names: a call taken through a transformation, an export, a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.export
from jax.sharding import NamedSharding, PartitionSpec

from fastgen_rf.backends._jax import JaxBackend


def compiled(call: Callable[..., Any], arrays: list[Any]) -> Any:
    return jax.jit(call)(*arrays)


def exported(call: Callable[..., Any], arrays: list[Any]) -> Any:
    return jax.export.export(jax.jit(call))(*arrays).call(*arrays)


def vmap(call: Callable[..., Any], arrays: list[Any]) -> Any:
    return jax.vmap(call)(*arrays)


def sharded(call: Callable[..., Any], arrays: list[Any]) -> Any:
    rows = NamedSharding(jax.make_mesh((min(4, jax.device_count()),), ("rows",)), PartitionSpec("rows"))
    result = call(*(jax.device_put(x, rows) for x in arrays))
    for part in jax.tree.leaves(result):
        assert part.sharding.is_equivalent_to(rows, part.ndim)
    return result


def no_float64(call: Callable[..., Any], arrays: list[Any]) -> Any:
    with mock.patch.object(JaxBackend, "has_float64", lambda self, device: False):
        return call(*arrays)


def reverse(call: Callable[..., Any], arrays: list[Any], weight: Any) -> Any:
    return jax.vjp(call, *arrays)[1](weight)


def forward(call: Callable[..., Any], arrays: list[Any], direction: list[Any]) -> Any:
    return jax.jvp(call, arrays, direction)[1]


def repeated(call: Callable[..., Any], arrays: list[Any], weight: Any, direction: list[Any]) -> Any:
    gradient = jax.grad(lambda *x: (call(*x) * weight).sum(), argnums=tuple(range(len(arrays))))
    return jax.jvp(gradient, arrays, direction)[1]


def draw(ours: Callable[..., Any], device: Any) -> tuple[Callable[..., Any], list[Any]]:
    """A sampler's call that draws where its seeds lie, which make one key."""

    def call(seeds: Any) -> Any:
        place = None if isinstance(seeds, jax.core.Tracer) else seeds.sharding
        return ours(rng=jax.random.key(seeds.sum()), device=place)

    return call, [jax.numpy.arange(4, device=device)]

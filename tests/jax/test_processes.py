"""JAX on many machines: two processes of two devices each give one process's numbers, and calls move nothing."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases import processes

ROWS = 8
NAMES = ["add_noise", "x0_to_eps", "ode_step", "quantile", "gradient", "draw", "stratified draw", "draw under jit"]

# What follows runs in the other processes too, as source text.


def calls(a: Any, b: Any, t: Any, device: Any) -> list[Any]:
    law = rf.SampleTimestepConfig("logitnormal")

    def draw(key: Any, stratified: bool = False) -> Any:
        return rf.sample_timesteps(a.shape[0], law, rng=key, device=device, stratified=stratified)

    return [
        rf.add_noise(a, b, t),
        rf.x0_to_eps(a, b, t),
        rf.ode_step(a, b, t, 0.5 * t),
        rf.timestep_quantile(t, law),
        jax.grad(lambda a: (rf.x0_to_flow(a, b, t) ** 2).sum())(a),
        draw(jax.random.key(0)),
        draw(jax.random.key(0), stratified=True),
        jax.jit(draw)(jax.random.key(0)),
    ]


CODE = (
    """
import sys
from typing import Any
import jax

rank, count, folder, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
jax.distributed.initialize(f"127.0.0.1:{port}", count, rank, initialization_timeout=30)
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import fastgen_rf as rf

"""
    + inspect.getsource(calls)
    + """
assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (count, 2, 2 * count)
rows = NamedSharding(jax.make_mesh((2 * count,), ("rows",), axis_types=(AxisType.Auto,)), PartitionSpec("rows"))
values = np.load(f"{folder}/values.npz")
a, b, t = (jax.make_array_from_callback(values[k].shape, rows, lambda i, k=k: values[k][i]) for k in "abt")
parts = {}
for place, result in enumerate(calls(a, b, t, rows)):
    assert result.sharding.is_equivalent_to(rows, result.ndim), (place, result.sharding)
    for shard in result.addressable_shards:
        parts[f"{place} {shard.index[0].start}"] = np.asarray(shard.data)
np.savez(f"{folder}/{rank}.npz", **parts)

for function in (rf.add_noise, rf.x0_to_eps, lambda a, b, t: rf.ode_step(a, b, t, 0.5 * t)):
    compiled = jax.jit(function).lower(a, b, t).compile().as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "reduce-scatter", "collective-permute", "send"):
        assert f" {collective}" not in compiled, compiled
jax.distributed.shutdown()
"""
)


@cache
def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, ROWS, 6)).astype(np.float32)
    return {"a": a, "b": b, "t": rng.uniform(0.2, 0.8, ROWS).astype(np.float32)}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Rows of each call's result, by the call's place and the first of them, from both processes."""
    folder = tmp_path_factory.mktemp("global")
    np.savez(folder / "values.npz", **values())
    flags = "--xla_force_host_platform_device_count=2"
    processes.run(CODE, 2, folder, str(processes.free_port()), XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    return {name: x for rank in range(2) for name, x in np.load(folder / f"{rank}.npz").items()}


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """The same calls in this process, on one device."""
    return calls(*map(jnp.asarray, values().values()), None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.undealt
def test_global_arrays_and_draws_are_one_process_s(name: str, parts: dict[str, Any], expected: list[Any]) -> None:
    place = NAMES.index(name)
    rows = [parts[f"{place} {first}"] for first in range(0, ROWS, ROWS // 4)]
    np.testing.assert_array_equal(np.concatenate(rows), expected[place])

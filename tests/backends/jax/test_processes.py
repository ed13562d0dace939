"""JAX in two processes of two devices."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from tests import processes

pytestmark = pytest.mark.slow
ROWS = 8


def calls(a: Any, b: Any, t: Any, device: Any) -> list[Any]:
    config = rf.SampleTimestepConfig("logitnormal")

    def sample(key: Any, stratified: bool = False) -> Any:
        return rf.sample_timesteps(a.shape[0], config, rng=key, device=device, stratified=stratified)

    return [
        rf.add_noise(a, b, t),
        rf.x0_to_eps(a, b, t),
        rf.ode_step(a, b, t, 0.5 * t),
        rf.timestep_quantile(t, config),
        jax.grad(lambda a: (rf.x0_to_flow(a, b, t) ** 2).sum())(a),
        sample(jax.random.key(0)),
        sample(jax.random.key(0), stratified=True),
        jax.jit(sample)(jax.random.key(0)),
    ]


GLOBAL = f"""
import sys
from typing import Any
import jax

rank, count, folder, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
jax.distributed.initialize(f"127.0.0.1:{{port}}", count, rank, initialization_timeout=30)
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import fastgen_rf as rf

{inspect.getsource(calls)}
assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (count, 2, 2 * count)
rows = NamedSharding(jax.make_mesh((2 * count,), ("rows",), axis_types=(AxisType.Auto,)), PartitionSpec("rows"))
values = np.load(f"{{folder}}/values.npz")
a, b, t = (jax.make_array_from_callback(values[k].shape, rows, lambda i, k=k: values[k][i]) for k in "abt")
parts = {{}}
for place, result in enumerate(calls(a, b, t, rows)):
    assert result.sharding.is_equivalent_to(rows, result.ndim), (place, result.sharding)
    for shard in result.addressable_shards:
        parts[f"{{place}} {{shard.index[0].start}}"] = np.asarray(shard.data)
np.savez(f"{{folder}}/{{rank}}.npz", **parts)

for function in (rf.add_noise, rf.x0_to_eps, lambda a, b, t: rf.ode_step(a, b, t, 0.5 * t)):
    compiled = jax.jit(function).lower(a, b, t).compile().as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "reduce-scatter", "collective-permute", "send"):
        assert f" {{collective}}" not in compiled, compiled
jax.distributed.shutdown()
"""


def test_arrays_and_samples_spread_over_processes_are_those_of_one_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, ROWS, 6)).astype(np.float32)
    t = rng.uniform(0.2, 0.8, ROWS).astype(np.float32)
    np.savez(tmp_path / "values.npz", a=a, b=b, t=t)
    flags = "--xla_force_host_platform_device_count=2"
    processes.run(GLOBAL, 2, tmp_path, str(processes.free_port()), XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    parts = {name: x for rank in range(2) for name, x in np.load(tmp_path / f"{rank}.npz").items()}
    for place, wanted in enumerate(calls(*map(jnp.asarray, (a, b, t)), None)):
        rows = [parts[f"{place} {first}"] for first in range(0, ROWS, ROWS // 4)]
        np.testing.assert_array_equal(np.concatenate(rows), wanted)

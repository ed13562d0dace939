"""What XLA compiles for a GPU that is not there: ``python -m tests.gpu.compiled_by_xla``.

JAX's CUDA plugin needs no device for this. The program fails if a formula becomes more than one kernel, or its
gradients more than two, or if a product and a sum are contracted.
"""

from __future__ import annotations

import re
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import jax
from jax import numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from tests.catalogue import FOR_GRADIENTS, ROWS

H100 = """
platform_name: "CUDA"
gpu_device_info {
  cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  memory_bandwidth: 3352320000000 device_memory_size: 79682798080 l2_cache_size: 52428800
}
"""


def main() -> None:
    """Compile four formulas and their gradients, and check the results."""
    gpu = topologies.get_topology_desc("", "cuda", target_config=H100, topology="1x1x1")
    placed = NamedSharding(topologies.make_mesh(gpu, (1,), ("x",)), PartitionSpec())
    t = jax.ShapeDtypeStruct((8,), jnp.float32, sharding=placed)
    for name, dtype in product(FOR_GRADIENTS, (jnp.float32, jnp.bfloat16)):
        x, row = jax.ShapeDtypeStruct((8, 4096), dtype, sharding=placed), ROWS[name]

        def gradients(upstream: Any, x: Any, y: Any, t: Any, row: Any = row) -> Any:
            return jax.vjp(lambda x, y: row(x, y, t), x, y)[1](upstream)

        kernels = count_kernels(lambda x, y, t, row=row: row(x, y, t), x, x, t)
        more = count_kernels(gradients, x, x, x, t)
        print(f"{name}, {dtype.__name__}: {kernels} kernel, {more} for the gradients", flush=True)
        assert kernels == 1 and more <= 2


def count_kernels(function: Any, *arrays: Any) -> int:
    """Compile a function and count its kernels; a fused multiply-add in float64 is an error."""
    with tempfile.TemporaryDirectory() as folder:
        lowered = jax.jit(function).trace(*arrays).lower(lowering_platforms=("cuda",))
        program = lowered.compile({"xla_dump_to": folder}).as_text()
        ptx = "".join(file.read_text() for file in Path(folder).glob("*.ptx"))
    assert "mul.rn.f64" in ptx or "div.rn.f64" in ptx, "no float64 arithmetic was found"
    assert "fma.rn.f64" not in ptx
    _, _, entry = program.partition("\nENTRY")
    return len(re.findall(r" (?:fusion|copy|custom-call|while)\(", entry))


if __name__ == "__main__":
    main()

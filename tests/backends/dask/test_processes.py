"""dask on several processes: two workers compute an array larger than their memory, with NumPy's numbers."""

from __future__ import annotations

import inspect
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests import processes

SAMPLES, SHAPE, CHUNK = 320, (8, 256, 256), 4  # 2 MiB of float32 for each sample
LIMIT = 300 * 2**20  # bytes of memory for a worker; Python and its imports take half


def latents(first: int, count: int, shape: tuple[int, ...], seed: int) -> Any:
    """Some samples of an array of float32 numbers over all of their range, cheap to make."""
    size = int(np.prod(shape))
    index = np.arange(first * size, (first + count) * size, dtype=np.uint32)
    return ((index + np.uint32(seed)) * np.uint32(2654435761)).view(np.int32).astype(np.float32).reshape(count, *shape)


def checksums(samples: Any) -> Any:
    """A number for each sample, made of all its bits."""
    return np.array([zlib.crc32(sample.tobytes()) for sample in samples])


CODE = f"""
import resource
import sys
import zlib
from typing import Any
import dask.array as da
import numpy as np
from dask import config, delayed
from dask.distributed import Client, LocalCluster
import fastgen_rf as rf

folder, samples, chunk, limit, *shape = sys.argv[3], *map(int, sys.argv[4:])
{inspect.getsource(latents)}
{inspect.getsource(checksums)}
def array(seed):
    pieces = [delayed(latents)(first, chunk, shape, seed) for first in range(0, samples, chunk)]
    return da.concatenate([da.from_delayed(piece, (chunk, *shape), dtype="float32") for piece in pieces])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

config.set({{"distributed.worker.memory.terminate": 1.0}})
workers = {{"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}}
with LocalCluster(memory_limit=limit, **workers) as cluster, Client(cluster) as client:
    t = rf.sample_timesteps(samples, rf.SampleTimestepConfig(), rng=np.random.default_rng(0), xp=da).rechunk(chunk)
    x_t = rf.add_noise(array(0), array(1), t)
    found = x_t.map_blocks(checksums, dtype=np.int64, drop_axis=(1, 2, 3)).compute()
    np.savez(f"{{folder}}/found.npz", checksums=found, peaks=list(client.run(peak).values()), size=x_t.nbytes)
"""


@pytest.mark.slow
def test_an_array_larger_than_the_memory_of_two_workers(tmp_path: Path) -> None:
    processes.run(CODE, 1, tmp_path, *map(str, (SAMPLES, CHUNK, LIMIT, *SHAPE)))
    found = np.load(tmp_path / "found.npz")
    t = rf.sample_timesteps(SAMPLES, rf.SampleTimestepConfig(), rng=np.random.default_rng(0), xp=np)
    for first in range(0, SAMPLES, CHUNK):
        x0, eps = (latents(first, CHUNK, SHAPE, seed) for seed in (0, 1))
        wanted = checksums(rf.add_noise(x0, eps, t[first : first + CHUNK]))
        np.testing.assert_array_equal(found["checksums"][first : first + CHUNK], wanted)
    assert found["size"] > 2 * LIMIT
    assert len(found["peaks"]) == 2
    assert found["peaks"].max() < LIMIT, f"peaks of {found['peaks'] / 2**20} MiB"

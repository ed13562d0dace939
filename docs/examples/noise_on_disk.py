"""Noise an array of latents on disk that is larger than the memory of those who do it, with dask.

Two worker processes, each with a memory cap (dask ends a worker that passes it), read the latents piece by piece,
noise every sample to its own time, and write the result back. The call is the one for an array in memory:
``add_noise(x0, eps, t)``. The program prints each worker's peak, checks samples of what was written, and exits with
status 1 when a peak passes the cap or a value is wrong. About a minute for 2 GB.

    python noise_on_disk.py [--megabytes N] [--cap MB] [--folder PATH]
"""

import argparse
import resource
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster

from fastgen_rf import SampleTimestepConfig, add_noise, sample_timesteps

SHAPE = (16, 64, 64)  # of a sample: 256 KiB of float32
PIECE = 32  # samples in a piece: 8 MiB
LATENTS, NOISED = "latents", "noised"


def make_latents(samples: int, folder: Path) -> None:
    """Write standard normal latents to disk, as a stand-in for an encoder's."""
    latents = da.random.default_rng(0).standard_normal((samples, *SHAPE), chunks=(PIECE, -1, -1, -1), dtype="float32")
    da.to_npy_stack(str(folder / LATENTS), latents)


def noise_latents(folder: Path) -> Any:
    """Noise what is on disk to times of its own, and write it back; return the noise and the times, still lazy."""
    x0 = da.from_npy_stack(str(folder / LATENTS))
    eps = da.random.default_rng(1).standard_normal(x0.shape, chunks=x0.chunks, dtype="float32")
    t = sample_timesteps(len(x0), SampleTimestepConfig(), rng=np.random.default_rng(2), xp=da).rechunk(PIECE)
    da.to_npy_stack(str(folder / NOISED), add_noise(x0, eps, t))
    return eps, t


def peak_megabytes() -> float:
    """Return the largest resident size that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def is_right(folder: Path, eps: Any, t: Any) -> bool:
    """Check one sample of every piece against exact arithmetic, an element each."""
    x0, x_t = (da.from_npy_stack(str(folder / name))[::PIECE, 3, 5, 7] for name in (LATENTS, NOISED))
    values = da.compute(x0, eps[::PIECE, 3, 5, 7], t[::PIECE], x_t)
    for clean, noise, at, noised in zip(*values, strict=True):
        time_of, a, b = (Fraction(float(value)) for value in (at, clean, noise))
        if np.float32(float(a * (1 - time_of) + b * time_of)) != noised:
            return False
    return True


def main() -> int:
    """Write, noise, check; return 0 when the values are right and no peak passes the cap, else 1."""
    parser = argparse.ArgumentParser(description="Noise latents on disk that do not fit into memory.")
    parser.add_argument("--megabytes", type=int, default=2048, help="size of the latents")
    parser.add_argument("--cap", type=int, default=512, help="memory of each of the two workers, in megabytes")
    parser.add_argument("--folder", type=Path, help="where to put both arrays; a temporary folder that is removed")
    options = parser.parse_args()
    samples = options.megabytes * 2**20 // (4 * int(np.prod(SHAPE))) // PIECE * PIECE
    start = time.perf_counter()

    with (
        tempfile.TemporaryDirectory(prefix="latents-", dir=options.folder) as folder,
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=f"{options.cap}MiB", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        make_latents(samples, Path(folder))
        eps, t = noise_latents(Path(folder))
        right = is_right(Path(folder), eps, t)
        peaks = client.run(peak_megabytes)
    print(f"{samples} samples, {options.megabytes} MB; values {'right' if right else 'WRONG'}")
    for name, peak in zip(("first worker", "second worker"), peaks.values(), strict=True):
        print(f"{name}: peak {peak:.0f} MB of {options.cap} MB {'ok' if peak <= options.cap else 'FAILED'}")
    print(f"{time.perf_counter() - start:.0f} s")
    return 0 if right and max(peaks.values()) <= options.cap else 1


if __name__ == "__main__":
    sys.exit(main())

"""Add noise to an array of latents on disk that is larger than the memory of the workers, with dask.

Two worker processes have a memory cap each; dask ends a worker that exceeds it. They read the latents file by file, add
noise at a timestep per sample, and write the result. The call is the same as for an array in memory:
``add_noise(x0, eps, t)``. The program prints the peak memory of each worker, and compares some elements of the result
with exact arithmetic. It takes about a minute for 2 GB and needs twice as much disk space. It exits with status 1 if a
worker exceeds its cap or a value is wrong; the run time is only printed.

    python noise_on_disk.py [--megabytes N] [--cap MB] [--folder PATH] [--small]
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
from dask import delayed
from dask.distributed import Client, LocalCluster, as_completed
from digits_metrics import Bound, check_bounds
from tqdm import tqdm

from fastgen_rf import SampleTimestepConfig, add_noise, sample_timesteps

SHAPE = (16, 64, 64)  # of a sample, 256 KiB in float32
PIECE = 32  # samples per file, 8 MiB
WORKERS = 2
MEGABYTES, SMALL_MEGABYTES = 2048, 832
CAP, SMALL_CAP = 512, 400  # MB per worker
CHECKED = 16  # samples of which one element is checked


def write(array: Any, folder: Path, client: Client, title: str) -> None:
    """Let the workers write an array to disk, one file per chunk."""
    folder.mkdir()
    pieces = enumerate(array.to_delayed().ravel())
    writes = client.compute([delayed(np.save)(folder / f"{i}.npy", piece) for i, piece in pieces])
    for written in tqdm(as_completed(writes), total=len(writes), desc=title, unit="file", disable=None):
        written.result()  # Raise the error of the worker, if any.


def read(folder: Path) -> Any:
    """Return the array on disk lazily: nothing is read yet."""
    files = (folder / f"{i}.npy" for i in range(len(list(folder.iterdir()))))
    pieces = [da.from_delayed(delayed(np.load)(file), (PIECE, *SHAPE), dtype="float32") for file in files]
    return da.concatenate(pieces)


def standard_normal(samples: int, seed: int) -> Any:
    """Return normal samples lazily: they are the same each time that they are computed."""
    rng = da.random.default_rng(seed)
    return rng.standard_normal((samples, *SHAPE), chunks=(PIECE, *SHAPE), dtype="float32")


def wrong_values(x0: Any, eps: Any, t: Any, x_t: Any) -> int:
    """Count the checked elements that are not ``(1 - t) x_0 + t eps``, rounded once."""
    some = slice(PIECE - 1, None, max(1, len(x0) // CHECKED))
    elements = da.compute(*(array[some, 3, 5, 7] for array in (x0, eps, x_t)), t[some])
    wrong = 0
    for clean, noise, found, time_of in zip(*elements, strict=True):
        a, b, at = (Fraction(float(value)) for value in (clean, noise, time_of))
        wrong += np.float32(float((1 - at) * a + at * b)) != found
    return wrong


def peak_megabytes() -> float:
    """Return the peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform == "linux" else 1024**2)


def bounds(megabytes: int, cap: int, peaks: list[float], wrong: int) -> list[Bound]:
    """Return the bounds for the size of the array, the memory of the workers and the values."""
    of_workers = [Bound(f"worker {i}: peak, MB", peak, 0.0, cap) for i, peak in enumerate(peaks, start=1)]
    return [
        Bound("latents, MB: more than both caps", megabytes, WORKERS * cap, np.inf),
        *of_workers,
        Bound(f"wrong values out of {CHECKED}", wrong, 0.0, 0.0),
    ]


def main() -> int:
    """Write, add noise and check; return 0 if all metrics are within their bounds, else 1."""
    parser = argparse.ArgumentParser(description="Add noise to latents on disk that do not fit into memory.")
    parser.add_argument("--megabytes", type=int, help=f"size of the latents, {MEGABYTES} if not given")
    parser.add_argument("--cap", type=int, help=f"memory of each of the two workers in MB, {CAP} if not given")
    parser.add_argument("--folder", type=Path, help="folder for both arrays, which are deleted at the end")
    parser.add_argument("--small", action="store_true", help="fewer latents, for tests")
    options = parser.parse_args()
    megabytes = options.megabytes or (SMALL_MEGABYTES if options.small else MEGABYTES)
    cap = options.cap or (SMALL_CAP if options.small else CAP)
    samples = megabytes * 2**20 // (4 * int(np.prod(SHAPE))) // PIECE * PIECE
    start = time.perf_counter()

    with (
        tempfile.TemporaryDirectory(prefix="latents-", dir=options.folder) as name,
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, memory_limit=f"{cap}MiB", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        folder = Path(name)
        write(standard_normal(samples, seed=0), folder / "latents", client, "latents")  # Instead of an encoder.

        x0 = read(folder / "latents")
        eps = standard_normal(samples, seed=1)
        t = sample_timesteps(samples, SampleTimestepConfig(), rng=np.random.default_rng(2), xp=da).rechunk(PIECE)
        write(add_noise(x0, eps, t), folder / "noised", client, "noised")

        wrong = wrong_values(x0, eps, t, read(folder / "noised"))
        peaks = list(client.run(peak_megabytes).values())
    verdicts, all_hold = check_bounds(bounds(megabytes, cap, peaks, wrong))
    print(f"\n{verdicts}\n\n{samples} samples noised; {time.perf_counter() - start:.0f} s in total")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())

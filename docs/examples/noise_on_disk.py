"""Noise an array of latents on disk that is larger than the memory of those who do it, with dask.

Two worker processes, each with a memory cap (dask ends a worker that passes it), read the latents piece by piece,
noise every sample to its own time, and write the result back. The call is the one for an array in memory:
``add_noise(x0, eps, t)``. The program prints each worker's peak and checks elements of what was written against exact
arithmetic. About a minute for 2 GB, on a disk that has room for twice that. It exits with status 1 when a peak passes
the cap or a value is wrong; the time it takes is reported only.

    python noise_on_disk.py [--megabytes N] [--cap MB] [--folder PATH] [--out PNG] [--small]
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
import matplotlib.pyplot as plt
import numpy as np
from dask import delayed
from dask.distributed import Client, LocalCluster, as_completed
from digits_metrics import Bound, check_bounds
from tqdm import tqdm

from fastgen_rf import SampleTimestepConfig, add_noise, sample_timesteps

SHAPE = (16, 64, 64)  # of a sample: 256 KiB of float32
PIECE = 32  # samples in a file: 8 MiB
WORKERS = 2
MEGABYTES, SMALL_MEGABYTES = 2048, 832
CAP, SMALL_CAP = 512, 400  # of a worker
CHECKED = 16  # samples, an element each


def write(array: Any, folder: Path, client: Client, title: str) -> None:
    """Write an array to disk, a file a piece, by the workers."""
    folder.mkdir()
    pieces = enumerate(array.to_delayed().ravel())
    writes = client.compute([delayed(np.save)(folder / f"{i}.npy", piece) for i, piece in pieces])
    for written in tqdm(as_completed(writes), total=len(writes), desc=title, unit="file", disable=None):
        written.result()  # raises what went wrong


def read(folder: Path) -> Any:
    """Return what is on disk as an array; nothing is read yet."""
    files = (folder / f"{i}.npy" for i in range(len(list(folder.iterdir()))))
    pieces = [da.from_delayed(delayed(np.load)(file), (PIECE, *SHAPE), dtype="float32") for file in files]
    return da.concatenate(pieces)


def standard_normal(samples: int, seed: int) -> Any:
    """Draw normal samples, lazily: the same whenever they are computed."""
    rng = da.random.default_rng(seed)
    return rng.standard_normal((samples, *SHAPE), chunks=(PIECE, *SHAPE), dtype="float32")


def wrong_values(x0: Any, eps: Any, t: Any, x_t: Any) -> int:
    """Count the elements, of a few, that are not ``(1 - t) x_0 + t eps`` rounded once."""
    some = slice(PIECE - 1, None, max(1, len(x0) // CHECKED))
    elements = da.compute(*(array[some, 3, 5, 7] for array in (x0, eps, x_t)), t[some])
    wrong = 0
    for clean, noise, found, time_of in zip(*elements, strict=True):
        a, b, at = (Fraction(float(value)) for value in (clean, noise, time_of))
        wrong += np.float32(float((1 - at) * a + at * b)) != found
    return wrong


def peak_megabytes() -> float:
    """Return the largest resident size that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform == "linux" else 1024**2)


def bounds(megabytes: int, cap: int, peaks: list[float], wrong: int) -> list[Bound]:
    """Name what the array, the workers and the values are held to."""
    of_workers = [Bound(f"worker {i}: peak, MB", peak, 0.0, cap) for i, peak in enumerate(peaks, start=1)]
    return [
        Bound("the latents, MB: beyond all caps", megabytes, WORKERS * cap, np.inf),
        *of_workers,
        Bound(f"wrong values of {CHECKED}", wrong, 0.0, 0.0),
    ]


def draw(megabytes: int, cap: int, peaks: list[float], path: Path) -> None:
    """Draw the size of the array beside the peaks and the cap of the workers."""
    plt.style.use(Path(__file__).with_name("both_grounds.mplstyle"))
    picture, ax = plt.subplots(figsize=(6, 2.6))
    sizes = {"latents on disk": megabytes} | {f"worker {i}, peak": peak for i, peak in enumerate(peaks, start=1)}
    ax.bar_label(ax.barh(list(sizes), list(sizes.values()), color=["#7a8089", "#2f81c7", "#2f81c7"]), fmt=" %.0f")
    ax.axvline(cap, color="#d1603d", ls="--", label="cap of a worker")
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12 * megabytes)
    ax.set_xlabel("MB")
    ax.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path)


def main() -> int:
    """Write, noise, check, draw; return 0 when every figure keeps within its bounds, else 1."""
    parser = argparse.ArgumentParser(description="Noise latents on disk that do not fit into memory.")
    parser.add_argument("--megabytes", type=int, help=f"size of the latents, {MEGABYTES} if not given")
    parser.add_argument("--cap", type=int, help=f"memory of each of the two workers in MB, {CAP} if not given")
    parser.add_argument("--folder", type=Path, help="where to put both arrays, for the time being")
    parser.add_argument("--out", type=Path, default=Path("noise_on_disk.png"), help="the picture")
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
        write(standard_normal(samples, seed=0), folder / "latents", client, "latents")  # in an encoder's place

        x0 = read(folder / "latents")
        eps = standard_normal(samples, seed=1)
        t = sample_timesteps(samples, SampleTimestepConfig(), rng=np.random.default_rng(2), xp=da).rechunk(PIECE)
        write(add_noise(x0, eps, t), folder / "noised", client, "noised")

        wrong = wrong_values(x0, eps, t, read(folder / "noised"))
        peaks = list(client.run(peak_megabytes).values())
    verdicts, all_hold = check_bounds(bounds(megabytes, cap, peaks, wrong))
    print(f"\n{samples} samples noised\n\n{verdicts}\n")
    draw(megabytes, cap, peaks, options.out)
    print(f"{options.out} drawn; {time.perf_counter() - start:.0f} s in all")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())

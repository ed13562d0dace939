"""Check and measure what this machine offers: a line for each framework and device.

Each framework found noises and recovers a batch, draws timesteps, and is timed. The exit status is 1 if one fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from typing import Any

import numpy as np

from fastgen_rf import SampleTimestepConfig, __version__, add_noise, pred_x0_from_flow, sample_timesteps, x0_to_flow
from fastgen_rf.backends import FRAMEWORKS, Backend

INSTALL = {  # frameworks alone: they are on package indexes wherever this package came from
    "numpy": 'pip install "numpy>=2.1"',
    "torch": 'pip install "torch>=2.6"',
    "jax": 'pip install "jax>=0.8"',
    "cupy": 'pip install "cupy-cuda12x>=13.6" (CUDA 12) or "cupy-cuda13x>=13.6" (CUDA 13)',
}
ROW = "{:<7} {:<12} {:<10} {:<9} {:<23} {:<17} {:<16} {}"
SHAPE = (16, 512, 512)  # 4.2M elements: a batch of video latents
TOLERANCE = 2.0**-22  # recovering x_0 rounds x_t and v to float32 once each
REPEATS = 7
NOTES = f"""
float64: native; scoped, switched on inside each call and nowhere else; or emulated, by sums of float32.
round trip error: of x_0 recovered from x_t and the flow, largest, relative to |x_0| + |x_t|; at most {TOLERANCE:.1e}.
add_noise: bytes read and written in a second, float32, {np.prod(SHAPE) / 1e6:.1f} million elements, best of {REPEATS}.
"""


def main(arguments: list[str] | None = None) -> int:
    """Print the report; 0 if every framework found passes its check."""
    parser = argparse.ArgumentParser(
        "python -m fastgen_rf", description=__doc__, epilog=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"fastgen_rf {__version__}")
    parser.parse_args(arguments)
    print(f"fastgen_rf {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
    print(ROW.format("", "version", "device", "float64", "generator", "round trip error", "add_noise", "check"))
    failures, missing = 0, []
    for name, load in FRAMEWORKS.items():
        if importlib.util.find_spec(name) is None:
            missing.append(name)
            continue
        version = _version(name)
        try:
            backend = load()
            devices = backend.devices()
        except Exception as error:  # whatever a broken installation raises, the other frameworks get their lines
            print(ROW.format(name, version, "-", "-", "-", "-", "-", f"FAILED: {_first_line(error)}"))
            failures += 1
            continue
        for device in devices:
            failures += not _report(backend, version, device)
    for name in missing:
        print(f"{name:<7} not found: {INSTALL[name]}")
    print(NOTES, end="")
    return 1 if failures else 0


def _report(backend: Backend, version: str, device: Any) -> bool:
    """Print the line of one device; whether it passed."""
    start = (backend.name.partition(".")[0], version, str(device))
    try:
        x0, eps, t = _batch(backend, device)
        x_t = add_noise(x0, eps, t)
        recovered = pred_x0_from_flow(x0_to_flow(x0, x_t, t), x_t, t)
        scale = np.abs(backend.to_host(x0)) + np.abs(backend.to_host(x_t))
        error = float(np.max(np.abs(backend.to_host(recovered) - backend.to_host(x0)) / scale))
        cfg = SampleTimestepConfig()
        draws = backend.to_host(sample_timesteps(10_000, cfg, rng=0, xp=backend.xp, device=device)).astype(np.float64)
        passed = error <= TOLERANCE and bool(np.all((cfg.min_t <= draws) & (draws <= cfg.max_t)))
        speed = x0.dtype.itemsize * 3 * np.prod(SHAPE) / _seconds(backend, x0, eps, t) / 1e9
    except Exception as broken:  # the check is the point: report what went wrong and go on
        print(ROW.format(*start, "-", "-", "-", "-", f"FAILED: {_first_line(broken)}"))
        return False
    figures = (backend.float64(device), backend.generator, f"{error:.1e}", f"{speed:.1f} GB/s")
    print(ROW.format(*start, *figures, "ok" if passed else "FAILED: out of bounds"), flush=True)
    return passed


def _batch(backend: Backend, device: Any) -> tuple[Any, Any, Any]:
    """A float32 batch x0, eps, t on ``device``."""
    rng = np.random.default_rng(0)
    host = (rng.standard_normal(SHAPE), rng.standard_normal(SHAPE), rng.uniform(0.001, 0.999, SHAPE[0]))
    x0, eps, t = (backend.from_host(values, device, backend.dtype(None)) for values in host)
    return x0, eps, t


def _seconds(backend: Backend, x0: Any, eps: Any, t: Any) -> float:
    """Least time of one add_noise, waiting for its last element: others may be using the machine."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        backend.to_host(add_noise(x0, eps, t)[-1, -1, -1:])
        times.append(time.perf_counter() - start)
    return min(times)


def _version(name: str) -> str:
    """Version of an installed framework, whichever of its distributions provides it."""
    distributions = importlib.metadata.packages_distributions().get(name, [name])
    return importlib.metadata.version(distributions[0])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:100]


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # as of `| head`; what is left to flush at exit must go somewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)

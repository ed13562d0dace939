"""Report the array frameworks and devices of this machine, one line each, and check the library on each device.

The check adds noise to a batch and recovers it, and samples timesteps. The exit status is 1 if a check fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import sys
from typing import Any

import numpy as np

from fastgen_rf import SampleTimestepConfig, __version__, add_noise, pred_x0_from_flow, sample_timesteps, x0_to_flow
from fastgen_rf.backends import FRAMEWORKS, Backend, load

INSTALL = {
    "numpy": 'pip install "numpy>=2.1"',
    "torch": 'pip install "torch>=2.6"',
    "jax": 'pip install "jax>=0.8"',
    "cupy": 'pip install "cupy-cuda12x>=13.6" (CUDA 12) or "cupy-cuda13x>=13.6" (CUDA 13)',
}
ROW = "{:<7} {:<12} {:<10} {:<9} {:<17} {}"
SHAPE = (16, 64, 64)
# x_0 is recovered from x_t and v, each rounded to float32 once.
TOLERANCE = 2.0**-22
NOTES = f"""
float64: native, or emulated by triple-float32 arithmetic.
round trip error: largest error of x_0, recovered from x_t and the flow, relative to |x_0| + |x_t|; at most
{TOLERANCE:.1e}.
"""


def main(arguments: list[str] | None = None) -> int:
    """Print the report and return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m fastgen_rf", description=__doc__, epilog=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"fastgen_rf {__version__}")
    parser.parse_args(arguments)
    print(f"fastgen_rf {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
    print(ROW.format("", "version", "device", "float64", "round trip error", "check"))
    failures, missing = 0, []
    for name in FRAMEWORKS:
        if importlib.util.find_spec(name) is None:
            missing.append(name)
            continue
        # The version of the distribution that provides the framework.
        provided_by = importlib.metadata.packages_distributions().get(name, [name])
        version = importlib.metadata.version(provided_by[0])
        try:
            backend = load(name)
            devices = backend.devices()
        # A broken installation may raise anything. The other frameworks still get their lines.
        except Exception as error:
            print(ROW.format(name, version, "-", "-", "-", f"FAILED: {_first_line(error)}"))
            failures += 1
            continue
        for device in devices:
            failures += not _report(backend, version, device)
    for name in missing:
        print(f"{name:<7} not found: {INSTALL[name]}")
    print(NOTES, end="")
    return 1 if failures else 0


def _report(backend: Backend, version: str, device: Any) -> bool:
    """Print the line of one device and return whether it passed."""
    start = (backend.name.partition(".")[0], version, str(device))
    try:
        rng = np.random.default_rng(0)
        host = (rng.standard_normal(SHAPE), rng.standard_normal(SHAPE), rng.uniform(0.001, 0.999, SHAPE[0]))
        x0, eps, t = (backend.from_host(values, device, backend.dtype(None)) for values in host)
        x_t = add_noise(x0, eps, t)
        recovered = pred_x0_from_flow(x0_to_flow(x0, x_t, t), x_t, t)
        error = float((abs(recovered - x0) / (abs(x0) + abs(x_t))).max())
        cfg = SampleTimestepConfig()
        draws = sample_timesteps(10_000, cfg, rng=0, xp=backend.xp, device=device)
        passed = error <= TOLERANCE and cfg.min_t <= float(draws.min()) and float(draws.max()) <= cfg.max_t
        float64 = "native" if backend.has_float64(device) else "emulated"
    # The check must report any exception and go on.
    except Exception as broken:
        print(ROW.format(*start, "-", "-", f"FAILED: {_first_line(broken)}"))
        return False
    print(ROW.format(*start, float64, f"{error:.1e}", "ok" if passed else "FAILED: out of bounds"), flush=True)
    return passed


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:100]


if __name__ == "__main__":
    sys.exit(main())

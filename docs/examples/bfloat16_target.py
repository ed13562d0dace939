"""Measure the flow as x0_to_flow recovers it from x_t, against ``eps - x_0``: the RMS error over t for each dtype.

python bfloat16_target.py [--out PNG]
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np

from fastgen_rf import add_noise, x0_to_flow

TIMES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.999)
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
ELEMENTS = 100_000


def rms(values: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(values**2)))


def main() -> None:
    """Print a row for each t and draw a line for each dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/bfloat16_target.png"))
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(0).standard_normal((2, ELEMENTS))
    recovered: dict[str, list[float]] = {}
    direct: dict[str, float] = {}
    for name, dtype in DTYPES.items():
        x0, eps = drawn.astype(dtype)
        wanted = eps.astype(np.float64) - x0.astype(np.float64)
        direct[name] = rms((eps - x0).astype(np.float64) - wanted)
        recovered[name] = [rms(x0_to_flow(x0, add_noise(x0, eps, t), t).astype(np.float64) - wanted) for t in TIMES]
    print(f"RMS of the target eps - x0: {rms(drawn[1] - drawn[0]):.3f}; RMS errors:\n")
    print("".join(f"{head:>12}" for head in ("t", *DTYPES)))
    for t, *errors in zip(TIMES, *recovered.values(), strict=True):
        print(f"{t:12.3f}" + "".join(f"{error:12.2g}" for error in errors))
    print(f"{'eps - x0':>12}" + "".join(f"{error:12.2g}" for error in direct.values()))

    plt.style.use(Path(__file__).with_name("both_grounds.mplstyle"))
    figure, axes = plt.subplots(figsize=(6, 4.4))
    for (name, errors), color in zip(recovered.items(), ("#d1603d", "#a36ac7", "#2f81c7"), strict=True):
        axes.loglog(TIMES, errors, "o-", color=color, label=f"x0_to_flow, {name}")
    axes.axhline(direct["bfloat16"], color="#4b9b3b", lw=2.5, label="eps - x0, bfloat16")
    axes.axhline(2**0.5, color="#7a8089", ls=":")
    axes.text(1, 1.5, "the target itself", ha="right", va="bottom")
    axes.set_ylim(None, 8)
    axes.set_xlabel("t")
    axes.set_ylabel("RMS error of the target")
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(out)


if __name__ == "__main__":
    main()

"""Why the training target is ``eps - x0``: the RMS error of the flow that ``x0_to_flow`` recovers from x_t, over t.

    python bfloat16_target.py [--out PNG]

x_t is rounded to its dtype, and recovering the flow divides that rounding error by t.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np
from matplotlib.figure import Figure
from pictures import save_light_and_dark

from fastgen_rf import add_noise, x0_to_flow

TIMES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.999)
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
ELEMENTS = 100_000


def rms(values: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(values**2)))


def draw(recovered: dict[str, list[float]], direct: float, size: float) -> Figure:
    """Draw the error over t, a line for each dtype."""
    figure, axes = plt.subplots(figsize=(6, 4.2))
    for (name, errors), color in zip(recovered.items(), ("C1", "C3", "C0"), strict=True):
        axes.loglog(TIMES, errors, "o-", color=color, label=f"x0_to_flow, {name}")
    axes.axhline(direct, color="C2", lw=3, label="eps - x0, bfloat16")
    axes.axhline(size, color="C4", ls=":")
    axes.text(1, 1.15 * size, "RMS of the target", ha="right", va="bottom")
    axes.set_title("Error of the flow target", loc="left", fontweight="bold")
    axes.set_ylim(None, 6 * size)
    axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.001", "0.01", "0.1", "1"])
    axes.set_xlabel("t")
    axes.set_ylabel("RMS error")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def main() -> None:
    """Print a row for each t, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/bfloat16_target.png"), help="the picture")
    out = parser.parse_args().out
    drawn = np.random.default_rng(0).standard_normal((2, ELEMENTS))
    recovered: dict[str, list[float]] = {}
    direct: dict[str, float] = {}
    for name, dtype in DTYPES.items():
        x0, eps = drawn.astype(dtype)
        target = eps.astype(np.float64) - x0.astype(np.float64)
        direct[name] = rms((eps - x0).astype(np.float64) - target)
        recovered[name] = [rms(x0_to_flow(x0, add_noise(x0, eps, t), t).astype(np.float64) - target) for t in TIMES]
    size = rms(drawn[1] - drawn[0])
    print(f"RMS of the target eps - x0: {size:.3f}; RMS errors:\n")
    print("".join(f"{head:>12}" for head in ("t", *DTYPES)))
    for t, *errors in zip(TIMES, *recovered.values(), strict=True):
        print(f"{t:12.3f}" + "".join(f"{error:12.2g}" for error in errors))
    print(f"{'eps - x0':>12}" + "".join(f"{error:12.2g}" for error in direct.values()))
    save_light_and_dark(lambda: draw(recovered, direct["bfloat16"], size), out)


if __name__ == "__main__":
    main()

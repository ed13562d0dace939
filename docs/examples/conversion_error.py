"""Measure the RMS error of two conversions: in one formula, and through x_0 in two calls, as published code does.

    python conversion_error.py [--out PNG]

The exact result for the rounded inputs is computed in float64.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np
from matplotlib.figure import Figure
from pictures import save_light_and_dark

from fastgen_rf import add_noise, convert_prediction, pred_noise_to_pred_x0, pred_x0_from_flow, x0_to_eps, x0_to_flow

TIMES = np.array([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999], np.float32)
ELEMENTS = 100_000
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
Conversion = Callable[[Any, Any, Any], Any]
THROUGH_X0: dict[str, Conversion] = {
    "flow to eps": lambda flow, x_t, t: x0_to_eps(pred_x0_from_flow(flow, x_t, t), x_t, t),
    "eps to flow": lambda eps, x_t, t: x0_to_flow(pred_noise_to_pred_x0(eps, x_t, t), x_t, t),
}
EXACT: dict[str, Conversion] = {
    "flow to eps": lambda flow, x_t, t: x_t + (1 - t) * flow,
    "eps to flow": lambda eps, x_t, t: (eps - x_t) / (1 - t),
}
Errors = dict[str, list[float]]


def errors(pair: str, dtype: Any) -> Errors:
    """Return the RMS errors of one formula and of two, at each of TIMES, for normal data and noise."""
    source, target = pair.split(" to ")
    x0, eps = np.random.default_rng(0).standard_normal((2, ELEMENTS))
    pred = (eps if source == "eps" else eps - x0).astype(dtype)
    found: Errors = {"one formula": [], "through x_0": []}
    for t in TIMES:
        x_t = add_noise(x0, eps, float(t)).astype(dtype)
        exact = EXACT[pair](pred.astype(np.float64), x_t.astype(np.float64), float(t))
        one = convert_prediction(pred, x_t, float(t), source=source, target=target)
        two = THROUGH_X0[pair](pred, x_t, float(t))
        for name, result in zip(found, (one, two), strict=True):
            found[name].append(float(np.sqrt(np.mean((result.astype(np.float64) - exact) ** 2))))
    return found


def draw(measured: dict[tuple[str, str], Errors]) -> Figure:
    """Draw the errors over t, a panel for each pair."""
    figure, panels = plt.subplots(2, 1, figsize=(6, 5.6), sharex=True, sharey=True)
    for axes, pair in zip(panels, THROUGH_X0, strict=True):
        for dtype, line in zip(DTYPES, ("o-", "s:"), strict=True):
            for (name, values), color in zip(measured[pair, dtype].items(), ("C0", "C1"), strict=True):
                axes.plot(TIMES, values, line, color=color, label=f"{name.replace('x_0', '$x_0$')}, {dtype}")
        axes.set_xscale("logit")
        axes.set_yscale("log")
        axes.set_xticks([0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_title(pair, loc="left", fontweight="bold")
        axes.set_ylabel("RMS error")
    panels[1].set_xlabel("t")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def main() -> None:
    """Print a table for each pair and dtype, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/conversion_error.png"), help="the picture")
    out = parser.parse_args().out
    measured = {(pair, name): errors(pair, dtype) for pair in THROUGH_X0 for name, dtype in DTYPES.items()}
    for (pair, name), found in measured.items():
        print(f"{pair}, RMS error in {name}:\n      t  one formula  through x_0")
        for row in zip(TIMES, *found.values(), strict=True):
            print("{:7.3f} {:12.2g} {:12.2g}".format(*row))
    save_light_and_dark(lambda: draw(measured), out)


if __name__ == "__main__":
    main()

"""Measure conversions against exact arithmetic: in one formula, and by way of x_0 as published.

    python conversion_error.py [--out PNG]

For float32 inputs, the largest error in units of the last place of the exact result, over random inputs, for each t.
"""

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

from fastgen_rf import convert_prediction, pred_noise_to_pred_x0, pred_x0_from_flow, x0_to_eps, x0_to_flow

TIMES = np.array([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999], np.float32)
ELEMENTS = 400
THROUGH_X0: dict[str, Any] = {
    "flow to eps": lambda flow, x_t, t: x0_to_eps(pred_x0_from_flow(flow, x_t, t), x_t, t),
    "eps to flow": lambda eps, x_t, t: x0_to_flow(pred_noise_to_pred_x0(eps, x_t, t), x_t, t),
}
EXACT: dict[str, Any] = {
    "flow to eps": lambda flow, x_t, t: x_t + (1 - t) * flow,
    "eps to flow": lambda eps, x_t, t: (eps - x_t) / (1 - t),
}


def worst(results: Any, exact: list[Fraction]) -> float:
    """Largest error in units of the last place of float32 at the exact value."""
    errors = []
    for value, wanted in zip(np.asarray(results, np.float64).tolist(), exact, strict=True):
        unit = Fraction(float(np.spacing(np.float32(abs(float(wanted))))))
        errors.append(float(abs(Fraction(value) - wanted) / unit))
    return max(errors)


def main() -> None:
    """Print a row for each t and draw both routes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/conversion_error.png"))
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pred, x_t = rng.standard_normal((2, ELEMENTS)).astype(np.float32)
    plt.style.use(Path(__file__).with_name("both_grounds.mplstyle"))
    figure, panels = plt.subplots(2, 1, figsize=(6, 6.4), sharex=True)
    for axes, (pair, route) in zip(panels, THROUGH_X0.items(), strict=True):
        source, target = pair.split(" to ")
        direct, chained = [], []
        for t in tqdm(TIMES, desc=pair, disable=None):
            time = np.full(ELEMENTS, t)
            exact = [
                EXACT[pair](*map(Fraction, each))
                for each in zip(pred.tolist(), x_t.tolist(), time.tolist(), strict=True)
            ]
            direct.append(worst(convert_prediction(pred, x_t, time, source=source, target=target), exact))
            chained.append(worst(route(pred, x_t, time), exact))
        print(f"{pair}, largest error in float32 ulp:\n      t  one formula  through x_0")
        for row in zip(TIMES, direct, chained, strict=True):
            print("{:7.3f} {:12.3f} {:12.1f}".format(*row))
        axes.loglog(TIMES, chained, "o-", color="#d1603d", label="by way of $x_0$, rounded twice")
        axes.loglog(TIMES, direct, "o-", color="#2f81c7", label="convert_prediction")
        axes.axhline(0.5, color="#7a8089", lw=1, ls=":")
        axes.set_title(pair)
        axes.set_ylabel("largest error, ulp")
    panels[1].set_xlabel("t")
    panels[0].legend()
    figure.savefig(out)


if __name__ == "__main__":
    main()

"""Integrate the exact flow of a data set, without a network, and measure the error of two samplers.

For a finite data set the best prediction of x_0 is an average over the data,

    E[x_0 | x_t] = sum_i w_i x_i,    w = softmax(-|x_t - (1 - t) x_i|^2 / (2 t^2)),

so all errors come from the sampler. The two samplers use the same timesteps and start from the same noise: ``ode_step``
follows the flow, and ``add_noise`` adds fresh noise at each timestep. The first picture shows the error of both over
the number of steps, for three values of ``shift``, which moves the timesteps toward noise or data. The second picture
(``*_digits``) shows the samples.

The program takes less than a minute with NumPy. It exits with status 1 if a metric is out of its bounds; the run time
is only printed.

    python exact_flow.py [--xp numpy|cupy] [--out PNG] [--seed N] [--small]
"""

import argparse
import importlib
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from digits_metrics import PIXELS, SIDE, Bound, check_bounds, frechet_distance
from matplotlib.figure import Figure
from pictures import save_light_and_dark
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from tqdm import tqdm

from fastgen_rf import add_noise, make_t_list, ode_step

SHIFTS = (0.3, 1.0, 3.0)  # below 1, the timesteps are closer to data; above 1, closer to noise
COUNTS, SMALL_COUNTS = (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8, 16)
REFERENCE_STEPS, SMALL_REFERENCE_STEPS = 500, 100  # 1,000 steps change no sample by more than 1e-3
SAMPLES, SMALL_SAMPLES = 500, 300
SHOWN = (1, 2, 4, 8, 16)


class Row(NamedTuple):
    """The errors for one shift and one number of steps."""

    shift: float
    steps: int
    distance: float  # RMS distance of a pixel to the exact solution, along the flow
    flow: float  # Frechet distance to the data, along the flow
    fresh: float  # Frechet distance to the data, with fresh noise


class Results(NamedTuple):
    """All errors, and some samples."""

    rows: list[Row]
    floor: float  # Frechet distance of the exact solution
    images: dict[str, dict[str, Any]]  # by sampler and number of steps: eight samples with shift 1


# The two samplers


def expected_data(x_t: Any, t: float, data: Any, xp: Any) -> Any:
    """Return ``E[x_0 | x_t]``, shape (B, 64), over data of shape (N, 64)."""
    centers = (1 - t) * data
    distance = xp.sum(x_t**2, axis=1)[:, None] - 2 * x_t @ centers.T + xp.sum(centers**2, axis=1)
    weight = xp.exp((xp.min(distance, axis=1)[:, None] - distance) / (2 * t * t))
    return weight @ data / xp.sum(weight, axis=1)[:, None]


def along_the_flow(noise: Any, t_list: tuple[float, ...], data: Any, xp: Any) -> Any:
    """Take a deterministic step from each timestep to the next."""
    x = noise
    for t, t_next in pairwise(t_list):
        x = ode_step(expected_data(x, t, data, xp), x, t, t_next)
    return x


def with_fresh_noise(noise: Any, t_list: tuple[float, ...], data: Any, xp: Any, rng: Any) -> Any:
    """Predict x_0 at each timestep, and add fresh noise for the next one."""
    x = noise
    for t, t_next in pairwise(t_list):
        x0 = expected_data(x, t, data, xp)
        x = add_noise(x0, rng.standard_normal(x0.shape, dtype=x0.dtype), t_next)
    return x


# Errors


def measure(xp: Any, seed: int, small: bool) -> Results:
    """Run both samplers for all shifts and numbers of steps."""
    to_host = getattr(xp, "asnumpy", np.asarray)
    images = load_digits().data / 8 - 1
    data = xp.asarray(images)
    project = PCA(32, random_state=0).fit(images).transform
    rng = xp.random.default_rng(seed)
    noise = rng.standard_normal((SMALL_SAMPLES if small else SAMPLES, PIXELS), dtype=xp.float64)
    counts, reference = (SMALL_COUNTS, SMALL_REFERENCE_STEPS) if small else (COUNTS, REFERENCE_STEPS)

    def to_data(x: Any) -> float:
        return frechet_distance(project(to_host(x)), project(images))

    rows = []
    shown: dict[str, dict[str, Any]] = {"flow": {}, "fresh": {}}
    with tqdm(total=reference + 2 * len(SHIFTS) * sum(counts), unit="step", disable=None) as bar:
        exact = along_the_flow(noise, make_t_list(reference, max_t=1.0), data, xp)
        bar.update(reference)
        for shift in SHIFTS:
            for steps in counts:
                t_list = make_t_list(steps, shift=shift, max_t=1.0)
                flow = along_the_flow(noise, t_list, data, xp)
                fresh = with_fresh_noise(noise, t_list, data, xp, rng)
                distance = float(to_host(xp.sqrt(xp.mean((flow - exact) ** 2))))
                rows.append(Row(shift, steps, distance, to_data(flow), to_data(fresh)))
                if shift == 1 and steps in SHOWN:
                    shown["flow"][str(steps)], shown["fresh"][str(steps)] = to_host(flow[:8]), to_host(fresh[:8])
                bar.update(2 * steps)
    shown["flow"]["exact"] = to_host(exact[:8])
    return Results(rows, to_data(exact), shown)


def show(results: Results) -> str:
    """Return a table with a line for each shift and number of steps."""
    head = f"{'shift':>6}{'steps':>7}{'RMS to the exact solution':>27}{'Frechet, flow':>15}{'Frechet, noise':>16}"
    lines = [f"{r.shift:6}{r.steps:7}{r.distance:27.3f}{r.flow:15.3f}{r.fresh:16.3f}" for r in results.rows]
    return "\n".join([head, *lines, f"Frechet distance of the exact solution: {results.floor:.3f}"])


def bounds(results: Results) -> list[Bound]:
    """Return the bounds for shift 1."""
    by_steps = {row.steps: row for row in results.rows if row.shift == 1}
    falling = [by_steps[2 * n].distance / by_steps[n].distance for n in by_steps if n > 1 and 2 * n in by_steps]
    fresh = max(row.fresh for row in by_steps.values() if row.steps >= 8)
    return [
        Bound("RMS, twice the steps: largest ratio", max(falling), 0.0, 0.95),
        Bound("RMS at 16 steps", by_steps[16].distance, 0.0, 0.20),
        Bound("Frechet, flow at 16, less exact", by_steps[16].flow - results.floor, -0.05, 0.05),
        Bound("Frechet, noise from 8 on, less exact", fresh - results.floor, -0.05, 0.75),
    ]


# Pictures


def tiles(rows: list[Any]) -> Any:
    """Put rows of eight images into one image, with an empty pixel after each."""
    stacked = np.stack(rows).reshape(len(rows), 8, SIDE, SIDE)
    padded = np.pad(stacked, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    return padded.transpose(0, 2, 1, 3).reshape(len(rows) * (SIDE + 1), 8 * (SIDE + 1))


def draw_errors(results: Results) -> Figure:
    """Draw both errors over the number of steps."""
    figure, (rms, frechet) = plt.subplots(2, 1, figsize=(6, 6), sharex=True)
    for i, shift in enumerate(SHIFTS):
        rows = [row for row in results.rows if row.shift == shift]
        steps = [row.steps for row in rows]
        rms.loglog(steps, [row.distance for row in rows], "o-", color=f"C{i}", label=f"shift={shift:g}")
        frechet.loglog(steps, [row.flow for row in rows], "o-", color=f"C{i}", label=f"shift={shift:g}, ode_step")
        frechet.loglog(steps, [row.fresh for row in rows], "s:", color=f"C{i}", label=f"shift={shift:g}, add_noise")
    frechet.axhline(results.floor, color="C4", lw=1, label="exact solution")
    rms.set_title("a  Distance to the exact solution", loc="left", fontweight="bold")
    rms.set_ylabel("RMS error of a pixel")
    frechet.set_title("b  Distance to the data", loc="left", fontweight="bold")
    frechet.set_ylabel("Fréchet distance")
    frechet.set_xlabel("number of steps")
    for ax, values in ((rms, (0.1, 0.2, 0.5)), (frechet, (0.3, 1, 3, 10))):
        ax.set_xticks(steps, [str(n) for n in steps])
        ax.set_yticks(values, [f"{value:g}" for value in values])
        ax.minorticks_off()
    figure.legend(*frechet.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def draw_digits(results: Results) -> Figure:
    """Draw the samples for each number of steps, from the same noise."""
    figure, panels = plt.subplots(1, 2, figsize=(6, 2.15))
    titles = ("Along the flow (ode_step)", "Fresh noise (add_noise)")
    for ax, title, by_steps in zip(panels, titles, results.images.values(), strict=True):
        ax.imshow(tiles(list(by_steps.values())), cmap="gray", vmin=-1, vmax=1)
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
        ax.set_anchor("N")
        ax.set_yticks([SIDE / 2 + row * (SIDE + 1) for row in range(len(by_steps))], list(by_steps))
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    panels[0].set_ylabel("number of steps")
    return figure


def main() -> int:
    """Integrate, measure and draw; return 0 if all metrics are within their bounds, else 1."""
    parser = argparse.ArgumentParser(description="Integrate the exact flow of the digits.")
    parser.add_argument("--xp", choices=("numpy", "cupy"), default="numpy", help="the array library")
    parser.add_argument("--out", type=Path, default=Path("exact_flow.png"), help="the picture of the errors")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--small", action="store_true", help="fewer samples and steps, for tests")
    options = parser.parse_args()
    start = time.perf_counter()

    results = measure(importlib.import_module(options.xp), options.seed, options.small)
    verdicts, all_hold = check_bounds(bounds(results))
    print(f"\n{show(results)}\n\n{verdicts}\n")
    digits = options.out.with_stem(f"{options.out.stem}_digits")
    save_light_and_dark(lambda: draw_errors(results), options.out)
    save_light_and_dark(lambda: draw_digits(results), digits)
    print(f"{options.out} and {digits} drawn; {time.perf_counter() - start:.0f} s in total")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())

"""Integrate the exact flow of a data set, without a network: the error over the number of steps and their times.

For a finite data set the best prediction of x_0 has a closed form, an average over the data,

    E[x_0 | x_t] = sum_i w_i x_i,    w = softmax(-|x_t - (1 - t) x_i|^2 / (2 t^2)),

so that a sampler's error is its own, not a network's. Two samplers walk down the same rungs from the same noise:
``ode_step`` along the flow, and ``add_noise`` with fresh noise on each rung. The picture shows the error of both over
the number of steps, for rungs that are shifted towards noise more and less. About half a minute with NumPy.

    python exact_flow.py [--xp numpy|cupy] [--out PNG] [--samples N] [--most-steps N]
"""

import argparse
import importlib
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from digits_metrics import SIDE, frechet_distance
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from tqdm import tqdm

from fastgen_rf import add_noise, make_t_list, ode_step

PIXELS = 64
SHIFTS = (0.3, 1.0, 3.0)  # of the rungs: below 1 towards data, above towards noise
MOST_STEPS = 64
REFERENCE_STEPS = 500  # an exact solution, as far as this program can tell
SAMPLES = 500
SHOWN = (1, 2, 4, 8, 16)


def expected_data(x_t: Any, t: float, data: Any, xp: Any) -> Any:
    """Return ``E[x_0 | x_t]``, shape (B, 64), over data of shape (N, 64)."""
    centres = (1 - t) * data
    distance = xp.sum(x_t**2, axis=1)[:, None] - 2 * x_t @ centres.T + xp.sum(centres**2, axis=1)
    weight = xp.exp((xp.min(distance, axis=1)[:, None] - distance) / (2 * t * t))
    return weight @ data / xp.sum(weight, axis=1)[:, None]


def along_the_flow(noise: Any, t_list: tuple[float, ...], data: Any, xp: Any) -> Any:
    """Take a deterministic step from each rung to the next."""
    x = noise
    for t, t_next in pairwise(t_list):
        x = ode_step(expected_data(x, t, data, xp), x, t, t_next)
    return x


def with_fresh_noise(noise: Any, t_list: tuple[float, ...], data: Any, xp: Any, rng: Any) -> Any:
    """Predict x_0 on each rung and noise it anew to the next."""
    x = noise
    for t, t_next in pairwise(t_list):
        x0 = expected_data(x, t, data, xp)
        x = add_noise(x0, rng.standard_normal(x0.shape, dtype=x0.dtype), t_next)
    return x


def measure(xp: Any, rng: Any, samples: int, most_steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run both samplers over steps and shifts; return the errors by shift, and eight images a sampler at shift 1."""
    to_host = getattr(xp, "asnumpy", np.asarray)
    images = load_digits().data / 8 - 1
    data = xp.asarray(images)
    project = PCA(32, random_state=0).fit(images).transform
    noise = rng.standard_normal((samples, PIXELS), dtype=xp.float64)
    counts = [2**k for k in range(most_steps.bit_length())]

    def from_data(x: Any) -> float:
        return frechet_distance(project(to_host(x)), project(images))

    errors: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    with tqdm(total=REFERENCE_STEPS + 2 * len(SHIFTS) * sum(counts), unit="step", disable=None) as bar:
        exact = along_the_flow(noise, make_t_list(REFERENCE_STEPS, max_t=1.0), data, xp)
        bar.update(REFERENCE_STEPS)
        for shift in SHIFTS:
            rows = []
            for steps in counts:
                t_list = make_t_list(steps, shift=shift, max_t=1.0)
                flow = along_the_flow(noise, t_list, data, xp)
                fresh = with_fresh_noise(noise, t_list, data, xp, rng)
                distance = float(to_host(xp.sqrt(xp.mean((flow - exact) ** 2))))
                rows.append((steps, distance, from_data(flow), from_data(fresh)))
                if shift == 1.0 and steps in SHOWN:
                    shown[f"flow, {steps}"], shown[f"noise, {steps}"] = to_host(flow[:8]), to_host(fresh[:8])
                bar.update(2 * steps)
            errors[shift] = np.array(rows)
    shown["exact"] = to_host(exact[:8])
    return errors | {"floor": from_data(exact)}, shown


def show(errors: dict[Any, Any]) -> str:
    """Lay the errors out as a table, a shift and a number of steps a line."""
    head = f"{'shift':>6}{'steps':>7}{'distance to the exact solution':>32}{'Frechet, flow':>15}{'Frechet, noise':>16}"
    lines = [head]
    for shift in SHIFTS:
        lines += [f"{shift:6}{steps:7.0f}{a:32.3f}{b:15.3f}{c:16.3f}" for steps, a, b, c in errors[shift]]
    return "\n".join([*lines, f"Frechet distance of the exact solution: {errors['floor']:.3f}"])


def draw(errors: dict[Any, Any], shown: dict[str, Any], path: Path) -> None:
    """Draw both errors over the number of steps, and what the steps make of the same noise."""
    picture = Figure(figsize=(10, 7.2), layout="constrained", facecolor="white")
    grid = picture.add_gridspec(2, 2, height_ratios=(1.0, 0.95))
    left, right = picture.add_subplot(grid[0, 0]), picture.add_subplot(grid[0, 1])
    for shift, colour in zip(SHIFTS, ("tab:blue", "tab:orange", "tab:green"), strict=True):
        steps, distance, flow, fresh = errors[shift].T
        left.loglog(steps, distance, "o-", color=colour, label=f"shift {shift:g}")
        right.loglog(steps, flow, "o-", color=colour)
        right.loglog(steps, fresh, "s:", color=colour, markerfacecolor="white")
    left.set_title("Distance to the exact solution (RMS a pixel)", fontsize=11)
    left.legend()
    right.axhline(errors["floor"], color="grey", linewidth=1)
    right.set_title("Frechet distance to the data", fontsize=11)
    right.plot([], [], "o-", color="grey", label="along the flow: ode_step")
    right.plot([], [], "s:", color="grey", markerfacecolor="white", label="with fresh noise: add_noise")
    right.plot([], [], color="grey", linewidth=1, label="exact solution")
    right.legend()
    for ax in (left, right):
        ax.set_xlabel("steps")
        ax.set_xticks(errors[1.0][:, 0], [f"{n:.0f}" for n in errors[1.0][:, 0]])
        ax.minorticks_off()
    left.set_yticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
    titles = {"flow": "Along the flow, shift 1", "noise": "With fresh noise, shift 1"}
    for place, (kind, title) in enumerate(titles.items()):
        ax = picture.add_subplot(grid[1, place])
        names = [name for name in shown if name.startswith(kind)] + (["exact"] if kind == "flow" else [])
        pad = ((0, 0), (0, 0), (0, 1), (0, 1))
        rows = [np.pad(shown[name].reshape(1, 8, SIDE, SIDE), pad, constant_values=np.nan) for name in names]
        tiles = np.concatenate(rows).transpose(0, 2, 1, 3).reshape(len(names) * (SIDE + 1), 8 * (SIDE + 1))
        ax.imshow(tiles, cmap="gray", vmin=-1, vmax=1)
        ax.set_title(title, fontsize=11)
        labels = [name.rpartition(", ")[2] for name in names]
        ax.set_yticks([SIDE / 2 + i * (SIDE + 1) for i in range(len(names))], labels)
        ax.set_ylabel("steps")
        ax.set_xticks([])
        for spine in ax.spines.values():
            spine.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=110)


def main() -> int:
    """Integrate, measure, draw; return 0 when the errors fall as they must, else 1."""
    parser = argparse.ArgumentParser(description="Integrate the exact flow of the digits.")
    parser.add_argument("--xp", choices=("numpy", "cupy"), default="numpy", help="where the arrays live")
    parser.add_argument("--out", type=Path, default=Path("exact_flow.png"), help="the picture")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--most-steps", type=int, default=MOST_STEPS, help="a power of 2, at least 16")
    options = parser.parse_args()
    start = time.perf_counter()

    xp = importlib.import_module(options.xp)
    errors, shown = measure(xp, xp.random.default_rng(0), options.samples, options.most_steps)
    print(f"\n{show(errors)}\n")
    draw(errors, shown, options.out)

    steps, distance, flow, fresh = errors[1.0].T
    bounds = [
        ("distance falls with every doubling from 2 steps on", bool(np.all(np.diff(distance[1:]) < 0))),
        ("distance at most 0.2 from 16 steps on", bool(np.all(distance[steps >= 16] < 0.2))),
        ("Frechet distance along the flow within 0.05 of the exact one's at 16", flow[4] < errors["floor"] + 0.05),
        ("with fresh noise below 1 from 8 steps on", bool(np.all(fresh[steps >= 8] < 1.0))),
    ]
    print("\n".join(f"{'ok' if held else 'FAILED':8}{name}" for name, held in bounds))
    print(f"\n{options.out} drawn; {time.perf_counter() - start:.0f} s in all")
    return 0 if all(held for _, held in bounds) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Draw the gallery of timestep laws: densities and histograms, clamped against truncated, iid against stratified.

    python timestep_gallery.py [--out FOLDER]

Every draw and density is a `fastgen_rf` call. It prints the figures that the documentation quotes.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

from fastgen_rf import SampleTimestepConfig, sample_timesteps, timestep_density

DRAWS = 200_000
GRID = np.linspace(0.0, 1.0, 2001)
GALLERY: dict[str, list[dict[str, Any]]] = {
    "uniform": [{}, {"min_t": 0.2}, {"max_t": 0.6}],
    "logitnormal": [{}, {"p_mean": -1.0}, {"p_std": 0.5}],
    "lognormal": [{}, {"p_mean": -1.2, "p_std": 0.8}, {"p_mean": 1.0, "p_std": 0.1}],
    "shifted": [{}, {"shift": 2.0}, {"shift": 12.0}],
    "polynomial": [{}, {"min_t": 0.2}, {"max_t": 0.6}],
    "shifted_logitnormal": [{}, {"shift": 2.0}, {"p_mean": -1.0}],
    "mode": [{}, {"mode_scale": 0.8}, {"mode_scale": -0.8}],
    "cosmap": [{}, {"min_t": 0.2}, {"max_t": 0.6}],
    "beta": [{}, {"beta_a": 1.0, "beta_b": 2.0}, {"beta_a": 4.0}],
    "loguniform": [{}, {"min_t": 0.01}, {"min_t": 0.1}],
}
COLORS = ("#2f81c7", "#d1603d", "#4b9b3b")


def label_of(fields: dict[str, Any]) -> str:
    """Name the fields that differ from the defaults."""
    return ", ".join(f"{name}={value:g}" for name, value in fields.items()) or "default"


def draw(law: str, fields: dict[str, Any], n: int = DRAWS, seed: int = 0, **how: Any) -> Any:
    """Draw from a law, in float64."""
    cfg = SampleTimestepConfig(time_dist_type=law, **fields)
    return sample_timesteps(n, cfg, rng=np.random.default_rng(seed), dtype=np.float64, **how)


def draw_law(axes: Any, law: str) -> None:
    """Show three configs of one law: the first as a histogram, and each as its density where it has one."""
    for fields, color in zip(GALLERY[law], COLORS, strict=True):
        first = color == COLORS[0]
        t = draw(law, fields)
        bins = np.linspace(0, 1, 51)
        if first:
            axes.hist(t, bins, density=True, color=color, alpha=0.3)
        try:
            density = timestep_density(GRID, SampleTimestepConfig(time_dist_type=law, **fields))
            axes.plot(GRID, density, color=color, lw=1.8, label=label_of(fields))
        except ValueError:  # discrete, or with an atom at max_t
            axes.hist(t, bins, density=True, color=color, histtype="step", lw=1.5, label=label_of(fields))
    axes.set_title(law, fontweight="bold")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, {"loguniform": 6, "lognormal": 6, "shifted": 8, "shifted_logitnormal": 6}.get(law, 4))
    axes.legend(loc="upper right" if law in ("loguniform", "mode") else "upper left")
    axes.set_xlabel("t (0 data, 1 noise)")


def draw_gallery(folder: Path) -> None:
    """One picture for each law."""
    for law in tqdm(GALLERY, desc="laws", disable=None):
        figure, axes = plt.subplots(figsize=(5, 3.2))
        draw_law(axes, law)
        figure.savefig(folder / f"law_{law}.png", dpi=120)
        plt.close(figure)


def draw_truncated(path: Path) -> None:
    """Clamped as published beside truncated: where the mass beyond max_t goes."""
    published = draw("shifted", {}, stratified=True)
    print(f"shifted, default, clamped: {np.mean(published == 0.999):.2%} at max_t, least t {published.min():.4f}")
    cases = [("shifted", {"shift": 5.0, "max_t": 0.98}), ("shifted", {"shift": 8.0, "max_t": 0.98})]
    cases.append(("shifted_logitnormal", {"shift": 5.0, "max_t": 0.9}))
    figure, panels = plt.subplots(3, 1, figsize=(6, 8.4), sharex=True)
    for axes, (law, fields) in zip(panels, cases, strict=True):
        bins = np.linspace(0, 1, 101)
        for truncate, color in ((False, COLORS[1]), (True, COLORS[0])):
            t = draw(law, fields | {"truncate": truncate}, stratified=True)
            share = float(np.mean(t == fields["max_t"]))
            name = "truncated" if truncate else "clamped"
            print(f"{law}, {label_of(fields)}, {name}: {share:.2%} at max_t, least t {t.min():.4f}")
            axes.hist(t, bins, density=True, color=color, alpha=0.55, label=f"{name}: {share:.1%} at max_t")
        axes.set_title(f"{law}, {label_of(fields)}")
        axes.set_xlim(0, 1)
        axes.legend(loc="upper left")
    panels[-1].set_xlabel("t")
    figure.savefig(path)


def draw_stratified(path: Path) -> None:
    """Three batches of 64 each way, and how the spread of a batch mean falls with the batch size."""
    figure, (left, right) = plt.subplots(2, 1, figsize=(6, 7))
    for row, stratified in enumerate((False, True)):
        for batch in range(3):
            t = draw("logitnormal", {}, 64, batch, stratified=stratified)
            left.plot(t, np.full(64, 3.5 * row + batch), "|", color=COLORS[row], ms=13, mew=1.2)
    left.set_yticks([1, 4.5], ["iid", "stratified"])
    left.set_title("three batches of 64, logitnormal")
    left.set_xlim(0, 1)
    left.set_xlabel("t")
    sizes = [4, 8, 16, 32, 64, 128, 256, 512]
    for stratified, color in ((False, COLORS[0]), (True, COLORS[1])):
        spread = [
            np.std([np.mean(draw("logitnormal", {}, n, seed, stratified=stratified)) for seed in range(400)])
            for n in tqdm(sizes, desc="stratified" if stratified else "iid", disable=None)
        ]
        name = "stratified" if stratified else "iid"
        right.loglog(sizes, spread, "o-", color=color, label=name)
        print(f"{name}: standard deviation of the batch mean of t at n = 64: {spread[sizes.index(64)]:.1e}")
    right.set_xticks(sizes, [str(n) for n in sizes])
    right.minorticks_off()
    right.set_xlabel("batch size")
    right.set_title("standard deviation of the batch mean of t")
    right.legend()
    figure.savefig(path)


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for the pictures")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    plt.style.use(Path(__file__).with_name("both_grounds.mplstyle"))
    draw_gallery(folder)
    draw_truncated(folder / "timestep_truncated.png")
    draw_stratified(folder / "timestep_stratified.png")


if __name__ == "__main__":
    main()

"""Draw the timestep distributions: densities and histograms, clamped and truncated, independent and stratified.

    python timestep_gallery.py [--out FOLDER]

Every sample and every density is a `fastgen_rf` call. The program prints the numbers that the documentation quotes.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from pictures import save_light_and_dark
from tqdm import tqdm

from fastgen_rf import SampleTimestepConfig, sample_timesteps, timestep_density

SAMPLES = 200_000
GRID = np.linspace(0.0, 1.0, 2001)
GALLERY: dict[str, list[dict[str, float]]] = {
    "uniform": [{"min_t": 0.001, "max_t": 0.999}, {"min_t": 0.2, "max_t": 0.999}, {"min_t": 0.001, "max_t": 0.6}],
    "logitnormal": [{"p_mean": 0.0, "p_std": 1.0}, {"p_mean": -1.0, "p_std": 1.0}, {"p_mean": 0.0, "p_std": 0.5}],
    "lognormal": [{"p_mean": 0.0, "p_std": 1.0}, {"p_mean": -1.2, "p_std": 0.8}, {"p_mean": 1.0, "p_std": 0.1}],
    "shifted": [{"shift": 5.0}, {"shift": 2.0}, {"shift": 12.0}],
    "polynomial": [{"min_t": 0.001, "max_t": 0.999}, {"min_t": 0.2, "max_t": 0.999}, {"min_t": 0.001, "max_t": 0.6}],
    "shifted_logitnormal": [{"shift": 5.0, "p_std": 1.0}, {"shift": 1.0, "p_std": 1.0}, {"shift": 5.0, "p_std": 0.5}],
    "mode": [{"mode_scale": 1.29}, {"mode_scale": 0.8}, {"mode_scale": -0.8}],
    "cosmap": [{"min_t": 0.001, "max_t": 0.999}, {"min_t": 0.2, "max_t": 0.999}, {"min_t": 0.001, "max_t": 0.6}],
    "beta": [{"beta_a": 1.5, "beta_b": 1.0}, {"beta_a": 1.0, "beta_b": 2.0}, {"beta_a": 4.0, "beta_b": 1.0}],
    "loguniform": [{"min_t": 0.001}, {"min_t": 0.01}, {"min_t": 0.1}],
}
TITLES = {"polynomial": "polynomial (1,000 grid points)"}
# The upper end of the y axis, where it is not 4.
HIGHEST = {"shifted": 8, "shifted_logitnormal": 8, "lognormal": 6, "loguniform": 6, "mode": 6, "logitnormal": 5}


def label_of(name: str, fields: dict[str, float]) -> str:
    """Write the fields of a config, and whether it is the default one."""
    default = SampleTimestepConfig(name, **fields) == SampleTimestepConfig(name)
    return ", ".join(f"{field}={value:g}" for field, value in fields.items()) + " (default)" * default


def sample(name: str, fields: dict[str, Any], n: int = SAMPLES, seed: int = 0, stratified: bool = False) -> Any:
    """Sample from a distribution, in float64."""
    rng = np.random.default_rng(seed)
    return sample_timesteps(n, SampleTimestepConfig(name, **fields), rng=rng, dtype=np.float64, stratified=stratified)


def draw_distribution(name: str) -> Figure:
    """Show three configs as densities, and the first of them as a histogram, too."""
    figure, axes = plt.subplots(figsize=(5, 3.2))
    bins = np.linspace(0, 1, 51)
    for i, fields in enumerate(GALLERY[name]):
        color, label, t = f"C{i}", label_of(name, fields), sample(name, fields)
        if i == 0:
            axes.hist(t, bins, density=True, color=color, alpha=0.3)
        try:
            density = timestep_density(GRID, SampleTimestepConfig(name, **fields))
            axes.plot(GRID, density, color=color, label=label)
        except ValueError:  # A discrete distribution, or one with a point mass at max_t, has no density.
            axes.hist(t, bins, density=True, color=color, histtype="step", lw=2, label=label)
    axes.set_title(TITLES.get(name, name), loc="left", fontweight="bold")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, HIGHEST.get(name, 4))
    axes.legend(loc="upper right" if name == "loguniform" else "upper left")
    axes.set_xlabel("t (0 data, 1 noise)")
    axes.set_ylabel("density")
    return figure


def clamped_and_truncated(name: str, fields: dict[str, float]) -> dict[str, tuple[Any, float]]:
    """Print and return stratified samples of both variants, each with the share that is exactly at max_t."""
    found = {}
    for variant in ("clamped", "truncated"):
        t = sample(name, fields | {"truncate": variant == "truncated"}, stratified=True)
        share = float(np.mean(t == SampleTimestepConfig(name, **fields).max_t))
        found[variant] = t, share
        print(f"{label_of(name, fields)}, {name}, {variant}: {share:.2%} at max_t, smallest t {t.min():.4f}")
    return found


def draw_truncated(title: str, found: dict[str, tuple[Any, float]], max_t: float) -> Figure:
    """Show where the mass beyond max_t goes."""
    figure, axes = plt.subplots()
    for (variant, (t, share)), color in zip(found.items(), ("C1", "C0"), strict=True):
        # The last bin ends at max_t, and contains it.
        bins = np.linspace(0, max_t, 99)
        axes.hist(t, bins, density=True, color=color, alpha=0.35)
        label = f"{variant}: {share:.1%} exactly at max_t"
        axes.hist(t, bins, density=True, color=color, histtype="step", lw=2, label=label)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlim(0, 1)
    axes.set_xlabel("t (0 data, 1 noise)")
    axes.set_ylabel("density")
    axes.legend(loc="upper left")
    return figure


def draw_stratified(spreads: dict[str, dict[int, float]]) -> Figure:
    """Show three batches of 64, and the standard deviation of a batch mean over the batch size."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 5.6))
    for row, (name, spread) in enumerate(spreads.items()):
        for batch in range(3):
            t = sample("logitnormal", {}, 64, batch, stratified=name == "stratified")
            above.plot(t, np.full(64, 3.5 * row + batch), "|", color=f"C{row}", ms=11, mew=1.2)
        below.loglog(list(spread), list(spread.values()), "o-", color=f"C{row}", label=name)
    above.set_yticks([1, 4.5], list(spreads))
    above.set_title("Three batches of 64 timesteps, logitnormal", loc="left", fontweight="bold")
    above.set_xlim(0, 1)
    above.set_xlabel("t (0 data, 1 noise)")
    below.set_xticks(list(spread), [str(n) for n in spread])
    below.minorticks_off()
    below.set_xlabel("batch size")
    below.set_title("Standard deviation of the batch mean of t", loc="left", fontweight="bold")
    below.legend()
    return figure


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for the pictures")
    folder = parser.parse_args().out
    for name in tqdm(GALLERY, desc="distributions", disable=None):
        save_light_and_dark(lambda name=name: draw_distribution(name), folder / f"distribution_{name}.png")

    clamped_and_truncated("shifted", {"shift": 5.0})
    clamped_and_truncated("shifted", {"shift": 5.0, "max_t": 0.98})
    clamped_and_truncated("shifted_logitnormal", {"shift": 5.0, "max_t": 0.9})
    fields = {"shift": 8.0, "max_t": 0.98}
    found = clamped_and_truncated("shifted", fields)
    title = f"shifted, {label_of('shifted', fields)}"
    save_light_and_dark(lambda: draw_truncated(title, found, fields["max_t"]), folder / "timestep_truncated.png")

    spreads: dict[str, dict[int, float]] = {"iid": {}, "stratified": {}}
    for name, spread in spreads.items():
        for n in tqdm((4, 8, 16, 32, 64, 128, 256, 512), desc=name, disable=None):
            batches = [sample("logitnormal", {}, n, seed, stratified=name == "stratified") for seed in range(400)]
            spread[n] = float(np.std(np.mean(batches, axis=1)))
        print(f"{name}: standard deviation of the batch mean of t at n = 64: {spread[64]:.1e}")
    save_light_and_dark(lambda: draw_stratified(spreads), folder / "timestep_stratified.png")


if __name__ == "__main__":
    main()

"""The chart: time of a call over the size of its arrays, a panel for each framework and dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from tests.benchmarks.baselines import ADD, OURS
from tests.benchmarks.report import show

STYLES: dict[str, dict[str, Any]] = {  # the colors of Okabe and Ito, which are safe for color blindness
    ADD: {"color": "#7a8089", "linestyle": "--", "linewidth": 1.4, "zorder": 1},
    "nvidia-modelopt": {"color": "#D55E00", "marker": "s"},
    "plain float64": {"color": "#E69F00", "marker": "^"},
    "nvidia-modelopt, compiled": {"color": "#009E73", "marker": "D"},
    "plain float32, jitted": {"color": "#CC79A7", "marker": "v"},
    "fastgen_rf, compiled": {"color": "#56B4E9", "marker": "o"},
    OURS: {"color": "#2f81c7", "marker": "o", "linewidth": 3.4, "markersize": 7, "zorder": 2},
}
GROUND = Path(__file__).parents[2] / "docs/examples/both_grounds.mplstyle"
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "cupy": "CuPy"}


def draw(records: list[dict[str, Any]], path: Path, subtitle: str) -> list[Path]:
    """Draw the table of sizes: without the gradient at ``path``, with the gradient at ``*_gradient``."""
    drawn = []
    for direction, suffix in (("forward", ""), ("forward+backward", "_gradient")):
        chosen = [r for r in records if r["table"] == "sizes" and r["direction"] == direction]
        if chosen:
            target = path.with_stem(path.stem + suffix)
            _picture(chosen, target, subtitle)
            drawn.append(target)
    return drawn


def _picture(records: list[dict[str, Any]], path: Path, subtitle: str) -> None:
    rows = list(dict.fromkeys(r["backend"] for r in records))
    columns = max((list(dict.fromkeys(r["dtype"] for r in records if r["backend"] == b)) for b in rows), key=len)
    plt.style.use(GROUND)
    size = (0.8 + 3.0 * len(columns), 2.6 + 2.5 * len(rows))
    figure, grid = plt.subplots(len(rows), len(columns), figsize=size, sharex=True, sharey=True, squeeze=False)
    figure.set_layout_engine("tight", rect=(0, 1.5 / size[1], 1, 1 - 0.65 / size[1]), h_pad=1.2)
    for row, backend in enumerate(rows):
        dtypes = list(dict.fromkeys(r["dtype"] for r in records if r["backend"] == backend))
        for column, axes in enumerate(grid[row]):
            if column >= len(dtypes):
                axes.set_visible(False)
                continue
            _panel(axes, [r for r in records if (r["backend"], r["dtype"]) == (backend, dtypes[column])])
            axes.set_title(f"{TITLES[backend]}, {dtypes[column]}", fontweight="bold", loc="left")
            if column == 0:
                axes.set_ylabel("time of a call")
            if row == len(rows) - 1:
                axes.set_xlabel("elements of one array")
    handles = {label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    names = [name for name in reversed(STYLES) if name in handles]
    what = records[0]["op"] + (" and its gradient" if records[0]["direction"] != "forward" else "")
    title: dict[str, Any] = {"ha": "left", "va": "top"}
    figure.text(0.01, 1 - 0.1 / size[1], f"{what}: lower is faster", fontsize=14, fontweight="bold", **title)
    figure.text(0.01, 1 - 0.42 / size[1], subtitle, fontsize=10, **title)
    labels = [f"{name} (the limit)" if name == ADD else name for name in names]
    figure.legend([handles[name] for name in names], labels, loc="lower center", ncols=2)
    figure.savefig(path)
    plt.close(figure)


def _panel(axes: Any, records: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(r["implementation"] for r in records):
        points = sorted((r["elements"], r["median"]) for r in records if r["implementation"] == name)
        style = {"linewidth": 1.6, "markersize": 4, "zorder": 3, **STYLES.get(name, {})}
        axes.plot(*zip(*points, strict=True), label=name, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, numticks=5))
    axes.xaxis.set_major_formatter(FuncFormatter(_count))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value).replace(".00", "").replace(".0", "")))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(linewidth=0.8)
    largest = [r for r in records if r["baseline"] and r["elements"] == max(r["elements"] for r in records)]
    for r in largest:
        text = f"at {_count(r['elements'], 0)}: {r['ratio']:.1f}x as fast\nas {r['implementation']}"
        axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=10, color="#2f81c7")


def _count(value: float, _: int) -> str:
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"

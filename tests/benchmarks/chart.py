"""The chart: the time of a call as bars, a picture for each framework, a panel for each size and dtype."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from tests.benchmarks.baselines import ADD, OURS
from tests.benchmarks.report import show

# The programs of the documentation are not a package.
sys.path.append(str(Path(__file__).parents[2] / "docs/examples"))
from pictures import save_light_and_dark

SIZES = 3  # the largest ones
COLORS = {OURS: "C0", f"{OURS}, compiled": "C0", ADD: "C4"}  # all others are baselines, C1
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "cupy": "CuPy"}


def draw(records: list[dict[str, Any]], path: Path, subtitle: str) -> None:
    """Draw the table of sizes; framework and direction are added to the name, as in ``speed_torch_gradient.png``."""
    sizes = [r for r in records if r["table"] == "sizes"]
    for backend, direction in dict.fromkeys((r["backend"], r["direction"]) for r in sizes):
        chosen = [r for r in sizes if (r["backend"], r["direction"]) == (backend, direction)]
        suffix = "" if direction == "forward" else "_gradient"
        save_light_and_dark(lambda: _picture(chosen, subtitle), path.with_stem(f"{path.stem}_{backend}{suffix}"))  # noqa: B023


def _picture(records: list[dict[str, Any]], subtitle: str) -> Figure:
    dtypes = list(dict.fromkeys(r["dtype"] for r in records))
    elements = sorted({r["elements"] for r in records})[-SIZES:]
    bars = len({r["implementation"] for r in records})
    size = (7, 0.9 + len(elements) * (0.45 + 0.22 * bars))
    figure, grid = plt.subplots(len(elements), len(dtypes), figsize=size, sharey=True, squeeze=False)
    for axes_of_size, n in zip(grid, elements, strict=True):
        for axes, dtype in zip(axes_of_size, dtypes, strict=True):
            _panel(axes, [r for r in records if (r["elements"], r["dtype"]) == (n, dtype)])
            axes.set_title(f"{n:,} elements, {dtype}", loc="left", fontsize=11)
    first = records[0]
    operation = first["op"] + (" and its gradient" if first["direction"] != "forward" else "")
    figure.suptitle(f"{operation} on {TITLES[first['backend']]}: shorter is faster", fontweight="bold", fontsize=12)
    figure.supxlabel(subtitle, fontsize=9)
    return figure


def _place(name: str) -> tuple[bool, bool, bool]:
    """Sort eager before compiled implementations, and fastgen_rf before the others; the addition is last."""
    return name == ADD, name.endswith(("compiled", "jitted")), not name.startswith(OURS)


def _panel(axes: Any, records: list[dict[str, Any]]) -> None:
    """Draw a bar for each implementation; the scale is that of the panel."""
    records = sorted(records, key=lambda r: _place(r["implementation"]))
    names = [r["implementation"] for r in records]
    medians = [r["median"] for r in records]
    bars = axes.barh(names, medians, color=[COLORS.get(name, "C1") for name in names])
    axes.bar_label(bars, [f" {show(median)}" for median in medians], fontsize=10)
    axes.set_xlim(0, 1.4 * max(medians))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()

"""Draw the times of calls that ``python -m tests.benchmarks --table sizes --json FILE`` has measured, as bars.

There is a picture for each framework, with a panel for each size and dtype.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from pictures import save_light_and_dark

OURS, ADD = "fastgen_rf", "add"
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
    axes.bar_label(bars, [f" {1000 * median:.3g} ms" for median in medians], fontsize=10)
    axes.set_xlim(0, 1.4 * max(medians))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="such as speed.png, which becomes speed_torch.png")
    options = parser.parse_args()
    saved = json.loads(options.json.read_text())
    machine = saved["machine"]
    draw(saved["timings"], options.out, f"{machine['place']}, {machine['date'][:10]}; medians of interleaved runs")


if __name__ == "__main__":
    main()

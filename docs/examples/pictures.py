"""Save a picture twice, for light and for dark pages. The website shows the one that fits the reader's theme."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

matplotlib.use("Agg")

STYLE = Path(__file__).with_name("pictures.mplstyle")


def ground(background: str, text: str, *colors: str) -> dict[str, object]:
    """Return a style. Programs refer to the colors as C0 (blue), C1 (orange), C2 (green), C3 (purple) and C4 (gray)."""
    names = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
    return dict.fromkeys(names, text) | {
        "figure.facecolor": background,
        "axes.facecolor": background,
        "axes.prop_cycle": matplotlib.cycler(color=colors),
    }


# Each color has a contrast of at least 4.5 to its background, which WCAG 2 asks of text.
LIGHT = ground("#ffffff", "#222832", "#1f6fb5", "#c2410c", "#2f7d32", "#8250a8", "#69717c")
DARK = ground("none", "#ced6dd", "#6cb0f0", "#f0936b", "#7fc96b", "#c79be8", "#8b949e")


def save_light_and_dark(draw: Callable[[], Figure], path: Path) -> None:
    """Call ``draw`` for each background; save its figures as ``path`` and, for dark pages, ``*_dark`` next to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for colors, target in ((LIGHT, path), (DARK, path.with_stem(f"{path.stem}_dark"))):
        with plt.style.context([STYLE, colors]):
            figure = draw()
            figure.savefig(target)
            plt.close(figure)

"""The TrigFlow recipe of docs/howto/paths.md with a network that depends on the time, and its derivative."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "paths.md"


def network(x_t: Any, t: Any) -> Any:
    return x_t * x_t * (1 + t[:, None])


def recipe() -> Any:
    """``trigflow`` as the page defines it, with the network above."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec("from fastgen_rf import convert_prediction, convert_state, convert_time", names)
    exec(next(block for block in blocks if "def trigflow" in block).partition("\nvelocity")[0], names)
    names["flow_network"] = network
    return names["trigflow"]


def values() -> list[np.ndarray]:
    """A state, angles and their tangents: the ends, float32's pi/2 beyond pi/2 included, and the middle."""
    rng = np.random.default_rng(0)
    angle = np.array([0.0, math.pi / 4, math.pi / 2])
    x, dx = rng.standard_normal((2, 3, 4))
    return [array.astype(np.float32) for array in (x, angle, dx, np.array([1.0, -0.5, 2.0]))]


def as_written(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """The recipe from its definitions, smooth beyond the ends of the angle."""
    t = np.sin(angle) / (np.sin(angle) + np.cos(angle))
    scale = np.sqrt((1 - t) ** 2 + t**2)[:, None]
    x_t = x * scale
    return ((1 - 2 * t[:, None]) * x_t + scale**2 * network(x_t, t)) / scale


def slope() -> np.ndarray:
    """Derivative along the tangents, by central differences in float64."""
    x, angle, dx, d_angle = (array.astype(np.float64) for array in values())
    step = 1e-6
    above, below = (as_written(x + sign * step * dx, angle + sign * step * d_angle) for sign in (1, -1))
    return (above - below) / (2 * step)

"""Derivatives of ``convert_time`` at the ends of each time parameterization, as limits; and the TrigFlow recipe.

The recipe of docs/howto/teachers.md differentiates through those ends.
"""

from __future__ import annotations

import functools
import math
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from tests.exact import RATIO, TIME, mp

ENDS = {  # no noise, and no data
    "rf": (0.0, 1.0),
    "angle": (0.0, math.pi / 2),
    "sigma": (0.0, math.inf),
    "log_snr": (math.inf, -math.inf),
    "alpha_bar": (1.0, 0.0),
}
_TINY = mp.mpf(10) ** -100


def _near(source: str) -> tuple[Any, Any]:
    """A point inside, next to each end; float64's pi/2 is such a point."""
    return {
        "rf": (_TINY, 1 - _TINY),
        "angle": (_TINY, mp.mpf(math.pi / 2)),
        "sigma": (_TINY, 1 / _TINY),
        "log_snr": (mp.mpf(1000), mp.mpf(-1000)),
        "alpha_bar": (1 - _TINY, _TINY),
    }[source]


@functools.cache
def derivatives(source: str, target: str, order: int) -> Any:
    """The two limits, in float32, beyond which infinite ones are next to the end."""
    with mp.workdps(600):
        wanted = [
            float(mp.diff(lambda time: TIME[target](RATIO[source](time)), time, order, h=_TINY / 10**20))
            for time in _near(source)
        ]
    return np.array([math.copysign(math.inf, slope) if abs(slope) > 3e38 else slope for slope in wanted], np.float32)


PAIRS = list(permutations(ENDS, 2))
SMOOTH = [pair for pair in PAIRS if np.isfinite(derivatives(*pair, 1)).any()]
"""Pairs with a finite slope at an end. Where a slope is infinite, a second derivative is left to the framework."""


# The TrigFlow recipe, with a network that depends on the time, and its derivative

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "teachers.md"


def _network(x_t: Any, t: Any) -> Any:
    return x_t * x_t * (1 + t[:, None])


def trigflow() -> Any:
    """``trigflow`` as the page defines it, with the network above."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec("from fastgen_rf import convert_prediction, convert_state, convert_time", names)
    exec(next(block for block in blocks if "def trigflow" in block).partition("\nvelocity")[0], names)
    names["flow_network"] = _network
    return names["trigflow"]


def trigflow_values() -> list[np.ndarray]:
    """A noisy sample, angles and their tangents: the ends, float32's pi/2 beyond pi/2 included, and the middle."""
    rng = np.random.default_rng(0)
    angle = np.array([0.0, math.pi / 4, math.pi / 2])
    x, dx = rng.standard_normal((2, 3, 4))
    return [array.astype(np.float32) for array in (x, angle, dx, np.array([1.0, -0.5, 2.0]))]


def _as_written(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """The recipe from its definitions, smooth beyond the ends of the angle."""
    t = np.sin(angle) / (np.sin(angle) + np.cos(angle))
    scale = np.sqrt((1 - t) ** 2 + t**2)[:, None]
    x_t = x * scale
    return ((1 - 2 * t[:, None]) * x_t + scale**2 * _network(x_t, t)) / scale


def trigflow_slope() -> np.ndarray:
    """Derivative along the tangents, by central differences in float64."""
    x, angle, dx, d_angle = (array.astype(np.float64) for array in trigflow_values())
    step = 1e-6
    above, below = (_as_written(x + sign * step * dx, angle + sign * step * d_angle) for sign in (1, -1))
    return (above - below) / (2 * step)

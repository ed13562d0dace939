"""Derivatives of ``convert_time`` at the ends of each time, as limits by mpmath."""

from __future__ import annotations

import functools
import math
from itertools import permutations
from typing import Any

import mpmath
import numpy as np

mp = mpmath.mp.clone()
mp.dps = 600
RATIO = {  # of noise to signal
    "rf": lambda t: t / (1 - t),
    "angle": lambda angle: mp.tan(angle),
    "sigma": lambda sigma: sigma,
    "log_snr": lambda log_snr: mp.exp(-log_snr / 2),
    "alpha_bar": lambda alpha_bar: mp.sqrt((1 - alpha_bar) / alpha_bar),
}
TIME = {
    "rf": lambda ratio: ratio / (1 + ratio),
    "angle": lambda ratio: mp.atan(ratio),
    "sigma": lambda ratio: ratio,
    "log_snr": lambda ratio: -2 * mp.log(ratio),
    "alpha_bar": lambda ratio: 1 / (1 + ratio * ratio),
}
ENDS = {  # no noise, and no data
    "rf": (0.0, 1.0),
    "angle": (0.0, math.pi / 2),
    "sigma": (0.0, math.inf),
    "log_snr": (math.inf, -math.inf),
    "alpha_bar": (1.0, 0.0),
}
_TINY = mp.mpf(10) ** -100
_NEAR = {  # a point inside, next to each end; float64's pi/2 is such a point
    "rf": (_TINY, 1 - _TINY),
    "angle": (_TINY, mp.mpf(math.pi / 2)),
    "sigma": (_TINY, 1 / _TINY),
    "log_snr": (mp.mpf(1000), mp.mpf(-1000)),
    "alpha_bar": (1 - _TINY, _TINY),
}


@functools.cache
def derivatives(source: str, target: str, order: int) -> Any:
    """The two limits, in float32, beyond which infinite ones are next to the end."""
    wanted = [
        float(mp.diff(lambda time: TIME[target](RATIO[source](time)), time, order, h=_TINY / 10**20))
        for time in _NEAR[source]
    ]
    return np.array([math.copysign(math.inf, slope) if abs(slope) > 3e38 else slope for slope in wanted], np.float32)


PAIRS = list(permutations(ENDS, 2))
SMOOTH = [pair for pair in PAIRS if np.isfinite(derivatives(*pair, 1)).any()]
"""Pairs with a finite slope at an end. Where a slope is infinite, a second derivative is left to the framework."""

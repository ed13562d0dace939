"""Functions of times alone: the conversions between time parameterizations, and the shift.

Each function takes its times and ``ops``, the functions that have no operator. A noise level is the ratio of alpha to
sigma. Every time parameterization gives a pair (alpha, sigma), up to a scale that keeps the larger number near 1, and
is computed from such a pair. This way no digits cancel in a conversion. A value that could be infinite is bounded
before it is subtracted from itself or divided by itself. Some conversions have a formula without a pair, because the
pair would lose digits or a derivative there.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import pi
from typing import Any, get_args

from fastgen_rf._typing import TimeParameterization
from fastgen_rf.arithmetic import Ops, TimeMap


def shift(t: Any, factor: Any, ops: Any = None) -> Any:
    """``factor t / (1 + (factor - 1) t)``, exact at t = 0 and t = 1 and with the same bits for a float and an array."""
    if isinstance(factor, float):
        return factor * t / (1.0 + (factor - 1.0) * t if factor >= 1.0 else factor * t + (1.0 - t))
    # Where factor >= 1 the first sum is exactly 1. Elsewhere the last product is 0.
    excess = ops.maximum(factor - 1.0, 0.0)
    return factor * t / ((1.0 - t) + (factor - excess) * t + excess * t)


# The spacing of float32 at pi/2. Only float32 rounds pi/2 up; float64, float16 and bfloat16 round it down.
ROUNDING = 2.0**-23


def pair_of_angle(angle: Any, ops: Ops) -> tuple[Any, Any]:
    """Cosine and sine of an angle clipped to [0, pi/2].

    Up to ROUNDING outside of the interval the angle keeps the derivative of the end; further out that is 0.
    """
    near = ops.xp.clip(angle, -ROUNDING, pi / 2 + ROUNDING)
    # The excess is a multiple of 2**-120, except for angles within 1e-20 of 0. floor removes its derivative.
    excess = near - ops.xp.clip(near, 0.0, pi / 2)
    angle = near - ops.xp.floor(excess * 2.0**120) * 2.0**-120
    return ops.xp.cos(angle), ops.xp.sin(angle)


def pair_of_sigma(sigma: Any, ops: Ops) -> tuple[Any, Any]:
    bounded = -ops.maximum(-sigma, -1e30)
    return 1 / ops.maximum(sigma, 1.0), bounded / ops.maximum(bounded, 1.0)


def pair_of_log_snr(log_snr: Any, ops: Ops) -> tuple[Any, Any]:
    bounded = -ops.maximum(-log_snr, -1e30)
    return ops.xp.exp((bounded - ops.maximum(bounded, 0.0)) / 2), ops.xp.exp(-ops.maximum(log_snr, 0.0) / 2)


def log_odds_against(p: Any, xp: Any) -> Any:
    """``log((1 - p) / p)``: near p = 1/2 as ``2 atanh(1 - 2 p)``, because 1 - 2 p is exact there."""
    difference = 1 - 2 * p
    # Elsewhere atanh gets 0, because its infinite derivative at 0 and 1 would turn into NaN. The limit is 0.25 because
    # XLA's atanh loses digits from 0.29 on.
    middle = xp.where(xp.abs(difference) < 0.25, difference, 0.0)
    return xp.where(middle == 0, xp.log(1 - p) - xp.log(p), 2 * xp.atanh(middle))


def alpha_bar_to_rf(alpha_bar: Any, ops: Ops) -> Any:
    # sigma / (alpha + sigma). At alpha_bar = 1, sigma is 0 and has an infinite derivative. If the sigma of the
    # denominator had it too, the derivative of the quotient would contain their product, which is NaN. The floor
    # prevents that; it is below every other value of 1 - alpha_bar.
    return ops.sqrt(1 - alpha_bar) / (ops.sqrt(alpha_bar) + ops.sqrt(ops.maximum(1 - alpha_bar, 1e-30)))


def through_pair(to_pair: Callable[..., Any], from_pair: Callable[..., Any]) -> TimeMap:
    """Convert one time parameterization to another through the pair (alpha, sigma)."""
    return lambda time, ops: from_pair(*to_pair(time, ops), ops)


PARAMETERIZATIONS = get_args(TimeParameterization)
# The pair (alpha, sigma) of each time, and the time of each pair
PAIRS: dict[TimeParameterization, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "rf": (lambda t, ops: (1 - t, t), lambda alpha, sigma, ops: sigma / (alpha + sigma)),
    "angle": (pair_of_angle, lambda alpha, sigma, ops: ops.xp.atan2(sigma, alpha)),
    "sigma": (pair_of_sigma, lambda alpha, sigma, ops: sigma / alpha),
    "log_snr": (pair_of_log_snr, lambda alpha, sigma, ops: 2 * (ops.xp.log(alpha) - ops.xp.log(sigma))),
    "alpha_bar": (
        lambda alpha_bar, ops: (ops.sqrt(alpha_bar), ops.sqrt(1 - alpha_bar)),
        lambda alpha, sigma, ops: alpha * alpha / (alpha * alpha + sigma * sigma),
    ),
}
CONVERSIONS: dict[tuple[str, str], TimeMap] = {
    (source, target): through_pair(PAIRS[source][0], PAIRS[target][1]) for source, target in permutations(PAIRS, 2)
} | {
    # Conversions without a pair
    ("rf", "log_snr"): lambda t, ops: 2 * log_odds_against(t, ops.xp),
    # The negative of 0 would be -0.0, so this and the last one subtract from 0.0.
    ("sigma", "log_snr"): lambda sigma, ops: 0.0 - 2 * ops.xp.log(sigma),
    ("log_snr", "sigma"): lambda log_snr, ops: ops.xp.exp(-log_snr / 2),
    ("alpha_bar", "rf"): alpha_bar_to_rf,
    ("alpha_bar", "log_snr"): lambda alpha_bar, ops: 0.0 - log_odds_against(alpha_bar, ops.xp),
}

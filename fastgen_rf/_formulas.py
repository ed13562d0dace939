"""Every rectified-flow formula, one line each: the page to check against the papers.

The convention is ``x_t = (1 - t) x_0 + t eps`` with flow ``v = eps - x_0``: t = 0 is data, t = 1 noise. A formula
is an elementwise function in plain operators, linear in its two arrays, and uses each of them once; ``fn`` has the
functions that come to the operators. It knows nothing of
dtypes, blocks, devices, gradients or frameworks: how it is run is :mod:`fastgen_rf._evaluate`'s business, what it is
run on :mod:`fastgen_rf.arithmetic`'s. Below the conversions stand the labels of a noise level, functions of a time
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import pi
from typing import Any, get_args

from fastgen_rf._typing import (
    Formula,
    LabelOfPair,
    PairOfLabel,
    PredictionType,
    StatePath,
    TimeMap,
    TimeParameterization,
)
from fastgen_rf.arithmetic import Functions


def add_noise(x0: Any, eps: Any, t: Any, fn: Functions) -> Any:
    return x0 * (1.0 - t) + eps * t


def noise_to_x0(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t - t * eps) / fn.maximum(1.0 - t, 1e-6)


def flow_to_x0(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return x_t - t * v


def x0_to_eps(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t - (1.0 - t) * x0) / fn.maximum(t, 1e-6)


def x0_to_flow(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t - x0) / fn.maximum(t, 1e-6)


def ratio(t: Any, t_next: Any, fn: Functions) -> Any:
    return t_next / fn.maximum(t, 1e-6)


def flow_step(flow: Any, x_t: Any, difference: Any, fn: Functions) -> Any:
    return x_t + difference * flow


def difference(t: Any, t_next: Any, fn: Functions) -> Any:
    return t_next - t


# In what follows (1 - t) (1 - t) + t t is the determinant of (x_0, eps) -> (x_t, v); it is at least 1/2. Its root,
# the norm, is the scale of x_t and of v on this path relative to the variance-preserving one.


def norm(t: Any, fn: Functions) -> Any:
    return fn.sqrt((1.0 - t) * (1.0 - t) + t * t)


def x0_to_v(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1.0 - t) * x_t - ((1.0 - t) * (1.0 - t) + t * t) * x0) / fn.maximum(t, 1e-6)


def x0_to_score(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1.0 - t) * x0 - x_t) / (fn.maximum(t, 1e-6) * fn.maximum(t, 1e-6))


def eps_to_flow(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (eps - x_t) / fn.maximum(1.0 - t, 1e-6)


def eps_to_v(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (((1.0 - t) * (1.0 - t) + t * t) * eps - t * x_t) / fn.maximum(1.0 - t, 1e-6)


def eps_to_score(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return eps / -fn.maximum(t, 1e-6)


def flow_to_eps(flow: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return x_t + (1.0 - t) * flow


def flow_to_v(flow: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (1.0 - 2.0 * t) * x_t + ((1.0 - t) * (1.0 - t) + t * t) * flow


def flow_to_score(flow: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t + (1.0 - t) * flow) / -fn.maximum(t, 1e-6)


def v_to_x0(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1.0 - t) * x_t - t * v) / ((1.0 - t) * (1.0 - t) + t * t)


def v_to_eps(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (t * x_t + (1.0 - t) * v) / ((1.0 - t) * (1.0 - t) + t * t)


def v_to_flow(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (v - (1.0 - 2.0 * t) * x_t) / ((1.0 - t) * (1.0 - t) + t * t)


def v_to_score(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (t * x_t + (1.0 - t) * v) / -(((1.0 - t) * (1.0 - t) + t * t) * fn.maximum(t, 1e-6))


def score_to_x0(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t + t * t * score) / fn.maximum(1.0 - t, 1e-6)


def score_to_eps(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return -t * score


def score_to_flow(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t + t * score) / -fn.maximum(1.0 - t, 1e-6)


def score_to_v(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return t * (((1.0 - t) * (1.0 - t) + t * t) * score + x_t) / -fn.maximum(1.0 - t, 1e-6)


def x0_to_v_vp(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1.0 - t) * x_t - ((1.0 - t) * (1.0 - t) + t * t) * x0) / (norm(t, fn) * fn.maximum(t, 1e-6))


def eps_to_v_vp(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (((1.0 - t) * (1.0 - t) + t * t) * eps - t * x_t) / (norm(t, fn) * fn.maximum(1.0 - t, 1e-6))


def flow_to_v_vp(flow: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1.0 - 2.0 * t) * x_t + ((1.0 - t) * (1.0 - t) + t * t) * flow) / norm(t, fn)


def v_to_v_vp(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return v / norm(t, fn)


def score_to_v_vp(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return t * (((1.0 - t) * (1.0 - t) + t * t) * score + x_t) / -(norm(t, fn) * fn.maximum(1.0 - t, 1e-6))


def v_vp_to_x0(v_vp: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1.0 - t) * x_t - t * norm(t, fn) * v_vp) / ((1.0 - t) * (1.0 - t) + t * t)


def v_vp_to_eps(v_vp: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (t * x_t + (1.0 - t) * norm(t, fn) * v_vp) / ((1.0 - t) * (1.0 - t) + t * t)


def v_vp_to_flow(v_vp: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (norm(t, fn) * v_vp - (1.0 - 2.0 * t) * x_t) / ((1.0 - t) * (1.0 - t) + t * t)


def v_vp_to_v(v_vp: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return norm(t, fn) * v_vp


def v_vp_to_score(v_vp: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (t * x_t + (1.0 - t) * norm(t, fn) * v_vp) / -(((1.0 - t) * (1.0 - t) + t * t) * fn.maximum(t, 1e-6))


# The state at one noise level on other paths. A formula of one array is called with it twice, and uses the first.


def rf_to_vp(x: Any, _: Any, t: Any, fn: Functions) -> Any:
    return x / norm(t, fn)


def rf_to_ve(x: Any, _: Any, t: Any, fn: Functions) -> Any:
    return x / fn.maximum(1.0 - t, 1e-6)


def vp_to_rf(x: Any, _: Any, t: Any, fn: Functions) -> Any:
    return norm(t, fn) * x


def vp_to_ve(x: Any, _: Any, t: Any, fn: Functions) -> Any:
    return norm(t, fn) * x / fn.maximum(1.0 - t, 1e-6)


def ve_to_rf(x: Any, _: Any, t: Any, fn: Functions) -> Any:
    return (1.0 - t) * x


def ve_to_vp(x: Any, _: Any, t: Any, fn: Functions) -> Any:
    return (1.0 - t) * x / norm(t, fn)


@dataclass(frozen=True)
class Shift:
    """The shift as a formula that is linear in its second array, t, with a coefficient that depends on the time, t."""

    shift: float

    def __call__(self, first: Any, second: Any, t: Any, fn: Functions) -> Any:
        return self.shift * second / (1 + (self.shift - 1) * t if self.shift >= 1 else self.shift * t + (1.0 - t))


KINDS = get_args(PredictionType)
CONVERSIONS: dict[tuple[PredictionType, PredictionType], Formula] = {
    ("x0", "eps"): x0_to_eps,
    ("x0", "flow"): x0_to_flow,
    ("x0", "v"): x0_to_v,
    ("x0", "score"): x0_to_score,
    ("eps", "x0"): noise_to_x0,
    ("eps", "flow"): eps_to_flow,
    ("eps", "v"): eps_to_v,
    ("eps", "score"): eps_to_score,
    ("flow", "x0"): flow_to_x0,
    ("flow", "eps"): flow_to_eps,
    ("flow", "v"): flow_to_v,
    ("flow", "score"): flow_to_score,
    ("v", "x0"): v_to_x0,
    ("v", "eps"): v_to_eps,
    ("v", "flow"): v_to_flow,
    ("v", "score"): v_to_score,
    ("score", "x0"): score_to_x0,
    ("score", "eps"): score_to_eps,
    ("score", "flow"): score_to_flow,
    ("score", "v"): score_to_v,
    ("x0", "v_vp"): x0_to_v_vp,
    ("eps", "v_vp"): eps_to_v_vp,
    ("flow", "v_vp"): flow_to_v_vp,
    ("v", "v_vp"): v_to_v_vp,
    ("score", "v_vp"): score_to_v_vp,
    ("v_vp", "x0"): v_vp_to_x0,
    ("v_vp", "eps"): v_vp_to_eps,
    ("v_vp", "flow"): v_vp_to_flow,
    ("v_vp", "v"): v_vp_to_v,
    ("v_vp", "score"): v_vp_to_score,
}

STATES = get_args(StatePath)
RESCALINGS: dict[tuple[StatePath, StatePath], Formula] = {
    ("rf", "vp"): rf_to_vp,
    ("rf", "ve"): rf_to_ve,
    ("vp", "rf"): vp_to_rf,
    ("vp", "ve"): vp_to_ve,
    ("ve", "rf"): ve_to_rf,
    ("ve", "vp"): ve_to_vp,
}


# A noise level is the ratio alpha : sigma. Each label of it gives a pair (alpha, sigma) up to a scale that keeps the
# larger about 1, and is read off such a pair: no digit cancels on the way from one label to another. What an
# infinite label would subtract from itself, or divide by itself, is bounded first. Some conversions have a formula
# without a pair, because a pair loses digits or a slope there; they follow below.

# The spacing of float32 at pi/2. Only float32 rounds pi/2 up; float64, float16 and bfloat16 round it down.
ROUNDING = 2.0**-23


def clipped_angle(angle: Any, xp: Any) -> Any:
    """Angle clipped to [0, pi/2]: up to ROUNDING outside it keeps the slope of the end, beyond the slope is 0."""
    near = xp.clip(angle, -ROUNDING, pi / 2 + ROUNDING)
    # The excess is a multiple of 2**-120 unless an angle is within 1e-20 of 0. Behind floor it has no slope.
    excess = near - xp.clip(near, 0.0, pi / 2)
    return near - xp.floor(excess * 2.0**120) * 2.0**-120


def pair_of_rf(t: Any, fn: Functions) -> tuple[Any, Any]:
    return 1 - t, t


def pair_of_angle(angle: Any, fn: Functions) -> tuple[Any, Any]:
    angle = clipped_angle(angle, fn.xp)
    return fn.xp.cos(angle), fn.xp.sin(angle)


def pair_of_sigma(sigma: Any, fn: Functions) -> tuple[Any, Any]:
    bounded = -fn.maximum(-sigma, -1e30)
    return 1 / fn.maximum(sigma, 1.0), bounded / fn.maximum(bounded, 1.0)


def pair_of_log_snr(log_snr: Any, fn: Functions) -> tuple[Any, Any]:
    bounded = -fn.maximum(-log_snr, -1e30)
    return fn.xp.exp((bounded - fn.maximum(bounded, 0.0)) / 2), fn.xp.exp(-fn.maximum(log_snr, 0.0) / 2)


def pair_of_alpha_bar(alpha_bar: Any, fn: Functions) -> tuple[Any, Any]:
    return fn.sqrt(alpha_bar), fn.sqrt(1 - alpha_bar)


def rf_of_pair(alpha: Any, sigma: Any, fn: Functions) -> Any:
    return sigma / (alpha + sigma)


def angle_of_pair(alpha: Any, sigma: Any, fn: Functions) -> Any:
    return fn.xp.atan2(sigma, alpha)


def sigma_of_pair(alpha: Any, sigma: Any, fn: Functions) -> Any:
    return sigma / alpha


def log_snr_of_pair(alpha: Any, sigma: Any, fn: Functions) -> Any:
    return 2 * (fn.xp.log(alpha) - fn.xp.log(sigma))


def alpha_bar_of_pair(alpha: Any, sigma: Any, fn: Functions) -> Any:
    return alpha * alpha / (alpha * alpha + sigma * sigma)


# Conversions without a pair. A log_snr of 0 is subtracted from 0.0, since its negative would be -0.0.


def log_odds_against(p: Any, xp: Any) -> Any:
    """``log((1 - p) / p)``: near p = 1/2 as ``2 atanh(1 - 2 p)``, because 1 - 2 p is exact there."""
    difference = 1 - 2 * p
    # Elsewhere atanh gets 0: its infinite slope at an end would make NaN. XLA's atanh loses digits from 0.29 on.
    middle = xp.where(xp.abs(difference) < 0.25, difference, 0.0)
    return xp.where(middle == 0, xp.log(1 - p) - xp.log(p), 2 * xp.atanh(middle))


def rf_to_log_snr(t: Any, fn: Functions) -> Any:
    return 2 * log_odds_against(t, fn.xp)


def alpha_bar_to_log_snr(alpha_bar: Any, fn: Functions) -> Any:
    return 0.0 - log_odds_against(alpha_bar, fn.xp)


def sigma_to_log_snr(sigma: Any, fn: Functions) -> Any:
    return 0.0 - 2 * fn.xp.log(sigma)


def log_snr_to_sigma(log_snr: Any, fn: Functions) -> Any:
    return fn.xp.exp(-log_snr / 2)


def alpha_bar_to_rf(alpha_bar: Any, fn: Functions) -> Any:
    # sigma / (alpha + sigma). At alpha_bar = 1 sigma is 0 with an infinite slope, and the slope of the quotient has
    # their product if the denominator has that slope, too. The floor is below every other 1 - alpha_bar.
    return fn.sqrt(1 - alpha_bar) / (fn.sqrt(alpha_bar) + fn.sqrt(fn.maximum(1 - alpha_bar, 1e-30)))


@dataclass(frozen=True)
class Relabelling:
    """One label of a noise level as another, by way of a pair."""

    pair: PairOfLabel
    label: LabelOfPair

    def __call__(self, time: Any, fn: Functions) -> Any:
        alpha, sigma = self.pair(time, fn)
        return self.label(alpha, sigma, fn)


TIMES = get_args(TimeParameterization)
LABELS: dict[TimeParameterization, tuple[PairOfLabel, LabelOfPair]] = {
    "rf": (pair_of_rf, rf_of_pair),
    "angle": (pair_of_angle, angle_of_pair),
    "sigma": (pair_of_sigma, sigma_of_pair),
    "log_snr": (pair_of_log_snr, log_snr_of_pair),
    "alpha_bar": (pair_of_alpha_bar, alpha_bar_of_pair),
}
RELABELLINGS: dict[tuple[str, str], TimeMap] = {
    (source, target): Relabelling(LABELS[source][0], LABELS[target][1]) for source, target in permutations(LABELS, 2)
} | {
    ("rf", "log_snr"): rf_to_log_snr,
    ("sigma", "log_snr"): sigma_to_log_snr,
    ("log_snr", "sigma"): log_snr_to_sigma,
    ("alpha_bar", "rf"): alpha_bar_to_rf,
    ("alpha_bar", "log_snr"): alpha_bar_to_log_snr,
}

"""Exact values in 60 digits, worked out from the definitions in the papers: what NumPy's results are compared with.

Nothing here uses the library's formulas. A prediction is a combination of x_0 and eps, so a conversion solves two
equations in two unknowns. A noise level is the ratio sigma / alpha. A timestep distribution is its CDF and the inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np

mp = mpmath.mp.clone()
mp.dps = 60
FLOOR = mp.mpf(1e-6)  # the least divisor, as a float64


# Predictions: the coefficients of x_0 and eps, at time t

PREDICTIONS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "x0": lambda t: (mp.mpf(1), mp.mpf(0)),
    "eps": lambda t: (mp.mpf(0), mp.mpf(1)),
    "flow": lambda t: (mp.mpf(-1), mp.mpf(1)),
    "v": lambda t: (-t, 1 - t),
    "v_vp": lambda t: (-t / mp.hypot(1 - t, t), (1 - t) / mp.hypot(1 - t, t)),
    "score": lambda t: (mp.mpf(0), -1 / t),
}


def solved(pred: Any, x_t: Any, t: Any, source: str) -> tuple[Any, Any]:
    """The x_0 and eps that a prediction and the noisy sample x_t at time t imply."""
    p, q = PREDICTIONS[source](t)
    determinant = (1 - t) * q - t * p
    return (q * x_t - t * pred) / determinant, ((1 - t) * pred - p * x_t) / determinant


def prediction(pred: Any, x_t: Any, t: Any, source: str, target: str) -> Any:
    """A prediction of one type as another."""
    x0, eps = solved(pred, x_t, t, source)
    r, s = PREDICTIONS[target](t)
    return r * x0 + s * eps


def step(pred: Any, x_t: Any, t: Any, t_next: Any, source: str) -> Any:
    """The noisy sample at t_next that has the same x_0 and eps."""
    x0, eps = solved(pred, x_t, t, source)
    return (1 - t_next) * x0 + t_next * eps


# Noisy samples: the scale of alpha x_0 + sigma eps relative to alpha + sigma = 1

SCALES: dict[str, Callable[[Any], Any]] = {
    "rf": lambda t: mp.mpf(1),
    "vp": lambda t: 1 / mp.hypot(1 - t, t),
    "ve": lambda t: 1 / (1 - t),
}

# Time parameterizations: the ratio sigma / alpha of each, and each as a function of that ratio

RATIO: dict[str, Callable[[Any], Any]] = {
    "rf": lambda t: t / (1 - t),
    "angle": lambda angle: mp.tan(angle),
    "sigma": lambda sigma: sigma,
    "log_snr": lambda log_snr: mp.exp(-log_snr / 2),
    "alpha_bar": lambda alpha_bar: mp.sqrt((1 - alpha_bar) / alpha_bar),
}
TIME: dict[str, Callable[[Any], Any]] = {
    "rf": lambda ratio: ratio / (1 + ratio),
    "angle": lambda ratio: mp.atan(ratio),
    "sigma": lambda ratio: ratio,
    "log_snr": lambda ratio: -2 * mp.log(ratio),
    "alpha_bar": lambda ratio: 1 / (1 + ratio**2),
}


def shift(t: Any, factor: Any) -> Any:
    """Multiply the odds t / (1 - t) by ``factor``."""
    return factor * t / (1 + (factor - 1) * t)


# Timestep distributions: CDF and inverse CDF on their natural support


def logit(t: Any) -> Any:
    return mp.log(t / (1 - t))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def normal_quantile(u: Any) -> Any:
    if u == 0 or u == 1:
        return mp.inf if u else -mp.inf
    return mp.sqrt(2) * mp.erfinv(2 * u - 1)


def _mode(u: Any, c: Any) -> Any:
    return u - c.mode_scale * (mp.sin(mp.pi * u / 2) ** 2 - u)


def _mode_cdf(t: Any, c: Any) -> Any:
    low, high = mp.mpf(0), mp.mpf(1)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _mode(middle, c) < t else (low, middle)
    return (low + high) / 2


class Distribution(NamedTuple):
    """A timestep distribution on its natural support."""

    cdf: Any
    quantile: Callable[[Any, Any], Any]
    shifts: bool = False
    """Whether the published form scales, then shifts, then clamps."""
    bounded: bool = False
    """Whether the published form is conditioned on [min_t, max_t] already."""
    discrete: bool = False
    """Whether it has no density."""


DISTRIBUTIONS = {
    "uniform": Distribution(lambda t, c: t, lambda u, c: u),
    "logitnormal": Distribution(
        lambda t, c: mp.ncdf((logit(t) - c.p_mean) / c.p_std),
        lambda u, c: sigmoid(normal_quantile(u) * c.p_std + c.p_mean),
    ),
    "lognormal": Distribution(
        lambda t, c: mp.ncdf((mp.log(t) - c.p_mean) / c.p_std) if t else mp.mpf(0),
        lambda u, c: mp.exp(normal_quantile(u) * c.p_std + c.p_mean),
        bounded=True,
    ),
    "shifted": Distribution(
        lambda t, c: shift(t, 1 / mp.mpf(c.shift)), lambda u, c: shift(u, mp.mpf(c.shift)), shifts=True
    ),
    "polynomial": Distribution(
        None, lambda u, c: mp.mpf(c.min_t) + mp.floor(u * 1000) * (mp.mpf(c.max_t) - c.min_t) / 999, discrete=True
    ),
    "shifted_logitnormal": Distribution(
        lambda t, c: mp.ncdf((logit(shift(t, 1 / mp.mpf(c.shift))) - c.p_mean) / c.p_std),
        lambda u, c: shift(sigmoid(normal_quantile(u) * c.p_std + c.p_mean), mp.mpf(c.shift)),
        shifts=True,
    ),
    "mode": Distribution(_mode_cdf, _mode),
    "cosmap": Distribution(
        lambda t, c: 2 / mp.pi * mp.atan(t / (1 - t)), lambda u, c: 1 - 1 / (mp.tan(mp.pi * u / 2) + 1)
    ),
    "beta": Distribution(
        lambda t, c: t ** mp.mpf(c.beta_a) if c.beta_b == 1 else 1 - (1 - t) ** mp.mpf(c.beta_b),
        lambda u, c: u ** (1 / mp.mpf(c.beta_a)) if c.beta_b == 1 else 1 - (1 - u) ** (1 / mp.mpf(c.beta_b)),
    ),
    "loguniform": Distribution(lambda t, c: mp.log(t), lambda u, c: mp.exp(u), bounded=True),
}
_BASE = {"shifted": "uniform", "shifted_logitnormal": "logitnormal"}  # of the published forms that shift


def _limit(cdf: Callable[[Any, Any], Any], t: float, c: Any) -> Any:
    """The CDF at a bound, where that may be 0 or 1."""
    if t == 0 and c.time_dist_type != "loguniform":
        return mp.mpf(0)
    return mp.mpf(1) if t == 1 and c.time_dist_type not in ("lognormal", "loguniform") else cdf(mp.mpf(t), c)


def quantile(u: Any, c: Any) -> Any:
    """t of config ``c`` at ``u``, clamped to [min_t, max_t]."""
    published = DISTRIBUTIONS[c.time_dist_type]
    low, high = mp.mpf(c.min_t), mp.mpf(c.max_t)
    if published.discrete:
        t = published.quantile(u, c)
    elif c.truncate or published.bounded:
        start, stop = _limit(published.cdf, c.min_t, c), _limit(published.cdf, c.max_t, c)
        t = published.quantile(start + u * (stop - start), c)
    elif published.shifts:
        base = DISTRIBUTIONS[_BASE[c.time_dist_type]]
        t = shift(base.quantile(u, c) * (high - low) + low, mp.mpf(c.shift))
    else:
        t = published.quantile(u, c) * (high - low) + low
    return min(max(t, low), high)


def quantile_slope(u: Any, c: Any) -> Any:
    """Slope of the quantile function where nothing is clamped: one over the density."""
    t = quantile(u, c)
    if not c.min_t < t < c.max_t or not STEP < u < 1 - STEP:
        return mp.mpf(0)
    return slope(lambda v: quantile(v, c), u)


def density(t: Any, c: Any) -> Any:
    """Density of config ``c`` at ``t`` between its bounds: the slope of the CDF."""
    published = DISTRIBUTIONS[c.time_dist_type]
    low, high = mp.mpf(c.min_t), mp.mpf(c.max_t)
    if c.truncate or published.bounded:
        mass = _limit(published.cdf, c.max_t, c) - _limit(published.cdf, c.min_t, c)
        return slope(lambda x: published.cdf(x, c), t) / mass
    return slope(lambda x: published.cdf((x - low) / (high - low), c), t)


def around_quotients(k: int) -> tuple[Any, Any]:
    """The float64 quotients i / k in [0, 1] and their neighbors, and how many of 1/k to (k-1)/k are at most each."""
    quotients = np.array([i / k for i in range(k + 1)])
    u = np.concatenate([quotients, np.nextafter(quotients, -1.0)[1:], np.nextafter(quotients, 2.0)[:-1]])
    return u, np.searchsorted(quotients[1:-1], u, side="right")


# Elementwise evaluation, and derivatives as differences of exact values

STEP = mp.mpf(10) ** -18  # central differences in 60 digits: right to 36 digits relative to the third derivative


def slope(function: Callable[[Any], Any], x: Any) -> Any:
    return (function(x + STEP) - function(x - STEP)) / (2 * STEP)


def partial(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Derivative of a function of several numbers for the one at position ``at``."""
    return lambda *x: slope(lambda moved: function(*x[:at], moved, *x[at + 1 :]), x[at])


def laid_out(arrays: list[Any]) -> list[Any]:
    """Arrays of one shape: a time gets trailing axes and is repeated along them."""
    rank = max(np.ndim(x) for x in arrays)
    return list(np.broadcast_arrays(*(np.reshape(x, np.shape(x) + (1,) * (rank - np.ndim(x))) for x in arrays)))


def elementwise(function: Callable[..., Any], arrays: list[Any]) -> Any:
    """``function`` of the numbers of each element, as an array of 60-digit numbers; NaN where it is not defined."""
    flat = [[mp.mpf(float(value)) for value in x.ravel()] for x in laid_out(arrays)]
    values = np.empty(len(flat[0]), dtype=object)
    values[:] = [_or_nan(function, numbers) for numbers in zip(*flat, strict=True)]
    return values.reshape(laid_out(arrays)[0].shape)


def _or_nan(function: Callable[..., Any], numbers: tuple[Any, ...]) -> Any:
    try:
        return function(*numbers)
    except (ZeroDivisionError, ValueError):  # a division by 0 or the logarithm of 0
        return mp.nan


# Rounding

PRECISION = {  # bits of the significand, exponents of the least normal number and of the largest power of two
    "float64": (53, -1022, 1023),
    "float32": (24, -126, 127),
    "bfloat16": (8, -126, 127),
    "float16": (11, -14, 15),
}


def ulp(value: Any, dtype: str) -> Any:
    """Distance between the numbers of ``dtype`` around ``value``."""
    bits, least, _ = PRECISION[dtype]
    exponent = int(mp.frexp(value)[1]) - 1 if value else least
    return mp.ldexp(1, max(exponent, least) - bits + 1)


def assert_rounded(got: Any, exact: Any, slack: Any, dtype: str, ulps: float = 0.5) -> None:
    """Compare results with exact values: each within half a unit in the last place of ``dtype`` (or ``ulps``).

    ``slack`` is what float64 loses on the way to the one rounding. A 16-bit dtype may be reached through float32, which
    moves its ties by 2**-13 units. Where an exact value is NaN, nothing is known, and nothing is compared.
    """
    bits, _, most = PRECISION[dtype]
    largest = mp.ldexp(2 - mp.ldexp(1, 1 - bits), most)
    host = np.asarray(got, dtype=np.float64)
    if host.shape != exact.shape:
        raise AssertionError(f"shape {host.shape} instead of {exact.shape}")
    slacks = np.broadcast_to(np.asarray(slack, dtype=object), exact.shape)
    for at in np.ndindex(exact.shape):
        wanted, value = exact[at], mp.mpf(float(host[at]))
        if mp.isnan(wanted) or value == wanted:
            continue
        if mp.isinf(wanted):
            raise AssertionError(f"at {at}: got {host[at]!r} instead of {wanted}")
        allowed = ulps * ulp(wanted, dtype) * (1 + mp.ldexp(1, bits - 23 if bits < 24 else -20)) + slacks[at]
        overflows = abs(wanted) + allowed > largest and mp.isinf(value) and (value > 0) == (wanted > 0)
        if not (overflows or abs(value - wanted) <= allowed):
            raise AssertionError(f"at {at}: got {host[at]!r}, exact {mp.nstr(wanted, 20)}, off by more than {allowed}")

"""The timestep laws: each one's quantile function and density, between any two bounds, for any framework.

A law lives on its natural support, (0, 1) for most. ``quantile(u, c, low, high, xp, special)`` is the inverse CDF of
the law conditioned on ``[low, high]``, ``density(t, rest, c, low, high, xp)`` its density at t, ``rest`` being
``1 - t`` free of cancellation. :func:`quantile` and :func:`density` then place a law on ``[min_t, max_t]`` as its
config asks: scaled, clamped or conditioned. What depends on the config alone is computed in Python floats, from the
nearer tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastgen_rf._typing import TimeDistType

__all__ = ["LAWS", "clamped", "density", "quantile", "shifted"]


@dataclass(frozen=True)
class Law:
    """A law conditioned on any bounds, and how it comes to ``[min_t, max_t]`` where it is not truncated."""

    quantile: Callable[..., Any]
    density: Callable[..., Any] | None
    shifts: Callable[..., Any] | None = None
    """Quantile of the law that is scaled, then shifted, then clamped; None: the law itself is scaled."""
    bounded: bool = False
    """Whether ``[min_t, max_t]`` is the law's own support, so that there is nothing to scale."""
    uses: tuple[str, ...] = ()
    """The config's fields, besides the bounds, that the law has a use for."""


def quantile(u: Any, c: Any, xp: Any, special: Any) -> Any:
    """Return t of config ``c`` at ``u`` in [0, 1], before it is clamped to the bounds."""
    law = LAWS[c.time_dist_type]
    if _fills_bounds(c):
        return law.quantile(u, c, c.min_t, c.max_t, xp, special)
    t = (law.shifts or law.quantile)(u, c, 0.0, 1.0, xp, special) * (c.max_t - c.min_t) + c.min_t
    return shifted(t, c.shift) if law.shifts else t


def _fills_bounds(c: Any) -> bool:
    """Whether the law is taken on ``[min_t, max_t]`` as its support, so that nothing is scaled, shifted and clamped."""
    return c.truncate or LAWS[c.time_dist_type].bounded


def clamped(x: Any, low: float, high: float, xp: Any) -> Any:
    """Return ``x`` clipped to ``[low, high]``, with derivative 1 at both bounds."""
    return xp.where(x < low, low, xp.where(x > high, high, x))


def density(t: Any, c: Any, xp: Any) -> Any:
    """Return the density of config ``c``, which has one, at ``t``: 0 outside its bounds, NaN at NaN."""
    law = LAWS[c.time_dist_type]
    evaluate: Any = law.density
    inside = clamped(t, c.min_t, c.max_t, xp)
    if _fills_bounds(c):
        value = evaluate(inside, 1 - inside, c, c.min_t, c.max_t, xp)
    else:
        width = c.max_t - c.min_t
        value = evaluate((inside - c.min_t) / width, (c.max_t - inside) / width, c, 0.0, 1.0, xp) / width
    return xp.where(t == inside, value, 0 * inside)


def shifted(t: Any, shift: Any) -> Any:
    """Return ``shift t / (1 + (shift - 1) t)``; below 1 with a denominator that does not cancel at t = 1."""
    return shift * t / (1 + (shift - 1) * t if shift >= 1 else shift * t + (1 - t))


def _rest(u: Any, xp: Any) -> Any:
    """Return ``1 - u`` behind a select: XLA adds up constants, and ``(1 + 1e-24) - u`` has lost the second."""
    return xp.where(u == u, 1 - u, u)


# Rational and elementary laws


def _uniform(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    return u * (high - low) + low


def _uniform_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    return 0 * t + 1 / (high - low)


def _polynomial(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    return xp.floor(u * 1000) * ((high - low) / 999) + low


def _loguniform(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    return xp.exp(_uniform(u, c, math.log(low), math.log(high), xp, special))


def _loguniform_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    return 1 / (t * (math.log(high) - math.log(low)))


def _shifted(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    start, stop = _unshifted_scale(low, c.shift), _unshifted_scale(high, c.shift)
    width = c.shift * (high - low) / (start * stop)  # of the unshifted bounds low / start and high / stop
    t, rest = low / start + u * width, c.shift * (1 - high) / stop + _rest(u, xp) * width
    return c.shift * t / (c.shift * t + rest)


def _shifted_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    scale = c.shift * rest + t
    return (_unshifted_scale(low, c.shift) / scale) * (_unshifted_scale(high, c.shift) / scale) / (high - low)


def _unshifted_scale(t: float, shift: float) -> float:
    """What t and its rest are divided by where a shift is undone: ``t / (t + shift (1 - t))``."""
    return t + shift * (1 - t)


def _cosmap(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    angle = _uniform(u, c, _cosmap_angle(low), _cosmap_angle(high), xp, special)
    return xp.sin(angle) / (xp.sin(angle) + xp.cos(angle))  # 1 - 1 / (tan(angle) + 1) without its cancellation


def _cosmap_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    return 1 / ((t * t + rest * rest) * (_cosmap_angle(high) - _cosmap_angle(low)))


def _cosmap_angle(t: float) -> float:
    return math.atan2(t, 1 - t)


def _beta(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    """Beta law, one of whose parameters is 1: a power of u, or of 1 - u, taken relative to the farther bound."""
    if c.beta_b == 1:
        left = (low / high) ** c.beta_a
        return high * (left + u * (1 - left)) ** (1 / c.beta_a)
    left = ((1 - high) / (1 - low)) ** c.beta_b
    taken = u * (1 - left)
    inside = taken < 1
    rest = xp.log1p(xp.where(inside, -taken, 0 * u)) / c.beta_b + math.log1p(-low)  # log(1 - t)
    remaining = xp.where(inside, 1.0, left + (1 - u) * (1 - left))
    return xp.where(inside, -xp.expm1(rest), 1 - (1 - low) * remaining ** (1 / c.beta_b))


def _beta_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    if c.beta_b == 1:
        left = (low / high) ** c.beta_a
        return _power(t / high, c.beta_a - 1, xp) * (c.beta_a / (high * (1 - left)))
    left = ((1 - high) / (1 - low)) ** c.beta_b
    return _power(rest / (1 - low), c.beta_b - 1, xp) * (c.beta_b / ((1 - low) * (1 - left)))


def _power(x: Any, exponent: float, xp: Any) -> Any:
    """``x ** exponent`` for x >= 0, at 0 without the warning that NumPy gives."""
    at_0 = math.inf if exponent < 0 else 0.0**exponent
    positive = x > 0
    return xp.where(positive, xp.where(positive, x, 0 * x + 1) ** exponent, 0 * x + at_0)


def _mode(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    start, stop = (_mode_cdf(t, c.mode_scale, math.sin, _choose) for t in (low, high))
    return _mode_map(_uniform(u, c, start, stop, xp, special), c.mode_scale, xp.sin)


def _mode_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    start, stop = (_mode_cdf(bound, c.mode_scale, math.sin, _choose) for bound in (low, high))
    u = _mode_cdf(t, c.mode_scale, xp.sin, xp.where)
    slope = _mode_slope(u, c.mode_scale, xp.sin)
    # Bisection has no derivative. A step of Newton's method, 0 but for the last bit, has the first one right, and a
    # second step those up to the third.
    for _ in range(2):
        step = (_mode_map(u, c.mode_scale, xp.sin) - t) / _mode_slope(u, c.mode_scale, xp.sin)
        u = xp.where(slope > 1e-6, u - step, u)
    return 1 / (_mode_slope(u, c.mode_scale, xp.sin) * (stop - start))


def _mode_map(u: Any, s: float, sin: Any) -> Any:
    half = sin(math.pi / 2 * u)
    return u - s * (half * half - u)


def _mode_slope(u: Any, s: float, sin: Any) -> Any:
    return 1 + s - s * (math.pi / 2) * sin(math.pi * u)


def _mode_cdf(t: Any, s: float, sin: Any, where: Any) -> Any:
    """Invert ``_mode_map`` by bisection: it has no closed inverse, and a slope that may be close to 0."""
    low, high = 0 * t, 0 * t + 1
    for _ in range(56):
        middle = (low + high) / 2
        below = _mode_map(middle, s, sin) < t
        low, high = where(below, middle, low), where(below, high, middle)
    return where(t > 0, where(t < 1, (low + high) / 2, 0 * t + 1), 0 * t)


def _choose(condition: bool, yes: float, no: float) -> float:
    return yes if condition else no


# Laws of a truncated normal variable


def _logitnormal(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    return special.expit(_normal(u, c.p_mean, c.p_std, _logit(low), _logit(high), xp, special))


def _logitnormal_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    return _logit_density(t, rest, c.p_mean, c.p_std, low, high, xp)


def _shifted_logitnormal(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    mean = c.p_mean + math.log(c.shift)  # a shift moves the logit
    return special.expit(_normal(u, mean, c.p_std, _logit(low), _logit(high), xp, special))


def _shifted_logitnormal_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    return _logit_density(t, rest, c.p_mean + math.log(c.shift), c.p_std, low, high, xp)


def _lognormal(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    return xp.exp(_normal(u, c.p_mean, c.p_std, _log(low), _log(high), xp, special))


def _lognormal_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    positive = t > 0
    t = xp.where(positive, t, 0 * t + high)
    value = _normal_density(xp.log(t), c.p_mean, c.p_std, _log(low), _log(high), xp) / t
    return xp.where(positive, value, 0 * t)


def _logit_density(t: Any, rest: Any, mean: float, std: float, low: float, high: float, xp: Any) -> Any:
    interior = (t > 0) & (rest > 0)
    middle = (low + high) / 2
    t, rest = xp.where(interior, t, 0 * t + middle), xp.where(interior, rest, 0 * rest + (1 - middle))
    value = _normal_density(xp.log(t) - xp.log(rest), mean, std, _logit(low), _logit(high), xp) / (t * rest)
    return xp.where(interior, value, 0 * t)


def _log(t: float) -> float:
    return math.log(t) if t > 0 else -math.inf


def _logit(t: float) -> float:
    return _log(t) - (math.log1p(-t) if t < 1 else -math.inf)


_NARROW = 1e-5  # standard deviations; there the density is exponential to 1e-11, and differences of the CDF are not
_FAR = 20.0  # standard deviations; the CDF there is 3e-89, and u times that is still a normal float64


def _normal(u: Any, mean: float, std: float, low: float, high: float, xp: Any, special: Any) -> Any:
    """Quantile of the normal law truncated to ``[low, high]``, relative to the end where the mass is if that is far."""
    a, b, width = (low - mean) / std, (high - mean) / std, (high - low) / std
    if width == math.inf and low == -high:
        return special.ndtri(u) * std + mean
    if b < -_FAR:
        return high - std * _tail_quantile(u, -b, width, xp)
    if a > _FAR:
        return low + std * _tail_quantile(1 - u, a, width, xp)
    if width < _NARROW:
        rate = (a + b) / 2
        if abs(rate * width) < 1e-8:
            return low + u * (high - low)
        return low - xp.log1p(u * math.expm1(-rate * width)) * (std / rate)
    mass = _mass(a, b)
    lower, upper = _cdf(a) + u * mass, _cdf(-b) + _rest(u, xp) * mass  # each exact in its own tail
    in_lower = lower < 0.5
    z = special.ndtri(xp.where(in_lower, lower, upper))
    return xp.where(in_lower, z, -z) * std + mean


def _normal_density(x: Any, mean: float, std: float, low: float, high: float, xp: Any) -> Any:
    """Density of the normal law truncated to ``[low, high]`` at x, relative to the nearer end if that is far."""
    a, b = (low - mean) / std, (high - mean) / std
    if b < -_FAR or a > _FAR:
        end, near = (low, a) if a > _FAR else (high, b)
        step = (x - end) / std
        scale = _mills(abs(near)) * (1 - _left(abs(near), (high - low) / std))
        return xp.exp(-step * (step / 2 + near)) / (std * scale)
    z = (x - mean) / std
    width = (high - low) / std
    if width < _NARROW:
        middle = (a + b) / 2
        mass = 1 + (middle * middle - 1) * width * width / 24  # over the density in the middle times the width
        return xp.exp((middle - z) * (middle + z) / 2) / ((high - low) * mass)
    return xp.exp(-z * z / 2) / (std * math.sqrt(2 * math.pi) * _mass(a, b))


def _cdf(z: float) -> float:
    """Standard normal CDF, accurate in the lower tail."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _mass(a: float, b: float) -> float:
    """Share of the standard normal law in ``[a, b]``, from the nearer tail."""
    return _cdf(-a) - _cdf(-b) if a > 0 else _cdf(b) - _cdf(a)


def _mills(x: Any) -> Any:
    """Upper tail of the normal over its density at x >= 20, by Laplace's continued fraction (DLMF 7.9.2)."""
    fraction = x
    for k in range(12, 0, -1):
        fraction = x + k / fraction
    return 1 / fraction


def _left(x: float, width: float) -> Any:
    """Upper tail of the normal at x + width over that at x; x >= 20."""
    if width == math.inf:
        return 0.0
    return math.exp(-x * width - width * width / 2) * _mills(x + width) / _mills(x)


def _tail_quantile(v: Any, x: float, width: float, xp: Any) -> Any:
    """Distance s past x at which a normal variable truncated to [x, x + width] has upper tail v; x >= 20.

    Solves ``x s + s**2 / 2 + log(mills(x) / mills(x + s)) = -log w`` by Newton's method, with w the upper tail at
    x + s over that at x. Distances from the end of the interval where the mass is do not cancel, however far it lies.
    """
    left = _left(x, width)
    w = v + (1 - v) * left
    positive = w > 0
    energy = -xp.log(xp.where(positive, w, 0 * w + 1))
    s = 2 * energy / (x + xp.sqrt(x * x + 2 * energy))  # exact but for the ratio of Mills ratios
    for _ in range(3):
        mills = _mills(x + s)
        s = s - (x * s + s * s / 2 + xp.log(_mills(x) / mills) - energy) * mills
    return xp.where(positive, s, 0 * w + width)


LAWS: dict[TimeDistType, Law] = {
    "uniform": Law(_uniform, _uniform_density),
    "logitnormal": Law(_logitnormal, _logitnormal_density, uses=("p_mean", "p_std")),
    "lognormal": Law(_lognormal, _lognormal_density, bounded=True, uses=("p_mean", "p_std")),
    "shifted": Law(_shifted, _shifted_density, shifts=_uniform, uses=("shift",)),
    "polynomial": Law(_polynomial, None, bounded=True),
    "shifted_logitnormal": Law(
        _shifted_logitnormal,
        _shifted_logitnormal_density,
        shifts=_logitnormal,
        uses=("shift", "p_mean", "p_std"),
    ),
    "mode": Law(_mode, _mode_density, uses=("mode_scale",)),
    "cosmap": Law(_cosmap, _cosmap_density),
    "beta": Law(_beta, _beta_density, uses=("beta_a", "beta_b")),
    "loguniform": Law(_loguniform, _loguniform_density, bounded=True),
}

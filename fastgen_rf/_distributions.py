"""The timestep distributions: the quantile function and the density of each one, for any framework.

A distribution is defined on its natural support, which is (0, 1) for most. ``quantile(u, c, low, high, xp, special)``
is the inverse CDF of the distribution conditioned on ``[low, high]``. ``density(t, rest, c, low, high, xp)`` is the
density at t, where ``rest`` is ``1 - t``, computed without cancellation. The functions :func:`quantile` and
:func:`density` place a distribution on ``[min_t, max_t]`` as the config ``c`` says: scaled, clamped or conditioned.
Everything that depends on the config alone is computed in Python floats, from the nearer tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastgen_rf._time_maps import shift
from fastgen_rf._tracing import cached
from fastgen_rf._typing import TimeDistType


@dataclass(frozen=True)
class Distribution:
    """The formulas of one distribution, conditioned on any bounds, and how it is placed on ``[min_t, max_t]``."""

    quantile: Callable[..., Any]
    density: Callable[..., Any] | None
    unshifted: TimeDistType | None = None
    """Without truncation: the distribution that is sampled on (0, 1), scaled to the bounds, shifted by ``c.shift`` and
    clamped. If None, this distribution is scaled, and nothing is shifted."""
    bounded: bool = False
    """Whether the natural support is ``[min_t, max_t]``, so that nothing has to be scaled."""
    uses: tuple[str, ...] = ()
    """The fields of the config that the formulas use, in addition to the bounds."""


def quantile(u: Any, c: Any, xp: Any, special: Any) -> Any:
    """Return t of config ``c`` at ``u`` in [0, 1], before it is clamped to the bounds."""
    distribution = DISTRIBUTIONS[c.time_dist_type]
    if _fills_bounds(c):
        return distribution.quantile(u, c, c.min_t, c.max_t, xp, special)
    on_unit_interval = DISTRIBUTIONS[distribution.unshifted or c.time_dist_type].quantile(u, c, 0.0, 1.0, xp, special)
    t = on_unit_interval * (c.max_t - c.min_t) + c.min_t
    return shift(t, c.shift) if distribution.unshifted else t


def _fills_bounds(c: Any) -> bool:
    """Whether the distribution is conditioned on ``[min_t, max_t]``, so that nothing is scaled, shifted and clamped."""
    return c.truncate or DISTRIBUTIONS[c.time_dist_type].bounded


def clamped(x: Any, low: float, high: float, xp: Any) -> Any:
    """Return ``x`` clipped to ``[low, high]``, with derivative 1 at both bounds."""
    return xp.where(x < low, low, xp.where(x > high, high, x))


def density(t: Any, c: Any, xp: Any) -> Any:
    """Return the density of config ``c``, which has one, at ``t``: 0 outside its bounds, NaN at NaN."""
    density_on: Any = DISTRIBUTIONS[c.time_dist_type].density
    inside = clamped(t, c.min_t, c.max_t, xp)
    if _fills_bounds(c):
        value = density_on(inside, 1 - inside, c, c.min_t, c.max_t, xp)
    else:
        width = c.max_t - c.min_t
        value = density_on((inside - c.min_t) / width, (c.max_t - inside) / width, c, 0.0, 1.0, xp) / width
    return xp.where(t == inside, value, 0 * inside)


def _rest(u: Any, xp: Any) -> Any:
    """Return ``1 - u``, protected from XLA, which would turn ``1e-24 + (1 - u)`` into ``(1e-24 + 1) - u``.

    XLA does not move a constant through a select.
    """
    return xp.where(u == u, 1 - u, u)


# Distributions with elementary quantile functions


def _scaled(u: Any, low: float, high: float) -> Any:
    # The draws of most distributions come here with 0 and 1. A sum and a product less save 3 us of 20 on PyTorch.
    return u if (low, high) == (0, 1) else u * (high - low) + low


def _shifted_quantile(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    start, stop = _unshifted_scale(low, c.shift), _unshifted_scale(high, c.shift)
    # Without the shift, the bounds are low / start and high / stop. This is the distance between them.
    width = c.shift * (high - low) / (start * stop)
    t, rest = low / start + u * width, c.shift * (1 - high) / stop + _rest(u, xp) * width
    return c.shift * t / (c.shift * t + rest)


def _shifted_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    scale = c.shift * rest + t
    return (_unshifted_scale(low, c.shift) / scale) * (_unshifted_scale(high, c.shift) / scale) / (high - low)


def _unshifted_scale(t: float, shift: float) -> float:
    """Denominator of the inverse of a shift: ``t / (t + shift (1 - t))``."""
    return t + shift * (1 - t)


def _cosmap_quantile(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    angle = _scaled(u, _cosmap_angle(low), _cosmap_angle(high))
    # This is 1 - 1 / (tan(angle) + 1) without its cancellation.
    return xp.sin(angle) / (xp.sin(angle) + xp.cos(angle))


def _cosmap_angle(t: float) -> float:
    return math.atan2(t, 1 - t)


def _beta_quantile(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    """Quantile of a beta distribution with one parameter equal to 1: a power of u, or of 1 - u.

    Both powers are taken relative to the farther bound, so that the result does not cancel.
    """
    if c.beta_b == 1:
        left = (low / high) ** c.beta_a
        return high * (left + u * (1 - left)) ** (1 / c.beta_a)
    left = ((1 - high) / (1 - low)) ** c.beta_b
    taken = u * (1 - left)
    # At u = 1 if 1 - high is tiny. NaN stays NaN.
    at_end = taken >= 1
    rest = xp.log1p(xp.where(at_end, 0 * u, -taken)) / c.beta_b + math.log1p(-low)  # log(1 - t)
    return xp.where(at_end, high, -xp.expm1(rest))


def _beta_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    if c.beta_b == 1:
        left = (low / high) ** c.beta_a
        return _power(t / high, c.beta_a - 1, xp) * (c.beta_a / (high * (1 - left)))
    left = ((1 - high) / (1 - low)) ** c.beta_b
    return _power(rest / (1 - low), c.beta_b - 1, xp) * (c.beta_b / ((1 - low) * (1 - left)))


def _power(x: Any, exponent: float, xp: Any) -> Any:
    """Return ``x ** exponent`` for x >= 0, without NumPy's warning at 0."""
    at_0 = math.inf if exponent < 0 else 0.0**exponent
    positive = x > 0
    return xp.where(positive, xp.where(positive, x, 0 * x + 1) ** exponent, 0 * x + at_0)


def _mode_quantile(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    start, stop = _mode_ends(c.mode_scale, low, high)
    return _mode_map(_scaled(u, start, stop), c.mode_scale, xp.sin)


def _mode_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    start, stop = _mode_ends(c.mode_scale, low, high)
    u = _mode_cdf(t, c.mode_scale, xp.sin, xp.where)
    slope = _mode_slope(u, c.mode_scale, xp.sin)
    # Bisection has no derivative. A step of Newton's method changes at most the last bit of u, but it has the right
    # first derivative. After a second step the derivatives up to the third are right.
    for _ in range(2):
        step = (_mode_map(u, c.mode_scale, xp.sin) - t) / _mode_slope(u, c.mode_scale, xp.sin)
        u = xp.where(slope > 1e-6, u - step, u)
    return 1 / (_mode_slope(u, c.mode_scale, xp.sin) * (stop - start))


def _mode_map(u: Any, s: float, sin: Any) -> Any:
    half = sin(math.pi / 2 * u)
    return u - s * (half * half - u)


def _mode_slope(u: Any, s: float, sin: Any) -> Any:
    return 1 + s - s * (math.pi / 2) * sin(math.pi * u)


def _mode_cdf(t: Any, s: float, sin: Any = math.sin, where: Any = lambda when, yes, no: yes if when else no) -> Any:
    """Invert ``_mode_map`` by bisection, because it has no closed inverse and its slope may be close to 0.

    ``t`` is a Python float, with the default functions, or an array.
    """
    low, high = 0 * t, 0 * t + 1
    for _ in range(56):
        middle = (low + high) / 2
        below = _mode_map(middle, s, sin) < t
        low, high = where(below, middle, low), where(below, high, middle)
    return where(t > 0, where(t < 1, (low + high) / 2, 0 * t + 1), 0 * t)


# Two bisections take 25 us, as long as the rest of a small draw.
@cached
def _mode_ends(s: float, low: float, high: float) -> tuple[float, float]:
    return _mode_cdf(low, s), _mode_cdf(high, s)


# Distributions of a truncated normal variable


def _logitnormal(mean: Callable[[Any], float], **placement: Any) -> Distribution:
    """Make a logit-normal distribution: logit(t) is normal with this mean and the standard deviation ``p_std``."""

    def quantile(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
        return special.expit(_normal(u, mean(c), c.p_std, _logit(low), _logit(high), xp, special))

    def density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
        interior = (t > 0) & (rest > 0)
        middle = (low + high) / 2
        t, rest = xp.where(interior, t, 0 * t + middle), xp.where(interior, rest, 0 * rest + (1 - middle))
        value = _normal_density(xp.log(t) - xp.log(rest), mean(c), c.p_std, _logit(low), _logit(high), xp)
        return xp.where(interior, value / (t * rest), 0 * t)

    return Distribution(quantile, density, **placement)


def _lognormal_quantile(u: Any, c: Any, low: float, high: float, xp: Any, special: Any) -> Any:
    return xp.exp(_normal(u, c.p_mean, c.p_std, _log(low), _log(high), xp, special))


def _lognormal_density(t: Any, rest: Any, c: Any, low: float, high: float, xp: Any) -> Any:
    positive = t > 0
    t = xp.where(positive, t, 0 * t + high)
    value = _normal_density(xp.log(t), c.p_mean, c.p_std, _log(low), _log(high), xp) / t
    return xp.where(positive, value, 0 * t)


def _log(t: float) -> float:
    return math.log(t) if t > 0 else -math.inf


def _logit(t: float) -> float:
    return _log(t) - (math.log1p(-t) if t < 1 else -math.inf)


# In an interval that is narrower than this, in standard deviations, the density is exponential to 1e-11, while
# differences of the CDF cancel.
_NARROW = 1e-5
# Beyond this number of standard deviations a separate formula computes the tail. Here the CDF is 3e-89, and u times
# that is still a normal float64.
_FAR = 20.0


def _normal(u: Any, mean: float, std: float, low: float, high: float, xp: Any, special: Any) -> Any:
    """Quantile of the normal distribution truncated to ``[low, high]``.

    If the interval lies far in a tail, the quantile is computed relative to the end that has most of the probability.
    """
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
    # The CDF and the upper tail at the quantile. Each is accurate in its own tail, and the smaller one is inverted.
    lower, upper = _cdf(a) + u * mass, _cdf(-b) + _rest(u, xp) * mass
    in_lower = lower < 0.5
    z = special.ndtri(xp.where(in_lower, lower, upper))
    return xp.where(in_lower, z, -z) * std + mean


def _normal_density(x: Any, mean: float, std: float, low: float, high: float, xp: Any) -> Any:
    """Density at x of the normal distribution truncated to ``[low, high]``.

    If the interval lies far in a tail, the density is computed relative to the end that is nearer to the mean.
    """
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
        # The probability of the interval, divided by its width and by the density in its middle.
        mass = 1 + (middle * middle - 1) * width * width / 24
        return xp.exp((middle - z) * (middle + z) / 2) / ((high - low) * mass)
    return xp.exp(-z * z / 2) / (std * math.sqrt(2 * math.pi) * _mass(a, b))


def _cdf(z: float) -> float:
    """Standard normal CDF, accurate in the lower tail."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _mass(a: float, b: float) -> float:
    """Probability of ``[a, b]`` under the standard normal distribution, from the nearer tail."""
    return _cdf(-a) - _cdf(-b) if a > 0 else _cdf(b) - _cdf(a)


def _mills(x: Any) -> Any:
    """Upper tail of the standard normal distribution divided by its density, at x >= 20.

    This is Laplace's continued fraction (https://dlmf.nist.gov/7.9#E2).
    """
    fraction = x
    for k in range(12, 0, -1):
        fraction = x + k / fraction
    return 1 / fraction


def _left(x: float, width: float) -> Any:
    """Upper tail of the standard normal distribution at x + width divided by that at x, for x >= 20."""
    return math.exp(-x * width - width * width / 2) * _mills(x + width) / _mills(x)


def _tail_quantile(v: Any, x: float, width: float, xp: Any) -> Any:
    """Distance s from x at which a standard normal variable truncated to [x, x + width] has upper tail v; x >= 20.

    Newton's method solves ``x s + s**2 / 2 + log(mills(x) / mills(x + s)) = -log w``, where w is the upper tail at
    x + s divided by that at x. Most of the probability is next to x, and a distance from x does not cancel, however
    large x is.
    """
    left = _left(x, width)
    w = v + (1 - v) * left
    positive = w > 0
    energy = -xp.log(xp.where(positive, w, 0 * w + 1))
    # The first guess solves the equation without the logarithm of the ratio.
    s = 2 * energy / (x + xp.sqrt(x * x + 2 * energy))
    for _ in range(3):
        mills = _mills(x + s)
        s = s - (x * s + s * s / 2 + xp.log(_mills(x) / mills) - energy) * mills
    return xp.where(positive, s, 0 * w + width)


DISTRIBUTIONS: dict[TimeDistType, Distribution] = {
    "uniform": Distribution(
        lambda u, c, low, high, xp, special: _scaled(u, low, high),
        lambda t, rest, c, low, high, xp: 0 * t + 1 / (high - low),
    ),
    "logitnormal": _logitnormal(lambda c: c.p_mean, uses=("p_mean", "p_std")),
    "lognormal": Distribution(_lognormal_quantile, _lognormal_density, bounded=True, uses=("p_mean", "p_std")),
    "shifted": Distribution(_shifted_quantile, _shifted_density, unshifted="uniform", uses=("shift",)),
    "polynomial": Distribution(
        lambda u, c, low, high, xp, special: xp.floor(u * 1000) * ((high - low) / 999) + low, None, bounded=True
    ),
    # A shift of t adds log(shift) to the logit of t.
    "shifted_logitnormal": _logitnormal(
        lambda c: c.p_mean + math.log(c.shift), unshifted="logitnormal", uses=("shift", "p_mean", "p_std")
    ),
    "mode": Distribution(_mode_quantile, _mode_density, uses=("mode_scale",)),
    "cosmap": Distribution(
        _cosmap_quantile,
        lambda t, rest, c, low, high, xp: 1 / ((t * t + rest * rest) * (_cosmap_angle(high) - _cosmap_angle(low))),
    ),
    "beta": Distribution(_beta_quantile, _beta_density, uses=("beta_a", "beta_b")),
    "loguniform": Distribution(
        lambda u, c, low, high, xp, special: xp.exp(_scaled(u, math.log(low), math.log(high))),
        lambda t, rest, c, low, high, xp: 1 / (t * (math.log(high) - math.log(low))),
        bounded=True,
    ),
}

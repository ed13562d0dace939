"""Training timesteps: the config, one inverse CDF per law, and the two samplers.

A law is its quantile function ``t = Q(u)``, written once; a backend supplies ``u``, uniform on (0, 1) in float64, and
the special functions of ``u``. What depends on the config alone is computed here in Python floats. Whatever the law and
dtype, ``t`` is bounded in float64 by the outermost values of that dtype inside ``[min_t, max_t]``.
"""

from __future__ import annotations

import itertools
import math
import numbers
from dataclasses import dataclass, fields
from typing import Any

from fastgen_rf._evaluate import floating_backend
from fastgen_rf._typing import ArrayT, Law
from fastgen_rf.backends import Backend, backend_for_draws

__all__ = ["SampleTimestepConfig", "quantile", "sample_from_t_list", "sample_timesteps"]


@dataclass(frozen=True)
class SampleTimestepConfig:
    """The law of the training timesteps, with the fields of ``modelopt.torch.fastgen``'s class of that name.

    Frozen and hashable, so it serves as a static argument of ``jax.jit``. Writing ``U`` for a uniform and ``Z`` for a
    standard normal variable:

    =================== =====================================================================================
    ``time_dist_type``  t
    =================== =====================================================================================
    ``"uniform"``       ``U (max_t - min_t) + min_t``
    ``"logitnormal"``   ``sigmoid(Z p_std + p_mean) (max_t - min_t) + min_t`` (SD3, Flux)
    ``"lognormal"``     ``exp(Z p_std + p_mean)`` truncated to ``[min_t, max_t]``
    ``"shifted"``       ``u = U (max_t - min_t) + min_t``, then ``shift u / (1 + (shift - 1) u)`` (Wan 2.2)
    ``"polynomial"``    one of the 1000 points of ``linspace(min_t, max_t, 1000)``
    =================== =====================================================================================

    Parameters
    ----------
    time_dist_type : str
        One of the laws above.
    min_t, max_t : float
        Every t lies in ``[min_t, max_t]``, ``0 <= min_t < max_t <= 1``.
    shift : float
        At least 1; larger values favour noise. Used by ``"shifted"``.
    p_mean, p_std : float
        Mean and (positive) standard deviation of the normal variable of ``"logitnormal"`` and ``"lognormal"``.
    t_list : sequence of float, optional
        The rungs of a multi-step student, strictly descending from at most 1 to 0. Stored as a tuple.

    Raises
    ------
    TypeError
        If a field has the wrong type.
    ValueError
        If a field is out of range.

    Examples
    --------
    >>> SampleTimestepConfig(time_dist_type="logitnormal", t_list=[1.0, 0.5, 0.0]).t_list
    (1.0, 0.5, 0.0)
    """

    time_dist_type: str = "shifted"
    min_t: float = 0.001
    max_t: float = 0.999
    shift: float = 5.0
    p_mean: float = 0.0
    p_std: float = 1.0
    t_list: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.time_dist_type, str) or self.time_dist_type not in _LAWS:
            raise ValueError(f"time_dist_type must be one of {', '.join(_LAWS)}, got {self.time_dist_type!r}")
        for name in ("min_t", "max_t", "shift", "p_mean", "p_std"):
            _check_finite(getattr(self, name), name)
        if not 0 <= self.min_t < self.max_t <= 1:
            raise ValueError(
                f"min_t and max_t must satisfy 0 <= min_t < max_t <= 1, got {self.min_t!r} and {self.max_t!r}"
            )
        if self.shift < 1:
            raise ValueError(f"shift must be at least 1, got {self.shift!r}")
        if self.p_std <= 0:
            raise ValueError(f"p_std must be positive, got {self.p_std!r}")
        if self.t_list is not None:
            object.__setattr__(self, "t_list", _checked_rungs(self.t_list))


def sample_timesteps(
    n: int,
    cfg: Any,
    *,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
) -> Any:
    """Draw n training timesteps from the law that cfg names: ``t = Q(U)``, U uniform on (0, 1).

    Drawn in float64 by the framework's own generator on its own device, and rounded inward: to the nearest value of
    dtype, or to its neighbour inside where the nearest lies outside ``[min_t, max_t]``.

    Parameters
    ----------
    n : int
        How many; static under ``jax.jit``.
    cfg : SampleTimestepConfig
        The law, or any object with the same seven attributes; static under ``jax.jit``.
    rng : generator, key, int or None
        The framework's own: a ``torch.Generator`` or None (the global one); a JAX key, required and consumed once; a
        ``cupy.random.Generator``, ``RandomState`` or None; a ``numpy.random.Generator``, or None for fresh entropy with
        ``xp=numpy``. An int seeds a fresh generator for this call. A NumPy generator with another framework's xp,
        device or dtype draws on the host and moves the result (a synchronisation), the same stream everywhere.
    xp : namespace, optional
        ``numpy``, ``torch``, ``jax.numpy``, ``cupy`` or another array API namespace, where nothing else names one.
    device : optional
        A device of the framework (for JAX a sharding too) or its name; the generator's or the default one if None.
    dtype : optional
        A real floating dtype of the framework, or NumPy's of the same name; float32 if None.

    Returns
    -------
    array, shape (n,)
        Timesteps in ``[min_t, max_t]`` as real numbers, in every dtype.

    Raises
    ------
    TypeError
        If n is no integer, cfg lacks an attribute, or rng, xp, device and dtype name no framework or two.
    ValueError
        If n is negative, a field of cfg is out of range, rng and device disagree, or dtype has no value in
        ``[min_t, max_t]``.

    Examples
    --------
    >>> cfg = SampleTimestepConfig(time_dist_type="uniform")
    >>> sample_timesteps(3, cfg, rng=np.random.default_rng(0))
    array([0.63668776, 0.27024713, 0.04189158], dtype=float32)
    """
    config = _checked_config(cfg)
    backend, dtype = _resolved(n, rng, xp, device, dtype)
    return backend.sample(n, _bounded(config, backend, dtype), rng, device, dtype)


def sample_from_t_list(
    n: int,
    t_list: Any,
    *,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
) -> Any:
    """Draw n rungs uniformly from ``t_list[:-1]``, the starting times of a multi-step student.

    Parameters
    ----------
    n : int
        How many; static under ``jax.jit``.
    t_list : sequence of float
        At least two rungs, strictly descending from at most 1 to 0.
    rng, xp, device, dtype
        As in :func:`sample_timesteps`.

    Returns
    -------
    array, shape (n,)
        Rungs as dtype rounds them, save that a rung below 1 stays below 1.

    Raises
    ------
    TypeError
        If n is no integer, a rung no number, or rng, xp, device and dtype name no framework or two.
    ValueError
        If n is negative, t_list is not strictly descending to 0 from at most 1, or rng and device disagree.

    Examples
    --------
    >>> sample_from_t_list(4, [1.0, 0.75, 0.5, 0.0], rng=np.random.default_rng(0))
    array([0.75, 1.  , 1.  , 1.  ], dtype=float32)
    """
    rungs = _checked_rungs(t_list)
    backend, dtype = _resolved(n, rng, xp, device, dtype)
    below_one = 1.0 - backend.finfo(dtype)[0] / 2
    rungs = tuple(rung if rung == 1 else min(rung, below_one) for rung in rungs)
    return backend.sample(n, Quantile(_rung, rungs, 0.0, 1.0), rng, device, dtype)


def quantile(u: ArrayT, cfg: Any) -> ArrayT:
    """Invert the law of cfg: the t below which a share u of the timesteps lies, ``t = Q(u)``.

    Parameters
    ----------
    u : real floating array of any shape
        Probabilities in (0, 1), on a device with float64, of NumPy, PyTorch, JAX or CuPy.
    cfg : SampleTimestepConfig
        The law, or any object with the same seven attributes.

    Returns
    -------
    array, the shape of u
        Timesteps in ``[min_t, max_t]``, computed in float64 and rounded inward to u's dtype.

    Raises
    ------
    TypeError
        If u is no real floating array, its framework has no special functions, or its device no float64.
    ValueError
        If a field of cfg is out of range, or u's dtype has no value in ``[min_t, max_t]``.

    Examples
    --------
    >>> quantile(np.array([0.25, 0.5, 0.75]), SampleTimestepConfig(min_t=0.0, max_t=1.0))
    array([0.625     , 0.83333333, 0.9375    ])
    """
    config = _checked_config(cfg)
    backend = floating_backend(u, "u")
    result: ArrayT = backend.invert(_bounded(config, backend, u.dtype), u)
    return result


@dataclass(frozen=True)
class Quantile:
    """A law at one config, bounded: what a backend evaluates, and a static argument under ``jax.jit``."""

    law: Law
    config: Any
    low: float
    high: float

    def __call__(self, u: Any, xp: Any, special: Any) -> Any:
        u = xp.clip(u, 2.0**-54, 1 - 2.0**-53)  # generators return 0, and joined words round to 1
        return xp.clip(self.law(u, self.config, xp, special), self.low, self.high)


def _uniform(u: Any, c: SampleTimestepConfig, xp: Any, special: Any) -> Any:
    return u * (c.max_t - c.min_t) + c.min_t


def _logitnormal(u: Any, c: SampleTimestepConfig, xp: Any, special: Any) -> Any:
    return _uniform(special.expit(special.ndtri(u) * c.p_std + c.p_mean), c, xp, special)


def _shifted(u: Any, c: SampleTimestepConfig, xp: Any, special: Any) -> Any:
    u = _uniform(u, c, xp, special)
    return c.shift * u / (1 + (c.shift - 1) * u)


def _polynomial(u: Any, c: SampleTimestepConfig, xp: Any, special: Any) -> Any:
    return xp.floor(u * 1000) * ((c.max_t - c.min_t) / 999) + c.min_t


def _lognormal(u: Any, c: SampleTimestepConfig, xp: Any, special: Any) -> Any:
    """Truncated lognormal, by the normal CDF between ``a`` and ``b``, the standardised logs of min_t and max_t."""
    a = (math.log(c.min_t) - c.p_mean) / c.p_std if c.min_t > 0 else -math.inf
    b = (math.log(c.max_t) - c.p_mean) / c.p_std
    if b < -_FAR:  # all the mass lies above max_t: what is left decays from max_t downwards
        return c.max_t * xp.exp(-c.p_std * _tail_quantile(u, -b, b - a, xp))
    if a > _FAR:
        return c.min_t * xp.exp(c.p_std * _tail_quantile(1 - u, a, b - a, xp))
    below, above = _cdf(a), _cdf(-b)
    mass = _cdf(-a) - above if a > 0 else _cdf(b) - below
    lower, upper = below + u * mass, above + (1 - u) * mass  # each exact in its own tail
    z = xp.where(lower < 0.5, special.ndtri(lower), -special.ndtri(upper))
    return xp.exp(z * c.p_std + c.p_mean)


_FAR = 20.0  # standard deviations; the CDF there is 3e-89, and u times that is still a normal float64


def _cdf(z: float) -> float:
    """Standard normal CDF, accurate in the lower tail."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _mills(x: Any) -> Any:
    """Upper tail of the normal over its density at x >= 20, by Laplace's continued fraction (DLMF 7.9.2)."""
    fraction = x
    for k in range(12, 0, -1):
        fraction = x + k / fraction
    return 1 / fraction


def _tail_quantile(v: Any, x: float, width: float, xp: Any) -> Any:
    """Distance s past x at which a normal variable truncated to [x, x + width] has upper tail v; x >= 20.

    Solves ``x s + s**2 / 2 + log(mills(x) / mills(x + s)) = -log w`` by Newton's method, with w the upper tail at
    x + s over that at x. Distances from the end of the interval where the mass is do not cancel, however far it lies.
    """
    left = 0.0
    if width < math.inf:
        left = math.exp(-x * width - width * width / 2) * _mills(x + width) / _mills(x)
    energy = -xp.log(v + (1 - v) * left)
    s = 2 * energy / (x + xp.sqrt(x * x + 2 * energy))  # exact but for the ratio of Mills ratios
    for _ in range(3):
        mills = _mills(x + s)
        s = s - (x * s + s * s / 2 + xp.log(_mills(x) / mills) - energy) * mills
    return s


def _rung(u: Any, rungs: tuple[float, ...], xp: Any, special: Any) -> Any:
    """Entry ``floor(u k)`` of the first k of k + 1 rungs, by comparisons: a table would be a copy to the device."""
    k = len(rungs) - 1
    t = 0 * u + rungs[k - 1]
    for i in reversed(range(k - 1)):
        t = xp.where(u < (i + 1) / k, rungs[i], t)
    return t


_LAWS: dict[str, Law] = {
    "uniform": _uniform,
    "logitnormal": _logitnormal,
    "lognormal": _lognormal,
    "shifted": _shifted,
    "polynomial": _polynomial,
}
_REQUIRED = ("time_dist_type", "min_t", "max_t", "shift", "p_mean", "p_std", "t_list")
_FIELDS = tuple(field.name for field in fields(SampleTimestepConfig))


def _bounded(config: SampleTimestepConfig, backend: Backend, dtype: Any) -> Quantile:
    """The law of ``config`` between the outermost values of ``dtype`` inside ``[min_t, max_t]``."""
    eps, tiny = backend.finfo(dtype)
    low = _on_grid(config.min_t, eps, tiny, math.ceil)
    high = _on_grid(config.max_t, eps, tiny, math.floor)
    if low > high:
        raise ValueError(f"dtype {dtype} has no value in [min_t, max_t] = [{config.min_t!r}, {config.max_t!r}]")
    return Quantile(_LAWS[config.time_dist_type], config, low, high)


def _on_grid(x: float, eps: float, tiny: float, rounding: Any) -> float:
    """``x`` rounded by ``rounding`` to a number of the dtype with this spacing above 1 and smallest normal number."""
    spacing = max(2.0 ** (math.frexp(x)[1] - 1), tiny) * eps
    return float(rounding(x / spacing) * spacing)


def _resolved(n: Any, rng: Any, xp: Any, device: Any, dtype: Any) -> tuple[Backend, Any]:
    """Check what both samplers take; the framework that draws, and its dtype."""
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"n must be an integer, got {n!r}")
    if n < 0:
        raise ValueError(f"n must not be negative, got {n!r}")
    backend = backend_for_draws(rng, xp, device, dtype)
    dtype = backend.dtype(dtype)
    if not backend.is_floating(dtype):
        raise TypeError(f"dtype must be a real floating dtype, got {dtype}")
    return backend, dtype


def _checked_config(cfg: Any) -> SampleTimestepConfig:
    """``cfg`` as our own config: checked, hashable, and with defaults for what a foreign one lacks."""
    if isinstance(cfg, SampleTimestepConfig):
        return cfg
    missing = [name for name in _REQUIRED if not hasattr(cfg, name)]
    if missing:
        raise TypeError(f"cfg must have the attributes of SampleTimestepConfig, got {cfg!r} without {missing[0]}")
    return SampleTimestepConfig(**{name: getattr(cfg, name) for name in _FIELDS if hasattr(cfg, name)})


def _checked_rungs(t_list: Any) -> tuple[float, ...]:
    """``t_list`` as a tuple of floats, strictly descending from at most 1 to 0."""
    if isinstance(t_list, str) or not hasattr(t_list, "__iter__"):
        raise TypeError(f"t_list must be a sequence of floats, got {t_list!r}")
    rungs = tuple(t_list)
    for rung in rungs:
        _check_finite(rung, "t_list")
    descending = all(high > low for high, low in itertools.pairwise(rungs))
    if len(rungs) < 2 or not descending or rungs[0] > 1 or rungs[-1] != 0:
        raise ValueError(f"t_list must descend strictly from at most 1 to 0 in at least two entries, got {rungs!r}")
    return tuple(float(rung) for rung in rungs)


def _check_finite(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")

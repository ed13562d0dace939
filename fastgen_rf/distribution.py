"""The quantile function and the density of a timestep distribution, for arrays and floats."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastgen_rf import _distributions
from fastgen_rf._config import SampleTimestepConfig, checked_config
from fastgen_rf._draws import bounds
from fastgen_rf._evaluate import checked_time, floating_backend
from fastgen_rf._numbers import finite, plain
from fastgen_rf._tracing import evaluated_by_tracer, fixed
from fastgen_rf._typing import TimestepConfig, TimeT
from fastgen_rf.arithmetic import Ops
from fastgen_rf.backends import Backend

__all__ = ["timestep_density", "timestep_quantile"]


def timestep_quantile(u: TimeT, cfg: TimestepConfig) -> TimeT:
    """Return the inverse CDF of a timestep distribution: ``t = Q(u)``, where a share u of the timesteps is below t.

    :func:`sample_timesteps` applies this function to the uniform numbers of a generator. Here u may be quasi-random,
    stratified or shared between frameworks. It is differentiable in u for 0 < u < 1, but not at u = 0 and u = 1.

    Parameters
    ----------
    u : float or real floating array of any shape
        Probabilities in [0, 1]. Arrays are clipped to [0, 1], and so are floats within 1e-12 of it.
    cfg : SampleTimestepConfig
        Timestep distribution, as in :func:`sample_timesteps`. Static under ``jax.jit``.

    Returns
    -------
    float or array, the shape of u
        Timesteps in ``[min_t, max_t]``, computed in float64 and rounded to the nearest value of u's dtype inside these
        bounds. They are non-decreasing in u, except for the last bit in float64.

    Raises
    ------
    TypeError
        If u is neither a float nor a real floating array, its framework is not NumPy, PyTorch, JAX or CuPy (others have
        no special functions), its device has no float64, or cfg lacks an attribute.
    ValueError
        If u is a float outside [0, 1], a field of cfg is out of range, or u's dtype has no value in
        ``[min_t, max_t]``.

    Examples
    --------
    >>> timestep_quantile(np.array([0.25, 0.5, 0.75]), SampleTimestepConfig(min_t=0.0, max_t=1.0))
    array([0.625     , 0.83333333, 0.9375    ])
    >>> timestep_quantile(0.75, SampleTimestepConfig(time_dist_type="beta", min_t=0.0, beta_a=1.0, beta_b=0.5))
    0.9365625
    """
    config = checked_config(cfg)
    share: Any = checked_time(u, "u")
    if not isinstance(share, float):
        backend = floating_backend(share, "u")
        limits = bounds(config, backend, share.dtype)
        if backend.special is None:
            raise TypeError(
                f"u is an array of {backend.name}, which has no special functions: pass a NumPy array as u and convert "
                "the result"
            )
        _check_float64(backend, share, "u")
        constants = (config, *limits, backend.special)
        return backend.map(_differentiable_quantile, (share,), constants)  # type: ignore[no-any-return]
    return _quantile(fixed(share), _values(config))[0] * 1.0  # type: ignore[return-value]


@evaluated_by_tracer
def _quantile(share: float, values: tuple[Any, ...]) -> tuple[float]:
    from scipy import special

    config = _config_of(values)
    # One element, not a scalar: NumPy's powers of scalars and of arrays differ in the last bit.
    ops = Ops(np.maximum, np.sqrt, np)
    t = _differentiable_quantile(np.asarray([share]), config, config.min_t, config.max_t, special, ops)
    return (float(t[0]),)


def _differentiable_quantile(u: Any, config: Any, low: float, high: float, special: Any, ops: Ops) -> Any:
    """The clipped quantile function, with the right derivative where u or t equals a bound."""
    # Selects, because the derivative of jax.numpy.clip is 1/2 where its argument equals a bound.
    t = _distributions.quantile(_distributions.clamped(u, 0.0, 1.0, ops.xp), config, ops.xp, special)
    return _distributions.clamped(t, low, high, ops.xp)


def timestep_density(t: TimeT, cfg: TimestepConfig) -> TimeT:
    """Return the density at t of a timestep distribution, by which an importance weight divides.

    It integrates to 1 over ``[min_t, max_t]`` and is 0 outside.

    Parameters
    ----------
    t : float or real floating array of any shape
        Time.
    cfg : SampleTimestepConfig
        Timestep distribution, as in :func:`sample_timesteps`. Static under ``jax.jit``.

    Returns
    -------
    float or array, the shape of t
        Density in t's dtype, computed in float64 and rounded once. It can be infinite at a bound (``"beta"``).

    Raises
    ------
    TypeError
        If t is neither a float nor a real floating array, its device has no float64, or cfg lacks an attribute.
    ValueError
        If the distribution has no density: ``"polynomial"`` is discrete, and ``"shifted"`` and
        ``"shifted_logitnormal"`` have a point mass at a bound unless ``truncate=True``. If t is a float that is not
        finite, or a field of cfg is out of range.

    Examples
    --------
    >>> timestep_density(np.array([0.1, 0.5, 0.9]), SampleTimestepConfig(truncate=True, min_t=0.0, max_t=1.0))
    array([0.2362949 , 0.55555556, 2.55102041])
    """
    config = checked_config(cfg)
    distribution = _distributions.DISTRIBUTIONS[config.time_dist_type]
    if distribution.density is None:
        raise ValueError(f"time_dist_type {config.time_dist_type!r} has no density: it is discrete")
    if distribution.unshifted and not config.truncate:
        raise ValueError(
            f"time_dist_type {config.time_dist_type!r} has no density because clamping puts a point mass at a bound; "
            "use truncate=True"
        )
    time: Any = plain(t)
    if not isinstance(time, float):
        time = checked_time(t)
    if isinstance(time, float):
        time = finite(time, "t")
        return _density(fixed(time), _values(config))[0] * 1.0  # type: ignore[return-value]
    backend = floating_backend(time, "t")
    _check_float64(backend, time, "t")
    return backend.map(_density_at, (time,), (config,))  # type: ignore[no-any-return]


@evaluated_by_tracer
def _density(time: float, values: tuple[Any, ...]) -> tuple[float]:
    return (float(_distributions.density(np.asarray([time]), _config_of(values), np)[0]),)


def _check_float64(backend: Backend, array: Any, name: str) -> None:
    device = backend.device(array)
    if not backend.has_float64(device):
        raise TypeError(
            f"{name} is on device {device}, which lacks float64: pass a NumPy array as {name} and move the result to "
            "the device"
        )


# The fields that the formulas read. Dynamo passes numbers and strings to the two functions above, but no config.
_FIELDS = tuple(field.name for field in fields(SampleTimestepConfig) if field.name != "t_list")


def _values(config: SampleTimestepConfig) -> tuple[Any, ...]:
    return tuple([fixed(getattr(config, name)) for name in _FIELDS])


def _config_of(values: tuple[Any, ...]) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip(_FIELDS, values, strict=True)))


def _density_at(t: Any, config: Any, ops: Ops) -> Any:
    return _distributions.density(t, config, ops.xp)

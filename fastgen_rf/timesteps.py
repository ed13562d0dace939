"""Training timesteps: the samplers, and the quantile function and density of the laws that they draw from.

A timestep is ``t = Q(u)``: a backend supplies ``u``, uniform on (0, 1) in float64, and the special functions of ``u``;
:mod:`fastgen_rf._laws` has Q, and :mod:`fastgen_rf._draws` makes times and pairs of them of it. Whatever the law and
dtype, ``t`` is bounded in float64 by the outermost values of that dtype inside ``[min_t, max_t]``.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgen_rf import _laws
from fastgen_rf._config import SampleTimestepConfig, checked_config, checked_rungs
from fastgen_rf._draws import Pairs, Quantile, Times
from fastgen_rf._evaluate import checked_time, floating_backend
from fastgen_rf._numbers import finite, plain
from fastgen_rf._typing import TimeT
from fastgen_rf.backends import Backend, backend_for_draws

__all__ = [
    "SampleTimestepConfig",
    "sample_from_t_list",
    "sample_timestep_pairs",
    "sample_timesteps",
    "timestep_density",
    "timestep_quantile",
]


def sample_timesteps(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> Any:
    """Draw n training timesteps from the law that cfg names: ``t = Q(U)``, U uniform on (0, 1).

    Drawn in float64 by the framework's own generator on its own device, and rounded inward: to the nearest value of
    dtype, or to its neighbour inside where the nearest lies outside ``[min_t, max_t]``.

    Parameters
    ----------
    n : int or tuple of int
        How many, or the shape of the result: ``(B, F)`` for a time per frame. Static under ``jax.jit``.
    cfg : SampleTimestepConfig
        The law, or any object with its first seven attributes; static under ``jax.jit``.
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
    stratified : bool
        Whether each of the n equal parts of (0, 1) gets one U, in random order: the batch then covers the whole time
        range, and the mean over it of a smooth function of t varies far less. Each single t follows the law as before.
        A shape has as many parts as elements.

    Returns
    -------
    array, shape (n,) or n
        Timesteps in ``[min_t, max_t]`` as real numbers, in every dtype.

    Raises
    ------
    TypeError
        If n is neither an integer nor a tuple of integers, stratified no bool, cfg lacks an attribute, or rng, xp,
        device and dtype name no framework or two.
    ValueError
        If n is negative, a field of cfg is out of range, rng and device disagree, or dtype has no value in
        ``[min_t, max_t]``.

    Examples
    --------
    >>> cfg = SampleTimestepConfig(time_dist_type="uniform")
    >>> sample_timesteps(3, cfg, rng=np.random.default_rng(0))
    array([0.63668776, 0.27024713, 0.04189158], dtype=float32)
    """
    config = checked_config(cfg)
    _check_stratified(stratified)
    shape, backend, dtype = _resolved(n, rng, xp, device, dtype)
    (t,) = backend.sample(shape, Times(_bounded(config, backend, dtype), stratified), rng, device, dtype)
    return t


def sample_timestep_pairs(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    equal: float = 0.75,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> tuple[Any, Any]:
    """Draw n pairs of times for flow maps: ``t, r = max(Q(U), Q(V)), min(Q(U), Q(V))``, or r = t in a share of them.

    An average velocity that steps from t to r is trained on such pairs, and on r = t, where it is the velocity itself:
    MeanFlow (arXiv:2505.13447). Which samples have r = t is decided for each on its own, independently of U and V.

    Parameters
    ----------
    n : int or tuple of int
        How many, or the shape of t and of r: ``(B, F)`` for a pair per frame. Static under ``jax.jit``.
    cfg : SampleTimestepConfig
        The law of either draw, as in :func:`sample_timesteps`.
    equal : float
        Probability, in [0, 1], that r is exactly t, the larger draw; static under ``jax.jit``.
    rng, xp, device, dtype
        As in :func:`sample_timesteps`.
    stratified : bool
        Whether both draws are stratified, each on its own, and r = t in ``n equal`` of the pairs, rounded up or down
        at random with that mean; which ones is random.

    Returns
    -------
    t, r : arrays, shape (n,) or n
        ``min_t <= r <= t <= max_t`` as real numbers, in every dtype. A law with atoms, and rounding to a narrow dtype,
        make r = t in some pairs more.

    Raises
    ------
    TypeError
        If equal is no number (a bool and an array are none), and as :func:`sample_timesteps`.
    ValueError
        If equal lies outside [0, 1], and as :func:`sample_timesteps`.

    Examples
    --------
    >>> cfg = SampleTimestepConfig(time_dist_type="uniform")
    >>> t, r = sample_timestep_pairs(4, cfg, rng=np.random.default_rng(0), stratified=True)
    >>> t, r
    (array([0.65892196, 0.98280054, 0.70355546, 0.25462365], dtype=float32),
     array([0.65892196, 0.98280054, 0.01122289, 0.25462365], dtype=float32))
    """
    config = checked_config(cfg)
    if isinstance(equal, bool) or not isinstance(equal, numbers.Real):
        raise TypeError(f"equal must be a number in [0, 1], got {equal!r}")
    if not 0 <= equal <= 1:  # NaN fails too
        raise ValueError(f"equal must lie in [0, 1], got {equal!r}")
    _check_stratified(stratified)
    shape, backend, dtype = _resolved(n, rng, xp, device, dtype)
    pairs = Pairs(_bounded(config, backend, dtype), stratified, float(equal))
    t, r = backend.sample(shape, pairs, rng, device, dtype)
    return t, r


def sample_from_t_list(
    n: int | tuple[int, ...],
    t_list: Any,
    *,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
    return_index: bool = False,
) -> Any:
    """Draw n rungs uniformly from ``t_list[:-1]``, the starting times of a multi-step student.

    Parameters
    ----------
    n : int or tuple of int
        How many, or the shape of the result; static under ``jax.jit``.
    t_list : sequence of float or array
        At least two rungs, strictly descending from at most 1 to 0. An array of any framework is read on the host.
    rng, xp, device, dtype
        As in :func:`sample_timesteps`.
    return_index : bool
        Whether to return the index into t_list of each rung as well.

    Returns
    -------
    array, shape (n,) or n
        Rungs as dtype rounds them, save that a rung below 1 stays below 1.
    array of int32, shape (n,) or n
        Only with ``return_index=True``: where in t_list each rung stands; of rungs that dtype cannot tell apart, the
        first.

    Raises
    ------
    TypeError
        If n is neither an integer nor a tuple of integers, a rung no number, return_index no bool, or rng, xp, device
        and dtype name no framework or two.
    ValueError
        If n is negative, t_list is not strictly descending to 0 from at most 1, or rng and device disagree.

    Examples
    --------
    >>> sample_from_t_list(4, [1.0, 0.75, 0.5, 0.0], rng=np.random.default_rng(0))
    array([0.75, 1.  , 1.  , 1.  ], dtype=float32)
    >>> sample_from_t_list(4, [1.0, 0.75, 0.5, 0.0], rng=np.random.default_rng(0), return_index=True)
    (array([0.75, 1.  , 1.  , 1.  ], dtype=float32), array([1, 0, 0, 0], dtype=int32))
    """
    rungs = checked_rungs(t_list)
    if not isinstance(return_index, bool):
        raise TypeError(f"return_index must be True or False, got {return_index!r}")
    shape, backend, dtype = _resolved(n, rng, xp, device, dtype)
    eps, tiny = backend.finfo(dtype)
    # Rounded here, the rungs are the same on every framework, and the drawn ones compare equal to them.
    rungs = tuple(rung if rung == 1 else min(_on_grid(rung, eps, tiny, round), 1.0 - eps / 2) for rung in rungs)
    (t,) = backend.sample(shape, Times(Quantile(_rung, rungs, 0.0, 1.0)), rng, device, dtype)
    return (t, backend.count_above(t, rungs[:-1])) if return_index else t


def timestep_quantile(u: TimeT, cfg: Any) -> TimeT:
    """Invert the law of cfg: ``t = Q(u)``, the t below which a share u of the timesteps lies.

    :func:`sample_timesteps` is this on a backend's uniform numbers; here u may be quasi-random, stratified or shared
    between frameworks.

    Parameters
    ----------
    u : float or real floating array of any shape
        Probabilities in [0, 1]; what an array has outside is clipped. An array must be NumPy's, PyTorch's, JAX's or
        CuPy's, on a device with float64: other namespaces have no special functions.
    cfg : SampleTimestepConfig
        The law, or any object with its first seven attributes; static under ``jax.jit``.

    Returns
    -------
    float or array, the shape of u
        Timesteps in ``[min_t, max_t]``, computed in float64 and rounded inward to u's dtype; non-decreasing in u, save
        for the last bit in float64.

    Raises
    ------
    TypeError
        If u is neither a float nor a real floating array, its framework has no special functions, or its device no
        float64; if cfg lacks an attribute.
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
        return backend.map(_bounded(config, backend, share.dtype), share, "u", special=True)  # type: ignore[no-any-return]
    from scipy import special

    # One element, not a scalar: NumPy's powers of scalars and of arrays differ in the last bit.
    t: Any = Quantile(_laws.quantile, config, config.min_t, config.max_t)(np.asarray([share]), np, special)
    return float(t[0])  # type: ignore[return-value]


def timestep_density(t: TimeT, cfg: Any) -> TimeT:
    """Return the density at t of the law of cfg: what an importance weight divides by.

    It integrates to 1 over ``[min_t, max_t]`` and is 0 outside.

    Parameters
    ----------
    t : float or real floating array of any shape
        Time; an array must lie on a device with float64.
    cfg : SampleTimestepConfig
        The law, or any object with its first seven attributes; static under ``jax.jit``.

    Returns
    -------
    float or array, the shape of t
        The density in t's dtype, computed in float64 and rounded once. It can be infinite at a bound (``"beta"``).

    Raises
    ------
    TypeError
        If t is neither a float nor a real floating array, or lies on a device without float64; if cfg lacks an
        attribute.
    ValueError
        If the law has no density: ``"polynomial"``, which is discrete, and, unless ``truncate=True``, ``"shifted"`` and
        ``"shifted_logitnormal"``, whose clamp leaves an atom. If t is a float that is not finite, or a field of cfg is
        out of range.

    Examples
    --------
    >>> timestep_density(np.array([0.1, 0.5, 0.9]), SampleTimestepConfig(truncate=True, min_t=0.0, max_t=1.0))
    array([0.2362949 , 0.55555556, 2.55102041])
    """
    config = checked_config(cfg)
    law = _laws.LAWS[config.time_dist_type]
    if law.density is None:
        raise ValueError(f"time_dist_type {config.time_dist_type!r} has no density: it is discrete")
    if law.shifts and not config.truncate:
        raise ValueError(
            f"time_dist_type {config.time_dist_type!r} has no density: its clamp leaves an atom at a bound; "
            "with truncate=True it has one"
        )
    time: Any = plain(t)
    if not isinstance(time, float):
        time = checked_time(t)
    if isinstance(time, float):
        time = finite(time, "t")
        return float(_laws.density(np.asarray([time]), config, np)[0])  # type: ignore[return-value]
    return floating_backend(time, "t").map(Density(config), time, "t")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Density:
    """The density of a law at one config, as a backend evaluates it."""

    config: Any

    def __call__(self, t: Any, xp: Any, special: Any) -> Any:
        return _laws.density(t, self.config, xp)


def _rung(u: Any, rungs: tuple[float, ...], low: float, high: float, xp: Any, special: Any) -> Any:
    """Entry ``floor(u k)`` of the first k of k + 1 rungs, by comparisons: a table would be a copy to the device."""
    k = len(rungs) - 1
    t = 0 * u + rungs[k - 1]
    for i in reversed(range(k - 1)):
        t = xp.where(u < (i + 1) / k, rungs[i], t)
    return t


def _bounded(config: SampleTimestepConfig, backend: Backend, dtype: Any) -> Quantile:
    """The law of ``config`` between the outermost values of ``dtype`` inside ``[min_t, max_t]``."""
    eps, tiny = backend.finfo(dtype)
    low = _on_grid(config.min_t, eps, tiny, math.ceil)
    high = _on_grid(config.max_t, eps, tiny, math.floor)
    if low > high:
        raise ValueError(f"dtype {dtype} has no value in [min_t, max_t] = [{config.min_t!r}, {config.max_t!r}]")
    return Quantile(_laws.quantile, config, low, high)


def _on_grid(x: float, eps: float, tiny: float, rounding: Any) -> float:
    """``x`` rounded by ``rounding`` to a number of the dtype with this spacing above 1 and smallest normal number."""
    spacing = max(2.0 ** (math.frexp(x)[1] - 1), tiny) * eps
    return float(rounding(x / spacing) * spacing)


def _check_stratified(stratified: Any) -> None:
    if not isinstance(stratified, bool):
        raise TypeError(f"stratified must be True or False, got {stratified!r}")


def _resolved(n: Any, rng: Any, xp: Any, device: Any, dtype: Any) -> tuple[tuple[int, ...], Backend, Any]:
    """Check what every sampler takes; the shape to draw, the framework that draws, and its dtype."""
    shape = n if isinstance(n, tuple) else (n,)
    if any(isinstance(size, numbers.Integral) and size < 0 for size in shape):
        raise ValueError(f"n must not be negative, got {n!r}")
    backend = backend_for_draws(rng, xp, device, dtype)
    for size in shape:
        if isinstance(size, bool) or not (isinstance(size, numbers.Integral) or backend.is_symbolic(size)):
            hint = "; n is static: take it from a shape, or jit with static_argnames='n'" if hasattr(size, "shape") else ""
            raise TypeError(f"n must be an integer or a tuple of integers, got {n!r}{hint}")
    dtype = backend.dtype(dtype)
    if not backend.is_floating(dtype):
        raise TypeError(f"dtype must be a real floating dtype, got {dtype}")
    return shape, backend, dtype

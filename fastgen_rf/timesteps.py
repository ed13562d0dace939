"""Training timesteps: the samplers.

A timestep is ``t = Q(u)``: a backend supplies ``u``, uniform on (0, 1) in float64, and the special functions of ``u``;
:mod:`fastgen_rf._laws` has Q, and :mod:`fastgen_rf._draws` makes times and pairs of them of it. Whatever the law and
dtype, ``t`` is bounded in float64 by the outermost values of that dtype inside ``[min_t, max_t]``.
"""

from __future__ import annotations

import sys
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from fastgen_rf import _laws
from fastgen_rf._config import SampleTimestepConfig, checked_config, checked_rungs
from fastgen_rf._draws import Pairs, Quantile, Times, bounds, on_grid
from fastgen_rf._numbers import is_integer, is_real, plain
from fastgen_rf._tracing import lies_in, shown
from fastgen_rf._typing import KeyT, Namespace, NewT_co, TensorGenerator, TensorNamespace
from fastgen_rf.backends import Backend, backend_for_draws

__all__ = [
    "SampleTimestepConfig",
    "sample_from_t_list",
    "sample_timestep_pairs",
    "sample_timesteps",
]


@overload
def sample_timesteps(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    rng: Any = None,
    xp: Namespace[NewT_co] | TensorNamespace[NewT_co],
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> NewT_co: ...
@overload
def sample_timesteps(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    rng: TensorGenerator[NewT_co],
    xp: None = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> NewT_co: ...
@overload
def sample_timesteps(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    rng: KeyT,
    xp: None = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> KeyT: ...
@overload
def sample_timesteps(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    rng: np.random.Generator,
    xp: None = None,
    device: None = None,
    dtype: npt.DTypeLike | None = None,
    stratified: bool = False,
) -> npt.NDArray[Any]: ...
@overload
def sample_timesteps(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> Any: ...
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

    See Also
    --------
    SampleTimestepConfig : The laws.
    sample_from_t_list : Draw a student's rungs.
    timestep_quantile : The law at your own u.

    Examples
    --------
    >>> cfg = SampleTimestepConfig(time_dist_type="uniform")
    >>> sample_timesteps(3, cfg, rng=np.random.default_rng(0))
    array([0.63668776, 0.27024713, 0.04189158], dtype=float32)
    """
    config = checked_config(cfg)
    _check_stratified(stratified)
    shape, backend, dtype = _resolved(n, rng, xp, device, dtype)
    (t,) = backend.sample(shape, Times(_quantile(config, backend, dtype), stratified), rng, device, dtype)
    return t


@overload
def sample_timestep_pairs(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    equal: float = 0.75,
    rng: Any = None,
    xp: Namespace[NewT_co] | TensorNamespace[NewT_co],
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> tuple[NewT_co, NewT_co]: ...
@overload
def sample_timestep_pairs(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    equal: float = 0.75,
    rng: TensorGenerator[NewT_co],
    xp: None = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> tuple[NewT_co, NewT_co]: ...
@overload
def sample_timestep_pairs(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    equal: float = 0.75,
    rng: KeyT,
    xp: None = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> tuple[KeyT, KeyT]: ...
@overload
def sample_timestep_pairs(
    n: int | tuple[int, ...],
    cfg: Any,
    *,
    equal: float = 0.75,
    rng: np.random.Generator,
    xp: None = None,
    device: None = None,
    dtype: npt.DTypeLike | None = None,
    stratified: bool = False,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]: ...
@overload
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
) -> tuple[Any, Any]: ...
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

    See Also
    --------
    sample_timesteps : Single times.

    Examples
    --------
    >>> cfg = SampleTimestepConfig(time_dist_type="uniform")
    >>> t, r = sample_timestep_pairs(4, cfg, rng=np.random.default_rng(0), stratified=True)
    >>> t, r
    (array([0.65892196, 0.98280054, 0.70355546, 0.25462365], dtype=float32),
     array([0.65892196, 0.98280054, 0.01122289, 0.25462365], dtype=float32))
    """
    config = checked_config(cfg)
    share = plain(equal)
    if not is_real(share):
        raise TypeError(f"equal must be a number in [0, 1], got {shown(equal)}")
    if not lies_in(share, 0, 1):  # NaN fails too
        raise ValueError(f"equal must lie in [0, 1], got {shown(equal)}")
    _check_stratified(stratified)
    shape, backend, dtype = _resolved(n, rng, xp, device, dtype)
    pairs = Pairs(_quantile(config, backend, dtype), stratified, float(share))
    t, r = backend.sample(shape, pairs, rng, device, dtype)
    return t, r


@overload
def sample_from_t_list(
    n: int | tuple[int, ...],
    t_list: Any,
    *,
    rng: Any = None,
    xp: Namespace[NewT_co] | TensorNamespace[NewT_co],
    device: Any = None,
    dtype: Any = None,
    return_index: Literal[False] = False,
) -> NewT_co: ...
@overload
def sample_from_t_list(
    n: int | tuple[int, ...],
    t_list: Any,
    *,
    rng: TensorGenerator[NewT_co],
    xp: None = None,
    device: Any = None,
    dtype: Any = None,
    return_index: Literal[False] = False,
) -> NewT_co: ...
@overload
def sample_from_t_list(
    n: int | tuple[int, ...],
    t_list: Any,
    *,
    rng: KeyT,
    xp: None = None,
    device: Any = None,
    dtype: Any = None,
    return_index: Literal[False] = False,
) -> KeyT: ...
@overload
def sample_from_t_list(
    n: int | tuple[int, ...],
    t_list: Any,
    *,
    rng: np.random.Generator,
    xp: None = None,
    device: None = None,
    dtype: npt.DTypeLike | None = None,
    return_index: Literal[False] = False,
) -> npt.NDArray[Any]: ...
@overload
def sample_from_t_list(
    n: int | tuple[int, ...],
    t_list: Any,
    *,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
    return_index: bool = False,
) -> Any: ...
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

    See Also
    --------
    make_t_list : Make the rungs.
    sample_timesteps : Draw from a law.

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
    rungs = tuple(rung if rung == 1 else min(on_grid(rung, eps, tiny, round), 1.0 - eps / 2) for rung in rungs)
    (t,) = backend.sample(shape, Times(Quantile(_rung, rungs, 0.0, 1.0)), rng, device, dtype)
    return (t, backend.count_above(t, rungs[:-1])) if return_index else t


def _quantile(config: SampleTimestepConfig, backend: Backend, dtype: Any) -> Quantile:
    return Quantile(_laws.quantile, config, *bounds(config, backend, dtype))


def _rung(u: Any, rungs: tuple[float, ...], xp: Any, special: Any) -> Any:
    """Entry ``floor(u k)`` of the first k of k + 1 rungs, by comparisons: a table would be a copy to the device."""
    k = len(rungs) - 1
    t = 0 * u + rungs[k - 1]
    for i in reversed(range(k - 1)):
        t = xp.where(u < (i + 1) / k, rungs[i], t)
    return t


def _check_stratified(stratified: Any) -> None:
    if not isinstance(stratified, bool):
        raise TypeError(f"stratified must be True or False, got {stratified!r}")


def _resolved(n: Any, rng: Any, xp: Any, device: Any, dtype: Any) -> tuple[tuple[int, ...], Backend, Any]:
    """Check what every sampler takes; the shape to draw, the framework that draws, and its dtype."""
    shape = tuple([plain(size) for size in n]) if isinstance(n, tuple) else (plain(n),)
    if any(is_integer(size) and size < 0 for size in shape):
        raise ValueError(f"n must not be negative, got {shown(n)}")
    backend = backend_for_draws(rng, xp, device, dtype)
    count = 1
    for size in shape:
        if isinstance(size, bool) or not (is_integer(size) or backend.is_symbolic(size)):
            is_array = not is_real(size) and hasattr(size, "shape")
            hint = "; n is static: take it from a shape, or jit with static_argnames='n'" if is_array else ""
            raise TypeError(f"n must be an integer or a tuple of integers, got {shown(n)}{hint}")
        count *= size if is_integer(size) else 1
    if count > sys.maxsize:
        raise ValueError(f"n must be no more than an array can have, got {shown(n)}")
    dtype = backend.dtype(dtype)
    if not backend.is_floating(dtype):
        raise TypeError(f"dtype must be a real floating dtype, got {dtype}")
    return shape, backend, dtype

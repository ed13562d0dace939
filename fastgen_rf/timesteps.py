"""Training timesteps: the samplers.

A timestep is ``t = Q(u)``. A backend supplies ``u``, uniform on (0, 1) in float64, and special functions.
:mod:`fastgen_rf._distributions` contains the functions Q, and :mod:`fastgen_rf._draws` computes times and pairs of
times with them. ``t`` is clipped in float64 to the smallest and the largest value of the dtype in ``[min_t, max_t]``.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from fastgen_rf._config import SampleTimestepConfig, check_flag, checked_config, checked_t_list
from fastgen_rf._draws import Index, Pairs, Times, bounds, rounded_entries
from fastgen_rf._numbers import is_integer, is_real, plain
from fastgen_rf._tracing import cached, lies_in, shown
from fastgen_rf._typing import (
    Anywhere,
    OfNamespace,
    OfRng,
    OnHost,
    OnTorchDevice,
    PairsAnywhere,
    PairsOfNamespace,
    PairsOfRng,
    PairsOnHost,
    PairsOnTorchDevice,
    Size,
    T,
    TimeList,
    TimestepConfig,
)
from fastgen_rf.backends import Backend, backend_for_draws, is_symbolic, of_one_framework

if TYPE_CHECKING:
    from fastgen_rf._typing import HostArray, Tensor

__all__ = ["SampleTimestepConfig", "sample_from_t_list", "sample_timestep_pairs", "sample_timesteps"]


@overload
def sample_timesteps(n: Size, cfg: TimestepConfig, *, stratified: bool = ..., **of: Unpack[OfNamespace[T]]) -> T: ...
@overload
def sample_timesteps(n: Size, cfg: TimestepConfig, *, stratified: bool = ..., **of: Unpack[OfRng[T]]) -> T: ...
@overload
def sample_timesteps(n: Size, cfg: TimestepConfig, *, stratified: bool = ..., **of: Unpack[OnHost]) -> HostArray: ...
@overload
def sample_timesteps(
    n: Size, cfg: TimestepConfig, *, stratified: bool = ..., **of: Unpack[OnTorchDevice]
) -> Tensor: ...
@overload
def sample_timesteps(n: Size, cfg: TimestepConfig, *, stratified: bool = ..., **of: Unpack[Anywhere]) -> Any: ...
def sample_timesteps(
    n: Size,
    cfg: TimestepConfig,
    *,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> Any:
    """Sample n training timesteps from the distribution that cfg describes: ``t = Q(U)``, with U uniform on (0, 1).

    The framework's own generator draws U in float64 on its own device.

    Parameters
    ----------
    n : int or tuple of int
        Number of timesteps, or the shape of the result: ``(B, F)`` for a time per frame. Static under ``jax.jit``.
    cfg : SampleTimestepConfig
        Timestep distribution, or any object with ``time_dist_type``, ``min_t``, ``max_t`` and the fields that its
        distribution uses. Static under ``jax.jit``.
    rng : generator, key, int or None
        Source of randomness of the framework: a ``torch.Generator`` or None (the global one); a JAX key, which is
        required and consumed once; a ``cupy.random.Generator``, ``RandomState`` or None; a ``numpy.random.Generator``,
        or None for fresh entropy with ``xp=numpy``. An int seeds a fresh generator for this call. A NumPy generator
        with another framework's xp, device or dtype draws on the host and moves the result, which synchronizes. It
        gives the same stream on every framework.
    xp : namespace, optional
        ``numpy``, ``torch``, ``jax.numpy``, ``cupy`` or another array API namespace. Needed only if rng, device and
        dtype do not identify the framework.
    device : optional
        A device of the framework (for JAX also a sharding) or its name. If None, the generator's device or the default
        one.
    dtype : optional
        A real floating dtype of the framework, the dtype of NumPy or ml_dtypes with that name, or the name itself, such
        as ``"bfloat16"``; float32 if None.
    stratified : bool
        Whether each of n equal parts of (0, 1) contains one U, in random order. The batch then covers the whole range
        of times, and the mean of a smooth function of t over the batch varies far less. Each single t still follows the
        distribution. For a shape, n is the number of elements.

    Returns
    -------
    array, shape (n,) or n
        Timesteps, each rounded to the nearest value of dtype that lies in ``[min_t, max_t]``.

    Raises
    ------
    TypeError
        If n is neither an integer nor a tuple of integers, stratified is not a bool, cfg lacks an attribute, rng, xp,
        device and dtype identify no framework or two, or rng is a NumPy generator in a function that JAX traces, where
        it would be read only once.
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
    check_flag(stratified, "stratified")
    shape, backend, rng, dtype = _resolved(n, rng, xp, device, dtype)
    (t,) = backend.sample(shape, _times(config, stratified, backend, dtype), rng, device, dtype)
    return t


@overload
def sample_timestep_pairs(n: Size, cfg: TimestepConfig, **of: Unpack[PairsOfNamespace[T]]) -> tuple[T, T]: ...
@overload
def sample_timestep_pairs(n: Size, cfg: TimestepConfig, **of: Unpack[PairsOfRng[T]]) -> tuple[T, T]: ...
@overload
def sample_timestep_pairs(n: Size, cfg: TimestepConfig, **of: Unpack[PairsOnHost]) -> tuple[HostArray, HostArray]: ...
@overload
def sample_timestep_pairs(n: Size, cfg: TimestepConfig, **of: Unpack[PairsOnTorchDevice]) -> tuple[Tensor, Tensor]: ...
@overload
def sample_timestep_pairs(n: Size, cfg: TimestepConfig, **of: Unpack[PairsAnywhere]) -> tuple[Any, Any]: ...
def sample_timestep_pairs(
    n: Size,
    cfg: TimestepConfig,
    *,
    equal: float = 0.75,
    zero: float = 0.0,
    r_cfg: TimestepConfig | None = None,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
    stratified: bool = False,
) -> tuple[Any, Any]:
    """Sample n pairs of times for flow maps: ``t, r = max(Q(U), Q(V)), min(Q(U), Q(V))``, some with r = t or r = 0.

    An average velocity from t to r is trained on such pairs. On pairs with r = t it is the velocity itself: MeanFlow
    (arXiv:2505.13447). On pairs with r = 0 it maps t to data in one step. For each sample, a uniform number that is
    independent of U and V decides whether r is replaced by t or by 0.

    Parameters
    ----------
    n : int or tuple of int
        Number of pairs, or the shape of t and of r: ``(B, F)`` for a pair per frame. Static under ``jax.jit``.
    cfg : SampleTimestepConfig
        Timestep distribution, as in :func:`sample_timesteps`.
    equal : float
        Probability, in [0, 1], that r is exactly t, the larger of the two times; static under ``jax.jit``.
    zero : float
        Probability that r is exactly 0, also where ``min_t > 0``; ``equal + zero <= 1``. Static under ``jax.jit``.
    r_cfg : SampleTimestepConfig, optional
        Distribution of the second time, cfg if None. As before, t is the larger and r the smaller of the two.
    rng, xp, device, dtype
        As in :func:`sample_timesteps`.
    stratified : bool
        Whether the two times are stratified, each on its own, and r = t in ``n equal`` of the pairs and r = 0 in
        ``n zero`` of them. Both numbers are rounded up or down at random without bias. Which pairs is random.

    Returns
    -------
    t, r : arrays, shape (n,) or n
        ``r <= t``, inside the bounds of the two distributions in every dtype, except that r may be 0. Discrete
        distributions, clamping and rounding to a narrow dtype make more pairs with r = t.

    Raises
    ------
    TypeError
        If equal or zero is not a number (a bool and an array are not), and as :func:`sample_timesteps`.
    ValueError
        If equal, zero or their sum lies outside [0, 1], and as :func:`sample_timesteps`.

    Examples
    --------
    >>> cfg = SampleTimestepConfig(time_dist_type="uniform")
    >>> t, r = sample_timestep_pairs(4, cfg, equal=0.5, zero=0.25, rng=np.random.default_rng(0), stratified=True)
    >>> t, r
    (array([0.65892196, 0.98280054, 0.70355546, 0.25462365], dtype=float32),
     array([0.65892196, 0.98280054, 0.        , 0.00168326], dtype=float32))
    """
    first = checked_config(cfg)
    second = first if r_cfg is None else checked_config(r_cfg, "r_cfg")
    share_equal, share_zero = _probability(equal, "equal"), _probability(zero, "zero")
    if not lies_in(share_equal + share_zero, 0, 1):
        raise ValueError(
            f"equal + zero must be at most 1, got equal={shown(equal)} (its default is 0.75) and zero={shown(zero)}"
        )
    check_flag(stratified, "stratified")
    shape, backend, rng, dtype = _resolved(n, rng, xp, device, dtype)
    times, r_times = (_times(config, False, backend, dtype) for config in (first, second))
    # None saves a select where zero is 0. In a trace, a number whose value is not known is taken as positive.
    zeros = share_zero if lies_in(share_zero, math.ulp(0.0), 1) else None
    t, r = backend.sample(shape, Pairs(times, r_times, stratified, share_equal, zeros), rng, device, dtype)
    return t, r


@overload
def sample_from_t_list(
    n: Size, t_list: TimeList, *, return_index: Literal[False] = ..., **of: Unpack[OfNamespace[T]]
) -> T: ...
@overload
def sample_from_t_list(
    n: Size, t_list: TimeList, *, return_index: Literal[False] = ..., **of: Unpack[OfRng[T]]
) -> T: ...
@overload
def sample_from_t_list(
    n: Size, t_list: TimeList, *, return_index: Literal[False] = ..., **of: Unpack[OnHost]
) -> HostArray: ...
@overload
def sample_from_t_list(
    n: Size, t_list: TimeList, *, return_index: Literal[False] = ..., **of: Unpack[OnTorchDevice]
) -> Tensor: ...
@overload
def sample_from_t_list(
    n: Size, t_list: TimeList, *, return_index: Literal[True], **of: Unpack[Anywhere]
) -> tuple[Any, Any]: ...
@overload
def sample_from_t_list(n: Size, t_list: TimeList, *, return_index: bool = ..., **of: Unpack[Anywhere]) -> Any: ...
def sample_from_t_list(
    n: Size,
    t_list: TimeList,
    *,
    rng: Any = None,
    xp: Any = None,
    device: Any = None,
    dtype: Any = None,
    return_index: bool = False,
) -> Any:
    """Sample n entries of ``t_list[:-1]`` uniformly: the starting times of a multi-step student.

    Parameters
    ----------
    n : int or tuple of int
        Number of entries, or the shape of the result. Static under ``jax.jit``.
    t_list : sequence of float or array
        At least two times, strictly descending from at most 1 to 0, such as those of :func:`make_t_list`. The values of
        an array are read on the host. Under ``jax.jit`` and ``torch.compile`` the array must not depend on an argument
        that is traced.
    rng, xp, device, dtype
        As in :func:`sample_timesteps`.
    return_index : bool
        Whether to return the index into t_list of each entry as well.

    Returns
    -------
    array, shape (n,) or n
        Entries, each rounded to the nearest value of dtype, but not up to 1.
    array of int32, shape (n,) or n
        Only with ``return_index=True``: the index of each entry, uniform on all but the last, also where entries are
        equal after rounding to dtype.

    Raises
    ------
    TypeError
        If an entry is not a number or is a tracer, return_index is not a bool, and as :func:`sample_timesteps`.
    ValueError
        If t_list is not strictly descending from at most 1 to 0, and as :func:`sample_timesteps`.

    Examples
    --------
    >>> sample_from_t_list(4, [1.0, 0.75, 0.5, 0.0], rng=np.random.default_rng(0))
    array([0.75, 1.  , 1.  , 1.  ], dtype=float32)
    >>> sample_from_t_list(4, [1.0, 0.75, 0.5, 0.0], rng=np.random.default_rng(0), return_index=True)
    (array([0.75, 1.  , 1.  , 1.  ], dtype=float32), array([1, 0, 0, 0], dtype=int32))
    """
    entries = checked_t_list(t_list)
    check_flag(return_index, "return_index")
    shape, backend, rng, dtype = _resolved(n, rng, xp, device, dtype)
    (index,) = backend.sample(shape, Index(len(entries) - 1), rng, device, backend.xp.int32)
    # The entries are rounded in Python, so that they have the same bits on every framework.
    t = backend.take(rounded_entries(entries[:-1], *backend.finfo(dtype)), index, dtype)
    return (t, index) if return_index else t


@cached
def _times(config: SampleTimestepConfig, stratified: bool, backend: Backend, dtype: Any) -> Times:
    return Times(config, *bounds(config, backend, dtype), stratified)


def _probability(value: Any, name: str) -> float:
    number = plain(value)
    if not is_real(number):
        raise TypeError(f"{name} must be a number in [0, 1], got {shown(value)}")
    if not lies_in(number, 0, 1):  # NaN fails too.
        raise ValueError(f"{name} must lie in [0, 1], got {shown(value)}")
    return float(number)


def _resolved(n: Any, rng: Any, xp: Any, device: Any, dtype: Any) -> tuple[tuple[int, ...], Backend, Any, Any]:
    """Check the arguments of every sampler. Return the shape to draw, the backend, and its rng and dtype."""
    # Fast path: the other checks of a size take 1 us.
    shape = (n,) if type(n) is int and 0 <= n <= sys.maxsize else _checked_shape(n)
    if rng is not None:
        (rng,) = of_one_framework(plain(rng))  # A flax.nnx.RngKey is a JAX key.
    backend = backend_for_draws(rng, xp, device, dtype)
    dtype = backend.dtype(dtype)
    if not backend.is_floating(dtype):
        raise TypeError(f"dtype must be a real floating dtype, got {dtype}")
    return shape, backend, rng, dtype


def _checked_shape(n: Any) -> tuple[int, ...]:
    shape = tuple([plain(size) for size in (n if isinstance(n, tuple) else (n,))])
    if any([is_integer(size) and size < 0 for size in shape]):
        raise ValueError(f"n must not be negative, got {shown(n)}")
    for size in shape:
        if isinstance(size, bool) or not (is_integer(size) or is_symbolic(size)):
            is_array = not is_real(size) and hasattr(size, "shape")
            hint = "; n is static: pass x.shape[0] or int(n), and under jax.jit use static_argnames='n'"
            raise TypeError(f"n must be an integer or a tuple of integers, got {shown(n)}{hint if is_array else ''}")
    # XLA aborts the process at a shape such as (2**40, 2**40, 0).
    if math.prod([size or 1 for size in shape if is_integer(size)]) > sys.maxsize:
        raise ValueError(f"n is too large for an array, got {shown(n)}")
    return shape

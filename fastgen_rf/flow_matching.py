"""The forward process and its inversions: signatures and documentation.

The convention is ``x_t = (1 - t) x_0 + t eps`` with flow ``v = eps - x_0``: t = 0 is data, t = 1 is noise. The formulas
are in :mod:`fastgen_rf._formulas`, and :mod:`fastgen_rf._evaluate` evaluates them. The module has the names of
``modelopt.torch.fastgen.flow_matching`` and can replace it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastgen_rf import _formulas
from fastgen_rf._evaluate import checked_time, evaluate, floating_backend, mixed
from fastgen_rf._numbers import plain
from fastgen_rf._tracing import fixed, shown
from fastgen_rf._typing import Array, ArrayT, TimeT
from fastgen_rf.backends import backend_of, is_number, of_one_framework
from fastgen_rf.backends._standard import may_equal
from fastgen_rf.timesteps import sample_from_t_list, sample_timesteps

__all__ = [
    "add_noise",
    "expand_like",
    "pred_noise_to_pred_x0",
    "pred_x0_from_flow",
    "rf_alpha",
    "rf_sigma",
    "sample_from_t_list",
    "sample_timesteps",
    "x0_to_eps",
    "x0_to_flow",
]


def rf_alpha(t: TimeT) -> TimeT:
    """Return the data coefficient of the forward process: ``alpha_t = 1 - t``.

    Parameters
    ----------
    t : float or real floating array of any shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped.

    Returns
    -------
    float or array, the shape of t
        ``1 - t`` in t's dtype.

    Raises
    ------
    TypeError
        If t is neither a float nor a real floating array.
    ValueError
        If t is a float outside [0, 1].

    Examples
    --------
    >>> rf_alpha(np.array([0.0, 0.25, 1.0]))
    array([1.  , 0.75, 0.  ])
    """
    time: Any = checked_time(t)
    if is_number(time):
        return 1.0 - time  # type: ignore[no-any-return]
    return floating_backend(time, "t").complement(time)  # type: ignore[no-any-return]


def rf_sigma(t: TimeT) -> TimeT:
    """Return the noise coefficient of the forward process: ``sigma_t = t``.

    Parameters
    ----------
    t : float or real floating array of any shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped.

    Returns
    -------
    float or array, the shape of t
        t itself.

    Raises
    ------
    TypeError
        If t is neither a float nor a real floating array.
    ValueError
        If t is a float outside [0, 1].

    Examples
    --------
    >>> rf_sigma(0.25)
    0.25
    """
    time: Any = checked_time(t)
    if not is_number(time):
        floating_backend(time, "t")
    return time  # type: ignore[no-any-return]


def add_noise(x0: ArrayT, eps: Array, t: Array | float) -> ArrayT:
    """Noise clean data to time t: ``x_t = (1 - t) x_0 + t eps``.

    The rectified-flow forward process (Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747).
    Computed in float64 and rounded once.

    Parameters
    ----------
    x0, eps : real floating array, shape (B, ...)
        Clean data and standard normal noise.
    t : float or array, shape () or (B,) or any prefix of x0's shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped. An array that broadcasts against x0 after
        trailing singleton axes is accepted too.

    Returns
    -------
    array, shape (B, ...)
        The noised data, in x0's dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t does not fit them, or is a float outside [0, 1].

    Examples
    --------
    >>> x0, eps = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((2, 2))
    >>> add_noise(x0, eps, np.array([0.0, 0.5]))
    array([[1. , 2. ],
           [1.5, 2. ]])
    """
    return evaluate(_formulas.add_noise, ("x0", "eps"), (x0, eps), (t,))


def pred_noise_to_pred_x0(pred_noise: Array, noisy_latents: ArrayT, t: Array | float) -> ArrayT:
    """Convert a noise prediction to an x_0 prediction: ``x_0 = (x_t - t eps) / (1 - t)``.

    Inverse of :func:`x0_to_eps`. Computed in float64 and rounded once.

    Parameters
    ----------
    pred_noise, noisy_latents : real floating array, shape (B, ...)
        Predicted noise and the noisy input x_t that it was predicted from.
    t : float or array, shape () or (B,) or any prefix of pred_noise's shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped. The denominator is ``max(1 - t, 1e-6)``: at
        t = 1 the inputs do not determine the data.

    Returns
    -------
    array, shape (B, ...)
        The predicted x_0, in noisy_latents' dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t does not fit them, or is a float outside [0, 1].

    Examples
    --------
    >>> pred_noise_to_pred_x0(np.array([2.0]), np.array([1.5]), 0.5)
    array([1.])
    """
    return evaluate(_formulas.eps_to_x0, ("pred_noise", "noisy_latents"), (pred_noise, noisy_latents), (t,), dtype_of=1)


def pred_x0_from_flow(pred_flow: Array, noisy_latents: ArrayT, t: Array | float) -> ArrayT:
    """Convert a flow prediction to an x_0 prediction: ``x_0 = x_t - t v``.

    Inverse of :func:`x0_to_flow`. Computed in float64 and rounded once.

    Parameters
    ----------
    pred_flow, noisy_latents : real floating array, shape (B, ...)
        Predicted flow ``v = eps - x_0`` and the noisy input x_t that it was predicted from.
    t : float or array, shape () or (B,) or any prefix of pred_flow's shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped.

    Returns
    -------
    array, shape (B, ...)
        The predicted x_0, in noisy_latents' dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t does not fit them, or is a float outside [0, 1].

    Examples
    --------
    >>> pred_x0_from_flow(np.array([1.0]), np.array([1.5]), 0.5)
    array([1.])
    """
    return evaluate(_formulas.flow_to_x0, ("pred_flow", "noisy_latents"), (pred_flow, noisy_latents), (t,), dtype_of=1)


def x0_to_eps(x0: ArrayT, x_t: Array, t: Array | float) -> ArrayT:
    """Recover the noise that an x_0 prediction implies: ``eps = (x_t - (1 - t) x_0) / t``.

    Inverse of :func:`pred_noise_to_pred_x0`. Computed in float64 and rounded once.

    Parameters
    ----------
    x0, x_t : real floating array, shape (B, ...)
        Predicted clean data and the noisy input it was predicted from.
    t : float or array, shape () or (B,) or any prefix of x0's shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped. The denominator is ``max(t, 1e-6)``: at t = 0
        the inputs do not determine the noise.

    Returns
    -------
    array, shape (B, ...)
        The implied noise, in x0's dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t does not fit them, or is a float outside [0, 1].

    Examples
    --------
    >>> x0_to_eps(np.array([1.0]), np.array([1.5]), 0.5)
    array([2.])
    """
    return evaluate(_formulas.x0_to_eps, ("x0", "x_t"), (x0, x_t), (t,))


def x0_to_flow(x0: ArrayT, x_t: Array, t: Array | float) -> ArrayT:
    """Convert an x_0 prediction to a flow prediction: ``v = (x_t - x_0) / t``.

    Inverse of :func:`pred_x0_from_flow`. Computed in float64 and rounded once. Use it for x_0
    *predictions* only. The training target is ``eps - x_0``: this function divides the rounding error of x_t by t.

    Parameters
    ----------
    x0, x_t : real floating array, shape (B, ...)
        Predicted clean data and the noisy input it was predicted from.
    t : float or array, shape () or (B,) or any prefix of x0's shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped. The denominator is ``max(t, 1e-6)``: at t = 0
        the inputs do not determine the flow.

    Returns
    -------
    array, shape (B, ...)
        The flow ``eps - x_0``, in x0's dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t does not fit them, or is a float outside [0, 1].

    Examples
    --------
    >>> x0_to_flow(np.array([1.0]), np.array([1.5]), 0.5)
    array([1.])
    """
    return evaluate(_formulas.x0_to_flow, ("x0", "x_t"), (x0, x_t), (t,))


def expand_like(x: ArrayT, target: Array, *, axes: Sequence[int] | None = None) -> ArrayT:
    """Give x singleton axes, so that it broadcasts against target.

    Parameters
    ----------
    x : array of any dtype
        Per-sample or per-frame values.
    target : array of the same framework
        The array to broadcast against; only its shape is used.
    axes : sequence of int, optional
        The axes of target that x's axes are aligned with, in x's order; by default the leading axes.
        ``axes=(0, 2)`` aligns a per-frame x of shape (B, F) with a video of shape (B, C, F, H, W).

    Returns
    -------
    array with target's number of axes
        A reshaped x, in x's dtype; a view if the framework has views.

    Raises
    ------
    TypeError
        If x or target is not an array, they come from different frameworks, or axes are not integers.
    ValueError
        If x does not broadcast against target on these axes, or axes are repeated, out of range, or not one per axis
        of x.

    Examples
    --------
    >>> video = np.zeros((2, 3, 5, 8, 8))
    >>> expand_like(np.zeros(2), video).shape
    (2, 1, 1, 1, 1)
    >>> expand_like(np.zeros((2, 5)), video, axes=(0, 2)).shape
    (2, 1, 5, 1, 1)
    """
    x, target = of_one_framework(x, target)
    backend, theirs = backend_of(x, "x"), backend_of(target, "target")
    if theirs != backend:
        raise mixed("x", backend, "target", theirs)
    goal = tuple(target.shape)
    places = tuple(range(len(x.shape))) if axes is None else _normalized(axes, len(x.shape), len(goal))
    if len(places) > len(goal) or not all(
        n == 1 or goal[at] == 1 or may_equal(n, goal[at]) for n, at in zip(x.shape, places, strict=True)
    ):
        aligned = f" aligned with axes {places}" if axes is not None else ""
        raise ValueError(f"x must broadcast against target's shape {shown(goal)}, got {shown(tuple(x.shape))}{aligned}")
    if sorted(places) != list(places):
        x = backend.permute(x, sorted(range(len(places)), key=places.__getitem__))
    index = tuple(slice(None) if at in places else None for at in range(len(goal)))
    return x[index]  # type: ignore[index, no-any-return]


def _normalized(axes: Sequence[int], rank: int, goal: int) -> tuple[int, ...]:
    """Check ``axes`` and count the negative ones from the end of target's ``goal`` axes."""
    numbers: tuple[Any, ...] = tuple([fixed(plain(axis)) for axis in axes]) if isinstance(axes, Sequence) else (None,)
    if any(isinstance(axis, bool) or not isinstance(axis, int) for axis in numbers):
        raise TypeError(f"axes must be a tuple or list of integers, got {shown(axes)}")
    places = tuple(axis + goal if axis < 0 else axis for axis in numbers)
    if len(places) != rank or len(set(places)) != rank or not all(0 <= at < goal for at in places):
        raise ValueError(f"axes must name {rank} different axes of a {goal}-dimensional target, got {shown(axes)}")
    return places

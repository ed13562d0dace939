"""Schedules: times shifted towards noise, the shift for a resolution, and the t_list of a few-step student."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastgen_rf import _time_maps
from fastgen_rf._evaluate import check_fits, checked_time, floating_backend
from fastgen_rf._numbers import finite, is_integer, is_real, plain, positive
from fastgen_rf._tracing import evaluated_by_tracer, fixed, shown
from fastgen_rf._typing import Array, TimeT
from fastgen_rf.backends import is_array, is_number, of_one_framework

__all__ = ["make_t_list", "resolution_shift", "shift_timesteps"]


def shift_timesteps(t: TimeT, shift: float | Array) -> TimeT:
    """Shift times towards noise: ``shift t / (1 + (shift - 1) t)``.

    The map keeps 0 and 1 in place and multiplies the odds ``t / (1 - t)`` by shift (SD3, arXiv:2403.03206, section
    5.3.2). Shifts compose: a shift by b and then by a is a shift by ``a b``, and a shift by ``1 / a`` undoes one by a.

    Parameters
    ----------
    t : float or real floating array of any shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped.
    shift : float or real floating array
        Positive; above 1 it moves times towards noise, below 1 towards data. An array has t's shape or a leading part
        of it, for example one shift for each sample, and needs an array t. Its values are not checked.

    Returns
    -------
    float or array, the shape of t
        Shifted times in t's dtype, computed in float64 and rounded once.

    Raises
    ------
    TypeError
        If t is neither a float nor a real floating array, shift is neither a number nor a real floating array, or shift
        is an array and t is not.
    ValueError
        If t is a float outside [0, 1], a number shift is not positive and finite, or an array shift does not fit t or
        is on another device.

    Examples
    --------
    >>> shift_timesteps(np.array([0.0, 0.5, 1.0]), 3.0)
    array([0.  , 0.75, 1.  ])
    >>> shift_timesteps(np.array([0.5, 0.5]), np.array([1.0, 3.0]))
    array([0.5 , 0.75])
    """
    time: Any = checked_time(t)
    if not is_real(plain(shift)) and is_array(shift):
        if is_number(time):
            raise TypeError(f"shift must be a number where t is a number, got {type(shift).__name__}")
        time, factor = of_one_framework(time, shift)
        backend = floating_backend(time, "t")
        check_fits(backend, time, "t", factor, "shift")
        return backend.map_times(_time_maps.shift, (time, factor))  # type: ignore[no-any-return]
    factor = positive(shift, "shift")
    if is_number(time):
        return _time_maps.shift(time, factor)  # type: ignore[no-any-return]
    return floating_backend(time, "t").map_times(_time_maps.shift, (time,), (factor,))  # type: ignore[no-any-return]


def resolution_shift(
    tokens: float,
    *,
    base_tokens: float = 256,
    max_tokens: float = 4096,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
) -> float:
    """Return the shift for a number of image tokens: ``exp`` of a linear function of the token count, as in Flux.

    The line goes through ``(base_tokens, base_shift)`` and ``(max_tokens, max_shift)``, and continues beyond both. Its
    values are logarithms of shifts, which Flux calls mu. The shift for :func:`shift_timesteps` is ``exp(mu)``.

    Parameters
    ----------
    tokens : int
        Length of the transformer's sequence: pixels / 256 for patches of 2 x 2 latents of 8 x 8 pixels.
    base_tokens, max_tokens : int
        Two different lengths, at least 0.
    base_shift, max_shift : float
        Logarithms of the shifts at these lengths.

    Returns
    -------
    float
        The shift, positive.

    Raises
    ------
    TypeError
        If an argument is not a number.
    ValueError
        If tokens is not positive and finite, base_tokens or max_tokens is negative or not finite, the two are equal, a
        shift is not finite, or the result is beyond float64.

    Examples
    --------
    >>> round(resolution_shift(1024 * 1024 // 256), 3)
    3.158
    """
    count = positive(tokens, "tokens")
    least, most = finite(base_tokens, "base_tokens"), finite(max_tokens, "max_tokens")
    for name, given, anchor in (("base_tokens", base_tokens, least), ("max_tokens", max_tokens, most)):
        if anchor < 0:
            raise ValueError(f"{name} must be at least 0, got {given!r}")
    low, high = finite(base_shift, "base_shift"), finite(max_shift, "max_shift")
    if least == most:
        raise ValueError(f"base_tokens and max_tokens must differ, got {shown(base_tokens)} twice")
    mu = low + (high - low) / (most - least) * (count - least)
    if mu > 700:
        raise ValueError(f"shift overflows float64 (log shift = {fixed(mu):.4g}) for tokens={shown(tokens)}")
    return math.exp(mu)


def make_t_list(
    steps: int, *, shift: float = 1.0, max_t: float = 0.999, terminal: float | None = None
) -> tuple[float, ...]:
    """Make the t_list of a few-step student: evenly spaced times, shifted, from max_t to 0.

    ``t_i = max_t s_i / s_0``, where s_i is :func:`shift_timesteps` of ``max_t (1 - i / steps)``. With ``terminal``,
    each entry but the final 0 becomes ``1 - (1 - t_i) (1 - terminal) / (1 - t_last)``, where t_last is the last entry
    before 0. This stretches the times so that the last one before 0 is terminal (LTX-2, Qwen-Image).

    Three grids are in use; they differ where max_t is below 1. This function scales the shifted times, so that the
    first is max_t. FastGen and nvidia-modelopt clamp them instead: ``[min(shift_timesteps(t, shift), max_t) for t in
    make_t_list(steps, max_t=max_t)]``. AnyFlow starts at 1: ``make_t_list(steps, shift=shift, max_t=1.0)``.

    Parameters
    ----------
    steps : int
        At least 1.
    shift : float
        Positive; a shift above 1 puts more of the times near noise.
    max_t : float
        The first time, in (0, 1].
    terminal : float, optional
        The last time before 0, in (0, 1). It needs ``max_t=1`` and at least 2 steps.

    Returns
    -------
    tuple of steps + 1 floats
        Strictly decreasing from max_t to 0, also after rounding to float32.

    Raises
    ------
    TypeError
        If steps is no integer, or shift, max_t or terminal no number.
    ValueError
        If steps is less than 1, shift not positive and finite, max_t outside (0, 1], terminal outside (0, 1), or two
        times coincide in float32; or if terminal is given with max_t below 1 or with one step.

    Examples
    --------
    >>> make_t_list(4, max_t=1.0)
    (1.0, 0.75, 0.5, 0.25, 0.0)
    >>> [round(t, 4) for t in make_t_list(4, shift=5.0, max_t=1.0)]
    [1.0, 0.9375, 0.8333, 0.625, 0.0]
    >>> [round(t, 4) for t in make_t_list(4, max_t=1.0, terminal=0.1)]
    [1.0, 0.7, 0.4, 0.1, 0.0]
    """
    number = plain(steps)
    if not is_integer(number):
        raise TypeError(f"steps must be an integer, got {shown(steps)}")
    if number < 1:
        raise ValueError(f"steps must be at least 1, got {shown(steps)}")
    count, shift, max_t = fixed(int(number)), fixed(positive(shift, "shift")), fixed(positive(max_t, "max_t"))
    if max_t > 1:
        raise ValueError(f"max_t must lie in (0, 1], got {max_t!r}")
    first = _time_maps.shift(max_t, shift)
    t_list = (max_t, *(max_t * (_time_maps.shift(max_t * (1 - i / count), shift) / first) for i in range(1, count + 1)))
    if terminal is not None:
        t_list = _stretched(t_list, fixed(finite(terminal, "terminal")))
    if not _are_apart(t_list):
        raise ValueError(
            f"timesteps coincide in float32 for shift={shift!r}, steps={steps!r}; use a shift closer to 1 or "
            "fewer steps"
        )
    return t_list


def _stretched(t_list: tuple[float, ...], terminal: float) -> tuple[float, ...]:
    """The times stretched so that the last one before 0 is ``terminal``, with the first one, 1, in place."""
    if not 0 < terminal < 1:
        raise ValueError(f"terminal must lie in (0, 1), got {terminal!r}")
    if t_list[0] != 1:
        raise ValueError(f"terminal needs max_t=1, got max_t={t_list[0]!r}")
    if len(t_list) < 3:
        raise ValueError("terminal needs at least 2 steps, got steps=1")
    *inner, last, end = t_list
    return (*(1 - (1 - t) * (1 - terminal) / (1 - last) for t in inner), terminal, end)


@evaluated_by_tracer
def _are_apart(t_list: tuple[float, ...]) -> bool:
    """Whether the times descend strictly in float32."""
    return all(high > low for high, low in itertools.pairwise(map(np.float32, t_list)))

"""The times of a roll-out: shifting them towards noise, how far a resolution asks, and a few-step student's t_list."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastgen_rf import _formulas
from fastgen_rf._distributions import apply_shift
from fastgen_rf._evaluate import checked_time, evaluate
from fastgen_rf._numbers import finite, is_integer, plain, positive
from fastgen_rf._tracing import evaluated_by_tracer, fixed, shown
from fastgen_rf._typing import TimeT
from fastgen_rf.backends import is_number

__all__ = ["make_t_list", "resolution_shift", "shift_timesteps"]


def shift_timesteps(t: TimeT, shift: float) -> TimeT:
    """Shift times towards noise: ``shift t / (1 + (shift - 1) t)``.

    The map that leaves 0 and 1 in place and multiplies the odds ``t / (1 - t)`` by shift (SD3,
    arXiv:2403.03206, section 5.3.2). Shifts compose: one by a after one by b is one by a b, and one
    by 1 / a undoes one by a. Computed in float64 and rounded once.

    Parameters
    ----------
    t : float or real floating array of any shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped.
    shift : float
        Positive; above 1 it moves times towards noise, below 1 towards data.

    Returns
    -------
    float or array, the shape of t
        Shifted times in t's dtype, rounded to nearest.

    Raises
    ------
    TypeError
        If t is neither a float nor a real floating array, or shift is no number.
    ValueError
        If t is a float outside [0, 1], or shift is not positive and finite.

    See Also
    --------
    resolution_shift : How far to shift.
    make_t_list : A roll-out's shifted times.

    Examples
    --------
    >>> shift_timesteps(np.array([0.0, 0.5, 1.0]), 3.0)
    array([0.  , 0.75, 1.  ])
    """
    factor = positive(shift, "shift")
    time: Any = checked_time(t)
    if is_number(time):
        return apply_shift(time, factor)  # type: ignore[no-any-return]
    return evaluate(_formulas.Shift(factor), ("t", time), ("t", time), time, like=time)  # type: ignore[no-any-return]


def resolution_shift(
    tokens: float,
    *,
    base_tokens: float = 256,
    max_tokens: float = 4096,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
) -> float:
    """Return the shift for a number of image tokens: ``exp`` of a line in that number, as Flux has it.

    The line goes through ``(base_tokens, base_shift)`` and ``(max_tokens, max_shift)``, and on beyond both. Its values
    are the logarithms of shifts: Flux calls them mu, and the shift that :func:`shift_timesteps` takes is ``exp(mu)``.

    Parameters
    ----------
    tokens : int
        Length of the sequence that the transformer sees: pixels / 256 for a patch of 2 x 2 latents of 8 x 8 pixels.
    base_tokens, max_tokens : int
        Two different lengths, at least 0.
    base_shift, max_shift : float
        Logarithms of the shifts there.

    Returns
    -------
    float
        The shift, positive.

    Raises
    ------
    TypeError
        If an argument is no number.
    ValueError
        If tokens is not positive and finite, base_tokens or max_tokens is negative or not finite, the two are equal, a
        shift is not finite, or the result is beyond float64.

    See Also
    --------
    shift_timesteps : What takes the shift.

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


def make_t_list(steps: int, *, shift: float = 1.0, max_t: float = 0.999) -> tuple[float, ...]:
    """Make the t_list of a student with so many steps: evenly spaced times, shifted, from max_t to 0.

    ``t_i = max_t s_i / s_0``, where s_i is :func:`shift_timesteps` of ``max_t (1 - i / steps)``. The tuple feeds
    :func:`sample_from_t_list`, ``SampleTimestepConfig.t_list`` and a loop over its neighbours.

    Parameters
    ----------
    steps : int
        At least 1.
    shift : float
        Positive; above 1 it puts more of the times near noise.
    max_t : float
        The first time, in (0, 1].

    Returns
    -------
    tuple of steps + 1 floats
        Strictly descending, from max_t to 0, in float32 as well.

    Raises
    ------
    TypeError
        If steps is no integer, or shift or max_t no number.
    ValueError
        If steps is less than 1, shift not positive and finite, max_t outside (0, 1], or two times coincide in float32.

    See Also
    --------
    sample_from_t_list : Draw from the rungs.
    ode_step : Step along them.

    Examples
    --------
    >>> make_t_list(4, max_t=1.0)
    (1.0, 0.75, 0.5, 0.25, 0.0)
    >>> [round(t, 4) for t in make_t_list(4, shift=5.0, max_t=1.0)]
    [1.0, 0.9375, 0.8333, 0.625, 0.0]
    """
    number = plain(steps)
    if not is_integer(number):
        raise TypeError(f"steps must be an integer, got {shown(steps)}")
    if number < 1:
        raise ValueError(f"steps must be at least 1, got {shown(steps)}")
    count, shift, max_t = fixed(int(number)), fixed(positive(shift, "shift")), fixed(positive(max_t, "max_t"))
    if max_t > 1:
        raise ValueError(f"max_t must lie in (0, 1], got {max_t!r}")
    first = apply_shift(max_t, shift)
    t_list = (max_t, *(max_t * (apply_shift(max_t * (1 - i / count), shift) / first) for i in range(1, count + 1)))
    if not _are_apart(t_list):
        raise ValueError(
            f"timesteps coincide in float32 for shift={shift!r}, steps={steps!r}; use a shift closer to 1 or "
            "fewer steps"
        )
    return t_list


@evaluated_by_tracer
def _are_apart(t_list: tuple[float, ...]) -> bool:
    """Whether the times descend strictly in float32."""
    return all(high > low for high, low in itertools.pairwise(map(np.float32, t_list)))

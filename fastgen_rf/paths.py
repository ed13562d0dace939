"""Times and noisy samples of other Gaussian paths: EDM, DDPM, TrigFlow.

A noise level is the ratio of noise to data, ``sigma : alpha``. x_0 and eps are the same on every path. The time
parameterization, the scale of the noisy sample and the velocity differ.
:func:`fastgen_rf.predictions.convert_prediction` converts velocities.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastgen_rf import _formulas, _time_maps
from fastgen_rf._evaluate import check_choices, checked, checked_time, evaluate, floating_backend
from fastgen_rf._numbers import plain
from fastgen_rf._tracing import evaluated_by_tracer, fixed
from fastgen_rf._typing import Array, ArrayT, StatePath, TimeParameterization, TimeT

__all__ = ["convert_state", "convert_time"]

_RANGES = {"angle": (0.0, math.pi / 2), "sigma": (0.0, math.inf), "log_snr": (-math.inf, math.inf)}
_HALF_PI_OF_FLOAT32 = float(np.float32(math.pi / 2))
# The conversions among these use arithmetic and square roots only.
_ARITHMETIC = ("rf", "sigma", "alpha_bar")


def convert_time(time: TimeT, *, source: TimeParameterization, target: TimeParameterization) -> TimeT:
    """Convert a noise level to another time parameterization.

    =============== ====================================== ==========================================================
    name            value at RF time t                     used by
    =============== ====================================== ==========================================================
    ``"rf"``        ``t``, in [0, 1]                       this library
    ``"angle"``     ``atan2(t, 1 - t)``, in [0, pi/2]      TrigFlow (arXiv:2410.11081)
    ``"sigma"``     ``t / (1 - t)``, in [0, inf]           EDM (arXiv:2206.00364), VE
    ``"log_snr"``   ``2 log((1 - t) / t)``                 VDM (arXiv:2107.00630); the logarithm of alpha^2 / sigma^2
    ``"alpha_bar"`` ``(1 - t)^2 / ((1 - t)^2 + t^2)``      the cumulative product of DDPM (arXiv:2006.11239)
    =============== ====================================== ==========================================================

    Computed in float64 without cancellation, to a few units in the last place, and rounded once. One error is
    absolute: near 0 the ``log_snr`` of an angle is within 5e-16, because pi/4 is rounded. Pass floats or float64
    arrays, and convert a time before it is rounded to a narrower dtype.

    Derivatives at the ends are the limits, including infinite ones. A second derivative may be NaN where the first is
    infinite.

    Parameters
    ----------
    time : float or real floating array of any shape
        The noise level as ``source``. ``t = 1`` is ``sigma = inf`` and ``log_snr = -inf``, ``t = 0`` ``log_snr = inf``.
        Angles in an array are clipped to [0, pi/2]. Angles up to 2**-23 outside, such as float32(pi/2) > pi/2, have
        the slope at the end; further outside the slope is 0. Floats within 1e-12 of the ends of the range are clamped.
    source, target : str
        Time parameterizations of time and of the result, from the table. Equal names return time itself.

    Returns
    -------
    float or array, the shape of time
        The noise level as ``target``, in time's dtype.

    Raises
    ------
    TypeError
        If time is neither a number nor a real floating array, or if it is an array on a device without float64 and
        source or target is ``"angle"`` or ``"log_snr"``.
    ValueError
        If source or target is not a time parameterization, or time is NaN or a number outside of its range.

    Examples
    --------
    >>> convert_time(4.0, source="sigma", target="rf")
    0.8
    >>> convert_time(np.array([0.0, 0.5, 1.0]), source="rf", target="log_snr")
    array([ inf,   0., -inf])
    """
    check_choices(source, target, _time_maps.PARAMETERIZATIONS)
    level: Any = _checked_level(time, source)
    if isinstance(level, float):
        return level if source == target else _converted(fixed(level), source, target)[0] * 1.0  # type: ignore[return-value]
    backend = floating_backend(level, "time")
    if source == target:
        return level  # type: ignore[no-any-return]
    if not {source, target} <= set(_ARITHMETIC) and not backend.has_float64(backend.device(level)):
        raise TypeError(
            f"'angle' and 'log_snr' need float64, which device {backend.device(level)} lacks: pass a float or a "
            "NumPy array as time and move the result to the device"
        )
    return backend.map_times(_time_maps.CONVERSIONS[source, target], (level,))  # type: ignore[no-any-return]


@evaluated_by_tracer
def _converted(level: float, source: TimeParameterization, target: TimeParameterization) -> tuple[float]:
    """``level`` converted as an array is, because the functions of math and of NumPy differ in the last bit."""
    return (convert_time(np.asarray([level]), source=source, target=target).item(),)


def convert_state(x: ArrayT, t: Array | float, *, source: StatePath, target: StatePath) -> ArrayT:
    """Rescale a noisy sample from one path to another, at RF time t.

    ======== =================================== ================================
    path     scale of ``alpha x_0 + sigma eps``  used by
    ======== =================================== ================================
    ``"rf"`` ``alpha + sigma = 1``               this library
    ``"vp"`` ``alpha^2 + sigma^2 = 1``           DDPM, TrigFlow
    ``"ve"`` ``alpha = 1``                       EDM
    ======== =================================== ================================

    For example, ``"rf"`` to ``"vp"`` is ``x / sqrt((1 - t)^2 + t^2)``, and ``"rf"`` to ``"ve"`` is
    ``x / max(1 - t, 1e-6)``. Computed in float64 and rounded once. To get t from the time of another path, use
    :func:`convert_time`.

    Parameters
    ----------
    x : real floating array, shape (B, ...)
        The noisy sample on the path ``source``.
    t : float or array, shape () or (B,) or any prefix of x's shape
        The noise level, as RF time in [0, 1]; floats within 1e-12 of the ends are clamped.
    source, target : str
        Paths of x and of the result, from the table. Equal paths return x itself.

    Returns
    -------
    array, shape (B, ...)
        The noisy sample on the path ``target``, in x's dtype and on its device.

    Raises
    ------
    TypeError
        If x or t is not real floating, or they come from different frameworks.
    ValueError
        If source or target is not a path, or if t does not fit x, is on another device, or is a float outside [0, 1].

    Examples
    --------
    >>> convert_state(np.array([1.0]), 0.75, source="rf", target="ve")
    array([4.])
    """
    check_choices(source, target, _formulas.PATHS)
    if source == target:
        return checked(("x",), (x,), (t,))[1][0]  # type: ignore[no-any-return]
    return evaluate(_formulas.RESCALINGS[source, target], ("x",), (x,), (t,))


def _checked_level(time: Any, source: str) -> Any:
    """Check a number and return it as a float; let anything else pass."""
    number = plain(time)
    low, high = _RANGES.get(source, (0.0, 1.0))
    # The message of checked_time mentions [0, 1] and a division by 1000, which applies to "rf" only.
    if (
        isinstance(number, (int, complex))
        and source != "rf"
        and (isinstance(number, (bool, complex)) or (high < math.inf and number not in (0, 1)))
    ):
        raise TypeError(f"time must be a float or a real floating array for source {source!r}, got {time!r}")
    if source == "angle" and isinstance(time, np.generic) and isinstance(number, float):
        # Float32 rounds pi/2 up.
        high = max(high, float(np.asarray(high, time.dtype)))
    elif source == "angle" and isinstance(time, np.ndarray):
        # In a trace by Dynamo, a NumPy scalar is an array, and its dtype cannot be read.
        high = _HALF_PI_OF_FLOAT32
    return checked_time(time, "time", low, high, source if source in _RANGES else "")

"""Conversions between prediction types, and the deterministic sampler steps.

A chain of two conversions rounds twice, and may multiply by a small number only to divide by it again. Here each pair
of prediction types has its own formula, in the form that divides least. The formulas are in
:mod:`fastgen_rf._formulas`.
"""

from __future__ import annotations

from fastgen_rf import _formulas
from fastgen_rf._evaluate import SLACK, check_choices, checked, checked_time, evaluate
from fastgen_rf._tracing import lies_in, shown
from fastgen_rf._typing import Array, ArrayT, PredictionType

__all__ = ["convert_prediction", "flow_step", "ode_step", "renoise"]


def convert_prediction(
    pred: ArrayT, x_t: Array, t: Array | float, *, source: PredictionType, target: PredictionType
) -> ArrayT:
    """Convert a prediction to another prediction type, in one formula with one rounding.

    =========== ===================================== ============================================================
    type        value                                 source
    =========== ===================================== ============================================================
    ``"x0"``    ``x_0``                               the clean data
    ``"eps"``   ``eps = (x_t - (1 - t) x_0) / t``     the noise
    ``"flow"``  ``eps - x_0``                         the velocity of the straight path (arXiv:2209.03003)
    ``"v"``     ``(1 - t) eps - t x_0``               v-prediction's formula with this path's coefficients
    ``"v_vp"``  ``((1 - t) eps - t x_0) / norm``,     v-prediction (arXiv:2202.00512), the velocity on the
                ``norm = sqrt((1 - t)^2 + t^2)``      variance-preserving path (DDPM, TrigFlow)
    ``"score"`` ``-eps / t``                          gradient of the log density of x_t given x_0
                                                      (arXiv:2011.13456)
    =========== ===================================== ============================================================

    ``"v"`` is not the flow. The ``v_prediction`` of diffusers is ``"v_vp"``, not ``"v"``. x_t is the noisy sample on
    this path for every type; :func:`convert_state` converts it from another path. Conversions from ``"flow"``, ``"v"``
    and ``"v_vp"`` divide by no small number, except for the score. For example, ``"flow"`` to ``"eps"`` is
    ``x_t + (1 - t) flow``. Computed in float64 and rounded once.

    Parameters
    ----------
    pred, x_t : real floating array, shape (B, ...)
        The prediction and the noisy input it was predicted from.
    t : float or array, shape () or (B,) or any prefix of pred's shape
        Time in [0, 1]; floats within 1e-12 of the ends are clamped. Conversions that divide by t or 1 - t divide by
        ``max(t, 1e-6)`` or ``max(1 - t, 1e-6)``.
    source, target : str
        Prediction types of pred and of the result, from the table. Equal types return pred itself.

    Returns
    -------
    array, shape (B, ...)
        The prediction as ``target``, in pred's dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If source or target is not a prediction type, the arrays' shapes or devices differ, t does not fit them, or t
        is a float outside [0, 1].

    Examples
    --------
    >>> x0, eps, t = np.array([1.0]), np.array([3.0]), 0.25
    >>> x_t = add_noise(x0, eps, t)
    >>> convert_prediction(x0, x_t, t, source="x0", target="v")
    array([2.])
    >>> convert_prediction(eps - x0, x_t, t, source="flow", target="score")
    array([-12.])
    """
    check_choices(source, target, _formulas.PREDICTION_TYPES)
    names, arrays = ("pred", "x_t"), (pred, x_t)
    if source == target:
        return checked(names, arrays, (t,))[1][0]  # type: ignore[no-any-return]
    return evaluate(_formulas.CONVERSIONS[source, target], names, arrays, (t,))


def ode_step(x0: Array, x_t: ArrayT, t: Array | float, t_next: Array | float) -> ArrayT:
    """Step from t to t_next along the straight line through x_t and x_0: ``x_0 + (x_t - x_0) t_next / t``.

    The deterministic step of a student that predicts x_0. It equals the Euler step along the flow that x_0 implies.
    Evaluated as ``x_0 (1 - r) + x_t r`` with ``r = t_next / max(t, 1e-6)``. For finite inputs this is exactly x_0 at
    ``t_next = 0``, and exactly x_t at ``t_next = t`` if ``t >= 1e-6``. Computed in float64 and rounded once. The step
    with fresh noise is ``add_noise(x0, eps, t_next)``. Do not start at t = 0: the line has no direction there, and the
    result is meaningless.

    Parameters
    ----------
    x0, x_t : real floating array, shape (B, ...)
        Predicted clean data and the noisy input it was predicted from.
    t, t_next : float or array, shape () or (B,) or any prefix of x0's shape
        Time of x_t and time of the result, in [0, 1]; one per sample or one for all. Floats within 1e-12 of the ends
        are clamped.

    Returns
    -------
    array, shape (B, ...)
        The noisy sample at t_next, in x_t's dtype and on its device, whatever the dtype of the prediction.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t or t_next does not fit them, or one of them is a float
        outside [0, 1].

    Examples
    --------
    >>> ode_step(np.array([1.0]), np.array([3.0]), 0.5, 0.25)
    array([2.])
    """
    return evaluate(_formulas.ode_step, ("x0", "x_t"), (x0, x_t), (t, t_next), dtype_of=1)


def flow_step(flow: Array, x_t: ArrayT, t: Array | float, t_next: Array | float) -> ArrayT:
    """Step from t to t_next along a flow: ``x_t + (t_next - t) flow``.

    If flow is the velocity at t, this is the Euler step. If flow is the average velocity between the two times
    (MeanFlow, shortcut models), it is the step of a flow map. The formula has no division; for finite inputs the result
    is exactly x_t at ``t_next = t``. Computed in float64 and rounded once.

    Parameters
    ----------
    flow, x_t : real floating array, shape (B, ...)
        Predicted velocity ``eps - x_0`` and the noisy input it was predicted from.
    t, t_next : float or array, shape () or (B,) or any prefix of flow's shape
        Time of x_t and time of the result, in [0, 1]; one per sample or one for all. Floats within 1e-12 of the ends
        are clamped. t_next may be larger than t (inversion, a step towards noise).

    Returns
    -------
    array, shape (B, ...)
        The noisy sample at t_next, in x_t's dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t or t_next does not fit them, or one of them is a float
        outside [0, 1].

    Examples
    --------
    >>> flow_step(np.array([4.0]), np.array([3.0]), 0.5, 0.25)
    array([2.])
    """
    return evaluate(_formulas.flow_step, ("flow", "x_t"), (flow, x_t), (t, t_next), dtype_of=1)


def renoise(x_t: ArrayT, eps: Array, t: Array | float, t_next: Array | float) -> ArrayT:
    """Add noise to a noisy sample, from t to a noisier time t_next: ``x_{t_next} = a x_t + b eps``.

    A sample from the transition ``q(x_{t_next} | x_t)`` of the forward process, with ``a = (1 - t_next) / (1 - t)`` and
    ``b = sqrt((t_next - t) (t_next (1 - t) + t (1 - t_next))) / (1 - t)``, where ``1 - t`` is at least 1e-6. This is
    ``sqrt(t_next^2 - a^2 t^2)`` in a form that does not cancel for neighboring times. Computed in float64 and rounded
    once.

    For finite arrays, the result is exactly ``add_noise(x_t, eps, t_next)`` at t = 0 and, for t up to ``1 - 1e-6``,
    exactly x_t at ``t_next = t`` and exactly eps at ``t_next = 1``. Closer to 1, the floor of 1e-6 shrinks the result;
    at t = 1 it is 0. Derivatives in t and t_next are infinite or NaN at ``t_next = t``. Those in x_t and eps are finite
    everywhere.

    Parameters
    ----------
    x_t, eps : real floating array, shape (B, ...)
        Noisy sample at time t, and fresh standard normal noise.
    t, t_next : float or array, shape () or (B,) or any leading part of x_t's
        Time of x_t and the noisier time to go to, in [0, 1]. Floats within 1e-12 of the ends are clamped, and a float
        t_next up to 1e-12 below a float t counts as t. Where an array of times has t_next below t, the result is NaN.

    Returns
    -------
    array, shape (B, ...)
        The noisy sample at t_next, with x_t's dtype and device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t or t_next does not fit them, a time is a float outside [0, 1], or the
        floats t and t_next have t_next below t.

    Examples
    --------
    >>> renoise(np.array([2.0]), np.array([1.0]), 0.5, 0.5)
    array([2.])
    >>> renoise(np.array([2.0]), np.array([1.0]), 0.0, 0.25)
    array([1.75])
    """
    start, end = checked_time(t), checked_time(t_next, "t_next")
    if isinstance(start, float) and isinstance(end, float) and not lies_in(end, start, 1.0):
        if not lies_in(end, start - SLACK, 1.0):
            raise ValueError(f"t_next must not be below t, got t={shown(t)} and t_next={shown(t_next)}")
        end = start
    return evaluate(_formulas.renoise, ("x_t", "eps"), (x_t, eps), (start, end))

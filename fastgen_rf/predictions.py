"""Every conversion between what networks predict, and the deterministic step of a student, one formula for each.

A chain of two conversions rounds twice, and may divide by a small number only to multiply by it again. Here every pair
of kinds has a formula of its own, in the form that divides least. The formulas that :mod:`fastgen_rf.flow_matching`
has already are taken from there.
"""

from __future__ import annotations

from typing import Any

from fastgen_rf import flow_matching
from fastgen_rf._evaluate import checked, evaluate, evaluate_between
from fastgen_rf._typing import Array, ArrayT, Formula

__all__ = ["convert_prediction", "ode_step"]


def convert_prediction(pred: ArrayT, x_t: Array, t: Array | float, *, source: str, target: str) -> ArrayT:
    """Convert a prediction from one kind to another, in one formula with one rounding.

    =========== =================================== ==============================================================
    kind        value                               source
    =========== =================================== ==============================================================
    ``"x0"``    ``x_0``                             the clean data
    ``"eps"``   ``eps = (x_t - (1 - t) x_0) / t``   the noise
    ``"flow"``  ``eps - x_0``                       the velocity of the straight path (arXiv:2209.03003)
    ``"v"``     ``(1 - t) eps - t x_0``             v-prediction (arXiv:2202.00512) with this path's coefficients
    ``"score"`` ``-eps / t``                        gradient of the log density of x_t given x_0 (arXiv:2011.13456)
    =========== =================================== ==============================================================

    So ``"v"`` is not the flow. From ``"flow"`` and ``"v"`` nothing is divided by a small number save for the score:
    ``"flow"`` to ``"eps"``, say, is ``x_t + (1 - t) flow``. Computed in float64 and rounded once.

    Parameters
    ----------
    pred, x_t : real floating array, shape (B, ...)
        The prediction and the noisy input it was predicted from.
    t : float or array, shape () or (B,) or any leading part of pred's
        Time in [0, 1]. Where a conversion divides by t or 1 - t it divides by ``max(t, 1e-6)`` or ``max(1 - t, 1e-6)``.
    source, target : str
        What pred is and what is wanted, of the kinds above. Equal ones return pred itself.

    Returns
    -------
    array, shape (B, ...)
        The prediction as ``target``, in pred's dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If source or target is none of the kinds, the arrays' shapes or devices differ, t does not fit them, or is a
        float outside [0, 1].

    Examples
    --------
    >>> x0, eps, t = np.array([1.0]), np.array([3.0]), 0.25
    >>> x_t = add_noise(x0, eps, t)
    >>> convert_prediction(x0, x_t, t, source="x0", target="v")
    array([2.])
    >>> convert_prediction(eps - x0, x_t, t, source="flow", target="score")
    array([-12.])
    """
    for name, kind in (("source", source), ("target", target)):
        if kind not in _KINDS:
            raise ValueError(f"{name} must be one of {', '.join(_KINDS)}, got {kind!r}")
    if source == target:
        checked(("pred", pred), ("x_t", x_t), t)
        return pred
    return evaluate(_FORMULAS[source, target], ("pred", pred), ("x_t", x_t), t, like=pred)


def ode_step(x0: ArrayT, x_t: Array, t: Array | float, t_next: Array | float) -> ArrayT:
    """Step from t to t_next along the straight line through x_t and x_0: ``x_0 + (x_t - x_0) t_next / t``.

    The deterministic step of a student that predicts x_0, and the Euler step along the flow that it implies. Evaluated
    as ``x_0 (1 - r) + x_t r`` with ``r = t_next / max(t, 1e-6)``: for finite inputs exactly x_0 at ``t_next = 0`` and,
    from ``t = 1e-6`` on, exactly x_t at ``t_next = t``. Computed in float64 and rounded once. The step with fresh noise
    is ``add_noise(x0, eps, t_next)``.

    Parameters
    ----------
    x0, x_t : real floating array, shape (B, ...)
        Predicted clean data and the noisy input it was predicted from.
    t, t_next : float or array, shape () or (B,) or any leading part of x0's
        Time of x_t and time to go to, in [0, 1]; one per sample or one for all.

    Returns
    -------
    array, shape (B, ...)
        The state at t_next, in x0's dtype and on its device.

    Raises
    ------
    TypeError
        If the arrays are not real floating, or come from different frameworks.
    ValueError
        If their shapes or devices differ, t or t_next does not fit them, or is a float outside [0, 1].

    Examples
    --------
    >>> ode_step(np.array([1.0]), np.array([3.0]), 0.5, 0.25)
    array([2.])
    """
    return evaluate_between(flow_matching._add_noise, _ratio, ("x0", x0), ("x_t", x_t), t, t_next, like=x0)


def _ratio(t: Any, t_next: Any, maximum: Any) -> Any:
    return t_next / maximum(t, 1e-6)


# In what follows (1 - t) (1 - t) + t t is the determinant of (x_0, eps) -> (x_t, v); it is at least 1/2.


def _x0_to_v(x0: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return ((1 - t) * x_t - ((1 - t) * (1 - t) + t * t) * x0) / maximum(t, 1e-6)


def _x0_to_score(x0: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return ((1 - t) * x0 - x_t) / (maximum(t, 1e-6) * maximum(t, 1e-6))


def _eps_to_flow(eps: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (eps - x_t) / maximum(1 - t, 1e-6)


def _eps_to_v(eps: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (((1 - t) * (1 - t) + t * t) * eps - t * x_t) / maximum(1 - t, 1e-6)


def _eps_to_score(eps: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return eps / -maximum(t, 1e-6)


def _flow_to_eps(flow: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return x_t + (1 - t) * flow


def _flow_to_v(flow: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (1 - 2 * t) * x_t + ((1 - t) * (1 - t) + t * t) * flow


def _flow_to_score(flow: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (x_t + (1 - t) * flow) / -maximum(t, 1e-6)


def _v_to_x0(v: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return ((1 - t) * x_t - t * v) / ((1 - t) * (1 - t) + t * t)


def _v_to_eps(v: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (t * x_t + (1 - t) * v) / ((1 - t) * (1 - t) + t * t)


def _v_to_flow(v: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (v - (1 - 2 * t) * x_t) / ((1 - t) * (1 - t) + t * t)


def _v_to_score(v: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (t * x_t + (1 - t) * v) / -(((1 - t) * (1 - t) + t * t) * maximum(t, 1e-6))


def _score_to_x0(score: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (x_t + t * t * score) / maximum(1 - t, 1e-6)


def _score_to_eps(score: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return -t * score


def _score_to_flow(score: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return (x_t + t * score) / -maximum(1 - t, 1e-6)


def _score_to_v(score: Any, x_t: Any, t: Any, maximum: Any) -> Any:
    return t * (((1 - t) * (1 - t) + t * t) * score + x_t) / -maximum(1 - t, 1e-6)


_KINDS = ("x0", "eps", "flow", "v", "score")
_FORMULAS: dict[tuple[str, str], Formula] = {
    ("x0", "eps"): flow_matching._x0_to_eps,
    ("x0", "flow"): flow_matching._x0_to_flow,
    ("x0", "v"): _x0_to_v,
    ("x0", "score"): _x0_to_score,
    ("eps", "x0"): flow_matching._noise_to_x0,
    ("eps", "flow"): _eps_to_flow,
    ("eps", "v"): _eps_to_v,
    ("eps", "score"): _eps_to_score,
    ("flow", "x0"): flow_matching._flow_to_x0,
    ("flow", "eps"): _flow_to_eps,
    ("flow", "v"): _flow_to_v,
    ("flow", "score"): _flow_to_score,
    ("v", "x0"): _v_to_x0,
    ("v", "eps"): _v_to_eps,
    ("v", "flow"): _v_to_flow,
    ("v", "score"): _v_to_score,
    ("score", "x0"): _score_to_x0,
    ("score", "eps"): _score_to_eps,
    ("score", "flow"): _score_to_flow,
    ("score", "v"): _score_to_v,
}

"""Every rectified-flow formula, one line each: the page to check against the papers.

The convention is ``x_t = (1 - t) x_0 + t eps`` with flow ``v = eps - x_0``: t = 0 is data, t = 1 noise. A formula is an
elementwise function of its arrays, then its times, then ``ops``, the functions that have no operator. It is linear in
its arrays and uses each of them once. :mod:`fastgen_rf._evaluate` checks the arguments of a formula, and
:mod:`fastgen_rf.backends` evaluates it. Functions of times alone are in :mod:`fastgen_rf._time_maps`.
"""

from __future__ import annotations

from typing import get_args

from fastgen_rf._typing import PredictionType, StatePath
from fastgen_rf.arithmetic import Formula, Operand, Ops, formula


def det(t: Operand) -> Operand:
    """Determinant of the map from (x_0, eps) to (x_t, v), at least 1/2."""
    return (1.0 - t) * (1.0 - t) + t * t


def norm(t: Operand, ops: Ops) -> Operand:
    """Scale of x_t and v on this path, relative to the variance-preserving path."""
    return ops.sqrt(det(t))


@formula()
def add_noise(x0: Operand, eps: Operand, t: Operand, ops: Ops) -> Operand:
    return x0 * (1.0 - t) + eps * t


@formula(times=2, divides=True)
def ode_step(x0: Operand, x_t: Operand, t: Operand, t_next: Operand, ops: Ops) -> Operand:
    ratio = t_next / ops.maximum(t, 1e-6)
    return x0 * (1.0 - ratio) + x_t * ratio


@formula(times=2, constants=(None, 1.0))
def flow_step(flow: Operand, x_t: Operand, t: Operand, t_next: Operand, ops: Ops) -> Operand:
    return x_t + (t_next - t) * flow


@formula(times=2, divides=True)
def renoise(x_t: Operand, eps: Operand, t: Operand, t_next: Operand, ops: Ops) -> Operand:
    scale = ops.maximum(1.0 - t, 1e-6)
    # The usual radicand, t_next**2 - ((1 - t_next) / (1 - t) * t)**2, cancels where t_next is near t.
    spread = ops.sqrt((t_next - t) * (t_next * (1.0 - t) + t * (1.0 - t_next)))
    return x_t * ((1.0 - t_next) / scale) + eps * (spread / scale)


multiplies, divides = formula(), formula(divides=True)
# The coefficient of x_t is the constant 1.
keeps_x_t = formula(constants=(None, 1.0))

# A prediction of one type as another. Some need no x_t.
PREDICTION_TYPES = get_args(PredictionType)
CONVERSIONS: dict[tuple[PredictionType, PredictionType], Formula] = {
    ("x0", "eps"): divides(lambda x0, x_t, t, ops: (x_t - (1.0 - t) * x0) / ops.maximum(t, 1e-6)),
    ("x0", "flow"): divides(lambda x0, x_t, t, ops: (x_t - x0) / ops.maximum(t, 1e-6)),
    ("x0", "v"): divides(lambda x0, x_t, t, ops: ((1.0 - t) * x_t - det(t) * x0) / ops.maximum(t, 1e-6)),
    ("x0", "v_vp"): divides(
        lambda x0, x_t, t, ops: ((1.0 - t) * x_t - det(t) * x0) / (norm(t, ops) * ops.maximum(t, 1e-6))
    ),
    ("x0", "score"): divides(
        lambda x0, x_t, t, ops: ((1.0 - t) * x0 - x_t) / (ops.maximum(t, 1e-6) * ops.maximum(t, 1e-6))
    ),
    ("eps", "x0"): divides(lambda eps, x_t, t, ops: (x_t - t * eps) / ops.maximum(1.0 - t, 1e-6)),
    ("eps", "flow"): divides(lambda eps, x_t, t, ops: (eps - x_t) / ops.maximum(1.0 - t, 1e-6)),
    ("eps", "v"): divides(lambda eps, x_t, t, ops: (det(t) * eps - t * x_t) / ops.maximum(1.0 - t, 1e-6)),
    ("eps", "v_vp"): divides(
        lambda eps, x_t, t, ops: (det(t) * eps - t * x_t) / (norm(t, ops) * ops.maximum(1.0 - t, 1e-6))
    ),
    ("eps", "score"): divides(lambda eps, t, ops: eps / -ops.maximum(t, 1e-6)),
    ("flow", "x0"): keeps_x_t(lambda flow, x_t, t, ops: x_t - t * flow),
    ("flow", "eps"): keeps_x_t(lambda flow, x_t, t, ops: x_t + (1.0 - t) * flow),
    ("flow", "v"): multiplies(lambda flow, x_t, t, ops: (1.0 - 2.0 * t) * x_t + det(t) * flow),
    ("flow", "v_vp"): divides(lambda flow, x_t, t, ops: ((1.0 - 2.0 * t) * x_t + det(t) * flow) / norm(t, ops)),
    ("flow", "score"): divides(lambda flow, x_t, t, ops: (x_t + (1.0 - t) * flow) / -ops.maximum(t, 1e-6)),
    ("v", "x0"): divides(lambda v, x_t, t, ops: ((1.0 - t) * x_t - t * v) / det(t)),
    ("v", "eps"): divides(lambda v, x_t, t, ops: (t * x_t + (1.0 - t) * v) / det(t)),
    ("v", "flow"): divides(lambda v, x_t, t, ops: (v - (1.0 - 2.0 * t) * x_t) / det(t)),
    ("v", "v_vp"): divides(lambda v, t, ops: v / norm(t, ops)),
    ("v", "score"): divides(lambda v, x_t, t, ops: (t * x_t + (1.0 - t) * v) / -(det(t) * ops.maximum(t, 1e-6))),
    ("v_vp", "x0"): divides(lambda v_vp, x_t, t, ops: ((1.0 - t) * x_t - t * norm(t, ops) * v_vp) / det(t)),
    ("v_vp", "eps"): divides(lambda v_vp, x_t, t, ops: (t * x_t + (1.0 - t) * norm(t, ops) * v_vp) / det(t)),
    ("v_vp", "flow"): divides(lambda v_vp, x_t, t, ops: (norm(t, ops) * v_vp - (1.0 - 2.0 * t) * x_t) / det(t)),
    ("v_vp", "v"): multiplies(lambda v_vp, t, ops: norm(t, ops) * v_vp),
    ("v_vp", "score"): divides(
        lambda v_vp, x_t, t, ops: (t * x_t + (1.0 - t) * norm(t, ops) * v_vp) / -(det(t) * ops.maximum(t, 1e-6))
    ),
    ("score", "x0"): divides(lambda score, x_t, t, ops: (x_t + t * t * score) / ops.maximum(1.0 - t, 1e-6)),
    ("score", "eps"): multiplies(lambda score, t, ops: -t * score),
    ("score", "flow"): divides(lambda score, x_t, t, ops: (x_t + t * score) / -ops.maximum(1.0 - t, 1e-6)),
    ("score", "v"): divides(lambda score, x_t, t, ops: t * (det(t) * score + x_t) / -ops.maximum(1.0 - t, 1e-6)),
    ("score", "v_vp"): divides(
        lambda score, x_t, t, ops: t * (det(t) * score + x_t) / -(norm(t, ops) * ops.maximum(1.0 - t, 1e-6))
    ),
}
x0_to_eps, x0_to_flow = CONVERSIONS["x0", "eps"], CONVERSIONS["x0", "flow"]
eps_to_x0, flow_to_x0 = CONVERSIONS["eps", "x0"], CONVERSIONS["flow", "x0"]

# The noisy sample at one noise level, on another path
PATHS = get_args(StatePath)
RESCALINGS: dict[tuple[StatePath, StatePath], Formula] = {
    ("rf", "vp"): divides(lambda x, t, ops: x / norm(t, ops)),
    ("rf", "ve"): divides(lambda x, t, ops: x / ops.maximum(1.0 - t, 1e-6)),
    ("vp", "rf"): multiplies(lambda x, t, ops: norm(t, ops) * x),
    ("vp", "ve"): divides(lambda x, t, ops: norm(t, ops) * x / ops.maximum(1.0 - t, 1e-6)),
    ("ve", "rf"): multiplies(lambda x, t, ops: (1.0 - t) * x),
    ("ve", "vp"): divides(lambda x, t, ops: (1.0 - t) * x / norm(t, ops)),
}
# Kernels and profiles show the name of a formula.
for _pair, _formula in (*CONVERSIONS.items(), *RESCALINGS.items()):
    _formula.function.__name__ = "_to_".join(_pair)

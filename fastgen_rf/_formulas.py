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


@formula(divides=True)
def noise_to_x0(eps: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (x_t - t * eps) / ops.maximum(1.0 - t, 1e-6)


@formula(constants=(None, 1.0))
def flow_to_x0(v: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return x_t - t * v


@formula(divides=True)
def x0_to_eps(x0: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (x_t - (1.0 - t) * x0) / ops.maximum(t, 1e-6)


@formula(divides=True)
def x0_to_flow(x0: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (x_t - x0) / ops.maximum(t, 1e-6)


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


@formula(divides=True)
def x0_to_v(x0: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return ((1.0 - t) * x_t - det(t) * x0) / ops.maximum(t, 1e-6)


@formula(divides=True)
def x0_to_score(x0: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return ((1.0 - t) * x0 - x_t) / (ops.maximum(t, 1e-6) * ops.maximum(t, 1e-6))


@formula(divides=True)
def eps_to_flow(eps: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (eps - x_t) / ops.maximum(1.0 - t, 1e-6)


@formula(divides=True)
def eps_to_v(eps: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (det(t) * eps - t * x_t) / ops.maximum(1.0 - t, 1e-6)


@formula(divides=True)
def eps_to_score(eps: Operand, t: Operand, ops: Ops) -> Operand:
    return eps / -ops.maximum(t, 1e-6)


@formula(constants=(None, 1.0))
def flow_to_eps(flow: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return x_t + (1.0 - t) * flow


@formula()
def flow_to_v(flow: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (1.0 - 2.0 * t) * x_t + det(t) * flow


@formula(divides=True)
def flow_to_score(flow: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (x_t + (1.0 - t) * flow) / -ops.maximum(t, 1e-6)


@formula(divides=True)
def v_to_x0(v: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return ((1.0 - t) * x_t - t * v) / det(t)


@formula(divides=True)
def v_to_eps(v: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (t * x_t + (1.0 - t) * v) / det(t)


@formula(divides=True)
def v_to_flow(v: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (v - (1.0 - 2.0 * t) * x_t) / det(t)


@formula(divides=True)
def v_to_score(v: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (t * x_t + (1.0 - t) * v) / -(det(t) * ops.maximum(t, 1e-6))


@formula(divides=True)
def score_to_x0(score: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (x_t + t * t * score) / ops.maximum(1.0 - t, 1e-6)


@formula()
def score_to_eps(score: Operand, t: Operand, ops: Ops) -> Operand:
    return -t * score


@formula(divides=True)
def score_to_flow(score: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (x_t + t * score) / -ops.maximum(1.0 - t, 1e-6)


@formula(divides=True)
def score_to_v(score: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return t * (det(t) * score + x_t) / -ops.maximum(1.0 - t, 1e-6)


@formula(divides=True)
def x0_to_v_vp(x0: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return ((1.0 - t) * x_t - det(t) * x0) / (norm(t, ops) * ops.maximum(t, 1e-6))


@formula(divides=True)
def eps_to_v_vp(eps: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (det(t) * eps - t * x_t) / (norm(t, ops) * ops.maximum(1.0 - t, 1e-6))


@formula(divides=True)
def flow_to_v_vp(flow: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return ((1.0 - 2.0 * t) * x_t + det(t) * flow) / norm(t, ops)


@formula(divides=True)
def v_to_v_vp(v: Operand, t: Operand, ops: Ops) -> Operand:
    return v / norm(t, ops)


@formula(divides=True)
def score_to_v_vp(score: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return t * (det(t) * score + x_t) / -(norm(t, ops) * ops.maximum(1.0 - t, 1e-6))


@formula(divides=True)
def v_vp_to_x0(v_vp: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return ((1.0 - t) * x_t - t * norm(t, ops) * v_vp) / det(t)


@formula(divides=True)
def v_vp_to_eps(v_vp: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (t * x_t + (1.0 - t) * norm(t, ops) * v_vp) / det(t)


@formula(divides=True)
def v_vp_to_flow(v_vp: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (norm(t, ops) * v_vp - (1.0 - 2.0 * t) * x_t) / det(t)


@formula()
def v_vp_to_v(v_vp: Operand, t: Operand, ops: Ops) -> Operand:
    return norm(t, ops) * v_vp


@formula(divides=True)
def v_vp_to_score(v_vp: Operand, x_t: Operand, t: Operand, ops: Ops) -> Operand:
    return (t * x_t + (1.0 - t) * norm(t, ops) * v_vp) / -(det(t) * ops.maximum(t, 1e-6))


# The noisy sample at one noise level, on other paths.


@formula(divides=True)
def rf_to_vp(x: Operand, t: Operand, ops: Ops) -> Operand:
    return x / norm(t, ops)


@formula(divides=True)
def rf_to_ve(x: Operand, t: Operand, ops: Ops) -> Operand:
    return x / ops.maximum(1.0 - t, 1e-6)


@formula()
def vp_to_rf(x: Operand, t: Operand, ops: Ops) -> Operand:
    return norm(t, ops) * x


@formula(divides=True)
def vp_to_ve(x: Operand, t: Operand, ops: Ops) -> Operand:
    return norm(t, ops) * x / ops.maximum(1.0 - t, 1e-6)


@formula()
def ve_to_rf(x: Operand, t: Operand, ops: Ops) -> Operand:
    return (1.0 - t) * x


@formula(divides=True)
def ve_to_vp(x: Operand, t: Operand, ops: Ops) -> Operand:
    return (1.0 - t) * x / norm(t, ops)


PREDICTION_TYPES = get_args(PredictionType)
CONVERSIONS: dict[tuple[PredictionType, PredictionType], Formula] = {
    ("x0", "eps"): x0_to_eps,
    ("x0", "flow"): x0_to_flow,
    ("x0", "v"): x0_to_v,
    ("x0", "score"): x0_to_score,
    ("eps", "x0"): noise_to_x0,
    ("eps", "flow"): eps_to_flow,
    ("eps", "v"): eps_to_v,
    ("eps", "score"): eps_to_score,
    ("flow", "x0"): flow_to_x0,
    ("flow", "eps"): flow_to_eps,
    ("flow", "v"): flow_to_v,
    ("flow", "score"): flow_to_score,
    ("v", "x0"): v_to_x0,
    ("v", "eps"): v_to_eps,
    ("v", "flow"): v_to_flow,
    ("v", "score"): v_to_score,
    ("score", "x0"): score_to_x0,
    ("score", "eps"): score_to_eps,
    ("score", "flow"): score_to_flow,
    ("score", "v"): score_to_v,
    ("x0", "v_vp"): x0_to_v_vp,
    ("eps", "v_vp"): eps_to_v_vp,
    ("flow", "v_vp"): flow_to_v_vp,
    ("v", "v_vp"): v_to_v_vp,
    ("score", "v_vp"): score_to_v_vp,
    ("v_vp", "x0"): v_vp_to_x0,
    ("v_vp", "eps"): v_vp_to_eps,
    ("v_vp", "flow"): v_vp_to_flow,
    ("v_vp", "v"): v_vp_to_v,
    ("v_vp", "score"): v_vp_to_score,
}

PATHS = get_args(StatePath)
RESCALINGS: dict[tuple[StatePath, StatePath], Formula] = {
    ("rf", "vp"): rf_to_vp,
    ("rf", "ve"): rf_to_ve,
    ("vp", "rf"): vp_to_rf,
    ("vp", "ve"): vp_to_ve,
    ("ve", "rf"): ve_to_rf,
    ("ve", "vp"): ve_to_vp,
}

"""Every rectified-flow formula, one line each: the page to check against the papers.

The convention is ``x_t = (1 - t) x_0 + t eps`` with flow ``v = eps - x_0``: t = 0 is data, t = 1 noise. A formula
is an elementwise function in plain operators, linear in its two arrays, and uses each of them once; ``fn`` has the
functions that come to the operators. It knows nothing of
dtypes, blocks, devices, gradients or frameworks: how it is run is :mod:`fastgen_rf._evaluate`'s business, what it is
run on :mod:`fastgen_rf.arithmetic`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastgen_rf._typing import Formula
from fastgen_rf.arithmetic import Functions


def add_noise(x0: Any, eps: Any, t: Any, fn: Functions) -> Any:
    return x0 * (1 - t) + eps * t


def noise_to_x0(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t - t * eps) / fn.maximum(1 - t, 1e-6)


def flow_to_x0(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return x_t - t * v


def x0_to_eps(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t - (1 - t) * x0) / fn.maximum(t, 1e-6)


def x0_to_flow(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t - x0) / fn.maximum(t, 1e-6)


def ratio(t: Any, t_next: Any, fn: Functions) -> Any:
    return t_next / fn.maximum(t, 1e-6)


# In what follows (1 - t) (1 - t) + t t is the determinant of (x_0, eps) -> (x_t, v); it is at least 1/2.


def x0_to_v(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1 - t) * x_t - ((1 - t) * (1 - t) + t * t) * x0) / fn.maximum(t, 1e-6)


def x0_to_score(x0: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1 - t) * x0 - x_t) / (fn.maximum(t, 1e-6) * fn.maximum(t, 1e-6))


def eps_to_flow(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (eps - x_t) / fn.maximum(1 - t, 1e-6)


def eps_to_v(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (((1 - t) * (1 - t) + t * t) * eps - t * x_t) / fn.maximum(1 - t, 1e-6)


def eps_to_score(eps: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return eps / -fn.maximum(t, 1e-6)


def flow_to_eps(flow: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return x_t + (1 - t) * flow


def flow_to_v(flow: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (1 - 2 * t) * x_t + ((1 - t) * (1 - t) + t * t) * flow


def flow_to_score(flow: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t + (1 - t) * flow) / -fn.maximum(t, 1e-6)


def v_to_x0(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return ((1 - t) * x_t - t * v) / ((1 - t) * (1 - t) + t * t)


def v_to_eps(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (t * x_t + (1 - t) * v) / ((1 - t) * (1 - t) + t * t)


def v_to_flow(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (v - (1 - 2 * t) * x_t) / ((1 - t) * (1 - t) + t * t)


def v_to_score(v: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (t * x_t + (1 - t) * v) / -(((1 - t) * (1 - t) + t * t) * fn.maximum(t, 1e-6))


def score_to_x0(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t + t * t * score) / fn.maximum(1 - t, 1e-6)


def score_to_eps(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return -t * score


def score_to_flow(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return (x_t + t * score) / -fn.maximum(1 - t, 1e-6)


def score_to_v(score: Any, x_t: Any, t: Any, fn: Functions) -> Any:
    return t * (((1 - t) * (1 - t) + t * t) * score + x_t) / -fn.maximum(1 - t, 1e-6)


@dataclass(frozen=True)
class Shift:
    """The shift as a formula that is linear in its second array, t, with a coefficient that depends on the time, t."""

    shift: float

    def __call__(self, first: Any, second: Any, t: Any, fn: Functions) -> Any:
        return self.shift * second / (1 + (self.shift - 1) * t if self.shift >= 1 else self.shift * t + (1 - t))


KINDS = ("x0", "eps", "flow", "v", "score")
CONVERSIONS: dict[tuple[str, str], Formula] = {
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
}

"""A call of each function in the table, and its value and derivatives worked out in 60 digits from the definitions.

Arrays have the shape (4, 3), with a time for each row. Derivatives are differences of the exact values, whose error is
1e-30: not those of any formula for a derivative.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np

import fastgen_rf as rf
from tests.cases.as_written import FORMULAS

mp = mpmath.mp.clone()
mp.dps = 60
STEP = mp.mpf(10) ** -15

LAW = rf.SampleTimestepConfig("logitnormal", min_t=0.125, max_t=0.875)
UNIFORM = rf.SampleTimestepConfig("uniform", min_t=0.25, max_t=0.75)
RUNGS = (1.0, 0.75, 0.5, 0.25, 0.0)
N = 64


class Call(NamedTuple):
    """A function of some of two arrays and two times, and its exact value for the numbers of one element."""

    takes: str
    """Which it takes, of the arrays a and b and the times t and s."""
    ours: Callable[..., Any]
    exact: Callable[..., Any]


def _as_written(name: str) -> Call:
    return Call("abt", getattr(rf, name), lambda a, b, t: FORMULAS[name].value(a, b, t, max))


def _v_of_score(score: Any, x_t: Any, t: Any) -> Any:
    eps = -t * score
    x0 = (x_t - t * eps) / (1 - t)
    return (1 - t) * eps - t * x0


def _step(x0: Any, x_t: Any, t: Any, s: Any) -> Any:
    eps = (x_t - (1 - t) * x0) / t
    return (1 - s) * x0 + s * eps


def _quantile(u: Any) -> Any:
    z = mp.sqrt(2) * mp.erfinv(2 * u - 1)
    return LAW.min_t + (LAW.max_t - LAW.min_t) / (1 + mp.exp(-z))


def _density(t: Any) -> Any:
    width = mp.mpf(LAW.max_t) - LAW.min_t
    y = (t - LAW.min_t) / width
    return mp.npdf(mp.log(y / (1 - y))) / (width * y * (1 - y))


CALLS = {
    **{name: _as_written(name) for name in FORMULAS},
    "convert_prediction": Call(
        "abt", functools.partial(rf.convert_prediction, source="score", target="v"), _v_of_score
    ),
    "convert_state": Call(
        "at", functools.partial(rf.convert_state, source="rf", target="vp"), lambda x, t: x / mp.hypot(1 - t, t)
    ),
    "convert_time of angle and log_snr": Call(
        "t", functools.partial(rf.convert_time, source="rf", target="log_snr"), lambda t: 2 * mp.log((1 - t) / t)
    ),
    "convert_time of rf, sigma and alpha_bar": Call(
        "t", functools.partial(rf.convert_time, source="alpha_bar", target="sigma"), lambda t: mp.sqrt((1 - t) / t)
    ),
    "expand_like": Call("ta", lambda t, a: rf.expand_like(t, a) * a, lambda t, a: t * a),
    "flow_step": Call("abts", rf.flow_step, lambda v, x, t, s: x + (s - t) * v),
    "ode_step": Call("abts", rf.ode_step, _step),
    "rf_alpha": Call("t", rf.rf_alpha, lambda t: 1 - t),
    "rf_sigma": Call("t", rf.rf_sigma, lambda t: t),
    "shift_timesteps": Call("t", lambda t: rf.shift_timesteps(t, 3.0), lambda t: 3 * t / (1 + 2 * t)),
    "timestep_density": Call("t", lambda t: rf.timestep_density(t, LAW), _density),
    "timestep_quantile": Call("t", lambda u: rf.timestep_quantile(u, LAW), _quantile),
}


# Draws: of stratified ones it is known, and not only likely, where they lie.


class Draw(NamedTuple):
    """A sampler's call, given what names the generator and the framework, and a check of what it returns."""

    ours: Callable[..., Any]
    check: Callable[..., None]
    """Takes the results, and how far rounding moves a time at most."""


def _check_strata(t: Any, each: int, off: float) -> None:
    """As many times in each of N equal parts of the uniform law's interval."""
    edges = np.linspace(UNIFORM.min_t, UNIFORM.max_t, N + 1)
    low, high = np.repeat(edges[:-1], each), np.repeat(edges[1:], each)
    assert ((low - off <= np.sort(t)) & (np.sort(t) <= high + off)).all()
    assert UNIFORM.min_t <= t.min() <= t.max() <= UNIFORM.max_t


def _check_pairs(off: float, t: Any, r: Any) -> None:
    assert (r <= t).all()
    _check_strata(np.concatenate([t, r]), 2, off)


def _check_rungs(off: float, t: Any, index: Any) -> None:
    assert t.tolist() == [RUNGS[i] for i in index]
    assert set(index.tolist()) == {0, 1, 2, 3}  # one of them is missing in 4 (3/4)**64 = 4e-8 of all draws


DRAWS = {
    "sample_timesteps": Draw(
        lambda **names: (rf.sample_timesteps(N, UNIFORM, stratified=True, **names),),
        lambda off, t: _check_strata(t, 1, off),
    ),
    "sample_timestep_pairs": Draw(
        lambda **names: rf.sample_timestep_pairs(N, UNIFORM, equal=0.0, stratified=True, **names), _check_pairs
    ),
    "sample_from_t_list": Draw(
        lambda **names: rf.sample_from_t_list(N, RUNGS, return_index=True, **names), _check_rungs
    ),
}


# Numbers alone


def _check_config() -> None:
    config = rf.SampleTimestepConfig("logitnormal", t_list=np.asarray([1.0, 0.5, 0.0]))
    assert config.t_list == (1.0, 0.5, 0.0)
    assert {config: 1}[rf.SampleTimestepConfig("logitnormal", t_list=[1, 0.5, 0])] == 1


def _check_t_list() -> None:
    evenly = [mp.mpf(k) / 4 for k in (4, 3, 2, 1, 0)]
    exact = [3 * t / (1 + 2 * t) for t in evenly]
    assert max(abs(t - e) for t, e in zip(rf.make_t_list(4, shift=3.0, max_t=1.0), exact, strict=True)) < 1e-15


def _check_shift() -> None:
    mu = mp.mpf("0.5") + (mp.mpf("1.15") - mp.mpf("0.5")) * (1024 - 256) / (4096 - 256)
    assert math.isclose(rf.resolution_shift(1024), float(mp.exp(mu)), rel_tol=1e-15)


NUMBERS = {
    "SampleTimestepConfig": _check_config,
    "make_t_list": _check_t_list,
    "resolution_shift": _check_shift,
}


# Inputs, exact values, exact derivatives


def inputs(takes: str, dtype: str = "float32") -> list[Any]:
    """NumPy float64 arrays of numbers that ``dtype`` has."""
    rng = np.random.default_rng(20)
    made = dict(zip("abts", [*rng.standard_normal((2, 4, 3)), *rng.uniform(0.2, 0.8, (2, 4))], strict=True))
    return [_of_dtype(made[name], dtype).astype(np.float64) for name in takes]


def _of_dtype(array: Any, dtype: str) -> Any:
    if dtype != "bfloat16":
        return array.astype(dtype)
    return (array.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def like(takes: str, seed: int) -> list[Any]:
    """Halves, in the shapes of the inputs: tangents, and the weights of a sum."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 5, (4, 3) if name in "ab" else (4,)) / 2 for name in takes]


def values(call: Call, arrays: list[Any]) -> Any:
    """The function's values at these inputs."""
    return _elementwise(call.exact, arrays)


def tangent(call: Call, arrays: list[Any], direction: list[Any]) -> Any:
    """The derivative of the result along ``direction``."""
    moves = _laid_out(direction)
    return sum(_elementwise(_partial(call.exact, at), arrays) * move for at, move in enumerate(moves))


def gradients(call: Call, arrays: list[Any], weight: Any) -> list[Any]:
    """Of the weighted sum of the result, for each input."""
    slopes = (_elementwise(_partial(call.exact, at), arrays) for at in range(len(arrays)))
    return [_summed(slope * weight, x) for slope, x in zip(slopes, arrays, strict=True)]


def gradients_along(call: Call, arrays: list[Any], weight: Any, direction: list[Any]) -> list[Any]:
    """The derivatives along ``direction`` of these gradients."""
    return [
        _summed(tangent(call._replace(exact=_partial(call.exact, at)), arrays, direction) * weight, x)
        for at, x in enumerate(arrays)
    ]


def _laid_out(arrays: list[Any]) -> list[Any]:
    """Of one shape, times along the first axis."""
    rank = max(x.ndim for x in arrays)
    return np.broadcast_arrays(*(x.reshape(x.shape + (1,) * (rank - x.ndim)) for x in arrays))


def _elementwise(function: Callable[..., Any], arrays: list[Any]) -> Any:
    """``function`` of the numbers of each element, in 60 digits."""
    return np.vectorize(lambda *x: function(*map(mp.mpf, x)), otypes=[object])(*_laid_out(arrays))


def _partial(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Derivative of ``function`` for one argument."""

    def moved(x: tuple[Any, ...], step: Any) -> Any:
        return function(*x[:at], x[at] + step, *x[at + 1 :])

    return lambda *x: (moved(x, STEP) - moved(x, -STEP)) / (2 * STEP)


def _summed(array: Any, like: Any) -> Any:
    """Summed over what shares one element of an input."""
    return array.sum(axis=tuple(range(like.ndim, array.ndim)))

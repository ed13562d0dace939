"""Every public function once: how it is called, its exact value, and where it is not supported.

The tables below drive the tests of values (test_exact_values.py, test_same_bits.py), of features (test_features.py), of
errors (test_errors.py) and the support matrix of the documentation. A new function is one row here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

import fastgen_rf as rf
from tests import exact
from tests.exact import mp


class Row(NamedTuple):
    """A function of arrays and times, elementwise: one value for the numbers of one element."""

    function: Callable[..., Any]
    takes: str
    """Its arguments: arrays x and y, times t and s, a time n after t, a noise level l, probabilities u, times d between
    bounds, shifts f."""
    exact: Callable[..., Any]
    """Its value in 60 digits, from the definition."""
    options: dict[str, Any] = {}  # noqa: RUF012  # nobody writes to it
    like: int = 0
    """Position of the argument whose dtype the result has."""
    needs: str = "arithmetic"
    """"functions": transcendental ones, which exist in float64 only; "special": special ones, which few have."""
    slack: Callable[..., Any] | None = None
    """Error that float64 may make, for the numbers of one element; by default a few units in its last place."""

    @property
    def name(self) -> str:
        given = ", ".join(str(value) for value in self.options.values() if isinstance(value, (str, float)))
        config = self.options.get("cfg")
        if config is not None:
            given = f"{config.time_dist_type}{', truncated' if config.truncate else ''}"
        return self.function.__name__ + (f" ({given})" if given else "")

    @property
    def arguments(self) -> list[str]:
        """The names of the arguments that `takes` has the kinds of."""
        return list(inspect.signature(self.function).parameters)[: len(self.takes)]

    @property
    def is_linear(self) -> bool:
        """Whether it is linear in arrays, as every formula with arrays x and y is."""
        return "x" in self.takes

    def __call__(self, *arrays: Any) -> Any:
        return self.function(*arrays, **self.options)


def _inside(t: Any) -> bool:
    return exact.FLOOR <= t <= 1 - exact.FLOOR or t in (0, 1)


def _conversion(function: Callable[..., Any], source: str, target: str, like: int = 0, named: bool = False) -> Row:
    def value(pred: Any, x_t: Any, t: Any) -> Any:
        return exact.prediction(pred, x_t, t, source, target) if _inside(t) else mp.nan

    return Row(function, "xyt", value, {"source": source, "target": target} if named else {}, like)


def _state(source: str, target: str) -> Row:
    def value(x: Any, t: Any) -> Any:
        return x * exact.SCALES[target](t) / exact.SCALES[source](t) if _inside(t) else mp.nan

    return Row(rf.convert_state, "xt", value, {"source": source, "target": target})


def _time(source: str, target: str) -> Row:
    only_arithmetic = {source, target} <= {"rf", "sigma", "alpha_bar"}

    def value(level: Any) -> Any:
        return exact.TIME[target](exact.RATIO[source](level))

    def slack(angle: Any) -> Any:
        """log_snr is 0 at pi / 4, which is rounded, so that the error is absolute there."""
        return mp.ldexp(1, -51) + mp.ldexp(abs(value(angle)), -51)

    return Row(
        rf.convert_time,
        "l",
        value,
        {"source": source, "target": target},
        needs="arithmetic" if only_arithmetic else "functions",
        slack=slack if (source, target) == ("angle", "log_snr") else None,
    )


def _ode_step(x0: Any, x_t: Any, t: Any, s: Any) -> Any:
    return exact.step(x0, x_t, t, s, "x0") if _inside(t) and t else mp.nan


def _renoise(x_t: Any, eps: Any, t: Any, n: Any) -> Any:
    a = (1 - n) / (1 - t) if _inside(t) and t != 1 else mp.nan
    return a * x_t + mp.sqrt(n * n - a * a * t * t) * eps


def expand_like(t: Any, x: Any) -> Any:
    """The library's function, with arithmetic that shows where it lays t."""
    return rf.expand_like(t, x) * x


# Every conversion of a prediction, of a noisy sample and of a time

CONVERSIONS = [
    _conversion(rf.convert_prediction, source, target, named=True)
    for source, target in permutations(exact.PREDICTIONS, 2)
]
STATES = [_state(source, target) for source, target in permutations(exact.SCALES, 2)]
TIMES = [_time(source, target) for source, target in permutations(exact.TIME, 2)]

# Every timestep distribution, as published and truncated. A new distribution is one row here and one in exact.py.

PARAMETERS: dict[str, dict[str, float]] = {
    "uniform": {},
    "logitnormal": {"p_mean": -0.7, "p_std": 0.6},
    "lognormal": {"p_mean": -0.7, "p_std": 0.6},
    "shifted": {"shift": 2.5},
    "polynomial": {},
    "shifted_logitnormal": {"shift": 2.5, "p_mean": -0.7, "p_std": 0.6},
    "mode": {"mode_scale": -0.6},
    "cosmap": {},
    "beta": {"beta_a": 1.0, "beta_b": 2.5},
    "loguniform": {},
}
CONFIGS = [
    rf.SampleTimestepConfig(name, min_t=0.125, max_t=0.875, truncate=truncate, **fields)
    for name, fields in PARAMETERS.items()
    for truncate in (False, True)
]


def _quantile_slack(cfg: Any) -> Callable[[Any], Any]:
    """A relative error of 1e-14 in the nearer tail of u moves t by that times the slope of the quantile function."""

    def slack(u: Any) -> Any:
        t = exact.quantile(u, cfg)
        steep = 0 if cfg.time_dist_type == "polynomial" else min(u, 1 - u) * abs(exact.quantile_slope(u, cfg))
        return mp.mpf(10) ** -14 * steep + 8 * mp.ldexp(t, -53)

    return slack


def _density_slack(cfg: Any) -> Callable[[Any], Any]:
    return lambda t: mp.mpf(10) ** -13 * abs(exact.density(t, cfg))


QUANTILES = [
    Row(rf.timestep_quantile, "u", partial(exact.quantile, c=c), {"cfg": c}, needs="special", slack=_quantile_slack(c))
    for c in CONFIGS
]
DENSITIES = [
    Row(rf.timestep_density, "d", partial(exact.density, c=c), {"cfg": c}, needs="functions", slack=_density_slack(c))
    for c in CONFIGS
    if not exact.DISTRIBUTIONS[c.time_dist_type].discrete
    and (c.truncate or not exact.DISTRIBUTIONS[c.time_dist_type].shifts)
]

FORMULAS = [
    Row(rf.add_noise, "xyt", lambda x0, eps, t: (1 - t) * x0 + t * eps),
    _conversion(rf.pred_noise_to_pred_x0, "eps", "x0", like=1),
    _conversion(rf.pred_x0_from_flow, "flow", "x0", like=1),
    _conversion(rf.x0_to_eps, "x0", "eps"),
    _conversion(rf.x0_to_flow, "x0", "flow"),
    Row(rf.ode_step, "xyts", _ode_step, like=1),
    Row(rf.flow_step, "xyts", lambda flow, x_t, t, s: x_t + (s - t) * flow, like=1),
    Row(rf.renoise, "xytn", _renoise),
    *CONVERSIONS,
    *STATES,
]
EXPANDED = Row(expand_like, "tx", lambda t, x: t * x)
FUNCTIONS_OF_TIMES = [
    Row(rf.rf_alpha, "t", lambda t: 1 - t),
    Row(rf.rf_sigma, "t", lambda t: t),
    *(Row(rf.shift_timesteps, "t", lambda t, by=by: exact.shift(t, by), {"shift": by}) for by in (3.0, 0.3)),
    Row(rf.shift_timesteps, "tf", exact.shift),
    *TIMES,
    *QUANTILES,
    *DENSITIES,
]
ROWS = {row.name: row for row in (*FORMULAS, *FUNCTIONS_OF_TIMES, EXPANDED)}

# Rows for tests of the machinery around a formula. The machinery depends on a few of its properties: it divides or not,
# a coefficient is constant or not, it takes a root, it has a second time.
REPRESENTATIVE = ("add_noise", "x0_to_eps")
FOR_GRADIENTS = (*REPRESENTATIVE, "pred_x0_from_flow", "convert_prediction (v, v_vp)")


# Samplers: where a stratified sample lies is certain, not only likely


class Sampler(NamedTuple):
    """A sampler's call, given the arguments that name generator and framework, and a check of its results."""

    call: Callable[..., tuple[Any, ...]]
    check: Callable[..., None]
    """Takes the largest distance that rounding moves a time, and the results as NumPy arrays."""


N = 64
UNIFORM = rf.SampleTimestepConfig("uniform", min_t=0.25, max_t=0.75)
LOWER = rf.SampleTimestepConfig("shifted", min_t=0.0625, max_t=0.125)
T_LIST = (1.0, 0.75, 0.5, 0.25, 0.0)


def _check_strata(t: Any, each: int, off: float) -> None:
    """As many times in each of N equal parts of the interval."""
    edges = np.linspace(UNIFORM.min_t, UNIFORM.max_t, N + 1)
    low, high = np.repeat(edges[:-1], each), np.repeat(edges[1:], each)
    assert ((low - off <= np.sort(t)) & (np.sort(t) <= high + off)).all()
    assert UNIFORM.min_t <= t.min() <= t.max() <= UNIFORM.max_t


def _check_times(off: float, t: Any) -> None:
    _check_strata(t, 1, off)


def _check_pairs(off: float, t: Any, r: Any) -> None:
    """Half of the pairs have r = t and a quarter has r = 0; the rest lies below the others."""
    _check_strata(t, 1, off)
    assert [np.count_nonzero(r == t), np.count_nonzero(r == 0)] == [N // 2, N // 4]
    others = r[(r != t) & (r != 0)]
    assert LOWER.min_t <= others.min() <= others.max() <= LOWER.max_t


def _check_entries(off: float, t: Any, index: Any) -> None:
    assert t.tolist() == [T_LIST[i] for i in index]
    assert set(index.tolist()) == {0, 1, 2, 3}  # one of them is missing in 4 (3/4)**64 = 4e-8 of all samples


def _times(**how: Any) -> tuple[Any, ...]:
    return (rf.sample_timesteps(N, UNIFORM, stratified=True, **how),)


def _pairs(**how: Any) -> tuple[Any, ...]:
    return rf.sample_timestep_pairs(N, UNIFORM, equal=0.5, zero=0.25, r_cfg=LOWER, stratified=True, **how)


def _entries(**how: Any) -> tuple[Any, ...]:
    return rf.sample_from_t_list(N, T_LIST, return_index=True, **how)


SAMPLERS = {
    "sample_timesteps": Sampler(_times, _check_times),
    "sample_timestep_pairs": Sampler(_pairs, _check_pairs),
    "sample_from_t_list": Sampler(_entries, _check_entries),
}

# Functions of numbers alone, which are the same on every framework

NUMBERS = ("SampleTimestepConfig", "make_t_list", "resolution_shift")


# Inputs

HARD_TIMES = np.array(
    [0.0, 1e-12, 1e-8, 2e-6, 1e-3, 0.1, 0.25, 1 / 3, 0.5, 0.625, 0.7, 0.75, 0.999, 1 - 2.0**-21, 1 - 2.0**-24, 1.0]
)
LEVELS = {  # noise levels of each time parameterization, ends excluded
    "rf": HARD_TIMES[1:-1],
    "angle": np.array([1e-12, 1e-6, 0.1, 0.5, 0.75, 1.0, 1.25, 1.5]),
    "sigma": np.array([1e-12, 1e-6, 0.01, 0.5, 1 - 1e-6, 1.0, 1 + 1e-8, 2.0, 80.0, 1e6, 1e12]),
    "log_snr": np.array([-50.0, -7.0, -1.0, -1e-3, 1e-8, 0.25, 1.0, 7.0, 50.0]),
    "alpha_bar": HARD_TIMES[1:-1],
}
# No multiples of 1/1000, where float64 decides which of the points of "polynomial" is taken
PROBABILITIES = np.array([1e-9, 1e-4, 0.0203, 0.1007, 0.2503, 1 / 3, 0.5003, 0.7003, 0.9007, 0.9803, 1 - 1e-4])
INSIDE = np.linspace(0.13, 0.87, 11)  # times between the bounds of CONFIGS


def inputs(row: Row, columns: int = 6, scale: float = 1.0) -> list[Any]:
    """NumPy float64 arguments for a row: every hard time for each column of the arrays."""
    rng = np.random.default_rng(20)
    rows = len(HARD_TIMES)
    scales = scale * np.resize([1.0, 1.0, 30.0, 1e-3], columns)
    made = {
        "x": rng.standard_normal((rows, columns)) * scales,
        "y": rng.standard_normal((rows, columns)) * scales,
        "t": HARD_TIMES,
        "s": rng.permutation(HARD_TIMES),
        "n": np.maximum(HARD_TIMES, rng.permutation(HARD_TIMES)),
        "f": np.resize([0.3, 1.0, 2.5, 12.0, 1.0 - 2.0**-20], rows),
        "l": LEVELS.get(row.options.get("source", ""), HARD_TIMES),
        "u": PROBABILITIES,
        "d": INSIDE,
    }
    return [made[kind] for kind in row.takes]


def narrowed(host: list[Any], dtype: str) -> list[Any]:
    """The float64 arguments rounded to numbers that ``dtype`` holds, still as float64 arrays."""
    if dtype == "bfloat16":  # toward 0
        return [(x.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64) for x in host]
    return [array.astype(dtype).astype(np.float64) for array in host]


def float64_slack(row: Row, host: list[Any]) -> Any:
    """Error that float64 may make before the one rounding, for each element."""
    if row.slack is not None:
        return exact.elementwise(row.slack, host)
    if not row.is_linear:
        return exact.elementwise(lambda *x: 6 * abs(mp.ldexp(row.exact(*x), -53)) + mp.ldexp(1, -1074), host)

    def slack(*x: Any) -> Any:
        """A few roundings of each term: a coefficient times its array."""
        total = mp.mpf(0)
        for at in (at for at, kind in enumerate(row.takes) if kind in "xy"):
            alone = [x[i] if kind not in "xy" else mp.mpf(i == at) for i, kind in enumerate(row.takes)]
            total += abs(row.exact(*alone) * x[at])
        return 8 * mp.ldexp(total, -53)

    return exact.elementwise(slack, host)

"""What forward mode is held against: central differences of the library's NumPy path in float64.

Every public function with a time stands in ``CALLS`` as a function of two arrays and two times.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

MODE = rf.SampleTimestepConfig("mode", truncate=True)
LOGITNORMAL = rf.SampleTimestepConfig("logitnormal")

CALLS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "rf_alpha": lambda a, b, t, s: rf.rf_alpha(t),
    "rf_sigma": lambda a, b, t, s: rf.rf_sigma(t),
    "add_noise": lambda a, b, t, s: rf.add_noise(a, b, t),
    "pred_noise_to_pred_x0": lambda a, b, t, s: rf.pred_noise_to_pred_x0(a, b, t),
    "pred_x0_from_flow": lambda a, b, t, s: rf.pred_x0_from_flow(a, b, t),
    "x0_to_eps": lambda a, b, t, s: rf.x0_to_eps(a, b, t),
    "x0_to_flow": lambda a, b, t, s: rf.x0_to_flow(a, b, t),
    "convert_prediction": lambda a, b, t, s: rf.convert_prediction(a, b, t, source="score", target="v"),
    "convert_prediction of v_vp": lambda a, b, t, s: rf.convert_prediction(a, b, t, source="v_vp", target="eps"),
    "convert_prediction to v_vp": lambda a, b, t, s: rf.convert_prediction(a, b, t, source="x0", target="v_vp"),
    "ode_step": lambda a, b, t, s: rf.ode_step(a, b, t, s),
    "ode_step to a float": lambda a, b, t, s: rf.ode_step(a, b, t, 0.1),
    "flow_step": lambda a, b, t, s: rf.flow_step(a, b, t, s),
    "flow_step from a float": lambda a, b, t, s: rf.flow_step(a, b, 0.9, s),
    "convert_state": lambda a, b, t, s: rf.convert_state(a, t, source="rf", target="vp"),
    "convert_time": lambda a, b, t, s: rf.convert_time(t, source="rf", target="log_snr"),
    "convert_time by arithmetic": lambda a, b, t, s: rf.convert_time(t, source="alpha_bar", target="sigma"),
    "convert_time of an angle": lambda a, b, t, s: rf.convert_time(t, source="angle", target="alpha_bar"),
    "shift_timesteps": lambda a, b, t, s: rf.shift_timesteps(t, 3.0),
    "timestep_quantile": lambda a, b, t, s: rf.timestep_quantile(t, MODE),
    "timestep_density": lambda a, b, t, s: rf.timestep_density(t, LOGITNORMAL),
    "expand_like": lambda a, b, t, s: rf.expand_like(t, a),
}
every_call = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS.items()])

LEVELS = {  # noise levels whose middle is where a formula for times changes from one branch to the other
    "rf": [0.1, 0.5, 0.9],
    "angle": [0.1, 0.7853981633974483, 1.5],
    "sigma": [0.1, 1.0, 30.0],
    "log_snr": [-5.0, 0.0, 5.0],
    "alpha_bar": [0.1, 0.5, 0.9],
}
every_pair_of_times = pytest.mark.parametrize(
    ("source", "target"), list(permutations(LEVELS, 2)), ids=["-".join(pair) for pair in permutations(LEVELS, 2)]
)


def values(*shape: int) -> list[np.ndarray]:
    """Two arrays of this shape and two times a row, away from 0 and 1, all of them float32 numbers."""
    rng = np.random.default_rng(0)
    arrays = [*rng.standard_normal((2, *shape)), *rng.uniform(0.2, 0.8, (2, shape[0]))]
    return [np.asarray(array, np.float32) for array in arrays]


def directions(*shape: int, seed: int = 1) -> list[np.ndarray]:
    """A tangent for each of ``values``."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), np.float32) for shape in (shape, shape, shape[:1], shape[:1])]


def _along(function: Any, at: list[np.ndarray], *steps: tuple[float, list[np.ndarray]]) -> np.ndarray:
    moved = [np.asarray(x, np.float64) for x in at]
    for size, direction in steps:
        moved = [x + size * np.asarray(d, np.float64) for x, d in zip(moved, direction, strict=True)]
    return np.asarray(function(*moved))


def first(function: Any, at: list[np.ndarray], d: list[np.ndarray], step: float = 1e-5) -> np.ndarray:
    """Derivative of ``function`` along d."""
    return (_along(function, at, (step, d)) - _along(function, at, (-step, d))) / (2 * step)


def second(function: Any, at: list[np.ndarray], d: list[np.ndarray], e: list[np.ndarray]) -> np.ndarray:
    """Derivative along e of the derivative along d."""
    step = 1e-4
    above, below = (
        _along(function, at, (step, d), (sign * step, e)) - _along(function, at, (-step, d), (sign * step, e))
        for sign in (1, -1)
    )
    return (above - below) / (4 * step**2)


def assert_close(got: Any, wanted: np.ndarray, rel: float = 2e-5) -> None:
    """Equal up to ``rel`` of the largest element."""
    np.testing.assert_allclose(np.asarray(got), wanted, rtol=rel, atol=rel * max(1e-3, np.abs(wanted).max()))

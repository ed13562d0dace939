"""The five formulas as a user writes them, with plain operators: what tests and benchmarks compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Written(NamedTuple):
    """One formula; it is evaluated from left to right, in the dtype of what it is given."""

    value: Callable[[Any, Any, Any, Callable[[Any, float], Any]], Any]
    """A function of two arrays, a time and the framework's ``maximum`` of an array and a number."""
    like: int
    """Which of the two arrays gives the result its dtype."""


FORMULAS = {  # by the names of the library's functions, which are also nvidia-modelopt's
    "add_noise": Written(lambda x0, eps, t, maximum: x0 * (1 - t) + eps * t, 0),
    "pred_noise_to_pred_x0": Written(lambda eps, x_t, t, maximum: (x_t - t * eps) / maximum(1 - t, 1e-6), 1),
    "pred_x0_from_flow": Written(lambda v, x_t, t, maximum: x_t - t * v, 1),
    "x0_to_eps": Written(lambda x0, x_t, t, maximum: (x_t - (1 - t) * x0) / maximum(t, 1e-6), 0),
    "x0_to_flow": Written(lambda x0, x_t, t, maximum: (x_t - x0) / maximum(t, 1e-6), 0),
}

"""What the JAX tests compare with: the conversions and their derivatives worked out by hand, in NumPy float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastgen_rf as rf
from tests.cases.as_written import FORMULAS, Written


class Conversion(NamedTuple):
    """One of the five conversions, as it is written, and its derivatives as functions of ``(first, second, t)``."""

    ours: Callable[..., Any]
    written: Written
    slopes: Callable[[Any, Any, Any], tuple[Any, Any, Any]]
    """Derivatives for first, second and t."""
    bend: Callable[[Any, Any, Any], Any]
    """Second derivative for t."""

    @property
    def like(self) -> int:
        """Which of the two arrays gives the result its dtype."""
        return self.written.like


_DERIVATIVES: dict[str, tuple[Any, Any]] = {
    "add_noise": (lambda x0, eps, t: (1 - t, t, eps - x0), lambda x0, eps, t: 0 * t),
    "pred_noise_to_pred_x0": (
        lambda eps, x_t, t: (-t / (1 - t), 1 / (1 - t), (x_t - eps) / (1 - t) ** 2),
        lambda eps, x_t, t: 2 * (x_t - eps) / (1 - t) ** 3,
    ),
    "pred_x0_from_flow": (lambda v, x_t, t: (-t, 1 + 0 * t, -v), lambda v, x_t, t: 0 * t),
    "x0_to_eps": (
        lambda x0, x_t, t: ((t - 1) / t, 1 / t, (x0 - x_t) / t**2),
        lambda x0, x_t, t: 2 * (x_t - x0) / t**3,
    ),
    "x0_to_flow": (
        lambda x0, x_t, t: (-1 / t, 1 / t, (x0 - x_t) / t**2),
        lambda x0, x_t, t: 2 * (x_t - x0) / t**3,
    ),
}
CONVERSIONS = {name: Conversion(getattr(rf, name), written, *_DERIVATIVES[name]) for name, written in FORMULAS.items()}

every_conversion = pytest.mark.parametrize(
    "conversion", [pytest.param(conversion, id=name) for name, conversion in CONVERSIONS.items()]
)


SOME_T = 0.31415926535897931  # no small fraction: at t = 3/10 many float64 results lie on a tie of float32


def wide(array: Any, rank: int) -> Any:
    """An array as NumPy float64, with trailing singleton axes up to ``rank``."""
    host = np.asarray(array).astype(np.float64)
    return host.reshape(host.shape + (1,) * (rank - host.ndim))


def value(conversion: Conversion, first: Any, second: Any, t: Any) -> Any:
    """The conversion in float64, where t is away from 0 and 1."""
    rank = first.ndim
    return conversion.written.value(*(wide(x, rank) for x in (first, second, t)), np.maximum)


def slopes(conversion: Conversion, first: Any, second: Any, t: Any) -> list[Any]:
    """Derivatives of the conversion for its three arguments in float64, each of first's shape."""
    rank = first.ndim
    derivatives = conversion.slopes(*(wide(x, rank) for x in (first, second, t)))
    return [np.broadcast_to(derivative, first.shape) for derivative in derivatives]


def assert_rounded_once(actual: Any, exact: Any) -> None:
    """Within one ulp of float64's rounding everywhere, and equal to it but for a compiler's contractions.

    XLA may round ``a b + c`` once where float64 rounds twice: that moves a float64, and only seldom what it rounds to.
    """
    exact = np.broadcast_to(exact, actual.shape)
    if actual.dtype == np.float64:
        np.testing.assert_allclose(np.asarray(actual), exact, rtol=1e-13, atol=1e-13)
        return
    host = np.asarray(actual)
    # XLA for the CPU rounds to 16 bits by way of float32, for CUDA at once: one ulp, in one of 2**16 results or fewer
    expected = exact.astype(np.float32).astype(actual.dtype)
    integer = {4: np.int32, 2: np.int16}[actual.dtype.itemsize]
    both = [np.ascontiguousarray(x).view(integer).astype(np.int64) for x in (host, expected)]
    got, want = (np.where(bits < 0, np.iinfo(integer).min - bits, bits) for bits in both)
    assert np.isfinite(host.astype(np.float32)).all()
    assert np.abs(got - want).max(initial=0) <= 1
    assert np.count_nonzero(got != want) <= 1 + host.size // 1000

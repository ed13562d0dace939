"""renoise: results that are exact, times out of order, the floor near t = 1, and derivatives where t_next = t.

The catalogue drives the tests of its values, bits, features and errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from tests.exact import mp

T = np.array([0.0, 1e-9, 0.1, 1 / 3, 0.5, 0.9, 0.999, 1 - 2e-6])


def arrays(xp: Any, dtype: str = "float32") -> list[Any]:
    rng = np.random.default_rng(0)
    return [xp.array(rng.standard_normal((len(T), 5)), dtype) for _ in range(2)]


@pytest.mark.dtypes()
def test_it_is_add_noise_from_data_x_t_at_the_same_time_and_eps_at_1(xp: Any, dtype: str) -> None:
    x_t, eps = arrays(xp, dtype)
    t, zero, one = (xp.array(times) for times in (T, 0 * T, 0 * T + 1))
    for times, wanted in (
        ((zero, t), rf.add_noise(x_t, eps, t)),
        ((0.0, 0.3), rf.add_noise(x_t, eps, 0.3)),
        *((times, x_t) for times in ((t, t), (0.3, 0.3), (1 - 1e-6, 1 - 1e-6))),
        *((times, eps) for times in ((t, one), (0.3, 1.0), (1 - 1e-6, 1.0))),
    ):
        assert np.array_equal(xp.numpy(rf.renoise(x_t, eps, *times)), xp.numpy(wanted)), times


@pytest.mark.needs("float64 taken away")
def test_it_is_exact_without_float64(xp: Any) -> None:
    x_t, eps = arrays(xp)
    t, one = xp.array(T), xp.array(0 * T + 1)
    for times, wanted in (((t, t), x_t), ((t, one), eps)):
        got = xp.no_float64(rf.renoise, [x_t, eps, *times])
        assert np.array_equal(xp.numpy(got), xp.numpy(wanted))


def test_the_floor_shrinks_the_result_near_1_to_0_at_1(xp: Any) -> None:
    x_t, eps = arrays(xp)
    assert xp.numpy(rf.renoise(x_t, eps, 1 - 5e-7, 1 - 5e-7)) == pytest.approx(xp.numpy(x_t) / 2, rel=1e-6)
    assert not xp.numpy(rf.renoise(x_t, eps, 1.0, 1.0)).any()


def test_neighboring_times_do_not_cancel(xp: Any) -> None:
    """``t_next^2 - (a t)^2`` loses up to 29 % here in float32."""
    t = np.array([1e-6, 0.001, 0.1, 0.5, 0.9, 0.999], np.float32)
    t_next = np.nextafter(t, np.float32(1))
    zeros, ones = xp.array(0 * t), xp.array(0 * t + 1)
    got = xp.numpy(rf.renoise(zeros, ones, xp.array(t), xp.array(t_next)))
    pairs = [(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in zip(t, t_next, strict=True)]
    wanted = [float(mp.sqrt(b**2 - ((1 - b) / (1 - a) * a) ** 2)) for a, b in pairs]
    assert got == pytest.approx(wanted, rel=2e-7)


@pytest.mark.backends("numpy", "torch", "jax")
def test_times_out_of_order_are_nan_in_arrays_without_a_warning(xp: Any) -> None:
    x_t, eps = arrays(xp)
    t, early = np.float32(T), np.float32(np.where(np.arange(len(T)) % 2, T, T / 2))
    got = xp.numpy(rf.renoise(x_t, eps, xp.array(t), xp.array(early)))
    assert np.array_equal(np.isnan(got).all(1), early < t)
    assert not np.isnan(got[early == t]).any()


def test_floats_out_of_order_are_an_error_beyond_1e_12(xp: Any) -> None:
    x_t, eps = arrays(xp)
    assert np.array_equal(xp.numpy(rf.renoise(x_t, eps, 0.5, 0.5 - 9e-13)), xp.numpy(x_t))
    for t_next in (0.4, 0.5 - 2e-12):
        with pytest.raises(ValueError, match=rf"t_next must not be below t, got t=0\.5 and t_next={t_next}"):
            rf.renoise(x_t, eps, 0.5, t_next)


@pytest.mark.backends("torch", "jax")
def test_gradients_in_x_t_and_eps_are_finite_at_t_next_t(xp: Any) -> None:
    x_t, eps = arrays(xp)
    t = xp.array(T)
    to_x_t, to_eps = xp.reverse(lambda x, e: rf.renoise(x, e, t, t), [x_t, eps], xp.array(np.ones((len(T), 5))))
    assert (xp.numpy(to_x_t) == 1).all()
    assert not xp.numpy(to_eps).any()

"""Devices without float64: hard arrays, in addition to test_same_bits.py. Results have the bits of NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.bits import assert_same_bits
from tests.catalogue import FOR_GRADIENTS, REPRESENTATIVE, ROWS, inputs

pytestmark = [
    pytest.mark.needs("no float64"),
    pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning"),
]


@pytest.mark.parametrize("name", FOR_GRADIENTS)
def test_arrays_of_any_two_scales(xp: Any, name: str) -> None:
    x, y, t = (array.astype(np.float32) for array in inputs(ROWS[name], 256))
    for one, other in ((1e-6, 1e-6), (1e6, 1e6), (1e-6, 1e6), (1e6, 1e-6)):
        host = x * np.float32(one), y * np.float32(other), t
        assert_same_bits(xp.numpy(ROWS[name](*map(xp.array, host))), ROWS[name](*host))


@pytest.mark.parametrize("name", ["x0_to_eps", "x0_to_flow", "convert_prediction (x0, v)"])
def test_a_noisy_sample_from_which_the_prediction_cancels(xp: Any, name: str) -> None:
    x0, eps = inputs(ROWS["add_noise"], 256)[:2]
    t = np.resize([1e-6, 1e-5, 1e-4, 1e-3], len(x0)).astype(np.float32)
    host = x0.astype(np.float32), ((1 - t[:, None]) * x0 + t[:, None] * eps).astype(np.float32), t
    assert_same_bits(xp.numpy(ROWS[name](*map(xp.array, host))), ROWS[name](*host))


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_infinities_and_nan(xp: Any, name: str) -> None:
    values = np.array([np.inf, -np.inf, np.nan, 0.0, 1.0, -2.0], np.float32)
    first, second = np.meshgrid(values, values)
    for t in (np.full(6, value, np.float32) for value in (0.0, 0.3, 1.0)):
        got = xp.numpy(ROWS[name](*map(xp.array, (first, second, t))))
        np.testing.assert_array_equal(got, ROWS[name](first, second, t))

"""Calls from many threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.catalogue import ROWS, SAMPLERS, inputs

LARGE = 20_000  # columns: evaluated in blocks on NumPy and PyTorch
NAMES = ("add_noise", "x0_to_eps", "ode_step", "convert_prediction (v, v_vp)", "convert_time (rf, sigma)")


def results(xp: Any, columns: int) -> list[Any]:
    """Results of several functions, as NumPy arrays."""
    made = [
        ROWS[name](*(xp.array(x) for x in inputs(ROWS[name], columns)))
        for name in (*NAMES, *(["timestep_quantile (logitnormal)"] if "special" in xp.has else []))
    ]
    for sampler in SAMPLERS.values():
        made += sampler.call(rng=0, **xp.draw_args)
    return [np.asarray(xp.numpy(array)) for array in made]


@pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value) encountered:RuntimeWarning")
def test_8_threads_at_once_get_what_one_gets(xp: Any) -> None:
    columns = LARGE if xp.name in ("numpy", "torch") else 6
    alone = results(xp, columns)
    start = threading.Barrier(8)

    def together(_: int) -> list[Any]:
        start.wait()
        return results(xp, columns)

    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(together, range(8)):
            for mine, theirs in zip(got, alone, strict=True):
                np.testing.assert_array_equal(mine, theirs)

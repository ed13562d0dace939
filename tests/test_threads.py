"""Calls from many threads at once, and the scratch memory of a thread that ends."""

from __future__ import annotations

import gc
import importlib
import threading
import weakref
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


@pytest.mark.backends("numpy", "torch")
@pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value) encountered:RuntimeWarning")
def test_a_thread_that_ends_frees_its_scratch_memory(xp: Any) -> None:
    scratch = importlib.import_module(f"fastgen_rf.backends._{xp.name}")._kept
    kept = []

    def call() -> None:
        results(xp, LARGE)
        with scratch.taken(lambda: None) as values:  # the memory that the thread keeps for its next call
            kept.append(weakref.ref(values[0] if isinstance(values, tuple) else values))

    for _ in range(3):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    gc.collect()
    assert len(kept) == 3
    assert all(reference() is None for reference in kept)

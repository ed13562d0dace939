"""Calls from many threads at once, and processes that are forked and spawned after use.

A process that is forked after PyTorch has used several threads hangs in any tensor operation that would use them, with
or without this library, unless it sets one thread first, as DataLoader's workers do. JAX forbids forks altogether.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.catalogue import ROWS, SAMPLERS, inputs
from tests.processes import run_alone

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


# Processes

CHILD = """
import importlib, multiprocessing, sys
import numpy as np
import fastgen_rf as rf

def make(name):
    xp = importlib.import_module({"jax": "jax.numpy"}.get(name, name))
    rng = np.random.default_rng(0)
    first, second = (xp.asarray(rng.standard_normal((3, 200_000)).astype(np.float32)) for _ in range(2))
    drawn = [rf.sample_timesteps(100, rf.SampleTimestepConfig(), rng=0, xp=xp)]
    if name == "torch":
        first.requires_grad_()
    result = rf.x0_to_eps(first, second, xp.asarray(np.array([0.1, 0.5, 0.9], np.float32)))
    if name == "torch":
        result.sum().backward()
        drawn.append(first.grad)
        result = result.detach()
    return [np.asarray(x) for x in (result, *drawn)]

def child(name, sender):
    if name == "torch":
        import torch
        torch.set_num_threads(1)  # a fork lacks its parent's threads, and OpenMP would wait for them
    sender.send(make(name))

def main(name, *methods):
    wanted = make(name)
    for method in methods:
        context = multiprocessing.get_context(method)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(name, sender))
        process.start()
        assert receiver.poll(100), method
        for mine, theirs in zip(receiver.recv(), wanted, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        process.join(100)
        assert process.exitcode == 0, (method, process.exitcode)
        print(method)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.backends("numpy", "torch", "jax")
@pytest.mark.slow
def test_a_forked_or_spawned_process_computes_what_its_parent_did(xp: Any) -> None:
    usual = multiprocessing.get_all_start_methods()
    methods = [method for method in ("fork", "spawn") if method in usual and (xp.name, method) != ("jax", "fork")]
    assert run_alone(CHILD, xp.name, *methods).split() == methods

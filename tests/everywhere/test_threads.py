"""Calls from many threads at once, and from processes that are forked or spawned after use.

A process forked after PyTorch has used several threads hangs in any tensor operation that would use them, this library
or not, unless it sets one thread first, as DataLoader's workers do; and JAX forbids forks, for its own threads. Both
are spawned without ado.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf.arithmetic._inplace import Scratch
from tests.cases.fresh_process import run

CFG = rf.SampleTimestepConfig("logitnormal", truncate=True)
LARGE = (2, 140_000)  # in blocks, on NumPy and PyTorch


def calls(xp: Any, shape: tuple[int, ...], seed: int) -> list[Any]:
    """Every function's result for arrays made from ``seed``, as NumPy arrays and floats."""
    rng = np.random.default_rng(seed)
    first, second = (xp.array(rng.standard_normal(shape).astype(np.float32)) for _ in range(2))
    t, t_next = (xp.array(rng.uniform(0.1, 0.9, shape[:1]).astype(np.float32)) for _ in range(2))
    drawn = {**xp.draw_args, "rng": seed}
    made = [
        *(rf.rf_alpha(t), rf.rf_sigma(t), rf.add_noise(first, second, t), rf.expand_like(t, first)),
        *(rf.pred_noise_to_pred_x0(first, second, t), rf.pred_x0_from_flow(first, second, t)),
        *(rf.x0_to_eps(first, second, t), rf.x0_to_flow(first, second, t)),
        *(rf.ode_step(first, second, t, t_next), rf.flow_step(first, second, t, t_next)),
        rf.convert_prediction(first, second, t, source="v", target="score"),
        rf.convert_state(first, t, source="rf", target="vp"),
        *(rf.convert_time(t, source="rf", target="sigma"), rf.shift_timesteps(t, 3.0)),
        *(rf.sample_timesteps(50, CFG, **drawn), rf.sample_timesteps(50, CFG, stratified=True, **drawn)),
        *rf.sample_timestep_pairs(50, CFG, **drawn),
        *rf.sample_from_t_list(50, rf.make_t_list(4), return_index=True, **drawn),
        *((rf.timestep_quantile(t, CFG), rf.timestep_density(t, CFG)) if xp.name in SPECIAL else ()),
    ]
    numbers = [rf.timestep_quantile(0.3, CFG), rf.timestep_density(0.3, CFG), rf.resolution_shift(4096 + seed)]
    return [np.asarray(xp.numpy(array)) for array in made] + numbers


SPECIAL = ("numpy", "torch", "jax", "cupy")


def test_8_threads_that_call_everything_at_once_get_what_one_gets(xp: Any) -> None:
    shape = LARGE if xp.name in ("numpy", "torch") else (4, 5)
    alone = [calls(xp, shape, seed) for seed in range(8)]
    start = threading.Barrier(8)

    def together(seed: int) -> list[Any]:
        start.wait()
        return [calls(xp, shape, seed) for _ in range(2)][-1]

    with ThreadPoolExecutor(8) as pool:
        for got, wanted in zip(pool.map(together, range(8)), alone, strict=True):
            for mine, theirs in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(mine, theirs)


@pytest.mark.backends("numpy", "torch")
def test_a_thread_that_ends_leaves_no_scratch_behind(xp: Any) -> None:
    kept = []

    def call() -> None:
        scratch = scratch_of(xp)
        calls(xp, LARGE, 0)
        with scratch.taken(lambda: None) as values:  # what the thread keeps for its next call
            kept.append(weakref.ref(values))

    for _ in range(3):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    gc.collect()
    assert len(kept) == 3
    assert all(reference() is None for reference in kept)


def scratch_of(xp: Any) -> Scratch:
    return importlib.import_module(f"fastgen_rf.backends._{xp.name}")._kept


# What a child process runs: a large call, with its gradient on PyTorch, and a draw, against what its parent got before.
CHILD = """
import multiprocessing, sys
import numpy as np
import fastgen_rf as rf

def make(name):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 200_000)).astype(np.float32) for _ in range(2)]
    t = np.array([0.1, 0.5, 0.9], np.float32)
    if name == "torch":
        import torch
        first, second, time = (torch.from_numpy(a) for a in (*arrays, t))
        first.requires_grad_()
        result = rf.x0_to_eps(first, second, time)
        result.sum().backward()
        drawn = rf.sample_timesteps(100, rf.SampleTimestepConfig(), rng=0, xp=torch)
        return [x.detach().numpy() for x in (result, first.grad, drawn)]
    if name == "jax":
        import jax.numpy as xp
        first, second, time = (xp.asarray(a) for a in (*arrays, t))
    else:
        xp, first, second, time = np, *arrays, t
    drawn = rf.sample_timesteps(100, rf.SampleTimestepConfig(), rng=0, xp=xp)
    return [np.asarray(x) for x in (rf.x0_to_eps(first, second, time), drawn)]

def child(name, sender):
    if name == "torch":
        import torch
        torch.set_num_threads(1)  # a fork has none of its parent's threads, and OpenMP waits for them: torch's own rule
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


def fork_and_spawn(name: str) -> list[str]:
    usual = multiprocessing.get_all_start_methods()
    return [method for method in ("fork", "spawn") if method in usual and (name, method) != ("jax", "fork")]


@pytest.mark.backends("numpy", "torch", "jax")
@pytest.mark.undealt
def test_a_child_process_computes_what_its_parent_did(xp: Any, tmp_path: Path) -> None:
    program = tmp_path / "program.py"  # a spawned process imports its parent's main module from a file
    program.write_text(CHILD)
    methods = fork_and_spawn(xp.name)
    printed = run(
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
        str(program),
        xp.name,
        *methods,
    )
    assert printed.split() == methods

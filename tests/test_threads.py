"""Calls from many threads at once, and processes that share a stream or are forked and spawned after use.

A process that is forked after PyTorch has used several threads hangs in any tensor operation that would use them, with
or without this library, unless it sets one thread first, as DataLoader's workers do. JAX forbids forks altogether.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
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


# Processes

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


def run(program: Path, *arguments: str) -> str:
    """Run a program on the package under test; its error is an error here."""
    environment = {**os.environ, "PYTHONPATH": str(Path(rf.__file__).parents[1])}
    command = [sys.executable, str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=program.parent, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


@pytest.mark.backends("numpy", "torch", "jax")
@pytest.mark.slow
def test_a_forked_or_spawned_process_computes_what_its_parent_did(xp: Any, tmp_path: Path) -> None:
    program = tmp_path / "program.py"  # a spawned process imports its parent's main module from a file
    program.write_text(CHILD)
    usual = multiprocessing.get_all_start_methods()
    methods = [method for method in ("fork", "spawn") if method in usual and (xp.name, method) != ("jax", "fork")]
    assert run(program, xp.name, *methods).split() == methods


RANK = """
import sys
import numpy as np
import fastgen_rf as rf

framework = sys.argv[1]
cfg = rf.SampleTimestepConfig("logitnormal")
if framework == "jax":
    import jax

    stream = lambda step: jax.random.fold_in(jax.random.key(7), step)
elif framework == "torch":
    import torch

    stream = lambda step: torch.Generator().manual_seed(7 * 2**20 + step)
else:
    stream = lambda step: np.random.Generator(np.random.Philox(key=7, counter=[0, 0, 0, step]))
for run in sys.argv[2:]:
    rank, ranks, first, last = map(int, run.split(","))
    for step in range(first, last):
        times = rf.sample_timesteps(24, cfg, rng=stream(step), stratified=True)  # the global batch, on every rank
        pairs = rf.sample_timestep_pairs(24, cfg, rng=stream(step), stratified=True)
        for arrays in ((times,), pairs):
            local = [np.asarray(array[rank * 24 // ranks : (rank + 1) * 24 // ranks]) for array in arrays]
            print(*(",".join(float(time).hex() for time in sample) for sample in zip(*local)))
"""


@pytest.mark.backends("numpy", "jax", "torch")
@pytest.mark.slow
def test_ranks_that_share_a_stream_get_the_parts_of_one_batch(xp: Any, tmp_path: Path) -> None:
    """Four ranks together have the batch of one process, and a run that is resumed on three ranks repeats it."""
    program = tmp_path / "rank.py"
    program.write_text(RANK)
    resumed = [[f"{rank},4,0,5", f"{rank},3,3,5"] for rank in range(3)]
    lines = [run(program, xp.name, *runs).splitlines() for runs in (*resumed, ["3,4,0,5", "0,1,0,5"])]
    alone = [line.split() for line in lines[3][10:]]
    assert [len(set(step)) for step in alone] == [24] * 10
    assert len({tuple(step) for step in alone}) == 10
    assert [sum(len(set(pair.split(","))) == 1 for pair in pairs) for pairs in alone[1::2]] == [18] * 5
    assert joined([part[:10] for part in lines]) == alone
    assert joined([part[10:] for part in lines[:3]]) == alone[6:]


def joined(parts: list[list[str]]) -> list[list[str]]:
    """Each line of all ranks together."""
    return [" ".join(line).split() for line in zip(*parts, strict=True)]

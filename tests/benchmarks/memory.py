"""Memory that a call needs in addition to its result: the peak while it runs, and what is saved for the backward pass.

On Linux the peak on the CPU is the kernel's high-water mark of resident memory, reset before the call. On CUDA it is
the allocator's. JAX's allocator does not reset its peak, so there it is the size that the compiled program asks for.
All are relative to the size of one result.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastgen_rf
from tests.benchmarks.baselines import Frame, Implementation
from tests.benchmarks.cases import BACKWARD, FORWARD, LATENT, Case

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(frame: Frame, implementation: Implementation, dtype: str) -> float | None:
    """Peak during one add_noise, without its arguments and result, over the size of the result; None if unknown.

    NumPy and eager PyTorch are warmed up on four elements, so scratch that stays allocated counts. The memory of a
    compiler does not count.
    """
    if frame.device == "cpu" and not RESET.exists():
        return None
    case = Case("memory", "add_noise", FORWARD, dtype, LATENT)
    compiles = implementation.compiled or frame.name == "jax"
    arrays = frame.arrays(case)
    if frame.device == "cuda" and frame.name == "jax":
        return _of_program(frame, implementation, case, arrays)
    call = implementation.prepare(case, arrays)
    tiny = replace(case, shape=(4,))
    warm_up = call if compiles else implementation.prepare(tiny, frame.arrays(tiny))
    kept = warm_up()  # not freed before the end, or XLA would reuse its memory for the next result
    gc.collect()
    frame.wait((arrays, kept))
    read = _on_cuda(frame) if frame.device == "cuda" else _on_cpu
    before = read(True)
    result = call()
    frame.wait(result)
    return float((read(False) - before - result.nbytes) / result.nbytes)


def saved(frame: Frame, op: str, dtype: str) -> tuple[float, float]:
    """Memory saved by a call of fastgen_rf for its backward pass: all of it, and the part that is no input."""
    case = Case("memory", op, BACKWARD, dtype, (4, 16, 128, 128))
    arrays = frame.arrays(case)[:3]
    function = getattr(fastgen_rf, op)
    kept: dict[int, int] = {}
    if frame.name == "jax":
        result, pullback = frame.framework.jax.vjp(function, *arrays)
        leaves = [leaf for leaf in frame.framework.jax.tree.leaves(pullback) if hasattr(leaf, "unsafe_buffer_pointer")]
        kept = {leaf.unsafe_buffer_pointer(): leaf.nbytes for leaf in leaves}
        inputs = {array.unsafe_buffer_pointer() for array in arrays}
    else:
        held = []

        def pack(tensor: Any) -> Any:
            held.append(tensor)
            return tensor

        with frame.xp.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = function(*arrays)
        storages = [tensor.untyped_storage() for tensor in held]
        kept = {storage.data_ptr(): storage.nbytes() for storage in storages}
        inputs = {array.untyped_storage().data_ptr() for array in arrays}
    new = sum(size for address, size in kept.items() if address not in inputs)
    return sum(kept.values()) / result.nbytes, new / result.nbytes


def _on_cpu(reset: bool) -> int:
    if reset:
        if release := getattr(ctypes.CDLL(None), "malloc_trim", None):
            release(0)  # or glibc would reuse the memory of freed arrays
        RESET.write_text("5")  # the high-water mark falls to the current size, see proc(5)
    return int(re.findall(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[0]) * 1024


def _on_cuda(frame: Frame) -> Callable[[bool], int]:
    def torch(reset: bool) -> int:
        if reset:
            frame.xp.cuda.reset_peak_memory_stats()
        return int(frame.xp.cuda.max_memory_allocated())

    def cupy(reset: bool) -> int:  # the pool only ever grows during a call
        pool = frame.xp.get_default_memory_pool()
        if reset:
            pool.free_all_blocks()
        return int(pool.total_bytes())

    return {"torch": torch, "cupy": cupy}[frame.name]


def _of_program(frame: Frame, implementation: Implementation, case: Case, arrays: Any) -> float | None:
    """Memory of the compiled program of a call, by XLA; None where each operation is a program."""
    if implementation.baseline:
        return None
    program = frame.framework.jax.jit(lambda *arrays: implementation.prepare(case, arrays)()).lower(*arrays)
    sizes = program.compile().memory_analysis()
    result = arrays[0].nbytes
    return float((sizes.temp_size_in_bytes + sizes.output_size_in_bytes - result) / result)

"""What a call takes beyond its result: the peak while it runs, and what it keeps for the backward pass.

On Linux's CPU the peak is the kernel's own high-water mark of resident memory, reset before the call; on CUDA it is the
allocator's, or on JAX, whose allocator's never falls, what the compiled program asks for. All are parts of the size of
one result, at latent size.
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
from tests.benchmarks.cases import BACKWARD, FORWARD, LATENT, Case
from tests.benchmarks.contenders import Contender

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(frame: Any, contender: Contender, dtype: str) -> float | None:
    """Memory at the peak of one add_noise, beyond what was there before and the result, over the size of the result.

    None where the machine does not tell. NumPy and eager PyTorch are warmed up on four elements, so that scratch that
    stays allocated counts; what a compiler takes for itself does not count.
    """
    if frame.device == "cpu" and not RESET.exists():
        return None
    case = Case("memory", "add_noise", FORWARD, dtype, LATENT)
    compiles = contender.compiled or frame.name == "jax"
    arrays = frame.arrays(case)
    if frame.device == "cuda" and frame.name == "jax":
        return _of_program(frame, contender, case, arrays)
    call = contender.prepare(case, arrays)
    tiny = replace(case, shape=(4,))
    warm_up = call if compiles else contender.prepare(tiny, frame.arrays(tiny))
    kept = warm_up()  # for as long as this runs: XLA would put the next result where a freed one was
    gc.collect()
    frame.wait((arrays, kept))
    read = _on_cuda(frame) if frame.device == "cuda" else _on_cpu
    before = read(True)
    result = call()
    frame.wait(result)
    return float((read(False) - before - result.nbytes) / result.nbytes)


def saved(frame: Any, op: str, dtype: str) -> tuple[float, float]:
    """What is kept from a call of fastgen_rf for its backward pass: all of it, and what of it is not an input."""
    case = Case("memory", op, BACKWARD, dtype, (4, 16, 128, 128))
    arrays = frame.arrays(case)[:3]
    function = getattr(fastgen_rf, op)
    kept: dict[int, int] = {}
    if frame.name == "jax":
        result, pullback = frame.jax.vjp(function, *arrays)
        leaves = [leaf for leaf in frame.jax.tree.leaves(pullback) if hasattr(leaf, "unsafe_buffer_pointer")]
        kept = {leaf.unsafe_buffer_pointer(): leaf.nbytes for leaf in leaves}
        inputs = {array.unsafe_buffer_pointer() for array in arrays}
    else:
        held = []

        def pack(tensor: Any) -> Any:
            held.append(tensor)
            return tensor

        with frame.torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = function(*arrays)
        storages = [tensor.untyped_storage() for tensor in held]
        kept = {storage.data_ptr(): storage.nbytes() for storage in storages}
        inputs = {array.untyped_storage().data_ptr() for array in arrays}
    new = sum(size for address, size in kept.items() if address not in inputs)
    return sum(kept.values()) / result.nbytes, new / result.nbytes


def _on_cpu(reset: bool) -> int:
    if reset:
        release = getattr(
            ctypes.CDLL(None), "malloc_trim", None
        )  # what glibc keeps of freed arrays would be used again
        if release is not None:
            release(0)
        RESET.write_text("5")  # the high-water mark falls to what is resident now (proc(5))
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024


def _on_cuda(frame: Any) -> Callable[[bool], int]:
    def torch(reset: bool) -> int:
        if reset:
            frame.torch.cuda.reset_peak_memory_stats()
        return int(frame.torch.cuda.max_memory_allocated())

    def cupy(reset: bool) -> int:  # the pool only ever grows during a call
        pool = frame.xp.get_default_memory_pool()
        if reset:
            pool.free_all_blocks()
        return int(pool.total_bytes())

    return {"torch": torch, "cupy": cupy}[frame.name]


def _of_program(frame: Any, contender: Contender, case: Case, arrays: Any) -> float | None:
    """What XLA says that the program of a call takes; None where a call is a program for each operation."""
    if contender.rival:
        return None
    sizes = frame.jax.jit(lambda *arrays: contender.prepare(case, arrays)()).lower(*arrays).compile().memory_analysis()
    result = arrays[0].nbytes
    return float((sizes.temp_size_in_bytes + sizes.output_size_in_bytes - result) / result)

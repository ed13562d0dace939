"""The table of draws: the samplers, compared with nvidia-modelopt and with a plain draw of uniform numbers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastgen_rf as rf
from tests.benchmarks.baselines import OURS, Frame, Implementation
from tests.benchmarks.cases import Case
from tests.exact import DISTRIBUTIONS

T_LIST = [1.0, 0.75, 0.5, 0.25, 0.0]
SIZES = (8, 4096)
IN_MODELOPT = ("uniform", "logitnormal", "lognormal", "shifted", "polynomial", "t_list")


def cases() -> Iterator[Case]:
    """Every distribution, the entries of a t_list and pairs, for a small and a large batch."""
    for n in SIZES:
        for op in (*DISTRIBUTIONS, "t_list", "pairs"):
            yield Case("draws", op, "forward", "float32", (n,))


def implementations(frame: Frame, case: Case) -> list[Implementation]:
    """Our sampler, and what a user of the framework would call instead."""
    sources: dict[str, Callable[[], dict[str, Any]]] = {
        "numpy": lambda: {"rng": np.random.default_rng(0)},
        "torch": lambda: {"device": frame.xp.device(frame.device)},
        "jax": lambda: {"rng": importlib.import_module("jax").random.key(0)},
        "cupy": lambda: {"xp": frame.xp},
    }
    source, n = sources[frame.name](), case.elements
    found = [Implementation(OURS, lambda case, arrays: _ours(case.op, n, source))]
    if frame.name == "torch" and case.op in IN_MODELOPT:
        modelopt: Any = getattr(frame, "modelopt", None)
        if modelopt is not None:
            config: Any = importlib.import_module("modelopt.torch.fastgen.config").SampleTimestepConfig
            theirs = T_LIST if case.op == "t_list" else config(time_dist_type=case.op)
            sample = modelopt.sample_from_t_list if case.op == "t_list" else modelopt.sample_timesteps
            found.append(
                Implementation(
                    "nvidia-modelopt", lambda case, arrays: lambda: sample(n, theirs, **source), baseline=True
                )
            )
    if frame.name == "jax":
        uniform = importlib.import_module("jax").random.uniform
        found.append(Implementation("jax.random.uniform", lambda case, arrays: lambda: uniform(source["rng"], (n,))))
    return found


def _ours(op: str, n: int, source: dict[str, Any]) -> Callable[[], Any]:
    if op == "t_list":
        return lambda: rf.sample_from_t_list(n, T_LIST, **source)
    config = rf.SampleTimestepConfig("shifted" if op == "pairs" else op)  # type: ignore[arg-type]
    if op == "pairs":
        return lambda: rf.sample_timestep_pairs(n, config, **source)
    return lambda: rf.sample_timesteps(n, config, **source)

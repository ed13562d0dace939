"""``python -m tests.benchmarks.words``: what float64's numbers cost without float64, on this machine's CPU by PyTorch.

Each formula on words, in plain float32 and in plain float64 take turns; medians in milliseconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

import fastgen_rf as rf
from fastgen_rf.backends._torch import TorchBackend
from tests.cases.as_written import FORMULAS, Written

ROUNDS = 15


def main() -> None:
    """Measure and print."""
    with mock.patch.object(TorchBackend, "has_float64", lambda self, device: False):
        for shape in ((16, 256), (16, 65536)):
            first, second = torch.randn((2, *shape))
            for name, written in FORMULAS.items():
                for kind, t in (("array t", torch.rand(shape[0], 1) * 0.9 + 0.05), ("float t", 0.3)):
                    contenders = _contenders(name, written, first, second, t)
                    taken: dict[str, list[float]] = {label: [] for label in contenders}
                    for _ in range(ROUNDS):
                        for label, call in contenders.items():
                            start = time.perf_counter()
                            call()
                            taken[label].append(1e3 * (time.perf_counter() - start))
                    figures = ", ".join(f"{label} {statistics.median(ms):.3f}" for label, ms in taken.items())
                    print(f"{name}, {shape}, {kind}: {figures}")


def _contenders(name: str, written: Written, first: Any, second: Any, t: Any) -> dict[str, Callable[[], Any]]:
    ours = getattr(rf, name)
    plain, maximum = written.value, max if isinstance(t, float) else torch.clamp_min
    wide = t if isinstance(t, float) else t.double()
    return {
        "words": lambda: ours(first, second, t),
        "float32": lambda: plain(first, second, t, maximum),
        "float64": lambda: plain(first.double(), second.double(), wide, maximum).float(),
    }


if __name__ == "__main__":
    main()

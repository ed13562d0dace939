"""How long a call takes. Implementations take turns, so that a slow phase of the machine slows all of them.

The order in a round is random, so that none always follows the same one. One function measured under two names had a
ratio of 0.95 to 1.06 at 1M elements, and of 0.97 to 1.02 below that (PyTorch, two cores).
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.baselines import OURS, Call, Frame, Implementation
from tests.benchmarks.cases import Case

SHORTEST = 2e-3  # seconds that one measurement lasts at least, in several calls if necessary
LEAD_IN = 20e-3  # a call shorter than this follows one that is not measured, for caches and the heap
MOST = 41  # rounds


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one implementation in one case; ``ratio`` is its time over fastgen_rf's, round by round."""

    implementation: str
    baseline: bool
    median: float
    quartiles: tuple[float, float]
    ratio: float
    ratio_quartiles: tuple[float, float]
    rounds: int
    calls: int


def measure(
    frame: Frame, case: Case, implementations: list[Implementation], seconds: float, fewest: int
) -> list[Timing]:
    """Time ``implementations`` in turns for about ``seconds`` and ``fewest`` rounds, after a warm-up of each."""
    arrays = frame.arrays(case)
    calls = [implementation.prepare(case, arrays) for implementation in implementations]
    repeats = []
    for call in calls:
        _time(frame, call, 1)  # compiles
        once = _time(frame, call, 1)
        if once < SHORTEST:
            once = min(once, _time(frame, call, math.ceil(SHORTEST / once)))
        repeats.append(max(1, math.ceil(SHORTEST / once)))
    samples: list[list[float]] = [[] for _ in calls]
    order = random.Random(0)
    end = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        turns = list(zip(samples, calls, repeats, strict=True))
        while (done := len(samples[0])) < fewest or (done < MOST and time.perf_counter() < end):
            order.shuffle(turns)
            for times, call, count in turns:
                if times and times[-1] < LEAD_IN:
                    _time(frame, call, 1)
                times.append(_time(frame, call, count))
    finally:
        gc.enable()
    ours = samples[[implementation.name for implementation in implementations].index(OURS)]
    against = [[theirs / own for theirs, own in zip(times, ours, strict=True)] for times in samples]
    return [
        Timing(
            implementation=implementation.name,
            baseline=implementation.baseline,
            median=statistics.median(times),
            quartiles=_quartiles(times),
            ratio=statistics.median(ratios),
            ratio_quartiles=_quartiles(ratios),
            rounds=len(times),
            calls=count,
        )
        for implementation, times, ratios, count in zip(implementations, samples, against, repeats, strict=True)
    ]


def record(frame: Frame, case: Case, timing: Timing) -> dict[str, Any]:
    """One line of the JSON file."""
    return {"backend": frame.name, **asdict(case), "elements": case.elements, **asdict(timing)}


def _quartiles(values: list[float]) -> tuple[float, float]:
    lower, _, upper = statistics.quantiles(values, n=4)
    return lower, upper


def _time(frame: Frame, call: Call, count: int) -> float:
    """Seconds per call of ``count`` calls in a row, from an idle device to an idle device."""
    frame.wait(None)
    start = time.perf_counter()
    for _ in range(count):
        result = call()
        frame.wait_each(result)
    frame.wait(result)
    return (time.perf_counter() - start) / count

"""How long a call takes.

Implementations take turns, so that a slow phase of the machine slows all of them. The order in a round is random, so
that none always follows the same one. One function measured under two names had a ratio of 0.95 to 1.06 at 1M elements,
and of 0.97 to 1.02 below that (PyTorch, two cores).
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from dataclasses import asdict
from typing import Any

from tests.benchmarks.baselines import OURS, Call, Frame, Implementation
from tests.benchmarks.cases import Case

SECONDS = {"sizes": 1.5, "images": 0.5, "formulas": 1.0, "draws": 0.5}  # of measuring for a case
FEWEST, MOST = 5, 41  # rounds
SHORTEST = 2e-3  # seconds that one measurement lasts at least, in several calls if necessary
LEAD_IN = 20e-3  # a call shorter than this follows one that is not measured, for caches and the heap


def times(frame: Frame, case: Case, measured: list[Implementation]) -> list[dict[str, Any]]:
    """Seconds per call of each implementation in one case; ``ratio`` is its time over fastgen_rf's, round by round."""
    arrays = frame.arrays(case)
    calls = [implementation.prepare(case, arrays) for implementation in measured]
    repeats = []
    for call in calls:
        _time(frame, call, 1)  # compiles
        once = _time(frame, call, 1)
        if once < SHORTEST:
            once = min(once, _time(frame, call, math.ceil(SHORTEST / once)))
        repeats.append(max(1, math.ceil(SHORTEST / once)))
    samples: list[list[float]] = [[] for _ in calls]
    order = random.Random(0)
    end = time.perf_counter() + SECONDS[case.table]
    gc.collect()
    gc.disable()
    try:
        turns = list(zip(samples, calls, repeats, strict=True))
        while (done := len(samples[0])) < FEWEST or (done < MOST and time.perf_counter() < end):
            order.shuffle(turns)
            for found, call, count in turns:
                if found and found[-1] < LEAD_IN:
                    _time(frame, call, 1)
                found.append(_time(frame, call, count))
    finally:
        gc.enable()
    ours = samples[[implementation.name for implementation in measured].index(OURS)]
    about = {"backend": frame.name, **asdict(case), "elements": case.elements}
    records = []
    for implementation, found in zip(measured, samples, strict=True):
        ratios = [theirs / own for theirs, own in zip(found, ours, strict=True)]
        records.append(
            about
            | {"implementation": implementation.name, "baseline": implementation.baseline}
            | {"median": statistics.median(found), "quartiles": statistics.quantiles(found)[::2], "rounds": len(found)}
            | {"ratio": statistics.median(ratios), "ratio_quartiles": statistics.quantiles(ratios)[::2]}
        )
    return records


def _time(frame: Frame, call: Call, count: int) -> float:
    """Seconds per call of ``count`` calls in a row, from an idle device to an idle device."""
    frame.wait(None)
    start = time.perf_counter()
    for _ in range(count):
        result = call()
        frame.wait_each(result)
    frame.wait(result)
    return (time.perf_counter() - start) / count

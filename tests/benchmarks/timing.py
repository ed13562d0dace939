"""How long a call takes: contenders take turns, so that what slows the machine for a while slows all of them.

The order within a round is shuffled, so that nobody always follows the same neighbour. How far to trust a ratio:
one function entered under two names came out at 0.95 to 1.06 of itself at 1M elements, at 0.97 to 1.02 below
(PyTorch, two cores).
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.cases import Case
from tests.benchmarks.contenders import OURS, Call, Contender

SHORTEST = 2e-3  # seconds that one measurement lasts at least, in as many calls as that takes
LEAD_IN = 20e-3  # a call shorter than this follows an unmeasured one: a neighbour leaves caches and heap otherwise
MOST = 41  # rounds


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one contender in one case; ``ratio`` is its time over fastgen_rf's, round by round."""

    contender: str
    rival: bool
    median: float
    quartiles: tuple[float, float]
    ratio: float
    ratio_quartiles: tuple[float, float]
    rounds: int
    calls: int


def measure(frame: Any, case: Case, contenders: list[Contender], seconds: float, fewest: int) -> list[Timing]:
    """Time ``contenders`` in turns for about ``seconds`` and ``fewest`` rounds, after a warm-up of each."""
    arrays = frame.arrays(case)
    calls = [contender.prepare(case, arrays) for contender in contenders]
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
    ours = samples[[contender.name for contender in contenders].index(OURS)]
    against = [[theirs / own for theirs, own in zip(times, ours, strict=True)] for times in samples]
    return [
        Timing(
            contender=contender.name,
            rival=contender.rival,
            median=statistics.median(times),
            quartiles=_quartiles(times),
            ratio=statistics.median(ratios),
            ratio_quartiles=_quartiles(ratios),
            rounds=len(times),
            calls=count,
        )
        for contender, times, ratios, count in zip(contenders, samples, against, repeats, strict=True)
    ]


def record(frame: Any, case: Case, timing: Timing) -> dict[str, Any]:
    """One line of the JSON file."""
    return {"backend": frame.name, **asdict(case), "elements": case.elements, **asdict(timing)}


def _quartiles(values: list[float]) -> tuple[float, float]:
    lower, _, upper = statistics.quantiles(values, n=4)
    return lower, upper


def _time(frame: Any, call: Call, count: int) -> float:
    """Seconds per call of ``count`` calls in a row, from an idle device to an idle device."""
    frame.wait(None)
    start = time.perf_counter()
    for _ in range(count):
        result = call()
        frame.wait_each(result)
    frame.wait(result)
    return (time.perf_counter() - start) / count

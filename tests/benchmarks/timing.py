"""How long a call takes: contenders take turns, so that what slows the machine for a while slows all of them."""

from __future__ import annotations

import gc
import math
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.cases import Case
from tests.benchmarks.contenders import OURS, Call, Contender

SHORTEST = 2e-3  # seconds that one measurement lasts at least, in as many calls as that takes
FEWEST, MOST = 5, 41  # rounds


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one contender in one case; ``ratio`` is its time over fastgen_rf's, round by round."""

    contender: str
    rival: bool
    median: float
    quartiles: tuple[float, float]
    ratio: float
    rounds: int
    calls: int


def measure(frame: Any, case: Case, contenders: list[Contender], seconds: float) -> list[Timing]:
    """Time ``contenders`` in turns (A B C A B C ...) for about ``seconds``, after a warm-up of each."""
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
    end = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        while (done := len(samples[0])) < FEWEST or done < MOST and time.perf_counter() < end:
            for times, call, count in zip(samples, calls, repeats, strict=True):
                times.append(_time(frame, call, count))
    finally:
        gc.enable()
    ours = samples[[contender.name for contender in contenders].index(OURS)]
    return [
        Timing(
            contender=contender.name,
            rival=contender.rival,
            median=statistics.median(times),
            quartiles=(statistics.quantiles(times, n=4)[0], statistics.quantiles(times, n=4)[2]),
            ratio=statistics.median(theirs / own for theirs, own in zip(times, ours, strict=True)),
            rounds=len(times),
            calls=count,
        )
        for contender, times, count in zip(contenders, samples, repeats, strict=True)
    ]


def record(frame: Any, case: Case, timing: Timing) -> dict[str, Any]:
    """One line of the JSON file."""
    return {"backend": frame.name, **asdict(case), "elements": case.elements, **asdict(timing)}


def _time(frame: Any, call: Call, count: int) -> float:
    """Seconds per call of ``count`` calls in a row, from an idle device to an idle device."""
    frame.wait(None)
    start = time.perf_counter()
    for _ in range(count):
        result = call()
        frame.wait_each(result)
    frame.wait(result)
    return (time.perf_counter() - start) / count

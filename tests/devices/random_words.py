"""``python -m tests.devices.random_words N``: compare N elements without float64 with float64's, count what differs.

The elements are random. All formulas, times and scales of the tests take turns, with new arrays and times for each.
Ends with an error if more than 1 element in 100,000 differs, or any by more than an ulp.
"""

from __future__ import annotations

import itertools
import sys

import array_api_strict as xp
import numpy as np
from tqdm import tqdm

from tests.cases.without_float64 import CALLS, SCALES

SHAPE = (250, 400)
DEVICE = xp.Device("no_float64")


def main() -> None:
    """Compare as many elements as the command line says."""
    elements = int(sys.argv[1])
    rng = np.random.default_rng(2026)
    turns = itertools.cycle(itertools.product(CALLS, SCALES, ("float", "float32", "bfloat16", "small", "near 1")))
    count = differ = worst = 0
    with tqdm(total=elements, unit="element", unit_scale=True, dynamic_ncols=True) as bar:
        while count < elements:
            call, scales, kind = next(turns)
            pair = [(rng.standard_normal(SHAPE) * scale).astype(np.float32) for scale in scales]
            t = _time(rng, kind)
            native = [xp.asarray(array, device=DEVICE) for array in pair]
            time = t if isinstance(t, float) else xp.asarray(t, device=DEVICE)
            with np.errstate(all="ignore"):
                got = np.from_dlpack(CALLS[call](*native, time)).view(np.int32).astype(np.int64)
                want = CALLS[call](*pair, t).view(np.int32).astype(np.int64)
            apart = np.abs(got - want)  # of one sign, or a wrong one counts as far
            differ += int(np.count_nonzero(apart))
            worst = max(worst, int(apart.max()))
            count += apart.size
            bar.update(apart.size)
            bar.set_postfix(differ=differ, worst=worst)
    print(f"{differ} of {count:,} elements differ, by {worst} ulp at most")
    if worst > 1 or differ > count // 100_000:
        raise SystemExit(1)


def _time(rng: np.random.Generator, kind: str) -> float | np.ndarray:
    uniform = rng.random(SHAPE[0])
    if kind == "float":
        return float(rng.choice([rng.random(), rng.integers(1, 1000) / 1000, 1 / rng.integers(2, 100)]))
    if kind == "small":
        return (10.0 ** (-12 * uniform)).astype(np.float32)
    if kind == "near 1":
        return (1 - 10.0 ** (-7 * uniform)).astype(np.float32)
    t = uniform.astype(np.float32)
    return (t.view(np.uint32) & 0xFFFF0000).view(np.float32) if kind == "bfloat16" else t


if __name__ == "__main__":
    main()

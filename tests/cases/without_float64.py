"""What the tests of devices without float64 share: formulas, times, arrays, and how results are compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

import fastgen_rf as rf
from tests.cases.names import PAIRS

CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add_noise": rf.add_noise,
    "pred_noise_to_pred_x0": rf.pred_noise_to_pred_x0,
    "pred_x0_from_flow": rf.pred_x0_from_flow,
    "x0_to_eps": rf.x0_to_eps,
    "x0_to_flow": rf.x0_to_flow,
    **{
        f"{source} to {target}": partial(rf.convert_prediction, source=source, target=target)
        for source, target in PAIRS
    },
    "ode_step to 0.1": lambda x0, x_t, t: rf.ode_step(x0, x_t, t, 0.1),
    "ode_step to t": lambda x0, x_t, t: rf.ode_step(x0, x_t, 0.7, t),
    "flow_step to 0.1": lambda flow, x_t, t: rf.flow_step(flow, x_t, t, 0.1),
    "flow_step to t": lambda flow, x_t, t: rf.flow_step(flow, x_t, 0.7, t),
    **{
        f"{source} state to {target}": lambda x, _, t, source=source, target=target: rf.convert_state(
            x, t, source=source, target=target
        )
        for source, target in permutations(("rf", "vp", "ve"), 2)
    },
}
SCALES = [(1.0, 1.0), (1e-6, 1e-6), (1e6, 1e6), (1e-6, 1e6), (1e6, 1e-6)]
FLOAT_TIMES = [0.0, 1e-12, 1e-5, 0.1, 0.3, 1 / 3, 0.625, 0.7, 0.75, 0.999, 1 - 2.0**-24, 1 - 1e-9, 1.0]
_RNG = np.random.default_rng(8)
ARRAY_TIMES = {
    "ordinary": _RNG.uniform(0.001, 0.999, 64).astype(np.float32),
    "bfloat16": (_RNG.uniform(0, 1, 64).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32),
    "small": (10.0 ** _RNG.uniform(-12, -1, 64)).astype(np.float32),
    "near 1": (1 - 10.0 ** _RNG.uniform(-7, -1, 64)).astype(np.float32),
    "ends": np.resize(np.array([0.0, 1e-8, 2e-6, 1 - 2.0**-24, 1.0], np.float32), 64),
}


def arrays(*scales: tuple[float, float]) -> list[Any]:
    """Two float32 arrays of 25,600 normal values, every other row of bfloat16's few bits, which meet ties.

    Each pair of ``scales`` has its share of the columns.
    """
    rng = np.random.default_rng(5)
    columns = np.repeat(np.asarray(scales), 400 // len(scales), axis=0)
    pair = [(rng.standard_normal((64, 400)) * scale).astype(np.float32) for scale in columns.T]
    for array in pair:
        array[::2] = (array[::2].view(np.uint32) & 0xFFFF0000).view(np.float32)
    return pair


def wanted(call: str, first: Any, second: Any, t: Any) -> Any:
    """NumPy's result, in float64 and rounded once."""
    return CALLS[call](first, second, t)


def off(got: Any, want: Any) -> int:
    """How many elements differ."""
    assert got.dtype == want.dtype
    return int(np.count_nonzero(got != want))


HALVED = np.concatenate([_RNG.standard_normal(10**5), 2 - _RNG.uniform(0, 2.0**-10, 10**5)]).astype(np.float32)


def check_halves(high: Any) -> None:
    """Check that ``high`` is ``HALVED`` rounded to 12 bits."""
    unit = np.spacing(np.abs(HALVED)) * np.float32(2**12)
    assert np.array_equal(np.round(high / unit) * unit, high)
    assert np.all(np.abs(HALVED - high) <= unit / 2)

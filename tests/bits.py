"""How far two results are apart, counted in the numbers that their dtype has between them.

``python -m tests.bits`` prints how far each framework is from NumPy: the table of docs/explanation/guarantees.md.
``python -m tests.bits torch cuda`` prints it for one framework on a device.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

WAYS = [(name, take) for name in ("torch", "jax", "array_api_strict") for take in ("eager", "no_float64")]
WAYS.insert(1, ("torch", "compiled"))


def ulps_apart(got: Any, wanted: Any) -> Any:
    """Distance of each element, with both zeros in one place and NaN at distance 0 from NaN alone."""
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        raise AssertionError(f"{got.dtype}{got.shape} instead of {wanted.dtype}{wanted.shape}")
    apart = np.abs(_rank(got) - _rank(wanted))
    one, other = np.isnan(got.astype(np.float64)), np.isnan(wanted.astype(np.float64))
    return np.where(one | other, np.where(one & other, 0, np.iinfo(np.int64).max), apart)


def _rank(array: Any) -> Any:
    """Position of each number among those of its dtype."""
    integer = np.dtype(f"i{array.dtype.itemsize}")
    bits = np.ascontiguousarray(array).view(integer).astype(np.int64)
    return np.where(bits < 0, np.iinfo(integer).min - bits, bits)


def rounded(xp: Any, wide: Any, dtype: str) -> Any:
    """Float64 values in ``dtype``, as the framework rounds; bfloat16 as float32."""
    if dtype in ("float64", "float32"):
        return wide.astype(dtype)
    if xp.rounds_through_float32 and not (xp.name in ("numpy", "cupy") and dtype == "float16"):
        wide = wide.astype(np.float32)
    if dtype == "float16":
        return wide.astype(np.float16)
    return wide.astype(importlib.import_module("ml_dtypes").bfloat16).astype(np.float32)


def assert_same_bits(got: Any, wanted: Any) -> None:
    apart = ulps_apart(got, wanted)
    if apart.any():
        at = np.unravel_index(apart.argmax(), apart.shape)
        raise AssertionError(
            f"{np.count_nonzero(apart)} of {apart.size} differ, at {at} {got[at]!r}, not {wanted[at]!r}"
        )


def assert_few_differ(got: Any, wanted: Any, share: float = 0.001) -> None:
    """At most such a share of elements differs, by one unit in the last place: the effect of fused multiply-adds."""
    apart = ulps_apart(got, wanted)
    if apart.max(initial=0) > 1 or np.count_nonzero(apart) > 1 + share * apart.size:
        raise AssertionError(f"{np.count_nonzero(apart)} of {apart.size} differ, by up to {apart.max()} units")


def main() -> None:
    """Print how far each framework's results are from NumPy's: the most units, and how many of a million differ."""
    from tests.catalogue import FORMULAS, inputs
    from tests.frameworks import FRAMEWORKS, NARROW

    def measured(xp: Any, take: str, dtype: str) -> str:
        largest, differ, size = 0, 0, 0
        for row in FORMULAS:
            host = [x.astype(np.float32 if dtype in NARROW else dtype) for x in inputs(row, 1024)]
            arrays = [xp.array(x, dtype) for x in host]
            wanted = rounded(xp, row(*(np.asarray(xp.numpy(x), np.float64) for x in arrays)), dtype)
            got = xp.numpy(getattr(xp, take)(lambda *x, row=row: row(*x), arrays))
            apart = ulps_apart(got, wanted) // (2**16 if dtype == "bfloat16" else 1)
            largest, differ, size = max(largest, int(apart.max())), differ + np.count_nonzero(apart), size + apart.size
        return f"{largest}, {1e6 * differ / size:.3g} in 10⁶" if largest else "0"

    np.seterr(all="ignore")
    print("| | float64 | float32 | bfloat16 | float16 |\n| --- | --- | --- | --- | --- |")
    for name, take in [(sys.argv[1], "eager")] if sys.argv[1:] else WAYS:
        framework = FRAMEWORKS[name]
        xp = framework(sys.argv[2] if sys.argv[1:] else "CPU_DEVICE" if name == "array_api_strict" else "cpu")
        cells = [
            measured(xp, take, dtype) if dtype in xp.dtypes and (take != "no_float64" or dtype != "float64") else ""
            for dtype in ("float64", "float32", "bfloat16", "float16")
        ]
        print(f"| {framework.title}, {take.replace('_', ' ')} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

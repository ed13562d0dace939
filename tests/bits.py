"""How far two results are apart, counted in the numbers that their dtype has between them."""

from __future__ import annotations

from typing import Any

import numpy as np

_INTEGERS = {8: np.int64, 4: np.int32, 2: np.int16}


def ulps_apart(got: Any, wanted: Any) -> Any:
    """Distance of each element, with both zeros in one place and NaN at distance 0 from NaN alone."""
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        raise AssertionError(f"{got.dtype}{got.shape} instead of {wanted.dtype}{wanted.shape}")
    apart = np.abs(_rank(got) - _rank(wanted))
    one, other = np.isnan(got.astype(np.float64)), np.isnan(wanted.astype(np.float64))
    return np.where(one | other, np.where(one & other, 0, np.iinfo(np.int64).max), apart)


def _rank(array: Any) -> Any:
    """Position of each number among those of its dtype."""
    integer = _INTEGERS[array.dtype.itemsize]
    bits = np.ascontiguousarray(array).view(integer).astype(np.int64)
    return np.where(bits < 0, np.iinfo(integer).min - bits, bits)


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

"""NumPy's results against exact values in 60 digits: every function, every dtype, hard times.

The other frameworks are compared with NumPy in test_same_bits.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.catalogue import ROWS, Row, float64_slack, inputs, narrowed
from tests.exact import assert_rounded, elementwise, mp

pytestmark = [
    pytest.mark.backends("numpy"),
    pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value) encountered:RuntimeWarning"),
]


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
@pytest.mark.dtypes()
def test_result_is_the_exact_value_rounded_once(xp: Any, dtype: str, row: Row) -> None:
    host = narrowed(inputs(row), dtype)
    got = row(*(xp.array(x, dtype) for x in host))
    assert got.dtype == xp.dtype(dtype)
    assert_rounded(xp.numpy(got), elementwise(row.exact, host), float64_slack(row, host), dtype)


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_most_exact_values_are_known(row: Row) -> None:
    values = elementwise(row.exact, inputs(row))
    assert np.mean([bool(mp.isnan(value)) for value in values.ravel()]) < 0.4

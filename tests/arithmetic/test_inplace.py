"""Formulas evaluated block by block: how arrays are cut, and operators that overwrite their operand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from fastgen_rf.arithmetic._inplace import blocks, part


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((), 1, [()]),
        ((3, 0), 1, [()]),
        ((2, 3, 4), 24, [()]),
        ((2, 3, 4), 23, [(slice(0, 1),), (slice(1, 2),)]),
        ((2, 3, 4), 8, [(i, slice(j, j + 2)) for i in range(2) for j in (0, 2)]),
        ((2, 3, 4), 7, [(i, slice(j, j + 1)) for i in range(2) for j in range(3)]),
        ((2, 3, 4), 3, [(*outer, slice(k, k + 2)) for outer in itertools.product((0, 1), (0, 1, 2)) for k in (0, 2)]),
        ((10,), 4, [(slice(0, 4),), (slice(4, 8),), (slice(8, 12),)]),
        ((9,), 8, [(slice(0, 5),), (slice(5, 10),)]),  # not 8 and 1
    ],
)
def test_an_array_is_cut_along_one_axis_evenly_and_in_order(shape: Any, size: int, expected: Any) -> None:
    assert list(blocks(shape, size)) == expected
    reached = [np.arange(np.prod(shape, dtype=int)).reshape(shape)[index].ravel() for index in expected]
    assert np.concatenate(reached).tolist() == list(range(np.prod(shape, dtype=int)))
    assert max(map(len, reached)) <= size


def test_the_block_of_an_operand_has_the_axes_that_the_operand_has() -> None:
    whole, index = np.arange(24).reshape(2, 3, 4), (1, slice(1, 3))
    assert part(0.25, index) == 0.25
    assert part(whole, index).tolist() == whole[1, 1:3].tolist()
    assert part(whole[:1], index).tolist() == whole[0, 1:3].tolist()
    assert part(whole[:, :1], index).tolist() == whole[1, :1].tolist()
    assert part(whole[:1, :1], index).tolist() == whole[0, :1].tolist()
    assert part(whole, ()).tolist() == whole.tolist()

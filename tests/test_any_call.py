"""A property of any formula: shapes, layouts, dtypes and kinds of t in combinations that nobody wrote down.

The expected values are NumPy's for flat, packed float64 arrays and one t for each element, rounded to the result's
dtype: the path that test_exact_values.py compares with exact values. ``nox -s fuzz`` searches with 10,000 examples.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bits import rounded
from tests.catalogue import FORMULAS, Row

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{what} encountered:RuntimeWarning")
    for what in ("overflow", "invalid value", "divide by zero")  # casts to float16, infinities, t = 0 and 1
]
SMALL = [(2, 3, 4), (3,), (), (0,), (1,), (2, 3)]
ODD = [(2, 0, 3), (1, 1, 5), (3, 1, 2), (5, 4, 3, 2), (1, 2, 1, 2, 1)]
LARGE = [(3, 40_000), (2, 150_000), (600, 21, 43)]  # evaluated in one block and in several, on NumPy and PyTorch
LAYOUTS = ["C", "permuted", "sliced", "reversed", "broadcast"]


def few(values: list[Any], least: int = 1) -> list[Any]:
    """Values that JAX compiles a program for each of: as many as the search is long."""
    return values[: max(least, settings().max_examples // 50)]


def shapes(xp: Any) -> Any:
    if xp.name == "jax":
        return st.sampled_from(few(SMALL, 2))
    every = 3 * (SMALL + ODD)
    return st.sampled_from(every + LARGE if xp.name in ("numpy", "torch") else every)


def dtypes(xp: Any) -> Any:
    names = [name for name in ("float32", "bfloat16", "float64", "float16") if name in xp.dtypes]
    return st.sampled_from(few(names, 2) if xp.name == "jax" else names)


def formulas(xp: Any) -> Any:
    return st.sampled_from(few(FORMULAS, 6) if xp.name == "jax" else FORMULAS)


@st.composite
def arrays(draw: Any, xp: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """An array of this shape: normal values times a power of ten, with some zeros, infinities or NaN."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    layout = draw(st.sampled_from(LAYOUTS if shape else ["C"]))
    scale = 10.0 ** draw(st.sampled_from([0, 0, 0, -6, 6]))
    special = draw(st.sampled_from([None, None, None, 0.0, -0.0, np.inf, -np.inf, np.nan]))

    def values(shape: tuple[int, ...]) -> Any:
        host = np.asarray(scale * rng.standard_normal(shape))
        if special is not None:
            host[rng.random(shape) < 0.2] = special
        return host

    if layout == "sliced":
        return xp.array(values((*shape[:-1], 2 * shape[-1])), dtype)[..., ::2]
    if layout == "reversed" and xp.name != "torch":  # PyTorch has no negative strides
        return xp.array(values(shape), dtype)[..., ::-1]
    if layout == "broadcast":
        axis = draw(st.integers(0, len(shape) - 1))
        one = values(tuple(1 if at == axis else n for at, n in enumerate(shape)))
        return xp.namespace.broadcast_to(xp.array(one, dtype), shape)
    if layout == "permuted":
        order = draw(st.sampled_from(list(itertools.permutations(range(len(shape))))[:24]))
        return xp.array(np.ascontiguousarray(values(shape).transpose(order)).transpose(np.argsort(order)), dtype)
    return xp.array(values(shape), dtype)


@st.composite
def times(draw: Any, xp: Any, shape: tuple[int, ...]) -> Any:
    """A time that fits ``shape``: a number of any type, or an array on leading axes, some of length 1."""
    kind = draw(st.sampled_from(["float", "int", "numpy", "array", "array", "array"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "float":
        # Without float64, times below 2**-75 lose bits to the underflow of float32.
        return draw(st.floats(0.0, 1.0) if xp.has_float64 else st.floats(1e-12, 1.0))
    if kind == "int":
        return draw(st.sampled_from([0, 1]))
    if kind == "numpy":
        return draw(st.sampled_from([np.float64, np.float32, np.float16]))(rng.random())
    rank = draw(st.integers(0, len(shape)))
    single = draw(st.booleans())
    mine = tuple(1 if single and rng.random() < 0.5 else n for n in shape[:rank])
    near = 10.0 ** -rng.uniform(0, 7, mine)
    host = np.where(rng.random(mine) < 0.5, rng.random(mine), np.where(rng.random(mine) < 0.5, near, 1 - near))
    host = np.where(rng.random(mine) < 0.1, np.round(host), host)
    if rank and draw(st.booleans()):  # strided
        return xp.array(np.repeat(host, 2, axis=-1), draw(dtypes(xp)))[..., ::2]
    return xp.array(host, draw(dtypes(xp)))


def flat(xp: Any, value: Any, shape: tuple[int, ...]) -> Any:
    """The values for each element, in order, as float64."""
    host = np.float64(value) if isinstance(value, (int, float, np.generic)) else np.asarray(xp.numpy(value), np.float64)
    return np.broadcast_to(host.reshape(host.shape + (1,) * (len(shape) - host.ndim)), shape).ravel().copy()


@given(data=st.data())
def test_a_formula_gives_each_element_what_numpy_gives_it_alone(xp: Any, data: Any) -> None:
    row: Row = data.draw(formulas(xp))
    shape = data.draw(shapes(xp))
    names = [data.draw(dtypes(xp)) for _ in row.takes]
    arguments = [
        data.draw(arrays(xp, shape, dtype) if kind in "xy" else times(xp, shape))
        for kind, dtype in zip(row.takes, names, strict=True)
    ]
    if "n" in row.takes and all(isinstance(x, (float, np.generic)) for x in arguments[2:]):
        arguments[2:] = sorted(arguments[2:])
    got = row(*arguments)
    like = arguments[row.like]
    assert (type(got), tuple(got.shape), got.dtype) == (type(like), shape, like.dtype)
    assert xp.device_of(got) == xp.device_of(like)
    wide = row(*(flat(xp, x, shape) for x in arguments))
    wanted = rounded(xp, wide, names[row.like]).reshape(shape)
    host = xp.numpy(got)
    if xp.contracts:
        # A fused multiply-add changes float64's last bit, and relative to a sum that cancels, more than that.
        terms = sum(np.abs(flat(xp, x, shape)) for x, kind in zip(arguments, row.takes, strict=True) if kind in "xy")
        slack = (terms.reshape(shape) * 1e12 + 1e6) * 2.0**-50 + np.abs(wanted.astype(np.float64)) * 2.0**-7
        known = np.isfinite(wanted) & np.isfinite(host)
        assert (np.abs(host[known].astype(np.float64) - wanted[known]) <= slack[known]).all()
        return
    assert np.array_equal(host, wanted, equal_nan=True)

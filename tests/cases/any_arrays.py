"""Arrays for the fuzz tests: any shape, layout, dtype and values, and the times that fit them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

SMALL = [(2, 3, 4), (3,), (), (0,), (1,), (2, 3)]
ODD = [(2, 0, 3), (1, 1, 5), (3, 1, 2), (5, 4, 3, 2), (1, 2, 1, 2, 1)]
LARGE = [(3, 40_000), (2, 150_000), (600, 21, 43)]  # in one block and more: up to 2**17 on NumPy, 2**19 on PyTorch
LAYOUTS = ["C", "permuted", "sliced", "reversed", "broadcast"]


def few(values: list[Any], least: int = 1) -> list[Any]:
    """Of what JAX compiles anew for each, as much as the search is long."""
    return values[: max(least, settings().max_examples // 50)]


def shapes(xp: Any) -> Any:
    """Shapes of arrays; few for JAX, which compiles anew for each, and small ones for what takes its time."""
    if xp.name == "jax":
        return st.sampled_from(few(SMALL, 2))
    every = 3 * (SMALL + ODD)
    return st.sampled_from(every + LARGE if xp.name in ("numpy", "torch") else every)


def dtypes(xp: Any) -> Any:
    """Names of dtypes that ``xp`` has; fewer for JAX."""
    names = [name for name in ("float32", "bfloat16", "float64", "float16") if name in xp.dtypes]
    return st.sampled_from(few(names, 2) if xp.name == "jax" else names)


@st.composite
def arrays(draw: Any, xp: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """An array of this shape: normal values times a power of ten, now and then 0, infinity or NaN."""
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
    if layout == "reversed" and xp.name != "torch":  # whose strides are positive
        return xp.array(values(shape), dtype)[..., ::-1]
    if layout == "broadcast":
        axis = draw(st.integers(0, len(shape) - 1))
        one = values(tuple(1 if at == axis else n for at, n in enumerate(shape)))
        return xp.namespace.broadcast_to(xp.array(one, dtype), shape)
    if layout == "permuted":
        order = draw(st.sampled_from(list(itertools.permutations(range(len(shape))))[:24]))
        back = np.argsort(order)
        return xp.array(np.ascontiguousarray(values(shape).transpose(order)).transpose(back), dtype)
    return xp.array(values(shape), dtype)


@st.composite
def times(draw: Any, xp: Any, shape: tuple[int, ...]) -> Any:
    """A time that fits ``shape``: a number of any kind, or an array on leading axes, some of length 1."""
    kind = draw(st.sampled_from(["float", "int", "numpy", "array", "array", "array"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "float":
        return draw(st.floats(0.0, 1.0))
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
    return xp.array(host, draw(dtypes(xp)))


def is_number(value: Any) -> bool:
    """Whether it is a number of Python's or NumPy's, and no array."""
    return isinstance(value, (int, float, np.generic))


@st.composite
def levels(draw: Any, xp: Any, kind: str, dtype: str) -> Any:
    """Noise levels of a kind, as a float or an array, up to where their labels end."""
    far = 20 if dtype == "float64" else 6
    ranges = {"rf": (0, 1), "alpha_bar": (0, 1), "angle": (0, 1.57), "sigma": (0, 10.0**far), "log_snr": (-far, far)}
    low, high = ranges[kind]
    if draw(st.booleans()):
        return draw(st.floats(low, high))
    shape = draw(shapes(xp))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    near = high * 10.0 ** -rng.uniform(0, far, shape)
    return xp.array(np.where(rng.random(shape) < 0.5, rng.uniform(low, high, shape), near), dtype)


def exactly(xp: Any, array: Any) -> Any:
    """The values of an array or a number, in extended precision."""
    if is_number(array):
        return np.longdouble(array)
    return np.asarray(xp.numpy(array)).astype(np.longdouble)


def spread(t: Any, rank: int) -> Any:
    """Values of a time with trailing singleton axes up to ``rank``."""
    return t.reshape(t.shape + (1,) * (rank - t.ndim))


PRECISION = {  # bits of significand, exponents of the least and of the largest power of two
    "float64": (53, -1022, 1023),
    "float32": (24, -126, 127),
    "bfloat16": (8, -126, 127),
    "float16": (11, -14, 15),
}


def assert_near(xp: Any, got: Any, exact: Any, slack: Any, dtype: str) -> None:
    """Each finite ``exact`` rounded once to ``dtype``, but for ``slack``: what float64 loses on the way to it."""
    bits, least, most = PRECISION[dtype]
    host = np.asarray(xp.numpy(got)).astype(np.longdouble)
    exact, slack = np.broadcast_to(exact, host.shape), np.broadcast_to(slack, host.shape)
    known = np.isfinite(exact) & np.isfinite(slack)
    exponent = np.frexp(np.where(known & (exact != 0), exact, 1))[1] - 1
    ulp = np.ldexp(np.longdouble(1), np.maximum(exponent, least) - bits + 1)
    twice = 1 + np.longdouble(2) ** (bits - 23 if bits < 24 else -20)  # some round to 16 bits by way of float32
    flushed = np.longdouble(2) ** -126 if xp.name == "jax" else 0  # XLA's float32 has no subnormals on CPUs
    allowed = ulp / 2 * twice + slack + flushed
    over = np.ldexp(np.longdouble(2), most) * (1 - np.longdouble(2) ** -(bits + 1))
    beyond = np.isinf(host) & (np.abs(exact) + slack >= over * (1 - np.longdouble(2) ** -bits))
    with np.errstate(invalid="ignore"):
        wrong = known & ~beyond & ~(np.abs(host - exact) <= allowed)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise AssertionError(
            f"{np.count_nonzero(wrong)} of {host.size} wrong, the first at {at}: got {host[at]!r}, "
            f"exact {exact[at]!r}, allowed {allowed[at]!r}"
        )

"""Every framework's results against NumPy's, which test_exact_values.py compares with exact values.

The bits are the same if the framework evaluates formulas operation by operation. A compiler (XLA) may fuse a product
and a sum, which changes the last bit of few elements. Exponentials, logarithms and special functions differ between
frameworks in the last places of float64, which seldom shows after rounding.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.bits import assert_few_differ, assert_same_bits, rounded, ulps_apart
from tests.catalogue import FORMULAS, HARD_TIMES, REPRESENTATIVE, ROWS, SAMPLERS, Row, inputs

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value) encountered:RuntimeWarning")
ARITHMETIC = {name: row for name, row in ROWS.items() if row.needs == "arithmetic"}
FUNCTIONS = {name: row for name, row in ROWS.items() if row.needs != "arithmetic"}
COLUMNS = 128
every_row = pytest.mark.parametrize("row", ARITHMETIC.values(), ids=list(ARITHMETIC))
others = pytest.mark.backends("torch", "jax", "cupy", "array_api_strict", "dask")


def compare(xp: Any, got: Any, wanted: Any) -> None:
    (assert_few_differ if xp.contracts else assert_same_bits)(xp.numpy(got), wanted)


def arguments(row: Row, dtype: str) -> list[Any]:
    return [x.astype(dtype) if isinstance(x, np.ndarray) else x for x in inputs(row, COLUMNS)]


@every_row
@others
@pytest.mark.needs("float64")
def test_float32_results_have_numpys_bits(xp: Any, row: Row) -> None:
    host = arguments(row, "float32")
    compare(xp, row(*(xp.array(x) for x in host)), row(*host))


@every_row
@pytest.mark.backends("torch", "cupy", "array_api_strict", "dask")
@pytest.mark.needs("float64")
def test_float64_results_have_numpys_bits(xp: Any, row: Row) -> None:
    host = arguments(row, "float64")
    assert_same_bits(xp.numpy(row(*(xp.array(x, "float64") for x in host))), row(*host))


@every_row
@others
@pytest.mark.needs("bfloat16")
def test_bfloat16_results_are_numpys_float64_rounded_once(xp: Any, row: Row) -> None:
    host = [xp.array(x, "bfloat16") for x in arguments(row, "float32")]
    wide = row(*(xp.numpy(x).astype(np.float64) for x in host))
    (assert_few_differ if xp.contracts else assert_same_bits)(xp.numpy(row(*host)), rounded(xp, wide, "bfloat16"))


@every_row
@pytest.mark.backends("numpy", "torch", "cupy", "array_api_strict", "dask")
@pytest.mark.needs("float64 taken away")
def test_results_without_float64_have_numpys_bits(xp: Any, row: Row) -> None:
    host = arguments(row, "float32")
    assert_same_bits(xp.numpy(xp.no_float64(row, [xp.array(x) for x in host])), row(*host))


@every_row
@pytest.mark.slow  # what could change the bits are the optimizations of the compiler
@pytest.mark.backends("jax")
@pytest.mark.needs("float64 taken away")
def test_compiled_results_without_float64_have_numpys_bits(xp: Any, row: Row) -> None:
    test_results_without_float64_have_numpys_bits(xp, row)


@pytest.mark.parametrize("t", HARD_TIMES.tolist())
@pytest.mark.parametrize("name", [*REPRESENTATIVE, "ode_step"])
@others
def test_a_python_float_t_counts_as_float64(xp: Any, name: str, t: float) -> None:
    x, y = arguments(ROWS[name], "float32")[:2]
    times = (t, 0.3) if name == "ode_step" else (t,)
    got, wanted = xp.numpy(ROWS[name](xp.array(x), xp.array(y), *times)), ROWS[name](x, y, *times)
    if xp.contracts:
        # At times such as 0.1, which have a period in base 2, more results lie close to a tie of float32.
        assert_few_differ(got, wanted, share=0.02)
    else:
        assert_same_bits(got, wanted)


@pytest.mark.parametrize(
    ("row", "dtype", "copies"),
    [(row, "float32", 160) for row in FORMULAS] + [(ROWS[name], "bfloat16", 512) for name in REPRESENTATIVE],
    ids=lambda value: getattr(value, "name", str(value)),
)
@pytest.mark.backends("numpy", "torch")
@pytest.mark.needs("bfloat16")
def test_large_arrays_get_the_bits_of_small_ones(xp: Any, row: Row, dtype: str, copies: int) -> None:
    """Large arrays take another code path: 16 x 20,480 elements one block or three, 16 x 65,536 several."""
    host = arguments(row, "float32")
    small = xp.numpy(row(*(xp.array(x, dtype) for x in host)))
    tiled = [np.tile(x, (1, copies)) if x.ndim == 2 else x for x in host]
    large = xp.numpy(row(*(xp.array(x, dtype) for x in tiled)))
    assert_same_bits(large, np.tile(small, (1, copies)))


@pytest.mark.parametrize("row", FUNCTIONS.values(), ids=list(FUNCTIONS))
@pytest.mark.backends("torch", "jax", "cupy")
def test_functions_of_times_differ_from_numpy_in_the_last_place_at_most(xp: Any, row: Row) -> None:
    host = [x.astype("float32") for x in inputs(row)]
    got, wanted = xp.numpy(row(*(xp.array(x) for x in host))), row(*host)
    assert ulps_apart(got, wanted).max() <= 1
    wide = [x.astype("float64") for x in host]
    assert xp.numpy(row(*(xp.array(x, "float64") for x in wide))) == pytest.approx(row(*wide), rel=1e-12, abs=1e-15)


# Threads

NAMES = ("add_noise", "x0_to_eps", "ode_step", "convert_prediction (v, v_vp)", "convert_time (rf, sigma)")


def results(xp: Any, columns: int) -> list[Any]:
    """Results of several functions, as NumPy arrays."""
    made = [
        ROWS[name](*(xp.array(x) for x in inputs(ROWS[name], columns)))
        for name in (*NAMES, *(["timestep_quantile (logitnormal)"] if "special" in xp.has else []))
    ]
    for sampler in SAMPLERS.values():
        made += sampler.call(rng=0, **xp.draw_args)
    return [np.asarray(xp.numpy(array)) for array in made]


def test_8_threads_at_once_get_what_one_gets(xp: Any) -> None:
    columns = 20_000 if xp.name in ("numpy", "torch") else 6  # in blocks, or in one piece
    alone = results(xp, columns)
    start = threading.Barrier(8)

    def together(_: int) -> list[Any]:
        start.wait()
        return results(xp, columns)

    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(together, range(8)):
            for mine, theirs in zip(got, alone, strict=True):
                np.testing.assert_array_equal(mine, theirs)

"""The same numbers: NumPy's bits where they are promised, and how far the others are from them at most."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from tests.cases.as_written import FORMULAS
from tests.cases.without_float64 import CALLS
from tests.promises import ulps


@pytest.mark.backends("torch")
@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("copies", [1, 12], ids=["small", "in blocks"])
def test_a_tensor_s_bits_are_numpy_s(xp: Any, dtype: str, call: str, copies: int) -> None:
    host = ulps.inputs(dtype, copies)
    got = CALLS[call](*(ulps.to_torch(x) for x in host))
    assert ulps.off([ulps.of_torch(got)], [CALLS[call](*host)]) == (0, 0)


@pytest.mark.backends("array_api_strict", "dask")
@pytest.mark.dtypes("float64", "float32")
@pytest.mark.needs("float64")
@pytest.mark.parametrize("call", CALLS)
def test_the_bits_of_other_namespaces_are_numpy_s(xp: Any, dtype: str, call: str) -> None:
    host = ulps.inputs(dtype)
    got = CALLS[call](*(xp.array(x, dtype) for x in host))
    assert ulps.off([xp.numpy(got)], [CALLS[call](*host)]) == (0, 0)


@pytest.mark.backends("jax")
@pytest.mark.undealt  # the other sessions of JAX leave out the optimisations that it is about
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_jax_is_an_ulp_off_in_one_of_a_thousand_at_most(xp: Any, dtype: str) -> None:
    import jax

    host = ulps.inputs(dtype)
    got = jax.jit(ulps.every_call)(*(xp.namespace.asarray(x) for x in host))
    largest, of_a_million = ulps.off([np.asarray(x) for x in got], ulps.every_call(*host))
    assert largest <= 1
    assert of_a_million <= 1000


@pytest.mark.backends("torch")
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")
def test_inductor_is_an_ulp_off_in_one_of_a_thousand_at_most(xp: Any) -> None:
    def formulas(*inputs: Any) -> list[Any]:
        return [CALLS[name](*inputs) for name in FORMULAS]

    host = ulps.inputs("float32")
    got = xp.namespace.compile(formulas, fullgraph=True)(*map(ulps.to_torch, host))
    largest, of_a_million = ulps.off([*map(ulps.of_torch, got)], formulas(*host))
    assert largest <= 1
    assert of_a_million <= 1000


def test_the_distance_is_counted() -> None:
    got, wanted = np.array([[1 + 2.0**-22, -0.0, 1.0], [1.0, 0.0, 1.0]], np.float32)
    assert ulps.off([got], [wanted]) == (2, 1e6 / 3)

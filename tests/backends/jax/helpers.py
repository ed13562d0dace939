"""Arrays for the tests of JAX, and the comparison with what NumPy makes of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bits import assert_few_differ
from tests.catalogue import FOR_GRADIENTS, REPRESENTATIVE, ROWS

TWO = [ROWS[name] for name in REPRESENTATIVE]
FOUR = [ROWS[name] for name in FOR_GRADIENTS]
several_devices = pytest.mark.skipif(jax.device_count() < 4, reason="needs a mesh of four devices")


def arrays(*shape: int, dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Two arrays of normal values, and a float32 time inside (0, 1) for each row."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, y = (jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
    return x, y, jnp.asarray(rng.uniform(0.1, 0.9, shape[:1]), jnp.float32)


def assert_equal(got: Any, wanted: Any) -> None:
    """The same arrays, with the same dtypes; those of ``got`` are JAX's."""

    def check(ours: Any, theirs: Any) -> None:
        assert isinstance(ours, jax.Array | np.ndarray) and ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)

    jax.tree.map(check, got, wanted)


def on_numpy(call: Any, *arguments: Any) -> Any:
    """NumPy's float64 result of a call."""
    return np.asarray(call(*(np.asarray(x, np.float64) for x in arguments)))


def assert_numpys(got: Any, call: Any, *arguments: Any) -> None:
    """The result is NumPy's float64 result, rounded once; XLA may fuse a product and a sum, which shows seldom."""
    wanted = on_numpy(call, *arguments)
    if got.dtype == np.float64:
        np.testing.assert_allclose(np.asarray(got), wanted, rtol=1e-13, atol=1e-13)
        return
    host = np.asarray(got)
    single = wanted.astype(np.float32)  # XLA for CPUs rounds to 16 bits through float32
    if host.dtype == np.float32:
        assert_few_differ(host, single)
    else:
        np.testing.assert_array_equal(host, single.astype(host.dtype))

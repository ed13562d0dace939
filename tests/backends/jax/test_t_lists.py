"""Draws from a t_list on JAX: programs that do not grow with the list, traced lists, transfers, sharding."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fastgen_rf as rf
from fastgen_rf._draws import Index

T_LIST = (1.0, 0.75, 0.5, 0.25, 0.0)


def draw(key: jax.Array, t_list: Any = T_LIST, **how: Any) -> Any:
    return rf.sample_from_t_list(8, t_list, rng=key, return_index=True, **how)


def test_the_program_does_not_grow_with_the_list() -> None:
    # Chains of selects took 5 s and 3 GB to compile at 530 entries, and more than there is at 600.
    sizes = [str(jax.make_jaxpr(lambda key, k=k: draw(key, rf.make_t_list(k)))(jax.random.key(0))) for k in (4, 1000)]
    assert len(sizes[0].splitlines()) == len(sizes[1].splitlines())


def test_a_list_of_1000_entries_is_drawn_under_jit_as_it_is_eagerly() -> None:
    t_list, key = rf.make_t_list(1000), jax.random.key(3)
    eager, jitted = draw(key, t_list), jax.jit(lambda key: draw(key, t_list))(key)
    for one, other in zip(eager, jitted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [3, 49, 1000, 1999])
def test_a_compiled_program_has_the_boundaries_of_ieee_division(k: int) -> None:
    quotients = np.array([i / k for i in range(k + 1)])
    u = np.concatenate([quotients, np.nextafter(quotients, -1.0)[1:], np.nextafter(quotients, 2.0)[:-1]])
    with jax.enable_x64(True):
        index = jax.jit(lambda u: Index(k)(u, jnp, None)[0])(u)
    np.testing.assert_array_equal(index, np.searchsorted(quotients[1:-1], u, side="right"))


def test_an_index_needs_no_transfer() -> None:
    key = jax.random.key(0)
    with jax.transfer_guard("disallow"):
        t, index = draw(key, rf.make_t_list(300))
    assert (t.shape, index.shape) == ((8,), (8,))


@pytest.mark.parametrize("transform", [jax.jit, jax.grad], ids=["jit", "grad"])
@pytest.mark.parametrize("make", [lambda t: t, lambda t: [t[0], 0.0]], ids=["list", "entry"])
def test_a_traced_t_list_is_a_type_error_that_says_that_it_is_static(transform: Any, make: Any) -> None:
    with pytest.raises(TypeError, match=r"^t_list must be a sequence of floats, got .*; t_list is static"):
        transform(lambda t: draw(jax.random.key(0), make(t))[0].sum())(jnp.array(T_LIST))
    with pytest.raises(TypeError, match=r"^t_list must be .*; t_list is static"):
        transform(lambda t: rf.SampleTimestepConfig(t_list=make(t)).min_t * t.sum())(jnp.array(T_LIST))


def test_a_t_list_may_be_a_static_argument() -> None:
    jitted = jax.jit(rf.sample_from_t_list, static_argnames=("n", "t_list"))
    key = jax.random.key(0)
    np.testing.assert_array_equal(jitted(n=8, t_list=T_LIST, rng=key), draw(key)[0])


@pytest.mark.skipif(jax.device_count() < 4, reason="a mesh of four devices")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("shape", [(8,), (8, 2)], ids=str)
def test_entries_and_indices_lie_where_the_sharding_says(kind: AxisType, shape: tuple[int, ...]) -> None:
    rows = NamedSharding(jax.make_mesh((4,), ("b",), axis_types=(kind,)), PartitionSpec("b"))
    drawn = rf.sample_from_t_list(shape, T_LIST, rng=jax.random.key(0), device=rows, return_index=True)
    plain = rf.sample_from_t_list(shape, T_LIST, rng=jax.random.key(0), return_index=True)
    for sharded, other in zip(drawn, plain, strict=True):
        assert sharded.sharding == rows
        np.testing.assert_array_equal(sharded, other)


def test_an_entry_below_float32_s_normal_numbers_stays_one() -> None:
    t, index = draw(jax.random.key(0), (1e-39, 1e-40, 0.0))
    np.testing.assert_array_equal(np.asarray(t), np.float32([1e-39, 1e-40])[np.asarray(index)])

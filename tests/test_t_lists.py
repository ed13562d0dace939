"""Draws from a t_list: which entry, its index, long lists, narrow dtypes, and arrays that are read as a t_list."""

from __future__ import annotations

import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf._draws import Index


class Ones(np.random.Generator):
    """A generator whose every number rounds to 1, as those of other frameworks may."""

    def random(self, size=None, dtype=np.float64, out=None):
        return np.ones(size)


@pytest.mark.dtypes("float32", "bfloat16")
def test_every_index_is_drawn_also_where_a_dtype_cannot_tell_entries_apart(xp, dtype):
    t_list = rf.make_t_list(128, shift=5.0)
    t, index = rf.sample_from_t_list(
        4000, t_list, rng=xp.rng(9), dtype=xp.dtype(dtype), return_index=True, **xp.draw_args
    )
    drawn = xp.numpy(index)
    assert index.dtype == xp.dtype("int32")
    assert set(drawn.tolist()) == set(range(128))  # one of them is missing in 128 (127/128)**4000 = 3e-12 of all draws
    error = np.abs(np.asarray(xp.numpy(t), np.float64) - np.asarray(t_list)[drawn])
    assert error.max() <= (2.0**-8 if dtype == "bfloat16" else 2.0**-24)


def boundaries(k):
    """The quotients i / k, which divide the entries of a list, and their neighbors; with the index at each."""
    quotients = np.array([i / k for i in range(k + 1)])
    u = np.concatenate([quotients, np.nextafter(quotients, 2.0), np.nextafter(quotients, -1.0)])
    u = u[(u >= 0) & (u <= 1)]
    return u, np.searchsorted(quotients[1:-1], u, side="right")


def test_the_boundaries_are_the_quotients_i_over_k_to_the_last_bit():
    for k in range(1, 2001):
        u, wanted = boundaries(k)
        assert np.array_equal(Index(k)(u, np, None)[0], wanted), k


def test_a_number_that_rounds_to_1_draws_the_last_entry_but_one():
    t, index = rf.sample_from_t_list(3, [1.0, 0.75, 0.5, 0.0], rng=Ones(np.random.PCG64()), return_index=True)
    assert (t.tolist(), index.tolist()) == ([0.5] * 3, [2] * 3)


@pytest.mark.parametrize("name", ["float4_e2m1fn", "float6_e2m3fn"])
def test_an_entry_below_1_stays_below_1_where_the_numbers_below_1_are_subnormal(name):
    import ml_dtypes

    t, index = rf.sample_from_t_list(
        50, [1.0, 0.96, 0.75, 0.0], rng=np.random.default_rng(0), dtype=getattr(ml_dtypes, name), return_index=True
    )
    drawn = dict(zip(index.tolist(), t.astype(float).tolist(), strict=True))
    assert drawn == {"float4_e2m1fn": {0: 1.0, 1: 0.5, 2: 0.5}, "float6_e2m3fn": {0: 1.0, 1: 0.875, 2: 0.75}}[name]


# Arrays as t_list


class Array:
    """An array that is no sequence, and whose values may be read by a method that it has."""

    dtype, shape = np.dtype(np.float64), (3,)


def test_sparse_and_lazy_arrays_are_read_and_one_that_cannot_be_read_is_a_type_error(monkeypatch):
    for method in ("todense", "compute"):  # of the packages sparse and cubed
        with monkeypatch.context() as patch:
            patch.setattr(Array, method, lambda self: np.array([1.0, 0.5, 0.0]), raising=False)
            assert rf.SampleTimestepConfig(t_list=Array()).t_list == (1.0, 0.5, 0.0)
    with pytest.raises(TypeError, match=r"t_list must be a sequence of floats, got .*Array.*; t_list is static"):
        rf.sample_from_t_list(4, Array(), rng=0, xp=np)

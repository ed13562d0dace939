"""JAX, objects with ``__jax_array__`` (a ``flax.nnx.Param``, for instance): converted wherever an array is accepted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fastgen_rf as rf
from tests.backends.jax.helpers import arrays
from tests.catalogue import EXPANDED, SAMPLERS
from tests.support_matrix import FUNCTIONS

X, E, T = arrays(4, 6)
GIVEN = {"x": X, "y": E, "t": T, "s": 0.5 * T, "n": 0.5 * T + 0.5, "f": T, "l": T, "u": T, "d": T}
T_LIST = (1.0, 0.75, 0.5, 0.0)


class Parameter:
    """It has no attribute of an array: each use needs the conversion."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __jax_array__(self) -> Any:
        return self.value


ITSELF = {
    "convert_prediction": lambda x, e, t: rf.convert_prediction(x, e, t, source="v", target="v"),
    "convert_time": lambda x, e, t: rf.convert_time(t, source="sigma", target="sigma"),
    "expand_like": lambda x, e, t: rf.expand_like(t, x),
}


def assert_equal(got: Any, wanted: Any) -> None:
    def check(ours: Any, theirs: Any) -> None:
        assert isinstance(ours, jax.Array)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)

    jax.tree.map(check, got, wanted)


def test_every_function_converts_every_array() -> None:
    rows = [row for row in FUNCTIONS.values() if row is not EXPANDED]
    calls: list[Any] = [(row, [GIVEN[kind] for kind in row.takes]) for row in rows]
    for call, given in [*calls, *((call, (X, E, T)) for call in ITSELF.values())]:
        assert_equal(call(*map(Parameter, given)), call(*given))


def test_next_to_numpy_arrays_it_makes_the_call_one_of_jax() -> None:
    for at in range(3):
        arrays = [Parameter(x) if place == at else np.asarray(x) for place, x in enumerate((X, E, T))]
        assert_equal(rf.add_noise(*arrays), rf.add_noise(X, E, T))


def test_the_held_array_may_be_traced_and_closed_over() -> None:
    row = FUNCTIONS["ode_step"]
    given = [GIVEN[kind] for kind in row.takes]

    def with_arrays(*given: Any) -> Any:
        return (row(*given) ** 2).sum()

    def with_parameters(*given: Any) -> Any:
        return with_arrays(*map(Parameter, given))

    for transform in (jax.jit, jax.grad, lambda f: lambda *x: jax.jit(lambda: f(*x))()):
        assert_equal(transform(with_parameters)(*given), transform(with_arrays)(*given))


def test_a_t_list_or_an_entry_that_it_holds_is_read() -> None:
    for t_list in (Parameter(jnp.asarray(T_LIST)), [1.0, Parameter(jnp.float32(0.75)), 0.5, 0.0]):
        assert rf.SampleTimestepConfig(t_list=t_list).t_list == T_LIST


def test_every_sampler_draws_with_the_key_that_it_holds() -> None:
    def draws(rng: Any) -> Any:
        return [sampler.call(rng=rng) for sampler in SAMPLERS.values()]

    key = jax.random.key(3)
    for got in (draws(Parameter(key)), jax.jit(lambda key: draws(Parameter(key)))(key)):
        assert_equal(got, draws(key))

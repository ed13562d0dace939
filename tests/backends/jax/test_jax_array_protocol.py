"""JAX, objects with ``__jax_array__`` (a ``flax.nnx.Param``, for instance): converted wherever an array is accepted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf

RNG = np.random.default_rng(0)
X, E = (jnp.asarray(array, jnp.float32) for array in RNG.standard_normal((2, 4, 6)))
T = jnp.asarray(RNG.uniform(0.2, 0.8, 4), jnp.float32)
UNIFORM = rf.SampleTimestepConfig("uniform")
T_LIST = (1.0, 0.75, 0.5, 0.0)


class Parameter:
    """It has no attribute of an array: each use needs the conversion."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __jax_array__(self) -> Any:
        return self.value


# Each with all of the arrays that it accepts.
CALLS = {
    "add_noise": rf.add_noise,
    "ode_step": lambda x, e, t: rf.ode_step(x, e, t, t),
    "convert_prediction": lambda x, e, t: rf.convert_prediction(x, e, t, source="v", target="score"),
    "convert_prediction to itself": lambda x, e, t: rf.convert_prediction(x, e, t, source="v", target="v"),
    "convert_state": lambda x, e, t: rf.convert_state(x, t, source="rf", target="vp"),
    "convert_state to itself": lambda x, e, t: rf.convert_state(x, t, source="rf", target="rf"),
    "convert_time": lambda x, e, t: rf.convert_time(t, source="sigma", target="angle"),
    "convert_time to itself": lambda x, e, t: rf.convert_time(t, source="sigma", target="sigma"),
    "rf_alpha": lambda x, e, t: rf.rf_alpha(t),
    "rf_sigma": lambda x, e, t: rf.rf_sigma(t),
    "shift_timesteps": lambda x, e, t: rf.shift_timesteps(t, 3.0),
    "timestep_quantile": lambda x, e, t: rf.timestep_quantile(t, UNIFORM),
    "timestep_density": lambda x, e, t: rf.timestep_density(t, UNIFORM),
    "expand_like": lambda x, e, t: rf.expand_like(t, x),
}
two_calls = pytest.mark.parametrize("name", ["ode_step", "rf_alpha"])


@pytest.mark.parametrize("name", CALLS)
def test_every_function_converts_every_array(name: str) -> None:
    call = CALLS[name]
    wanted, got = call(X, E, T), call(Parameter(X), Parameter(E), Parameter(T))
    assert isinstance(got, jax.Array)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("converted", [(0,), (1,), (2,), (0, 1)], ids=str)
def test_next_to_numpy_arrays_it_makes_the_call_one_of_jax(converted: tuple[int, ...]) -> None:
    arrays = [Parameter(x) if at in converted else np.asarray(x) for at, x in enumerate((X, E, T))]
    got = rf.add_noise(*arrays)
    assert isinstance(got, jax.Array)
    np.testing.assert_array_equal(got, rf.add_noise(X, E, T))


@two_calls
def test_the_held_array_may_be_traced(name: str) -> None:
    def with_parameters(x: Any, e: Any, t: Any) -> Any:
        return (CALLS[name](Parameter(x), Parameter(e), Parameter(t)) ** 2).sum()

    def with_arrays(x: Any, e: Any, t: Any) -> Any:
        return (CALLS[name](x, e, t) ** 2).sum()

    for transform in (
        lambda f: jax.grad(f, argnums=(0, 1, 2)),
        lambda f: jax.jit(jax.grad(f, argnums=(0, 1, 2))),
        lambda f: lambda x, e, t: jax.vmap(f)(x[:, None], e[:, None], t[:, None]),
    ):
        got, wanted = transform(with_parameters)(X, E, T), transform(with_arrays)(X, E, T)
        jax.tree.map(np.testing.assert_array_equal, got, wanted)


@two_calls
def test_a_jitted_function_may_close_over_it(name: str) -> None:
    arrays = Parameter(X), Parameter(E), Parameter(T)
    np.testing.assert_array_equal(jax.jit(lambda: CALLS[name](*arrays))(), CALLS[name](X, E, T))


def test_a_number_that_it_holds_is_a_time() -> None:
    np.testing.assert_array_equal(rf.add_noise(X, E, Parameter(0.25)), rf.add_noise(X, E, jnp.float32(0.25)))


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16], ids=["float64", "bfloat16"])
def test_its_dtype_stays(dtype: Any) -> None:
    with jax.enable_x64(True):
        x = X.astype(dtype)
    got = rf.add_noise(Parameter(x), E, Parameter(T))
    assert got.dtype == dtype
    np.testing.assert_array_equal(np.asarray(got), np.asarray(rf.add_noise(x, E, T)))


@pytest.mark.parametrize(
    "t_list",
    [Parameter(jnp.asarray(T_LIST)), Parameter(np.asarray(T_LIST)), [1.0, Parameter(jnp.float32(0.75)), 0.5, 0.0]],
    ids=["jax", "numpy", "entry"],
)
def test_a_t_list_is_read_from_it(t_list: Any) -> None:
    key = jax.random.key(0)
    np.testing.assert_array_equal(rf.sample_from_t_list(8, t_list, rng=key), rf.sample_from_t_list(8, T_LIST, rng=key))
    assert rf.SampleTimestepConfig(t_list=t_list).t_list == T_LIST


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_every_sampler_draws_with_the_key_that_it_holds(make: Any) -> None:
    def draws(rng: Any) -> Any:
        return (
            rf.sample_timesteps(8, UNIFORM, rng=rng),
            rf.sample_timestep_pairs(8, UNIFORM, rng=rng),
            rf.sample_from_t_list(8, T_LIST, rng=rng, return_index=True),
        )

    key = make(3)
    for got in (draws(Parameter(key)), jax.jit(lambda key: draws(Parameter(key)))(key)):
        jax.tree.map(np.testing.assert_array_equal, got, draws(key))


@pytest.mark.parametrize("held", ["words", None, {"x": X}, jnp.arange(4)], ids=["str", "None", "dict", "int array"])
def test_an_error_names_the_argument_that_holds_no_floating_array(held: Any) -> None:
    with pytest.raises(TypeError, match=r"^eps must be"):
        rf.add_noise(X, Parameter(held), T)
    with pytest.raises(TypeError, match=r"^t must be"):
        rf.rf_alpha(Parameter(held))

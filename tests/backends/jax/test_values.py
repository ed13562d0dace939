"""JAX, values: the x64 flag, NumPy arrays and ``__jax_array__``, JAX's settings, compilations, lowering."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf.backends import _jax
from tests import catalogue
from tests.backends.jax.helpers import FOUR, TWO, arrays, assert_equal, assert_numpys
from tests.bits import assert_same_bits
from tests.catalogue import FORMULAS, FUNCTIONS_OF_TIMES, ROWS, SAMPLERS, Row
from tests.support_matrix import FUNCTIONS

BETA = rf.SampleTimestepConfig("beta")


@pytest.fixture(autouse=True)
def _x64_flag_is_off_before_and_after() -> Iterator[None]:
    assert jax.config.jax_enable_x64 is False
    yield
    assert jax.config.jax_enable_x64 is False


# The x64 flag


def test_float64_arrays_stay_float64_without_the_flag() -> None:
    x, y, t = arrays(4, 6, dtype=jnp.float64)
    with jax.enable_x64(True):
        t = t.astype(jnp.float64) * (1 - 2.0**-40)  # with digits that float32 lacks
    calls: list[Any] = [*((row, (x, y, t)) for row in FOUR), (rf.ode_step, (x, y, t, t * t)), (rf.rf_alpha, (t,))]
    for call, arguments in [*calls, (lambda t: rf.timestep_quantile(t, BETA), (t,))]:
        got = call(*arguments)
        assert got.dtype == jnp.float64
        assert_numpys(got, call, *arguments)
    ours = rf.sample_timesteps(9, BETA, rng=np.random.default_rng(2), xp=jnp, dtype=jnp.float64)
    np.testing.assert_array_equal(ours, rf.timestep_quantile(np.random.default_rng(2).random(9), BETA))


def test_a_float_time_keeps_the_digits_of_float64_under_jit() -> None:
    x, y, t = arrays(4, 6, dtype=jnp.float64)

    def calls(x: Any, y: Any, t: Any, fixed: Any) -> list[Any]:
        return [
            *(row(*pair, 0.1) for row in TWO for pair in ((x, y), (fixed, y), (x, fixed))),
            *(rf.ode_step(x, y, *times) for times in ((0.7, t), (t, np.float64(0.7)), (0.7, 0.1))),
            rf.flow_step(fixed, fixed, 0.7, t),
        ]

    host = [np.asarray(a, np.float64) for a in (x, y, t, y)]
    for got, wanted in zip(jax.jit(lambda *traced: calls(*traced, y))(x, y, t), calls(*host), strict=True):
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13)


def test_quotients_are_correctly_rounded() -> None:
    """XLA would divide by a broadcast time by a product with its reciprocal."""
    x, y, t = arrays(16, 2000)
    wide = arrays(16, 2000, dtype=jnp.float64)[:2]
    # Of quotients by 0.7, 0.25 % lie on ties of float32.
    for arguments in ((x, y, 0.7), (*wide, 0.7), (*wide, t)):
        wanted = rf.x0_to_flow(*(np.asarray(a) if isinstance(a, jax.Array) else a for a in arguments))
        assert_same_bits(np.asarray(rf.x0_to_flow(*arguments)), wanted)
    x, y, _ = arrays(4, 6, dtype=jnp.float64)
    for k in range(1, 64):  # a ratio of 1 - 2**-53 would move x_t
        np.testing.assert_array_equal(rf.ode_step(x, y, k / 64, jnp.full(4, k / 64)), y)


def test_with_the_x64_flag_the_numbers_are_those_without() -> None:
    def results() -> list[Any]:
        key = jax.random.key(0)
        times = [rf.sample_timesteps(5, BETA, rng=key, dtype=dtype) for dtype in (jnp.float32, jnp.float64)]
        return [
            *(row(x, y, time) for row in TWO for time in (t, 0.3)),
            jax.grad(lambda t: TWO[1](x, y, t).sum())(t),
            *times,
        ]

    x, y, t = arrays(4, 6)
    without = results()
    with jax.enable_x64(True):
        for got, wanted in zip(results(), without, strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)


# NumPy arrays next to JAX arrays


@pytest.mark.parametrize("row", TWO, ids=lambda row: row.name)
def test_numpy_arrays_next_to_jax_arrays_become_jax_arrays(row: Row) -> None:
    ours = arrays(4, 6)
    theirs = [np.asarray(x, np.float64) for x in ours]
    wanted = row(*ours)

    def mixed(*ours: Any) -> list[Any]:
        return [row(*(theirs[at] if at in places else ours[at] for at in range(3))) for places in ((0,), (2,), (1, 2))]

    for got in [*mixed(*ours), *jax.jit(mixed)(*ours)]:
        assert isinstance(got, jax.Array)
        assert got.dtype == jnp.float32  # to JAX, NumPy's float64 is float32 unless the flag is set
        np.testing.assert_array_equal(got, wanted)


# Objects with ``__jax_array__`` (a ``flax.nnx.Param``, for instance): converted wherever an array is accepted

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


def test_every_function_converts_every_array() -> None:
    rows = [row for row in FUNCTIONS.values() if row is not catalogue.EXPANDED]
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


# Settings of JAX


def test_strict_promotion_of_dtypes_and_ranks_is_obeyed() -> None:
    x, y, t = arrays(4, 5, 6, dtype=jnp.bfloat16)

    def calls(x: Any, y: Any, t: Any, key: Any) -> list[Any]:
        given = {"x": x, "y": y}
        values = [row(*(given.get(kind, t) for kind in row.takes)) for row in (*FORMULAS, *FUNCTIONS_OF_TIMES)]
        numbers = [row(x, y, 0.3) for row in TWO]
        return [values, numbers, *(sampler.call(rng=key, dtype=jnp.bfloat16) for sampler in SAMPLERS.values())]

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(calls, x, y.astype(jnp.float32), t, jax.random.key(0))  # checked when a program is traced
        assert rf.add_noise(x, y.astype(jnp.float32), 0.3).dtype == jnp.bfloat16


# Compilations and transfers


def test_nothing_is_compiled_anew_for_another_float() -> None:
    x, y, _ = arrays(4, 5)
    rf.add_noise(x, y, 0.1)
    before = _jax._evaluate._cache_size()
    for time in (0.2, np.float64(0.4)):
        rf.add_noise(x, y, time)
    assert _jax._evaluate._cache_size() == before > 0


def test_calls_on_device_arrays_transfer_nothing_to_the_host_or_back() -> None:
    names = (*catalogue.REPRESENTATIVE, "ode_step", "rf_alpha", "shift_timesteps (3.0)", "convert_time (rf, sigma)")
    rows = [*(ROWS[name] for name in names), *catalogue.QUANTILES[2:4], *catalogue.DENSITIES[2:4]]
    given = [[jnp.asarray(x, jnp.float32) for x in catalogue.inputs(row)] for row in rows]
    key = jax.random.key(0)
    with jax.transfer_guard("disallow"):
        values = [row(*arguments) for row, arguments in zip(rows, given, strict=True)]
        samples = [*rf.sample_timestep_pairs(8, BETA, rng=key, stratified=True), rf.sample_timesteps(8, BETA, rng=key)]
        samples.append(rf.sample_from_t_list(8, (1.0, 0.5, 0.0), rng=key))
        jitted = jax.jit(lambda x, y, t: [rf.add_noise(x, y, 0.3), rf.expand_like(rf.rf_alpha(t), x)])(*given[0])
    assert len([*values, *samples, *jitted]) == len(rows) + 6


# Programs lowered for CUDA and TPU on a machine that has neither: what XLA there would be given to compile

every_platform = pytest.mark.parametrize("platform", ["cuda", "tpu"])


def lowered(call: Any, platform: str, *arguments: Any) -> str:
    """The program that the platform would be given, as text; nothing is computed."""
    return jax.jit(call).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def check(program: str) -> None:
    """All arithmetic of floating dtypes is float64, and nothing is called on the host."""
    operations = re.findall(r"stablehlo\.(?:add|subtract|multiply|divide|sqrt)\b[^\n]*tensor<(?:\d+x)*(\w+)>", program)
    assert {dtype for dtype in operations if dtype[0] in "bf"} == {"f64"}
    assert "callback" not in program


@every_platform
def test_all_arithmetic_of_all_functions_and_gradients_is_float64(platform: str) -> None:
    def calls(x: Any, y: Any, t: Any) -> list[Any]:
        given = {"x": x, "y": y}
        rows = [row for row in (*FORMULAS, *FUNCTIONS_OF_TIMES) if row.function not in (rf.rf_alpha, rf.rf_sigma)]
        return [row(*(given.get(kind, t) for kind in row.takes)) for row in rows]

    given = arrays(4, 6, dtype=jnp.bfloat16)
    check(lowered(calls, platform, *given))
    check(lowered(lambda *x: [jax.vjp(row, *x)[1](x[0]) for row in FOUR], platform, *given))
    with pytest.raises(AssertionError):  # the check can fail
        check(lowered(lambda x: x * x, platform, given[0]))

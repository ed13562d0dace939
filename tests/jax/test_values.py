"""JAX, the values: float64's rounding with the x64 flag left alone, one compilation, no transfer, sharding kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import fastgen_rf as rf
from tests.cases import by_hand, fresh_process
from tests.cases.by_hand import CONVERSIONS, SOME_T, Conversion, assert_rounded_once, every_conversion
from tests.cases.names import every_published_law


@pytest.fixture(autouse=True)
def _the_x64_flag_is_off_before_and_after() -> Iterator[None]:
    assert jax.config.jax_enable_x64 is False
    yield
    assert jax.config.jax_enable_x64 is False


def arrays(*shape: int, dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        first, second = (jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
        t = jnp.asarray(rng.uniform(0.1, 0.9, shape[:1]), jnp.float32)
    return first, second, t


@every_conversion
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 5, 6, 7), (0, 3), (64, 1000)], ids=str)
def test_values_are_float64_s_rounding(conversion: Conversion, dtype: Any, shape: tuple[int, ...]) -> None:
    first, second, t = arrays(*shape, dtype=dtype)
    result = conversion.ours(first, second, t)
    assert (result.dtype, result.shape) == (dtype, shape)
    assert not result.weak_type
    assert_rounded_once(result, by_hand.value(conversion, first, second, t))


@every_conversion
@pytest.mark.parametrize(
    "dtypes", [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.bfloat16), (jnp.float32, jnp.float64)]
)
@pytest.mark.parametrize("t_dtype", [jnp.float64, jnp.bfloat16])
def test_mixed_dtypes_round_once_to_the_dtype_that_the_table_names(
    conversion: Conversion, dtypes: tuple[Any, Any], t_dtype: Any
) -> None:
    first, second = arrays(4, 100, dtype=dtypes[0])[0], arrays(4, 100, dtype=dtypes[1])[1]
    t = arrays(4, dtype=t_dtype)[2]
    result = conversion.ours(first, second, t)
    assert result.dtype == dtypes[conversion.like]
    assert_rounded_once(result, by_hand.value(conversion, first, second, t))


@every_conversion
@pytest.mark.parametrize("t", [0.1, 1 / 3, 0.999, np.float64(0.7)])
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_a_python_t_is_not_rounded_to_float32(conversion: Conversion, t: float, jit: bool) -> None:
    first, second, _ = arrays(4, 5, dtype=jnp.float64)

    def convert(first: jax.Array, second: jax.Array) -> Any:
        return conversion.ours(first, second, t)

    result = (jax.jit(convert) if jit else convert)(first, second)
    assert result.dtype == jnp.float64
    exact = by_hand.value(conversion, first, second, t)
    np.testing.assert_allclose(np.asarray(result), exact, rtol=1e-9)
    rounded = by_hand.value(conversion, first, second, np.float32(t))
    assert np.abs(np.asarray(result) - exact).max() < np.abs(rounded - exact).max() / 1000


@every_conversion
@pytest.mark.parametrize("t_shape", [(), (1,), (4,), (4, 5), (4, 1, 6), (1, 5), (4, 5, 6)], ids=str)
def test_t_of_any_fitting_shape(conversion: Conversion, t_shape: tuple[int, ...]) -> None:
    first, second, _ = arrays(4, 5, 6)
    t = jnp.asarray(np.random.default_rng(1).uniform(0.1, 0.9, t_shape), jnp.float32)
    result = conversion.ours(first, second, t)
    assert result.shape == (4, 5, 6)
    assert_rounded_once(result, by_hand.value(conversion, first, second, t))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("add_noise", (3.0, 5.0)),
        ("pred_noise_to_pred_x0", (5.0, 2e6)),
        ("pred_x0_from_flow", (5.0, 2.0)),
        ("x0_to_eps", (2e6, 5.0)),
        ("x0_to_flow", (2e6, 2.0)),
    ],
)
def test_the_ends_of_time_divide_by_the_floor(name: str, expected: tuple[float, float]) -> None:
    x = jnp.array([3.0, 3.0]), jnp.array([5.0, 5.0])
    result = CONVERSIONS[name].ours(*x, jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(np.asarray(result), np.float32(expected))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64], ids=lambda d: d.__name__)
def test_alpha_and_sigma_keep_t_s_dtype(dtype: Any) -> None:
    with jax.enable_x64(True):
        t = jnp.asarray([0.0, 0.25, 1.0], dtype)
    assert (rf.rf_alpha(t).dtype, rf.rf_sigma(t).dtype) == (dtype, dtype)
    np.testing.assert_array_equal(np.asarray(rf.rf_alpha(t)).astype(float), [1.0, 0.75, 0.0])


@every_conversion
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
def test_strict_promotion_of_dtypes_and_ranks_has_nothing_to_object(conversion: Conversion, dtype: Any) -> None:
    first, second, t = arrays(4, 5, 6, dtype=dtype)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        results = [conversion.ours(first, second.astype(jnp.float32), at) for at in (t, 0.3, t.astype(jnp.bfloat16))]
    assert {result.shape for result in results} == {(4, 5, 6)}


@every_published_law
def test_strict_promotion_has_nothing_to_object_to_draws(law: str) -> None:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        t = rf.sample_timesteps(8, rf.SampleTimestepConfig(law), rng=jax.random.key(0), dtype=jnp.bfloat16)
        rungs = rf.sample_from_t_list(8, (1.0, 0.5, 0.0), rng=jax.random.key(0))
    assert (t.dtype, rungs.dtype) == (jnp.bfloat16, jnp.float32)


@every_conversion
def test_without_jit_the_values_are_the_same(conversion: Conversion) -> None:
    first, second, t = arrays(4, 100)
    with jax.disable_jit():
        results = [conversion.ours(first, second, at) for at in (t, SOME_T)]
    assert_rounded_once(results[0], by_hand.value(conversion, first, second, t))
    assert_rounded_once(results[1], by_hand.value(conversion, first, second, SOME_T))


@every_conversion
def test_no_tracer_leaks_and_no_nan_appears(conversion: Conversion) -> None:
    first, second, t = arrays(4, 5)
    t = t.at[0].set(0.0).at[1].set(1.0)
    with jax.checking_leaks(), jax.debug_nans(True):
        result = jax.jit(lambda *x: conversion.ours(*x))(first, second, t)
    assert jnp.isfinite(result).all()


# Compilations


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Grows by one entry for each program that XLA compiles."""
    seen: list[str] = []

    def listen(event: str, seconds: float, **details: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.clear_event_listeners()


@every_conversion
def test_eager_calls_compile_once_whatever_the_python_t(conversion: Conversion, compilations: list[str]) -> None:
    first, second, _ = arrays(4, 5)
    compilations.clear()
    conversion.ours(first, second, 0.1).block_until_ready()
    assert len(compilations) == 1
    for t in (0.2, 0.3, np.float64(0.4)):
        conversion.ours(first, second, t).block_until_ready()
    assert len(compilations) == 1


@every_conversion
def test_eager_calls_compile_once_per_shape_and_dtype(conversion: Conversion, compilations: list[str]) -> None:
    one, other = arrays(4, 5), arrays(4, 6)
    compilations.clear()
    for first, second, t in (one, other, one, other):
        conversion.ours(first, second, t).block_until_ready()
    assert len(compilations) == 2


def test_eager_draws_compile_once_per_config(compilations: list[str]) -> None:
    keys = list(jax.random.split(jax.random.key(0), 3))
    jax.block_until_ready(keys)
    compilations.clear()
    for key in keys:
        rf.sample_timesteps(8, rf.SampleTimestepConfig(), rng=key).block_until_ready()
    first_config = len(compilations)
    assert first_config >= 1
    rf.sample_timesteps(8, rf.SampleTimestepConfig(), rng=keys[0]).block_until_ready()
    assert len(compilations) == first_config


# Transfers


@every_conversion
def test_device_arrays_in_no_transfer(conversion: Conversion) -> None:
    first, second, t = arrays(4, 5)
    with jax.transfer_guard("disallow"):
        eager = conversion.ours(first, second, t)
        jitted = jax.jit(conversion.ours)(first, second, t)
        constant = jax.jit(lambda x, y: conversion.ours(x, y, 0.3))(first, second)
    assert eager.shape == jitted.shape == constant.shape == (4, 5)


@every_published_law
def test_keys_in_no_transfer(law: str) -> None:
    key, u = jax.random.key(0), jnp.array([0.25, 0.5])
    with jax.transfer_guard("disallow"):
        t = rf.sample_timesteps(8, rf.SampleTimestepConfig(law), rng=key)
        rungs = rf.sample_from_t_list(8, (1.0, 0.5, 0.0), rng=key)
        quantiles = rf.timestep_quantile(u, rf.SampleTimestepConfig(law))
    assert (t.shape, rungs.shape, quantiles.shape) == ((8,), (8,), (2,))


def test_coefficients_and_expand_like_need_no_transfer_under_jit() -> None:
    t, x = jnp.array([0.25, 0.5]), jnp.zeros((2, 3))

    def coefficients(t: jax.Array, x: jax.Array) -> Any:
        return rf.expand_like(rf.rf_alpha(t), x) + rf.expand_like(rf.rf_sigma(t), x)

    with jax.transfer_guard("disallow"):
        assert jax.jit(coefficients)(t, x).shape == (2, 1)


# Sharding

several_devices = pytest.mark.skipif(jax.device_count() < 4, reason="a mesh of four devices")
ROWS = PartitionSpec("b")


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def rows(request: pytest.FixtureRequest) -> NamedSharding:
    """The first axis over four devices."""
    return NamedSharding(jax.make_mesh((4,), ("b",), axis_types=(request.param,)), ROWS)


@several_devices
@every_conversion
@pytest.mark.parametrize("time", ["array", "float"])
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_a_sharded_batch_stays_where_it_is(conversion: Conversion, time: str, jit: bool, rows: NamedSharding) -> None:
    first, second, t = (jax.device_put(x, rows) for x in arrays(8, 5))
    at = t if time == "array" else SOME_T
    function = jax.jit(lambda x, y: conversion.ours(x, y, at)) if jit else lambda x, y: conversion.ours(x, y, at)
    result = function(first, second)
    assert result.sharding.is_equivalent_to(rows, 2)
    assert_rounded_once(result, by_hand.value(conversion, first, second, at))


@several_devices
@every_conversion
def test_gradients_are_sharded_as_their_arguments(conversion: Conversion, rows: NamedSharding) -> None:
    values = [jax.device_put(x, rows) for x in arrays(8, 5)]
    gradients = jax.jit(jax.grad(lambda *x: jnp.square(conversion.ours(*x)).sum(), argnums=(0, 1, 2)))(*values)
    for x, gradient in zip(values, gradients, strict=True):
        assert gradient.sharding.is_equivalent_to(rows, x.ndim)


@several_devices
@every_conversion
def test_shard_map_runs_each_shard(conversion: Conversion, rows: NamedSharding) -> None:
    values = [jax.device_put(x, rows) for x in arrays(8, 5)]
    mapped = jax.shard_map(conversion.ours, mesh=rows.mesh, in_specs=(ROWS, ROWS, ROWS), out_specs=ROWS)
    assert_rounded_once(mapped(*values), by_hand.value(conversion, *values))


@several_devices
@every_conversion
def test_two_devices_raise(conversion: Conversion) -> None:
    first, second, t = arrays(4, 5)
    here, there = jax.devices()[:2]
    with pytest.raises(ValueError, match="must be on one device"):
        conversion.ours(jax.device_put(first, here), jax.device_put(second, there), t)


@several_devices
@every_conversion
def test_arrays_that_nobody_placed_follow_those_that_somebody_did(conversion: Conversion) -> None:
    first, second, t = arrays(4, 5)
    there = jax.devices()[1]
    result = conversion.ours(jax.device_put(first, there), second, t)
    assert result.devices() == {there}


@every_conversion
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_arrays_that_are_not_real_floating_raise(conversion: Conversion, dtype: Any, place: int) -> None:
    values = list(arrays(4, 5))
    values[place] = jnp.zeros(values[place].shape, dtype)
    with pytest.raises(TypeError, match="real floating array, got dtype"):
        conversion.ours(*values)


def test_the_placement_of_a_single_device_sharding_is_kept() -> None:
    there = SingleDeviceSharding(jax.devices()[-1])
    values = [jax.device_put(x, there) for x in arrays(4, 5)]
    assert rf.add_noise(*values).sharding == there


# The flag itself

_WITH_THE_FLAG = """
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import fastgen_rf as rf
x, eps, t = (jax.random.normal(jax.random.key(k), (64, 9), jnp.float32) for k in range(3))
t = 0.1 + 0.8 * jax.nn.sigmoid(t[:, 0])
print(rf.add_noise(x, eps, t).tolist())
print(float(jax.jit(rf.x0_to_eps)(x, eps, t).sum()), float(rf.pred_x0_from_flow(x, eps, 0.3).sum()))
print(rf.sample_timesteps(5, rf.SampleTimestepConfig("lognormal"), rng=jax.random.key(0)).tolist())
print(rf.sample_timesteps(5, rf.SampleTimestepConfig(), rng=jax.random.key(0), dtype=jnp.float64).dtype)
print(jax.grad(lambda t: rf.x0_to_flow(x, eps, t).sum())(t).dtype, jax.config.jax_enable_x64)
"""


@pytest.mark.undealt
def test_with_the_flag_on_the_numbers_are_those_without() -> None:
    off = _WITH_THE_FLAG.replace('jax.config.update("jax_enable_x64", True)', "")
    with_flag, without = fresh_process.run(_WITH_THE_FLAG), fresh_process.run(off)
    assert with_flag.replace("True", "False") == without
    assert with_flag.splitlines()[-1] == "float32 True"

"""JAX, the samplers: keys of all forms, one stream under every transformation, devices, exports, errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import fastgen_rf as rf
from fastgen_rf.backends import _jax
from tests.backends.jax.helpers import several_devices
from tests.catalogue import CONFIGS

SHIFTED = rf.SampleTimestepConfig()
T_LIST = (1.0, 0.75, 0.5, 0.0)
SAMPLERS = {
    "sample_timesteps": lambda n, **how: (rf.sample_timesteps(n, SHIFTED, **how),),
    "sample_timestep_pairs": lambda n, **how: rf.sample_timestep_pairs(n, SHIFTED, stratified=True, **how),
    "sample_from_t_list": lambda n, **how: rf.sample_from_t_list(n, T_LIST, return_index=True, **how),
}
every_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=list(SAMPLERS))


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def assert_equal(got: Any, wanted: Any) -> None:
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


# Keys


@every_sampler
def test_a_raw_key_a_typed_key_and_its_seed_give_one_stream(sample: Any) -> None:
    wanted = sample(64, rng=key(3))
    assert_equal(sample(64, rng=jax.random.PRNGKey(3)), wanted)
    assert_equal(sample(64, rng=3, xp=jnp), wanted)
    assert not np.array_equal(sample(64, rng=key(4))[0], wanted[0])


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_a_shape_of_pairs_is_the_flat_sample_reshaped_whatever_the_generator(implementation: str) -> None:
    k = jax.random.key(0, impl=implementation)
    shaped, flat = (rf.sample_timestep_pairs(n, SHIFTED, rng=k) for n in ((8, 6), 48))
    assert_equal(map(jnp.ravel, shaped), flat)
    assert len(np.unique(flat[0])) > 40


def test_float64_of_a_numpy_generator_stays_float64() -> None:
    ours = rf.sample_timesteps(64, SHIFTED, rng=np.random.default_rng(2), xp=jnp, dtype=jnp.float64)
    assert_equal([ours], [rf.sample_timesteps(64, SHIFTED, rng=np.random.default_rng(2), dtype=np.float64)])


# Transformations


def test_jit_vmap_and_scan_give_the_eager_samples_of_raw_and_typed_keys() -> None:
    keys, raw = (jax.random.split(k, 3) for k in (key(), jax.random.PRNGKey(0)))

    def samples(k: jax.Array) -> list[jax.Array]:
        return [t for sample in SAMPLERS.values() for t in sample(50, rng=k)]

    each = [samples(k) for k in keys]
    wanted = [np.stack(parts) for parts in zip(*each, strict=True)]
    assert_equal(jax.jit(samples)(keys[1]), each[1])
    assert_equal(jax.vmap(samples)(raw), wanted)
    assert_equal(jax.lax.scan(lambda carry, k: (carry, samples(k)), 0, keys)[1], wanted)


def test_every_distribution_gives_the_eager_samples_under_jit() -> None:
    def samples(k: jax.Array) -> list[jax.Array]:
        return [rf.sample_timesteps(50, config, rng=k) for config in CONFIGS]

    assert_equal(jax.jit(samples)(key()), samples(key()))


def test_all_arguments_but_the_key_are_static() -> None:
    names = ("n", "cfg", "dtype", "equal", "stratified")
    pairs: dict[str, Any] = {"n": (2, 32), "cfg": SHIFTED, "equal": 0.5, "stratified": True, "dtype": jnp.bfloat16}
    got = jax.jit(rf.sample_timestep_pairs, static_argnames=names)(**pairs, rng=key())
    assert_equal(got, rf.sample_timestep_pairs(**pairs, rng=key()))
    by_place = jax.jit(rf.sample_timesteps, static_argnums=(0, 1))
    np.testing.assert_array_equal(by_place(50, SHIFTED, rng=key()), rf.sample_timesteps(50, SHIFTED, rng=key()))


def test_stratified_samples_sort_no_float64() -> None:
    """A TPU cannot sort float64."""
    text = jax.jit(lambda k: rf.sample_timesteps(8, SHIFTED, rng=k, stratified=True)).lower(key()).as_text()
    (sort,) = [text[at:] for at in range(len(text)) if text.startswith('"stablehlo.sort"', at)]
    types = sort[sort.index("}) : (") :].partition("->")[0]
    assert "ui32" in types
    assert "f64" not in types


def test_an_exported_sampler_takes_any_batch() -> None:
    (batch,) = jax.export.symbolic_shape("batch")

    def samples(k: jax.Array, x: jax.Array) -> list[jax.Array]:
        return [t for sample in SAMPLERS.values() for t in sample(2 * x.shape[0], rng=k)]

    exported = jax.export.export(jax.jit(samples))(key(), jax.ShapeDtypeStruct((batch,), jnp.float32))
    assert_equal(exported.call(key(), jnp.ones(5)), samples(key(), jnp.ones(5)))


# Devices


@several_devices
@pytest.mark.parametrize("rng", [key, lambda: np.random.default_rng(0)], ids=["key", "NumPy generator"])
def test_a_device_its_name_and_its_sharding_say_where_the_result_lies(rng: Any) -> None:
    device = jax.devices()[2]
    wanted = rf.sample_timestep_pairs(8, SHIFTED, rng=rng(), xp=jnp)
    for place in (device, f"{device.platform}:2", SingleDeviceSharding(device)):
        got = rf.sample_timestep_pairs(8, SHIFTED, rng=rng(), xp=jnp, device=place)
        assert [t.devices() for t in got] == [{device}] * 2
        assert_equal(got, wanted)


@several_devices
def test_the_sample_stays_on_the_device_of_its_key() -> None:
    there, other = jax.devices()[1:3]
    for place in (None, there, SingleDeviceSharding(there), f"{there.platform}:1"):
        assert rf.sample_timesteps(8, SHIFTED, rng=jax.device_put(key(), there), device=place).devices() == {there}
    for place in (other, SingleDeviceSharding(other), f"{other.platform}:2"):
        with pytest.raises(ValueError, match="rng and device must agree"):
            rf.sample_timesteps(8, SHIFTED, rng=jax.device_put(key(), there), device=place)


@several_devices
@pytest.mark.parametrize("set_mesh", [False, True], ids=["no mesh set", "mesh set"])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_sharding_spreads_the_samples_over_its_devices(axis_type: AxisType, set_mesh: bool) -> None:
    mesh = jax.make_mesh((4,), ("b",), axis_types=(axis_type,))
    rows = NamedSharding(mesh, PartitionSpec("b", None))

    def samples(k: jax.Array, device: Any = rows) -> list[jax.Array]:
        pairs = rf.sample_timestep_pairs((8, 2), SHIFTED, rng=k, device=device, stratified=True)
        return [*pairs, *rf.sample_from_t_list((8, 2), T_LIST, rng=k, device=device, return_index=True)]

    def spread() -> list[jax.Array]:
        return [*samples(key()), *jax.jit(samples)(key())]

    if set_mesh:
        with jax.set_mesh(mesh):
            got = spread()
    else:
        got = spread()
    assert all(t.sharding.is_equivalent_to(rows, 2) for t in got)
    assert_equal(got, 2 * samples(key(), None))


# Devices without float64: u is mapped to t on the host


@pytest.fixture
def without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jax, "_computes_float64", lambda platform: False)
    jax.clear_caches()


def test_samples_without_float64_are_those_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def samples(k: jax.Array) -> list[jax.Array]:
        return [
            *(rf.sample_timesteps((5, 2), config, rng=k) for config in CONFIGS[::3]),
            *rf.sample_timestep_pairs(10, SHIFTED, rng=k, dtype=jnp.bfloat16),
        ]

    wanted = samples(key())
    monkeypatch.setattr(_jax, "_computes_float64", lambda platform: False)
    jax.clear_caches()
    by_vmap = [t[0] for t in jax.vmap(samples)(key()[None])]
    for got in (samples(key()), jax.jit(samples)(key()), by_vmap):
        for ours, theirs in zip(got, wanted, strict=True):
            assert isinstance(ours, jax.Array)
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours.astype(jnp.float32), theirs.astype(jnp.float32), rtol=2e-7)


@pytest.mark.usefixtures("without_float64")
def test_no_program_has_float64_where_the_device_has_none() -> None:
    x, t = jnp.ones((4, 3)), jnp.full(4, 0.25)

    def calls(k: jax.Array, x: jax.Array, t: jax.Array) -> list[jax.Array]:
        stratified = rf.sample_timesteps(50, SHIFTED, rng=k, stratified=True)
        return [stratified, rf.x0_to_eps(x, 2 * x, t), rf.ode_step(x, x, t, 0.1), rf.shift_timesteps(t, 3.0)]

    assert "f64" not in jax.jit(calls).lower(key(), x, t).as_text()


def test_an_unknown_platform_has_float64_if_it_compiles_a_program_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = SingleDeviceSharding(jax.devices()[0])
    assert _jax._compiles_float64(here)
    with monkeypatch.context() as patched:
        patched.setattr(jax, "devices", lambda platform: [next(iter(here.device_set))])
        assert _jax._computes_float64("tpu")
        patched.setattr(jax, "jit", lambda *_, **__: 1 / 0)  # each platform raises an error of its own
        assert not _jax._computes_float64("metal")
    _jax._computes_float64.cache_clear()


# Errors


def test_keys_and_devices_of_other_forms_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"one JAX key, got keys of shape \(3,\): vmap over them"):
        rf.sample_timesteps(8, SHIFTED, rng=jax.random.split(key(), 3))
    with pytest.raises(TypeError, match="rng must be a JAX key"):
        rf.sample_timesteps(8, SHIFTED, rng=jnp.zeros(2, jnp.int32))
    for device in ("gpu", "cpu:99", "cpu:x"):
        with pytest.raises(ValueError, match=r"device must be one of .*, got '"):
            rf.sample_timesteps(8, SHIFTED, rng=0, xp=jnp, device=device)


def test_traced_sizes_and_shares_are_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"n must be an integer.*; n is static: .* static_argnames='n'"):
        jax.jit(lambda n: rf.sample_timesteps(n, SHIFTED, rng=key()))(4)
    with pytest.raises(TypeError, match="equal must be a number"):
        jax.jit(lambda equal: rf.sample_timestep_pairs(4, SHIFTED, equal=equal, rng=key()))(0.5)

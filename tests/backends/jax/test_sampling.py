"""JAX, the samplers: keys, one stream under every transformation, devices, t_lists, NumPy generators, errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import fastgen_rf as rf
from fastgen_rf._draws import Index
from tests.backends.jax.helpers import assert_equal, several_devices
from tests.catalogue import CONFIGS
from tests.exact import around_quotients

SHIFTED = rf.SampleTimestepConfig()
T_LIST = (1.0, 0.75, 0.5, 0.0)
SAMPLERS = {
    "sample_timesteps": lambda n, **how: (rf.sample_timesteps(n, SHIFTED, **how),),
    "sample_timestep_pairs": lambda n, **how: rf.sample_timestep_pairs(n, SHIFTED, stratified=True, **how),
    "sample_from_t_list": lambda n, **how: rf.sample_from_t_list(n, T_LIST, return_index=True, **how),
}
every_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=list(SAMPLERS))
X = jnp.ones(4)


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def times(rng: Any = None, **how: Any) -> Any:
    return rf.sample_timesteps(8, SHIFTED, rng=rng, **how)


def each_sampler(n: Any, **how: Any) -> list[Any]:
    return [t for sample in SAMPLERS.values() for t in sample(n, **how)]


# Keys and transformations


def test_a_raw_key_a_typed_key_and_its_seed_give_one_stream() -> None:
    wanted = each_sampler(64, rng=key(3))
    assert_equal(each_sampler(64, rng=jax.random.PRNGKey(3)), wanted)
    assert_equal(each_sampler(64, rng=3, xp=jnp), wanted)
    assert not np.array_equal(each_sampler(64, rng=key(4))[0], wanted[0])


def test_jit_vmap_and_scan_give_the_eager_samples_of_raw_and_typed_keys() -> None:
    keys, raw = (jax.random.split(k, 3) for k in (key(), jax.random.PRNGKey(0)))

    def samples(k: jax.Array) -> list[jax.Array]:
        return each_sampler(50, rng=k)

    each = [samples(k) for k in keys]
    wanted = [np.stack(parts) for parts in zip(*each, strict=True)]
    assert_equal(jax.jit(samples)(keys[1]), each[1])
    assert_equal(jax.vmap(samples)(raw), wanted)
    assert_equal(jax.lax.scan(lambda carry, k: (carry, samples(k)), 0, keys)[1], wanted)


def test_every_distribution_gives_the_eager_samples_under_jit() -> None:
    def samples(k: jax.Array) -> list[jax.Array]:
        return [rf.sample_timesteps(50, config, rng=k) for config in CONFIGS]

    assert_equal(jax.jit(samples)(key()), samples(key()))


def test_stratified_samples_sort_no_float64() -> None:
    """A TPU cannot sort float64."""
    text = jax.jit(lambda k: times(k, stratified=True)).lower(key()).as_text()
    (sort,) = [text[at:] for at in range(len(text)) if text.startswith('"stablehlo.sort"', at)]
    types = sort[sort.index("}) : (") :].partition("->")[0]
    assert "ui32" in types
    assert "f64" not in types


def test_an_exported_sampler_takes_any_batch() -> None:
    (batch,) = jax.export.symbolic_shape("batch")

    def samples(k: jax.Array, x: jax.Array) -> list[jax.Array]:
        return each_sampler(2 * x.shape[0], rng=k)

    exported = jax.export.export(jax.jit(samples))(key(), jax.ShapeDtypeStruct((batch,), jnp.float32))
    assert_equal(exported.call(key(), jnp.ones(5)), samples(key(), jnp.ones(5)))


# Devices


@several_devices
def test_a_device_its_name_and_its_sharding_say_where_the_result_lies() -> None:
    device = jax.devices()[2]
    wanted = times(key())
    for place in (device, f"{device.platform}:2", SingleDeviceSharding(device)):
        assert times(np.random.default_rng(0), xp=jnp, device=place).devices() == {device}
        got = times(key(), device=place)
        assert got.devices() == {device}
        assert_equal([got], [wanted])


@several_devices
def test_the_sample_stays_on_the_device_of_its_key() -> None:
    there, other = jax.devices()[1:3]
    placed = jax.device_put(key(), there)
    for place in (None, there, SingleDeviceSharding(there), f"{there.platform}:1"):
        assert times(placed, device=place).devices() == {there}
    for place in (other, SingleDeviceSharding(other), f"{other.platform}:2"):
        with pytest.raises(ValueError, match="rng and device must agree"):
            times(placed, device=place)


@several_devices
@pytest.mark.parametrize("set_mesh", [False, True], ids=["no mesh set", "mesh set"])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_sharding_spreads_the_samples_over_its_devices(axis_type: AxisType, set_mesh: bool) -> None:
    mesh = jax.make_mesh((4,), ("b",), axis_types=(axis_type,))
    rows, first = NamedSharding(mesh, PartitionSpec("b", None)), NamedSharding(mesh, PartitionSpec("b"))

    def samples(k: jax.Array, spread: bool = True) -> list[jax.Array]:
        over = {name: {"device": place} if spread else {} for name, place in (("rows", rows), ("first", first))}
        pairs = rf.sample_timestep_pairs((8, 2), SHIFTED, rng=k, stratified=True, **over["rows"])
        entries = [t for n in (8, (8, 2)) for t in SAMPLERS["sample_from_t_list"](n, rng=k, **over["first"])]
        return [*pairs, *entries]

    def both() -> tuple[list[jax.Array], list[jax.Array]]:
        return samples(key()), jax.jit(samples)(key())

    if set_mesh:
        with jax.set_mesh(mesh):
            eager, jitted = both()
    else:
        eager, jitted = both()
    assert all(t.sharding.is_equivalent_to(rows if t.ndim == 2 else first, t.ndim) for t in (*eager, *jitted))
    assert all(t.sharding == first for t in eager[2:])  # with the spec that the caller wrote
    for got in (eager, jitted):
        assert_equal(got, samples(key(), spread=False))


# Entries of a t_list


def test_the_program_does_not_grow_with_a_t_list() -> None:
    """Chains of selects took 5 s and 3 GB to compile at 530 entries, and more than there is at 600."""

    def draw(k: jax.Array, n: int) -> Any:
        return rf.sample_from_t_list(8, rf.make_t_list(n), rng=k, return_index=True)

    k = key()
    sizes = [str(jax.make_jaxpr(draw, static_argnums=1)(k, n)).count("\n") for n in (4, 1000)]
    assert sizes[0] == sizes[1]
    with jax.transfer_guard("disallow"):
        eager = draw(k, 1000)
    assert_equal(jax.jit(draw, static_argnums=1)(k, 1000), eager)


@pytest.mark.parametrize("k", [49, 1999])
def test_a_compiled_program_has_the_boundaries_of_ieee_division(k: int) -> None:
    u, wanted = around_quotients(k)
    with jax.enable_x64(True):
        index = jax.jit(lambda u: Index(k)(u, jnp, None)[0])(u)
    np.testing.assert_array_equal(index, wanted)


@pytest.mark.parametrize("make", [lambda t: t, lambda t: [t[0], 0.0]], ids=["list", "entry"])
def test_a_traced_t_list_is_a_type_error_that_says_that_it_is_static(make: Any) -> None:
    for transform in (jax.jit, jax.grad):
        with pytest.raises(TypeError, match=r"^t_list must be a sequence of floats, got .*; t_list is static"):
            transform(lambda t: rf.sample_from_t_list(8, make(t), rng=key()).sum())(jnp.array(T_LIST))


# NumPy generators: an error where a program is staged and their numbers would be constants, a draw elsewhere


@pytest.mark.parametrize(
    "stage",
    [
        lambda f: jax.jit(jax.vmap(jax.grad(f)))(X[None]),
        lambda f: jax.lax.scan(lambda carry, x: (carry, f(x)), 0, X[None]),
        lambda f: jax.grad(jax.checkpoint(f))(X),
    ],
    ids=["jit", "scan", "checkpoint"],
)
def test_a_draw_of_a_numpy_generator_in_a_staged_program_raises(stage: Any) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match=r"rng must be a JAX key.*pass a key as an argument, or draw outside"):
        stage(lambda x: (x[0] * times(rng, xp=jnp)).sum())
    assert rng.random() == np.random.default_rng(0).random()  # the error comes before the draw


def test_an_eager_transformation_and_a_callback_draw_anew_at_each_call() -> None:
    rng, same, drawn = np.random.default_rng(0), np.random.default_rng(0), []

    def f(x: Any) -> Any:
        drawn.append(times(rng, xp=jnp, dtype=jnp.float64))
        return x.sum()

    scalar = jax.ShapeDtypeStruct((), np.float32)
    jax.vmap(jax.grad(f))(X[None])
    jax.jvp(f, (X,), (X,))
    jax.block_until_ready(jax.jit(lambda x: jax.pure_callback(lambda x: np.float32(f(x)), scalar, x))(X))
    assert_equal(drawn, [times(same, dtype=np.float64) for _ in range(3)])


@every_sampler
def test_every_sampler_of_numpy_raises_in_jit_and_an_int_draws(sample: Any) -> None:
    for name, rng in {"Generator": np.random.default_rng(0), "NoneType": None}.items():
        with pytest.raises(TypeError, match=f"rng must be a JAX key.*got {name}"):
            jax.jit(lambda rng=rng: sample(4, rng=rng, xp=np))()
    assert_equal(jax.jit(lambda: sample(4, rng=3, xp=np))(), sample(4, rng=3, xp=np))

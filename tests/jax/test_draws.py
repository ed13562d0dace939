"""JAX, the draws: keys typed and raw, the same stream under every transformation, on every device and sharding."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import fastgen_rf as rf
from tests.cases.names import PUBLISHED, every_published_law

SHIFTED = rf.SampleTimestepConfig()
RUNGS = (1.0, 0.75, 0.5, 0.0)
SAMPLERS = {
    "law": lambda n, **k: rf.sample_timesteps(n, SHIFTED, **k),
    "pairs": lambda n, **k: rf.sample_timestep_pairs(n, SHIFTED, **k)[1],
    "t_list": lambda n, **k: rf.sample_from_t_list(n, RUNGS, **k),
}
every_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)
several_devices = pytest.mark.skipif(jax.device_count() < 4, reason="a mesh of four devices")


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


@every_published_law
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__)
def test_every_law_stays_inside_its_bounds_in_every_dtype(law: str, dtype: Any) -> None:
    cfg = rf.SampleTimestepConfig(law, shift=50.0, p_mean=2.0, p_std=3.0)
    t = rf.sample_timesteps(20_000, cfg, rng=key(), dtype=dtype)
    assert (t.dtype, t.shape) == (dtype, (20_000,))
    host = np.asarray(t).astype(np.float64)
    assert host.min() >= cfg.min_t
    assert host.max() <= cfg.max_t


def test_float64_draws_carry_more_than_float32_s_bits_without_the_flag() -> None:
    t = rf.sample_timesteps(100, rf.SampleTimestepConfig("uniform"), rng=key(), dtype=jnp.float64)
    host = np.asarray(t)
    assert host.dtype == np.float64
    assert np.count_nonzero(host != host.astype(np.float32)) > 90
    assert jax.config.jax_enable_x64 is False


@every_sampler
def test_raw_and_typed_keys_give_one_stream(sample: Any) -> None:
    np.testing.assert_array_equal(sample(64, rng=jax.random.PRNGKey(3)), sample(64, rng=key(3)))


@every_sampler
def test_an_int_is_the_seed_of_a_key(sample: Any) -> None:
    np.testing.assert_array_equal(sample(64, rng=3, xp=jnp), sample(64, rng=key(3)))
    assert not np.array_equal(sample(64, rng=4, xp=jnp), sample(64, rng=key(3)))


@every_sampler
@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators_serve(sample: Any, implementation: str) -> None:
    t = sample(64, rng=jax.random.key(0, impl=implementation))
    assert t.shape == (64,)
    assert len(np.unique(t)) >= 3


@every_sampler
def test_different_keys_give_different_draws(sample: Any) -> None:
    assert len({np.asarray(sample(64, rng=k)).tobytes() for k in jax.random.split(key(), 8)}) == 8


@every_sampler
def test_a_numpy_generator_gives_numpy_s_stream(sample: Any) -> None:
    moved = sample(64, rng=np.random.default_rng(2), xp=jnp)
    assert isinstance(moved, jax.Array)
    np.testing.assert_array_equal(moved, sample(64, rng=np.random.default_rng(2)))


@every_sampler
def test_a_numpy_generator_s_float64_stays_float64(sample: Any) -> None:
    moved = sample(64, rng=np.random.default_rng(2), xp=jnp, dtype=jnp.float64)
    assert moved.dtype == jnp.float64
    np.testing.assert_array_equal(moved, sample(64, rng=np.random.default_rng(2), dtype=np.float64))


# Transformations


@pytest.mark.parametrize(
    ("law", "dtype"),
    [*((law, jnp.float32) for law in PUBLISHED), ("shifted", jnp.bfloat16)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_jit_vmap_and_scan_draw_what_the_eager_call_draws(law: str, dtype: Any) -> None:
    cfg, keys = rf.SampleTimestepConfig(law), jax.random.split(key(), 3)

    def sample(k: jax.Array) -> Any:
        return rf.sample_timesteps(50, cfg, rng=k, dtype=dtype)

    eager = np.stack([sample(k) for k in keys])
    jitted = jax.jit(sample)
    np.testing.assert_array_equal(np.stack([jitted(k) for k in keys]), eager)
    np.testing.assert_array_equal(jax.vmap(sample)(keys), eager)
    np.testing.assert_array_equal(jax.lax.scan(lambda c, k: (c, sample(k)), 0, keys)[1], eager)


def test_rungs_under_jit_vmap_and_scan_are_the_eager_ones() -> None:
    keys = jax.random.split(key(), 3)

    def sample(k: jax.Array) -> Any:
        return rf.sample_from_t_list(50, RUNGS, rng=k)

    eager = np.stack([sample(k) for k in keys])
    assert set(np.unique(eager)) == {1.0, 0.75, 0.5}
    np.testing.assert_array_equal(jax.jit(jax.vmap(sample))(keys), eager)
    np.testing.assert_array_equal(jax.lax.scan(lambda c, k: (c, sample(k)), 0, keys)[1], eager)


def test_a_rung_s_index_under_jit_is_the_eager_one() -> None:
    def sample(k: jax.Array) -> Any:
        return rf.sample_from_t_list(50, RUNGS, rng=k, return_index=True)

    for jitted, eager in zip(jax.jit(sample)(key()), sample(key()), strict=True):
        assert jitted.dtype == eager.dtype
        np.testing.assert_array_equal(jitted, eager)


@every_published_law
def test_n_and_the_config_are_static_arguments(law: str) -> None:
    cfg = rf.SampleTimestepConfig(law)
    jitted = jax.jit(rf.sample_timesteps, static_argnums=(0, 1))
    np.testing.assert_array_equal(jitted(50, cfg, rng=key()), rf.sample_timesteps(50, cfg, rng=key()))
    named = jax.jit(rf.sample_timesteps, static_argnames=("n", "cfg", "dtype"))
    assert named(n=50, cfg=cfg, rng=key(), dtype=jnp.bfloat16).dtype == jnp.bfloat16


@every_sampler
def test_raw_keys_trace_as_typed_ones_do(sample: Any) -> None:
    jitted = jax.jit(lambda k: sample(50, rng=k))
    np.testing.assert_array_equal(jitted(jax.random.PRNGKey(0)), jitted(key()))
    np.testing.assert_array_equal(
        jax.vmap(lambda k: sample(50, rng=k))(jax.random.split(jax.random.PRNGKey(0), 3)),
        jax.vmap(lambda k: sample(50, rng=k))(jax.random.split(key(), 3)),
    )


@every_sampler
def test_a_config_s_draw_has_a_shape_before_it_has_values(sample: Any) -> None:
    described = jax.eval_shape(lambda k: sample(50, rng=k, dtype=jnp.bfloat16), key())
    assert (described.shape, described.dtype) == ((50,), jnp.bfloat16)


@every_published_law
def test_a_training_step_differentiates_past_its_draw(law: str) -> None:
    cfg, x0 = rf.SampleTimestepConfig(law), jnp.ones((8, 3))

    @jax.jit
    @jax.grad
    def step(scale: jax.Array, k: jax.Array) -> jax.Array:
        t = rf.sample_timesteps(8, cfg, rng=k)
        return rf.add_noise(scale * x0, jnp.zeros_like(x0), t).sum()

    t = rf.sample_timesteps(8, cfg, rng=key())
    np.testing.assert_allclose(step(jnp.float32(1.0), key()), 3 * np.sum(1 - np.float64(t)), rtol=1e-5)


@every_published_law
def test_draws_survive_the_nan_check_and_a_switched_off_jit(law: str) -> None:
    cfg = rf.SampleTimestepConfig(law, p_mean=5.0, p_std=0.1)
    expected = rf.sample_timesteps(50, cfg, rng=key())
    with jax.debug_nans(True):
        np.testing.assert_array_equal(rf.sample_timesteps(50, cfg, rng=key()), expected)
    with jax.disable_jit():
        np.testing.assert_allclose(rf.sample_timesteps(50, cfg, rng=key()), expected, rtol=2e-7)


# Devices

PLACES = {
    "device": lambda: jax.devices()[2],
    "name": lambda: f"{jax.devices()[2].platform}:2",
    "sharding": lambda: SingleDeviceSharding(jax.devices()[2]),
}


@several_devices
@every_sampler
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rng", [key, lambda: np.random.default_rng(0)], ids=["key", "numpy"])
def test_a_device_its_name_and_its_sharding_place_the_draw(sample: Any, place: str, rng: Any) -> None:
    t = sample(8, rng=rng(), device=PLACES[place](), xp=jnp)
    assert t.devices() == {jax.devices()[2]}
    np.testing.assert_array_equal(t, sample(8, rng=rng(), xp=jnp))


@several_devices
@every_sampler
@pytest.mark.parametrize(
    ("axis_type", "jit"),
    [(AxisType.Auto, False), (AxisType.Auto, True), (AxisType.Explicit, False), (AxisType.Explicit, True)],
    ids=["auto-eager", "auto-jit", "explicit-eager", "explicit-jit"],
)
def test_a_sharding_spreads_the_draw(sample: Any, axis_type: AxisType, jit: bool) -> None:
    mesh = jax.make_mesh((4,), ("b",), axis_types=(axis_type,))
    rows = NamedSharding(mesh, PartitionSpec("b"))

    def spread(k: jax.Array) -> Any:
        return sample(8, rng=k, device=rows)

    t = (jax.jit(spread) if jit else spread)(key())
    assert t.sharding.is_equivalent_to(rows, 1)
    np.testing.assert_array_equal(t, sample(8, rng=key()))


@several_devices
@every_sampler
def test_the_draw_stays_on_its_key_s_device(sample: Any) -> None:
    there = jax.devices()[1]
    assert sample(8, rng=jax.device_put(key(), there)).devices() == {there}
    assert sample(8, rng=jax.device_put(key(), there), device=there).devices() == {there}


@several_devices
@every_sampler
def test_a_key_placed_on_another_device_raises(sample: Any) -> None:
    here, there = jax.devices()[1:3]
    for place in (there, SingleDeviceSharding(there), f"{there.platform}:2"):
        with pytest.raises(ValueError, match="rng and device must agree"):
            sample(8, rng=jax.device_put(key(), here), device=place)


# Stratified draws, exported draws, and a platform without float64


@every_published_law
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
def test_strict_promotion_has_nothing_to_object_to_stratified_draws(law: str, dtype: Any) -> None:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        t = rf.sample_timesteps(8, rf.SampleTimestepConfig(law), rng=key(), dtype=dtype, stratified=True)
    assert (t.shape, t.dtype) == ((8,), dtype)


def test_stratified_draws_sort_no_float64() -> None:
    text = jax.jit(lambda k: rf.sample_timesteps(8, SHIFTED, rng=k, stratified=True)).lower(key()).as_text()
    (sort,) = [text[at:] for at in range(len(text)) if text.startswith('"stablehlo.sort"', at)]
    types = sort[sort.index("}) : (") :].partition("->")[0]
    assert "ui32" in types
    assert "f64" not in types


@pytest.mark.parametrize("stratified", [False, True])
def test_an_exported_draw_takes_any_batch(stratified: bool) -> None:
    (batch,) = jax.export.symbolic_shape("batch")

    def draw(k: jax.Array, x: jax.Array) -> Any:
        return rf.sample_timesteps(x.shape[0], SHIFTED, rng=k, stratified=stratified)

    exported = jax.export.export(jax.jit(draw))(key(), jax.ShapeDtypeStruct((batch, 2), jnp.float32))
    for n in (1, 5):
        expected = rf.sample_timesteps(n, SHIFTED, rng=key(), stratified=stratified)
        np.testing.assert_array_equal(exported.call(key(), jnp.ones((n, 2))), expected)


def test_an_exported_draw_of_rungs_takes_any_batch() -> None:
    (batch,) = jax.export.symbolic_shape("batch")
    draw = jax.jit(lambda k, x: rf.sample_from_t_list(2 * x.shape[0], RUNGS, rng=k))
    exported = jax.export.export(draw)(key(), jax.ShapeDtypeStruct((batch,), jnp.float32))
    np.testing.assert_array_equal(exported.call(key(), jnp.ones(3)), rf.sample_from_t_list(6, RUNGS, rng=key()))


class TestWithoutFloat64:
    """A platform that has no float64, whatever it is called: u is mapped to t on the host, traced or not."""

    @pytest.fixture(autouse=True)
    def expected(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        from fastgen_rf.backends import _jax

        expected = {law: rf.sample_timesteps(50, rf.SampleTimestepConfig(law), rng=key()) for law in PUBLISHED}
        monkeypatch.setattr(_jax, "_computes_float64", lambda platform: False)
        jax.clear_caches()
        return expected

    @every_published_law
    def test_draws_are_those_of_a_platform_that_has_it(self, law: str, expected: Any) -> None:
        cfg, wanted = rf.SampleTimestepConfig(law), expected[law]

        def sample(k: jax.Array) -> Any:
            return rf.sample_timesteps(50, cfg, rng=k)

        for t in (sample(key()), jax.jit(sample)(key()), jax.vmap(sample)(key()[None])[0]):
            assert isinstance(t, jax.Array)
            assert t.dtype == jnp.float32
            np.testing.assert_allclose(t, wanted, rtol=2e-7)

    def test_no_program_that_draws_has_float64(self) -> None:
        text = jax.jit(lambda k: rf.sample_timesteps(50, SHIFTED, rng=k, stratified=True)).lower(key()).as_text()
        assert "f64" not in text

    def test_formulas_know_it_by_the_same_answer(self) -> None:
        x, t = jnp.ones((4, 3)), jnp.full(4, 0.25)
        for call in (lambda x, t: rf.x0_to_eps(x, 2 * x, t), lambda x, t: rf.ode_step(x, x, t, 0.1)):
            assert "f64" not in jax.jit(call).lower(x, t).as_text()


def test_a_platform_is_asked_whether_it_compiles_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastgen_rf.backends import _jax

    here = SingleDeviceSharding(jax.devices()[0])
    assert _jax._compiles_float64(here)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("failed to legalize operation")  # what a platform without float64 says

    with monkeypatch.context() as patched:
        patched.setattr(jax, "jit", refuse)
        assert not _jax._compiles_float64(here)


# What is refused


@every_sampler
def test_a_key_is_required(sample: Any) -> None:
    with pytest.raises(TypeError, match=r"no global generator: pass jax\.random\.key"):
        sample(8, xp=jnp)
    with pytest.raises(TypeError, match="no global generator"):
        sample(8, device=jax.devices()[0])


@every_sampler
@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_a_batch_of_keys_is_told_to_vmap(sample: Any, make: Any) -> None:
    with pytest.raises(ValueError, match=r"one JAX key, got keys of shape .*: vmap over them"):
        sample(8, rng=jax.random.split(make(0), 3))


@every_sampler
@pytest.mark.parametrize("wrong", [lambda: jnp.zeros(2), lambda: jnp.zeros(2, jnp.int32)], ids=["float", "int"])
def test_an_array_that_is_no_key_raises(sample: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"rng must be a JAX key, .* or an int for JAX"):
        sample(8, rng=wrong())


@every_sampler
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_], ids=lambda d: d.__name__)
def test_a_dtype_that_is_not_real_floating_raises(sample: Any, dtype: Any) -> None:
    with pytest.raises(TypeError, match="dtype must be a real floating dtype"):
        sample(8, rng=key(), dtype=dtype)


def test_a_traced_n_raises() -> None:
    with pytest.raises(TypeError, match=r"n must be an integer.*; n is static: .* static_argnames='n'"):
        jax.jit(lambda n: rf.sample_timesteps(n, SHIFTED, rng=key()))(4)


@pytest.mark.parametrize("stratified", [False, True])
def test_pairs_trace_under_jit_vmap_and_strict_promotion(stratified):
    cfg = rf.SampleTimestepConfig()

    def draw(key):
        return rf.sample_timestep_pairs((2, 8), cfg, rng=key, stratified=stratified)

    keys = jax.random.split(jax.random.key(0), 3)
    eager = [draw(key) for key in keys]
    with jax.numpy_dtype_promotion("strict"):
        compiled = [jax.jit(draw)(key) for key in keys]
    mapped = jax.vmap(draw)(keys)
    for i in range(2):
        together = np.stack([np.asarray(pair[i]) for pair in eager])
        assert together.shape == (3, 2, 8)
        assert np.array_equal(together, np.stack([np.asarray(pair[i]) for pair in compiled]))
        assert np.array_equal(together, np.asarray(mapped[i]))


def test_the_shape_and_the_share_of_pairs_are_static_arguments() -> None:
    jitted = jax.jit(rf.sample_timestep_pairs, static_argnames=("n", "cfg", "equal", "stratified"))
    options: dict[str, Any] = {"n": (2, 32), "cfg": SHIFTED, "equal": 0.5, "stratified": True}
    for compiled, eager in zip(
        jitted(**options, rng=key()), rf.sample_timestep_pairs(**options, rng=key()), strict=True
    ):
        np.testing.assert_array_equal(compiled, eager)


def test_a_traced_share_raises() -> None:
    with pytest.raises(TypeError, match="equal must be a number"):
        jax.jit(lambda equal: rf.sample_timestep_pairs(4, SHIFTED, equal=equal, rng=key()))(0.5)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_a_shape_is_the_flat_draw_laid_out_whatever_the_generator(implementation: str) -> None:
    k = jax.random.key(0, impl=implementation)
    t, r = rf.sample_timestep_pairs((8, 6), SHIFTED, rng=k)
    flat_t, flat_r = rf.sample_timestep_pairs(48, SHIFTED, rng=k)
    np.testing.assert_array_equal(np.ravel(t), flat_t)
    np.testing.assert_array_equal(np.ravel(r), flat_r)


@several_devices
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_sharding_spreads_both_times_of_a_shape_of_pairs(axis_type: AxisType, jit: bool) -> None:
    mesh = jax.make_mesh((4,), ("b",), axis_types=(axis_type,))
    rows = NamedSharding(mesh, PartitionSpec("b", None))

    def spread(k: jax.Array) -> tuple[Any, Any]:
        return rf.sample_timestep_pairs((8, 3), SHIFTED, rng=k, device=rows, stratified=True)

    there = (jax.jit(spread) if jit else spread)(key())
    here = rf.sample_timestep_pairs((8, 3), SHIFTED, rng=key(), stratified=True)
    for time, expected in zip(there, here, strict=True):
        assert time.sharding.is_equivalent_to(rows, 2)
        np.testing.assert_array_equal(time, expected)

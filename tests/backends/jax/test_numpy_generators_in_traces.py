"""JAX, NumPy generators: an error where a program is staged and their numbers would be constants, a draw elsewhere."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import fastgen_rf as rf

UNIFORM = rf.SampleTimestepConfig("uniform")
SAMPLERS = {
    "sample_timesteps": lambda **how: rf.sample_timesteps(4, UNIFORM, **how),
    "sample_timestep_pairs": lambda **how: rf.sample_timestep_pairs(4, UNIFORM, equal=0.0, **how)[0],
    "sample_from_t_list": lambda **how: rf.sample_from_t_list(4, np.linspace(1, 0, 1001), **how),
}
X = jnp.ones(4)


def _exported(f: Any) -> Any:
    return jax.export.export(jax.jit(f))(X)


def _on_a_mesh(f: Any) -> Any:
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(AxisType.Auto,))
    return jax.shard_map(f, mesh=mesh, in_specs=PartitionSpec("rows"), out_specs=PartitionSpec())(X)


# Each stages ``f``, a scalar function of an array of shape (4,).
STAGED = {
    "jit": lambda f: jax.jit(f)(X),
    "grad of jit": lambda f: jax.grad(jax.jit(f))(X),
    "jit of vmap of grad": lambda f: jax.jit(jax.vmap(jax.grad(f)))(X[None]),
    "scan": lambda f: jax.lax.scan(lambda carry, x: (carry, f(x)), 0, X[None]),
    "fori_loop": lambda f: jax.lax.fori_loop(0, 2, lambda i, total: total + f(X), 0.0),
    "cond": lambda f: jax.lax.cond(True, f, f, X),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f))(X),
    "eval_shape": lambda f: jax.eval_shape(f, X),
    "export": _exported,
    "shard_map": _on_a_mesh,
}


@pytest.mark.parametrize("stage", STAGED.values(), ids=STAGED)
def test_a_draw_in_a_staged_program_raises(stage: Any) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match=r"rng must be a JAX key.*pass a key as an argument, or draw outside"):
        stage(lambda x: (x * SAMPLERS["sample_timesteps"](rng=rng, xp=jnp)).sum())
    assert rng.random() == np.random.default_rng(0).random()  # the error comes before the draw


@pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("how", [{"xp": jnp}, {}], ids=["to jax", "to numpy"])
def test_every_sampler_raises_in_jit(sample: Any, how: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match=r"rng must be a JAX key.*got Generator"):
        jax.jit(lambda: sample(rng=rng, **how))()


def test_fresh_entropy_of_numpy_raises_in_jit() -> None:
    with pytest.raises(TypeError, match=r"rng must be a JAX key.*got NoneType"):
        jax.jit(lambda: SAMPLERS["sample_timesteps"](xp=np))()


@pytest.mark.parametrize("how", [{"xp": jnp}, {"xp": np}], ids=["jax", "numpy"])
def test_an_int_draws_in_jit(how: dict[str, Any]) -> None:
    sample = SAMPLERS["sample_timesteps"]
    np.testing.assert_array_equal(jax.jit(lambda: sample(rng=3, **how))(), sample(rng=3, **how))


def _in_a_callback(f: Any) -> Any:
    scalar = jax.ShapeDtypeStruct((), np.float32)
    return jax.block_until_ready(jax.jit(lambda x: jax.pure_callback(lambda x: np.float32(f(x)), scalar, x))(X))


def _at_compile_time(f: Any) -> Any:
    def constant() -> Any:
        with jax.ensure_compile_time_eval():
            return f(np.ones(4))

    return jax.jit(constant)()


def _without_jit(f: Any) -> Any:
    with jax.disable_jit():
        return jax.jit(f)(X)


# Each calls ``f`` once, and calls it again when it is itself called again.
CALLED = {
    "eager": lambda f: f(X),
    "grad": lambda f: jax.grad(f)(X),
    "jvp": lambda f: jax.jvp(f, (X,), (X,)),
    "vjp": lambda f: jax.vjp(f, X)[1](1.0),
    "vmap": lambda f: jax.vmap(f)(X[None]),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f))(X[None]),
    "disable_jit": _without_jit,
    "pure_callback": _in_a_callback,
    "ensure_compile_time_eval": _at_compile_time,
}


@pytest.mark.parametrize("call", CALLED.values(), ids=CALLED)
def test_elsewhere_each_call_draws_anew(call: Any) -> None:
    rng, drawn = np.random.default_rng(0), []

    def f(x: Any) -> Any:
        drawn.append(SAMPLERS["sample_timesteps"](rng=rng, xp=jnp))
        return (x * drawn[-1]).sum()

    call(f)
    call(f)
    same = np.random.default_rng(0)
    wanted = [SAMPLERS["sample_timesteps"](rng=same) for _ in range(2)]
    np.testing.assert_array_equal(drawn, wanted)

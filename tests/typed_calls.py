"""Calls whose static types a type checker verifies: what a function returns, and what it accepts. Nothing here runs.

typed_mistakes.py has the calls that a type checker must reject.
"""

from dataclasses import dataclass
from typing import Any, Literal, assert_type

import jax
import numpy as np
import numpy.typing as npt
import torch

from fastgen_rf import (
    SampleTimestepConfig,
    add_noise,
    convert_prediction,
    convert_state,
    convert_time,
    make_t_list,
    ode_step,
    sample_from_t_list,
    sample_timestep_pairs,
    sample_timesteps,
    timestep_density,
    timestep_quantile,
)

CONFIG = SampleTimestepConfig()


def calls(generator: torch.Generator, key: jax.Array, host: np.random.Generator, latents: torch.Tensor) -> None:
    assert_type(sample_timesteps(4, CONFIG, rng=generator), torch.Tensor)
    assert_type(sample_timesteps(4, CONFIG, xp=torch, device="cuda", dtype=torch.bfloat16), torch.Tensor)
    assert_type(sample_timesteps((4, 2), CONFIG, rng=key), jax.Array)
    assert_type(sample_timesteps(4, CONFIG, rng=host), npt.NDArray[Any])
    assert_type(sample_timesteps(4, CONFIG, rng=0, xp=jax.numpy), jax.Array)
    assert_type(sample_timestep_pairs(4, CONFIG, rng=generator), tuple[torch.Tensor, torch.Tensor])
    assert_type(sample_timestep_pairs(4, CONFIG, rng=key), tuple[jax.Array, jax.Array])
    assert_type(sample_from_t_list(4, [1.0, 0.0], rng=key), jax.Array)
    assert_type(sample_from_t_list(4, [1.0, 0.0], rng=generator), torch.Tensor)
    assert_type(add_noise(latents, latents, sample_timesteps(4, CONFIG, rng=generator)), torch.Tensor)


def places(latents: torch.Tensor, key: jax.Array, sharding: jax.sharding.Sharding, host: np.random.Generator) -> None:
    """A torch device tells that a tensor is returned; no other device is taken for one."""
    here = latents.device
    assert_type(sample_timesteps(4, CONFIG, device=here, dtype=latents.dtype), torch.Tensor)
    assert_type(sample_timesteps(latents.shape[:1], CONFIG, rng=0, device=here, stratified=True), torch.Tensor)
    assert_type(sample_timesteps(4, CONFIG, rng=host, device=torch.device("cuda")), torch.Tensor)
    assert_type(sample_timestep_pairs(4, CONFIG, equal=0.5, device=here), tuple[torch.Tensor, torch.Tensor])
    assert_type(sample_timestep_pairs(4, CONFIG, zero=0.1, r_cfg=CONFIG, rng=key), tuple[jax.Array, jax.Array])
    assert_type(sample_timestep_pairs(4, CONFIG, rng=host, r_cfg=None), tuple[npt.NDArray[Any], npt.NDArray[Any]])
    assert_type(sample_from_t_list(4, make_t_list(4), device=here), torch.Tensor)
    assert_type(sample_timesteps(4, CONFIG, rng=key, device=sharding), jax.Array)
    assert_type(sample_timesteps(4, CONFIG, rng=host, device=sharding), Any)
    assert_type(sample_timesteps(4, CONFIG, rng=host, xp=jax.numpy, device=sharding), jax.Array)
    assert_type(sample_from_t_list(4, np.linspace(1, 0, 4), rng=host, return_index=True), tuple[Any, Any])


def devices_without_a_type(device: Any, key: jax.Array, generator: torch.Generator) -> None:
    """A device of a namespace of options, or jax.Device, is Any to a type checker: rng or xp tells what is returned."""
    assert_type(sample_timesteps(4, CONFIG, rng=key, device=device), jax.Array)
    assert_type(sample_timesteps(4, CONFIG, rng=generator, device=device), torch.Tensor)
    assert_type(sample_timestep_pairs(4, CONFIG, xp=torch, device=device), tuple[torch.Tensor, torch.Tensor])
    assert_type(sample_from_t_list(4, [1.0, 0.0], rng=key, device=device, return_index=False), jax.Array)


@dataclass(frozen=True)
class FrozenConfig:
    """Another library's config."""

    time_dist_type: Literal["shifted", "uniform"]
    min_t: float
    max_t: float
    shift: float


class MutableConfig:
    time_dist_type: str = "uniform"
    min_t: float = 0.0
    max_t: float = 1.0


def configs(frozen: FrozenConfig, mutable: MutableConfig, values: npt.NDArray[Any]) -> None:
    """Any object with the attributes is a config."""
    assert_type(timestep_quantile(0.5, frozen), float)
    assert_type(timestep_density(values, mutable), npt.NDArray[Any])
    assert_type(sample_timesteps(4, mutable, xp=torch), torch.Tensor)
    assert_type(SampleTimestepConfig("mode", t_list=make_t_list(4)).t_list, tuple[float, ...] | None)


def names(latents: torch.Tensor, tensor: torch.Tensor, array: jax.Array) -> None:
    """Names of prediction types, time parameterizations and states, as literals and as variables of such a type."""
    assert_type(convert_prediction(latents, latents, tensor, source="v_vp", target="score"), torch.Tensor)
    assert_type(convert_state(latents, 0.5, source="ve", target="rf"), torch.Tensor)
    assert_type(convert_time(80.0, source="sigma", target="rf"), float)
    assert_type(convert_time(array, source="log_snr", target="alpha_bar"), jax.Array)
    source: Literal["eps", "x0"] = "eps" if latents.ndim else "x0"
    assert_type(convert_prediction(latents, latents, 0.5, source=source, target="flow"), torch.Tensor)
    assert_type(ode_step(latents, latents, tensor, 0.0), torch.Tensor)

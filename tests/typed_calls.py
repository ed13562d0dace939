"""Calls whose static types a type checker verifies: what a sampler returns, by rng or xp. Nothing here runs."""

from typing import Any, assert_type

import jax
import numpy as np
import numpy.typing as npt
import torch

from fastgen_rf import SampleTimestepConfig, add_noise, sample_from_t_list, sample_timestep_pairs, sample_timesteps

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

# pyright: reportUnnecessaryTypeIgnoreComment=true
"""Calls whose static types a type checker verifies: what a function returns, and what it accepts. Nothing here runs.

Typical mistakes follow, each of which a type checker must find. Mypy (strict) and pyright report a ``type: ignore``
that is not needed: if a mistake is no longer found, its line is an error.
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
    expand_like,
    flow_step,
    make_t_list,
    ode_step,
    sample_from_t_list,
    sample_timestep_pairs,
    sample_timesteps,
    shift_timesteps,
    timestep_density,
    timestep_quantile,
)

CONFIG = SampleTimestepConfig()


def calls(generator: torch.Generator, key: jax.Array, host: np.random.Generator, latents: torch.Tensor) -> None:
    assert_type(sample_timesteps(4, CONFIG, rng=generator), torch.Tensor)
    assert_type(sample_timesteps(4, CONFIG, xp=torch, device="cuda", dtype=torch.bfloat16), torch.Tensor)
    assert_type(sample_timesteps(4, CONFIG, rng=host), npt.NDArray[Any])
    assert_type(sample_timestep_pairs(4, CONFIG, rng=generator), tuple[torch.Tensor, torch.Tensor])
    assert_type(sample_from_t_list(4, [1.0, 0.0], rng=key), jax.Array)
    assert_type(sample_from_t_list(4, [1.0, 0.0], rng=generator), torch.Tensor)
    assert_type(add_noise(latents, latents, sample_timesteps(4, CONFIG, rng=generator)), torch.Tensor)


def places(latents: torch.Tensor, key: jax.Array, sharding: jax.sharding.Sharding, host: np.random.Generator) -> None:
    """A torch device tells that a tensor is returned; no other device is taken for one."""
    here = latents.device
    assert_type(sample_timesteps(4, CONFIG, device=here, dtype=latents.dtype), torch.Tensor)
    assert_type(sample_timestep_pairs(4, CONFIG, equal=0.5, device=here), tuple[torch.Tensor, torch.Tensor])
    assert_type(sample_timestep_pairs(4, CONFIG, zero=0.1, r_cfg=CONFIG, rng=key), tuple[jax.Array, jax.Array])
    assert_type(sample_from_t_list(4, make_t_list(4), device=here), torch.Tensor)
    assert_type(sample_timesteps(4, CONFIG, rng=key, device=sharding), jax.Array)
    assert_type(sample_timesteps(4, CONFIG, rng=host, device=sharding), Any)
    assert_type(sample_timesteps(4, CONFIG, rng=host, xp=jax.numpy, device=sharding), jax.Array)
    assert_type(sample_from_t_list(4, np.linspace(1, 0, 4), rng=host, return_index=True), tuple[Any, Any])


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


def names(latents: torch.Tensor, tensor: torch.Tensor) -> None:
    """Names of prediction types, time parameterizations and states, as literals and as variables of such a type."""
    assert_type(convert_prediction(latents, latents, tensor, source="v_vp", target="score"), torch.Tensor)
    assert_type(convert_state(latents, 0.5, source="ve", target="rf"), torch.Tensor)
    assert_type(convert_time(80.0, source="sigma", target="rf"), float)
    source: Literal["eps", "x0"] = "eps" if latents.ndim else "x0"
    assert_type(convert_prediction(latents, latents, 0.5, source=source, target="flow"), torch.Tensor)
    assert_type(ode_step(latents, latents, tensor, 0.0), torch.Tensor)


# Mistakes


def wrong_names(x: torch.Tensor, t: torch.Tensor) -> None:
    """A name that does not exist, or belongs to another argument."""
    convert_prediction(x, x, t, source="epsilon", target="x0")  # type: ignore[arg-type]
    convert_time(t, source="snr", target="rf")  # type: ignore[arg-type]
    convert_state(x, t, source="rf", target="edm")  # type: ignore[arg-type]
    SampleTimestepConfig("normal")  # type: ignore[arg-type]


def wrong_keywords(x: torch.Tensor, t: torch.Tensor, generator: torch.Generator) -> None:
    """A keyword that is misspelled, missing, or given by position."""
    convert_prediction(x, x, t, source="flow")  # type: ignore[call-arg]
    convert_prediction(x, x, t, "flow", "x0")  # type: ignore[call-arg]
    flow_step(x, x, 0.5)  # type: ignore[call-arg]
    sample_timesteps(4, CONFIG, generator=generator)  # type: ignore[call-overload]
    sample_timesteps(4, CONFIG, rng=generator, stratify=True)  # type: ignore[call-overload]
    sample_timestep_pairs(4, CONFIG, rng=generator, r_cfg="shifted")  # type: ignore[call-overload]
    sample_from_t_list(4, [1.0, 0.0], rng=generator, stratified=True)  # type: ignore[call-overload]
    SampleTimestepConfig(p_meen=0.0)  # type: ignore[call-arg]
    SampleTimestepConfig(shift="5")  # type: ignore[arg-type]


def wrong_configs(x: torch.Tensor) -> None:
    """Something else where a config belongs."""
    sample_timesteps(4, {"time_dist_type": "shifted", "min_t": 0.0, "max_t": 1.0}, device=x.device)  # type: ignore[call-overload]
    sample_timesteps(4, SampleTimestepConfig, device=x.device)  # type: ignore[call-overload]
    sample_timesteps(CONFIG, 4, device=x.device)  # type: ignore[call-overload]
    timestep_quantile(0.5, "shifted")  # type: ignore[arg-type]
    CONFIG.shift = 3.0  # type: ignore[misc]


def wrong_values(x: torch.Tensor, generator: torch.Generator) -> None:
    """A value of the wrong type."""
    add_noise(x, x, "0.5")  # type: ignore[arg-type]
    add_noise([1.0, 2.0], [3.0, 4.0], 0.5)  # type: ignore[arg-type, type-var]
    add_noise(x, 0.0, 0.5)  # type: ignore[arg-type]
    add_noise(x, x, None)  # type: ignore[arg-type]
    expand_like(0.5, x)  # type: ignore[type-var]
    expand_like(x, x, axes=0)  # type: ignore[arg-type]
    shift_timesteps(0.5, "3")  # type: ignore[arg-type]
    make_t_list(4.0)  # type: ignore[arg-type]
    sample_timesteps(4.0, CONFIG, rng=generator)  # type: ignore[call-overload]
    sample_from_t_list(4, 1.0, rng=generator)  # type: ignore[call-overload]
    sample_timesteps(4, CONFIG, rng=generator, stratified="yes")  # type: ignore[call-overload]


def wrong_uses_of_results(x: torch.Tensor, host: np.random.Generator) -> None:
    """A result taken for something else."""
    add_noise(x, x, sample_timestep_pairs(4, CONFIG, device=x.device))  # type: ignore[arg-type]
    add_noise(x, x, sample_from_t_list(4, [1.0, 0.0], device=x.device, return_index=True))  # type: ignore[arg-type]
    sample_timesteps(4, CONFIG, rng=host).to("cuda")  # type: ignore[attr-defined]
    sample_timesteps(4, CONFIG, device=x.device).astype("float32")  # type: ignore[attr-defined]
    add_noise(x, x, 0.5).block_until_ready()  # type: ignore[attr-defined]
    _array: np.ndarray = sample_timesteps(4, CONFIG, device=x.device, dtype=x.dtype)  # type: ignore[assignment]
    make_t_list(4).append(0.0)  # type: ignore[attr-defined]

# pyright: reportUnnecessaryTypeIgnoreComment=true
"""Typical mistakes, each of which a type checker must find. Nothing here runs.

Mypy (strict) and pyright report a ``type: ignore`` that is not needed: if a mistake is no longer found, its line is an
error. typed_calls.py has correct calls.
"""

import numpy as np
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
    sample_from_t_list,
    sample_timestep_pairs,
    sample_timesteps,
    shift_timesteps,
    timestep_density,
    timestep_quantile,
)

CONFIG = SampleTimestepConfig()


def names(x: torch.Tensor, t: torch.Tensor, anything: str) -> None:
    """A name that does not exist, or belongs to another argument."""
    convert_prediction(x, x, t, source="epsilon", target="x0")  # type: ignore[arg-type]
    convert_prediction(x, x, t, source="flow", target="velocity")  # type: ignore[arg-type]
    convert_prediction(x, x, t, source="sigma", target="x0")  # type: ignore[arg-type]
    convert_prediction(x, x, t, source=anything, target="x0")  # type: ignore[arg-type]
    convert_time(t, source="snr", target="rf")  # type: ignore[arg-type]
    convert_time(0.5, source="rf", target="logsnr")  # type: ignore[arg-type]
    convert_state(x, t, source="rf", target="edm")  # type: ignore[arg-type]
    SampleTimestepConfig("normal")  # type: ignore[arg-type]
    SampleTimestepConfig(time_dist_type="logit_normal")  # type: ignore[arg-type]


def keywords(x: torch.Tensor, t: torch.Tensor, generator: torch.Generator) -> None:
    """A keyword that is misspelled, missing, or given by position."""
    convert_prediction(x, x, t, source="flow")  # type: ignore[call-arg]
    convert_prediction(x, x, t, "flow", "x0")  # type: ignore[call-arg]
    convert_prediction(x, x, t, source="flow", to="x0")  # type: ignore[call-arg]
    flow_step(x, x, 0.5)  # type: ignore[call-arg]
    sample_timesteps(4, CONFIG, generator=generator)  # type: ignore[call-overload]
    sample_timesteps(4, CONFIG, generator)  # type: ignore[call-overload]
    sample_timesteps(4, CONFIG, rng=generator, stratify=True)  # type: ignore[call-overload]
    sample_timestep_pairs(4, CONFIG, rng=generator, equals=0.5)  # type: ignore[call-overload]
    sample_timestep_pairs(4, CONFIG, rng=generator, r_cfg="shifted")  # type: ignore[call-overload]
    sample_from_t_list(4, [1.0, 0.0], rng=generator, stratified=True)  # type: ignore[call-overload]
    SampleTimestepConfig(p_meen=0.0)  # type: ignore[call-arg]
    SampleTimestepConfig(shift="5")  # type: ignore[arg-type]


def configs(x: torch.Tensor) -> None:
    """Something else where a config belongs."""
    sample_timesteps(4, {"time_dist_type": "shifted", "min_t": 0.0, "max_t": 1.0}, device=x.device)  # type: ignore[call-overload]
    sample_timesteps(4, "shifted", device=x.device)  # type: ignore[call-overload]
    sample_timesteps(4, None, device=x.device)  # type: ignore[call-overload]
    sample_timesteps(4, [1.0, 0.5, 0.0], device=x.device)  # type: ignore[call-overload]
    sample_timesteps(4, SampleTimestepConfig, device=x.device)  # type: ignore[call-overload]
    sample_timesteps(CONFIG, 4, device=x.device)  # type: ignore[call-overload]
    timestep_quantile(0.5, "shifted")  # type: ignore[arg-type]
    timestep_density(0.5, {"time_dist_type": "shifted"})  # type: ignore[arg-type]
    CONFIG.shift = 3.0  # type: ignore[misc]


def values(x: torch.Tensor, generator: torch.Generator) -> None:
    """A value of the wrong type."""
    add_noise(x, x, "0.5")  # type: ignore[arg-type]
    add_noise([1.0, 2.0], [3.0, 4.0], 0.5)  # type: ignore[arg-type, type-var]
    add_noise(x, x, [0.5, 0.5])  # type: ignore[arg-type]
    add_noise(x, 0.0, 0.5)  # type: ignore[arg-type]
    add_noise(x, x, None)  # type: ignore[arg-type]
    expand_like(0.5, x)  # type: ignore[type-var]
    expand_like(x, x, axes=0)  # type: ignore[arg-type]
    shift_timesteps(0.5, "3")  # type: ignore[arg-type]
    make_t_list(4.0)  # type: ignore[arg-type]
    sample_timesteps(4.0, CONFIG, rng=generator)  # type: ignore[call-overload]
    sample_timesteps([4, 2], CONFIG, rng=generator)  # type: ignore[call-overload]
    sample_from_t_list(4, 1.0, rng=generator)  # type: ignore[call-overload]
    sample_from_t_list(4, make_t_list, rng=generator)  # type: ignore[call-overload]
    sample_timesteps(4, CONFIG, rng=generator, stratified="yes")  # type: ignore[call-overload]


def results(x: torch.Tensor, host: np.random.Generator) -> None:
    """A result taken for something else."""
    add_noise(x, x, sample_timestep_pairs(4, CONFIG, device=x.device))  # type: ignore[arg-type]
    add_noise(x, x, sample_from_t_list(4, [1.0, 0.0], device=x.device, return_index=True))  # type: ignore[arg-type]
    sample_timesteps(4, CONFIG, rng=host).to("cuda")  # type: ignore[attr-defined]
    sample_timesteps(4, CONFIG, device=x.device).astype("float32")  # type: ignore[attr-defined]
    add_noise(x, x, 0.5).block_until_ready()  # type: ignore[attr-defined]
    _array: np.ndarray = sample_timesteps(4, CONFIG, device=x.device, dtype=x.dtype)  # type: ignore[assignment]
    _number: float = convert_time(x, source="sigma", target="rf")  # type: ignore[assignment]
    make_t_list(4).append(0.0)  # type: ignore[attr-defined]

"""Rectified-flow primitives for diffusion distillation, on any array framework.

This module contains the public names only. Conversions and sampler steps are in :mod:`fastgen_rf.flow_matching` and
:mod:`fastgen_rf.predictions`, the times and noisy samples of other Gaussian paths in :mod:`fastgen_rf.paths`, the
samplers of timesteps in :mod:`fastgen_rf.timesteps`, their quantiles and densities in
:mod:`fastgen_rf.distribution`, and schedules in :mod:`fastgen_rf.schedule`. Importing this package imports no
framework.
"""

from fastgen_rf import flow_matching
from fastgen_rf.distribution import timestep_density, timestep_quantile
from fastgen_rf.flow_matching import (
    add_noise,
    expand_like,
    pred_noise_to_pred_x0,
    pred_x0_from_flow,
    rf_alpha,
    rf_sigma,
    sample_from_t_list,
    sample_timesteps,
    x0_to_eps,
    x0_to_flow,
)
from fastgen_rf.paths import convert_state, convert_time
from fastgen_rf.predictions import convert_prediction, flow_step, ode_step, renoise
from fastgen_rf.schedule import make_t_list, resolution_shift, shift_timesteps
from fastgen_rf.timesteps import SampleTimestepConfig, sample_timestep_pairs

__version__ = "0.1.0"

__all__ = [
    "SampleTimestepConfig",
    "add_noise",
    "convert_prediction",
    "convert_state",
    "convert_time",
    "expand_like",
    "flow_matching",
    "flow_step",
    "make_t_list",
    "ode_step",
    "pred_noise_to_pred_x0",
    "pred_x0_from_flow",
    "renoise",
    "resolution_shift",
    "rf_alpha",
    "rf_sigma",
    "sample_from_t_list",
    "sample_timestep_pairs",
    "sample_timesteps",
    "shift_timesteps",
    "timestep_density",
    "timestep_quantile",
    "x0_to_eps",
    "x0_to_flow",
]

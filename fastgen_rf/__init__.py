"""Rectified-flow primitives for diffusion distillation, on any array framework.

The public names, nothing else: the formulas live in :mod:`fastgen_rf.flow_matching`, the timestep laws
in :mod:`fastgen_rf.timesteps`. Importing this package imports no framework.
"""

from fastgen_rf import flow_matching
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
from fastgen_rf.timesteps import SampleTimestepConfig

__version__ = "0.1.0"

__all__ = [
    "SampleTimestepConfig",
    "add_noise",
    "expand_like",
    "flow_matching",
    "pred_noise_to_pred_x0",
    "pred_x0_from_flow",
    "rf_alpha",
    "rf_sigma",
    "sample_from_t_list",
    "sample_timesteps",
    "x0_to_eps",
    "x0_to_flow",
]

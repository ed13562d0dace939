"""Sampling loops of diffusers' schedulers (EDM Euler, DDIM), step by step, and ours on the path of rectified flow.

test_coming_from.py compares single calls.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler
from torch import Tensor

import fastgen_rf as rf


def randn(seed: int) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_edm_euler_steps_are_ode_steps() -> None:
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0)
    scheduler.set_timesteps(10)
    theirs = randn(0) * scheduler.sigmas[0]
    t_list = [rf.convert_time(sigma, source="sigma", target="rf") for sigma in scheduler.sigmas.tolist()]
    ours = rf.convert_state(theirs, t_list[0], source="ve", target="rf")
    for step, (t, t_next) in enumerate(pairwise(t_list)):
        sigma = rf.convert_time(t, source="rf", target="sigma")
        assert sigma == pytest.approx(scheduler.sigmas[step].item(), rel=1e-13)
        x0 = theirs / (1 + sigma**2)
        scheduler.scale_model_input(theirs, scheduler.timesteps[step])
        theirs = scheduler.step(x0, scheduler.timesteps[step], theirs, pred_original_sample=x0).prev_sample
        ours = rf.ode_step(x0, ours, t, t_next)
        as_theirs = rf.convert_state(ours, t_next, source="rf", target="ve")
        torch.testing.assert_close(as_theirs, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("theirs", "ours"), [("epsilon", "eps"), ("v_prediction", "v_vp"), ("sample", "x0")])
def test_ddim_steps_are_ode_steps(theirs: str, ours: str) -> None:
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type=theirs, clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(10)
    indices = [*scheduler.timesteps.tolist(), 0]
    bars = scheduler.alphas_cumprod.double()[indices].tolist()
    t_list = [rf.convert_time(bar, source="alpha_bar", target="rf") for bar in bars]
    expected = randn(0)
    x = rf.convert_state(expected, t_list[0], source="vp", target="rf")
    for step, (t, t_next) in enumerate(pairwise(t_list[:-1])):
        pred = randn(step + 1)
        expected = scheduler.step(pred, indices[step], expected).prev_sample
        x = rf.ode_step(rf.convert_prediction(pred, x, t, source=ours, target="x0"), x, t, t_next)
        got = rf.convert_state(x, t_next, source="rf", target="vp")
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)

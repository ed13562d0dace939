"""Paths and steps held against diffusers' own schedulers: EDM Euler, DDIM and FlowMatchEuler."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

import fastgen_rf as rf

SHAPE = (2, 3, 8, 8)


def randn(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_euler_steps_in_sigma_are_ode_steps() -> None:
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
        torch.testing.assert_close(
            rf.convert_state(ours, t_next, source="rf", target="ve"), theirs, rtol=2e-5, atol=2e-5
        )


@pytest.mark.parametrize(("prediction_type", "kind"), [("epsilon", "eps"), ("v_prediction", "v_vp"), ("sample", "x0")])
def test_ddim_steps_are_ode_steps(prediction_type: str, kind: str) -> None:
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    scheduler.set_timesteps(10)
    bars = scheduler.alphas_cumprod.double()
    indices = [*scheduler.timesteps.tolist(), 0]
    t_list = [rf.convert_time(bars[index].item(), source="alpha_bar", target="rf") for index in indices]
    theirs = randn(0)
    ours = rf.convert_state(theirs, t_list[0], source="vp", target="rf")
    for step, (t, t_next) in enumerate(pairwise(t_list[:-1])):
        pred = randn(step + 1)
        theirs = scheduler.step(pred, indices[step], theirs).prev_sample
        ours = rf.ode_step(rf.convert_prediction(pred, ours, t, source=kind, target="x0"), ours, t, t_next)
        torch.testing.assert_close(
            rf.convert_state(ours, t_next, source="rf", target="vp"), theirs, rtol=1e-4, atol=1e-4
        )


def test_v_prediction_is_v_vp_and_the_noised_sample_is_the_vp_state() -> None:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    x0, eps, indices = randn(0), randn(1), torch.tensor([20, 900])
    t = rf.convert_time(scheduler.alphas_cumprod[indices].double(), source="alpha_bar", target="rf")
    x_t = rf.add_noise(x0, eps, t)
    noised = scheduler.add_noise(x0, eps, indices)
    torch.testing.assert_close(rf.convert_state(x_t, t, source="rf", target="vp"), noised, rtol=1e-5, atol=1e-6)
    velocity = scheduler.get_velocity(x0, eps, indices)
    for source, pred in (("x0", x0), ("eps", eps), ("flow", eps - x0)):
        got = rf.convert_prediction(pred, x_t, t, source=source, target="v_vp")
        torch.testing.assert_close(got, velocity, rtol=1e-4, atol=1e-5)
    as_v = rf.convert_prediction(eps, x_t, t, source="eps", target="v")
    factor = ((1 - t) ** 2 + t**2).sqrt().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(as_v.double(), velocity.double() * factor, rtol=1e-4, atol=1e-5)
    assert float(factor.max()) < 0.98  # so the two kinds differ here


def test_flow_match_euler_steps_are_flow_steps() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(8)
    theirs = ours = randn(0)
    for step, (t, t_next) in enumerate(pairwise(scheduler.sigmas.tolist())):
        flow = randn(step + 1)
        theirs = scheduler.step(flow, scheduler.timesteps[step], theirs).prev_sample
        ours = rf.flow_step(flow, ours, t, t_next)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)

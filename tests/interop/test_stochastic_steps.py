"""The stochastic steps of docs/howto/sampling.md, compared with the samplers that they are named after.

flow_grpo is not on PyPI. Its step is repeated here from ``flow_grpo/diffusers_patch/sd3_sde_with_logprob.py``, commit
54809b5.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LTXEulerAncestralRFScheduler
from k_diffusion.sampling import get_ancestral_step
from torch import Tensor

import fastgen_rf as rf
from tests.test_documentation import PAGES, program

T_LIST = [1.0, 0.9, 0.75, 0.4, 0.0]


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names of the page after its program has run."""
    names: dict[str, Any] = {"__name__": "sampling"}
    exec(compile(program(PAGES["docs/howto/sampling.md"], "numpy"), "sampling", "exec"), names)
    return names


def randn(seed: int) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ltx(page: dict[str, Any], eta: float) -> None:
    scheduler = LTXEulerAncestralRFScheduler(eta=eta)
    scheduler.set_timesteps(sigmas=T_LIST)
    x = randn(0)
    for step, (t, t_next) in enumerate(pairwise(T_LIST)):
        flow = randn(step + 1)
        generator = torch.Generator().manual_seed(step + 100)
        wanted = scheduler.step(flow, scheduler.timesteps[step], x, generator=generator).prev_sample
        lower = page["lower_times"]["ltx"](t, t_next, eta)
        x = page["stochastic_step"](rf.pred_x0_from_flow(flow, x, t), x, t, t_next, lower, randn(step + 100))
        torch.testing.assert_close(x, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim(page: dict[str, Any], eta: float) -> None:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False)
    scheduler.set_timesteps(10)
    indices = [*scheduler.timesteps.tolist(), 0]
    bars = scheduler.alphas_cumprod.double()[indices].tolist()
    t_list = [rf.convert_time(bar, source="alpha_bar", target="rf") for bar in bars]
    wanted = randn(0)
    x = rf.convert_state(wanted, t_list[0], source="vp", target="rf")
    for step, (t, t_next) in enumerate(pairwise(t_list[:-1])):
        eps, noise = randn(step + 1), randn(step + 100)
        wanted = scheduler.step(eps, indices[step], wanted, eta=eta, variance_noise=noise).prev_sample
        lower = page["lower_times"]["ddim"](t, t_next, eta)
        x = page["stochastic_step"](rf.pred_noise_to_pred_x0(eps, x, t), x, t, t_next, lower, noise)
        got = rf.convert_state(x, t_next, source="rf", target="vp")
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_the_ancestral_step_of_k_diffusion_goes_down_as_far_as_ddim(page: dict[str, Any]) -> None:
    for sigma, sigma_next, eta in ((80.0, 5.0, 1.0), (5.0, 4.9, 0.5), (0.3, 0.01, 0.9), (0.3, 0.1, 0.0)):
        t, t_next = (rf.convert_time(level, source="sigma", target="rf") for level in (sigma, sigma_next))
        lower = rf.convert_time(page["lower_times"]["ddim"](t, t_next, eta), source="rf", target="sigma")
        assert lower == pytest.approx(get_ancestral_step(sigma, sigma_next, eta)[0], rel=1e-12)


def flow_grpo(flow: Any, sigma: float, sigma_prev: float, x: Any, noise_level: float, sde_type: str) -> Any:
    """Mean and standard deviation of the next sample, in the names of flow_grpo."""
    dt = sigma_prev - sigma
    if sde_type == "cps":
        std = sigma_prev * math.sin(noise_level * math.pi / 2)
        x0, x1 = x - sigma * flow, x + flow * (1 - sigma)
        return x0 * (1 - sigma_prev) + x1 * math.sqrt(sigma_prev**2 - std**2), std
    std_dev_t = math.sqrt(sigma / (1 - (T_LIST[1] if sigma == 1 else sigma))) * noise_level
    mean = x * (1 + std_dev_t**2 / (2 * sigma) * dt)
    mean = mean + flow * (1 + std_dev_t**2 * (1 - sigma) / (2 * sigma)) * dt
    return mean, std_dev_t * math.sqrt(-dt)


@pytest.mark.parametrize(("t", "t_next"), list(pairwise(T_LIST)))
def test_flow_grpo(page: dict[str, Any], t: float, t_next: float) -> None:
    x, flow, noise = (randn(seed).double().numpy() for seed in range(3))
    mean, std = flow_grpo(flow, t, t_next, x, 0.7, "sde")
    got, log_probability = page["sde_step"](flow, x, t, t_next, noise, 0.7, second_t=T_LIST[1])
    np.testing.assert_allclose(got, mean + std * noise, rtol=1e-12, atol=1e-12)
    each = torch.distributions.Normal(torch.tensor(mean), std).log_prob(torch.tensor(got))
    np.testing.assert_allclose(log_probability, each.mean((1, 2, 3)), rtol=1e-12)

    mean, std = flow_grpo(flow, t, t_next, x, 0.7, "cps")
    lower = page["lower_times"]["cps"](t, t_next, 0.7)
    got = page["stochastic_step"](rf.pred_x0_from_flow(flow, x, t), x, t, t_next, lower, noise)
    np.testing.assert_allclose(got, mean + std * noise, rtol=1e-12, atol=1e-12)
    zeros, ones = np.zeros((1, 1)), np.ones((1, 1))
    assert rf.renoise(zeros, ones, lower, t_next).item() == pytest.approx(std, rel=1e-12)

"""Recipes of the documentation, compared with the formulas in the code that they replace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

import fastgen_rf as rf

rng = np.random.default_rng(0)


def wan(t: Any) -> Any:
    return np.exp(-2 * (t - 0.5) ** 2) - np.exp(-0.5)


def beta08(t: Any) -> Any:
    return t * np.sqrt(1 - t)


@pytest.mark.parametrize("weight", [wan, beta08])
def test_a_weight_is_the_one_that_anyflow_looks_up(weight: Any) -> None:
    """AnyFlow 549236a, far/schedulers/scheduling_flowmap_euler_discrete.py: set_train_weight, get_train_weight."""
    for shift in (1.0, 5.0):
        timesteps = np.linspace(1.0, 0.0, 1001)
        timesteps = shift * timesteps / (1 + (shift - 1) * timesteps) * 1000
        if weight is wan:
            y = np.exp(-2 * ((timesteps - 1000 / 2) / 1000) ** 2)
            y = y - y.min()
        else:
            y = (timesteps / 1000) ** 1.0 * (1 - timesteps / 1000) ** 0.5
        table = y * (1000 / y.sum())

        grid = rf.shift_timesteps(np.arange(1000, 0, -1) / 1000, shift)
        cfg = rf.SampleTimestepConfig("shifted", shift=shift)
        between = rf.sample_timesteps(999, cfg, rng=np.random.default_rng(0), dtype=np.float64)
        # Between two entries, the table is off by up to half a step times the slope of the weight.
        for t, error in ((grid, 1e-12), (between, 0.05)):
            nearest = np.abs(timesteps[:, None] - 1000 * t).argmin(0)
            assert weight(t) / weight(grid).mean() == pytest.approx(table[nearest], abs=error)


def test_the_target_of_meanflow_is_a_flow_step(xp: Any) -> None:
    """arXiv:2505.13447, algorithm 1: ``v - (t - r) du_dt``."""
    v, du_dt = rng.standard_normal((2, 8, 3), dtype=np.float32)
    t, r = rf.sample_timestep_pairs(8, rf.SampleTimestepConfig("uniform"), rng=0, xp=np)
    got = rf.flow_step(*map(xp.array, (du_dt, v, t, r)))
    assert xp.numpy(got) == pytest.approx(v - (t - r)[:, None] * du_dt, rel=1e-6, abs=1e-6)


def test_the_floor_of_jit_is_a_clipped_time(xp: Any) -> None:
    """JiT, denoiser.py: ``(x_pred - z) / (1 - t).clamp_min(t_eps)``, where t counts from noise to data."""
    x_pred, z = rng.standard_normal((2, 5, 3), dtype=np.float32)
    t = np.array([0.0, 0.01, 0.05, 0.3, 1.0], np.float32)
    theirs = (x_pred - z) / np.maximum(1 - (1 - t), 0.05)[:, None]
    got = rf.x0_to_flow(xp.array(x_pred), xp.array(z), xp.namespace.clip(xp.array(t), 0.05, 1.0))
    assert xp.numpy(got) == pytest.approx(-theirs, rel=1e-5, abs=1e-5)


def test_a_step_of_trigflow_is_an_ode_step() -> None:
    """sCM (arXiv:2410.11081): ``cos(t - s) x - sin(t - s) v``."""
    x, v = rng.standard_normal((2, 4, 3))
    for start, end in ((1.5, 1.4), (np.pi / 2, 0.3), (1.2, 0.0), (0.4, 0.1)):
        t, s = (rf.convert_time(angle, source="angle", target="rf") for angle in (start, end))
        x_t = rf.convert_state(x, t, source="vp", target="rf")
        x0 = rf.convert_prediction(v, x_t, t, source="v_vp", target="x0")
        got = rf.convert_state(rf.ode_step(x0, x_t, t, s), s, source="rf", target="vp")
        assert got == pytest.approx(np.cos(start - end) * x - np.sin(start - end) * v, rel=1e-12, abs=1e-12)


def test_the_schedule_of_ideogram_is_made_of_quantiles() -> None:
    """diffusers 0.42.1, pipeline_ideogram4.py: _logit_normal_sigmas. The module needs transformers to be imported."""
    for steps, mean, std in ((12, 0.5, 1.75), (20, 0.0, 1.75), (48, 1.0, 1.0)):
        t = 1.0 - special.expit(mean + std * special.ndtri(np.linspace(0.0, 1.0, steps + 1)))
        t = np.clip(t, 1.0 / (1.0 + np.exp(0.5 * 18.0)), 1.0 / (1.0 + np.exp(0.5 * -15.0)))
        cfg = rf.SampleTimestepConfig("logitnormal", p_mean=mean, p_std=std, min_t=0.0, max_t=1.0)
        ends = [rf.convert_time(log_snr, source="log_snr", target="rf") for log_snr in (15.0, -18.0)]
        got = np.clip(rf.timestep_quantile(np.linspace(1, 0, steps + 1), cfg), *ends)
        assert got == pytest.approx((1.0 - t)[::-1], rel=1e-9)

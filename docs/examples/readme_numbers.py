"""The numbers in the first screen of the README: errors of conversions and of timesteps in bfloat16.

``python docs/examples/readme_numbers.py`` prints them; PyTorch is needed. The data are standard normal, so the flow
``eps - x_0`` has an RMS of 1.4 and eps an RMS of 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

import fastgen_rf as rf

N = 1_000_000
T = 0.001


def rms(x: Tensor) -> float:
    """Root of the mean square."""
    return x.double().square().mean().sqrt().item()


def conversion(dtype: torch.dtype) -> tuple[float, float]:
    """RMS error of eps from a flow prediction at t = 0.001: by way of x_0 in two calls, and in one call."""
    x0, eps = torch.randn((2, N), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_t, flow = rf.add_noise(x0.to(dtype), eps.to(dtype), T), (eps - x0).to(dtype)
    exact = x_t.double() + (1 - T) * flow.double()  # for the rounded inputs
    by_way_of_x0 = rf.x0_to_eps(rf.pred_x0_from_flow(flow, x_t, T), x_t, T)
    direct = rf.convert_prediction(flow, x_t, T, source="flow", target="eps")
    return rms(by_way_of_x0.double() - exact), rms(direct.double() - exact)


def timesteps() -> tuple[float, float]:
    """Share of the default distribution that a cast to bfloat16 moves to 1, and the largest timestep sampled here."""
    cfg = rf.SampleTimestepConfig()
    cast = rf.sample_timesteps(10 * N, cfg, rng=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    ours = rf.sample_timesteps(10 * N, cfg, rng=torch.Generator().manual_seed(0), dtype=torch.bfloat16)
    return (cast == 1).double().mean().item(), ours.max().item()


if __name__ == "__main__":
    for dtype in (torch.bfloat16, torch.float32):
        by_way_of_x0, direct = conversion(dtype)
        print(f"flow to eps at t = {T}, {dtype}: RMS error {by_way_of_x0:.2g} by way of x_0, {direct:.2g} here")
    share, largest = timesteps()
    print(f"default timesteps cast to bfloat16: {100 * share:.1f} % are 1; sampled in bfloat16: at most {largest}")

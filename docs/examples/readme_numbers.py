"""The numbers of the README and of the pages "Accuracy" and "Why fastgen_rf": errors and timesteps in low precision.

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


def generator() -> torch.Generator:
    """Make a generator that is the same for each measurement."""
    return torch.Generator().manual_seed(0)


def conversion(dtype: torch.dtype, t: float) -> tuple[float, float]:
    """RMS error of eps from a flow prediction: by way of x_0 in two calls, and in one call."""
    x0, eps = torch.randn((2, N), generator=generator(), dtype=torch.float64)
    x_t, flow = rf.add_noise(x0.to(dtype), eps.to(dtype), t), (eps - x0).to(dtype)
    exact = x_t.double() + (1 - t) * flow.double()  # for the rounded inputs
    by_way_of_x0 = rf.x0_to_eps(rf.pred_x0_from_flow(flow, x_t, t), x_t, t)
    direct = rf.convert_prediction(flow, x_t, t, source="flow", target="eps")
    return rms(by_way_of_x0.double() - exact), rms(direct.double() - exact)


def timesteps() -> tuple[float, float]:
    """Share of the default distribution that a cast to bfloat16 moves to 1, and the largest timestep sampled here."""
    cfg = rf.SampleTimestepConfig()
    cast = rf.sample_timesteps(10 * N, cfg, rng=generator()).to(torch.bfloat16)
    ours = rf.sample_timesteps(10 * N, cfg, rng=generator(), dtype=torch.bfloat16)
    return (cast == 1).double().mean().item(), ours.max().item()


def arithmetic(dtype: torch.dtype, t: Tensor) -> tuple[float, float, float]:
    """Share of results that differ from the library's if the same formula is evaluated in lower precision.

    The first two are of add_noise at t: evaluated in float32 with one final cast, and evaluated in dtype throughout.
    The third is of x0_to_flow at t = 0.001, evaluated in float32 with one final cast.
    """
    x0, eps = torch.randn((2, N), generator=generator(), dtype=torch.float64).to(dtype)
    ours = rf.add_noise(x0, eps, t)
    single = (x0.float() * (1 - t) + eps.float() * t).to(dtype)
    narrow = x0 * (1 - t.to(dtype)) + eps * t.to(dtype)
    x_t = rf.add_noise(x0, eps, torch.tensor(T))
    flow = rf.x0_to_flow(x0, x_t, torch.tensor(T))
    single_flow = ((x_t.float() - x0.float()) / torch.tensor(T)).to(dtype)
    pairs = ((single, ours), (narrow, ours), (single_flow, flow))
    one, two, three = ((left != right).double().mean().item() for left, right in pairs)
    return one, two, three


if __name__ == "__main__":
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for t in (T, 0.01, 0.1, 0.5, 0.9):
            by_way_of_x0, direct = conversion(dtype, t)
            print(f"flow to eps at t = {t}, {dtype}: RMS error {by_way_of_x0:.2g} by way of x_0, {direct:.2g} here")
    share, largest = timesteps()
    print(f"default timesteps cast to bfloat16: {100 * share:.1f} % are 1; sampled in bfloat16: at most {largest}")
    random = rf.sample_timesteps(N, rf.SampleTimestepConfig("uniform"), rng=generator())
    single, *_ = arithmetic(torch.bfloat16, torch.tensor(0.3))
    print(f"bfloat16: add_noise at t = 0.3 differs in {100 * single:.2g} % if evaluated in float32")
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        single, narrow, flow = (f"{100 * share:.2g} %" for share in arithmetic(dtype, random))
        print(f"{dtype}: add_noise differs in {single} if evaluated in float32, in {narrow} if in {dtype}")
        print(f"{dtype}: x0_to_flow at t = {T} differs in {flow} if evaluated in float32")

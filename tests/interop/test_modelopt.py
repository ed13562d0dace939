"""nvidia-modelopt: the same bits from its five conversions, gradients, its names, and its configs in our samplers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import modelopt.torch.fastgen as fastgen
import modelopt.torch.fastgen.flow_matching as theirs
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

import fastgen_rf as rf
from fastgen_rf import flow_matching as ours

CONVERSIONS = ("add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SMALL, LARGE = (4, 3, 5, 7), (4, 16, 72, 80)  # LARGE is evaluated in several blocks
LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x,
    lambda x: x.to(memory_format=torch.channels_last),
    lambda x: torch.stack([x, x], -1).flatten(-2)[..., ::2],  # with gaps
    lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    lambda x: x[:1].expand(x.shape),
]
every_conversion = pytest.mark.parametrize("name", CONVERSIONS)


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def times(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Times from 0 to 1, both included."""
    return torch.linspace(0, 1, n, dtype=torch.float64).to(dtype)


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    """Equal in dtype, shape, strides and every bit, the sign of zero included."""
    assert (actual.dtype, actual.shape, actual.stride()) == (expected.dtype, expected.shape, expected.stride())
    integer = {8: torch.int64, 4: torch.int32, 2: torch.int16}[expected.dtype.itemsize]
    assert torch.equal(actual.view(integer), expected.view(integer))


def compare(name: str, *arguments: Tensor) -> None:
    assert_same_bits(getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments))


# Bits


@every_conversion
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_conversion_has_modelopts_bits(name: str, dtype: torch.dtype) -> None:
    for shape in (SMALL, LARGE):
        for t_dtype in (dtype, torch.float64):
            compare(name, randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2), times(4, t_dtype))


# Names and signatures


@pytest.mark.parametrize("name", sorted(theirs.__all__))
def test_our_module_has_every_function_of_modelopts_with_its_arguments_in_order(name: str) -> None:
    def parameters(function: Any) -> dict[str, Any]:
        return {p.name: p.kind for p in inspect.signature(function).parameters.values()}

    expected, actual = parameters(getattr(theirs, name)), parameters(getattr(ours, name))
    assert expected.items() <= actual.items()
    positional = [p for p, kind in expected.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert list(actual)[: len(positional)] == positional


# Configs and samplers


@pytest.mark.parametrize("distribution", ["uniform", "logitnormal", "lognormal", "shifted", "polynomial"])
def test_our_sampler_accepts_modelopts_config_and_has_its_distribution(distribution: str) -> None:
    fields = {"min_t": 0.02, "max_t": 0.98, "shift": 3.0, "p_mean": -0.5, "p_std": 0.8}
    cfg = fastgen.SampleTimestepConfig(time_dist_type=distribution, **fields)
    own = rf.SampleTimestepConfig(distribution, **fields)
    for dtype in (torch.float32, torch.bfloat16):
        samples = []
        for config in (cfg, own):
            torch.manual_seed(0)
            samples.append(ours.sample_timesteps(1000, config, device=torch.device("cpu"), dtype=dtype))
        assert torch.equal(*samples)
        assert (samples[0].dtype, samples[0].shape) == (dtype, (1000,))
        assert cfg.min_t <= samples[0].double().min() and samples[0].double().max() <= cfg.max_t
    cfg = fastgen.SampleTimestepConfig(time_dist_type=distribution)
    torch.manual_seed(0)
    many = [module.sample_timesteps(20_000, cfg, device=torch.device("cpu")) for module in (ours, theirs)]
    assert ks_2samp(*(x.numpy() for x in many)).pvalue > 1e-3

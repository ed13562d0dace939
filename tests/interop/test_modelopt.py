"""nvidia-modelopt: its bits, its names, its configs in our samplers, and its DMDPipeline with our functions."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import modelopt.torch.fastgen as fastgen
import modelopt.torch.fastgen.flow_matching as theirs
import modelopt.torch.fastgen.methods.dmd as dmd
import pytest
import torch
from modelopt.torch.fastgen import pipeline
from scipy.stats import ks_2samp
from torch import Tensor, nn

import fastgen_rf as rf
from fastgen_rf import flow_matching as ours
from tests.backends.torch.reference import assert_same_bits
from tests.backends.torch.tensors import DTYPES, LARGE, SMALL, randn

CONVERSIONS = ("add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow")


# Bits


@pytest.mark.parametrize("name", CONVERSIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_conversion_has_modelopts_bits(name: str, dtype: torch.dtype) -> None:
    for shape, t_dtype in product((SMALL, LARGE), (dtype, torch.float64)):
        t = torch.linspace(0, 1, 4, dtype=torch.float64).to(t_dtype)
        arguments = randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2), t
        assert_same_bits(getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments))


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


# Drop-in: its DMDPipeline trains to the same bits with our functions in place of its own. The seven functions that are
# replaced use no random numbers, so both runs use one random stream.

TO_X0 = {"x0": set(), "eps": {"pred_noise_to_pred_x0"}, "v": {"pred_x0_from_flow"}, "flow": {"pred_x0_from_flow"}}
FROM_X0 = {"x0": set(), "eps": {"x0_to_eps"}, "v": {"x0_to_flow", "rf_alpha", "rf_sigma"}, "flow": {"x0_to_flow"}}
REPLACED = {"add_noise"}.union(*TO_X0.values(), *FROM_X0.values())
SEVERAL: dict[str, Any] = {"student_sample_steps": 3}
SAMPLING: list[dict[str, Any]] = [
    {"student_sample_steps": 1},
    SEVERAL,
    *({**SEVERAL, "backward_simulation": True, "student_sample_type": how} for how in ("ode", "sde")),
]
SHAPE = (4, 2, 3, 3)


class Denoiser(nn.Module):
    """Two convolutions, with the time added in between: the smallest network that the pipeline accepts."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = nn.Conv2d(SHAPE[1], 4, 3, padding=1, dtype=dtype)
        self.outer = nn.Conv2d(4, SHAPE[1], 1, dtype=dtype)

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Any:
        time = timestep.to(hidden_states.dtype)[:, None, None, None]
        return self.outer(nn.functional.silu(self.inner(hidden_states) + time))


def train(config: Any, dtype: torch.dtype = torch.float32, seed: int = 1) -> dict[str, Tensor]:
    """The losses of one step of the student and one of the fake score, and all their gradients, by name."""
    torch.manual_seed(seed)
    student, teacher, fake_score = (Denoiser(dtype) for _ in range(3))
    method = dmd.DMDPipeline(student, teacher, fake_score, config)
    latents, noise = torch.randn(SHAPE).to(dtype), torch.randn(SHAPE).to(dtype)
    results: dict[str, Tensor] = {}
    for model, loss in ((student, method.compute_student_loss), (fake_score, method.compute_fake_score_loss)):
        losses = loss(latents, noise)
        losses["total"].backward()
        results |= {f"{loss.__name__}: {name}": value.detach() for name, value in losses.items()}
        results |= {f"{loss.__name__}: gradient of {name}": p.grad for name, p in model.named_parameters()}
    return results


def assert_ours_train_to_the_same_bits(config: Any, dtype: torch.dtype = torch.float32, seed: int = 1) -> Counter[str]:
    """Return how often each of our functions was called."""
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return getattr(ours, name)(*args, **kwargs)

        return call

    expected = train(config, dtype, seed)
    with pytest.MonkeyPatch.context() as patch:
        for name in REPLACED:
            patch.setattr(dmd, name, counted(name))
        actual = train(config, dtype, seed)
    assert actual.keys() == expected.keys()
    assert all(value.abs().max() > 0 for value in expected.values())
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []
    return calls


@pytest.mark.parametrize("pred_type", TO_X0)
def test_losses_and_gradients_of_every_prediction_type_are_the_same_bits(pred_type: str) -> None:
    times = {"time_dist_type": "logitnormal", "t_list": [0.999, 0.7, 0.3, 0.0]}
    for fake_type, sampling in zip(TO_X0, SAMPLING, strict=True):
        needed = {"add_noise"} | TO_X0[pred_type] | (FROM_X0[fake_type] if fake_type != pred_type else set())
        options = {"pred_type": pred_type, "fake_score_pred_type": fake_type, "sample_t_cfg": times}
        config = fastgen.DMDConfig(**options, **sampling)
        assert needed <= set(assert_ours_train_to_the_same_bits(config, torch.bfloat16))


def test_the_patch_of_the_documentation_replaces_every_function_and_keeps_the_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (Path(__file__).parents[2] / "docs/howto/pytorch.md").read_text(encoding="utf-8")
    functions, samplers = re.findall(r"```{code-block} python\n(.*?)```", page, re.DOTALL)
    for module, names in ((dmd, {*REPLACED, "sample_from_t_list"}), (pipeline, {"sample_timesteps"})):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))  # restores it after the test
    config = fastgen.DMDConfig(pred_type="flow", fake_score_pred_type="eps", sample_t_cfg={"t_list": [1.0, 0.5, 0.0]})
    expected = train(config)
    names: dict[str, Any] = {}
    exec(functions, names)
    assert all(getattr(dmd, name) is getattr(ours, name) for name in REPLACED)
    actual = train(config)
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []
    exec(samplers, names)
    assert pipeline.sample_timesteps is ours.sample_timesteps
    assert all(value.isfinite().all() for value in train(config).values())

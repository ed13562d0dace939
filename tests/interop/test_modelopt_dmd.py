"""Drop-in: nvidia-modelopt's DMDPipeline trains to the same bits with our functions in place of its own.

The seven functions that are replaced use no random numbers, so both runs use one random stream.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import modelopt.torch.fastgen as fastgen
import modelopt.torch.fastgen.methods.dmd as dmd
import pytest
import torch
from modelopt.torch.fastgen import pipeline
from torch import Tensor, nn

from fastgen_rf import flow_matching

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
            return getattr(flow_matching, name)(*args, **kwargs)

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
    assert all(getattr(dmd, name) is getattr(flow_matching, name) for name in REPLACED)
    actual = train(config)
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []
    exec(samplers, names)
    assert pipeline.sample_timesteps is flow_matching.sample_timesteps
    assert all(value.isfinite().all() for value in train(config).values())

"""Drop-in: DMDPipeline of nvidia-modelopt trains to the same numbers with our functions in the place of its own.

The seven functions replaced are those that it imports and that draw nothing, so both runs use one random stream.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastgen_rf import flow_matching
from tests.cases.names import every_published_law
from tests.interop.modelopt_fastgen import dmd, fastgen, pipeline

REPLACED = (
    "add_noise",
    "pred_noise_to_pred_x0",
    "pred_x0_from_flow",
    "rf_alpha",
    "rf_sigma",
    "x0_to_eps",
    "x0_to_flow",
)
PREDICTIONS = ("x0", "eps", "v", "flow")
ROLL_OUTS: dict[str, dict[str, Any]] = {
    "single_step": {"student_sample_steps": 1},
    "multi_step": {"student_sample_steps": 3},
    "backward_simulation_ode": {
        "student_sample_steps": 3,
        "backward_simulation": True,
        "student_sample_type": "ode",
    },
    "backward_simulation_sde": {
        "student_sample_steps": 3,
        "backward_simulation": True,
        "student_sample_type": "sde",
    },
}
SHAPE = (4, 2, 3, 3)


class Denoiser(nn.Module):
    """Two convolutions between which the time is added: the smallest network that a diffusion pipeline takes."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = nn.Conv2d(SHAPE[1], 4, 3, padding=1, dtype=dtype)
        self.outer = nn.Conv2d(4, SHAPE[1], 1, dtype=dtype)

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        time = timestep.to(hidden_states.dtype)[:, None, None, None]
        result = self.outer(nn.functional.silu(self.inner(hidden_states) + time))
        assert isinstance(result, Tensor)
        return result


def train(config: fastgen.DMDConfig, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """The losses of one student and one fake-score step, and every gradient that they leave, by name."""
    torch.manual_seed(seed)
    student, teacher, fake_score = (Denoiser(dtype) for _ in range(3))
    method = dmd.DMDPipeline(student, teacher, fake_score, config)
    latents, noise = torch.randn(SHAPE).to(dtype), torch.randn(SHAPE).to(dtype)
    numbers: dict[str, Tensor] = {}
    for model, compute in (
        (student, method.compute_student_loss),
        (fake_score, method.compute_fake_score_loss),
    ):
        losses = compute(latents, noise)
        losses["total"].backward()
        step = compute.__name__
        numbers |= {f"{step}: {name}": value.detach() for name, value in losses.items()}
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            numbers[f"{step}: gradient of {name}"] = parameter.grad
    return numbers


@pytest.fixture
def calls() -> Counter[str]:
    return Counter()


def drop_in(monkeypatch: pytest.MonkeyPatch, calls: Counter[str]) -> None:
    """Put our functions in the pipeline's module, each of them counted."""

    def counted(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return getattr(flow_matching, name)(*args, **kwargs)

        return call

    for name in REPLACED:
        monkeypatch.setattr(dmd, name, counted(name))


def expected_calls(config: fastgen.DMDConfig) -> set[str]:
    """The conversions that a student and a fake-score step cannot do without."""
    to_x0 = {"x0": set(), "eps": {"pred_noise_to_pred_x0"}, "v": {"pred_x0_from_flow"}, "flow": {"pred_x0_from_flow"}}
    from_x0 = {"x0": set(), "eps": {"x0_to_eps"}, "v": {"x0_to_flow"}, "flow": {"x0_to_flow"}}
    native, target = config.pred_type, config.fake_score_pred_type
    names = {"add_noise"} | to_x0[native]
    if target not in (native, "x0"):
        names |= from_x0[target]
    return names | ({"rf_alpha", "rf_sigma"} if target == "v" else set())


@pytest.mark.parametrize("pred_type", PREDICTIONS)
@pytest.mark.parametrize("fake_score_pred_type", PREDICTIONS)
@pytest.mark.parametrize("roll_out", ROLL_OUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_losses_and_gradients_are_the_same_bits(
    pred_type: str,
    fake_score_pred_type: str,
    roll_out: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    calls: Counter[str],
) -> None:
    config = fastgen.DMDConfig(
        pred_type=pred_type,
        fake_score_pred_type=fake_score_pred_type,
        sample_t_cfg={"time_dist_type": "logitnormal", "t_list": [0.999, 0.7, 0.3, 0.0]},
        **ROLL_OUTS[roll_out],
    )
    expected = train(config, dtype, seed=1)
    drop_in(monkeypatch, calls)
    actual = train(config, dtype, seed=1)
    assert expected_calls(config) <= set(calls)
    assert actual.keys() == expected.keys()
    assert {name for name, value in expected.items() if value.abs().max() > 0} == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sample_type", ["ode", "sde"])
def test_backward_simulation_from_every_rung(
    sample_type: str, seed: int, monkeypatch: pytest.MonkeyPatch, calls: Counter[str]
) -> None:
    config = fastgen.DMDConfig(
        pred_type="flow",
        fake_score_pred_type="eps",
        student_sample_steps=4,
        student_sample_type=sample_type,
        backward_simulation=True,
        sample_t_cfg={"t_list": [1.0, 0.75, 0.5, 0.25, 0.0]},
    )
    expected = train(config, torch.float32, seed)
    drop_in(monkeypatch, calls)
    actual = train(config, torch.float32, seed)
    assert calls["add_noise"] >= 2
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def test_the_comparison_would_notice_a_wrong_function(monkeypatch: pytest.MonkeyPatch) -> None:
    config = fastgen.DMDConfig(pred_type="flow", fake_score_pred_type="x0")
    expected = train(config, torch.float32, seed=1)
    monkeypatch.setattr(dmd, "pred_x0_from_flow", lambda v, x_t, t: flow_matching.pred_x0_from_flow(-v, x_t, t))
    actual = train(config, torch.float32, seed=1)
    assert all(not torch.equal(actual[name], value) for name, value in expected.items())


def test_every_replaced_function_is_one_that_the_pipeline_imports() -> None:
    drawing = {"sample_from_t_list", "sample_timesteps", "expand_like"}
    assert set(REPLACED) == set(flow_matching.__all__) - drawing
    assert all(getattr(dmd, name).__module__ == "modelopt.torch.fastgen.flow_matching" for name in REPLACED)


@every_published_law
def test_our_samplers_serve_the_pipeline_too(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []

    def recorded(name: str) -> Any:
        def draw(*args: Any, **kwargs: Any) -> Any:
            drawn.append(getattr(flow_matching, name)(*args, **kwargs))
            return drawn[-1]

        return draw

    monkeypatch.setattr(pipeline, "sample_timesteps", recorded("sample_timesteps"))
    monkeypatch.setattr(dmd, "sample_from_t_list", recorded("sample_from_t_list"))
    config = fastgen.DMDConfig(
        student_sample_steps=3, sample_t_cfg={"time_dist_type": law, "t_list": [0.999, 0.7, 0.3, 0.0]}
    )
    numbers = train(config, torch.float32, seed=1)
    assert [t.shape for t in drawn] == [(4,)] * 4  # a rung and a time, for the student and for the fake score
    assert all(value.isfinite().all() for value in numbers.values())

"""PyTorch: derivatives of ``convert_time`` at the ends of each time, and of the TrigFlow recipe there."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import jvp

import fastgen_rf as rf
from fastgen_rf.backends._torch import TorchBackend
from tests.time_derivatives import ENDS, PAIRS, SMOOTH, derivatives, trigflow, trigflow_slope, trigflow_values


def convert(source: str, target: str) -> Callable[[Tensor], Tensor]:
    return lambda time: rf.convert_time(time, source=source, target=target)


def reverse(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.func.grad(lambda x: function(x).sum())(x)


def forward(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: jvp(function, (x,), (torch.ones_like(x),))[1]


both_modes = pytest.mark.parametrize("mode", [reverse, forward])


@both_modes
def test_slopes_at_the_ends_are_the_limits(mode: Any) -> None:
    for pair in PAIRS:
        slope = mode(convert(*pair))(torch.tensor(ENDS[pair[0]]))
        np.testing.assert_allclose(slope.numpy(), derivatives(*pair, 1), 1e-6, 1e-15, err_msg=" to ".join(pair))


@both_modes
def test_second_derivatives_at_the_ends_are_the_limits_where_the_slopes_are_finite(mode: Any) -> None:
    for pair in SMOOTH:
        curvature = mode(mode(convert(*pair)))(torch.tensor(ENDS[pair[0]]))
        finite = np.isfinite(derivatives(*pair, 1))
        wanted = derivatives(*pair, 2)[finite]
        np.testing.assert_allclose(curvature.numpy()[finite], wanted, 1e-6, 1e-15, err_msg=" to ".join(pair))


@both_modes
def test_an_angle_outside_its_range_has_the_slope_of_the_end_within_rounding_and_0_beyond(mode: Any) -> None:
    near = torch.tensor([-1e-7, -1e-17, math.pi / 2 + 1e-15, math.pi / 2 + 1e-7], dtype=torch.float64)
    beyond = torch.tensor([-0.5, -2e-7, math.pi / 2 + 2e-7, 2.0], dtype=torch.float64)
    for angles, slope in ((near, 1.0), (beyond, 0.0)):
        assert convert("angle", "rf")(angles).tolist() == [0.0, 0.0, 1.0, 1.0]
        np.testing.assert_allclose(mode(convert("angle", "rf"))(angles).numpy(), slope, 1e-6)


def test_a_compiled_angle_has_the_slope_of_the_end() -> None:
    angle = torch.tensor([*ENDS["angle"], 2.0], requires_grad=True)
    compiled = torch.compile(convert("angle", "rf"), fullgraph=True, backend="aot_eager")
    (slope,) = torch.autograd.grad(compiled(angle).sum(), angle)
    np.testing.assert_allclose(slope.numpy(), [1.0, 1.0, 0.0], 1e-6)


def test_the_trigflow_recipe_is_right_under_jvp_at_both_ends() -> None:
    x, angle, dx, d_angle = map(torch.from_numpy, trigflow_values())
    _, slope = jvp(trigflow(), (x, angle), (dx, d_angle))
    np.testing.assert_allclose(slope.numpy(), trigflow_slope(), 2e-6, 2e-6)


@both_modes
def test_slopes_at_the_ends_without_float64_are_the_limits(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchBackend, "has_float64", lambda self, device: False)
    for pair in permutations(("rf", "sigma", "alpha_bar"), 2):
        slope = mode(convert(*pair))(torch.tensor(ENDS[pair[0]]))
        np.testing.assert_allclose(slope.numpy(), derivatives(*pair, 1), 1e-6, err_msg=" to ".join(pair))

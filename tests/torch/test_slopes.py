"""PyTorch: slopes of quantiles at the ends of the law, and second derivatives of quantiles and densities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import fastgen_rf as rf
from tests.cases.slopes import AT, MODE, MODE_SECOND, every_cut, every_function, every_law_s_ends, second_difference


def slopes(cfg: Any, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Slopes at u = 0 and 1 by reverse mode, by forward mode, and on the diagonal of the Jacobian."""
    at = torch.tensor([0.0, 1.0, 0.05], dtype=dtype)

    def quantile(x: Any) -> Any:
        return rf.timestep_quantile(x, cfg)

    (reverse,) = torch.autograd.grad(quantile(at.requires_grad_()).sum(), at)
    at = at.detach()
    forward = torch.func.jvp(quantile, (at,), (torch.ones_like(at),))[1]
    jacobian = torch.func.jacrev(quantile)(at)
    assert jacobian.count_nonzero() == reverse.count_nonzero()
    assert reverse[2] > 0 or cfg.time_dist_type == "polynomial"
    return reverse[:2], forward[:2], jacobian.diagonal()[:2]


@every_law_s_ends
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_slope_at_an_end_that_a_law_reaches(cfg: Any, ends: list[float], dtype: torch.dtype) -> None:
    for found in slopes(cfg, dtype):
        np.testing.assert_allclose(found, ends, rtol=1e-6)


@every_cut
def test_the_slope_at_a_bound_that_cuts_a_law_off_is_0(cfg: Any) -> None:
    for found in slopes(cfg, torch.float32):
        assert found.tolist() == [0, 0]


@every_function
def test_second_derivatives_are_those_of_differences(function: Any) -> None:
    at = torch.tensor(AT, requires_grad=True)
    (first,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
    second = torch.autograd.grad(first.sum(), at)[0] if first.requires_grad else torch.zeros(3)
    np.testing.assert_allclose(second, second_difference(function, AT), rtol=1e-5, atol=1e-5)


def test_the_second_derivative_of_mode_s_density() -> None:
    t = torch.tensor(0.2, dtype=torch.float64)
    density = torch.func.grad(torch.func.grad(lambda t: rf.timestep_density(t, MODE)))
    assert float(density(t)) == pytest.approx(MODE_SECOND, rel=1e-6)

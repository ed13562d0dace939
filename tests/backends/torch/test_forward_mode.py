"""Forward mode on PyTorch: dual numbers at every size, and both modes through functions of times."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import fastgen_rf as rf
from tests import exact
from tests.backends.torch.reference import assert_rounded_once, reference
from tests.backends.torch.tensors import FOUR, both_sizes, inputs, randn
from tests.catalogue import DENSITIES, INSIDE, QUANTILES, TIMES, Row


@both_sizes
def test_each_argument_passes_its_tangent_on(shape: tuple[int, ...]) -> None:
    primals = inputs(shape)
    tangents = [randn(*x.shape, seed=seed) for seed, x in enumerate(primals, 4)]

    def pushed(call: Any, wanted: tuple[int, ...]) -> Tensor:
        with forward_ad.dual_level():
            given = [forward_ad.make_dual(x, tangents[at]) if at in wanted else x for at, x in enumerate(primals)]
            tangent = forward_ad.unpack_dual(call(*given)).tangent
            return torch.zeros(shape) if tangent is None else tangent

    for row in FOUR:
        for wanted in ((0,), (1,), (2,), (0, 1, 2)):
            assert_rounded_once([pushed(row, wanted)], [pushed(lambda *x, row=row: reference(row, *x), wanted)])


# Every function of times, whose derivatives go through torch's own functions

SMOOTH = [row for row in (*QUANTILES, *DENSITIES) if row.options["cfg"].time_dist_type != "polynomial"]


@pytest.mark.parametrize("row", [*TIMES, *SMOOTH], ids=lambda row: row.name)
def test_derivatives_of_functions_of_times_are_exact(row: Row) -> None:
    at = torch.from_numpy(INSIDE)
    first, second = exact.partial(row.exact, 0), exact.partial(exact.partial(row.exact, 0), 0)
    wanted = exact.elementwise(first, [INSIDE]).astype(float)
    reverse = torch.func.grad(lambda t: row(t).sum())
    for ours in (reverse(at), torch.func.jvp(row, (at,), (torch.ones_like(at),))[1]):
        assert ours.numpy() == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    if "cfg" in row.options and row.options["cfg"].truncate:
        with exact.mp.workdps(100):
            wanted = exact.elementwise(second, [INSIDE[::3]]).astype(float)
        again = torch.func.grad(lambda t: reverse(t).sum())(at)
        assert again[::3].numpy() == pytest.approx(wanted, rel=1e-7, abs=1e-7)


def test_derivatives_of_quantiles_are_finite_close_to_the_ends() -> None:
    for name in ("lognormal", "logitnormal", "beta", "mode"):
        u = torch.tensor([2.0**-60, 2.0**-54, 0.3, 1 - 2.0**-53], dtype=torch.float64, requires_grad=True)
        cfg = rf.SampleTimestepConfig(name, truncate=True, p_std=0.1 if name == "lognormal" else 1.0)
        (slope,) = torch.autograd.grad(rf.timestep_quantile(u, cfg).sum(), u)
        assert slope.isfinite().all()

"""PyTorch, forward mode: func.jvp and forward_ad through every public function with a time, alone and composed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap

import fastgen_rf as rf
from tests.cases import differences
from tests.cases.differences import LEVELS, assert_close, directions, every_call, every_pair_of_times, values

SMALL, LARGE = (4, 6), (4, 80_000)  # the large one takes one pass in blocks where no derivative is asked for
both_sizes = pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])


def native(arrays: list[np.ndarray]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(x) for x in arrays)


@every_call
@both_sizes
def test_func_jvp(call: Any, shape: tuple[int, ...]) -> None:
    at, d = values(*shape), directions(*shape)
    value, tangent = jvp(call, native(at), native(d))
    assert tangent.dtype == value.dtype == torch.float32
    assert_close(tangent, differences.first(call, at, d))


@every_call
@both_sizes
def test_dual_numbers(call: Any, shape: tuple[int, ...]) -> None:
    at, d = values(*shape), directions(*shape)
    with forward_ad.dual_level():
        result = call(*map(forward_ad.make_dual, native(at), native(d)))
        primal, tangent = forward_ad.unpack_dual(result)
        np.testing.assert_array_equal(primal, call(*native(at)))
        assert_close(tangent, differences.first(call, at, d))


@every_call
@both_sizes
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_dual_number_in_one_argument(call: Any, shape: tuple[int, ...], place: int) -> None:
    at, d = values(*shape), directions(*shape)
    wanted = differences.first(call, at, [x if i == place else np.zeros_like(x) for i, x in enumerate(d)])
    with forward_ad.dual_level():
        arguments = list(native(at))
        arguments[place] = forward_ad.make_dual(arguments[place], native(d)[place])
        tangent = forward_ad.unpack_dual(call(*arguments)).tangent
        if tangent is None:
            assert not wanted.any()
        else:
            assert_close(tangent, wanted)


@every_call
def test_jvp_of_vmap_and_vmap_of_jvp(call: Any) -> None:
    at, d = values(*SMALL), directions(*SMALL)
    wanted = differences.first(call, at, d)
    assert_close(jvp(vmap(call), native(at), native(d))[1].reshape(wanted.shape), wanted)
    by_row = vmap(lambda x, v: jvp(call, x, v)[1])(native(at), native(d))
    assert_close(by_row.reshape(wanted.shape), wanted)


@every_call
def test_jvp_of_jvp(call: Any) -> None:
    at, d, e = values(*SMALL), directions(*SMALL), directions(*SMALL, seed=2)

    def once(*x: Tensor) -> Any:
        return jvp(call, x, native(d))[1]

    assert_close(jvp(once, native(at), native(e))[1], differences.second(call, at, d, e), 1e-4)


@every_call
def test_grad_of_jvp(call: Any) -> None:
    at, d, e = values(*SMALL), directions(*SMALL), directions(*SMALL, seed=2)
    weight = np.random.default_rng(3).standard_normal(np.shape(call(*at)))

    def loss(*x: Tensor) -> Any:
        return (jvp(call, x, native(d))[1] * torch.from_numpy(weight)).sum()

    gradients = grad(loss, argnums=(0, 1, 2, 3))(*native(at))
    along = sum(float(np.vdot(g.numpy(), v)) for g, v in zip(gradients, e, strict=True))
    assert along == pytest.approx(float(np.vdot(differences.second(call, at, d, e), weight)), rel=1e-4, abs=1e-4)


@every_pair_of_times
def test_both_modes_see_through_every_pair_of_times(source: str, target: str) -> None:
    level = np.array(LEVELS[source])

    def convert(time: Any) -> Any:
        return rf.convert_time(time, source=source, target=target)

    wanted = differences.first(convert, [level], [np.ones(3)], 1e-6)
    time = torch.from_numpy(level).requires_grad_()
    np.testing.assert_allclose(torch.autograd.grad(convert(time).sum(), time)[0], wanted, rtol=1e-7)
    np.testing.assert_allclose(jvp(convert, (time.detach(),), (torch.ones_like(time),))[1], wanted, rtol=1e-7)


@every_call
@both_sizes
def test_a_backward_pass_through_dual_numbers(call: Any, shape: tuple[int, ...]) -> None:
    at, d, e = values(*shape), directions(*shape), directions(*shape, seed=2)
    leaves = [x.clone().requires_grad_() for x in native(at)]
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(call(*map(forward_ad.make_dual, leaves, native(d)))).tangent
        weight = torch.randn(tangent.shape, generator=torch.Generator().manual_seed(0))
        gradients = (
            torch.autograd.grad((tangent * weight).double().sum(), leaves, allow_unused=True)
            if tangent.requires_grad
            else ()
        )
    along = sum(
        float((g.double() * torch.from_numpy(v)).sum()) for g, v in zip(gradients, e, strict=False) if g is not None
    )
    wanted = differences.second(call, at, d, e)
    scale = float(np.linalg.norm(wanted) + 1)
    assert along == pytest.approx(float(np.vdot(wanted, weight.numpy())), abs=1e-4 * scale)

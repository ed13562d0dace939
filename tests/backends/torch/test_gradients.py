"""Reverse mode on PyTorch: the gradients of the float64 expression, rounded once, for small and for large tensors."""

from __future__ import annotations

from itertools import chain, combinations, product

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import fastgen_rf as rf
from tests.backends.torch.reference import (
    assert_rounded_once,
    check_gradients,
    gradients,
    gradients_of,
    reference_gradients,
)
from tests.backends.torch.tensors import FOUR, LARGE, SMALL, TWO, both_sizes, every_size, inputs, laid_out, randn, times
from tests.catalogue import Row

every_row = pytest.mark.parametrize("row", FOUR, ids=lambda row: row.name)
SUBSETS = list(chain.from_iterable(combinations(range(3), size) for size in (1, 2, 3)))


@every_row
def test_gradcheck_and_gradgradcheck_in_reverse_forward_and_batched_mode(row: Row) -> None:
    for t_shape in ((4,), (4, 1, 1, 1), (1, 3), ()):
        x, y = laid_out("contiguous", SMALL, torch.float64, 1), laid_out("permuted", SMALL, torch.float64, 2)
        given = [z.detach().requires_grad_() for z in (x, y, times(*t_shape, dtype=torch.float64))]
        checks = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
        assert gradcheck(row, given, fast_mode=True, **checks)
    given = inputs((2, 3), *(torch.float64,) * 3, wanted=(0, 1, 2))
    assert gradgradcheck(row, given, check_fwd_over_rev=True, check_batched_grad=True)


@every_row
@every_size
def test_every_subset_of_the_arguments_gets_its_gradients(row: Row, shape: tuple[int, ...]) -> None:
    for wanted in SUBSETS:
        check_gradients(row, inputs(shape, torch.bfloat16, torch.float64, torch.float32, wanted=wanted))
    # At 0.3 so many exact results are ties of float32 that float64's last bit shows.
    check_gradients(row, [*inputs(shape, wanted=(0, 1))[:2], 0.3141592653589793])


T_SHAPES = [(4, 16), (1, 1, 1, 96), (4, 1, 1, 1), (), LARGE]


def test_the_gradient_of_t_is_summed_over_the_axes_that_share_it() -> None:
    for row in FOUR[1:]:
        for t_shape in T_SHAPES:
            first, second, _ = inputs(LARGE, wanted=(0, 1))
            check_gradients(row, [first, second, times(*t_shape).clone().requires_grad_()])
        for shape in ((20_000, 17), (1, 600_001)):
            check_gradients(row, inputs(shape, wanted=(0, 1, 2)))


@pytest.mark.parametrize("layout", ["channels_last", "permuted", "strided", "expanded"])
def test_gradients_have_the_layout_that_torch_gives(layout: str) -> None:
    for shape, row in product((SMALL, LARGE), TWO):
        first, second = (laid_out(layout, shape, torch.float32, seed).detach().requires_grad_() for seed in (1, 2))
        given = [first, second, times(4).clone().requires_grad_()]
        for upstream in (laid_out(layout, shape, torch.float32, 3), torch.ones(()).expand(shape)):
            ours, wanted = gradients(row, given, upstream), reference_gradients(row, given, upstream)
            assert_rounded_once(ours, wanted)
            assert [x.stride() for x in ours] == [x.stride() for x in wanted]


@pytest.mark.parametrize("n", [1, 2**18])
def test_below_the_least_divisor_the_gradient_of_t_is_that_of_a_constant_divisor(n: int) -> None:
    """eps = (x_t - (1 - t) x0) / max(t, 1e-6)"""
    for time, slope in ((0.0, 3e6), (1e-6, -2e12)):  # at t = 1e-6 the divisor is t
        x0, x_t = (torch.full((1, n), value, requires_grad=True) for value in (3.0, 5.0))
        t = torch.full((1,), time, dtype=torch.float64, requires_grad=True)
        rf.x0_to_eps(x0, x_t, t).sum().backward()
        assert [x.grad.double().sum().item() / n for x in (x0, x_t, t)] == pytest.approx([-1e6, 1e6, slope], rel=1e-5)


@both_sizes
def test_a_time_may_be_overwritten_between_a_call_and_its_backward_pass(shape: tuple[int, ...]) -> None:
    upstream = randn(*shape, seed=3)
    for row, dtype, wanted in product(FOUR, (torch.float32, torch.float64), ((0,), (2,), (0, 1, 2))):
        given = inputs(shape, torch.float32, torch.float32, dtype, wanted=wanted)
        expected = reference_gradients(row, given, upstream)
        result = row(*given)
        with torch.no_grad():
            given[2].mul_(1000)
        assert_rounded_once(gradients_of(result, [given[at] for at in wanted], upstream), expected)


def test_a_batch_of_upstream_gradients_of_large_tensors_gives_a_batch_of_gradients() -> None:
    for row in FOUR[:3]:
        given, upstream = inputs(LARGE, wanted=(0, 1, 2)), randn(2, *LARGE, seed=3)
        batched = torch.autograd.grad(row(*given), given, upstream, is_grads_batched=True)
        for k in range(2):
            wanted = reference_gradients(row, given, upstream[k])
            assert_rounded_once([x[k] for x in batched], wanted)


@both_sizes
def test_tensors_made_under_inference_mode_let_the_other_gradients_through(shape: tuple[int, ...]) -> None:
    float64, bfloat16 = (torch.float64,) * 3, (torch.bfloat16, torch.bfloat16, torch.float32)
    for row, dtypes, made in product(FOUR, (float64, bfloat16), ((0,), (1,), (2,), (1, 2))):
        plain = inputs(shape, *dtypes, wanted=tuple(k for k in range(3) if k not in made))
        with torch.inference_mode():
            given = [x.detach().clone() if k in made else x for k, x in enumerate(plain)]
        assert all(given[k].is_inference() for k in made)
        upstream = randn(*shape, dtype=dtypes[row.like], seed=3)
        wanted = reference_gradients(row, plain, upstream)
        assert_rounded_once(gradients(row, given, upstream), wanted)

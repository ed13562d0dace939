"""PyTorch, the gradients: those of the float64 expression, rounded once, in reverse, forward and repeated mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from tests.torch.plain import (
    CONVERSIONS,
    LARGE,
    ONE_BLOCK,
    SMALL,
    Conversion,
    both_sizes,
    every_conversion,
    laid_out,
    randn,
    times,
    ulps_apart,
)

# torch's own decompositions for forward mode still use it
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

SUBSETS = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
every_subset = pytest.mark.parametrize("wanted", SUBSETS, ids=str)
T_SHAPES = [(4,), (4, 3), (4, 1), (4, 1, 1, 1), (1, 3), (1,), (), SMALL]


def differentiable(wanted: tuple[int, ...], *inputs: Tensor) -> list[Tensor]:
    """Aliases of the inputs of which those at the wanted places require grad."""
    return [x.detach().requires_grad_(place in wanted) for place, x in enumerate(inputs)]


def gradients(function: Any, wanted: tuple[int, ...], inputs: list[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    """Vector-Jacobian products of ``function(*inputs)`` with the inputs at the wanted places."""
    return torch.autograd.grad(function(*inputs), [inputs[place] for place in wanted], upstream)


def assert_rounded_once(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Equal in dtype and shape, and within one ulp; float64 itself within the rounding of long sums."""
    for ours, plain in zip(actual, expected, strict=True):
        if plain.dtype == torch.float64:
            torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10 * float(plain.abs().max()))
        else:
            assert ulps_apart(ours, plain) <= 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # at first = 3, second = 5 and t = 1/4, by hand
        ("add_noise", (0.75, 0.25, 2.0)),  # 1 - t, t, eps - x0
        ("pred_noise_to_pred_x0", (-1 / 3, 4 / 3, 32 / 9)),  # -t/(1-t), 1/(1-t), (x_t - eps)/(1-t)^2
        ("pred_x0_from_flow", (-0.25, 1.0, -3.0)),  # -t, 1, -v
        ("x0_to_eps", (-3.0, 4.0, -32.0)),  # -(1-t)/t, 1/t, (x0 - x_t)/t^2
        ("x0_to_flow", (-4.0, 4.0, -32.0)),  # -1/t, 1/t, (x0 - x_t)/t^2
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_gradients_are_the_derivatives_by_hand(
    name: str, expected: tuple[float, float, float], dtype: torch.dtype
) -> None:
    if name == "pred_noise_to_pred_x0":
        expected = (expected[0], expected[1], (5 - 3) / 0.75**2)
    inputs = [torch.tensor([value], dtype=dtype, requires_grad=True) for value in (3.0, 5.0, 0.25)]
    CONVERSIONS[name].ours(*inputs).backward()
    for x, derivative in zip(inputs, expected, strict=True):
        assert x.grad is not None
        assert x.grad.dtype == dtype
        assert x.grad.item() == pytest.approx(torch.tensor(derivative, dtype=dtype).item(), rel=1e-15)


@every_conversion
@pytest.mark.parametrize("t_shape", T_SHAPES, ids=str)
def test_gradcheck_in_reverse_forward_and_batched_mode(conversion: Conversion, t_shape: tuple[int, ...]) -> None:
    inputs = differentiable((0, 1, 2), laid_out("contiguous", SMALL, torch.float64, 1), *_pair(t_shape))
    assert gradcheck(
        conversion.ours,
        inputs,
        fast_mode=True,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@every_conversion
@pytest.mark.parametrize("t_shape", [(2,), (2, 3), (), (1, 3)], ids=str)
def test_gradgradcheck_reverse_over_reverse_and_forward_over_reverse(
    conversion: Conversion, t_shape: tuple[int, ...]
) -> None:
    inputs = [randn(2, 3, dtype=torch.float64, seed=1), randn(2, 3, dtype=torch.float64, seed=2)]
    t = times(*t_shape, dtype=torch.float64)
    assert gradgradcheck(
        conversion.ours, differentiable((0, 1, 2), *inputs, t), check_fwd_over_rev=True, check_batched_grad=True
    )


def _pair(t_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return laid_out("permuted", SMALL, torch.float64, 2), times(*t_shape, dtype=torch.float64)


SINGLE = (torch.float32, torch.float32, torch.float32)
HALF = (torch.bfloat16, torch.bfloat16, torch.bfloat16)
MIXED = (torch.float16, torch.float32, torch.float64)
OTHERWISE_MIXED = (torch.bfloat16, torch.float64, torch.float32)


@every_conversion
@every_subset
@pytest.mark.parametrize(
    ("shape", "dtypes"),
    [
        *((SMALL, dtypes) for dtypes in (SINGLE, HALF, MIXED, OTHERWISE_MIXED)),
        (ONE_BLOCK, SINGLE),
        (LARGE, SINGLE),
        (LARGE, OTHERWISE_MIXED),
    ],
    ids=str,
)
def test_each_subset_of_arguments_gets_float64_s_gradient_in_its_own_dtype(
    conversion: Conversion, wanted: tuple[int, ...], shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]
) -> None:
    values = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    inputs = differentiable(wanted, *(x.to(dtype) for x, dtype in zip(values, dtypes, strict=True)))
    upstream = randn(*shape, dtype=dtypes[conversion.like], seed=3)
    actual = gradients(conversion.ours, wanted, inputs, upstream)
    assert [gradient.dtype for gradient in actual] == [dtypes[place] for place in wanted]
    assert_rounded_once(actual, gradients(conversion.plain, wanted, inputs, upstream))


@every_conversion
@pytest.mark.parametrize(
    ("shape", "t_shape", "dtype"),
    [
        ((1, 400_001), (1,), torch.float32),
        ((1, 600_001), (1,), torch.bfloat16),
        ((20_000, 17), (20_000,), torch.float32),
        ((40_000, 17), (40_000,), torch.bfloat16),
        ((400_001,), (400_001,), torch.float32),
        ((4, 8, 16, 40, 20), (4, 8), torch.float32),
        ((4, 8, 16, 40, 30), (4, 8), torch.bfloat16),
        ((4, 8, 16, 40, 20), (4, 8), torch.float64),
        ((4, 8, 16, 40, 30), (4, 1, 16), torch.float32),
        ((4, 8, 16, 40, 20), (1, 8), torch.float32),
        ((4, 8, 16, 40, 30), (1,), torch.bfloat16),
        ((4, 8, 16, 40, 20), (), torch.float32),
        (ONE_BLOCK, ONE_BLOCK, torch.float32),
        (LARGE, LARGE, torch.float32),
        *((SMALL, t_shape, dtype) for t_shape in T_SHAPES for dtype in (torch.float64, torch.bfloat16)),
    ],
    ids=str,
)
def test_the_gradient_of_t_sums_over_what_each_t_reached(
    conversion: Conversion, shape: tuple[int, ...], t_shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    inputs = differentiable(
        (0, 1, 2), randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2), times(*t_shape)
    )
    upstream = randn(*shape, dtype=dtype, seed=3)
    actual = gradients(conversion.ours, (0, 1, 2), inputs, upstream)
    assert actual[2].shape == t_shape
    assert_rounded_once(actual, gradients(conversion.plain, (0, 1, 2), inputs, upstream))


@every_conversion
def test_gradients_of_empty_arrays_are_empty_or_zero(conversion: Conversion) -> None:
    inputs = differentiable((0, 1, 2), torch.zeros(4, 0), torch.zeros(4, 0), times(4))
    actual = gradients(conversion.ours, (0, 1, 2), inputs, torch.zeros(4, 0))
    assert [x.shape for x in actual] == [(4, 0), (4, 0), (4,)]
    assert torch.equal(actual[2], torch.zeros(4))


@every_conversion
@pytest.mark.parametrize(
    ("layout", "upstream_layout"),
    [
        ("channels_last", "channels_last"),
        ("channels_last", "contiguous"),
        ("contiguous", "channels_last"),
        ("contiguous", "one_value"),  # what .sum() sends back
        ("contiguous", "expanded"),
        ("permuted", "strided"),
        ("strided", "contiguous"),
        ("expanded", "contiguous"),
        ("overlapping", "overlapping"),
        ("batch_last", "one_value"),
    ],
)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(SMALL, torch.float32), (SMALL, torch.bfloat16), (ONE_BLOCK, torch.float32), (LARGE, torch.float32)],
    ids=str,
)
def test_gradients_in_every_layout(
    conversion: Conversion, layout: str, upstream_layout: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    inputs = differentiable((0, 1, 2), *(laid_out(layout, shape, dtype, seed) for seed in (1, 2)), times(shape[0]))
    upstream = laid_out(upstream_layout, shape, dtype, 3)
    actual = gradients(conversion.ours, (0, 1, 2), inputs, upstream)
    expected = gradients(conversion.plain, (0, 1, 2), inputs, upstream)
    assert_rounded_once(actual, expected)
    assert [x.stride() for x in actual[:2]] == [x.stride() for x in expected[:2]]


@every_conversion
@both_sizes
def test_gradients_at_the_ends_of_time_are_those_of_the_clamped_expression(
    conversion: Conversion, shape: tuple[int, ...]
) -> None:
    t = torch.tensor([0.0, 1.0, 1e-7, 1 - 2.0**-24])
    inputs = differentiable((0, 1, 2), randn(*shape, seed=1), randn(*shape, seed=2), t)
    upstream = randn(*shape, seed=3)
    actual = gradients(conversion.ours, (0, 1, 2), inputs, upstream)
    assert_rounded_once(actual, gradients(conversion.plain, (0, 1, 2), inputs, upstream))


@every_conversion
@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)], ids=str)
@both_sizes
def test_a_python_t_lets_the_arrays_gradients_through(
    conversion: Conversion, wanted: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    inputs = differentiable(wanted, randn(*shape, seed=1), randn(*shape, seed=2))
    upstream = randn(*shape, seed=3)
    actual = gradients(lambda first, second: conversion.ours(first, second, 0.3), wanted, inputs, upstream)
    expected = gradients(lambda first, second: conversion.plain(first, second, 0.3), wanted, inputs, upstream)
    assert_rounded_once(actual, expected)


@every_conversion
@both_sizes
def test_one_tensor_in_two_places_gets_both_gradients(conversion: Conversion, shape: tuple[int, ...]) -> None:
    inputs = differentiable((0, 1), randn(*shape, dtype=torch.float64), times(shape[0], dtype=torch.float64))
    upstream = randn(*shape, dtype=torch.float64, seed=3)
    actual = gradients(lambda x, t: conversion.ours(x, x, t), (0, 1), inputs, upstream)
    expected = gradients(lambda x, t: conversion.plain(x, x, t), (0, 1), inputs, upstream)
    for ours, plain in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@both_sizes
def test_double_backward_is_that_of_the_float64_expression(
    conversion: Conversion, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    values = randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2), times(shape[0])

    def second_order(function: Any) -> tuple[Tensor, ...]:
        inputs = differentiable((0, 1, 2), *values)
        upstream = randn(*shape, dtype=dtype, seed=3).detach().requires_grad_()
        once = torch.autograd.grad(function(*inputs), inputs, upstream, create_graph=True)
        mixed = sum((x.double() * (k + 1)).square().sum() for k, x in enumerate(once))
        return torch.autograd.grad(mixed, [*inputs, upstream], materialize_grads=True)  # no pred_x0 depends on x_t

    for ours, plain in zip(second_order(conversion.ours), second_order(conversion.plain), strict=True):
        assert ours.dtype == plain.dtype
        tolerance = {torch.float32: 1e-6, torch.bfloat16: 2e-2}[plain.dtype]
        torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance * float(plain.abs().max()))


@every_conversion
@pytest.mark.parametrize(
    ("wanted", "shape"),
    [*((wanted, SMALL) for wanted in SUBSETS), ((0,), LARGE), ((2,), LARGE), ((0, 1, 2), LARGE)],
    ids=str,
)
def test_forward_mode_pushes_each_subset_of_tangents(
    conversion: Conversion, wanted: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    primals = [randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])]
    tangents = [randn(*x.shape, seed=seed) for seed, x in enumerate(primals, 4)]

    def pushed(function: Any) -> Tensor:
        with forward_ad.dual_level():
            duals = [
                forward_ad.make_dual(x, tangents[place]) if place in wanted else x for place, x in enumerate(primals)
            ]
            tangent = forward_ad.unpack_dual(function(*duals)).tangent
            assert tangent is not None
            return tangent

    assert ulps_apart(pushed(conversion.ours), pushed(conversion.plain)) <= 1


@every_conversion
@pytest.mark.parametrize("overwritten", [0, 1, 2])
@both_sizes
def test_an_input_overwritten_before_backward_never_gives_a_wrong_gradient(
    conversion: Conversion, overwritten: int, shape: tuple[int, ...]
) -> None:
    values = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
    inputs = differentiable((0, 1, 2), *(x.clone() for x in values))
    upstream = randn(*shape, seed=3)
    result = conversion.ours(*inputs)
    with torch.no_grad():
        inputs[overwritten].mul_(0.5)
    try:
        actual = torch.autograd.grad(result, inputs, upstream)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        assert_rounded_once(
            actual, gradients(conversion.plain, (0, 1, 2), differentiable((0, 1, 2), *values), upstream)
        )


@every_conversion
@both_sizes
def test_a_result_may_be_changed_in_place_before_backward(conversion: Conversion, shape: tuple[int, ...]) -> None:
    inputs = differentiable((0, 1, 2), randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0]))
    upstream = randn(*shape, seed=3)
    actual = gradients(lambda *x: conversion.ours(*x).mul_(2), (0, 1, 2), inputs, upstream)
    assert_rounded_once(actual, gradients(conversion.plain, (0, 1, 2), inputs, 2 * upstream))


@every_conversion
@both_sizes
def test_backward_can_run_twice_over_a_retained_graph(conversion: Conversion, shape: tuple[int, ...]) -> None:
    inputs = differentiable((0, 1, 2), randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0]))
    result, upstream = conversion.ours(*inputs), randn(*shape, seed=3)
    once = torch.autograd.grad(result, inputs, upstream, retain_graph=True)
    again = torch.autograd.grad(result, inputs, upstream)
    assert all(torch.equal(x, y) for x, y in zip(once, again, strict=True))


@every_conversion
@both_sizes
def test_a_batch_of_upstream_gradients_gives_a_batch_of_gradients(
    conversion: Conversion, shape: tuple[int, ...]
) -> None:
    inputs = differentiable((0, 1, 2), randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0]))
    upstream = randn(2, *shape, seed=3)
    batched = torch.autograd.grad(conversion.ours(*inputs), inputs, upstream, is_grads_batched=True)
    for k in range(2):
        expected = gradients(conversion.plain, (0, 1, 2), inputs, upstream[k])
        assert_rounded_once(tuple(x[k] for x in batched), expected)


@every_conversion
@pytest.mark.parametrize("use_reentrant", [False, True])
@both_sizes
def test_checkpointing_recomputes_the_same_gradient(
    conversion: Conversion, use_reentrant: bool, shape: tuple[int, ...]
) -> None:
    inputs = differentiable((0, 1, 2), randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0]))
    upstream = randn(*shape, seed=3)

    def checkpointed(*x: Tensor) -> Tensor:
        result = checkpoint(conversion.ours, *x, use_reentrant=use_reentrant)
        assert isinstance(result, Tensor)
        return result

    def backward(function: Any) -> list[Tensor | None]:  # reentrant checkpointing refuses torch.autograd.grad
        leaves = differentiable((0, 1, 2), *inputs)
        function(*leaves).backward(upstream)
        return [x.grad for x in leaves]

    for ours, direct in zip(backward(checkpointed), backward(conversion.ours), strict=True):
        assert ours is not None
        assert direct is not None
        assert torch.equal(ours, direct)


@every_conversion
@both_sizes
def test_anomaly_detection_finds_nothing(conversion: Conversion, shape: tuple[int, ...]) -> None:
    inputs = differentiable((0, 1, 2), randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0]))
    with torch.autograd.set_detect_anomaly(True):
        conversion.ours(*inputs).sum().backward()
    assert all(x.grad is not None for x in inputs)


@every_conversion
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@both_sizes
def test_no_graph_is_recorded_where_gradients_are_off(
    conversion: Conversion, context: Any, shape: tuple[int, ...]
) -> None:
    inputs = differentiable((0, 1, 2), randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0]))
    with context():
        assert not conversion.ours(*inputs).requires_grad

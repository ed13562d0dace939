"""PyTorch, the transformations: torch.func, torch.compile, torch.export and DTensor see through every conversion."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import fastgen_rf as rf
from tests.cases import fresh_process
from tests.torch.plain import (
    LARGE,
    SMALL,
    Conversion,
    assert_same_bits,
    both_sizes,
    every_conversion,
    laid_out,
    randn,
    times,
    ulps_apart,
)

# torch's own decompositions for forward mode, and its compiler, still use what it deprecates itself
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _no_compiled_code_from_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    return randn(*shape, dtype=dtype, seed=1), randn(*shape, dtype=dtype, seed=2), times(shape[0])


# torch.func


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@both_sizes
def test_vmap_over_the_batch_is_the_batched_call(
    conversion: Conversion, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    first, second, t = inputs(shape, dtype)
    assert torch.equal(vmap(conversion.ours)(first, second, t), conversion.plain(first, second, t))


@every_conversion
@both_sizes
def test_vmap_with_a_shared_t(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first, second, t = inputs(shape)
    result = vmap(conversion.ours, in_dims=(0, 0, None))(first, second, t[0])
    assert torch.equal(result, conversion.plain(first, second, t[:1]))


@every_conversion
@pytest.mark.parametrize("missing", [0, 1])
@both_sizes
def test_vmap_with_a_shared_array(conversion: Conversion, missing: int, shape: tuple[int, ...]) -> None:
    arrays = [randn(*shape, seed=1), randn(*shape, seed=2)]
    shared = list(arrays)
    shared[missing] = arrays[missing][0]
    in_dims = (None if missing == 0 else 0, None if missing == 1 else 0, 0)
    arrays[missing] = shared[missing].expand(shape)
    t = times(shape[0])
    assert torch.equal(vmap(conversion.ours, in_dims=in_dims)(*shared, t), conversion.plain(*arrays, t))


@every_conversion
@both_sizes
def test_vmap_over_t_alone_tries_several_times_on_one_sample(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first, second, _ = inputs(shape)
    t = times(3)
    result = vmap(conversion.ours, in_dims=(None, None, 0))(first, second, t)
    assert torch.equal(result, torch.stack([conversion.plain(first, second, at) for at in t]))


@every_conversion
@both_sizes
def test_vmap_over_other_axes_and_out_dims(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first, second, _ = inputs(shape)
    t = times(shape[-1], shape[0])
    result = vmap(conversion.ours, in_dims=(-1, -1, 0), out_dims=-1)(first, second, t)
    columns = [conversion.plain(first[..., k], second[..., k], t[k]) for k in range(shape[-1])]
    assert torch.equal(result, torch.stack(columns, -1))


@every_conversion
def test_vmap_nests(conversion: Conversion) -> None:
    first, second, _ = inputs(SMALL)
    t = times(4, 3)
    assert torch.equal(vmap(vmap(conversion.ours))(first, second, t), conversion.plain(first, second, t))


@every_conversion
@both_sizes
def test_func_grad_of_all_three_arguments(conversion: Conversion, shape: tuple[int, ...]) -> None:
    values, weight = inputs(shape), randn(*shape, seed=3)

    def loss(function: Any) -> Any:
        return lambda *x: (function(*x) * weight).double().sum()

    actual = grad(loss(conversion.ours), argnums=(0, 1, 2))(*values)
    expected = grad(loss(conversion.plain), argnums=(0, 1, 2))(*values)
    assert max(ulps_apart(ours, plain) for ours, plain in zip(actual, expected, strict=True)) <= 1


@every_conversion
@both_sizes
def test_per_sample_gradients_by_vmap_of_grad(conversion: Conversion, shape: tuple[int, ...]) -> None:
    values = inputs(shape)
    per_sample = vmap(grad(lambda *x: conversion.ours(*x).double().square().sum(), argnums=(0, 1, 2)))(*values)
    leaves = [x.detach().requires_grad_() for x in values]
    conversion.plain(*leaves).double().square().sum().backward()
    for ours, leaf in zip(per_sample, leaves, strict=True):
        assert leaf.grad is not None
        assert ulps_apart(ours, leaf.grad) <= 1


@every_conversion
@both_sizes
def test_jvp_and_vjp(conversion: Conversion, shape: tuple[int, ...]) -> None:
    values = inputs(shape)
    tangents = tuple(randn(*x.shape, seed=seed) for seed, x in enumerate(values, 4))
    (value, tangent), (expected, pushed) = (jvp(f, values, tangents) for f in (conversion.ours, conversion.plain))
    assert torch.equal(value, expected)
    assert ulps_apart(tangent, pushed) <= 1
    weight = randn(*shape, seed=3)
    pulled, expected_pulled = (vjp(f, *values)[1](weight) for f in (conversion.ours, conversion.plain))
    assert max(ulps_apart(ours, plain) for ours, plain in zip(pulled, expected_pulled, strict=True)) <= 1


@every_conversion
def test_hessian_and_jacobians_are_those_of_the_float64_expression(conversion: Conversion) -> None:
    first, second, t = randn(2, 3, dtype=torch.float64, seed=1), randn(2, 3, dtype=torch.float64, seed=2), times(2)
    t = t.double()
    for ours, plain in (
        (
            hessian(lambda s: conversion.ours(first, second, s).square().sum())(t),
            hessian(lambda s: conversion.plain(first, second, s).square().sum())(t),
        ),
        (jacrev(conversion.ours, argnums=2)(first, second, t), jacfwd(conversion.plain, argnums=2)(first, second, t)),
        (jacfwd(conversion.ours, argnums=0)(first, second, t), jacrev(conversion.plain, argnums=0)(first, second, t)),
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@every_conversion
@both_sizes
def test_a_forward_derivative_of_a_gradient(conversion: Conversion, shape: tuple[int, ...]) -> None:
    first, second, t = (x.double() for x in inputs(shape))

    def slope(function: Any) -> Any:
        return grad(lambda s: function(first, second, s).square().sum())

    direction = randn(shape[0], dtype=torch.float64, seed=5)
    actual, expected = (jvp(slope(f), (t,), (direction,))[1] for f in (conversion.ours, conversion.plain))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0)


class Denoiser(torch.nn.Module):
    """The smallest model that predicts anything from a latent."""

    def __init__(self, conversion: Conversion, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.conversion = conversion
        self.scale = torch.nn.Parameter(torch.ones(shape[1:]))

    def forward(self, first: Tensor, second: Tensor, t: Tensor) -> Tensor:
        result = self.conversion.ours(first * self.scale, second, t)
        assert isinstance(result, Tensor)
        return result


@every_conversion
def test_functional_call_differentiates_a_module_s_parameters(conversion: Conversion) -> None:
    module, values = Denoiser(conversion, SMALL), inputs(SMALL)
    parameters = {"scale": torch.full(SMALL[1:], 0.5)}
    gradient = grad(lambda p: functional_call(module, p, values).sum())(parameters)["scale"]
    scale = parameters["scale"].clone().requires_grad_()
    conversion.plain(values[0] * scale, *values[1:]).sum().backward()
    assert scale.grad is not None
    torch.testing.assert_close(gradient, scale.grad)


# torch.compile and torch.export


@every_conversion
@both_sizes
def test_compiles_in_one_graph_to_the_eager_values_and_gradients(
    conversion: Conversion, shape: tuple[int, ...]
) -> None:
    values, weight = inputs(shape), randn(*shape, seed=3)
    compiled = torch.compile(conversion.ours, fullgraph=True, backend="aot_eager")

    def run(function: Any) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in values]
        result = function(*leaves)
        return result.detach(), *torch.autograd.grad(result, leaves, weight)

    actual, expected = run(compiled), run(conversion.plain)
    assert_same_bits(actual[0], expected[0])
    assert max(ulps_apart(ours, plain) for ours, plain in zip(actual, expected, strict=True)) <= 1


@every_conversion
@pytest.mark.parametrize("layout", ["channels_last", "strided"])
def test_compiled_results_keep_the_eager_layout(conversion: Conversion, layout: str) -> None:
    first, second = laid_out(layout, SMALL, torch.bfloat16, 1), laid_out(layout, SMALL, torch.bfloat16, 2)
    compiled = torch.compile(conversion.ours, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(first, second, times(4)), conversion.plain(first, second, times(4)))


@every_conversion
def test_one_compilation_serves_every_size(conversion: Conversion) -> None:
    graphs = 0

    def counting(module: Any, example: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module

    compiled = torch.compile(conversion.ours, fullgraph=True, dynamic=True, backend=counting)
    for shape in [(2, 3, 5, 7), (4, 3, 6, 9), LARGE]:
        assert_same_bits(compiled(*inputs(shape)), conversion.plain(*inputs(shape)))
    assert graphs == 1


@every_conversion
def test_a_python_t_compiles(conversion: Conversion) -> None:
    first, second, _ = inputs(SMALL)
    compiled = torch.compile(conversion.ours, fullgraph=True, backend="aot_eager")
    for t in (0.3, 0.7, 0.9):  # the second call makes t symbolic, the third reuses that
        assert_same_bits(compiled(first, second, t), conversion.plain(first, second, t))


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor needs a C++ compiler")
def test_inductor_fuses_a_training_step_to_the_eager_numbers() -> None:
    def step(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        x_t = rf.add_noise(x0, eps, t)
        return rf.pred_x0_from_flow(rf.x0_to_flow(0.9 * x0, x_t, t), x_t, t)

    values = inputs(SMALL)
    compiled = torch.compile(step, fullgraph=True)

    def run(function: Any) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in values]
        result = function(*leaves)
        return result.detach(), *torch.autograd.grad(result.double().square().sum(), leaves)

    for actual, expected in zip(run(compiled), run(step), strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-6, atol=2e-6)


_FIRST_CALL = """
import torch
import fastgen_rf as rf
cfg = rf.SampleTimestepConfig()
@torch.compile(fullgraph=True, backend="aot_eager")
def step(x0, eps):
    t = rf.sample_timesteps(x0.shape[0], cfg, device=x0.device, dtype=torch.float32)
    return rf.add_noise(x0, eps, t), t
x0, eps = torch.ones(4, 3), torch.zeros(4, 3)
noised, t = step(x0, eps)
assert torch.equal(noised, rf.add_noise(x0, eps, t))
print("compiled")
"""


def test_the_first_call_of_a_process_may_be_under_the_compiler() -> None:
    assert fresh_process.run(_FIRST_CALL).strip() == "compiled"


@every_conversion
def test_exports_with_a_dynamic_batch(conversion: Conversion) -> None:
    class Convert(torch.nn.Module):
        def forward(self, first: Tensor, second: Tensor, t: Tensor) -> Tensor:
            result = conversion.ours(first, second, t)
            assert isinstance(result, Tensor)
            return result

    batch = torch.export.Dim("batch", min=2)
    dynamic = ({0: batch}, {0: batch}, {0: batch})
    exported = torch.export.export(Convert(), inputs((4, 3)), dynamic_shapes=dynamic)
    for size in (4, 7):
        assert_same_bits(exported.module()(*inputs((size, 3))), conversion.plain(*inputs((size, 3))))


def test_alpha_sigma_and_expand_like_compile() -> None:
    def spread(t: Tensor, x: Tensor) -> Tensor:
        return rf.expand_like(rf.rf_alpha(t) + 2 * rf.rf_sigma(t), x, axes=(2, 0))

    t, x = times(5, 4), randn(4, 3, 5)
    compiled = torch.compile(spread, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(t, x), spread(t, x))
    assert compiled(t, x).shape == (4, 1, 5)


# DTensor


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@every_conversion
@pytest.mark.parametrize(
    ("placement", "t_placement"),
    [(Shard(0), Shard(0)), (Replicate(), Replicate()), (Shard(1), Replicate())],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@both_sizes
def test_distributed_tensors_keep_their_placements_values_and_gradients(
    conversion: Conversion,
    placement: Placement,
    t_placement: Placement,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    mesh: DeviceMesh,
) -> None:
    values, weight = inputs(shape, dtype), randn(*shape, dtype=dtype, seed=3)
    places = [placement, placement, t_placement]
    leaves = [distribute_tensor(x, mesh, [at]).requires_grad_() for x, at in zip(values, places, strict=True)]
    result = conversion.ours(*leaves)
    assert isinstance(result, DTensor)
    assert result.placements == (placement,)
    assert_same_bits(result.full_tensor().detach(), conversion.plain(*values))
    gradients = torch.autograd.grad(result, leaves, distribute_tensor(weight, mesh, [placement]))
    local = [x.detach().requires_grad_() for x in values]
    expected = torch.autograd.grad(conversion.plain(*local), local, weight)
    for ours, plain in zip(gradients, expected, strict=True):
        assert isinstance(ours, DTensor)
        assert ulps_apart(ours.full_tensor(), plain) <= 1


@every_conversion
@both_sizes
def test_distributed_tensors_take_a_python_t(conversion: Conversion, shape: tuple[int, ...], mesh: DeviceMesh) -> None:
    first, second, _ = inputs(shape)
    result = conversion.ours(*(distribute_tensor(x, mesh, [Shard(0)]) for x in (first, second)), 0.3)
    assert isinstance(result, DTensor)
    assert_same_bits(result.full_tensor(), conversion.plain(first, second, 0.3))


@pytest.mark.parametrize("convert", [rf.add_noise, rf.x0_to_flow])
def test_a_number_that_is_known_at_the_call_alone_exports(convert: Any) -> None:
    class Convert(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Any]:
            return convert(x, y, t.item()), rf.rf_alpha(t.item())

    x, y = torch.randn(2, 3, 4)
    exported = torch.export.export(Convert(), (x, y, torch.tensor(0.25)), strict=False).module()
    result, alpha = exported(x, y, torch.tensor(0.75))
    assert torch.equal(result, convert(x, y, 0.75))
    assert alpha == 0.25


@pytest.mark.skipif(torch.__version__ < "2.8", reason="before torch 2.8 no comparison of such sizes can be left open")
def test_a_batch_whose_size_is_known_at_the_call_alone_compiles() -> None:
    torch._dynamo.reset()
    x, eps, t = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3)
    for array in (x, eps, t):
        torch._dynamo.decorators.mark_unbacked(array, 0)
    compiled = torch.compile(rf.add_noise, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, eps, t), rf.add_noise(x, eps, t))

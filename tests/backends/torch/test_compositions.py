"""Compositions of PyTorch's transforms: every pair and many triples give the exact derivative."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, func
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from tests.catalogue import ROWS
from tests.compositions import ARGUMENTS, Rows, composed, exact_derivative, inputs, mean_square, moved, order

COPIES = 50_000  # of the columns, for a tensor that is large enough for one pass
every_row = pytest.mark.parametrize("name", ["convert_prediction (v, v_vp)", "ode_step"])


# The transforms


def dot(gradients: Any, directions: Any) -> Tensor:
    products = [(g * d).reshape(d.shape[0], -1).sum(-1) for g, d in zip(gradients, directions, strict=True)]
    return torch.stack(products).sum(0)


def jvp(function: Rows, *arrays: Tensor) -> Tensor:
    inner, at, direction = moved(function, arrays)
    return func.jvp(inner, at, direction)[1]


def dual(function: Rows, *arrays: Tensor) -> Tensor:
    inner, at, direction = moved(function, arrays)
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(inner(*map(forward_ad.make_dual, at, direction))).tangent


def grad(function: Rows, *arrays: Tensor) -> Tensor:
    inner, at, direction = moved(function, arrays)
    return dot(func.grad(lambda *x: inner(*x).sum(), argnums=tuple(range(ARGUMENTS)))(*at), direction)


def autograd(function: Rows, *arrays: Tensor) -> Tensor:
    inner, at, direction = moved(function, arrays)
    leaves = [x if x.requires_grad else x.detach().requires_grad_() for x in at]
    total = inner(*leaves).sum()
    return dot(torch.autograd.grad(total, leaves, create_graph=True, materialize_grads=True), direction)


def hessian(function: Rows, *arrays: Tensor) -> Tensor:
    inner, at, directions = moved(function, arrays, 2)

    def shifted(steps: Tensor) -> Tensor:
        one, two = ([step.reshape(-1, *(1,) * (x.ndim - 1)) for x in at] for step in steps)
        pairs = zip(at, one, directions[:ARGUMENTS], two, directions[ARGUMENTS:], strict=True)
        return inner(*(x + a * d + b * e for x, a, d, b, e in pairs)).sum()

    return func.hessian(shifted)(torch.zeros(2, at[0].shape[0], dtype=torch.float64))[0, :, 1, :].diagonal()


def vmap(function: Rows, *arrays: Tensor) -> Tensor:
    return func.vmap(function)(*(x.unflatten(0, (2, -1)) for x in arrays)).flatten()


TRANSFORMS: dict[str, Callable[..., Tensor]] = {
    **{each.__name__: each for each in (jvp, dual, grad, autograd, hessian, vmap)},
    "checkpoint": lambda function, *x: checkpoint(function, *x, use_reentrant=False),
    "compile": lambda function, *x: torch.compile(function, fullgraph=True, backend="aot_eager")(*x),
}


def check(composition: str, name: str, copies: int = 1) -> None:
    """The result is the exact derivative, also where each row is repeated along its columns."""
    arrays = [torch.from_numpy(x) for x in inputs(order(composition))]
    arrays = [x.repeat(1, copies) if x.ndim == 2 else x.clone() for x in arrays]
    for x in arrays:
        x.requires_grad_("autograd" in composition)
    got = composed(composition, TRANSFORMS, mean_square(ROWS[name]))(*arrays).detach().numpy()
    wanted = exact_derivative(name, order(composition))
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


# The compositions

EAGER = ("jvp", "dual", "grad", "autograd", "vmap", "checkpoint")
# torch supports none of these, whatever the function: a mode within itself, and a checkpoint around func.grad.
NOT_IN_TORCH = {
    *("jvp-dual", "dual-jvp", "dual-dual", "vmap-dual", "jvp-autograd", "vmap-autograd"),
    *("grad-checkpoint", "checkpoint-grad"),
}
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12):  # no forward mode of a checkpoint
    NOT_IN_TORCH |= {"jvp-checkpoint", "dual-checkpoint", "dual-autograd-checkpoint"}
PAIRS = [pair for pair in map("-".join, product(EAGER, EAGER)) if order(pair) and pair not in NOT_IN_TORCH]
TRIPLES = [
    *("jvp-grad-vmap", "jvp-vmap-grad", "vmap-jvp-grad", "vmap-grad-jvp", "grad-vmap-jvp", "grad-jvp-vmap"),
    *("grad-vmap-vmap", "vmap-vmap-jvp", "vmap-grad-grad", "vmap-hessian", "hessian-vmap", "hessian-grad"),
    *("hessian-jvp", "hessian-autograd", "jvp-hessian", "grad-hessian", "autograd-hessian", "vmap-hessian-vmap"),
    *("jvp-jvp-jvp", "jvp-jvp-grad", "jvp-grad-jvp", "grad-jvp-jvp", "grad-grad-jvp", "grad-jvp-grad"),
    *("grad-grad-grad", "autograd-autograd-autograd", "autograd-grad-jvp", "autograd-jvp-grad", "grad-autograd-jvp"),
    *("dual-autograd-autograd", "autograd-dual-autograd", "autograd-autograd-dual", "dual-grad-grad"),
    *("dual-grad-vmap", "dual-autograd-checkpoint", "autograd-checkpoint-autograd", "autograd-autograd-checkpoint"),
    *("checkpoint-autograd-autograd", "autograd-checkpoint-jvp", "autograd-checkpoint-vmap", "autograd-vmap-jvp"),
    *("checkpoint-autograd-jvp", "checkpoint-jvp-vmap", "checkpoint-vmap-jvp", "autograd-checkpoint-checkpoint"),
]
LARGE = [*PAIRS, "autograd-autograd-checkpoint", "autograd-checkpoint-autograd", "vmap-grad-vmap"]
COMPILED = [
    *("compile-jvp", "compile-grad", "compile-vmap-grad", "compile-grad-vmap", "compile-jvp-grad"),
    *("autograd-compile", "autograd-compile-vmap", "autograd-compile-checkpoint", "autograd-checkpoint-compile"),
]


@pytest.fixture(autouse=True)
def _without_compiled_code_of_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("composition", [each for each in (*PAIRS, *TRIPLES) if each not in NOT_IN_TORCH])
@every_row
def test_small_tensors(composition: str, name: str) -> None:
    check(composition, name)


@pytest.mark.parametrize("composition", LARGE)
@every_row
def test_large_tensors(composition: str, name: str) -> None:
    check(composition, name, COPIES)


@pytest.mark.parametrize("composition", COMPILED)
def test_inside_and_around_the_compiler(composition: str) -> None:
    check(composition, "ode_step")

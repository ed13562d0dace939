"""PyTorch, transformations composed: pairs and triples of them give one derivative, that of finite differences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, func
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from tests.cases.compositions import (
    ARGUMENTS,
    ROWS,
    Rows,
    assert_close,
    by_row,
    composed,
    every_name,
    inputs,
    moved,
    order,
)
from tests.cases.compositions import derivative as differences

# torch's own decompositions for forward mode, and its compiler, still use what it deprecates itself
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

SMALL, LARGE = 5, 66_000  # columns: eight rows of the large one take one pass in blocks where nothing watches
all_arguments = tuple(range(ARGUMENTS))


def _dot(gradients: Any, directions: Any) -> Tensor:
    products = [(g * d).reshape(d.shape[0], -1).sum(-1) for g, d in zip(gradients, directions, strict=True)]
    return torch.stack(products).sum(0)


def _jvp(function: Rows) -> Rows:
    def along(*arrays: Tensor) -> Tensor:
        inner, at, direction = moved(function, arrays)
        return func.jvp(inner, at, direction)[1]

    return along


def _dual(function: Rows) -> Rows:
    def along(*arrays: Tensor) -> Tensor:
        inner, at, direction = moved(function, arrays)
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(inner(*map(forward_ad.make_dual, at, direction))).tangent

    return along


def _grad(function: Rows) -> Rows:
    def along(*arrays: Tensor) -> Tensor:
        inner, at, direction = moved(function, arrays)
        return _dot(func.grad(lambda *x: inner(*x).sum(), argnums=all_arguments)(*at), direction)

    return along


def _autograd(function: Rows) -> Rows:
    def along(*arrays: Tensor) -> Tensor:
        inner, at, direction = moved(function, arrays)
        leaves = [x if x.requires_grad else x.detach().requires_grad_() for x in at]
        total = inner(*leaves).sum()
        return _dot(torch.autograd.grad(total, leaves, create_graph=True, materialize_grads=True), direction)

    return along


def _hessian(function: Rows) -> Rows:
    def along(*arrays: Tensor) -> Tensor:
        inner, at, directions = moved(function, arrays, 2)

        def shifted(step: Tensor) -> Tensor:
            one, two = step
            pairs = zip(at, directions[:ARGUMENTS], directions[ARGUMENTS:], strict=True)
            return inner(*(x + _tall(one, x) * d + _tall(two, x) * e for x, d, e in pairs)).sum()

        steps = torch.zeros(2, at[0].shape[0], dtype=torch.float64)
        return func.hessian(shifted)(steps)[0, :, 1, :].diagonal()

    return along


def _tall(step: Tensor, x: Tensor) -> Tensor:
    return step.reshape(-1, *(1,) * (x.ndim - 1))


def _vmap(function: Rows) -> Rows:
    def halves(*arrays: Tensor) -> Tensor:
        return func.vmap(function)(*(x.unflatten(0, (2, -1)) for x in arrays)).flatten()

    return halves


LETTERS: dict[str, Callable[[Rows], Rows]] = {
    "jvp": _jvp,
    "dual": _dual,
    "grad": _grad,
    "autograd": _autograd,
    "hessian": _hessian,
    "vmap": _vmap,
    "checkpoint": lambda function: lambda *x: checkpoint(function, *x, use_reentrant=False),
    "compile": lambda function: torch.compile(function, fullgraph=True, backend="aot_eager"),
}


def evaluate(word: str, name: str, columns: int) -> Tensor:
    arrays = [torch.from_numpy(x) for x in inputs(columns, order(word))]
    if "autograd" in word:
        arrays = [x.clone().requires_grad_() for x in arrays]
    return composed(word, LETTERS, by_row(name))(*arrays).detach()


@cache
def forward(name: str, columns: int, count: int) -> Tensor:
    """What every composition gives, by forward mode alone."""
    return evaluate("-".join(["jvp"] * count), name, columns)


def assert_is_the_derivative(word: str, name: str, columns: int) -> None:
    got = evaluate(word, name, columns)
    assert got.shape == (ROWS,)
    assert_close(got, differences(name, columns, order(word)), rel=1e-6)
    assert_close(got, forward(name, columns, order(word)), rel=1e-11)


EAGER = ("jvp", "dual", "grad", "autograd", "vmap", "checkpoint")
REFUSED = {  # by torch, of whatever function: a mode within itself, and what torch.func's transformations rule out
    *("jvp-dual", "dual-jvp", "dual-dual", "vmap-dual", "jvp-autograd", "vmap-autograd"),
    *("grad-checkpoint", "checkpoint-grad", "hessian-checkpoint", "autograd-jvp-checkpoint"),
    *("autograd-vmap-checkpoint", "jvp-compile", "grad-compile"),
}
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12):  # 2.6 has no forward mode of a checkpoint
    REFUSED |= {"jvp-checkpoint", "dual-checkpoint", "dual-autograd-checkpoint"}
PAIRS = [word for word in map("-".join, product(EAGER, EAGER)) if order(word) and word not in REFUSED]
_OTHERS = """
jvp-grad-vmap jvp-vmap-grad vmap-jvp-grad vmap-grad-jvp grad-vmap-jvp grad-jvp-vmap grad-vmap-vmap
vmap-vmap-jvp vmap-grad-grad vmap-hessian hessian-vmap hessian-grad hessian-jvp hessian-autograd jvp-hessian
grad-hessian autograd-hessian vmap-hessian-vmap jvp-jvp-jvp jvp-jvp-grad jvp-grad-jvp grad-jvp-jvp
grad-grad-jvp grad-jvp-grad grad-grad-grad autograd-autograd-autograd autograd-grad-jvp autograd-jvp-grad
grad-autograd-jvp dual-autograd-autograd autograd-dual-autograd autograd-autograd-dual dual-grad-grad
dual-grad-vmap dual-autograd-checkpoint autograd-checkpoint-autograd autograd-autograd-checkpoint
checkpoint-autograd-autograd autograd-checkpoint-jvp autograd-checkpoint-vmap autograd-vmap-jvp
checkpoint-autograd-jvp checkpoint-jvp-vmap checkpoint-vmap-jvp autograd-checkpoint-checkpoint
"""
TRIPLES = [word for word in _OTHERS.split() if word not in REFUSED]
COMPILED = [
    *("compile-jvp", "compile-grad", "compile-vmap-grad", "compile-grad-vmap", "compile-jvp-grad"),
    *("autograd-compile", "autograd-compile-vmap", "autograd-compile-checkpoint", "autograd-checkpoint-compile"),
]


@pytest.mark.parametrize("word", PAIRS)
@every_name
def test_pairs(word: str, name: str) -> None:
    assert_is_the_derivative(word, name, SMALL)


@pytest.mark.parametrize("word", PAIRS)
@pytest.mark.parametrize("name", ["convert_prediction to v_vp", "ode_step"])
def test_pairs_on_large_tensors(word: str, name: str) -> None:
    assert_is_the_derivative(word, name, LARGE)


@pytest.mark.parametrize("word", TRIPLES)
@every_name
def test_triples(word: str, name: str) -> None:
    assert_is_the_derivative(word, name, SMALL)


@pytest.mark.parametrize("word", ["autograd-autograd-checkpoint", "autograd-checkpoint-autograd", "vmap-grad-vmap"])
@pytest.mark.parametrize("name", ["convert_prediction to v_vp", "ode_step"])
def test_triples_on_large_tensors(word: str, name: str) -> None:
    assert_is_the_derivative(word, name, LARGE)


@pytest.fixture
def no_compiled_code_from_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("no_compiled_code_from_other_tests")
@pytest.mark.parametrize("word", COMPILED)
def test_within_and_around_the_compiler(word: str) -> None:
    assert_is_the_derivative(word, "ode_step", SMALL)


@pytest.mark.usefixtures("no_compiled_code_from_other_tests")
@pytest.mark.parametrize("word", ["compile-grad-vmap", "autograd-checkpoint-compile"])
def test_within_and_around_the_compiler_on_large_tensors(word: str) -> None:
    assert_is_the_derivative(word, "convert_prediction to v_vp", LARGE)


def by_tensor_operations(x0: Tensor, x_t: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    return (x0 * t[:, None] + x_t * t_next[:, None]).square().mean(-1)


@pytest.mark.usefixtures("no_compiled_code_from_other_tests")
@pytest.mark.parametrize("word", sorted(REFUSED))
def test_what_torch_refuses_it_refuses_of_its_own_operations_too(word: str) -> None:
    arrays = [torch.from_numpy(x).requires_grad_("autograd" in word) for x in inputs(SMALL, order(word))]
    with pytest.raises(RuntimeError) as plain:
        composed(word, LETTERS, by_tensor_operations)(*arrays)
    with pytest.raises(plain.type, match=re.escape(str(plain.value).partition(".")[0])):
        composed(word, LETTERS, by_row("ode_step"))(*arrays)

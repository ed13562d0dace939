"""vmap and compositions of transforms: what the support matrix does not go into."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
import torch.distributed
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import vmap
from torch.utils.checkpoint import checkpoint

from tests import compositions
from tests.backends.torch.reference import reference
from tests.backends.torch.tensors import TWO, both_sizes, inputs, times
from tests.catalogue import ROWS
from tests.compositions import Rows, composed, derivatives, dot, exact_derivative, mean_square, moved, order


@both_sizes
def test_vmap_with_shared_arguments_and_over_other_axes(shape: tuple[int, ...]) -> None:
    x, y, t = inputs(shape)
    columns = times(shape[-1], shape[0])
    for row in TWO:
        assert torch.equal(vmap(row, (0, 0, None))(x, y, t[0]), reference(row, x, y, t[:1]))
        assert torch.equal(vmap(row, (None, 0, 0))(x[0], y, t), reference(row, x[:1].expand(shape), y, t))
        several = vmap(row, (None, None, 0))(x, y, t)
        assert torch.equal(several, torch.stack([reference(row, x, y, at) for at in t]))
        each = [reference(row, x[..., k], y[..., k], columns[k]) for k in range(shape[-1])]
        assert torch.equal(vmap(row, (-1, -1, 0), out_dims=-1)(x, y, columns), torch.stack(each, -1))


# Compositions: every pair and many triples give the exact derivative


def dual(function: Rows, *arrays: Tensor) -> Tensor:
    inner, at, direction = moved(function, arrays)
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(inner(*map(forward_ad.make_dual, at, direction))).tangent


def autograd(function: Rows, *arrays: Tensor) -> Tensor:
    inner, at, direction = moved(function, arrays)
    leaves = [x if x.requires_grad else x.detach().requires_grad_() for x in at]
    total = inner(*leaves).sum()
    return dot(torch.autograd.grad(total, leaves, create_graph=True, materialize_grads=True), direction)


TRANSFORMS: dict[str, Callable[..., Tensor]] = {
    **derivatives(torch.func),
    "dual": dual,
    "autograd": autograd,
    "vmap": lambda function, *x: vmap(function)(*(each.unflatten(0, (2, -1)) for each in x)).flatten(),
    "checkpoint": lambda function, *x: checkpoint(function, *x, use_reentrant=False),
    "compile": lambda function, *x: torch.compile(function, fullgraph=True, backend="aot_eager")(*x),
}
EAGER = ("jvp", "dual", "grad", "autograd", "vmap", "checkpoint")
# torch supports none of these, whatever the function: a mode within itself, and a checkpoint around func.grad.
NOT_IN_TORCH = {
    *("jvp-dual", "dual-jvp", "dual-dual", "vmap-dual", "jvp-autograd", "vmap-autograd"),
    *("grad-checkpoint", "checkpoint-grad"),
}
if torch.__version__ < "2.12":  # no forward mode of a checkpoint
    NOT_IN_TORCH |= {"jvp-checkpoint", "dual-checkpoint", "dual-autograd-checkpoint"}
PAIRS = [pair for pair in map("-".join, product(EAGER, EAGER)) if order(pair)]
TRIPLES = [
    *("vmap-grad-jvp", "grad-vmap-jvp", "vmap-vmap-jvp", "vmap-jvp-vmap-grad"),  # the last as func.hessian does
    *("jvp-jvp-jvp", "grad-jvp-grad", "autograd-autograd-autograd", "autograd-dual-autograd", "dual-grad-vmap"),
    *("dual-autograd-checkpoint", "checkpoint-autograd-jvp", "autograd-checkpoint-vmap"),
]
COMPILED = ["compile-vmap-grad", "compile-jvp-grad", "autograd-compile-vmap", "autograd-checkpoint-compile"]
COPIES = 50_000  # of the columns, for a tensor that is large enough for one pass
LARGE = [*PAIRS, "autograd-autograd-checkpoint", "autograd-checkpoint-autograd", "vmap-grad-vmap"]
CASES = [*((each, 1) for each in (*PAIRS, *TRIPLES, *COMPILED)), *((each, COPIES) for each in LARGE)]


@pytest.mark.parametrize(("composition", "copies"), [case for case in CASES if case[0] not in NOT_IN_TORCH], ids=str)
def test_a_composition_gives_the_exact_derivative(composition: str, copies: int) -> None:
    """Small tensors, and tensors in which each row is repeated along its columns."""
    torch.compiler.reset()
    arrays = [torch.from_numpy(x) for x in compositions.inputs(order(composition))]
    arrays = [x.repeat(1, copies) if x.ndim == 2 else x.clone() for x in arrays]
    for x in arrays:
        x.requires_grad_("autograd" in composition)
    for name in ["ode_step"] if "compile" in composition else ["convert_prediction (v, v_vp)", "ode_step"]:
        got = composed(composition, TRANSFORMS, mean_square(ROWS[name]))(*arrays).detach().numpy()
        wanted = exact_derivative(name, order(composition))
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max(), err_msg=name)

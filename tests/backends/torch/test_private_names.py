"""PyTorch's private names: the package works without any of them, and imports nothing slow for one."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import fastgen_rf as rf
from fastgen_rf.backends import _torch_internals as internals
from fastgen_rf.backends._torch import TorchBackend
from tests.backends.torch.reference import assert_same_bits, reference
from tests.backends.torch.tensors import LARGE, SMALL, inputs
from tests.catalogue import ROWS
from tests.processes import run_alone

NAMES: dict[str, tuple[Any, Callable[[Tensor], bool]]] = {  # what it belongs to, and a question that needs it
    "_len_torch_dispatch_stack": (torch._C, lambda x: internals.in_dispatch_mode()),
    "_len_torch_function_stack": (torch._C, lambda x: internals.in_function_mode()),
    "_are_functorch_transforms_active": (torch._C, lambda x: internals.in_transform()),
    "_is_tracing": (torch._C, internals.follows),
    "is_legacy_batchedtensor": (torch._C._functorch, internals.in_old_vmap),
    "_len_torch_dispatch_stack_pre_dispatch": (importlib.import_module("torch._ops"), internals.follows),
    "_is_zerotensor": (torch, internals.is_zero_tensor),
}


@pytest.fixture(params=NAMES)
def _without_a_name(request: pytest.FixtureRequest) -> Iterator[None]:
    """Look the names up again where one is missing; torch, which needs them, gets it back before the test."""
    owner, question = NAMES[request.param]
    assert not question(torch.ones(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(owner, request.param)
        importlib.reload(internals)
    assert question(torch.ones(1))
    yield
    importlib.reload(internals)
    assert not question(torch.ones(1))


def check_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check values and gradients of small and large arrays, and values where float64 is emulated."""
    row = ROWS["x0_to_eps"]
    for shape in (SMALL, LARGE):
        given = inputs(shape, wanted=(0, 1, 2))
        ours, plain = row(*given), reference(row, *given)
        assert_same_bits(ours.detach(), plain.detach())
        for actual, expected in zip(*(torch.autograd.grad(x.sum(), given) for x in (ours, plain)), strict=True):
            torch.testing.assert_close(actual, expected)
    given = inputs(SMALL)
    expected = reference(row, *given)
    monkeypatch.setattr(TorchBackend, "has_float64", lambda self, device: False)
    assert_same_bits(row(*given), expected)
    assert_same_bits(torch.func.vmap(row)(*given), expected)


@pytest.mark.usefixtures("_without_a_name")
def test_a_release_of_torch_may_drop_any_private_name(monkeypatch: pytest.MonkeyPatch) -> None:
    check_calls(monkeypatch)


def test_a_release_of_torch_may_drop_the_level_of_forward_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not internals.follows(torch.ones(1))
    monkeypatch.delattr(forward_ad, "_current_level")
    assert internals.follows(torch.ones(1))
    check_calls(monkeypatch)


def test_no_other_module_uses_a_private_name() -> None:
    package = Path(rf.__file__).parent
    private = re.compile(r"\b(torch|Tensor|forward_ad|array)(\.\w+)*\._(?!_|check\b)|from torch\S* import .*\b_")
    found = {path.name for path in package.rglob("*.py") if private.search(path.read_text(encoding="utf-8"))}
    assert found == set()  # the module itself holds them as strings


_FIRST_CALL = """
import sys, torch
import fastgen_rf as rf
rf.add_noise(torch.ones(4, 3), torch.ones(4, 3), torch.ones(4))
rf.sample_timesteps(4, rf.SampleTimestepConfig(), xp=torch)
print([name for name in ("sympy", "torch.fx.experimental.symbolic_shapes") if name in sys.modules])
"""


def test_the_first_call_does_not_import_sympy() -> None:
    assert run_alone(_FIRST_CALL).strip() == "[]"

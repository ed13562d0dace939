"""PyTorch's private names: the package works without any of them, and imports nothing slow for one."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import fastgen_rf as rf
from fastgen_rf.backends import _torch_internals as internals
from fastgen_rf.backends._torch import TorchBackend
from tests.backends.torch.reference import assert_same_bits, check, check_gradients, reference
from tests.backends.torch.tensors import LARGE, SMALL, inputs
from tests.catalogue import ROWS
from tests.processes import run_alone

NAMES: dict[str, tuple[Any, Callable[[Tensor], bool]]] = {  # what it belongs to, and a question that needs it
    "_len_torch_dispatch_stack": (torch._C, lambda x: internals.in_dispatch_mode()),
    "_len_torch_function_stack": (torch._C, lambda x: internals.in_function_mode()),
    "_are_functorch_transforms_active": (torch._C, lambda x: internals.in_transform()),
    "_is_tracing": (torch._C, internals.follows),
    "is_legacy_batchedtensor": (torch._C._functorch, lambda x: internals.in_old_vmap(x)),
    "_len_torch_dispatch_stack_pre_dispatch": (importlib.import_module("torch._ops"), internals.follows),
    "_is_zerotensor": (torch, lambda x: internals.is_zero_tensor(x)),
    "_current_level": (forward_ad, internals.follows),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_release_of_torch_may_drop_any_private_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, question = NAMES[name]
    row, given, x = ROWS["x0_to_eps"], inputs(SMALL), torch.ones(1)
    expected = reference(row, *given)
    assert not question(x)
    monkeypatch.delattr(owner, name)
    try:
        importlib.reload(internals)
        assert question(x)
        if name != "_current_level":
            monkeypatch.undo()  # torch itself needs the name; the module has looked it up without finding it
        for shape in (SMALL, LARGE):
            check(row, *inputs(shape))
            check_gradients(row, inputs(shape, wanted=(0, 1, 2)))
        monkeypatch.setattr(TorchBackend, "has_float64", lambda self, device: False)
        assert_same_bits(row(*given), expected)
        assert_same_bits(torch.func.vmap(row)(*given), expected)
    finally:
        monkeypatch.undo()
        importlib.reload(internals)
    assert not question(x)


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

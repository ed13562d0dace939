"""Whether a torch device computes in float64: by its capability, or by asking it once."""

from __future__ import annotations

import pytest
import torch

import fastgen_rf as rf
from fastgen_rf.backends import _torch_tensors
from fastgen_rf.backends._torch import BACKEND, TorchBackend


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_tensors, "_found", {})


def test_a_device_type_that_decides_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_tensors, "_computes_float64", pytest.fail)
    has = {name: BACKEND.has_float64(torch.device(name)) for name in ("cpu", "cpu:0", "cuda:1", "meta", "mps")}
    assert has == {"cpu": True, "cpu:0": True, "cuda:1": True, "meta": True, "mps": False}


def test_an_intel_gpu_has_float64_where_its_capability_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with_float64 = torch.device("xpu", 1)

    def capability(device: torch.device) -> dict[str, bool]:
        return {"has_fp64": device == with_float64}

    monkeypatch.setattr(torch.xpu, "get_device_capability", capability)
    assert BACKEND.has_float64(with_float64)
    assert not BACKEND.has_float64(torch.device("xpu", 0))


def test_a_device_that_cannot_be_asked_has_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    def capability(device: torch.device) -> dict[str, bool]:
        raise RuntimeError("no driver")

    monkeypatch.setattr(torch.xpu, "get_device_capability", capability)
    assert not BACKEND.has_float64(torch.device("xpu"))
    assert not BACKEND.has_float64(torch.device("hpu"))  # not in this build of torch


class Unknown:
    """A device of a type that the library does not know, whose tensors are the CPU's."""

    type = "unknown"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_an_unknown_device_is_asked_once_by_a_sum(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    asked, ones = [], torch.ones

    def ones_there(*shape: object, device: object, **options: object) -> torch.Tensor:
        asked.append(device)
        return ones((), dtype=dtype)  # a device may take float64 for float32

    monkeypatch.setattr(torch, "ones", ones_there)
    device = Unknown()
    assert [BACKEND.has_float64(device) for _ in range(3)] == [dtype == torch.float64] * 3
    assert asked == [device]


def test_a_fake_tensor_mode_is_no_answer() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    device = torch.device("hpu")
    with FakeTensorMode():
        assert not BACKEND.has_float64(device)
    assert _torch_tensors._found == {}


@pytest.mark.slow
def test_a_compiled_program_asks_while_it_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is in the place of a device that torch.compile knows and the library does not."""
    asked: list[torch.device] = []
    monkeypatch.setattr(TorchBackend, "has_float64", lambda self, device: _torch_tensors.found_float64(device))
    monkeypatch.setattr(_torch_tensors, "_computes_float64", lambda device: not asked.append(device))
    x, t = torch.rand(2, 3), torch.rand(2)
    noised = torch.compile(rf.add_noise, backend="eager", fullgraph=True)(x, 2 * x, t)
    assert asked == [torch.device("cpu")]
    assert torch.equal(noised, rf.add_noise(x, 2 * x, t))

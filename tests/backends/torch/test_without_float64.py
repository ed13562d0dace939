"""PyTorch on a device without float64 (MPS), simulated on the CPU, and how such a device is found."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._vmap_internals import _vmap
from torch.utils._python_dispatch import TorchDispatchMode

import fastgen_rf as rf
from fastgen_rf.backends import _torch_tensors
from fastgen_rf.backends._torch import BACKEND, TorchBackend
from tests.backends.torch.reference import assert_same_bits, gradients, reference_gradients
from tests.backends.torch.tensors import FOUR, SMALL, inputs, randn
from tests.catalogue import HARD_TIMES, ROWS

# torch's compiler uses what torch deprecates itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
ROWS_HERE = [*FOUR, ROWS["convert_prediction (v, score)"]]


@pytest.fixture
def simulated() -> Iterator[None]:
    with mock.patch.object(TorchBackend, "has_float64", lambda self, device: False):
        yield


without_float64 = pytest.mark.usefixtures("simulated")


def numpys(row: Any, *given: Any) -> Tensor:
    """NumPy's result for the values of tensors in float64, rounded by way of float32."""
    with np.errstate(all="ignore"):
        wide = row(*(x.double().numpy() if isinstance(x, Tensor) else x for x in given))
    return torch.from_numpy(wide).float().to(given[row.like].dtype)


class NoFloat64(TorchDispatchMode):
    """Raises an error where an operation returns float64."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float64:
            raise TypeError(f"{function} returns float64")
        return result


@without_float64
@every_dtype
def test_results_are_float64s_and_no_float64_is_used(dtype: torch.dtype) -> None:
    x, y, t = inputs((4, 5000), dtype, dtype, torch.float32)
    calls = [(row, (x, y, time)) for row in ROWS_HERE for time in (t, *HARD_TIMES.tolist())]
    for name, pair in product(("ode_step", "flow_step"), ((t, 0.1), (0.7, t), (0.7, 0.3))):
        calls.append((ROWS[name], (x, y, *pair)))
    for row, given in calls:
        with NoFloat64():
            watched = row(*given)
        for result in (watched, row(*given)):
            assert torch.equal(result, numpys(row, *given))


@without_float64
def test_gradients_have_the_precision_of_float32() -> None:
    for row in FOUR:
        given, weight = inputs(SMALL, wanted=(0, 1, 2)), randn(*SMALL, seed=3)
        with mock.patch.object(TorchBackend, "has_float64", lambda self, device: True):
            wanted = reference_gradients(row, given, weight)
        for ours, plain in zip(gradients(row, given, weight), wanted, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))


@without_float64
def test_vmap_and_that_of_batched_gradients() -> None:
    x, y, t = inputs((4, 5000))
    for row, axes in product(ROWS_HERE, [(0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0)]):
        given = [a if axis == 0 else a[0] for a, axis in zip((x, y, t), axes, strict=True)]
        whole = [a if axis == 0 else a.expand(4, *a.shape) for a, axis in zip(given, axes, strict=True)]
        assert torch.equal(torch.func.vmap(row, in_dims=axes)(*given), numpys(row, *whole))
    assert_same_bits(_vmap(lambda a, b: rf.add_noise(a, b, 0.3))(x[None], y[None])[0], numpys(FOUR[0], x, y, 0.3))


@without_float64
def test_a_compiled_float_that_changes_gives_the_eager_bits() -> None:
    torch.compiler.reset()
    x, y, _ = inputs(SMALL)

    def call(x: Tensor, y: Tensor, t: float) -> Tensor:
        return rf.ode_step(x, y, t, 0.1)

    again = torch.compile(call, fullgraph=True, backend="aot_eager")
    for value in (0.3, 0.5, 0.7):
        assert torch.equal(again(x, y, value), call(x, y, value))


# Whether a device computes in float64: by its capability, or by asking it once


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_tensors, "_found", {})


asked_anew = pytest.mark.usefixtures("nothing_found")


@asked_anew
def test_a_device_type_that_decides_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_tensors, "_computes_float64", pytest.fail)
    has = {name: BACKEND.has_float64(torch.device(name)) for name in ("cpu", "cpu:0", "cuda:1", "meta", "mps")}
    assert has == {"cpu": True, "cpu:0": True, "cuda:1": True, "meta": True, "mps": False}


@asked_anew
def test_an_intel_gpu_has_float64_where_its_capability_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def capability(device: torch.device) -> dict[str, bool]:
        if device.index is None:
            raise RuntimeError("no driver")
        return {"has_fp64": device.index == 1}

    monkeypatch.setattr(torch.xpu, "get_device_capability", capability)
    has = [BACKEND.has_float64(torch.device(name)) for name in ("xpu:1", "xpu:0", "xpu", "hpu")]
    assert has == [True, False, False, False]  # this build of torch has no hpu to ask


class Unknown:
    """A device of a type that the library does not know, whose tensors are the CPU's."""

    type = "unknown"


@asked_anew
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_an_unknown_device_is_asked_once_by_a_sum(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    asked, ones, device = [], torch.ones, Unknown()

    def ones_there(*shape: Any, device: Any, **options: Any) -> Tensor:
        asked.append(device)
        return ones((), dtype=dtype)  # a device may take float64 for float32

    monkeypatch.setattr(torch, "ones", ones_there)
    with FakeTensorMode():  # under which nothing is computed that would tell: float32 always serves
        assert not BACKEND.has_float64(device)
    assert [BACKEND.has_float64(device) for _ in range(3)] == [dtype == torch.float64] * 3
    assert asked == [device]

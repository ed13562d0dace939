"""PyTorch made to go without float64: called eagerly, and compiled by inductor, which contracts ``a b + c``."""

from __future__ import annotations

import pytest
import torch

from fastgen_rf.backends._torch import TorchBackend
from tests.cases.without_float64 import ARRAY_TIMES, CALLS, FLOAT_TIMES, arrays, off, wanted

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _without_float64(monkeypatch):
    monkeypatch.setattr(TorchBackend, "has_float64", lambda self, device: False)


def tensor(value):
    return value if isinstance(value, float) else torch.from_numpy(value)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("t", [*FLOAT_TIMES, *ARRAY_TIMES])
def test_an_eager_call_gives_float64s_numbers(call, t):
    first, second = arrays((1.0, 1.0))
    time = t if isinstance(t, float) else ARRAY_TIMES[t]
    got = CALLS[call](tensor(first), tensor(second), tensor(time))
    assert off(got.numpy(), wanted(call, first, second, time)) == 0


@pytest.mark.parametrize("t", [0.3, "ordinary"])
def test_a_compiled_call_gives_float64s_numbers(t):
    first, second = arrays((1.0, 1.0))
    time = t if isinstance(t, float) else ARRAY_TIMES[t]
    torch.compiler.reset()
    got = torch.compile(CALLS["add_noise"], fullgraph=True)(tensor(first), tensor(second), tensor(time))
    assert off(got.numpy(), wanted("add_noise", first, second, time)) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("call", ["add_noise", "x0_to_eps", "v to score"])
def test_narrow_results_are_float64s_by_way_of_float32(dtype, call):
    first, second = (tensor(array).to(dtype) for array in arrays((1.0, 1.0)))
    got = CALLS[call](first, second, 0.3)
    want = tensor(wanted(call, first.float().numpy(), second.float().numpy(), 0.3)).to(dtype)
    assert torch.equal(got.isnan(), want.isnan())
    assert off(got.float().numpy(), want.float().numpy()) == 0

"""PyTorch made to go without float64: called eagerly, and compiled by inductor, which contracts ``a b + c``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._inductor.config as inductor
from torch._vmap_internals import _vmap

from fastgen_rf.backends._torch import BACKEND, TorchBackend
from tests.cases.without_float64 import ARRAY_TIMES, CALLS, FLOAT_TIMES, HALVED, arrays, check_halves, off, wanted
from tests.devices.compiled_words import compare

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


def test_the_vmap_of_batched_gradients_gives_float64s_numbers():
    first, second = (tensor(x) for x in arrays((1.0, 1.0)))
    call = CALLS["add_noise"]
    got = _vmap(lambda x, y: call(x, y, 0.3))(first[None], second[None])[0]
    assert off(got.numpy(), wanted("add_noise", first.numpy(), second.numpy(), 0.3)) == 0


@pytest.fixture
def _contracting():
    """Let inductor contract, as it does on GPUs unasked; one element at a time, for which the code is half."""
    torch.compiler.reset()
    with inductor.patch({"cpp.enable_floating_point_contract_flag": "fast", "cpp.simdlen": 1}):
        yield


@pytest.mark.usefixtures("_contracting")
def test_a_compiled_call_gives_float64s_numbers():
    """At inductor's own threshold for what it computes anew; the four below have theirs, in vectors."""
    first, second = arrays((1.0, 1.0))
    t = ARRAY_TIMES["ordinary"]
    got = torch.compile(CALLS["add_noise"], fullgraph=True)(tensor(first), tensor(second), tensor(t))
    assert off(got.numpy(), wanted("add_noise", first, second, t)) == 0


@pytest.mark.usefixtures("_contracting")
def test_the_compiler_does_contract():
    """The twin of the test above: the same compiler rounds ``a b + c`` once."""
    a, b = arrays((1.0, 1.0))
    got = torch.compile(lambda a, b: a * b + a, fullgraph=True)(tensor(a), tensor(b))
    assert off(got.numpy(), a * b + a) > 0.1 * a.size


@pytest.mark.parametrize(("call", "kind"), [("v to v_vp", 0), ("x0 to v", 1), ("ode_step to t", 2), ("x0_to_eps", 3)])
def test_compiled_results_are_float64s_beside_a_sum_that_is_contracted(call, kind):
    """Of all formulas four, by every operation; ``python -m tests.devices.compiled_words`` runs all."""
    *_, apart, size, contracted = compare(call, kind)
    assert apart == 0
    assert contracted > 0.1 * size


@pytest.mark.parametrize("call", CALLS)
def test_gradients_are_the_coefficients(call):
    """Every formula is linear in its arrays; the coefficients are NumPy's, in float64."""
    first, second = (tensor(array).requires_grad_() for array in arrays((1.0, 1.0)))
    t = ARRAY_TIMES["ordinary"]
    CALLS[call](first, second, tensor(t)).sum().backward()
    one, zero = np.ones_like(t, np.float64), np.zeros_like(t, np.float64)
    coefficients = CALLS[call](one, zero, t.astype(np.float64)), CALLS[call](zero, one, t.astype(np.float64))
    for array, coefficient in zip((first, second), coefficients, strict=True):
        if array.grad is None:
            assert not coefficient.any()
        else:
            np.testing.assert_allclose(array.grad[:, 0], coefficient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("axes", [(0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0)], ids=str)
@pytest.mark.parametrize("call", ["add_noise", "x0 to v_vp", "ode_step to t"])
def test_a_mapped_call_gives_float64s_numbers(call, axes):
    first, second = arrays((1.0, 1.0))
    arguments = [
        a if axis == 0 else a[0] for a, axis in zip((first, second, ARRAY_TIMES["ordinary"]), axes, strict=True)
    ]
    got = torch.func.vmap(CALLS[call], in_dims=axes)(*(torch.as_tensor(argument) for argument in arguments))
    shape = first.shape
    whole = [np.broadcast_to(a if axis == 0 else a[None], shape) for a, axis in zip(arguments[:2], axes, strict=False)]
    want = wanted(call, *whole, np.broadcast_to(arguments[2], shape[:1]))
    assert off(got.numpy(), want) == 0


def test_halves_have_12_bits():
    check_halves(BACKEND.float32.leading(torch.from_numpy(HALVED)).numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("call", ["add_noise", "x0_to_eps", "v to score"])
def test_narrow_results_are_float64s_by_way_of_float32(dtype, call):
    first, second = (tensor(array).to(dtype) for array in arrays((1.0, 1.0)))
    got = CALLS[call](first, second, 0.3)
    want = tensor(wanted(call, first.float().numpy(), second.float().numpy(), 0.3)).to(dtype)
    assert torch.equal(got.isnan(), want.isnan())
    assert off(got.float().numpy(), want.float().numpy()) == 0


def test_the_old_vmap_has_other_halves():
    first, second = (tensor(array[:4, :4]) for array in arrays((1.0, 1.0)))
    t = tensor(ARRAY_TIMES["ordinary"][:4])
    slopes = torch.autograd.functional.jacobian(
        lambda x0: CALLS["add_noise"](x0, second, t), first, vectorize=True, strategy="forward-mode"
    )
    assert torch.equal(slopes.reshape(16, 16).diag().reshape(4, 4), (1 - t)[:, None].expand(4, 4))

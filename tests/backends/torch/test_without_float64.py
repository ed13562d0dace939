"""PyTorch on a device without float64 (MPS), simulated on the CPU: what test_same_bits.py does not go into."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch._inductor.config as inductor
from torch import Tensor
from torch._vmap_internals import _vmap
from torch.utils._python_dispatch import TorchDispatchMode

import fastgen_rf as rf
from fastgen_rf.backends._torch import BACKEND, TorchBackend
from tests.backends.torch.reference import assert_same_bits, gradients, reference_gradients
from tests.backends.torch.tensors import FOUR, SMALL, inputs, randn, times
from tests.catalogue import HARD_TIMES, ROWS

# torch's compiler uses what torch deprecates itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
ROWS_HERE = [*FOUR, ROWS["convert_prediction (v, score)"]]


@pytest.fixture(autouse=True)
def _without_float64() -> Iterator[None]:
    with mock.patch.object(TorchBackend, "has_float64", lambda self, device: False):
        yield


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


@every_dtype
def test_results_are_float64s_and_no_float64_is_used(dtype: torch.dtype) -> None:
    for row in ROWS_HERE:
        x, y, t = inputs((4, 5000), dtype, dtype, torch.float32)
        for time in (t, *HARD_TIMES.tolist()):
            with NoFloat64():
                watched = row(x, y, time)
            for result in (watched, row(x, y, time)):
                assert torch.equal(result, numpys(row, x, y, time))


def test_either_time_of_a_step_may_be_a_float() -> None:
    x, y, t = inputs((4, 5000))
    for row in (ROWS["ode_step"], ROWS["flow_step"]):
        for pair in ((t, 0.1), (0.7, t), (0.7, 0.3)):
            assert_same_bits(row(x, y, *pair), numpys(row, x, y, *pair))


def test_gradients_have_the_precision_of_float32() -> None:
    for row in FOUR:
        given, weight = inputs(SMALL, wanted=(0, 1, 2)), randn(*SMALL, seed=3)
        with mock.patch.object(TorchBackend, "has_float64", lambda self, device: True):
            wanted = reference_gradients(row, given, weight)
        for ours, plain in zip(gradients(row, given, weight), wanted, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))


def test_vmap() -> None:
    for row, axes in product(ROWS_HERE, [(0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0)]):
        given = [x if axis == 0 else x[0] for x, axis in zip(inputs((4, 5000)), axes, strict=True)]
        whole = [x if axis == 0 else x.expand(4, *x.shape) for x, axis in zip(given, axes, strict=True)]
        assert torch.equal(torch.func.vmap(row, in_dims=axes)(*given), numpys(row, *whole))


def test_the_vmap_of_batched_gradients() -> None:
    x, y, t = inputs((4, 5000))
    got = _vmap(lambda a, b: rf.add_noise(a, b, 0.3))(x[None], y[None])[0]
    assert_same_bits(got, numpys(FOUR[0], x, y, 0.3))
    options = {"vectorize": True, "strategy": "forward-mode"}
    slopes = torch.autograd.functional.jacobian(lambda x0: rf.add_noise(x0, y[:, :4], t), x[:, :4], **options)
    assert torch.equal(slopes.reshape(16, 16).diag().reshape(4, 4), (1 - t)[:, None].expand(4, 4))


def test_the_leading_part_of_a_number_has_12_bits() -> None:
    values = torch.cat([randn(100_000), 2 - 2.0**-10 * times(100_000)])
    unit = torch.from_numpy(np.spacing(values.abs().numpy()) * np.float32(2**12))
    for mode in (torch.no_grad, NoFloat64):  # two implementations
        with mode():
            high = BACKEND.float32.leading(values)
        assert torch.equal((high / unit).round() * unit, high)
        assert ((values - high).abs() <= unit / 2).all()


@every_dtype
def test_samples_are_the_quantiles_of_48_random_bits(dtype: torch.dtype) -> None:
    cfg = rf.SampleTimestepConfig("logitnormal", min_t=0.125, max_t=0.875)
    t, r = rf.sample_timestep_pairs((4, 250), cfg, equal=0.5, rng=5, xp=torch, dtype=dtype)
    generator = torch.Generator().manual_seed(5)
    high, low = torch.randint(2**24, (2, 3, 1000), dtype=torch.int32, generator=generator).double()
    u = high * 2.0**-24 + low * 2.0**-48
    first, second = (torch.from_numpy(rf.timestep_quantile(each.numpy(), cfg)) for each in u[:2])
    larger = torch.maximum(first, second)
    smaller = torch.where(u[2] < 0.5, larger, torch.minimum(first, second))
    for time, exact in ((t, larger), (r, smaller)):
        assert_same_bits(time.flatten(), exact.to(dtype))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["add_noise", "x0_to_eps", "convert_prediction (v, v_vp)"])
def test_a_compiler_that_contracts_products_and_sums_leaves_the_results_alone(name: str) -> None:
    row, (a, b, t) = ROWS[name], inputs((64, 400))
    torch.compiler.reset()
    # The threshold keeps inductor from repeating what is made of t, which would take minutes to compile.
    with inductor.patch({"cpp.enable_floating_point_contract_flag": "fast", "realize_opcount_threshold": 6}):
        call = torch.compile(lambda *x: (row(*x), x[0] * x[1] + x[0]), fullgraph=True, dynamic=False)
        result, contracted = call(a, b, t)
    assert_same_bits(result, numpys(row, a, b, t))
    assert (contracted != a * b + a).double().mean() > 0.1

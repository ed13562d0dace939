"""torch.func, torch.compile, torch.export and DTensor: what the support matrix does not go into."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.func import vmap

import fastgen_rf as rf
from tests.backends.torch.reference import (
    assert_rounded_once,
    assert_same_bits,
    gradients,
    reference,
    reference_gradients,
)
from tests.backends.torch.tensors import FOUR, LARGE, SMALL, TWO, both_sizes, inputs, laid_out, randn, times
from tests.catalogue import CONFIGS

# torch's compiler still uses what torch deprecates itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _without_compiled_code_of_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(call: Any, **options: Any) -> Any:
    return torch.compile(call, fullgraph=True, **({"backend": "aot_eager"} | options))


class Graphs:
    """A compiler backend that counts the graphs it gets."""

    count = 0

    def __call__(self, module: Any, example: Any) -> Any:
        self.count += 1
        return module


# torch.func


@both_sizes
def test_vmap_with_shared_arguments_and_over_other_axes(shape: tuple[int, ...]) -> None:
    x, y, t = inputs(shape)
    for row in TWO:
        for dtype in (torch.float32, torch.bfloat16):
            a, b = x.to(dtype), y.to(dtype)
            assert torch.equal(vmap(row)(a, b, t), reference(row, a, b, t))
        assert torch.equal(vmap(row, (0, 0, None))(x, y, t[0]), reference(row, x, y, t[:1]))
        assert torch.equal(vmap(row, (None, 0, 0))(x[0], y, t), reference(row, x[:1].expand(shape), y, t))
        assert torch.equal(vmap(row, (0, None, 0))(x, y[0], t), reference(row, x, y[:1].expand(shape), t))
        several = vmap(row, (None, None, 0))(x, y, t)
        assert torch.equal(several, torch.stack([reference(row, x, y, at) for at in t]))
        columns = times(shape[-1], shape[0])
        got = vmap(row, in_dims=(-1, -1, 0), out_dims=-1)(x, y, columns)
        each = [reference(row, x[..., k], y[..., k], columns[k]) for k in range(shape[-1])]
        assert torch.equal(got, torch.stack(each, -1))
        assert torch.equal(vmap(vmap(row))(x, y, times(*shape[:2])), reference(row, x, y, times(*shape[:2])))


# torch.compile and torch.export


@both_sizes
def test_a_compiled_call_has_the_bits_strides_and_gradients_of_an_eager_one(shape: tuple[int, ...]) -> None:
    layouts = ("contiguous", "channels_last", "strided")
    for row, layout in zip((*TWO, FOUR[3]), layouts, strict=True):
        call = compiled(row)
        x, y = (laid_out(layout, shape, torch.bfloat16, seed).detach().requires_grad_() for seed in (1, 2))
        given = [x, y, times(4).clone().requires_grad_()]
        assert_same_bits(call(*given), reference(row, *given))
        upstream = randn(*shape, dtype=torch.bfloat16, seed=3)
        wanted = reference_gradients(row, given, upstream)
        assert_rounded_once(gradients(call, given, upstream), wanted)


def test_one_compilation_is_enough_for_every_size() -> None:
    graphs = Graphs()
    call = compiled(rf.x0_to_eps, dynamic=True, backend=graphs)
    for shape in [(2, 3, 5, 7), (4, 3, 6, 9), LARGE]:
        assert_same_bits(call(*inputs(shape)), reference(TWO[1], *inputs(shape)))
    assert graphs.count == 1


def test_a_python_float_t_becomes_symbolic() -> None:
    x, y, _ = inputs(SMALL)
    for row in TWO:
        call = compiled(row)
        for t in (0.3, 0.7, 0.9):  # the second call makes t symbolic, the third reuses that
            assert_same_bits(call(x, y, t), reference(row, x, y, t))


def test_two_sizes_are_told_apart() -> None:
    call = torch.compile(lambda x, y: rf.add_noise(x, y, 0.5), backend="eager", dynamic=True)
    assert call(torch.ones(4, 3), torch.ones(4, 3)).shape == (4, 3)
    with pytest.raises(ValueError, match="must have the same shape"):
        call(torch.ones(4, 3), torch.ones(5, 3))


@pytest.mark.skipif(torch.__version__ < "2.8", reason="before torch 2.8 no comparison of such sizes can be left open")
def test_a_batch_may_have_a_size_that_is_known_at_the_call_only() -> None:
    given = inputs((3, 4))
    for array in given:
        torch._dynamo.decorators.mark_unbacked(array, 0)
    assert torch.equal(compiled(rf.add_noise)(*given), rf.add_noise(*given))


class Module(torch.nn.Module):
    """A function as a module, which torch.export takes."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, *given: Tensor) -> Any:
        return self.call(*given)


def test_a_module_exports_with_a_dynamic_batch() -> None:
    batch = torch.export.Dim("batch", min=2)
    dynamic = {"given": ({0: batch}, {0: batch}, {0: batch})}
    exported = torch.export.export(Module(rf.x0_to_eps), tuple(inputs((4, 3))), dynamic_shapes=dynamic).module()
    for size in (4, 7):
        assert_same_bits(exported(*inputs((size, 3))), reference(TWO[1], *inputs((size, 3))))


@pytest.mark.parametrize("convert", [rf.add_noise, rf.x0_to_flow])
def test_a_number_that_is_known_at_the_call_only_exports(convert: Any) -> None:
    x, y = torch.randn(2, 3, 4)
    module = Module(lambda x, y, t: (convert(x, y, t.item()), rf.rf_alpha(t.item())))
    exported = torch.export.export(module, (x, y, torch.tensor(0.25)), strict=False).module()
    result, alpha = exported(x, y, torch.tensor(0.75))
    assert torch.equal(result, convert(x, y, 0.75))
    assert alpha == 0.25


FIRST_CALL = """
import torch
import fastgen_rf as rf
@torch.compile(fullgraph=True, backend="aot_eager")
def step(x0, eps):
    t = rf.sample_timesteps(4, rf.SampleTimestepConfig(), device=x0.device, dtype=torch.float32)
    return rf.add_noise(x0, eps, t), t
noised, t = step(torch.ones(4), torch.zeros(4))
assert torch.equal(noised, 1 - t)
"""


@pytest.mark.slow
def test_the_first_call_of_a_process_may_be_compiled() -> None:
    subprocess.run([sys.executable, "-c", FIRST_CALL], check=True)


# Samplers under the compiler


def assert_same_samples(sample: Any, call: Any, *given: Any) -> None:
    """Compiled and eager samples of the global generator at one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        ours = call(*given)
        torch.manual_seed(4)
        for time, eager in zip(ours, sample(*given), strict=True):
            assert torch.equal(time, eager)


def test_every_distribution_compiles_to_the_eager_samples() -> None:
    tail = [rf.SampleTimestepConfig(c.time_dist_type, p_mean=5.0, p_std=0.1) for c in CONFIGS if not c.truncate]
    other = SimpleNamespace(**{name: getattr(tail[0], name) for name in tail[0].__dataclass_fields__})

    def sample() -> list[Any]:
        configs = (*CONFIGS, *tail, other, rf.SampleTimestepConfig("logitnormal"))
        return [rf.sample_timesteps(64, cfg, dtype=torch.float32) for cfg in configs]

    assert_same_samples(sample, compiled(sample))


def test_one_compilation_of_the_samplers_is_enough_for_every_batch_size() -> None:
    cfg = rf.SampleTimestepConfig("beta", truncate=True)

    def sample(x: Tensor) -> tuple[Any, ...]:
        names: dict[str, Any] = {"device": x.device, "dtype": x.dtype}
        return (
            rf.sample_timesteps(x.shape[0], cfg, **names),
            rf.sample_timesteps(x.shape[0], cfg, stratified=True, **names),
            *rf.sample_timestep_pairs(x.shape[:2], cfg, **names),
            *rf.sample_timestep_pairs(x.shape[:2], cfg, stratified=True, **names),
            *rf.sample_from_t_list(x.shape[0], (1.0, 0.75, 0.5, 0.0), return_index=True, **names),
        )

    graphs = Graphs()
    call = compiled(sample, dynamic=True, backend=graphs)
    for n in (3, 5, 8):
        assert_same_samples(sample, call, torch.zeros(n, 4, dtype=torch.bfloat16))
    assert graphs.count == 1


@pytest.mark.parametrize("strict", [True, False])
def test_a_module_that_samples_exports_with_a_dynamic_batch(strict: bool) -> None:
    def sample(x: Tensor) -> tuple[Any, Any]:
        cfg, n = rf.SampleTimestepConfig("lognormal"), x.shape[0]
        entries = rf.sample_from_t_list(n, (1.0, 0.5, 0.0), device=x.device)
        return rf.sample_timesteps(n, cfg, device=x.device, stratified=True), entries

    dynamic = {"given": ({0: torch.export.Dim("batch", min=2, max=64)},)}
    exported = torch.export.export(Module(sample), (torch.zeros(8, 2),), dynamic_shapes=dynamic, strict=strict)
    assert [t.shape for t in exported.module()(torch.zeros(5, 2))] == [(5,), (5,)]


# DTensor


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("places", [(Shard(0), Shard(0)), (Replicate(), Replicate()), (Shard(1), Replicate())], ids=str)
@both_sizes
def test_distributed_tensors_keep_their_placements_bits_and_gradients(
    places: tuple[Any, Any], shape: tuple[int, ...], mesh: DeviceMesh
) -> None:
    for row in FOUR[:3]:
        for dtype in (torch.float32, torch.bfloat16):
            local = inputs(shape, dtype, dtype, torch.float32, wanted=(0, 1, 2))
            at = (places[0], places[0], places[1])
            leaves = [
                distribute_tensor(x.detach(), mesh, [place]).requires_grad_()
                for x, place in zip(local, at, strict=True)
            ]
            result = row(*leaves)
            assert isinstance(result, DTensor)
            assert result.placements == places[:1]
            assert_same_bits(result.full_tensor(), reference(row, *local))
            weight = randn(*shape, dtype=dtype, seed=3)
            got = torch.autograd.grad(result, leaves, distribute_tensor(weight, mesh, list(places[:1])))
            wanted = reference_gradients(row, local, weight)
            assert_rounded_once([x.full_tensor() for x in got], wanted)
            by_number = row(leaves[0], leaves[1], 0.3)
            assert_same_bits(by_number.full_tensor(), reference(row, *local[:2], 0.3))

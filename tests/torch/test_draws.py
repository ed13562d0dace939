"""PyTorch, the draws: its own generators, its global one, its compiler, and what a device without float64 does."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fastgen_rf as rf
from fastgen_rf.backends._torch import TorchBackend
from tests.cases.names import PUBLISHED, every_published_law
from tests.torch.plain import LARGE, SMALL, Conversion, both_sizes, every_conversion, randn, times, ulps_apart

every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
SHIFTED = rf.SampleTimestepConfig()
RUNGS = (1.0, 0.75, 0.5, 0.0)


@pytest.fixture(autouse=True)
def _global_state_is_left_as_found() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield
    torch.compiler.reset()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_published_law
@every_dtype
def test_every_law_stays_inside_its_bounds_in_every_dtype(law: str, dtype: torch.dtype) -> None:
    cfg = rf.SampleTimestepConfig(law, shift=50.0, p_mean=2.0, p_std=3.0)
    t = rf.sample_timesteps(20_000, cfg, rng=seeded(), dtype=dtype)
    assert (t.dtype, t.shape, t.device.type) == (dtype, (20_000,), "cpu")
    assert t.double().min() >= cfg.min_t
    assert t.double().max() <= cfg.max_t


@every_published_law
def test_draws_are_the_law_s_quantiles_of_the_generator_s_uniforms(law: str) -> None:
    cfg = rf.SampleTimestepConfig(law)
    t = rf.sample_timesteps(1000, cfg, rng=seeded(3), dtype=torch.float64)
    u = torch.rand(1000, dtype=torch.float64, generator=seeded(3))
    torch.testing.assert_close(t, torch.from_numpy(rf.timestep_quantile(u.numpy(), cfg)), rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda **k: rf.sample_timesteps(64, SHIFTED, **k),
        lambda **k: rf.sample_timestep_pairs(64, SHIFTED, **k)[1],
        lambda **k: rf.sample_from_t_list(64, RUNGS, **k),
    ],
    ids=["law", "pairs", "t_list"],
)
class TestGenerators:
    """What every sampler promises about ``rng``."""

    def test_a_generator_advances_by_each_draw(self, draw: Any) -> None:
        generator = seeded()
        first, second = draw(rng=generator), draw(rng=generator)
        assert not torch.equal(first, second)

    def test_a_generator_s_state_brings_a_draw_back(self, draw: Any) -> None:
        generator = seeded()
        state = generator.get_state()
        first = draw(rng=generator)
        generator.set_state(state)
        assert torch.equal(draw(rng=generator), first)

    def test_a_generator_leaves_the_global_one_alone(self, draw: Any) -> None:
        before = torch.get_rng_state()
        draw(rng=seeded())
        draw(rng=7, xp=torch)
        assert torch.equal(torch.get_rng_state(), before)

    def test_none_draws_from_the_global_generator(self, draw: Any) -> None:
        torch.manual_seed(11)
        first, second = draw(dtype=torch.float32), draw(dtype=torch.float32)
        torch.manual_seed(11)
        assert torch.equal(draw(dtype=torch.float32), first)
        assert torch.equal(draw(dtype=torch.float32), second)
        assert not torch.equal(first, second)

    def test_an_int_seeds_a_fresh_generator_for_the_call(self, draw: Any) -> None:
        assert torch.equal(draw(rng=5, xp=torch), draw(rng=5, xp=torch))
        assert torch.equal(draw(rng=5, xp=torch), draw(rng=seeded(5)))
        assert not torch.equal(draw(rng=5, xp=torch), draw(rng=6, xp=torch))

    def test_a_numpy_generator_gives_numpy_s_stream(self, draw: Any) -> None:
        moved = draw(rng=np.random.default_rng(2), dtype=torch.float32)
        assert isinstance(moved, Tensor)
        assert np.array_equal(moved.numpy(), draw(rng=np.random.default_rng(2)))

    def test_a_numpy_generator_rounds_once_to_bfloat16(self, draw: Any) -> None:
        moved = draw(rng=np.random.default_rng(2), dtype=torch.bfloat16)
        exact = draw(rng=np.random.default_rng(2), dtype=torch.float64)
        assert ulps_apart(moved, exact.to(torch.bfloat16)) == 0

    @pytest.mark.parametrize(
        "names",
        [{"xp": torch}, {"device": torch.device("cpu")}, {"dtype": torch.float32}, {"rng": torch.Generator()}],
        ids=["xp", "device", "dtype", "rng"],
    )
    def test_any_torch_argument_names_the_framework(self, draw: Any, names: dict[str, Any]) -> None:
        assert isinstance(draw(**names), Tensor)

    def test_float32_whatever_torch_s_default_dtype_is(self, draw: Any) -> None:
        expected = draw(rng=seeded())
        torch.set_default_dtype(torch.float64)
        try:
            actual = draw(rng=seeded())
        finally:
            torch.set_default_dtype(torch.float32)
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected)

    def test_the_default_device_is_torch_s(self, draw: Any) -> None:
        with torch.device("meta"):
            assert draw(dtype=torch.float32).device.type == "meta"
        assert draw(rng=seeded()).device.type == "cpu"

    def test_a_device_wins_over_the_default_one_for_host_draws_too(self, draw: Any) -> None:
        with torch.device("meta"):
            assert draw(rng=np.random.default_rng(0), xp=torch, device="cpu").device.type == "cpu"

    def test_a_generator_s_device_wins_over_the_default_one(self, draw: Any) -> None:
        with torch.device("meta"):
            assert draw(rng=seeded()).device.type == "cpu"

    @pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0)], ids=repr)
    def test_a_device_and_its_name_are_the_same(self, draw: Any, device: Any) -> None:
        assert torch.equal(draw(rng=seeded(), device=device), draw(rng=seeded()))

    def test_a_generator_on_another_device_raises(self, draw: Any) -> None:
        with pytest.raises(ValueError, match="rng and device must agree, got a generator on cpu and device meta"):
            draw(rng=seeded(), device="meta")

    @pytest.mark.parametrize(
        "wrong",
        [{"rng": torch.Generator(), "xp": np}, {"dtype": torch.float32, "xp": np}, {"rng": "0", "xp": torch}],
        ids=["numpy_namespace", "numpy_and_dtype", "string"],
    )
    def test_disagreeing_arguments_raise(self, draw: Any, wrong: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match=r"must be|belong to different frameworks"):
            draw(**wrong)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool], ids=str)
    def test_a_dtype_that_is_not_real_floating_raises(self, draw: Any, dtype: torch.dtype) -> None:
        with pytest.raises(TypeError, match="dtype must be a real floating dtype"):
            draw(dtype=dtype)

    def test_no_draw_requires_grad_nor_refuses_it(self, draw: Any) -> None:
        t = draw(rng=seeded())
        assert not t.requires_grad
        assert (2 * t.requires_grad_()).sum().requires_grad

    def test_compiled_and_eager_draws_are_the_same(self, draw: Any) -> None:
        compiled = torch.compile(lambda: draw(dtype=torch.bfloat16), fullgraph=True, backend="aot_eager")
        torch.manual_seed(4)
        actual = compiled()
        torch.manual_seed(4)
        assert torch.equal(actual, draw(dtype=torch.bfloat16))


def test_rungs_come_from_all_but_the_last() -> None:
    rungs = rf.sample_from_t_list(1000, RUNGS, rng=seeded())
    assert set(rungs.tolist()) == {1.0, 0.75, 0.5}


def test_a_rung_s_index_compiles_in_one_graph_to_the_eager_one() -> None:
    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        return rf.sample_from_t_list(64, RUNGS, dtype=torch.bfloat16, return_index=True)

    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    torch.manual_seed(4)
    t, index = compiled()
    torch.manual_seed(4)
    eager_t, eager_index = draw()
    assert torch.equal(t, eager_t)
    assert torch.equal(index, eager_index)


@every_published_law
@pytest.mark.parametrize("mean", [0.0, 5.0], ids=["centred", "far_in_a_tail"])
def test_every_law_compiles_in_one_graph_to_the_eager_draw(law: str, mean: float) -> None:
    cfg = rf.SampleTimestepConfig(law, p_mean=mean, p_std=0.1)
    compiled = torch.compile(
        lambda: rf.sample_timesteps(64, cfg, dtype=torch.float32), fullgraph=True, backend="aot_eager"
    )
    torch.manual_seed(4)
    actual = compiled()
    torch.manual_seed(4)
    assert torch.equal(actual, rf.sample_timesteps(64, cfg, dtype=torch.float32))


def test_one_compiled_draw_serves_every_batch_size() -> None:
    def like(x: Tensor) -> Tensor:
        t = rf.sample_timesteps(x.shape[0], SHIFTED, device=x.device, dtype=x.dtype)
        assert isinstance(t, Tensor)
        return t

    graphs = 0

    def counting(module: Any, example: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module

    compiled = torch.compile(like, fullgraph=True, dynamic=True, backend=counting)
    assert [compiled(torch.zeros(n, 2)).shape for n in (3, 5, 8)] == [(3,), (5,), (8,)]
    assert graphs == 1


def test_a_config_made_inside_or_of_a_foreign_class_compiles() -> None:
    foreign = SimpleNamespace(**{name: getattr(SHIFTED, name) for name in SHIFTED.__dataclass_fields__})

    def draws() -> tuple[Any, Any]:
        inside = rf.SampleTimestepConfig("logitnormal")
        return rf.sample_timesteps(4, inside, xp=torch), rf.sample_timesteps(4, foreign, xp=torch)

    compiled = torch.compile(draws, fullgraph=True, backend="aot_eager")
    torch.manual_seed(4)
    actual = compiled()
    torch.manual_seed(4)
    assert all(torch.equal(x, y) for x, y in zip(actual, draws(), strict=True))


@pytest.mark.parametrize("law", [law for law in PUBLISHED if law != "polynomial"])  # that one is a staircase
def test_the_quantile_differentiates_to_one_over_the_density(law: str) -> None:
    u = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    cfg = rf.SampleTimestepConfig(law)
    (slope,) = torch.autograd.grad(rf.timestep_quantile(u, cfg).sum(), u)
    step = 1e-6
    above, below = (rf.timestep_quantile(u.detach() + sign * step, cfg) for sign in (1, -1))
    torch.testing.assert_close(slope, (above - below) / (2 * step), rtol=1e-6, atol=1e-9)


# A device without float64 (MPS): the CPU, told that it is one


@pytest.fixture
def no_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The backend believes that no device has float64; the CPU still has it, so a stray cast goes unnoticed here."""
    monkeypatch.setattr(TorchBackend, "has_float64", lambda self, device: False)
    yield


@every_conversion
@pytest.mark.parametrize(
    ("shape", "dtype", "scale"),
    [
        *(
            (SMALL, dtype, scale)
            for dtype in (torch.float32, torch.bfloat16, torch.float16)
            for scale in (1e-6, 1.0, 1e6)
        ),
        (LARGE, torch.float32, 1.0),
    ],
    ids=str,
)
@pytest.mark.usefixtures("no_float64")
def test_without_float64_results_are_float64_s_rounding(
    conversion: Conversion, shape: tuple[int, ...], dtype: torch.dtype, scale: float
) -> None:
    if dtype == torch.float16 and scale != 1.0:
        scale = scale**0.5
    first, second = (scale * randn(*shape, dtype=dtype, seed=seed) for seed in (1, 2))
    t = times(shape[0])
    actual, expected = conversion.ours(first, second, t), conversion.plain(first, second, t)
    assert actual.stride() == expected.stride()
    assert ulps_apart(actual, expected) <= 1
    assert int((actual != expected).sum()) <= actual.numel() // 100_000


class _NoFloat64(TorchDispatchMode):
    """Refuse operations that return float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float64:
            raise TypeError(f"{func} made a float64 tensor")
        return result


@every_conversion
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("t", [0.3, times(4)], ids=["float", "array"])
@pytest.mark.usefixtures("no_float64")
def test_without_float64_none_is_made_on_the_way(conversion: Conversion, dtype: torch.dtype, t: Tensor | float) -> None:
    first, second = randn(*SMALL, dtype=dtype, seed=1), randn(*SMALL, dtype=dtype, seed=2)
    with _NoFloat64():
        result = conversion.ours(first, second, t)
    assert ulps_apart(result, conversion.plain(first, second, t)) <= 1


def test_the_guard_against_float64_guards() -> None:
    with _NoFloat64(), pytest.raises(TypeError, match="made a float64 tensor"):
        rf.add_noise(randn(*SMALL, seed=1), randn(*SMALL, seed=2), times(4))


@every_conversion
@pytest.mark.usefixtures("no_float64")
def test_without_float64_the_ends_of_time_and_a_python_t_work(conversion: Conversion) -> None:
    first, second = randn(*SMALL, seed=1), randn(*SMALL, seed=2)
    t = torch.tensor([0.0, 1.0, 1e-7, 1 - 2.0**-24])
    assert ulps_apart(conversion.ours(first, second, t), conversion.plain(first, second, t)) == 0
    for at in (0.0, 0.3, 1.0):
        assert ulps_apart(conversion.ours(first, second, at), conversion.plain(first, second, at)) <= 1


@every_conversion
@both_sizes
@pytest.mark.usefixtures("no_float64")
def test_without_float64_gradients_are_right_to_float32_s_precision(
    conversion: Conversion, shape: tuple[int, ...]
) -> None:
    weight = randn(*shape, seed=3)

    def gradients(function: Any) -> tuple[Tensor, ...]:
        values = randn(*shape, seed=1), randn(*shape, seed=2), times(shape[0])
        leaves = [x.detach().requires_grad_() for x in values]
        return torch.autograd.grad(function(*leaves), leaves, weight)

    for ours, plain in zip(gradients(conversion.ours), gradients(conversion.plain), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))


@every_published_law
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.usefixtures("no_float64")
def test_without_float64_draws_are_the_law_s_quantiles_of_48_random_bits(law: str, dtype: torch.dtype) -> None:
    cfg = rf.SampleTimestepConfig(law)
    t = rf.sample_timesteps(1000, cfg, rng=seeded(3), dtype=dtype)
    high, low = torch.randint(2**24, (2, 1000), dtype=torch.int32, generator=seeded(3)).double()
    exact = torch.from_numpy(rf.timestep_quantile((high * 2.0**-24 + low * 2.0**-48).numpy(), cfg))
    assert t.dtype == dtype
    assert ulps_apart(t, exact.to(dtype).clamp(*_inside(cfg, dtype))) == 0


def _inside(cfg: rf.SampleTimestepConfig, dtype: torch.dtype) -> tuple[float, float]:
    """Outermost values of ``dtype`` in ``[min_t, max_t]``."""
    low, high = torch.tensor(cfg.min_t, dtype=dtype), torch.tensor(cfg.max_t, dtype=dtype)
    one = torch.tensor(1.0, dtype=dtype)
    if low.double() < cfg.min_t:
        low = torch.nextafter(low, one)
    if high.double() > cfg.max_t:
        high = torch.nextafter(high, 0 * one)
    return low.item(), high.item()


@pytest.mark.usefixtures("no_float64")
def test_without_float64_a_seed_still_reproduces_a_draw() -> None:
    torch.manual_seed(9)
    first = rf.sample_timesteps(64, SHIFTED, dtype=torch.float32)
    torch.manual_seed(9)
    assert torch.equal(rf.sample_timesteps(64, SHIFTED, dtype=torch.float32), first)
    assert torch.equal(
        rf.sample_from_t_list(64, RUNGS, rng=5, xp=torch), rf.sample_from_t_list(64, RUNGS, rng=seeded(5))
    )


@pytest.mark.usefixtures("no_float64")
def test_without_float64_the_quantile_of_a_tensor_says_where_to_go() -> None:
    with pytest.raises(TypeError, match="u is on device cpu, which lacks float64: pass a NumPy array"):
        rf.timestep_quantile(torch.rand(3), SHIFTED)


# Pairs


@pytest.mark.parametrize("stratified", [False, True])
def test_pairs_of_every_shape_compile_in_one_graph_to_the_eager_ones(stratified: bool) -> None:
    def like(x: Tensor) -> tuple[Tensor, Tensor]:
        return rf.sample_timestep_pairs(x.shape[:2], SHIFTED, device=x.device, stratified=stratified)

    graphs = 0

    def counting(module: Any, example: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module

    compiled = torch.compile(like, fullgraph=True, dynamic=True, backend=counting)
    for n in (3, 5, 8):
        x = torch.zeros(n, 4, 2)
        torch.manual_seed(4)
        actual = compiled(x)
        torch.manual_seed(4)
        for time, expected in zip(actual, like(x), strict=True):
            assert time.shape == (n, 4)
            assert torch.equal(time, expected)
    assert graphs == 1


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_share_of_equal_pairs_is_exact_whatever_torch_s_default_dtype_is(default: torch.dtype) -> None:
    torch.set_default_dtype(default)
    try:
        drawn = [
            rf.sample_timestep_pairs(1000, SHIFTED, equal=0.333, rng=seeded(seed), stratified=True, dtype=torch.float64)
            for seed in range(10)
        ]
    finally:
        torch.set_default_dtype(torch.float32)
    assert {int((t == r).sum()) for t, r in drawn} == {333}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("no_float64")
def test_without_float64_pairs_are_those_of_48_random_bits(dtype: torch.dtype) -> None:
    cfg = rf.SampleTimestepConfig("logitnormal")
    t, r = rf.sample_timestep_pairs((4, 250), cfg, equal=0.5, rng=seeded(3), dtype=dtype)
    high, low = torch.randint(2**24, (2, 3, 1000), dtype=torch.int32, generator=seeded(3)).double()
    u = high * 2.0**-24 + low * 2.0**-48
    first, second = (torch.from_numpy(rf.timestep_quantile(row.numpy(), cfg)) for row in u[:2])
    larger, smaller = torch.maximum(first, second), torch.minimum(first, second)
    smaller = torch.where(u[2] < 0.5, larger, smaller)
    for time, exact in ((t, larger), (r, smaller)):
        assert (time.dtype, time.shape) == (dtype, (4, 250))
        assert ulps_apart(time.flatten(), exact.to(dtype).clamp(*_inside(cfg, dtype))) == 0

"""Samplers on PyTorch: generators, seeds, devices and dtypes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastgen_rf as rf

CFG = rf.SampleTimestepConfig()
T_LIST = (1.0, 0.75, 0.5, 0.0)
SAMPLERS = {
    "times": lambda **k: rf.sample_timesteps(64, CFG, **k),
    "pairs": lambda **k: rf.sample_timestep_pairs(64, CFG, **k)[1],
    "t_list": lambda **k: rf.sample_from_t_list(64, T_LIST, **k),
}
every_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=list(SAMPLERS))


@pytest.fixture(autouse=True)
def _leave_the_global_generator_alone() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def times(**names: Any) -> Any:
    return rf.sample_timesteps(64, CFG, **names)


# Generators and seeds


def test_samples_are_the_quantiles_of_the_generators_uniforms() -> None:
    cfg = rf.SampleTimestepConfig("lognormal")
    t = rf.sample_timesteps(1000, cfg, rng=seeded(3), dtype=torch.float64)
    u = torch.rand(1000, dtype=torch.float64, generator=seeded(3))
    torch.testing.assert_close(t, torch.from_numpy(rf.timestep_quantile(u.numpy(), cfg)), rtol=1e-13, atol=0)


class Operations(TorchDispatchMode):
    """Counts the operations that reach a device."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def test_a_draw_takes_few_operations() -> None:
    """nvidia-modelopt takes 4, 8, 7, 31, 4 and 3."""
    most = {"uniform": 5, "shifted": 9, "logitnormal": 9, "lognormal": 18, "polynomial": 7}
    for name, count in most.items():
        with Operations() as operations:
            rf.sample_timesteps(8, rf.SampleTimestepConfig(name), rng=seeded())
        assert operations.count <= count, name
    with Operations() as operations:
        rf.sample_from_t_list(8, T_LIST, rng=seeded())
    assert operations.count <= 5


@every_sampler
def test_a_generator_advances_and_its_state_brings_a_sample_back(sample: Any) -> None:
    generator = seeded()
    state = generator.get_state()
    first, second = sample(rng=generator), sample(rng=generator)
    assert not torch.equal(first, second)
    generator.set_state(state)
    assert torch.equal(sample(rng=generator), first)


@every_sampler
def test_only_a_call_without_rng_uses_the_global_generator(sample: Any) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    sample(rng=seeded())
    sample(rng=7, xp=torch)
    assert torch.equal(torch.get_rng_state(), before)
    first, second = sample(xp=torch), sample(xp=torch)
    assert not torch.equal(first, second)
    torch.manual_seed(11)
    assert torch.equal(sample(xp=torch), first)
    assert torch.equal(sample(xp=torch), second)


@every_sampler
def test_an_int_is_the_seed_of_a_new_generator(sample: Any) -> None:
    assert torch.equal(sample(rng=5, xp=torch), sample(rng=seeded(5)))
    assert torch.equal(sample(rng=2**32 - 1, xp=torch), sample(rng=seeded(2**32 - 1)))
    assert not torch.equal(sample(rng=5, xp=torch), sample(rng=6, xp=torch))


@every_sampler
def test_every_bit_of_a_long_seed_counts(sample: Any) -> None:
    """Generators on the CPU ignore all but 32 bits of a seed, so NumPy's takes a longer one."""
    for seed in (2**32, 2**32 + 1, 2**200):
        assert np.array_equal(sample(rng=seed, xp=torch).numpy(), sample(rng=seed, xp=np, dtype=np.float32))


@every_sampler
def test_a_numpy_generator_gives_numpys_samples_rounded_once(sample: Any) -> None:
    wide = sample(rng=np.random.default_rng(2), dtype=torch.float64)
    assert np.array_equal(wide.numpy(), sample(rng=np.random.default_rng(2), dtype=np.float64))
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(sample(rng=np.random.default_rng(2), dtype=dtype), wide.to(dtype))


# The framework, the dtype and the device of a sample


def test_a_sample_is_float32_whatever_the_default_dtype_is() -> None:
    expected = times(rng=seeded())
    equal = {"equal": 0.333, "stratified": True, "dtype": torch.float64}
    for default in (torch.float64, torch.bfloat16, torch.float16):
        torch.set_default_dtype(default)
        try:
            t = times(rng=seeded())
            larger, smaller = rf.sample_timestep_pairs(1000, CFG, rng=seeded(), **equal)
        finally:
            torch.set_default_dtype(torch.float32)
        assert t.dtype == torch.float32
        assert torch.equal(t, expected)
        assert int((larger == smaller).sum()) == 333


def test_the_device_is_the_one_asked_for_else_the_generators_else_the_default() -> None:
    numpys = np.random.default_rng(0)
    for names in ({"xp": torch}, {"device": torch.device("cpu")}, {"dtype": torch.float32}, {"rng": seeded()}):
        assert times(**names).device == torch.device("cpu")
    with torch.device("meta"):
        assert times(xp=torch).device.type == "meta"
        assert times(rng=5, xp=torch, device="cpu").device.type == "cpu"
        assert times(rng=numpys, xp=torch, device="cpu").device.type == "cpu"
        assert times(rng=seeded()).device.type == "cpu"
    for device in ("cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0)):
        assert torch.equal(times(rng=seeded(), device=device), times(rng=seeded()))
    assert times(rng=numpys, xp=torch, device="meta").device.type == "meta"
    with pytest.raises(ValueError, match=r"device must be a torch.device or its name, such as 'cuda:0', got 'nowhere'"):
        times(xp=torch, device="nowhere")


def test_the_generators_device_and_a_different_one_are_an_error() -> None:
    with pytest.raises(ValueError, match="rng and device must agree, got a generator on cpu and device meta"):
        times(rng=seeded(), device="meta")
    with pytest.raises(ValueError, match="rng and device must agree, got a generator on cpu and device cpu:1"):
        times(rng=seeded(), device="cpu:1")

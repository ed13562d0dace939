"""Samplers on PyTorch: generators, devices, dtypes, and the table that entries of a t_list are taken from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import fastgen_rf as rf
from fastgen_rf._draws import Index
from fastgen_rf.backends import _torch_tensors
from tests.backends.torch.tensors import Operations
from tests.exact import around_quotients

CFG = rf.SampleTimestepConfig()
T_LIST = (1.0, 0.75, 0.5, 0.25, 0.0)
SAMPLERS = {
    "times": lambda **k: rf.sample_timesteps(64, CFG, **k),
    "pairs": lambda **k: rf.sample_timestep_pairs(64, CFG, **k)[1],
    "t_list": lambda **k: rf.sample_from_t_list(64, T_LIST, **k),
}
every_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=list(SAMPLERS))
times = SAMPLERS["times"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Generators


def test_a_draw_takes_few_operations() -> None:
    """nvidia-modelopt takes 4, 8, 7, 31, 4 and 3."""
    for name, most in {"uniform": 5, "shifted": 9, "logitnormal": 9, "lognormal": 18, "polynomial": 7}.items():
        with Operations() as operations:
            rf.sample_timesteps(8, rf.SampleTimestepConfig(name), rng=seeded())
        assert len(operations.names) <= most, (name, operations.names)
    with Operations() as operations:
        rf.sample_from_t_list(8, T_LIST, rng=seeded())
    assert len(operations.names) <= 5, operations.names


@every_sampler
def test_a_generator_advances_and_an_int_seeds_a_new_one(sample: Any) -> None:
    generator = seeded()
    assert not torch.equal(sample(rng=generator), sample(rng=generator))
    for seed in (0, 2**32 - 1):  # the largest that torch's generators do not cut
        assert torch.equal(sample(rng=seed, xp=torch), sample(rng=seeded(seed)))


@every_sampler
def test_only_a_call_without_rng_uses_the_global_generator(sample: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        before = torch.get_rng_state()
        sample(rng=seeded())
        sample(rng=7, xp=torch)
        assert torch.equal(torch.get_rng_state(), before)
        first, second = sample(xp=torch), sample(xp=torch)
        assert not torch.equal(first, second)
        torch.manual_seed(11)
        assert torch.equal(sample(xp=torch), first)


# Dtypes and devices


def test_a_sample_is_float32_whatever_the_default_dtype_is() -> None:
    expected = times(rng=seeded())
    torch.set_default_dtype(torch.bfloat16)
    try:
        t = times(rng=seeded())
        pairs = rf.sample_timestep_pairs(1000, CFG, rng=seeded(), equal=0.333, stratified=True, dtype=torch.float64)
    finally:
        torch.set_default_dtype(torch.float32)
    assert t.dtype == torch.float32
    assert torch.equal(t, expected)
    assert int((pairs[0] == pairs[1]).sum()) == 333


def test_the_boundaries_are_the_quotients_i_over_k_to_the_last_bit() -> None:
    for k in (1, 2, 3, 49, 1000, 1999):
        u, wanted = around_quotients(k)
        index = _torch_tensors.index_of(torch.from_numpy(u), Index(k).boundaries)
        assert np.array_equal(index.numpy(), wanted)


@pytest.mark.parametrize(
    ("dtype", "largest"), [(torch.float8_e4m3fn, 1 - 2.0**-4), (torch.float8_e5m2fnuz, 1 - 2.0**-3)], ids=str
)
def test_float8_samples_stay_below_1_and_entries_come_with_their_index(dtype: torch.dtype, largest: float) -> None:
    assert rf.rf_alpha(torch.tensor([0.0, 0.25, 0.875, 1.0]).to(dtype)).float().tolist() == [1.0, 0.75, 0.125, 0.0]
    assert rf.sample_timesteps(4000, CFG, rng=seeded(), dtype=dtype).float().max() == largest
    t, index = rf.sample_from_t_list(64, T_LIST, rng=0, xp=torch, dtype=dtype, return_index=True)
    assert (t.dtype, index.dtype) == (dtype, torch.int32)
    assert t.float().tolist() == [T_LIST[i] for i in index.tolist()]


def test_the_device_is_the_one_asked_for_else_the_generators_else_the_default() -> None:
    numpys = np.random.default_rng(0)
    for names in ({"xp": torch}, {"device": torch.device("cpu")}, {"dtype": torch.float32}, {"rng": seeded()}):
        assert all(sample(**names).device == torch.device("cpu") for sample in SAMPLERS.values())
    with torch.device("meta"):
        assert times(xp=torch).device.type == "meta"
        assert {times(rng=rng, xp=torch, device="cpu").device.type for rng in (5, numpys)} == {"cpu"}
        _torch_tensors._kept_table.cache_clear()
        assert {sample(rng=seeded()).device.type for sample in SAMPLERS.values()} == {"cpu"}
    assert torch.equal(times(rng=seeded(), device="cpu:0"), times(rng=seeded()))
    assert times(rng=numpys, xp=torch, device="meta").device.type == "meta"
    with pytest.raises(ValueError, match="rng and device must agree, got a generator on cpu and device cpu:1"):
        times(rng=seeded(), device="cpu:1")


# The table that entries of a t_list are taken from, on an accelerator. Its stand-in is "meta", which has no values.


def table() -> Any:
    return _torch_tensors.table(T_LIST, torch.float32, torch.device("meta"))


def test_a_plain_table_is_kept_for_each_stream_and_serves_training(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ["first"]
    monkeypatch.setattr(_torch_tensors, "_KEEPS_TABLES", ("meta",))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream[-1])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    _torch_tensors._kept_table.cache_clear()
    with torch.inference_mode():
        kept = table()
    assert not kept.is_inference()
    assert table() is kept
    stream.append("second")  # which might read the table before the first stream has filled it
    assert table() is not kept
    stream.pop()
    with FakeTensorMode():
        assert isinstance(table(), FakeTensor)
    mapped: list[Any] = []
    torch.func.vmap(lambda x: (mapped.append(table()), x)[1])(torch.zeros(2))
    assert mapped[0] is not kept
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert table() is not kept  # a graph reads its memory at each replay, and owns it
    assert _torch_tensors._kept_table.cache_info().currsize == 2

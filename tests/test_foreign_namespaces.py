"""A namespace that differs from the standard in how it names devices, as dpnp 0.20 does: a stand-in over NumPy."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

CFG = rf.SampleTimestepConfig()


class Device:
    """What an array of dpnp has as its device; a name or a SYCL device may make it."""

    def __init__(self, device: Any) -> None:
        self.name = device.name if isinstance(device, (Device, SyclDevice)) else device or "gpu"
        if self.name not in ("gpu", "cpu"):
            raise ValueError(f"no SYCL device {device}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]


class SyclDevice:
    """What dpnp lists as its devices, which are another library's."""

    def __init__(self, name: str) -> None:
        self.name = name


class Placed:
    def __init__(self, values: Any, device: Any) -> None:
        self.values, self.device = values, Device(device)

    def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
        return sys.modules["dpnp_like"]


@pytest.fixture
def dpnp(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A namespace in which a device is known by several names, none of which is in its list."""
    module: Any = ModuleType("dpnp_like")
    module.float32, module.isdtype, module.finfo = np.dtype("float32"), np.isdtype, np.finfo
    module.asarray = lambda values, dtype=None, device=None: Placed(np.asarray(values, dtype), device)
    module.empty = lambda shape, device=None: Placed(np.empty(shape), device)
    module.__array_namespace_info__ = lambda: SimpleNamespace(devices=lambda: [SyclDevice("gpu"), SyclDevice("cpu")])
    monkeypatch.setitem(sys.modules, "dpnp_like", module)
    monkeypatch.setattr(Device, "__module__", "dpnp_like")
    monkeypatch.setattr(SyclDevice, "__module__", "sycl")
    return module


def test_a_device_may_have_names_that_the_namespace_does_not_list(dpnp):
    wanted = rf.sample_timesteps(3, CFG, rng=0, xp=np)
    for device in ("cpu", Device("cpu"), SyclDevice("cpu")):
        t = rf.sample_timesteps(3, CFG, rng=0, xp=dpnp, device=device)
        assert t.device == Device("cpu")
        assert np.array_equal(t.values, wanted)
    assert rf.sample_timesteps(3, CFG, rng=0, device=Device("cpu")).device == Device("cpu")
    with pytest.raises(ValueError, match="device must be one of"):
        rf.sample_timesteps(3, CFG, rng=0, xp=dpnp, device="fpga")

    with pytest.raises(TypeError, match="unrecognized device: got SyclDevice"):
        rf.sample_timesteps(3, CFG, rng=0, xp=np, device=SyclDevice("cpu"))

"""Namespaces of the array API standard that are not among the tested ones: a stand-in over NumPy.

As in dpnp 0.20, the listed devices are another library's, and the device of an array has several other names.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

CFG = rf.SampleTimestepConfig()


class SyclDevice:
    """A listed device, of the other library."""

    __module__, name = "sycl", "cpu"


class Device:
    """The device of an array, which has no hash; a name or a listed device makes it."""

    __module__, __hash__ = "dpnp_like", None  # type: ignore[assignment]

    def __init__(self, device: Any) -> None:
        self.name = getattr(device, "name", device) or "gpu"
        if self.name not in ("gpu", "cpu"):
            raise ValueError(f"no SYCL device {device}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.name == self.name


def namespace(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType(name)

    class Placed:
        def __init__(self, values: Any, device: Any) -> None:
            self.values, self.device, self.dtype, self.shape = values, Device(device), values.dtype, values.shape

        def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
            return module

    module.float32, module.isdtype, module.finfo = np.dtype("float32"), np.isdtype, np.finfo
    module.asarray = lambda values, dtype=None, device=None: Placed(np.asarray(values, dtype), device)
    module.empty = lambda shape, device=None: Placed(np.empty(shape), device)
    module.__array_namespace_info__ = lambda: SimpleNamespace(devices=lambda: [SyclDevice()])
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_a_device_may_have_names_that_the_namespace_does_not_list(monkeypatch: pytest.MonkeyPatch) -> None:
    module = namespace("dpnp_like", monkeypatch)
    for device in ("cpu", Device("cpu"), SyclDevice()):
        t = rf.sample_timesteps(3, CFG, rng=0, xp=module, device=device)
        assert t.device == Device("cpu")
        assert np.array_equal(t.values, rf.sample_timesteps(3, CFG, rng=0, xp=np))
    assert rf.sample_timesteps(3, CFG, rng=0, device=Device("cpu")).device == Device("cpu")
    with pytest.raises(ValueError, match="device must be one of"):
        rf.sample_timesteps(3, CFG, rng=0, xp=module, device="fpga")
    with pytest.raises(TypeError, match="unrecognized device: got SyclDevice"):
        rf.sample_timesteps(3, CFG, rng=0, xp=np, device=SyclDevice())


def test_arrays_of_two_namespaces_are_a_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (namespace(name, monkeypatch).asarray(np.ones(3), np.float32) for name in ("dpnp_like", "mlx_like"))
    with pytest.raises(TypeError, match=r"x0 and eps must come from one framework, got dpnp_like and mlx_like$"):
        rf.add_noise(x, y, 0.5)

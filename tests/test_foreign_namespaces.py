"""Namespaces of the array API standard that are not among the tested ones: a stand-in over NumPy.

Its devices belong to another library, as those of dpnp belong to dpctl.
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
    """A device of the other library."""


DEVICES = [SyclDevice(), SyclDevice()]


def namespace(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType(name)

    class Placed:
        def __init__(self, values: Any, device: Any) -> None:
            self.values, self.device, self.dtype, self.shape = values, device, values.dtype, values.shape

        def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
            return module

    module.float32, module.isdtype, module.finfo = np.dtype("float32"), np.isdtype, np.finfo
    module.asarray = lambda values, dtype=None, device=None: Placed(np.asarray(values, dtype), device)
    module.__array_namespace_info__ = lambda: SimpleNamespace(devices=lambda: DEVICES)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_a_device_that_the_namespace_lists_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = namespace("dpnp_like", monkeypatch)
    monkeypatch.setattr(SyclDevice, "__module__", "sycl")
    t = rf.sample_timesteps(3, CFG, rng=0, xp=module, device=DEVICES[1])
    assert t.device is DEVICES[1]
    assert np.array_equal(t.values, rf.sample_timesteps(3, CFG, rng=0, xp=np))
    for device in ("fpga", SyclDevice()):
        with pytest.raises(ValueError, match="device must be one of"):
            rf.sample_timesteps(3, CFG, rng=0, xp=module, device=device)
    with pytest.raises(TypeError, match="unrecognized device: got SyclDevice"):
        rf.sample_timesteps(3, CFG, rng=0, xp=np, device=DEVICES[1])


def test_arrays_of_two_namespaces_are_a_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (namespace(name, monkeypatch).asarray(np.ones(3), np.float32) for name in ("dpnp_like", "mlx_like"))
    with pytest.raises(TypeError, match=r"x0 and eps must come from one framework, got dpnp_like and mlx_like$"):
        rf.add_noise(x, y, 0.5)

"""NumPy's generators as CuPy's: with 32 bits of a seed, and a state that only its own device can draw from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from . import cuda, ndarray


class Generator:
    def __init__(self, seed: Any = None) -> None:
        self.bit_generator = SimpleNamespace(_state=ndarray(np.zeros(1, np.int8)))
        self._rng = np.random.default_rng(None if seed is None else seed % 2**32)

    def random(self, size: Any = None, dtype: Any = np.float64) -> ndarray:
        if cuda.Device() != self.bit_generator._state.device:
            raise RuntimeError("This Generator state is allocated in a different device")
        return ndarray(np.asarray(self._rng.random(size, dtype=dtype)))


default_rng = Generator


class RandomState:
    def __init__(self, seed: Any = None) -> None:
        self.random_sample = Generator(seed).random


_states: dict[int, RandomState] = {}


def get_random_state() -> RandomState:
    """The global state of the current device."""
    return _states.setdefault(cuda.Device().id, RandomState())


def seed(seed: int) -> None:
    _states[cuda.Device().id] = RandomState(seed)

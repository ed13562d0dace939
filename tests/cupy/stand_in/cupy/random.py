"""NumPy's generators as CuPy's: each has its state on the device where it was made, and draws on no other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from . import cuda, ndarray


class _Stream:
    def __init__(self, seed: Any = None) -> None:
        self._made_on, self._rng = cuda.Device(), np.random.default_rng(seed)

    def _numbers(self, kind: str, size: Any, dtype: Any) -> ndarray:
        if cuda.Device() != self._made_on:
            raise RuntimeError("This Generator state is allocated in a different device")
        return ndarray(np.asarray(getattr(self._rng, kind)(size, dtype=dtype)))


class Generator(_Stream):
    def __init__(self, seed: Any = None) -> None:
        super().__init__(seed)
        self.bit_generator = SimpleNamespace(_state=ndarray(np.zeros(1, np.int8)))

    def random(self, size: Any = None, dtype: Any = np.float64) -> ndarray:
        return self._numbers("random", size, dtype)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> ndarray:
        return self._numbers("standard_normal", size, dtype)


class RandomState(_Stream):
    def random_sample(self, size: Any = None, dtype: Any = np.float64) -> ndarray:
        return self._numbers("random", size, dtype)


def default_rng(seed: Any = None) -> Generator:
    return Generator(seed)


_states: dict[int, RandomState] = {}


def get_random_state() -> RandomState:
    """The current device's global one."""
    return _states.setdefault(cuda.Device().id, RandomState())


def seed(seed: int) -> None:
    _states[cuda.Device().id] = RandomState(seed)

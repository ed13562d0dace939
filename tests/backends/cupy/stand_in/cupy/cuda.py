"""Two devices, one of which is current."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

runtime = SimpleNamespace(is_hip=False, getDeviceCount=lambda: 2)
_current = [0]


@dataclass(frozen=True)
class Device:
    """A device by its index, by default the current one; ``with`` makes it current."""

    id: int

    def __init__(self, index: Any = None) -> None:
        object.__setattr__(self, "id", _current[-1] if index is None else int(index))
        if self.id not in (0, 1):
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __enter__(self) -> Device:
        _current.append(self.id)
        return self

    def __exit__(self, *error: Any) -> None:
        _current.pop()

    def __int__(self) -> int:
        return self.id

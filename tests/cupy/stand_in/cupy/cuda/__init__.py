"""Two devices, of which one is current, and streams that can capture what is launched instead of running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_current = [0]
_captured: list[list[Callable[[], None]]] = []


class Device:
    """A device by its index, by default the current one; ``with`` makes it current."""

    def __init__(self, index: Any = None) -> None:
        self.id = _current[-1] if index is None else int(index)
        if self.id not in (0, 1):
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __enter__(self) -> Device:
        _current.append(self.id)
        return self

    def __exit__(self, *error: Any) -> None:
        _current.pop()

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<stand-in for CUDA device {self.id}>"


class runtime:
    is_hip = False

    @staticmethod
    def getDeviceCount() -> int:
        return 2


class Graph:
    def __init__(self, launches: list[Callable[[], None]]) -> None:
        self.launches = launches

    def launch(self, stream: Any = None) -> None:
        for run in self.launches:
            run()


class Stream:
    def __init__(self, non_blocking: bool = False) -> None:
        pass

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def begin_capture(self) -> None:
        _captured.append([])

    def end_capture(self) -> Graph:
        return Graph(_captured.pop())

    def synchronize(self) -> None:
        wait()


def get_current_stream() -> Stream:
    return Stream()


def launch(run: Callable[[], None]) -> None:
    """Run a kernel, or note it where a stream captures."""
    if _captured:
        _captured[-1].append(run)
    else:
        run()


def wait() -> None:
    if _captured:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")

"""Fresh interpreters that run code on the package under test: one alone, or several that work together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import fastgen_rf


def run_alone(code: str, *arguments: str) -> str:
    """What ``code`` prints in a fresh interpreter; an error there is an error here, with its message."""
    package = Path(fastgen_rf.__file__).parents[1]
    with tempfile.TemporaryDirectory() as empty:  # the working directory comes first on the path
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(package)},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def run(code: str, count: int, folder: Path, *arguments: str, seconds: float = 180, **env: str) -> None:
    """Run ``code`` in ``count`` processes, which find their rank, their number and ``folder`` first in ``sys.argv``.

    Where one of them fails, or time is up, all are stopped, and the error has what each of them said.
    """
    package = Path(fastgen_rf.__file__).parents[1]
    started = []
    outputs = [folder / f"output-{rank}.txt" for rank in range(count)]
    until = time.monotonic() + seconds
    try:
        for rank, output in enumerate(outputs):
            command = [sys.executable, "-c", code, str(rank), str(count), str(folder), *arguments]
            with output.open("w") as into:
                settings = {**os.environ, "PYTHONPATH": str(package), **env}
                started.append(
                    subprocess.Popen(
                        command, cwd=folder, env=settings, stdout=into, stderr=subprocess.STDOUT, start_new_session=True
                    )
                )
        while (codes := [process.poll() for process in started]).count(None) and time.monotonic() < until:
            if any(codes):
                break
            time.sleep(0.05)
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started itself
        codes = [process.wait() for process in started]
    if any(codes):
        said = "\n".join(
            f"--- process {rank} ended with {ended}\n{output.read_text()}"
            for rank, (ended, output) in enumerate(zip(codes, outputs, strict=True))
        )
        raise RuntimeError(f"one of {count} processes failed, or took more than {seconds} s\n{said}")

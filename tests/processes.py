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

PACKAGE = str(Path(fastgen_rf.__file__).parents[1])


def run_alone(code: str, *arguments: str) -> str:
    """What ``code`` prints as a program in a fresh interpreter; an error there is an error here, with its message."""
    with tempfile.TemporaryDirectory() as folder:  # a spawned process imports its parent's main module from a file
        program = Path(folder) / "program.py"
        program.write_text(code)
        command, env = [sys.executable, str(program), *arguments], {**os.environ, "PYTHONPATH": PACKAGE}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run(code: str, count: int, folder: Path, *arguments: str, seconds: float = 180, **env: str) -> None:
    """Run ``code`` in ``count`` processes, which find their rank, their number and ``folder`` first in ``sys.argv``.

    Where one of them fails, or time is up, all are stopped, and the error has what each of them said.
    """
    outputs = [folder / f"output-{rank}.txt" for rank in range(count)]
    settings = {**os.environ, "PYTHONPATH": PACKAGE, **env}
    until = time.monotonic() + seconds
    started = []
    try:
        for rank, output in enumerate(outputs):
            command = [sys.executable, "-c", code, str(rank), str(count), str(folder), *arguments]
            with output.open("w") as into:
                how = {"stdout": into, "stderr": subprocess.STDOUT, "start_new_session": True}
                started.append(subprocess.Popen(command, cwd=folder, env=settings, **how))
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

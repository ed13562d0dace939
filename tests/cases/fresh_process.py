"""Python code run in a process of its own, on the package that this one tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fastgen_rf


def run(code: str, *arguments: str) -> str:
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

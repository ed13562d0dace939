"""The programs of docs/examples, as modules and as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastgen_rf

PROGRAMS = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(PROGRAMS))  # the programs and what they share are no package


@pytest.fixture
def start(tmp_path):
    """Start a program with arguments, on the device that it has for itself; return what it left."""

    def started(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        environment["PYTHONPATH"] = str(Path(fastgen_rf.__file__).parents[1])
        command = [sys.executable, str(PROGRAMS / name), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return started

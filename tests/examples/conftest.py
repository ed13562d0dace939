"""The programs of docs/examples, as modules and as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fastgen_rf

PROGRAMS = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(PROGRAMS))  # the programs and the modules that they share are not a package


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., str]:
    """A function that runs a program in a folder of its own, checks its exit status and returns what it prints."""

    def started(name: str, *arguments: str, status: int = 0) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        environment["PYTHONPATH"] = str(Path(fastgen_rf.__file__).parents[1])
        command = [sys.executable, str(PROGRAMS / name), *arguments]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == status, ended.stdout + ended.stderr
        assert "%|" not in ended.stderr  # no progress bar without a terminal
        return ended.stdout

    return started

"""``python -m fastgen_rf``: a line for each framework, and an exit status that tells."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from fastgen_rf import __main__ as report
from fastgen_rf.backends import FRAMEWORKS, Backend, load

RIGHT, NUMPY = Backend.evaluate, type(load("numpy"))


def broken(*args):
    raise RuntimeError("no driver")


@pytest.mark.slow
def test_every_framework_is_reported_as_found_or_with_how_to_install_it():
    done = subprocess.run([sys.executable, "-m", "fastgen_rf"], capture_output=True, text=True)
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.split()}
    for name in FRAMEWORKS:
        wanted = " ok" if importlib.util.find_spec(name) else "pip install"
        assert wanted in lines[name]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (lambda patch: patch.setattr(NUMPY, "evaluate", lambda *args: RIGHT(*args) * 1.001), "out of bounds"),
        (lambda patch: patch.setattr(report, "load", broken), "RuntimeError: no driver"),
        (lambda patch: patch.setattr(NUMPY, "evaluate", broken), "RuntimeError: no driver"),
    ],
    ids=["computes wrongly", "cannot be loaded", "device raises"],
)
def test_a_backend_that_fails_is_reported_and_makes_the_exit_status_1(monkeypatch, capsys, replace, message):
    replace(monkeypatch)
    monkeypatch.setattr(report, "FRAMEWORKS", ("numpy", "cupy"))
    assert report.main([]) == 1
    failed, _ = capsys.readouterr().out.split("\ncupy")  # the report goes on
    assert f"FAILED: {message}" in failed

"""The programs of docs/examples, in a reduced size: each checks bounds of its own, and fails if something is wrong."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastgen_rf

PROGRAMS = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(PROGRAMS))  # the programs and the modules that they share are not a package
exact_flow = importlib.import_module("exact_flow")


@pytest.fixture
def start(tmp_path):
    """A function that runs a program in a folder of its own, checks its exit status and returns what it prints."""

    def started(name, *arguments, status=0):
        environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        environment["PYTHONPATH"] = str(Path(fastgen_rf.__file__).parents[1])
        command = [sys.executable, str(PROGRAMS / name), *arguments]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == status, ended.stdout + ended.stderr
        assert "%|" not in ended.stderr  # no progress bar without a terminal
        return ended.stdout

    return started


def metrics(printed):
    """The table of a program: Frechet distance, accuracy and variance of each generator."""
    rows = re.findall(r"^((?:teacher|student), \d+ steps) +([\d.]+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)
    assert len(rows) == 3
    return {name: tuple(map(float, row)) for name, *row in rows}


# The longest test is the first one, so that the other worker runs the others meanwhile.
def test_both_programs_that_distill_meet_their_bounds_and_agree(start):
    ours = metrics(start("distill_digits_torch.py", "--small", "--eager"))
    theirs = metrics(start("distill_digits.py", "--small"))
    for name in theirs:  # with seeds 0, 1 and 2 of both, any two differ by 10 %, 0.013 and 0.027 at most
        assert abs(np.log(ours[name][0] / theirs[name][0])) < 0.15
        assert abs(ours[name][1] - theirs[name][1]) < 0.02
        assert abs(ours[name][2] - theirs[name][2]) < 0.06


def test_exact_flow_and_meanflow_meet_their_bounds_and_draw(start, tmp_path):
    start("exact_flow.py", "--small", "--out", "flow.png")
    start("meanflow_digits.py", "--small", "--out", "digits.png")
    for picture in ("flow", "flow_dark", "flow_digits", "flow_digits_dark", "digits"):
        assert (tmp_path / f"{picture}.png").stat().st_size > 10_000


def test_a_step_that_goes_too_far_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setattr(exact_flow, "ode_step", lambda x0, x_t, t, t_next: x0)
    monkeypatch.setattr(sys, "argv", ["exact_flow.py", "--small", "--out", str(tmp_path / "flow.png")])
    assert exact_flow.main() == 1


def test_a_wrong_sign_of_the_derivative_is_noticed(start):
    printed = start("meanflow_digits.py", "--small", "--control", "sign", status=1)
    assert "FAILED  1 step: Frechet distance" in printed


def test_noise_on_disk_meets_its_bounds_and_deletes_the_latents(start, tmp_path):
    printed = start("noise_on_disk.py", "--small", "--folder", str(tmp_path))
    assert len(re.findall(r"worker \d: peak, MB +([\d.]+)", printed)) == 2
    assert not list(tmp_path.iterdir())

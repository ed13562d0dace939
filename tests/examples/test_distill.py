"""The two programs that distill: one network and one training in JAX and PyTorch."""

from __future__ import annotations

import re
import sys
from functools import partialmethod
from pathlib import Path

import distill_digits
import distill_digits_torch
import numpy as np
import pytest
import torch
from distill_digits_torch import Network, read_settings, train
from torch import Generator, nn

PROGRAMS = Path(distill_digits_torch.__file__).parent
SETTINGS = read_settings(PROGRAMS / "dmd2_digits.yaml")


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("\npred_type: flow", "\npred_type: x0", "pred_type must be 'flow' here, got 'x0'"),
        ("student_sample_steps: 2", "student_sample_steps: 4", "t_list must have student_sample_steps + 1 = 5 entries"),
    ],
)
def test_settings_that_the_program_does_not_support_are_rejected(tmp_path, written, instead, message):
    text = (PROGRAMS / "dmd2_digits.yaml").read_text()
    assert text.count(written) == 1
    (tmp_path / "other.yaml").write_text(text.replace(written, instead))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_settings(tmp_path / "other.yaml")


def parameters(compiled):
    """The student's parameters after a few steps."""
    _, student = train(SETTINGS, (4, 3), compiled, 0)
    return torch.cat([parameter.detach().ravel() for parameter in student.parameters()])


@pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning")  # its compiler's
def test_a_compiled_program_trains_as_an_eager_one_does(monkeypatch):
    # A program can get the graphs wrong. Kernels of inductor would take 45 s and have no call of the program.
    monkeypatch.setattr(Network, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    eager, start = parameters(False), Network(2, Generator().manual_seed(0))
    untrained = torch.cat([parameter.detach().ravel() for parameter in start.parameters()])
    moved = torch.linalg.vector_norm(eager - untrained)
    assert torch.linalg.vector_norm(parameters(True) - eager) < 0.05 * moved


# The programs


def metrics(printed):
    """The table of a program: Frechet distance, accuracy and variance of each generator."""
    rows = re.findall(r"^((?:teacher|student), \d+ steps) +([\d.]+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)
    assert len(rows) == 3
    return {name: tuple(map(float, row)) for name, *row in rows}


def test_both_programs_meet_their_bounds_and_agree_in_a_reduced_size(start):
    ours = metrics(start("distill_digits_torch.py", "--small", "--eager"))
    theirs = metrics(start("distill_digits.py", "--small"))
    for name in theirs:  # with seeds 0, 1 and 2 of both, any two differ by 10 %, 0.013 and 0.027 at most
        assert abs(np.log(ours[name][0] / theirs[name][0])) < 0.15
        assert abs(ours[name][1] - theirs[name][1]) < 0.02
        assert abs(ours[name][2] - theirs[name][2]) < 0.06


def test_the_jax_program_fails_if_nothing_is_learned(monkeypatch, tmp_path):
    monkeypatch.setattr(
        distill_digits, "train_teacher", lambda images, labels, key, steps: distill_digits.init_network(key)
    )
    monkeypatch.setattr(distill_digits, "distill", lambda teacher, key, steps: teacher)
    monkeypatch.setattr(sys, "argv", ["distill_digits.py", "--small", "--out", str(tmp_path / "digits.png")])
    assert distill_digits.main() == 1


def test_the_torch_program_fails_if_nothing_is_learned(monkeypatch, tmp_path):
    monkeypatch.setattr(distill_digits_torch, "SMALL_STEPS", (9, 9))
    monkeypatch.setattr(
        sys, "argv", ["distill_digits_torch.py", "--small", "--eager", "--out", str(tmp_path / "digits.png")]
    )
    assert distill_digits_torch.main() == 1

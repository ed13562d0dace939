"""``python -m fastgen_rf``: a line for each framework, and an exit status that tells."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from fastgen_rf import __main__ as report
from fastgen_rf.backends import FRAMEWORKS, Backend


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(report, "SHAPE", (4, 8, 8))


@pytest.mark.slow
def test_every_framework_is_reported_as_found_or_with_how_to_install_it():
    done = subprocess.run([sys.executable, "-m", "fastgen_rf"], capture_output=True, text=True)
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.split()}
    for name in FRAMEWORKS:
        wanted = " ok" if importlib.util.find_spec(name) else "pip install"
        assert wanted in lines[name]
    assert done.returncode == 0


def test_a_backend_that_computes_wrongly_makes_the_exit_status_1(small, monkeypatch, capsys):
    right = Backend.evaluate
    numpy = FRAMEWORKS["numpy"]()
    monkeypatch.setattr(type(numpy), "evaluate", lambda self, *args: right(self, *args) * 1.001)
    assert report.main([]) == 1
    assert "FAILED: out of bounds" in capsys.readouterr().out


def test_a_backend_that_raises_is_reported_and_does_not_hide_the_others(small, monkeypatch, capsys):
    def broken():
        raise RuntimeError("no driver")

    monkeypatch.setitem(FRAMEWORKS, "numpy", broken)
    assert report.main([]) == 1
    assert "FAILED: RuntimeError: no driver" in capsys.readouterr().out


def test_a_device_that_raises_is_reported(small, monkeypatch, capsys):
    def broken(self, *args):
        raise RuntimeError("out of order")

    monkeypatch.setattr(type(FRAMEWORKS["numpy"]()), "evaluate", broken)
    assert report.main([]) == 1
    assert "FAILED: RuntimeError: out of order" in capsys.readouterr().out


def test_what_is_missing_gets_a_line_on_how_to_install_it(small, monkeypatch, capsys):
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    assert report.main([]) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines() if " not found: " in line] == [
        [name, "not", "found:"] for name in FRAMEWORKS
    ]


def run(*arguments, **how):
    return subprocess.run([sys.executable, "-m", "fastgen_rf", *arguments], capture_output=True, text=True, **how)


def test_help_explains_the_words_of_the_report():
    done = run("--help")
    assert done.returncode == 0
    for word in ("emulated", "relative to", "float64:"):
        assert word in done.stdout


def test_an_unknown_option_is_an_error():
    done = run("--frobnicate")
    assert done.returncode == 2
    assert "--frobnicate" in done.stderr


def test_a_closed_pipe_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run([sys.executable, "-m", "fastgen_rf"], stdout=closed, stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""


def test_the_report_ends_with_what_its_words_mean(small, capsys):
    report.main([])
    assert capsys.readouterr().out.endswith(report.NOTES)

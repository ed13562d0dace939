"""Importing the package imports no framework, and nothing that is slow to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "jax", "jaxlib", "cupy", "dask", "scipy", "array_api_compat", "array_api_strict", "ml_dtypes")


def imported_by(statement: str) -> set[str]:
    """Which of the heavy packages are loaded after ``statement`` in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["fastgen_rf", "fastgen_rf.flow_matching", "fastgen_rf.timesteps"])
def test_importing_the_package_imports_no_framework(module):
    assert imported_by(f"import {module}") == set()


def test_the_check_above_can_fail():
    assert "scipy" in imported_by("import fastgen_rf, scipy.special")


def test_a_formula_on_numpy_imports_no_other_framework():
    call = "import numpy as np, fastgen_rf as rf; rf.add_noise(np.ones(2), np.ones(2), 0.5)"
    assert imported_by(call) == set()

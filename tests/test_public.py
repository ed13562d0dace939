"""The public names: what is exported, documented, typed, and imported."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf import flow_matching

MODELOPTS = {
    *("rf_alpha", "rf_sigma", "add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow"),
    *("sample_timesteps", "sample_from_t_list", "expand_like"),
}
every_public_object = pytest.mark.parametrize("name", sorted(set(rf.__all__) - {"flow_matching"}))


def public_members(module: Any) -> set[str]:
    return {name for name in vars(module) if not name.startswith("_") and not inspect.ismodule(getattr(module, name))}


def test_the_package_exports_its_public_members_and_no_others() -> None:
    assert set(rf.__all__) == public_members(rf) | {"flow_matching"}


def test_flow_matching_exposes_modelopts_ten_functions() -> None:
    assert set(flow_matching.__all__) == MODELOPTS
    assert all(getattr(flow_matching, name) is getattr(rf, name) for name in MODELOPTS)


@every_public_object
def test_a_docstring_has_every_section_and_a_signature_every_type(name: str) -> None:
    public = getattr(rf, name)
    sections = ["Parameters", "Raises", "Examples", *([] if inspect.isclass(public) else ["Returns"])]
    assert [section for section in sections if f"{section}\n---" not in (inspect.getdoc(public) or "")] == []
    signature = inspect.signature(public)
    assert [name for name, p in signature.parameters.items() if p.annotation is p.empty] == []


@every_public_object
def test_the_examples_of_a_docstring_run(name: str) -> None:
    names = {other: getattr(rf, other) for other in rf.__all__} | {"np": np}
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(rf, name), globs=names)
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.attempted > 0
    assert results.failed == 0


def test_nothing_in_the_package_asserts() -> None:
    """``python -O`` removes assertions, so no check may be one."""
    sources = sorted(Path(rf.__file__).parent.rglob("*.py"))
    assert len(sources) > 20
    assert [path.name for path in sources if "\n    assert " in path.read_text(encoding="utf-8")] == []


# Imports

HEAVY = ("torch", "jax", "jaxlib", "cupy", "dask", "scipy", "array_api_compat", "array_api_strict", "ml_dtypes")


def imported_by(statement: str) -> set[str]:
    """Which of the heavy packages are loaded after ``statement`` in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.slow
def test_importing_the_package_and_calling_it_on_numpy_imports_no_framework() -> None:
    assert imported_by("import fastgen_rf, fastgen_rf.flow_matching") == set()
    assert imported_by("import numpy as np, fastgen_rf as rf; rf.add_noise(np.ones(2), np.ones(2), 0.5)") == set()
    assert "scipy" in imported_by("import fastgen_rf, scipy.special")  # the check can fail
